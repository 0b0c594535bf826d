import json
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core.management import CommandError, call_command
from django.test import Client

from accounts import keys, ledger
from accounts.models import ApiKey, Cap, User

pytestmark = pytest.mark.django_db
GIFT = 10_000_000


@pytest.fixture
def account(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> dict[str, Any]:
        call_command("account", *arguments)
        return json.loads(capsys.readouterr().out)

    return run


def test_it_makes_an_account_that_can_log_in_at_once(account: Any, settings: Any) -> None:
    settings.HAS_MAIL, settings.ACCOUNT_EMAIL_VERIFICATION = True, "mandatory"
    printed = account("alice@example.org", "--password", "alice-password")
    assert (printed["email"], printed["balanceUsdMicros"]) == ("alice@example.org", GIFT)
    response = Client().post("/accounts/login/", {"login": "alice@example.org", "password": "alice-password"})
    assert (response.status_code, response["Location"]) == (302, "/")


def test_the_gift_comes_once_and_a_grant_each_time_to_the_micro_dollar(account: Any) -> None:
    assert account("alice@example.org", "--grant", "0.000001")["balanceUsdMicros"] == GIFT + 1
    assert account("alice@example.org", "--grant", "2.50")["balanceUsdMicros"] == GIFT + 2_500_001
    assert account("alice@example.org")["balanceUsdMicros"] == GIFT + 2_500_001


def test_it_finds_the_person_however_the_address_is_spelt(account: Any) -> None:
    first, again = account("alice@gmail.com"), account("A.Lice+2@GoogleMail.com")
    assert first == again
    assert User.objects.count() == 1


def test_a_second_call_without_a_password_keeps_the_first_ones(account: Any) -> None:
    account("alice@example.org", "--password", "alice-password")
    account("alice@example.org", "--grant", "1")
    assert User.objects.get(email="alice@example.org").check_password("alice-password")
    account("alice@example.org", "--password", "another-password")
    assert User.objects.get(email="alice@example.org").check_password("another-password")


def test_without_a_password_nobody_can_log_in(account: Any) -> None:
    account("alice@example.org")
    assert not User.objects.get().has_usable_password()


def test_staff_may_do_everything_and_others_nothing(account: Any) -> None:
    assert account("charlie@example.org", "--staff")["isStaff"]
    assert User.objects.get(email="charlie@example.org").is_superuser
    assert not account("bob@example.org")["isStaff"]


def test_it_verifies_an_account_that_still_waited_for_it(account: Any) -> None:
    alice = User.objects.create_user("alice@example.org")
    EmailAddress.objects.create(user=alice, email="alice@example.org", primary=True)
    assert account("alice@example.org")["balanceUsdMicros"] == GIFT
    assert EmailAddress.objects.get().verified


def test_with_no_budget_left_the_grant_still_comes_and_the_gift_waits(account: Any, settings: Any) -> None:
    settings.SIGNUP_BUDGET_MICROS_PER_DAY = 0
    assert account("alice@example.org", "--grant", "3")["balanceUsdMicros"] == 3_000_000
    assert User.objects.get(email="alice@example.org").awaits_welcome


@pytest.mark.parametrize(
    "arguments",
    [
        ("alice",),
        ("",),
        ("alice@example.org", "--grant", "-1"),
        ("alice@example.org", "--grant", "lots"),
        ("alice@example.org", "--grant", "NaN"),
        ("alice@example.org", "--grant", "0.0000001"),
        ("alice@example.org", "--grant", "1e99"),
        ("alice@example.org", "--password", ""),
        ("alice@example.org", "--cap-day", "-1"),
        ("alice@example.org", "--cap-month", "None"),
        ("alice@example.org", "--cap-job", ""),
        ("alice@example.org", "--api-key", " "),
        ("alice@example.org", "--api-key", "x" * 61),
        ("alice@example.org", "--test"),
        ("alice@example.org", "--key-cap-day", "1"),
        ("alice@example.org", "--api-key", "CI", "--key-cap-total", "lots"),
        ("alice@example.org", "--api-key", "CI", "--test", "--key-cap-day", "1"),
    ],
)
def test_bad_input_changes_nothing(account: Any, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        account(*arguments)
    assert not User.objects.exists()


def test_the_balance_is_what_is_posted_and_what_is_held_is_told_apart(account: Any) -> None:
    account("alice@example.org")
    wallet = ledger.wallet_of(User.objects.get(email="alice@example.org"))
    ledger.hold(wallet, [ledger.Promise("job:1", 35_000, "a picture")])
    printed = account("alice@example.org")
    assert (printed["balanceUsdMicros"], printed["availableUsdMicros"]) == (GIFT, GIFT - 35_000)


def test_it_sets_and_removes_caps(account: Any) -> None:
    printed = account("alice@example.org", "--cap-day", "2.50", "--cap-month", "$20", "--cap-job", "0")
    assert printed["capsUsdMicros"] == {"day": 2_500_000, "month": 20_000_000, "job": 0}
    assert account("alice@example.org", "--cap-day", "none")["capsUsdMicros"] == {
        "month": 20_000_000,
        "job": 0,
    }
    assert account("alice@example.org")["capsUsdMicros"] == {"month": 20_000_000, "job": 0}


def test_a_cap_from_a_script_keeps_the_owners_warning_while_it_can_come(account: Any) -> None:
    account("alice@example.org")
    alice = User.objects.get(email="alice@example.org")
    Cap.objects.create(user=alice, window="day", limit=5_000_000, warn_at=3_000_000)
    account("alice@example.org", "--cap-day", "4")
    assert (alice.caps.get().limit, alice.caps.get().warn_at) == (4_000_000, 3_000_000)
    account("alice@example.org", "--cap-day", "3")
    assert (alice.caps.get().limit, alice.caps.get().warn_at) == (3_000_000, None)


def test_it_makes_a_key_each_time_and_prints_it(account: Any) -> None:
    first = account("alice@example.org", "--api-key", "CI")["apiKey"]
    again = account("alice@example.org", "--api-key", "CI")["apiKey"]
    assert first != again
    for text in (first, again):
        found = keys.find(text)
        assert found is not None and (found.user.email, found.name, found.is_test) == (
            "alice@example.org",
            "CI",
            False,
        )
    assert "apiKey" not in account("alice@example.org")


def test_it_makes_a_test_key(account: Any) -> None:
    text = account("alice@example.org", "--api-key", "CI", "--test")["apiKey"]
    assert text.startswith("sk-aig-test-")
    assert ApiKey.objects.get().is_test


def test_it_makes_a_key_with_caps(account: Any) -> None:
    account("alice@example.org", "--api-key", "CI", "--key-cap-month", "20", "--key-cap-total", "$99.5")
    assert keys.stops_of(ApiKey.objects.get()) == {"month": 20_000_000, "total": 99_500_000}


def test_a_keys_cap_for_one_picture_and_a_name_that_disturbs(account: Any) -> None:
    account("alice@example.org", "--api-key", "CI", "--key-cap-job", "0.05")
    assert keys.stops_of(ApiKey.objects.get()) == {"job": 50_000}
    with pytest.raises(CommandError, match="an invisible character"):
        account("alice@example.org", "--api-key", "C\u202eI")


def test_the_21st_key_is_refused_and_nothing_else_happens_either(account: Any) -> None:
    account("alice@example.org")
    alice = User.objects.get(email="alice@example.org")
    for n in range(20):
        keys.make(alice, f"key {n}")
    with pytest.raises(CommandError, match="20 working keys"):
        account("alice@example.org", "--api-key", "CI", "--grant", "5")
    assert ledger.wallet_of(alice).posted == GIFT
