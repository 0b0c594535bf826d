"""Runs a real drive of the engine in the test's process, until nothing is left to do."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, connections

from playground import drives, engine
from playground.models import Job, Run


def drive_until_final(seconds: float = 20, then: Callable[[], object] | None = None) -> None:
    """A real drive in this process, asked to stop when every job has ended.

    `then` is called when they have for the first time, and may order more of the same drive.
    """
    more = [then] if then else []

    def is_done() -> bool:
        if Job.objects.open().exists():
            return False
        if more:
            more.pop()()
            return False
        return True

    drive_until(is_done, seconds)


def drive_until(is_done: Callable[[], bool], seconds: float = 20) -> None:
    """A real drive in this process, asked to stop when `is_done` says so, and after these seconds in any case."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            try:
                if is_done():
                    drives.ask_to_stop()
            except DatabaseError:  # which is what some tests are about
                connection.close()
        connection.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    ends = threading.Timer(seconds, drives.ask_to_stop)
    ends.start()
    engine.drive()
    ends.cancel()
    over.set()
    watcher.join()


@contextmanager
def driving(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Drives jobs in a thread of this process meanwhile, as the worker does in one of its own."""
    monkeypatch.setattr(engine, "LIFETIME_S", 1.0)
    is_over = threading.Event()

    def drive() -> None:
        while not is_over.wait(0.05):
            engine.drive()
        connections.close_all()

    thread = threading.Thread(target=drive)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def states(run: Run) -> list[str]:
    return sorted(run.jobs.values_list("state", flat=True))


def stored() -> set[Path]:
    """Folders that hold any file of a picture, half-written ones too."""
    return {path.parent for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()}
