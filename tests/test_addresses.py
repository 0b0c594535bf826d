import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.addresses import canonical
from accounts.models import User


@pytest.mark.parametrize(
    "spelling",
    [
        "alice@gmail.com",
        "Alice@Gmail.com",
        "a.l.i.c.e@gmail.com",
        "alice+flux@gmail.com",
        "A.Lice+flux+2@GoogleMail.com",
        "alice@gmail.com.",
        "  alice@gmail.com ",
    ],
)
def test_one_mailbox_is_one_person_however_it_is_written(spelling: str) -> None:
    assert canonical(spelling) == "alice@gmail.com"


def test_dots_count_everywhere_but_at_gmail() -> None:
    assert canonical("a.lice@example.org") == "a.lice@example.org"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("alice@example.org", "bob@example.org"),
        ("alice@example.org", "alice@example.com"),
        ("alice@example.org", "alice@sub.example.org"),
        ("+alice@example.org", "+bob@example.org"),
    ],
)
def test_different_mailboxes_are_different_people(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize(
    ("lookalike", "plain"),
    [
        ("\N{KELVIN SIGN}im@example.org", "kim@example.org"),
        ("ali\N{LATIN SMALL LETTER LONG S}@example.org", "alis@example.org"),
        ("\N{FULLWIDTH LATIN SMALL LETTER A}lice@example.org", "alice@example.org"),
        ("alice@b\u00fccher.example", "alice@xn--bcher-kva.example"),
        ("alice@BU\u0308CHER.example", "alice@xn--bcher-kva.example"),
    ],
)
def test_letters_that_mail_servers_fold_make_no_second_person(lookalike: str, plain: str) -> None:
    assert canonical(lookalike) == canonical(plain)


@pytest.mark.parametrize(
    "broken", ["", "alice", "@example.org", "alice@", "alice@..", "a@" + "x" * 70 + ".org"]
)
def test_what_is_no_address_still_has_a_form(broken: str) -> None:
    assert canonical(canonical(broken)) == canonical(broken)


@given(st.emails())
def test_the_form_of_a_form_is_itself(address: str) -> None:
    assert canonical(canonical(address)) == canonical(address)


@given(st.emails())
def test_case_and_tags_never_matter(address: str) -> None:
    local, _, domain = address.rpartition("@")
    assert canonical(f"{local}+tag@{domain}".upper()) == canonical(f"{local}@{domain}")


@pytest.mark.django_db
def test_a_person_is_found_under_any_spelling() -> None:
    alice = User.objects.create_user("Alice+flux@gmail.com")
    assert User.objects.get_by_natural_key("a.l.i.c.e@googlemail.com") == alice
