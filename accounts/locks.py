"""For a transaction that closes several holds, or closes one and makes another.

Everybody locks cap windows by name and wallets after them (`accounts.ledger`). The second of two holds would come back
to windows with the wallet of the first in hand, and wait in a circle with whoever has the windows and wants the wallet.
So such a transaction takes all windows before it begins.
"""

from collections.abc import Collection, Sequence

from django.db import connection
from django.utils import timezone

from accounts.ledger import Limit
from accounts.ledger.windows import ids
from accounts.models import Cap, CapUse, CapWindow


def windows(hold_ids: Collection[int], limits: Sequence[Limit] = ()) -> None:
    """Locks those that these holds count in, and those of these limits at this moment, until we commit."""
    if not connection.features.has_select_for_update:  # one writer at a time: there is no order to keep
        return
    known = CapUse.objects.filter(hold__in=hold_ids).values_list("window", flat=True)
    begun = [limit.begun(timezone.now()) for limit in limits if limit.window != Cap.Window.JOB]
    rows = CapWindow.objects.filter(pk__in=[*known, *ids(begun, {})])
    list(rows.order_by("subject", "window", "starts").select_for_update(no_key=True))
