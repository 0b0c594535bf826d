import re
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core import mail
from django.test import Client

from accounts import forms, ledger, welcome
from accounts.models import Transfer, User

PASSWORD = "correct-horse-battery"
GIFT = 10_000_000


def sign_up(email: str, **more: str) -> Any:
    return Client().post("/accounts/signup/", {"email": email, "password1": PASSWORD, **more})


def balance(email: str) -> int:
    return ledger.wallet_of(User.objects.get(email=email)).posted


@pytest.fixture
def with_mail(settings: Any) -> None:
    settings.HAS_MAIL = True
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"


def confirm(client: Client, message: Any) -> None:
    address = re.search(r"/accounts/confirm-email/\S+", message.body)
    assert address
    assert client.post(address[0]).status_code == 302


# --- Without a mail server ----------------------------------------------------------------------------
@pytest.mark.django_db
def test_alice_signs_up_and_has_ten_dollars_at_once() -> None:
    response = sign_up("alice@example.org")
    assert (response.status_code, response["Location"]) == (302, "/")
    assert balance("alice@example.org") == GIFT
    assert not User.objects.get().awaits_welcome


@pytest.mark.django_db
def test_a_second_password_field_of_old_scripts_is_ignored() -> None:
    assert sign_up("alice@example.org", password2="something else").status_code == 302


@pytest.mark.django_db
@pytest.mark.parametrize(
    "again", ["alice@gmail.com", "ALICE@gmail.com", "a.l.i.c.e@gmail.com", "alice+2@googlemail.com"]
)
def test_one_person_is_one_account_however_she_spells_it(again: str) -> None:
    sign_up("alice@gmail.com")
    response = sign_up(again)
    assert response.status_code == 200
    assert "already an account for this address" in str(response.context["form"].errors["email"])
    assert User.objects.count() == 1


@pytest.mark.django_db
def test_two_identical_sign_ups_at_once_make_one_account(monkeypatch: pytest.MonkeyPatch) -> None:
    sign_up("alice@gmail.com")
    looked: list[bool] = []

    def free_at_first_look(email: str) -> bool:
        looked.append(True)
        return len(looked) > 1

    monkeypatch.setattr(forms, "is_taken", free_at_first_look)
    response = sign_up("a.lice@gmail.com")
    assert response.status_code == 422
    assert b"already an account for this address" in response.content
    assert User.objects.count() == 1


@pytest.mark.django_db
@pytest.mark.usefixtures("with_mail")
def test_she_logs_in_with_any_spelling_and_need_not_prove_it_again() -> None:
    client = Client()
    client.post("/accounts/signup/", {"email": "alice@gmail.com", "password1": PASSWORD})
    confirm(client, mail.outbox[0])
    client = Client()
    response = client.post("/accounts/login/", {"login": "A.Lice+x@gmail.com", "password": PASSWORD})
    assert response.status_code == 302
    assert client.session["_auth_user_id"] == str(User.objects.get().pk)
    assert list(EmailAddress.objects.values_list("email", flat=True)) == ["alice@gmail.com"]


@pytest.mark.django_db
def test_a_used_up_budget_costs_nobody_the_account_and_the_gift_comes_later(settings: Any) -> None:
    settings.SIGNUP_BUDGET_MICROS_PER_DAY = GIFT
    sign_up("alice@example.org")
    client = Client()
    client.post("/accounts/signup/", {"email": "bob@example.org", "password1": PASSWORD})
    bob = User.objects.get(email="bob@example.org")
    assert (bob.awaits_welcome, balance("bob@example.org")) == (True, 0)

    settings.SIGNUP_BUDGET_MICROS_PER_DAY = 2 * GIFT
    Client().post("/accounts/login/", {"login": "bob@example.org", "password": PASSWORD})
    assert balance("bob@example.org") == GIFT


