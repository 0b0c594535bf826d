"""The welcome credits: due from the moment an address counts as proven, given once, tried again until they are.

`User.awaits_welcome` says that they are due. It is the only thing that decides, so a crash between signing up and
the gift costs nobody anything: the sweep and the next log-in find the flag still up.
"""

from django.db import transaction

from accounts import ledger
from accounts.models import User


def give(user: User) -> bool:
    """Gives what is due. False where nothing is, where the account is shut, or where this person has had it under
    another address.

    Raises CapReached, and leaves it due, where today's budget is used up.
    """
    with transaction.atomic():
        due = User.objects.filter(pk=user.pk, awaits_welcome=True, is_active=True)
        if not due.update(awaits_welcome=False):
            return False
        user.awaits_welcome = False
        return ledger.grant_signup(user)


def make_due(user: User) -> None:
    """From now on; who has had it gets nothing twice, because the ledger remembers."""
    User.objects.filter(pk=user.pk).update(awaits_welcome=True)


def give_due(limit: int = 200) -> int:
    """Gives what the budget has room for, longest waiting first; returns to how many people."""
    given = 0
    for user in User.objects.filter(awaits_welcome=True, is_active=True).order_by("pk")[:limit]:
        try:
            given += give(user)
        except ledger.CapReached:
            break
    return given
