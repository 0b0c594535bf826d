"""Credits that people buy: the order, the way to the card, and what became of it.

Whether something was paid we believe Stripe alone, by a signed webhook or by asking, and both end in `believe`.
What a payment does to the books is `accounts.topup_books`.
"""

import logging
import uuid
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from accounts import credits, stripe_api, topup_books
from accounts.models import TopUp, User

logger = logging.getLogger(__name__)

MICROS_PER_CENT = credits.MICROS_PER_USD // 100
# Between two questions about one top-up; as long as it is old, so that an abandoned one is asked about nine times.
LOOK_LEAST, LOOK_MOST = timedelta(minutes=5), timedelta(hours=12)
# Nobody has seen the address of a session that we never learnt of, so nobody can pay it.
LOST_AFTER = timedelta(hours=1)
LOOKS_AT_ONCE = 20
MOST_OPEN = 20  # in an hour, of one person


def offered() -> list[int]:
    """The amounts that can be bought, in US cents."""
    return list(settings.TOPUP_CENTS)


# --- Ordering -----------------------------------------------------------------------------------------
def order(user: User, cents: int, once: uuid.UUID) -> TopUp:
    """The top-up of one press of the button: `once` and the amount say which, so a second press is the same one."""
    pk = uuid.uuid5(once, f"{user.pk}:{cents}")
    given = {"user": user, "cents": cents, "micros": cents * MICROS_PER_CENT}
    return TopUp.objects.get_or_create(pk=pk, defaults=given)[0]


def has_too_many_open(user: User) -> bool:
    """So that nobody fills our books and Stripe's with purchases that they never pay."""
    since = timezone.now() - timedelta(hours=1)
    return TopUp.objects.visible_to(user).open().filter(created__gte=since).count() >= MOST_OPEN


def checkout(top_up: TopUp, url: str) -> str:
    """The address where the card pays; empty where it is too late for that. `url` is the page of the top-up.

    Unavailable where Stripe is not to be had.
    """
    if top_up.session_id:
        return _checkout_again(top_up)
    session = stripe_api.create_session(str(top_up.pk), _session_of(top_up, url))
    if not isinstance(session.get("id"), str) or not isinstance(session.get("url"), str):
        raise stripe_api.Unavailable("no session")
    TopUp.objects.filter(pk=top_up.pk, session_id=None).update(session_id=session["id"])
    return str(session["url"])


def _checkout_again(top_up: TopUp) -> str:
    """Of the session that there is: after a day Stripe forgets what it was asked, and a second one could be paid that
    we would not know."""
    session = stripe_api.session(top_up.session_id or "")
    if problem := believe(session):
        logger.error("top-up %s: %s", top_up.pk, problem)
    top_up.refresh_from_db()
    is_payable = top_up.state == TopUp.State.STARTED and session.get("status") == "open"
    return str(session.get("url") or "") if is_payable else ""


def _session_of(top_up: TopUp, url: str) -> dict[str, Any]:
    bought = {
        "currency": stripe_api.CURRENCY,
        "unit_amount": top_up.cents,
        "product_data": {"name": f"{credits.credits(top_up.micros)} credits"},
    }
    ours = {"top_up": str(top_up.pk)}
    return {
        "mode": "payment",
        "client_reference_id": str(top_up.pk),
        "customer_email": top_up.user.email,
        "line_items": [{"quantity": 1, "price_data": bought}],
        "metadata": ours,
        "payment_intent_data": {"metadata": ours, "description": f"Credits, receipt {top_up.number}"},
        "success_url": f"{url}?back=paid",
        "cancel_url": f"{url}?back=cancelled",
    }


# --- What became of it --------------------------------------------------------------------------------
@transaction.atomic
def believe(session: dict[str, Any], *, has_failed: bool = False) -> str:
    """Writes down what a session of Stripe's says, and moves the money if it says paid. Safe to repeat, in any order.

    Returns what an operator should know; empty where all is well. A session that is not for a top-up is nothing to us.
    """
    named = (session.get("metadata") or {}).get("top_up")
    if not named:
        return ""
    pk = _uuid(named)
    top_up = TopUp.objects.select_for_update().filter(pk=pk).first() if pk else None
    if top_up is None:
        return f"It is for a top-up that is not in the books: {named}"[:300]
    is_paid = session.get("payment_status") == "paid"
    if doubt := _doubt(top_up, session):
        return doubt if is_paid else ""
    if is_paid:
        return _paid(top_up, session)
    if top_up.is_open:
        top_up.session_id = session["id"]
        top_up.state = _unpaid_state(session, has_failed)
        top_up.save(update_fields=["session_id", "state"])
    return ""