@pytest.mark.django_db
def test_the_sweep_gives_what_is_due_as_far_as_the_budget_goes(settings: Any) -> None:
    settings.SIGNUP_BUDGET_MICROS_PER_DAY = 2 * GIFT
    for name in ("alice", "bob", "charlie"):
        User.objects.create_user(f"{name}@example.org", awaits_welcome=True)
    assert welcome.give_due() == 2
    assert [u.awaits_welcome for u in User.objects.order_by("pk")] == [False, False, True]


@pytest.mark.django_db
def test_too_many_sign_ups_from_one_address_are_told_to_wait() -> None:
    answers = [sign_up(f"nobody{n}@example.org").status_code for n in range(21)]
    assert answers == [302] * 20 + [429]


# --- With a mail server -------------------------------------------------------------------------------
@pytest.mark.django_db
@pytest.mark.usefixtures("with_mail")
def test_with_mail_the_gift_waits_for_the_proof_of_the_address() -> None:
    client = Client()
    client.post("/accounts/signup/", {"email": "alice@example.org", "password1": PASSWORD})
    assert balance("alice@example.org") == 0
    assert welcome.give_due() == 0

    confirm(client, mail.outbox[0])
    assert balance("alice@example.org") == GIFT


@pytest.mark.django_db
@pytest.mark.usefixtures("with_mail")
def test_with_mail_a_known_address_is_not_betrayed_to_strangers() -> None:
    sign_up("alice@gmail.com")
    mail.outbox.clear()
    fresh, known = sign_up("bob@example.org"), sign_up("a.lice@gmail.com")
    assert (fresh.status_code, fresh["Location"]) == (known.status_code, known["Location"])
    assert User.objects.count() == 2
    assert "There is an account for this address already" in mail.outbox[1].body


@pytest.mark.django_db
@pytest.mark.usefixtures("with_mail")
def test_another_address_brings_no_second_gift() -> None:
    client = Client()
    client.post("/accounts/signup/", {"email": "alice@example.org", "password1": PASSWORD})
    confirm(client, mail.outbox[0])
    alice = User.objects.get()
    for address in ("other@example.org", "third@example.org"):
        EmailAddress.objects.create(user=alice, email=address)
        client.post("/accounts/email/", {"email": address, "action_send": ""})
        confirm(client, mail.outbox[-1])
        client.post("/accounts/email/", {"email": address, "action_primary": ""})

    alice.refresh_from_db()
    assert (alice.email, alice.canonical_email) == ("third@example.org", "third@example.org")
    assert Transfer.objects.filter(kind=Transfer.Kind.SIGNUP).count() == 1


@pytest.mark.django_db
def test_an_address_that_is_somebody_elses_in_another_spelling_cannot_become_mine(bob: User) -> None:
    client = Client()
    client.post("/accounts/signup/", {"email": "alice@example.org", "password1": PASSWORD})
    response = client.post("/accounts/email/", {"email": "bob+me@example.org", "action_add": ""})
    assert "already an account for this address" in str(response.context["form"].errors["email"])

    EmailAddress.objects.create(user=User.objects.get(email="alice@example.org"), email="bob+me@example.org")
    response = client.post("/accounts/email/", {"email": "bob+me@example.org", "action_primary": ""})
    assert response.status_code == 302
    assert User.objects.filter(email="alice@example.org").exists()


@pytest.mark.django_db
@pytest.mark.parametrize("domain", ["\ufdfa" * 40 + ".org", ".".join(["\u00fc" * 30] * 7) + ".org"])
def test_an_address_that_grows_beyond_its_column_is_refused(bob: User, domain: str) -> None:
    response = Client().post("/accounts/signup/", {"email": f"a@{domain}", "password1": PASSWORD})
    assert "too long" in str(response.context["form"].errors["email"])
    client = Client()
    client.force_login(bob)
    response = client.post("/accounts/email/", {"email": f"a@{domain}", "action_add": ""})
    assert "too long" in str(response.context["form"].errors["email"])
