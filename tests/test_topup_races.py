"""The same payment is told by many at once, and what goes back races with what is spent. On both databases."""

import uuid
from collections import Counter
from typing import Any

import pytest
from django.conf import settings

from accounts import ledger, stripe_events, topups
from accounts.models import StripeEvent, TopUp, Transfer, User, Wallet
from tests import fake_stripe
from tests.fake_stripe import FakeStripe
from tests.racing import Outcome, Track

pytestmark = [pytest.mark.kills, pytest.mark.races]

USD = 1_000_000
ALICE = "alice@example.org"


def values(outcomes: list[Outcome]) -> Counter[object]:
    return Counter(outcome.error or outcome.value for outcome in outcomes)


# --- What the runners do (in their own processes) -----------------------------------------------------
def is_on(url: str = "") -> None:
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET = fake_stripe.KEY, fake_stripe.SECRET
    settings.STRIPE_API_BASE = url


def begin(url: str) -> str:
    """Somebody with a purchase on its way to the card; returns its session."""
    is_on(url)
    user = User.objects.create_user(ALICE)
    ledger.wallet_of(user)
    top_up = topups.order(user, 2500, uuid.uuid4())
    topups.checkout(top_up, "http://127.0.0.1/")
    top_up.refresh_from_db()
    return str(top_up.session_id)


def hear(event: dict[str, Any]) -> str:
    is_on()
    said = {"id": event["id"], "kind": event["type"], "livemode": False, "object": event["data"]["object"]}
    stripe_events.receive({**said, "happened": "2026-11-22T12:00:00Z"})
    return "heard"


def come_back(url: str) -> str:
    is_on(url)
    topups.refresh(TopUp.objects.get())
    return "looked"


def sweep() -> int:
    is_on()
    return stripe_events.handle_waiting()


def run(name: str, argument: Any) -> str:
    return {"hear": hear, "come_back": come_back}[name](argument)


def spend(micros: int) -> str:
    try:
        wallet = Wallet.objects.get(user__email=ALICE)
        [held] = ledger.hold(wallet, [ledger.Promise(f"job:{uuid.uuid4()}", micros, "Picture")])
    except ledger.NotEnoughCredit:
        return "refused"
    ledger.capture(held.pk, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)
    return "spent"


def hear_or_spend(event: dict[str, Any] | None) -> str:
    return hear(event) if event else spend(USD)


def books() -> dict[str, int]:
    found = dict(Wallet.objects.values_list("name", "posted"))
    found["purchases"] = Transfer.objects.filter(kind="purchase").count()
    found["open"] = StripeEvent.objects.filter(handled=None).count()
    return {name.replace(name, "alice") if name.startswith("user:") else name: n for name, n in found.items()}


# --- Races --------------------------------------------------------------------------------------------
def test_webhooks_and_pages_at_once_credit_once(track: Track) -> None:
    with FakeStripe() as stripe:
        paid = stripe.pay(track.alone(begin, stripe.url))
        again = [("hear", paid)] * 6 + [("hear", paid | {"id": f"evt_{n}"}) for n in range(4)]
        outcomes = track.race(run, again + [("come_back", stripe.url)] * 2)
    assert values(outcomes) == {"heard": 10, "looked": 2}
    found = track.alone(books)
    assert (found["alice"], found["purchases"], found["open"]) == (25 * USD, 1, 0)


def test_a_refund_and_a_dispute_at_once_with_the_payment_itself(track: Track) -> None:
    with FakeStripe() as stripe:
        paid = stripe.pay(track.alone(begin, stripe.url))
    payment = paid["data"]["object"]["payment_intent"]
    said = [
        paid,
        fake_stripe.refunded(payment, 2500, 1000),
        fake_stripe.disputed(payment, 1500, "created", "needs_response"),
    ]
    assert values(track.race(hear, [(event,) for event in said * 4])) == {"heard": 12}
    track.alone(sweep)
    found = track.alone(books)
    assert (found["alice"], found["house:purchases"], found["open"]) == (0, 0, 0)


def test_what_goes_back_and_what_is_spent_at_once_never_take_the_same_dollar(track: Track) -> None:
    with FakeStripe() as stripe:
        paid = stripe.pay(track.alone(begin, stripe.url))
    track.alone(hear, paid)
    back = fake_stripe.refunded(paid["data"]["object"]["payment_intent"], 2500, 2500)
    outcomes = values(track.race(hear_or_spend, [(None,)] * 20 + [(back,)] * 2 + [(None,)] * 10))
    found, spent = track.alone(books), int(outcomes["spent"])
    assert outcomes == {
        "heard": 2,
        **({"spent": spent} if spent else {}),
        **({"refused": 30 - spent} if spent < 30 else {}),
    }
    assert (found["alice"], found["house:losses"]) == (0, -spent * USD)
    assert (found["house:revenue"] if spent else 0) == spent * USD
