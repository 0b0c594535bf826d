"""For a transaction that closes several holds, or closes one and makes another.

Everybody locks cap windows by name and wallets after them (`accounts.ledger`). The second of two holds would come back
to windows with the wallet of the first in hand, and wait in a circle with whoever has the windows and wants the wallet.
So such a transaction takes all windows before it begins.
"""

from collections.abc import Collection, Sequence

from django.db import connection
from django.utils import timezone

from accounts.ledger import Limit, window_start
from accounts.models import Cap, CapUse, CapWindow


def windows(hold_ids: Collection[int], limits: Sequence[Limit] = ()) -> None:
    """Locks those that these holds count in, and those of these limits at this moment, until we commit."""
    if not connection.features.has_select_for_update:  # one writer at a time: there is no order to keep
        return
    known = CapUse.objects.filter(hold__in=hold_ids).values_list("window", flat=True)
    rows = CapWindow.objects.filter(pk__in=[*known, *map(_now, limits)]).order_by(
        "subject", "window", "starts"
    )
    list(rows.select_for_update(no_key=True))


def _now(limit: Limit) -> int:
    assert limit.window != Cap.Window.JOB  # it counts nothing
    starts = window_start(limit.window, timezone.now())
    return CapWindow.objects.get_or_create(subject=limit.subject, window=limit.window, starts=starts)[0].pk
