"""Buying credits: from the amounts to the ledger, against a Stripe over real HTTP and really computed signatures."""

import itertools
import json
import re
import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.conf import LazySettings
from django.core.cache import cache
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from accounts import audit, erasure, ledger, stripe_api, stripe_events, suspension, topup_books, topups
from accounts.models import StripeEvent, TopUp, Transfer, User, Wallet
from tests import fake_stripe
from tests.fake_stripe import FakeStripe, disputed, refunded, signature_of, signed

USD = 1_000_000
Kind = Transfer.Kind


@pytest.fixture(scope="module")
def server() -> Iterator[FakeStripe]:
    with FakeStripe() as running:
        yield running


@pytest.fixture
def stripe(server: FakeStripe, settings: LazySettings) -> FakeStripe:
    settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET = fake_stripe.KEY, fake_stripe.SECRET
    settings.STRIPE_API_BASE = server.url
    server.down = False
    server.asked.clear()
    return server


@pytest.fixture
def shop(alice: User) -> Client:
    """The site, as Alice has it open."""
    client = Client()
    client.force_login(alice)
    return client


def form(cents: int = 2500, once: str = "") -> dict[str, Any]:
    return {"cents": cents, "once": once or str(uuid.uuid4())}


def ordered(shop: Client, cents: int = 2500) -> TopUp:
    """A purchase that is on its way to the card."""
    assert shop.post("/account/buy/", form(cents)).status_code == 200
    return TopUp.objects.latest("created")


def deliver(event: dict[str, Any], **how: Any) -> int:
    body, signature = signed(event, **how)
    return send(body, signature)


def send(body: bytes, signature: str) -> int:
    headers = {"Stripe-Signature": signature}
    client = Client(raise_request_exception=False)
    return client.post("/hooks/stripe/", body, content_type="application/json", headers=headers).status_code


def paid(shop: Client, stripe: FakeStripe, cents: int = 2500) -> TopUp:
    top_up = ordered(shop, cents)
    assert deliver(stripe.pay(top_up.session_id)) == 200
    top_up.refresh_from_db()
    return top_up


def posted(name: str | User) -> int:
    known = Wallet.objects.filter(user=name) if isinstance(name, User) else Wallet.objects.filter(name=name)
    return known.get().posted if known else 0


def booked(user: User) -> list[tuple[str, int]]:
    """What moved, oldest first, without what people got otherwise."""
    return [
        (row.kind, row.amount)
        for row in Transfer.objects.exclude(kind__in=["grant", "charge"]).order_by("pk")
    ]


def spend(user: User, micros: int) -> None:
    [held] = ledger.hold(ledger.wallet_of(user), [ledger.Promise(f"job:{uuid.uuid4()}", micros, "Picture")])
    ledger.capture(held.pk, to=ledger.house(Wallet.House.REVENUE), kind=Kind.CHARGE)


# --- The way to the card ------------------------------------------------------------------------------
def test_a_purchase_from_the_amounts_to_the_balance(shop: Client, stripe: FakeStripe, alice: User) -> None:
    page = shop.post("/account/buy/", form(2500))
    top_up = TopUp.objects.get()
    session = stripe.sessions[top_up.session_id]
    assert (session["amount_total"], session["currency"]) == (2500, "usd")
    assert f'content="0;url={session["url"]}"' in page.content.decode()
    assert session["success_url"] == f"http://testserver/account/purchases/{top_up.pk}/?back=paid"
    assert "arrive in a moment" in shop.get(f"/account/purchases/{top_up.pk}/?back=paid").content.decode()
    assert deliver(stripe.pay(top_up.session_id)) == 200
    assert posted(alice) == 25 * USD
    assert (
        "3,571.42 credits are yours"
        in shop.get(f"/account/purchases/{top_up.pk}/?back=paid").content.decode()
    )
    assert audit.audit() == []


def test_the_price_on_the_button_is_what_the_card_pays(shop: Client, stripe: FakeStripe) -> None:
    page = shop.get("/account/buy/").content.decode()
    for cents in re.findall(r'name="cents" value="(\d+)"', page):
        top_up = ordered(shop, int(cents))
        assert stripe.sessions[top_up.session_id]["amount_total"] == int(cents)
        assert f"${int(cents) // 100}.00" in page


