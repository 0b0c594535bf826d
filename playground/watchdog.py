"""Keeps the queue's cluster alive from outside.

A killed worker can freeze the whole cluster for ever while its main process lives on, so it is not enough to watch
that process. A drive beats once a second in the database (`playground.drives`): no new beat for a while means that
the cluster does no work, and then its whole process group is killed and started again.
"""

import logging
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import DatabaseError, close_old_connections, connections
from django.db.models import QuerySet, Subquery
from django.utils import timezone
from django_q.models import OrmQ, Schedule

from playground import drives
from playground.models import DriveBeat
from playground.supervisor import Child, Interrupts, adopt_orphans, end_strays, stop

LOOK = 1.0  # seconds between two looks
SILENT = 12.0  # seconds without any new beat after which the cluster is killed
ENDLESS = 20.0  # the same while drives that are ending still beat: their paid calls get some time to finish
GRACE = 15.0  # seconds that a new cluster gets before it can be killed
LATE = 5.0  # seconds: after a longer pause in our own looking (a sleeping laptop) silence proves nothing
STOP_WITHIN = 4.5  # seconds
DRIVE, SWEEP, NIGHTLY = "playground.tasks.drive", "playground.tasks.sweep", "playground.tasks.nightly"
NIGHT = 3  # o'clock, UTC

log = logging.getLogger(__name__)


class Pulse:
    """How long no drive has beaten, by our own clock: the clocks of other machines may be wrong."""

    def __init__(self, drives: QuerySet[DriveBeat], now: float) -> None:
        self._drives = drives
        self._beats: set[tuple[str, datetime]] = set()
        self._changed = self._looked = now

    def look(self, now: float) -> float:
        """Seconds since the newest beat, as far as we could see."""
        beats = set(self._drives.order_by("-at").values_list("owner", "at")[:100])
        was_away = now - self._looked > LATE
        if was_away or beats - self._beats:
            self._changed = now
        self._beats, self._looked = beats, now
        return now - self._changed


class Watchdog:
    def __init__(self, cluster: Child, *, patience: float = STOP_WITHIN) -> None:
        self.cluster = cluster
        self.patience = patience
        self._any_beat = Pulse(DriveBeat.objects.all(), time.monotonic())
        self._lasting_beat = Pulse(DriveBeat.objects.filter(is_ending=False), time.monotonic())
        self._is_scheduled = False

    def run(self, interrupts: Interrupts) -> None:
        """Until asked to stop."""
        while not interrupts.count:
            self.tend()
            interrupts.wait(LOOK)
        self._stop(interrupts)

    def tend(self) -> None:
        """One round: a dead cluster is started, a silent one is killed and started, a drive is there or asked for."""
        self.cluster.reap()
        try:
            close_old_connections()
            self._look()
        except DatabaseError as error:
            log.error("The database does not answer, so the watchdog cannot see: %s", str(error).strip())
            connections.close_all()
        if not self.cluster.is_running:
            end_strays([self.cluster])
            connections.close_all()
            self.cluster.keep()

    def _look(self) -> None:
        if not self._is_scheduled:
            schedule_upkeep()
            self._is_scheduled = True
        now = time.monotonic()
        any_silence, lasting_silence = self._any_beat.look(now), self._lasting_beat.look(now)
        is_silent = any_silence > SILENT or lasting_silence > ENDLESS
        if is_silent and self.cluster.is_running and self.cluster.age > GRACE:
            log.error(
                "No drive has beaten for %.0f s: the queue's cluster is started again.", lasting_silence
            )
            self.cluster.kill()
        if not self.cluster.is_running:
            forget_the_killed()
        drives.ensure()

    def _stop(self, interrupts: Interrupts) -> None:
        try:
            drives.ask_to_stop()
        except DatabaseError as error:
            log.warning("The drives could not be asked to stop: %s", str(error).strip())
        connections.close_all()
        stop([self.cluster], seconds=self.patience, in_a_hurry=lambda: interrupts.count > 1)


def schedule_upkeep() -> None:
    """The sweep once a minute and the nightly round at three: one row each, however many watchdogs start at once."""
    now = timezone.now()
    _schedule("sweep", now, func=SWEEP, schedule_type=Schedule.MINUTES, minutes=1, repeats=-1)
    _schedule(
        "nightly", next_night(now), func=NIGHTLY, schedule_type=Schedule.DAILY, minutes=None, repeats=-1
    )


def _schedule(name: str, first_run: datetime, **wanted: Any) -> None:
    """A row that is there keeps its `next_run`, so that a start at the wrong moment does not skip a round.

    Each statement commits by itself: of two watchdogs that both add a row, the later one sees both and drops one.
    """
    ours = Schedule.objects.filter(name=name).order_by("pk")
    if not ours.exists():
        Schedule.objects.create(name=name, next_run=first_run, **wanted)
    ours.filter(pk__gt=Subquery(ours.values("pk")[:1])).delete()
    ours.update(**wanted)


def next_night(now: datetime) -> datetime:
    """The first time after `now` that it is three o'clock UTC."""
    tonight = now.astimezone(UTC).replace(hour=NIGHT, minute=0, second=0, microsecond=0)
    return tonight if tonight > now else tonight + timedelta(days=1)


def forget_the_killed() -> None:
    """Drops what the killed left behind: beats of drives of this machine, and tasks that their workers had taken.

    The queue would hand those tasks out again ten minutes later, and they would pile up. They carry nothing and come
    again by themselves, so nothing is lost where another machine's worker holds one.
    """
    DriveBeat.objects.filter(host=drives.HOST).delete()
    taken = OrmQ.objects.filter(lock__gt=timezone.now())
    ours = {DRIVE, SWEEP, NIGHTLY}
    OrmQ.objects.filter(pk__in=[row.pk for row in taken if row.func() in ours]).delete()


def watch(env: Mapping[str, str] = os.environ, *, patience: float = STOP_WITHIN) -> None:
    """Runs the cluster and the watchdog until SIGTERM or SIGINT, and `patience` seconds longer at most."""
    interrupts = Interrupts()
    adopt_orphans()
    manage = Path(settings.BASE_DIR) / "manage.py"
    cluster = Child("queue's cluster", [sys.executable, str(manage), "qcluster"], env)
    Watchdog(cluster, patience=patience).run(interrupts)
