"""What operators see of purchases: the lists, what was lost, and "handle again". And what `check` says before that."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from accounts import checks, ledger, stripe_api, stripe_events, topup_books
from accounts.models import StripeEvent, TopUp, Transfer, User, Wallet
from playground.http import refusal
from tests import fake_stripe
from tests.fake_stripe import refunded, signed

USD = 1_000_000
PAYMENT = "pi_1"
HANDLE = "/admin/accounts/stripeevent/handle/"


@pytest.fixture(autouse=True)
def _is_on(settings: Any) -> Iterator[None]:
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET = fake_stripe.KEY, fake_stripe.SECRET
    yield


@pytest.fixture
def bought(alice: User) -> TopUp:
    """Of $25.00, of which $5.00 are spent."""
    top_up = TopUp.objects.create(
        user=alice, micros=25 * USD, cents=2500, state="paid", paid=timezone.now(), payment_id=PAYMENT
    )
    topup_books.settle(top_up)
    [held] = ledger.hold(ledger.wallet_of(alice), [ledger.Promise(f"job:{uuid.uuid4()}", 5 * USD, "Picture")])
    ledger.capture(held.pk, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)
    return top_up


def hear(event: dict[str, Any]) -> StripeEvent:
    return stripe_events.receive(stripe_api.verified(*signed(event)))


def test_an_operator_sees_what_was_lost_and_to_whom(desk: Client, bought: TopUp) -> None:
    event = hear(refunded(PAYMENT, 2500, 2500))
    assert (
        "$5.00 of it was spent already" in desk.get("/admin/accounts/stripeevent/?look=odd").content.decode()
    )
    page = desk.get(f"/admin/accounts/topup/{bought.pk}/change/").content.decode().replace("\xa0", " ")
    assert "Paid back after it was spent: 714.28 credits ($5.00)" in page
    assert "$25.00 paid back" in page
    assert event.handled


@pytest.mark.parametrize("words", ["alice@example.org", PAYMENT])
def test_a_purchase_is_found_by_who_or_by_what(desk: Client, bought: TopUp, words: str) -> None:
    assert bought.number in desk.get(f"/admin/accounts/topup/?q={words}").content.decode()
    assert bought.number not in desk.get("/admin/accounts/topup/?q=pi_other").content.decode()
    assert bought.number not in desk.get("/admin/accounts/topup/?q=nonsense").content.decode()


def broken(monkeypatch: pytest.MonkeyPatch) -> StripeEvent:
    """An event whose handling crashed."""
    event = refunded(PAYMENT, 2500, 500)
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        patch.setattr(topup_books, "known_of", lambda events: 1 / 0)
        hear(event)
    return StripeEvent.objects.get(pk=event["id"])


def again(desk: Client, event: StripeEvent, reason: str = "Stripe was away") -> str:
    """What the action leads to, filled in and sent."""
    chosen = {"action": "handle_again", "_selected_action": [event.pk]}
    asked = desk.post("/admin/accounts/stripeevent/", chosen)
    at = asked["Location"] if asked.status_code == 302 else f"{HANDLE}?ids={event.pk}"
    return desk.post(at, {"reason": reason, "once": uuid.uuid4().hex}, follow=True).content.decode()


def test_it_is_handled_again_with_a_reason_alone(
    desk: Client, bought: TopUp, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = broken(monkeypatch)
    assert "This field is required" in again(desk, event, "")
    assert Wallet.objects.get(user=alice).posted == 20 * USD
    again(desk, event)
    assert Wallet.objects.get(user=alice).posted == 15 * USD
    assert LogEntry.objects.get(object_id=event.pk).change_message == "Handled again: Stripe was away."


def test_what_went_wrong_can_be_handled_again_and_leaves_a_trace(
    desk: Client, bought: TopUp, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = broken(monkeypatch)
    assert event.pk in desk.get("/admin/accounts/stripeevent/?look=open").content.decode()
    for expected in ("Handled: 1 of 1", "None was chosen"):  # the second time there is nothing left to do
        assert expected in again(desk, event)
    event.refresh_from_db()
    assert (event.problem, event.handled is not None) == ("", True)
    assert Wallet.objects.get(user=alice).posted == 15 * USD
    assert (
        LogEntry.objects.filter(object_id=event.pk, change_message__startswith="Handled again").count() == 1
    )


def test_who_may_only_look_cannot_handle_again(
    bought: TopUp, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = broken(monkeypatch)
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    bob.user_permissions.add(Permission.objects.get(codename="view_stripeevent"))
    client = Client()
    client.force_login(bob)
    page = again(client, event)
    assert "403" in page
    assert Wallet.objects.get(user=alice).posted == 20 * USD


def test_a_shortage_of_credits_leads_to_more_of_them(alice: User) -> None:
    said = refusal(ledger.NotEnoughCredit(needed=10, available=0))
    assert '<a href="/account/buy/">Get more credits</a>' in said


# --- manage.py check ----------------------------------------------------------------------------------
def found(settings: Any, **changes: str) -> list[str]:
    good = {
        "STRIPE_SECRET_KEY": "sk_live_1", "STRIPE_WEBHOOK_SECRET": "whsec_1",
        "BASE_URL": "https://flux.example.com", "OPERATOR_EMAIL": "olga@example.org",
    }  # fmt: skip
    for name, value in (good | changes).items():
        setattr(settings, name, value)
    return [str(message.id) for message in checks.payments(None)]


@pytest.mark.once
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"STRIPE_SECRET_KEY": "", "STRIPE_WEBHOOK_SECRET": "", "OPERATOR_EMAIL": ""}, []),
        ({"STRIPE_WEBHOOK_SECRET": ""}, ["accounts.E001"]),
        ({"STRIPE_SECRET_KEY": ""}, ["accounts.E001"]),
        ({"STRIPE_SECRET_KEY": "whsec_1", "STRIPE_WEBHOOK_SECRET": "sk_live_1"}, ["accounts.E002"]),
        ({"STRIPE_SECRET_KEY": "pk_live_1"}, ["accounts.E002"]),
        ({"BASE_URL": ""}, ["accounts.W001"]),
        ({"BASE_URL": "http://flux.example.com"}, ["accounts.W001"]),
        ({"OPERATOR_EMAIL": ""}, ["accounts.W002"]),
    ],
)
def test_half_a_setup_is_named(settings: Any, changes: dict[str, str], expected: list[str]) -> None:
    assert found(settings, **changes) == expected
