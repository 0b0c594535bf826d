"""Closing an account for good: first nobody gets in, at last nobody can tell whose it was. In between its things are
erased by whoever has them (`playground.deletion`).

The row stays, because the ledger's lines point to it. Each step may be repeated, and leaves what a killed process did
not get to for the next one.
"""

from datetime import datetime

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.contrib.auth.hashers import make_password
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone

from accounts import topups, trail
from accounts.models import ApiKey, Cap, CapNotice, User

NOWHERE = "@deleted.invalid"


class LastSuperuser(Exception):
    """Without them nobody could run this place."""


@transaction.atomic
def close(user: User) -> bool:
    """From this moment on the account opens nothing. False where it is closed already. Raises LastSuperuser.

    Whoever leaves holds the rows of all superusers, so that the last two cannot leave at once.
    """
    superusers = User.objects.filter(is_superuser=True, is_active=True).order_by("pk")
    # Without their keys: who writes into the trail that one of them did something need not wait, and so cannot be in
    # the middle of doing it to this very account while each waits for the other.
    powerful = list(superusers.select_for_update(no_key=True))
    if powerful == [user]:
        raise LastSuperuser
    open_still = User.objects.filter(pk=user.pk, deleted=None)
    closed = {"deleted": timezone.now(), "is_active": False, "awaits_welcome": False}
    if not open_still.update(**closed, sign_outs=F("sign_outs") + 1):
        return False
    keys = list(UserSession.objects.filter(user=user).values_list("session_key", flat=True))
    Session.objects.filter(session_key__in=keys).delete()
    ApiKey.objects.filter(user=user, revoked=None).update(revoked=timezone.now())
    topups.end_open(user)
    return True


def unfinished(since: datetime) -> QuerySet[User]:
    """Closed accounts that still carry an address, and those closed after `since`, to which a request that was under
    way may have added something."""
    closed = User.objects.filter(deleted__isnull=False)
    return (closed.exclude(email__endswith=NOWHERE) | closed.filter(deleted__gte=since)).order_by(
        "deleted", "pk"
    )


def erase_ways_in(user: User) -> None:
    """What people log in with, and what bounded their spending. The numbers of keys stay: jobs and sums point to them."""
    for key in ApiKey.objects.filter(user=user).exclude(digest__startswith="erased:"):
        ApiKey.objects.filter(pk=key.pk).update(
            name="",
            start="",
            last_four="",
            digest=f"erased:{key.pk}",
            once=None,
            revoked=key.revoked or timezone.now(),
        )
    for model in (Authenticator, EmailAddress, UserSession, CapNotice, Cap):
        model.objects.filter(user=user).delete()


@transaction.atomic
def erase_name(user: User) -> None:
    """The last step, after which nothing leads from the row to a person."""
    nobody = f"deleted-{user.pk}{NOWHERE}"
    user.groups.clear()
    user.user_permissions.clear()
    trail.forget(user)
    User.objects.filter(pk=user.pk).update(
        email=nobody,
        canonical_email=nobody,
        password=make_password(None),
        name="",
        time_zone="",
        muted=[],
        last_login=None,
        is_staff=False,
        is_superuser=False,
        has_caps=False,
        suspended_reason="",
    )
