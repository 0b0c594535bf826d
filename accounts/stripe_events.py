"""Stripe's webhooks: each is stored once, and handled once in one transaction with the money that it moves.

An event is never handed to the books alone: it only says which payment to look at anew (`accounts.topup_books`).
"""

import logging
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from accounts import stripe_api, topup_books, topups
from accounts.models import StripeEvent, TopUp
from accounts.topup_books import MOST_ID, REFUND_FAILED, REFUNDED, RETURNS, TAKES

logger = logging.getLogger(__name__)

SESSIONS = (
    "checkout.session.completed",
    "checkout.session.async_payment_succeeded",
    "checkout.session.async_payment_failed",
    "checkout.session.expired",
)
PAYMENTS = (REFUNDED, REFUND_FAILED, *TAKES, *RETURNS)
# What an operator turns on for the webhook at Stripe.
KINDS = (*SESSIONS, *PAYMENTS)
# How long an event about an unknown payment waits for that payment. After that it is of another shop on the account.
WAITS = timedelta(days=1)
AT_ONCE = 100
# What we keep of an event. The rest, such as who paid and with what, we do not want to have.
_KEPT = (
    "id", "object", "amount", "amount_refunded", "amount_total", "currency", "livemode", "metadata", "mode",
    "payment_intent", "payment_status", "status",
)  # fmt: skip


def receive(said: dict[str, Any]) -> StripeEvent:
    """Stores a verified event, and handles it unless that is done. What went wrong is raised, and kept in the row."""
    event, _ = StripeEvent.objects.get_or_create(pk=said["id"], defaults=_row_of(said))
    if event.handled is None:
        handle(event.pk)
        event.refresh_from_db()
    return event


def handle(pk: str) -> None:
    """Handles an event that is not handled yet; also the operator's "handle again"."""
    try:
        with transaction.atomic():
            event = StripeEvent.objects.select_for_update().get(pk=pk)
            if event.handled is None:
                _handle(event)
                event.save(update_fields=["handled", "problem"])
    except Exception as error:
        problem = f"{type(error).__name__}: {error}"[:300].replace("\x00", "")
        StripeEvent.objects.filter(pk=pk, handled=None).update(problem=problem)
        raise


def handle_waiting() -> int:
    """Those about payments that were unknown when they came. Returns how many are settled."""
    now = timezone.now()
    waiting = StripeEvent.objects.filter(handled=None, problem="").exclude(payment_id="")
    known = waiting.filter(payment_id__in=TopUp.objects.exclude(payment_id=None).values("payment_id"))
    settled = 0
    for pk in list(known.order_by("received").values_list("pk", flat=True)[:AT_ONCE]):
        try:
            handle(pk)
            settled += 1
        except Exception:
            logger.exception("Stripe event %s could not be handled", pk)
    waiting.filter(received__lt=now - WAITS).update(handled=now)
    return settled


def _row_of(said: dict[str, Any]) -> dict[str, Any]:
    thing = said["object"]
    kept = {name: thing[name] for name in _KEPT if name in thing}
    kind = said["kind"][:100]
    is_sound = kind in PAYMENTS and not _doubt(kind, said["livemode"], kept)
    return {
        "kind": kind,
        "happened": said["happened"],
        "payment_id": thing["payment_intent"] if is_sound else "",
        "payload": {"livemode": said["livemode"], "object": kept},
    }


def _handle(event: StripeEvent) -> None:
    """Sets `problem`, and `handled` unless somebody has to look first."""
    thing: dict[str, Any] = event.payload["object"]
    event.problem, is_done = "", True
    if event.kind in SESSIONS:
        has_failed = event.kind == "checkout.session.async_payment_failed"
        event.problem = topups.believe(thing, has_failed=has_failed)
        is_done = not event.problem or _is_booked(thing)
    elif event.kind in PAYMENTS:
        event.problem = _doubt(event.kind, event.payload["livemode"], thing)
        is_done = not event.problem and _settle(event)
    event.handled = timezone.now() if is_done else None


def _settle(event: StripeEvent) -> bool:
    """False where the payment is unknown, so far or for good."""
    top_up = TopUp.objects.select_for_update().filter(payment_id=event.payment_id).first()
    if top_up is None:
        return False
    notes = [topup_books.settle(top_up)]
    if event.kind == REFUND_FAILED:
        notes.append("A refund did not arrive: its credits are given back, and the money is with you.")
    event.problem = " ".join(filter(None, notes))
    return True


def _is_booked(session: dict[str, Any]) -> bool:
    return TopUp.objects.filter(session_id=session.get("id"), state=TopUp.State.PAID).exists()


def _doubt(kind: str, livemode: object, thing: dict[str, Any]) -> str:
    """Why an event about a payment cannot be booked as it is."""
    amount = thing.get("amount_refunded" if kind == REFUNDED else "amount")
    if livemode != stripe_api.is_live():
        return "It is of Stripe's test mode, and our key is not, or the other way round."
    if thing.get("currency") != stripe_api.CURRENCY or not isinstance(amount, int) or amount < 0:
        return f"It is about {amount} {thing.get('currency')}, and we sell for US dollars."[:300]
    if not isinstance(thing.get("payment_intent"), str) or not 0 < len(thing["payment_intent"]) <= 200:
        return "It names no payment."
    if not isinstance(thing.get("id"), str) or not 0 < len(thing["id"]) <= MOST_ID:
        return "It has no id that fits."
    return ""
