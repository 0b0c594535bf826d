"""Which drives are alive, and asking the queue for another.

A drive is one run of the engine's loop inside a worker of the queue. It beats once a second; whoever submits work,
and the watchdog, ask for a new one where too few are beating.
"""

import math
import socket
import time
from datetime import timedelta

from django.conf import settings
from django.db.models import QuerySet
from django.utils import timezone
from django_q.models import OrmQ
from django_q.tasks import async_task

from playground.models import DriveBeat

BEAT_S = 1.0
ALIVE_S = 4.0
HOST = socket.gethostname()
_found_at = [-math.inf]


def alive() -> QuerySet[DriveBeat]:
    """Those that beat within the last four seconds and mean to go on."""
    since = timezone.now() - timedelta(seconds=ALIVE_S)
    return DriveBeat.objects.filter(at__gt=since, is_ending=False)


def ensure(*, looked_within_s: float = 0) -> bool:
    """Asks the queue for a drive, inside the caller's transaction, unless enough are alive or one is on its way.

    `looked_within_s`: how old the last look that found so may be. A drive counts as alive for four seconds anyway.
    """
    now = time.monotonic()
    if looked_within_s and now - _found_at[0] < looked_within_s:
        return False
    if alive().count() >= settings.ENGINE_WORKERS or OrmQ.objects.filter(lock__lte=timezone.now()).exists():
        _found_at[0] = now
        return False
    async_task("playground.tasks.drive")
    return True


def forget() -> None:
    """Looks anew at the next time, for tests."""
    _found_at[0] = -math.inf


def join(owner: str) -> bool:
    """Says that this drive is alive; False where there are enough without it."""
    if alive().count() >= settings.ENGINE_WORKERS:
        return False
    DriveBeat.objects.create(owner=owner, host=HOST)
    return True


def beat(owner: str, in_flight: int) -> bool:
    """Says that the drive still lives; True where the watchdog has asked it to stop (or has cleared it away)."""
    rows = DriveBeat.objects.filter(owner=owner)
    rows.update(at=timezone.now(), in_flight=in_flight)
    return rows.filter(stop_asked=False).first() is None


def hand_over(owner: str) -> None:
    """Makes room for a successor and asks for it."""
    DriveBeat.objects.filter(owner=owner).update(is_ending=True)
    ensure()


def leave(owner: str) -> None:
    DriveBeat.objects.filter(owner=owner).delete()


def ask_to_stop() -> None:
    """Asks the drives of this machine to end soon: their paid calls finish, and nothing new is sent."""
    DriveBeat.objects.filter(host=HOST).update(stop_asked=True)


def forget_dead() -> None:
    """Clears away what killed drives left behind."""
    DriveBeat.objects.filter(at__lt=timezone.now() - timedelta(minutes=2)).delete()
