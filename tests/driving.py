"""Runs a real drive of the engine in the test's process, until nothing is left to do."""

import threading

from django.db import connection

from playground import drives, engine
from playground.models import Job, Run


def drive_until_final(seconds: float = 20) -> None:
    """A real drive in this process, asked to stop when every job has ended."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            if not Job.objects.open().exists():
                drives.ask_to_stop()
        connection.close()

    watcher = threading.Thread(target=watch)
    watcher.start()
    ends = threading.Timer(seconds, drives.ask_to_stop)
    ends.start()
    engine.drive()
    ends.cancel()
    over.set()
    watcher.join()


def states(run: Run) -> list[str]:
    return sorted(run.jobs.values_list("state", flat=True))
