"""What `manage.py check` says about selling credits."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

HOOK = "/hooks/stripe/"


def payments(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """accounts.E001: half of Stripe's keys. accounts.W001, W002: Stripe, or nobody, reaches us; nobody to ask."""
    key, secret = settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET
    found: list[CheckMessage] = []
    if bool(key) != bool(secret):
        there, missing = _NAMES if key else _NAMES[::-1]
        hint = f"Set {missing} too (Stripe shows it with the endpoint {HOOK}), or unset {there}: without both nothing is sold."
        found.append(Error(f"{there} is set, and {missing} is not.", hint=hint, id="accounts.E001"))
    if key and _is_swapped(key, secret):
        hint = "The secret key begins with sk_ or rk_, the webhook's secret with whsec_."
        found.append(
            Error(
                "STRIPE_SECRET_KEY or STRIPE_WEBHOOK_SECRET is another kind of key.",
                hint=hint,
                id="accounts.E002",
            )
        )
    if key and not settings.BASE_URL.startswith("https://"):
        hint = f"Set BASE_URL=https://..., and add the endpoint {HOOK} of it at Stripe. Until then purchases are found by asking, minutes later."
        found.append(
            Warning(
                "Credits are for sale, but Stripe's webhooks need a public https address.",
                hint=hint,
                id="accounts.W001",
            )
        )
    if key and not settings.OPERATOR_EMAIL:
        hint = "Set OPERATOR_EMAIL to the address that receipts and purchase pages name."
        found.append(
            Warning(
                "Credits are for sale, and buyers are told of nobody to ask.", hint=hint, id="accounts.W002"
            )
        )
    return found


_NAMES = ("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET")


def _is_swapped(key: str, secret: str) -> bool:
    return not key.startswith(("sk_", "rk_")) or not (secret.startswith("whsec_") or not secret)