def _doubt(top_up: TopUp, session: dict[str, Any]) -> str:
    """Why this session cannot be the one that we asked for. It is never booked by what it says of itself."""
    if session.get("livemode") != stripe_api.is_live():
        return "It is of Stripe's test mode, and our key is not, or the other way round."
    if top_up.session_id not in (None, session.get("id")):
        return f"The top-up {top_up.pk} has another checkout session."
    asked = (top_up.cents, stripe_api.CURRENCY)
    if (session.get("amount_total"), session.get("currency")) != asked:
        return f"Paid was {session.get('amount_total')} {session.get('currency')}, asked for {asked[0]} {asked[1]}."
    if session.get("payment_status") == "paid" and not _payment_id(session):
        return "It says paid and names no payment."
    return ""


def _paid(top_up: TopUp, session: dict[str, Any]) -> str:
    if not top_up.is_paid:
        top_up.state = TopUp.State.PAID
        top_up.session_id, top_up.payment_id = session["id"], _payment_id(session)
        top_up.paid = timezone.now()
        top_up.save(update_fields=["state", "session_id", "payment_id", "paid"])
    notes = [topup_books.settle(top_up), _about_the_buyer(top_up.user)]
    return " ".join(filter(None, notes))


def _about_the_buyer(user: User) -> str:
    """A payment that came when its account was closed already is booked all the same: the money is there."""
    if user.deleted:
        return "The account that paid has been deleted: pay it back in Stripe."
    if user.suspended or not user.is_active:
        return "The account that paid is suspended: look whether to pay it back in Stripe."
    return ""


def _unpaid_state(session: dict[str, Any], has_failed: bool) -> str:
    payment = session.get("payment_intent")
    known = payment.get("status") if isinstance(payment, dict) else None
    if session.get("status") == "expired":
        return TopUp.State.EXPIRED
    if session.get("status") != "complete":
        return TopUp.State.STARTED
    is_over = has_failed or known in ("requires_payment_method", "canceled")
    return TopUp.State.FAILED if is_over else TopUp.State.WAITING


def _payment_id(session: dict[str, Any]) -> str:
    payment = session.get("payment_intent")
    found = payment.get("id") if isinstance(payment, dict) else payment
    return found if isinstance(found, str) else ""


def _uuid(text: object) -> uuid.UUID | None:
    try:
        return uuid.UUID(str(text))
    except ValueError:
        return None


# --- Where the webhook does not come ------------------------------------------------------------------
def refresh(top_up: TopUp) -> None:
    """Asks Stripe what became of it. Unavailable where Stripe is not to be had."""
    if not top_up.session_id or not top_up.is_open:
        return
    if problem := believe(stripe_api.session(top_up.session_id)):
        logger.error("top-up %s: %s", top_up.pk, problem)
    top_up.refresh_from_db()


def end_open(user: User) -> None:
    """Whoever has left or is suspended pays no more: the next sweep ends at Stripe what can still be paid there."""
    TopUp.objects.open().filter(user=user).update(next_look=timezone.now())


def _end_or_ask(top_up: TopUp) -> None:
    """What was paid before we could end it is booked. Raises Unavailable where Stripe is not to be had."""
    if top_up.user.is_active or not top_up.session_id or top_up.state != TopUp.State.STARTED:
        return refresh(top_up)
    try:
        ended = stripe_api.end_session(top_up.session_id)
    except stripe_api.Unavailable:  # also: it was paid or has ended already
        return refresh(top_up)
    believe(ended)


def look_due() -> int:
    """Asks about those that are open for long, a few at a time and ever more seldom. Returns how many were asked."""
    if not stripe_api.is_on():
        return 0
    now = timezone.now()
    open_still = TopUp.objects.open().filter(next_look__lte=now).select_related("user")
    due = list(open_still.order_by("next_look")[:LOOKS_AT_ONCE])
    return sum(_look(top_up) for top_up in due)


def _look(top_up: TopUp) -> bool:
    now = timezone.now()
    again = now + min(max(now - top_up.created, LOOK_LEAST), LOOK_MOST)
    mine = TopUp.objects.open().filter(pk=top_up.pk, next_look=top_up.next_look).update(next_look=again)
    if not mine:  # another sweep has it
        return False
    if not top_up.session_id:
        if now - top_up.created > LOST_AFTER:
            TopUp.objects.open().filter(pk=top_up.pk, session_id=None).update(state=TopUp.State.EXPIRED)
        return False
    try:
        _end_or_ask(top_up)
    except stripe_api.Unavailable:
        return False  # it is asked again at `next_look`
    return True
