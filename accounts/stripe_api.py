"""The one module that talks to Stripe: checkout sessions out, and the proof that a webhook is Stripe's.

It knows no models and no database. Never call it inside a transaction.
"""

import logging
from datetime import UTC, datetime
from functools import lru_cache
from importlib import import_module
from typing import Any

from django.conf import settings

logger = logging.getLogger(__name__)

# Seconds to connect, and between two bytes. A person waits for it, and so does a thread of the web server.
TIMEOUT_S = (4, 12)
TRIES_AGAIN = 1
CURRENCY = "usd"
# What reading a body raises that is signed and is no event: of another form, too deep, or dated out of all bounds.
_NO_EVENT = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError, OSError)


class Unavailable(Exception):
    """Stripe could not be asked, or did not answer as it should. Nothing was paid because of this call."""


class Forged(Exception):
    """Not from Stripe, or too old to tell."""


def is_on() -> bool:
    """Whether credits can be bought here."""
    return bool(settings.STRIPE_SECRET_KEY and settings.STRIPE_WEBHOOK_SECRET)


def is_live() -> bool:
    """Whether our key moves real money. Test keys begin with sk_test_ or rk_test_."""
    return "_test_" not in settings.STRIPE_SECRET_KEY


def library() -> Any:
    """Loaded when it is first needed: it takes most of a second, which no command and no worker should pay."""
    return import_module("stripe")


def create_session(once: str, asked: dict[str, Any]) -> dict[str, Any]:
    """A new checkout session. The same `once` gives the same session, however often it is asked for."""
    return _ask(lambda client: client.v1.checkout.sessions.create(asked, {"idempotency_key": once}))


def session(session_id: str) -> dict[str, Any]:
    """What Stripe says of a session now, and of its payment."""
    return _ask(
        lambda client: client.v1.checkout.sessions.retrieve(session_id, {"expand": ["payment_intent"]})
    )


def end_session(session_id: str) -> dict[str, Any]:
    """Closes an open session, so that nobody can pay it any more. Unavailable also where it is not open."""
    return _ask(lambda client: client.v1.checkout.sessions.expire(session_id))


def verified(body: bytes, signature: str) -> dict[str, Any]:
    """The event that a webhook brings. Forged where Stripe has not signed it, or not in the last five minutes."""
    stripe = library()
    try:
        event = stripe.Webhook.construct_event(
            body, signature, settings.STRIPE_WEBHOOK_SECRET, api_key=settings.STRIPE_SECRET_KEY
        )
        said: dict[str, Any] = event.to_dict(for_json=True)
        kept = {
            "id": said["id"],
            "kind": said["type"],
            "happened": datetime.fromtimestamp(said["created"], UTC),
            "livemode": said["livemode"],
            "object": said["data"]["object"],
        }
    except (stripe.SignatureVerificationError, *_NO_EVENT) as error:
        raise Forged(type(error).__name__) from error
    if not (
        isinstance(kept["id"], str) and isinstance(kept["kind"], str) and isinstance(kept["object"], dict)
    ):
        raise Forged("not an event")
    return kept


def _ask(ask: Any) -> dict[str, Any]:
    stripe = library()
    try:
        answer: dict[str, Any] = ask(_client(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE)).to_dict(
            for_json=True
        )
    except stripe.StripeError as error:
        # Never the error itself: what Stripe says of a wrong key repeats parts of it.
        logger.warning("Stripe: %s %s %s", type(error).__name__, error.http_status, error.request_id or "")
        raise Unavailable(type(error).__name__) from error
    return answer


@lru_cache(maxsize=2)
def _client(key: str, base: str) -> Any:
    stripe = library()
    stripe.enable_telemetry = False
    return stripe.StripeClient(
        key,
        base_addresses={"api": base},
        http_client=stripe.RequestsClient(timeout=TIMEOUT_S),
        max_network_retries=TRIES_AGAIN,
    )
