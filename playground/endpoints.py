"""Where an account wants to hear of its jobs, and the secrets that its messages are signed with."""

import base64
import logging
import secrets
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from accounts import mails
from accounts.models import User
from playground import net
from playground.models import WebhookEndpoint

logger = logging.getLogger(__name__)

MOST = 10
MAILS_AT_ONCE = 50
OLD_SIGNS_FOR = timedelta(hours=24)


class Refused(Exception):
    """It was not added; str() says why in plain words."""


def new_secret() -> str:
    """As Standard Webhooks spells it: 32 random bytes in base64 behind `whsec_`."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


def of(user: User) -> list[WebhookEndpoint]:
    """Those that it has, oldest first, without the one that stands for the addresses of single calls."""
    own = WebhookEndpoint.objects.visible_to(user).filter(removed=None).exclude(url="")
    return list(own.order_by("created", "pk"))


def add(user: User, url: str, note: str) -> WebhookEndpoint:
    """Raises Refused for one too many, and for an address that is there already."""
    with transaction.atomic():
        User.objects.select_for_update().get(pk=user.pk)  # or two at once would both be the tenth
        there = of(user)
        if any(endpoint.url == url for endpoint in there):
            raise Refused("This address is one of your endpoints already.")
        if len(there) >= MOST:
            raise Refused(f"An account has at most {MOST} endpoints. Remove one first.")
        return WebhookEndpoint.objects.create(user=user, url=url, note=note, secret=new_secret())


def for_calls(user_id: int) -> WebhookEndpoint:
    """The row whose secret signs what goes to the addresses that single calls name; made on first need."""
    known = WebhookEndpoint.objects.filter(user_id=user_id, url="")
    if found := known.first():
        return found
    row = WebhookEndpoint(user_id=user_id, secret=new_secret())
    WebhookEndpoint.objects.bulk_create([row], ignore_conflicts=True)
    return known.get()


def rotate(endpoint: WebhookEndpoint) -> bool:
    """A new secret; the one before it signs beside it for a day. False where somebody else has just done so."""
    same = WebhookEndpoint.objects.filter(pk=endpoint.pk, secret=endpoint.secret)
    changes = {
        "secret": new_secret(),
        "old_secret": endpoint.secret,
        "old_secret_until": timezone.now() + OLD_SIGNS_FOR,
    }
    return same.update(**changes) == 1


def forget_old_secret(endpoint: WebhookEndpoint) -> None:
    """For a secret that got into wrong hands."""
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(old_secret="", old_secret_until=None)


def switch_on(endpoint: WebhookEndpoint) -> None:
    """It starts afresh: what failed before is no reason any more to switch it off."""
    WebhookEndpoint.objects.filter(pk=endpoint.pk, is_on=False).update(
        is_on=True, off_because="", failing_since=None, mail_due=False
    )


def signing_secrets(endpoint: WebhookEndpoint) -> list[str]:
    """The newest first."""
    until = endpoint.old_secret_until
    is_rotating = bool(endpoint.old_secret) and until is not None and until > timezone.now()
    return [endpoint.secret, endpoint.old_secret] if is_rotating else [endpoint.secret]


# --- Telling its owner --------------------------------------------------------------------------------
def send_mails() -> int:
    """Tells the owners of endpoints that we switched off. Returns how many; a mail that is not taken waits."""
    sent = 0
    for endpoint in WebhookEndpoint.objects.filter(mail_due=True).select_related("user")[:MAILS_AT_ONCE]:
        mine = WebhookEndpoint.objects.filter(pk=endpoint.pk)
        if not mine.filter(mail_due=True).update(mail_due=False):
            continue
        try:
            sent += mails.send("webhook_off", endpoint.user, _said(endpoint))
        except OSError as error:  # smtplib's own are OSErrors
            logger.warning("A mail about a webhook has to wait: %r", error)
            mine.update(mail_due=True)
            break
    return sent


def _said(endpoint: WebhookEndpoint) -> dict[str, str]:
    return {
        "endpoint": endpoint.url,
        "to": net.place_of(endpoint.url),
        "why": endpoint.off_because,
        "url": mails.link("webhooks"),
    }
