"""Every mail of the house: its kinds, who may switch which off, and the one way to send them.

A kind has three templates in templates/mail: `<kind>_subject.txt`, `<kind>.txt` and `<kind>.html`. Those that allauth
sends lie in templates/account/email and templates/mfa/email under allauth's names; both share templates/mail/base.*.
To add a kind: a line in KINDS, its templates, and a sample in accounts/mail_samples.py.
"""

import logging
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse

from accounts.models import User

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """`says`: when it comes, for the page of notifications. One that is not optional is about the account's safety."""

    name: str
    title: str
    says: str
    is_optional: bool = False


KINDS = (
    Kind(
        "cap",
        "Spend caps",
        "When 50, 80 or 100 % of a day's or month's cap or of a cap of an API key is spent, and at your own “warn at”. Once each.",
        is_optional=True,
    ),
    Kind(
        "new_device",
        "Log-in from a new device",
        "When somebody logs in to your account with a browser that has not done so before.",
    ),
    Kind(
        "security",
        "Changes to how you log in",
        "Password, e-mail address, authenticator app, recovery codes and passkeys: when one is changed, added or removed.",
    ),
    Kind(
        "receipt",
        "Receipts",
        "When credits that you bought have arrived, with a link to the receipt.",
        is_optional=True,
    ),
    Kind(
        "webhook_off",
        "Webhooks switched off",
        "When we switch an endpoint of yours off, because it says that it is gone or nothing got through for days.",
        is_optional=True,
    ),
    Kind("deleted", "Account deleted", "Once, when you delete your account."),
)
_BY_NAME = {kind.name: kind for kind in KINDS}


def optional() -> list[Kind]:
    """Those that people may switch off."""
    return [kind for kind in KINDS if kind.is_optional]


def wants(user: User, kind: str) -> bool:
    return not (_BY_NAME[kind].is_optional and kind in user.muted)


def send(kind: str, user: User, context: dict[str, Any]) -> bool:
    """Sends it. False where they do not want this kind, or there is no mail server to send it with.

    OSError where the mail server cannot be had or refuses.
    """
    if not settings.HAS_MAIL or not wants(user, kind):
        return False
    rendered(kind, user.email, context).send()
    return True


def tell(kind: str, user: User, context: dict[str, Any]) -> bool:
    """As `send`, for those who go on whatever becomes of the mail: what was not taken is logged."""
    try:
        return send(kind, user, context)
    except OSError as error:  # smtplib's own are OSErrors
        logger.warning("A mail (%s) to account %s was not taken: %r", kind, user.pk, error)
        return False


def rendered(kind: str, to: str, context: dict[str, Any]) -> EmailMultiAlternatives:
    """The mail in text and HTML."""
    known = {**frame(is_optional=_BY_NAME[kind].is_optional), **context}
    known["subject"] = " ".join(render_to_string(f"mail/{kind}_subject.txt", known).split())
    text = render_to_string(f"mail/{kind}.txt", known).strip() + "\n"
    mail = EmailMultiAlternatives(subject=known["subject"], body=text, to=[to])
    mail.attach_alternative(render_to_string(f"mail/{kind}.html", known), "text/html")
    return mail


def frame(*, is_optional: bool = False) -> dict[str, Any]:
    """What every mail says below: who sends it, and where such mails are switched off."""
    return {
        "host": settings.BASE_URL,
        "notifications_url": link("notifications"),
        "is_optional": is_optional,
    }


def link(page: str, *about: Any) -> str:
    """The address of one of our pages for a mail; empty where nobody told us under which name we are reached."""
    return urljoin(settings.BASE_URL, reverse(page, args=about)) if settings.BASE_URL else ""
