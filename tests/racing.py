"""Races between real processes on real databases, with the product's own settings.

A `Track` keeps one warm process that has imported Django and opened no connection. For each race it forks one runner
per call; every runner opens a connection of its own, then all wait at a barrier and start together. The databases are
throw-away ones, empty for each race, and copies of one template, which is migrated once for all processes of a run.
"""

import fcntl
import hashlib
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import django
import psycopg
from django.core.management import call_command
from django.db import connection, connections

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 120
_TABLES = "accounts_user, accounts_wallet, accounts_capwindow, playground_variant, playground_upstream, playground_upstreamstate"
_SERVE = "from tests.racing import serve; serve()"


@dataclass(frozen=True)
class Outcome:
    """How one runner ended: what it returned, or the name and the text of what it raised."""

    value: Any = None
    error: str = ""
    message: str = ""
    seconds: float = 0.0


# --- In the test's process ----------------------------------------------------------------------------
class Databases(Protocol):
    """`template` is migrated once, for all processes of a run; `clear` gives the name of a copy with no rows of ours."""

    url: str
    template: str

    def create(self) -> None:
        """The template, still without tables."""

    def copy(self) -> None: ...

    def clear(self) -> str: ...

    def drop(self) -> None: ...

    def drop_template(self) -> None: ...


class SqliteDatabases:
    """A file for each race."""

    def __init__(self, shared: Path, folder: Path) -> None:
        self.template = str(shared / "template.sqlite3")
        self.url = f"sqlite:///{self.template}"
        self._raced = folder / "race.sqlite3"

    def create(self) -> None: ...

    def copy(self) -> None: ...

    def clear(self) -> str:
        for left in self._raced.parent.glob(f"{self._raced.name}*"):
            left.unlink()
        shutil.copy(self.template, self._raced)
        return str(self._raced)

    def drop(self) -> None: ...

    def drop_template(self) -> None: ...


class PostgresDatabases:
    """One database for all races of a track: emptying it is cheap, dropping one waits for a checkpoint."""

    def __init__(self, server: str, shared: Path) -> None:
        self._server = server
        self.template = f"race_template_{hashlib.sha256(str(shared).encode()).hexdigest()[:24]}"
        self._raced = f"race_{uuid.uuid4().hex}"
        self.url = urlunsplit(urlsplit(server)._replace(path=f"/{self._raced}"))

    def create(self) -> None:
        execute(self._server, f"CREATE DATABASE {self.template}")

    def copy(self) -> None:
        execute(self._server, f"CREATE DATABASE {self._raced} TEMPLATE {self.template}")

    def clear(self) -> str:
        execute(self.url, f"TRUNCATE {_TABLES} CASCADE")
        return self._raced

    def drop(self) -> None:
        execute(self._server, f"DROP DATABASE IF EXISTS {self._raced} WITH (FORCE)")

    def drop_template(self) -> None:
        execute(self._server, f"DROP DATABASE IF EXISTS {self.template} WITH (FORCE)")


def execute(server: str, statement: str) -> None:
    with psycopg.connect(server, autocommit=True, connect_timeout=10) as admin:
        admin.execute(statement)


class Track:
    """Where races are run, on a database that `clear` empties."""

    def __init__(self, databases: Databases, shared: Path, folder: Path) -> None:
        self.databases, self.folder = databases, folder
        env = os.environ | {
            "DJANGO_SETTINGS_MODULE": "playground.settings",
            "DATABASE_URL": databases.url,
            "DATA_DIR": str(folder),
        }
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, cwd=ROOT
        )
        self.database = databases.template
        self._migrate_once(shared / f"{type(databases).__name__}.migrated")
        databases.copy()

    def _migrate_once(self, done: Path) -> None:
        with open(done.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                self.databases.create()
                self.alone(call_command, "migrate", "--verbosity=0")
                done.touch()

    def clear(self) -> None:
        shutil.rmtree(self.folder / "pictures", ignore_errors=True)
        self.database = self.databases.clear()

    def race(self, run: Callable[..., Any], calls: Sequence[tuple[Any, ...]]) -> list[Outcome]:
        """Calls `run` with each of the argument tuples, each in a process of its own, all at once."""
        assert self._server.stdin and self._server.stdout
        pickle.dump((self.database, run, list(calls)), self._server.stdin)
        self._server.stdin.flush()
        outcomes: list[Outcome] = pickle.load(self._server.stdout)
        return outcomes

    def alone(self, run: Callable[..., Any], *arguments: Any) -> Any:
        [outcome] = self.race(run, [arguments])
        assert not outcome.error, f"{outcome.error}: {outcome.message}"
        return outcome.value

    def close(self) -> None:
        self._server.communicate(timeout=PATIENCE_S)


@contextmanager
def track_on(vendor: str, folder: Path, *, postgres: str, shared: Path | None = None) -> Iterator[Track]:
    """A track on `sqlite`, or on the server whose address is `postgres`; its database is gone afterwards.

    Processes that give the same `shared` folder use one template; who ends them all drops it.
    """
    alone = shared is None
    shared = shared or folder
    databases = SqliteDatabases(shared, folder) if vendor == "sqlite" else PostgresDatabases(postgres, shared)
    track = Track(databases, shared, folder)
    try:
        yield track
    finally:
        track.close()
        databases.drop()
        if alone:
            databases.drop_template()


# --- In the warm process, and in the runners that it forks --------------------------------------------
def serve() -> None:
    """Runs the races that arrive on stdin until it is closed."""
    django.setup()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a runner prints must not end up among the answers
    while True:
        try:
            database, run, calls = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(_race(database, run, calls), answers)
        answers.flush()


def _race(database: str, run: Callable[..., Any], calls: list[tuple[Any, ...]]) -> list[Outcome]:
    fork = multiprocessing.get_context("fork")
    start = fork.Barrier(len(calls))
    lanes = []
    for arguments in calls:
        ours, theirs = fork.Pipe(duplex=False)
        runner = fork.Process(target=_run, args=(theirs, start, database, run, arguments))
        runner.start()
        theirs.close()
        lanes.append((runner, ours))
    return [_finish(runner, result) for runner, result in lanes]


def _finish(runner: Any, result: Any) -> Outcome:
    try:
        outcome = result.recv() if result.poll(PATIENCE_S) else Outcome(error="NeverFinished")
    except EOFError:
        outcome = Outcome(error="Died")
    if outcome.error == "NeverFinished":
        runner.kill()
    runner.join()
    return outcome


def _run(result: Any, start: Any, database: str, run: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    if database:
        connection.settings_dict["NAME"] = database
    began = time.perf_counter()
    try:
        connection.ensure_connection()
        start.wait(PATIENCE_S)
        began = time.perf_counter()
        outcome = Outcome(run(*arguments), seconds=time.perf_counter() - began)
    except Exception as error:
        outcome = Outcome(None, type(error).__name__, str(error), time.perf_counter() - began)
    connections.close_all()
    result.send(outcome)
