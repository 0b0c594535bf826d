"""Every mail of the house with made-up words in it, for the admin's preview."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from allauth.account.adapter import get_adapter
from django.core.mail import EmailMultiAlternatives
from django.http import HttpRequest

from accounts import mails

TO = "alice@example.org"
AT = datetime(2026, 11, 12, 14, 5, tzinfo=UTC)
_VISIT = {"device": "Firefox on Windows", "ip": "203.0.113.7", "at": AT, "timestamp": AT}
_HERE = "https://flux.example/a-link"


@dataclass(frozen=True)
class Sample:
    """`slug` names it in addresses."""

    slug: str
    title: str
    mail: Callable[[HttpRequest], EmailMultiAlternatives]


def of_house(kind: str, context: dict[str, Any]) -> Sample:
    title = next(known.title for known in mails.KINDS if known.name == kind)
    return Sample(kind, title, lambda request: mails.rendered(kind, TO, context))


def of_allauth(prefix: str, context: dict[str, Any]) -> Sample:
    """`prefix` as allauth names it: account/email/password_changed."""
    name = prefix.rpartition("/")[2]
    known = {**_VISIT, "email": TO, "current_site": _Site(), **context}
    title = name.replace("_", " ").replace("totp", "app").replace("webauthn", "passkey").capitalize()
    return Sample(name, title, lambda request: get_adapter(request).render_mail(prefix, TO, known))


class _Site:
    domain = name = "flux.example"


SAMPLES = (
    of_house(
        "cap",
        {
            "subject": "80 % of your day cap of $5.00 is spent",
            "said": "You have spent $4.00 today. Your day cap stops at $5.00: 80 % of it is spent.",
            "consequence": "Nothing has stopped. Running pictures already hold their price, so a cap cannot be crossed.",
            "resets": "It starts afresh at midnight UTC, in 10 hours.",
            "page": "Spend caps",
            "url": _HERE,
        },
    ),
    of_house(
        "webhook_off",
        {
            "endpoint": "https://shop.example/hook",
            "to": "shop.example",
            "why": "Nothing got through for five days.",
            "url": _HERE,
        },
    ),
    of_house(
        "receipt",
        {
            "number": "20261112-1A2B3C4D",
            "paid": "$25.00",
            "arrived": "3,571.42 credits ($25.00)",
            "url": _HERE,
        },
    ),
    of_house("new_device", {**_VISIT, "url": _HERE}),
    of_house("deleted", {}),
    of_allauth("account/email/email_confirmation_signup", {"activate_url": _HERE}),
    of_allauth("account/email/email_confirmation", {"activate_url": _HERE}),
    of_allauth("account/email/password_reset_key", {"password_reset_url": _HERE}),
    of_allauth("account/email/account_already_exists", {"password_reset_url": _HERE}),
    of_allauth("account/email/unknown_account", {"signup_url": _HERE}),
    of_allauth("account/email/password_changed", {}),
    of_allauth("account/email/password_set", {}),
    of_allauth("account/email/password_reset", {}),
    of_allauth("account/email/email_changed", {"from_email": TO, "to_email": "alice@home.example"}),
    of_allauth("account/email/email_confirm", {}),
    of_allauth("account/email/email_deleted", {"deleted_email": "alice@home.example"}),
    of_allauth("mfa/email/totp_activated", {}),
    of_allauth("mfa/email/totp_deactivated", {}),
    of_allauth("mfa/email/recovery_codes_generated", {}),
    of_allauth("mfa/email/webauthn_added", {}),
    of_allauth("mfa/email/webauthn_removed", {}),
)
BY_SLUG = {sample.slug: sample for sample in SAMPLES}
