"""Calls that wait for a picture: one look a moment at the job table, for all who wait in this process together.

When the process is asked to stop, all of them are answered: a connection that just breaks off is one that OpenAI's
clients try again by themselves, and that would be a second picture.
"""

import logging
import signal
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Collection
from contextlib import AbstractContextManager

from django.conf import settings
from django.db import connection

from playground import turnstile
from playground.api.places import Places
from playground.models import Job

logger = logging.getLogger(__name__)

LOOK_S = 0.2
IDLE_S = 10.0  # without anybody who waits, before the one who looks goes


class Watch:
    """The jobs that somebody waits for, and the thread that looks at them while there are any."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._awaited: dict[uuid.UUID, list[threading.Event]] = defaultdict(list)
        self._thread: threading.Thread | None = None
        self.is_ending = False

    def wait(self, job_id: uuid.UUID, seconds: float) -> bool:
        """Until the job has ended; False where it has not in that time, or where nobody may wait any more."""
        ended = threading.Event()
        with self._changed:
            if self.is_ending:
                return False
            self._awaited[job_id].append(ended)
            if self._thread is None:
                self._thread = threading.Thread(target=self._look, name="waiting", daemon=True)
                self._thread.start()
            self._changed.notify()
        try:
            return ended.wait(max(seconds, 0)) and not self.is_ending
        finally:
            self._forget(job_id, ended)

    def end(self) -> None:
        """Lets go all who wait, and whoever comes after them."""
        with self._changed:
            self.is_ending = True
            for event in (event for waiters in self._awaited.values() for event in waiters):
                event.set()

    def _forget(self, job_id: uuid.UUID, ended: threading.Event) -> None:
        with self._changed:
            waiters = self._awaited.get(job_id, [])
            if ended in waiters:
                waiters.remove(ended)
            if not waiters:
                self._awaited.pop(job_id, None)

    def _look(self) -> None:
        try:
            while self._somebody_waits():
                try:
                    self._tell(_ended(list(self._awaited)))
                except Exception:
                    logger.exception("looking at the jobs that somebody waits for")
                    connection.close()
                time.sleep(LOOK_S)
        finally:
            connection.close()

    def _somebody_waits(self) -> bool:
        with self._changed:
            if not self._awaited:
                self._changed.wait(IDLE_S)
            if not self._awaited:
                self._thread = None
            return bool(self._awaited)

    def _tell(self, ended: Collection[uuid.UUID]) -> None:
        with self._changed:
            for job_id in ended:
                for event in self._awaited.get(job_id, []):
                    event.set()


def _ended(job_ids: list[uuid.UUID]) -> list[uuid.UUID]:
    return list(Job.objects.filter(pk__in=job_ids, finished__isnull=False).values_list("pk", flat=True))


_watch = Watch()
# Two thirds are the most for one account: repeats of one call wait, too, and could leave nobody else a place.
_room = Places(
    settings.API_WAITING,
    each=max(settings.API_WAITING * 2 // 3, 1),
    words="Too many calls wait for pictures at the moment. Nothing was made: try again, or use createTask.",
)


def room(user_id: int) -> AbstractContextManager[None]:
    """A place among those who may wait. Raises Problem, before anything is made, where none is free for them."""
    return _room.one(user_id)


def until_ended(job_ids: Collection[uuid.UUID], seconds: float) -> bool:
    """Waits for all of them, out of everybody's way; False where time was up before."""
    deadline = time.monotonic() + seconds
    with turnstile.stepped_aside():
        return all(_watch.wait(job_id, deadline - time.monotonic()) for job_id in job_ids)


def is_ending() -> bool:
    return _watch.is_ending


# --- The end of the process ---------------------------------------------------------------------------
def end_with_process() -> None:
    """From now on those who wait are let go when this process is asked to stop. For the main thread of a server.

    The web server sets its handlers of signals later, so we hear of them beside it.
    """
    hears, told = socket.socketpair()
    told.setblocking(False)
    signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_hear, args=(hears, told), name="signals", daemon=True).start()


def _hear(hears: socket.socket, told: socket.socket) -> None:
    """For ever: Python writes each signal to the number of `told`, which would be another file's once it is closed."""
    while heard := hears.recv(64):
        if {signal.SIGTERM, signal.SIGINT} & set(heard):
            _watch.end()