def test_a_form_that_is_sent_twice_is_one_purchase_and_another_amount_is_another(
    shop: Client, stripe: FakeStripe
) -> None:
    once = str(uuid.uuid4())
    pages = [shop.post("/account/buy/", form(500, once)).content.decode() for _ in range(2)]
    urls = {re.search(r"url=(\S+)\"", page)[1] for page in pages}  # type: ignore[index]
    assert (len(urls), TopUp.objects.count()) == (1, 1)
    shop.post("/account/buy/", form(1000, once))
    assert sorted(TopUp.objects.values_list("cents", flat=True)) == [500, 1000]


def test_an_old_form_opens_no_second_checkout_for_its_purchase(shop: Client, stripe: FakeStripe) -> None:
    once = str(uuid.uuid4())
    shop.post("/account/buy/", form(500, once))
    pk = TopUp.objects.get().session_id
    stripe.by_key.clear()  # after a day Stripe forgets what it was asked
    assert f"/pay/{pk}" in shop.post("/account/buy/", form(500, once)).content.decode()
    stripe.sessions[pk]["status"] = "expired"
    late = shop.post("/account/buy/", form(500, once), follow=True)
    assert "This purchase has expired" in late.content.decode()
    assert [method for method, _, _ in stripe.asked].count("POST") == 1


def test_two_people_never_share_a_purchase(shop: Client, stripe: FakeStripe, alice: User, bob: User) -> None:
    once = str(uuid.uuid4())
    shop.post("/account/buy/", form(500, once))
    other = Client()
    other.force_login(bob)
    other.post("/account/buy/", form(500, once))
    assert {top_up.user for top_up in TopUp.objects.all()} == {alice, bob}
    mine = TopUp.objects.get(user=alice)
    for page in ("", "progress/", "receipt/"):
        assert other.get(f"/account/purchases/{mine.pk}/{page}").status_code == 404


@pytest.mark.parametrize("wrong", [{"cents": "1"}, {"cents": "2501"}, {"cents": ""}, {"once": "x"}])
def test_only_what_is_offered_can_be_bought(shop: Client, stripe: FakeStripe, wrong: dict[str, str]) -> None:
    assert shop.post("/account/buy/", form() | wrong).status_code == 422
    assert not TopUp.objects.exists()


def test_a_stripe_that_is_down_costs_nothing_and_the_same_form_can_be_sent_again(
    shop: Client, stripe: FakeStripe
) -> None:
    stripe.down = True
    asked = form()
    answer = shop.post("/account/buy/", asked)
    assert (answer.status_code, "Nothing was paid" in answer.content.decode()) == (503, True)
    assert f'value="{asked["once"]}"' in answer.content.decode()
    stripe.down = False
    assert shop.post("/account/buy/", asked).status_code == 200
    assert TopUp.objects.get().session_id


def test_begun_purchases_have_an_end(
    shop: Client, stripe: FakeStripe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topups, "MOST_OPEN", 1)
    ordered(shop)
    assert shop.post("/account/buy/", form()).status_code == 429


