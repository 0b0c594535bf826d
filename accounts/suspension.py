"""Keeping somebody out, letting them in again, and ending their sessions. Who does it says why, in the trail.

`is_active` is what every door asks: the log-in, sessions, API keys, shared links, signed addresses. `suspended` says
since when and why.
"""

from allauth.usersessions.models import UserSession
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from accounts import topups, trail
from accounts.models import User


@transaction.atomic
def suspend(user: User, reason: str) -> bool:
    """From this moment on. False where they are out already, or have closed the account."""
    there = User.objects.filter(pk=user.pk, is_active=True, deleted=None)
    if not there.update(is_active=False, suspended=timezone.now(), suspended_reason=reason):
        return False
    sign_out(user)
    topups.end_open(user)
    return True


def lift(user: User) -> bool:
    """They may come in again, and log in anew. False where they may already, or have closed the account."""
    out = User.objects.filter(pk=user.pk, is_active=False, deleted=None).exclude(
        canonical_email=trail.CONSOLE
    )
    return bool(out.update(is_active=True, suspended=None, suspended_reason=""))


def sign_out(user: User) -> None:
    """Ends every session, also those that no list knows: they carry another number of sign-outs from now on."""
    User.objects.filter(pk=user.pk).update(sign_outs=F("sign_outs") + 1)
    UserSession.objects.filter(user=user).delete()