def test_the_key_is_in_no_log(
    shop: Client, stripe: FakeStripe, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.STRIPE_SECRET_KEY = "sk_test_wrong_and_secret"
    with caplog.at_level("DEBUG"):
        assert shop.post("/account/buy/", form()).status_code == 503
    assert "AuthenticationError" in caplog.text
    assert "wrong_and_secret" not in caplog.text


# --- Where nothing is sold ----------------------------------------------------------------------------
def test_without_keys_the_page_says_whom_to_ask(shop: Client, settings: LazySettings) -> None:
    settings.OPERATOR_EMAIL = "olga@example.org"
    page = shop.get("/account/buy/").content.decode()
    assert "mailto:olga@example.org" in page
    assert "Go to payment" not in page
    assert shop.post("/account/buy/", form()).status_code == 422
    assert send(b"{}", "t=1,v1=x") == 404
    assert not TopUp.objects.exists()


def test_the_suspended_cannot_buy(shop: Client, stripe: FakeStripe, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(suspended=timezone.now())
    topups_before = TopUp.objects.count()
    shop.post("/account/buy/", form())
    assert TopUp.objects.count() == topups_before


def test_strangers_log_in_first(stripe: FakeStripe, db: None) -> None:
    for path in ("/account/buy/", f"/account/purchases/{uuid.uuid4()}/", "/account/statements/"):
        assert Client().get(path)["Location"].startswith("/accounts/login/")


# --- The webhook --------------------------------------------------------------------------------------
def test_only_what_stripe_signed_is_believed(shop: Client, stripe: FakeStripe, alice: User) -> None:
    said = stripe.pay(ordered(shop).session_id)
    body, signature = signed(said)
    assert send(body, "") == 400
    assert send(body, "nonsense") == 400
    assert send(body.replace(b"2500", b"9900"), signature) == 400
    assert deliver(said, secret="whsec_of_somebody_else") == 400
    assert deliver(said, at=timezone.now().timestamp() - 301) == 400
    assert (posted(alice), StripeEvent.objects.count()) == (0, 0)
    assert send(body, signature) == 200
    assert posted(alice) == 25 * USD


DATED = b'{"id": "evt_1", "object": "event", "type": "a", "created": %d, "livemode": false, "data": {"object": {}}}'
NO_EVENTS = [
    *(b"[]", b"{}", b"null", b"\xff\xfe", b'{"object": "event"}', b"{" * 5000),
    *(b"[" * 100_000 + b"]" * 100_000, DATED % 10**18, DATED % 10**30),
]


@pytest.mark.parametrize("body", NO_EVENTS, ids=range(len(NO_EVENTS)))
def test_what_is_no_event_is_refused_even_if_signed(stripe: FakeStripe, db: None, body: bytes) -> None:
    assert send(body, signature_of(body)) == 400


def test_a_body_that_is_too_large_is_not_read_to_its_end(stripe: FakeStripe, db: None) -> None:
    assert send(b" " * 300_000, "t=1,v1=x") == 413


def test_an_event_is_handled_once_however_often_it_comes(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    said = stripe.pay(ordered(shop).session_id)
    assert [deliver(said) for _ in range(3)] == [200] * 3
    again = said | {"id": "evt_another"}  # Stripe may also say the same thing in another event
    assert deliver(again) == 200
    assert booked(alice) == [(Kind.PURCHASE, 25 * USD)]


def test_kinds_that_mean_nothing_to_us_are_stored_and_done_with(stripe: FakeStripe, db: None) -> None:
    assert deliver(fake_stripe.event("customer.created", {"id": "cus_1", "email": "x@example.org"})) == 200
    row = StripeEvent.objects.get()
    assert (row.handled is not None, row.problem) == (True, "")


def test_names_addresses_and_cards_are_not_kept(shop: Client, stripe: FakeStripe) -> None:
    top_up = paid(shop, stripe)
    deliver(refunded(top_up.payment_id, 2500, 100))
    kept = json.dumps(list(StripeEvent.objects.values_list("payload", flat=True)))
    assert "Alice" not in kept
    assert "example.org" not in kept
    assert "4242" not in kept


def test_a_crash_says_send_it_again_and_the_next_time_counts(
    shop: Client, stripe: FakeStripe, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = stripe.pay(ordered(shop).session_id)
    with monkeypatch.context() as broken:
        broken.setattr(topup_books, "known_of", lambda events: 1 / 0)
        assert deliver(said) == 500
    row = StripeEvent.objects.get()
    assert (row.handled, row.problem) == (None, "ZeroDivisionError: division by zero")
    assert booked(alice) == []  # the purchase was rolled back with the rest
    assert deliver(said) == 200
    row.refresh_from_db()
    assert (row.handled is not None, row.problem, posted(alice)) == (True, "", 25 * USD)


# --- What is not what we asked for --------------------------------------------------------------------
@pytest.mark.parametrize(
    "changed",
    [
        {"amount_total": 2400},
        {"amount_total": 250000},
        {"currency": "jpy"},
        {"livemode": True},
        {"id": "cs_test_of_another"},
        {"payment_intent": None},
        {"metadata": {"top_up": "0192d3a0-0000-7000-8000-000000000001"}},
        {"metadata": {"top_up": "no id"}},
    ],
)
def test_a_payment_that_is_not_the_one_we_asked_for_is_not_booked(
    shop: Client, stripe: FakeStripe, alice: User, changed: dict[str, Any]
) -> None:
    top_up = ordered(shop)
    said = stripe.pay(top_up.session_id)
    said["data"]["object"] |= changed
    assert deliver(said) == 200  # sending it again would not help
    row = StripeEvent.objects.get()
    assert row.problem and row.handled is None
    assert (posted(alice), booked(alice)) == (0, [])
    top_up.refresh_from_db()
    assert top_up.state == TopUp.State.STARTED


def test_sessions_of_another_shop_on_the_same_account_are_nothing_to_us(stripe: FakeStripe, db: None) -> None:
    other = {"id": "cs_1", "payment_status": "paid", "amount_total": 100, "currency": "eur", "metadata": {}}
    assert deliver(fake_stripe.event("checkout.session.completed", other)) == 200
    assert StripeEvent.objects.get().problem == ""


@pytest.mark.parametrize(
    "changed", [{"currency": "eur"}, {"amount_refunded": "500"}, {"amount_refunded": -1}, {"id": "x" * 60}]
)
def test_a_refund_that_makes_no_sense_is_left_to_the_operator(
    shop: Client, stripe: FakeStripe, alice: User, changed: dict[str, Any]
) -> None:
    top_up = paid(shop, stripe)
    said = refunded(top_up.payment_id, 2500, 500)
    said["data"]["object"] |= changed
    assert deliver(said) == 200
    assert StripeEvent.objects.exclude(problem="").get().handled is None
    assert deliver(refunded(top_up.payment_id, 2500, 100)) == 200  # and nothing else stumbles over it
    assert posted(alice) == 24 * USD


def test_an_event_of_test_mode_moves_nothing_for_a_live_key(
    shop: Client, stripe: FakeStripe, alice: User, settings: LazySettings
) -> None:
    top_up = paid(shop, stripe)
    settings.STRIPE_SECRET_KEY = "sk_live_fake"
    assert deliver(refunded(top_up.payment_id, 2500, 2500)) == 200
    assert posted(alice) == 25 * USD
    assert "test mode" in StripeEvent.objects.latest("received").problem


def test_who_paid_and_is_gone_is_named_to_the_operator(shop: Client, stripe: FakeStripe, alice: User) -> None:
    top_up = ordered(shop)
    User.objects.filter(pk=alice.pk).update(deleted=timezone.now(), is_active=False)
    assert deliver(stripe.pay(top_up.session_id)) == 200
    row = StripeEvent.objects.get()
    assert ("deleted" in row.problem, row.handled is not None) == (True, True)
    assert audit.audit() == []


def is_open(stripe: FakeStripe, top_up: TopUp) -> bool:
    return bool(stripe.sessions[top_up.session_id]["status"] == "open")


def test_a_checkout_that_is_open_while_the_account_is_deleted_can_be_paid_no_more(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = ordered(shop)
    assert topups.look_due() == 0 and is_open(stripe, top_up)
    assert erasure.close(alice)
    assert topups.look_due() == 1
    top_up.refresh_from_db()
    assert (is_open(stripe, top_up), top_up.state) == (False, TopUp.State.EXPIRED)


def test_a_checkout_of_the_suspended_is_ended_once_stripe_is_to_be_had(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = ordered(shop)
    suspension.suspend(alice, "chargebacks")
    stripe.down = True
    assert topups.look_due() == 0 and is_open(stripe, top_up)
    stripe.down = False
    with time_machine.travel(timezone.now() + timedelta(minutes=6), tick=False):
        assert topups.look_due() == 1
    assert not is_open(stripe, top_up)


def test_who_pays_in_the_minute_before_the_checkout_is_ended_is_on_the_front_page_until_paid_back(
    shop: Client, stripe: FakeStripe, alice: User, charlie: User
) -> None:
    desk = Client()
    desk.force_login(charlie)
    top_up = ordered(shop)
    erasure.close(alice)
    stripe.pay(top_up.session_id)  # and its webhook is lost
    assert topups.look_due() == 1
    assert (posted(alice), audit.audit()) == (25 * USD, [])
    said = "1 purchase was paid after the account was closed or suspended"
    assert said in desk.get("/admin/").content.decode()
    late = desk.get("/admin/accounts/topup/?late=1").content.decode()
    top_up.refresh_from_db()
    assert top_up.number in late
    deliver(refunded(top_up.payment_id, 2500, 2500))
    assert said not in desk.get("/admin/").content.decode()
    assert top_up.number not in desk.get("/admin/accounts/topup/?late=1").content.decode()


# --- Payments that take days, fail or expire ----------------------------------------------------------
def async_event(stripe: FakeStripe, top_up: TopUp, kind: str, payment_status: str) -> dict[str, Any]:
    session = stripe.sessions[top_up.session_id] | {"payment_status": payment_status}
    return fake_stripe.event(f"checkout.session.{kind}", session)


def test_a_bank_that_takes_days(shop: Client, stripe: FakeStripe, alice: User) -> None:
    top_up = ordered(shop)
    assert deliver(stripe.pay(top_up.session_id, "unpaid")) == 200
    assert posted(alice) == 0
    assert "Your bank is still working" in shop.get(f"/account/purchases/{top_up.pk}/").content.decode()
    deliver(async_event(stripe, top_up, "async_payment_succeeded", "paid"))
    assert posted(alice) == 25 * USD


def test_a_bank_that_says_no_in_the_end(shop: Client, stripe: FakeStripe, alice: User) -> None:
    top_up = ordered(shop)
    first = stripe.pay(top_up.session_id, "unpaid")
    last = async_event(stripe, top_up, "async_payment_failed", "unpaid")
    for event in (last, first):  # out of order
        assert deliver(event) == 200
    top_up.refresh_from_db()
    assert (top_up.state, posted(alice)) == (TopUp.State.FAILED, 0)
    assert "did not go through" in shop.get(f"/account/purchases/{top_up.pk}/?back=paid").content.decode()


def test_a_session_that_expired_can_still_turn_out_to_be_paid(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = ordered(shop)
    expired = stripe.sessions[top_up.session_id] | {"status": "expired"}
    deliver(fake_stripe.event("checkout.session.expired", expired))
    top_up.refresh_from_db()
    assert top_up.state == TopUp.State.EXPIRED
    deliver(stripe.pay(top_up.session_id))
    deliver(fake_stripe.event("checkout.session.expired", expired))
    top_up.refresh_from_db()
    assert (top_up.state, posted(alice)) == (TopUp.State.PAID, 25 * USD)


# --- What goes back -----------------------------------------------------------------------------------
def test_refunds_count_as_what_went_back_in_all(shop: Client, stripe: FakeStripe, alice: User) -> None:
    top_up = paid(shop, stripe)
    for back in (300, 300, 1000, 500, 2500):
        assert deliver(refunded(top_up.payment_id, 2500, back)) == 200
    assert booked(alice) == [
        (Kind.PURCHASE, 25 * USD), (Kind.PAYBACK, 3 * USD), (Kind.PAYBACK, 7 * USD), (Kind.PAYBACK, 15 * USD)
    ]  # fmt: skip
    assert (posted(alice), posted("house:purchases"), audit.audit()) == (0, 0, [])


def test_what_was_spent_already_is_the_houses_loss_and_held_is_left_alone(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = paid(shop, stripe)
    spend(alice, 18 * USD)
    ledger.hold(ledger.wallet_of(alice), [ledger.Promise("job:held", 3 * USD, "Picture")])
    assert deliver(refunded(top_up.payment_id, 2500, 2500)) == 200
    assert booked(alice)[1:] == [(Kind.PAYBACK, 4 * USD), (Kind.LOSS, 21 * USD)]
    wallet = Wallet.objects.get(user=alice)
    assert (wallet.posted, wallet.held, posted("house:losses")) == (3 * USD, 3 * USD, -21 * USD)
    assert "$21.00 of it was spent already" in StripeEvent.objects.get(kind="charge.refunded").problem
    assert audit.audit() == []
    paid(shop, stripe, 1000)  # a later purchase does not make good for it
    assert posted(alice) == 13 * USD


def test_a_dispute_takes_at_once_and_gives_back_what_it_took_from_each(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = paid(shop, stripe)
    spend(alice, 10 * USD)
    deliver(disputed(top_up.payment_id, 2500, "created", "needs_response"))
    assert (posted(alice), posted("house:losses")) == (0, -10 * USD)
    deliver(disputed(top_up.payment_id, 2500, "funds_withdrawn", "needs_response"))
    assert (posted(alice), posted("house:losses")) == (0, -10 * USD)
    top_up.refresh_from_db()
    assert top_up.disputed_cents == 2500
    deliver(disputed(top_up.payment_id, 2500, "closed", "won"))
    deliver(disputed(top_up.payment_id, 2500, "funds_reinstated", "won"))
    assert (posted(alice), posted("house:losses"), posted("house:purchases")) == (15 * USD, 0, -25 * USD)
    assert audit.audit() == []


def test_a_dispute_that_is_lost_stays_taken(shop: Client, stripe: FakeStripe, alice: User) -> None:
    top_up = paid(shop, stripe)
    deliver(disputed(top_up.payment_id, 2500, "created", "needs_response"))
    deliver(disputed(top_up.payment_id, 2500, "closed", "lost"))
    assert (posted(alice), audit.audit()) == (0, [])


def test_a_banks_question_takes_nothing(shop: Client, stripe: FakeStripe, alice: User) -> None:
    top_up = paid(shop, stripe)
    deliver(disputed(top_up.payment_id, 2500, "created", "warning_needs_response"))
    deliver(disputed(top_up.payment_id, 2500, "closed", "warning_closed"))
    assert booked(alice) == [(Kind.PURCHASE, 25 * USD)]


def test_never_more_is_taken_than_was_bought(shop: Client, stripe: FakeStripe, alice: User) -> None:
    paid(shop, stripe, 1000)
    top_up = paid(shop, stripe)
    deliver(disputed(top_up.payment_id, 2500, "created", "needs_response"))
    deliver(refunded(top_up.payment_id, 2500, 1000))
    assert (posted(alice), audit.audit()) == (10 * USD, [])
    assert "More went back" in StripeEvent.objects.get(kind="charge.refunded").problem
    deliver(disputed(top_up.payment_id, 2500, "closed", "won"))
    assert (posted(alice), audit.audit()) == (25 * USD, [])


def later(event: dict[str, Any], days: int) -> dict[str, Any]:
    return event | {"created": event["created"] + days * 86_400}


def failed(payment: str, cents: int, refund: str = "re_1") -> dict[str, Any]:
    thing = {"id": refund, "object": "refund", "amount": cents, "currency": "usd", "status": "failed"}
    return fake_stripe.event("refund.failed", {**thing, "payment_intent": payment})


def test_a_refund_that_did_not_arrive_gives_the_credits_back_and_tells_the_operator(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = paid(shop, stripe)
    deliver(refunded(top_up.payment_id, 2500, 2500))
    assert posted(alice) == 0
    for _ in range(2):
        deliver(later(failed(top_up.payment_id, 2500), 3))
    assert (posted(alice), posted("house:purchases"), audit.audit()) == (25 * USD, -25 * USD, [])
    assert "did not arrive" in StripeEvent.objects.filter(kind="refund.failed")[0].problem
    deliver(later(refunded(top_up.payment_id, 2500, 2500), 4))  # tried once more, to the same sum
    assert (posted(alice), posted("house:purchases"), audit.audit()) == (0, 0, [])


def test_of_a_refund_that_did_not_arrive_the_house_has_its_loss_back_first(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = paid(shop, stripe)
    spend(alice, 10 * USD)
    deliver(refunded(top_up.payment_id, 2500, 2500))
    assert (posted(alice), posted("house:losses")) == (0, -10 * USD)
    deliver(later(failed(top_up.payment_id, 1200, "re_2"), 1))
    assert (posted(alice), posted("house:losses"), audit.audit()) == (2 * USD, 0, [])
    deliver(later(failed(top_up.payment_id, 1300), 2))
    assert (posted(alice), posted("house:losses"), audit.audit()) == (15 * USD, 0, [])


def test_in_every_order_a_failed_refund_leaves_the_same_balance(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = ordered(shop)
    said = stripe.pay(top_up.session_id)
    payment = said["data"]["object"]["payment_intent"]
    events = [
        said,
        refunded(payment, 2500, 500),
        later(refunded(payment, 2500, 1200), 1),
        later(failed(payment, 700), 2),
        later(refunded(payment, 2500, 900), 3),
    ]
    orders = list(itertools.permutations(events))
    for order in orders if connection.vendor == "sqlite" else orders[::9]:
        nothing_was_said = transaction.savepoint()
        for event in order + order[::-1]:
            stripe_events.receive(stripe_api.verified(*signed(event)))
        stripe_events.handle_waiting()
        assert (posted(alice), posted("house:purchases")) == (16 * USD, -16 * USD)
        assert audit.audit() == []
        transaction.savepoint_rollback(nothing_was_said)


def test_a_dispute_that_is_won_and_then_lost_is_taken_again(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = paid(shop, stripe)
    won = [
        disputed(top_up.payment_id, 2500, "created", "needs_response"),
        later(disputed(top_up.payment_id, 2500, "closed", "won"), 1),
        later(disputed(top_up.payment_id, 2500, "funds_reinstated", "won"), 1),
    ]
    lost = [
        later(disputed(top_up.payment_id, 2500, "funds_withdrawn", "lost"), 2),
        later(disputed(top_up.payment_id, 2500, "closed", "lost"), 2),
    ]
    for order in itertools.permutations(won + lost):
        nothing_was_said = transaction.savepoint()
        for event in order:
            stripe_events.receive(stripe_api.verified(*signed(event)))
        assert (posted(alice), audit.audit()) == (0, [])
        transaction.savepoint_rollback(nothing_was_said)
    for event in won:
        deliver(event)
    assert posted(alice) == 25 * USD
    for event in lost:
        deliver(event)
    assert (posted(alice), posted("house:purchases"), audit.audit()) == (0, 0, [])
    top_up.refresh_from_db()
    assert top_up.disputed_cents == 2500


def test_an_event_about_an_unknown_payment_waits_for_it_a_day(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = ordered(shop)
    said = stripe.pay(top_up.session_id)
    payment = said["data"]["object"]["payment_intent"]
    assert deliver(refunded(payment, 2500, 500)) == 200
    row = StripeEvent.objects.get()
    assert (row.handled, row.problem) == (None, "")
    assert deliver(said) == 200
    assert booked(alice) == [(Kind.PURCHASE, 25 * USD), (Kind.PAYBACK, 5 * USD)]
    assert stripe_events.handle_waiting() == 1
    row.refresh_from_db()
    assert row.handled is not None
    deliver(refunded("pi_of_another_shop", 100, 100))
    assert stripe_events.handle_waiting() == 0
    with time_machine.travel(timezone.now() + timedelta(days=2), tick=False):
        stripe_events.handle_waiting()
    assert not StripeEvent.objects.filter(handled=None).exists()


# --- Every order, each twice --------------------------------------------------------------------------
def events_of(stripe: FakeStripe, top_up: TopUp) -> list[dict[str, Any]]:
    """A payment of which $5 are refunded, then all but that is disputed; the house wins, and refunds $7 more."""
    said = stripe.pay(top_up.session_id)
    payment = said["data"]["object"]["payment_intent"]
    later = refunded(payment, 2500, 1200)  # made first: the ids of Stripe's events are in no order
    return [
        said,
        refunded(payment, 2500, 500),
        disputed(payment, 1300, "created", "needs_response"),
        disputed(payment, 1300, "closed", "won"),
        later,
    ]


def ends(user: User) -> dict[str, Any]:
    """What the books say in the end, however it came about."""
    kinds: dict[str, int] = {}
    for kind, micros in booked(user):
        kinds[kind] = kinds.get(kind, 0) + micros
    wallets = {wallet.name: wallet.posted for wallet in Wallet.objects.filter(user=None)}
    return {"user": posted(user), "kinds": kinds, "wallets": wallets}


def test_in_every_order_and_each_twice_the_books_end_the_same(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = ordered(shop)
    events = events_of(stripe, top_up)
    expected = {
        "user": 13 * USD,
        "kinds": {"purchase": 25 * USD, "payback": 12 * USD, "dispute": 13 * USD, "dispute_won": 13 * USD},
        "wallets": {"house:purchases": -13 * USD, "house:losses": 0},
    }
    orders = list(itertools.permutations(range(len(events))))
    for order in orders if connection.vendor == "sqlite" else orders[::9]:
        nothing_was_said = transaction.savepoint()
        for event in [events[at] for at in order] + [events[at] for at in order[::-1]]:
            stripe_events.receive(stripe_api.verified(*signed(event)))
        assert (order, ends(alice)) == (order, expected)
        assert audit.audit() == []
        stripe_events.handle_waiting()
        assert not StripeEvent.objects.exclude(problem="", handled__isnull=False).exists()
        transaction.savepoint_rollback(nothing_was_said)


# --- Where the webhook does not come ------------------------------------------------------------------
def test_the_page_that_people_come_back_to_asks_itself(shop: Client, stripe: FakeStripe, alice: User) -> None:
    top_up = ordered(shop)
    late = stripe.pay(top_up.session_id)
    page = shop.get(f"/account/purchases/{top_up.pk}/?back=paid").content.decode()
    assert "credits are yours" in page
    assert deliver(late) == 200
    assert booked(alice) == [(Kind.PURCHASE, 25 * USD)]


def test_a_page_that_is_looked_at_often_asks_seldom(shop: Client, stripe: FakeStripe) -> None:
    top_up = ordered(shop)
    statuses = [shop.get(f"/account/purchases/{top_up.pk}/progress/").status_code for _ in range(3)]
    assert statuses == [200] * 3
    assert len([path for method, path, _ in stripe.asked if method == "GET"]) == 1
    stripe.pay(top_up.session_id)
    cache.clear()
    assert shop.get(f"/account/purchases/{top_up.pk}/progress/").status_code == 286


def test_a_page_shows_although_stripe_is_down(shop: Client, stripe: FakeStripe) -> None:
    top_up = ordered(shop)
    stripe.down = True
    assert shop.get(f"/account/purchases/{top_up.pk}/?back=paid").status_code == 200


def test_the_sweep_asks_about_what_is_open_for_long_and_ever_more_seldom(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = ordered(shop)
    assert topups.look_due() == 0
    asked = 0
    with time_machine.travel(timezone.now(), tick=False) as clock:
        for _ in range(24 * 60):
            clock.shift(60)
            asked += topups.look_due()
    assert 5 <= asked <= 10
    stripe.pay(top_up.session_id)
    with time_machine.travel(timezone.now() + timedelta(days=3), tick=False):
        assert topups.look_due() == 1
        assert topups.look_due() == 0
    assert booked(alice) == [(Kind.PURCHASE, 25 * USD)]


def test_the_sweep_asks_a_few_at_a_time_and_gives_up_what_nobody_can_pay(
    shop: Client, stripe: FakeStripe, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topups, "LOOKS_AT_ONCE", 2)
    for _ in range(3):
        ordered(shop)
    lost = topups.order(alice, 500, uuid.uuid4())  # killed before Stripe was asked
    with time_machine.travel(timezone.now() + timedelta(hours=2), tick=False):
        assert [topups.look_due() for _ in range(3)] == [2, 1, 0]
    lost.refresh_from_db()
    assert lost.state == TopUp.State.EXPIRED


def test_a_session_of_which_we_never_heard_back_is_found_by_its_webhook(
    shop: Client, stripe: FakeStripe, alice: User
) -> None:
    top_up = ordered(shop)
    TopUp.objects.update(session_id=None)  # killed between Stripe's answer and our row
    deliver(stripe.pay(top_up.session_id))
    assert posted(alice) == 25 * USD


# --- The audit sees -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "harm",
    [
        {"state": "started"},
        {"micros": 26 * USD},
        {"paid_back_cents": 100},
        {"disputed_cents": 100},
        {"disputed_cents": 2600},
    ],
)
def test_the_audit_names_a_top_up_that_its_transfers_do_not_bear_out(
    shop: Client, stripe: FakeStripe, harm: dict[str, Any]
) -> None:
    paid(shop, stripe)
    assert audit.audit() == []
    TopUp.objects.update(**harm)
    assert audit.audit() != []


def test_the_audit_names_a_purchase_on_somebody_elses_wallet(
    shop: Client, stripe: FakeStripe, bob: User
) -> None:
    paid(shop, stripe)
    TopUp.objects.update(user=bob)
    assert audit.audit() != []
