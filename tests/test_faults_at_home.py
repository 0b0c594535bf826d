"""Everything that can go wrong in our own house while jobs run: the disk, the database, the clock, a restart, a race."""

import errno
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from django.db import DatabaseError, connection, connections
from django.utils import timezone

from accounts import ledger
from accounts.models import User
from playground import drives, images, jobs, steps, upkeep
from playground.images import files
from playground.models import Job, Run
from tests.conftest import BASE_DIR
from tests.driving import drive_until_final, states, stored
from tests.fake_upstream import FakeUpstream
from tests.making import USD, give, leased, rendered, run_for

pytestmark = pytest.mark.django_db(transaction=True)
PRICE = 35_000
AWAY_S = 2.5
RACES = 1000


@pytest.fixture(scope="module")
def server() -> Iterator[FakeUpstream]:
    with FakeUpstream(ready_s=0.1, picture_kb=60) as up:
        yield up


@pytest.fixture
def up(server: FakeUpstream, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUpstream]:
    server.forget()
    settings.AIGENERATE_API_KEY, settings.AIGENERATE_BASE_URL = server.api_key, server.base_url
    settings.NET_ALLOWED_HOSTS = [server.host]
    settings.JOB_DEADLINE_S = 20
    monkeypatch.setattr(drives, "BEAT_S", 0.05)
    yield server
    server.behave(submit_s=0.0, ready_s=0.1)


@pytest.fixture
def rich(alice: User) -> User:
    give(alice, 100)
    return alice


def assert_all_came(up: FakeUpstream, alice: User, run: Run) -> None:
    """Each picture once: sent, stored and paid for."""
    connection.close()
    count = run.jobs.count()
    assert states(run) == ["succeeded"] * count
    assert len(up.stats()["creates"]) == count == len(up.stats()["tasks"])
    wallet = ledger.wallet_of(alice)
    assert (wallet.posted, wallet.held) == (100 * USD - count * PRICE, 0)
    assert upkeep.audit() == [] and len(stored()) == count


@contextmanager
def later(seconds: float, what: Callable[[], None]) -> Iterator[None]:
    """Does it beside what is in the block, and waits for it."""
    thread = threading.Timer(seconds, lambda: (what(), connection.close()))
    thread.start()
    yield
    thread.join()


# --- The disk -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=["full", "read-only", "broken"]
)
def test_a_picture_waits_for_a_disk_that_takes_nothing_for_a_while(
    number: int, up: FakeUpstream, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    heals_at, write, refused = time.monotonic() + AWAY_S, files._write, Counter[str]()

    def write_when_healed(file: Path, data: bytes) -> None:
        if time.monotonic() < heals_at:
            refused[file.name] += 1
            assert not Job.objects.filter(state="succeeded").exists()
            connection.close()
            raise OSError(number, "not now", str(file))
        write(file, data)

    monkeypatch.setattr(files, "_write", write_when_healed)
    monkeypatch.setattr(steps, "FETCH_ATTEMPTS", 1)  # which are for upstreams
    run = run_for(rich, count=2)
    drive_until_final()
    assert refused
    assert_all_came(up, rich, run)


def test_a_disk_that_takes_nothing_until_the_deadline_costs_alice_nothing(
    up: FakeUpstream, rich: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    settings.JOB_DEADLINE_S = 3
    with monkeypatch.context() as patch:
        patch.setattr(files, "_write", full)
        run = run_for(rich)
        drive_until_final()
    assert [(job.state, job.failure) for job in run.jobs.all()] == [("failed", "no_picture")]
    assert ledger.wallet_of(rich).available == 100 * USD and stored() == set() and upkeep.audit() == []
    settings.JOB_DEADLINE_S = 20
    run = run_for(rich)
    drive_until_final()
    assert states(run) == ["succeeded"]


def test_the_kernel_lets_nobody_write_for_a_while(up: FakeUpstream, rich: User) -> None:
    """Pictures, and the database where it is SQLite's: for this process every file is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, hard))
        time.sleep(AWAY_S)
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    up.behave(ready_s=1.0)
    run = run_for(rich, count=3)
    with later(0.5, fill):
        drive_until_final()
    assert_all_came(up, rich, run)


# --- The database -------------------------------------------------------------------------------------
def lock_sqlite(until: float) -> None:
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, timeout=20)
    other.execute("BEGIN EXCLUSIVE")
    time.sleep(until - time.time())
    other.execute("ROLLBACK")
    other.close()


def refuse_postgres(until: float) -> None:
    """Everybody is thrown out again and again, and nobody is let in."""
    at = connection.settings_dict
    with psycopg.connect(
        host=at["HOST"], port=at["PORT"] or 5432, user=at["USER"], password=at["PASSWORD"], dbname="postgres", autocommit=True
    ) as admin:  # fmt: skip
        admin.execute(f'ALTER DATABASE "{at["NAME"]}" ALLOW_CONNECTIONS false')
        try:
            while time.time() < until:
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [at["NAME"]]
                )
                time.sleep(0.1)
        finally:
            admin.execute(f'ALTER DATABASE "{at["NAME"]}" ALLOW_CONNECTIONS true')


def test_while_the_database_is_away_nothing_is_sent_and_afterwards_everything_goes_on(
    up: FakeUpstream, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "SENDING_AT_ONCE", 1)
    if connection.vendor == "sqlite":
        monkeypatch.setitem(connections.settings["default"]["OPTIONS"], "timeout", 0.2)
    up.behave(submit_s=0.2)
    run = run_for(rich, count=4)
    run.jobs.update(deadline=timezone.now() + timedelta(seconds=20))
    away: list[float] = []
    refused: list[bool] = []

    def go_away() -> None:
        until(lambda: bool(up.stats()["creates"]), 10)
        away.extend([time.time(), time.time() + AWAY_S])
        orderer = threading.Timer(1.0, order)
        orderer.start()
        (lock_sqlite if connection.vendor == "sqlite" else refuse_postgres)(away[1])
        orderer.join()

    def order() -> None:
        try:
            run_for(rich, count=4)
        except DatabaseError:
            refused.append(True)
        finally:
            connection.close()

    with later(0.0, go_away):
        drive_until_final()
    connection.close()
    assert refused and Run.objects.get() == run
    sent = [create["at"] for create in up.stats()["creates"]]
    # What was written down as sent just before may still arrive.
    assert not [at for at in sent if away[0] + 0.3 < at < away[1]]
    assert min(sent) < away[0] and max(sent) > away[1]
    assert_all_came(up, rich, run)


def test_a_job_that_a_failed_step_left_behind_is_taken_up_again(
    up: FakeUpstream, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that is away for longer than our patience fails the step, and giving the lease back too."""
    monkeypatch.setattr(jobs, "LEASE", timedelta(seconds=1))
    ready, let_go, fails = jobs.ready, jobs.let_go, [True, True]

    def fail_once(then: Callable[..., bool]) -> Callable[..., bool]:
        def call(*args: Any, **more: Any) -> bool:
            if fails:
                raise RuntimeError(f"the database is away: {fails.pop()}")
            return then(*args, **more)

        return call

    monkeypatch.setattr(jobs, "ready", fail_once(ready))
    monkeypatch.setattr(jobs, "let_go", fail_once(let_go))
    run = run_for(rich)
    drive_until_final(8)
    assert not fails
    assert_all_came(up, rich, run)


# --- The clock ----------------------------------------------------------------------------------------
@pytest.fixture
def turn_the_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    now, moved = timezone.now, [timedelta()]
    monkeypatch.setattr(timezone, "now", lambda: now() + moved[0])

    def turn(by: timedelta) -> None:
        moved[0] += by

    return turn


@pytest.mark.parametrize("minutes", [10, -10])
def test_a_clock_that_jumps_loses_nothing_and_does_nothing_twice(
    minutes: int,
    up: FakeUpstream,
    rich: User,
    settings: Any,
    turn_the_clock: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While some are being sent, some run, and some wait their turn."""
    monkeypatch.setattr(steps, "SENDING_AT_ONCE", 2)
    settings.JOB_DEADLINE_S = 900
    up.behave(submit_s=0.5, ready_s=0.5)
    run = run_for(rich, count=4)
    with later(0.8, lambda: turn_the_clock(timedelta(minutes=minutes))):
        drive_until_final()
    assert_all_came(up, rich, run)


def test_an_answer_that_comes_when_another_drive_has_taken_the_job_for_lost_is_believed(
    up: FakeUpstream, rich: User, turn_the_clock: Any, settings: Any
) -> None:
    """As a clock that jumps makes it, or a database that is away for longer than a lease."""
    settings.JOB_DEADLINE_S = 900
    mine = leased(run_for(rich).jobs.get(), "first")
    assert jobs.sending(mine)
    turn_the_clock(timedelta(minutes=10))
    [theirs] = jobs.claim("second", 10)
    assert jobs.lost(theirs, "the process that sent it died before the answer came")
    assert not jobs.started(mine, "up-1", memo="jobs", cost_micros=7)
    job = Job.objects.get()
    assert (job.state, job.upstream_id, job.upstream_memo, job.lease_owner) == ("running", "up-1", "jobs", "")
    assert (job.reported_cost_micros, job.outcome_unknown) == (7, False)
    assert [job.pk for job in jobs.claim("third", 10)] == [job.pk]


def test_an_answer_of_an_earlier_create_is_not_believed_for_a_later_one(up: FakeUpstream, rich: User) -> None:
    first = leased(run_for(rich).jobs.get(), "first")
    assert jobs.sending(first)
    Job.objects.update(lease_owner="second", submit_attempts=2)
    assert not jobs.started(first, "up-1")
    assert Job.objects.get().state == "submitting"


# --- A restart ----------------------------------------------------------------------------------------
@contextmanager
def worker(env: dict[str, str]) -> Iterator[None]:
    command = [sys.executable, "manage.py", "worker"]
    process = psutil.Popen(command, cwd=BASE_DIR, env=env, stderr=subprocess.DEVNULL)
    try:
        until(lambda: drives.alive().exists(), 30)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(15)


def until(is_so: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.kills
def test_a_restart_in_the_middle_loses_nothing_and_sends_nothing_twice(
    up: FakeUpstream, rich: User, process_env: dict[str, str], settings: Any
) -> None:
    """Some are being sent, some run and some are fetched when the first worker is told to stop."""
    settings.JOB_DEADLINE_S = 120
    up.behave(submit_s=1.5, ready_s=1.0)
    env = process_env | {
        "AIGENERATE_API_KEY": up.api_key, "AIGENERATE_BASE_URL": up.base_url,
        "NET_ALLOWED_HOSTS": up.host, "LOG_LEVEL": "CRITICAL",
    }  # fmt: skip
    with worker(env):
        run = run_for(rich, count=4)
        until(lambda: run.jobs.filter(state="running").count() == 4, 10)
        second = run_for(rich, count=4)
        until(lambda: second.jobs.filter(state="submitting").count() == 4, 10)
    assert not Job.objects.filter(state="submitting").exists()  # it waited for the answers
    with worker(env):
        until(lambda: not Job.objects.open().exists(), 30)
    assert set(Job.objects.values_list("state", "failure")) == {("succeeded", "")}
    assert Job.objects.count() == 8 == len(up.stats()["creates"]) and upkeep.audit() == []
    assert ledger.wallet_of(rich).posted == 100 * USD - 8 * PRICE


# --- A race -------------------------------------------------------------------------------------------
def test_a_cancel_that_races_success_a_thousand_times_ends_in_one_or_the_other(
    rich: User, settings: Any
) -> None:
    """On the sandbox, where a picture can be cancelled until the last moment, because it costs nobody anything."""
    settings.AIGENERATE_API_KEY = ""
    give(rich, 1000)
    for _ in range(RACES // 4):
        run_for(rich, count=4)
    Job.objects.update(state="fetching", lease_owner="drive", submitted=timezone.now())
    made, both = rendered(with_preview=False), threading.Barrier(2)
    racing = list(Job.objects.select_related("hold"))
    held = ledger.wallet_of(rich).held

    def in_turn(do: Callable[[Job], bool], seed: int) -> list[bool]:
        choose, won = random.Random(seed), []
        for job in racing:
            both.wait(30)
            time.sleep(choose.uniform(0, 0.002))
            won.append(do(job))
        connection.close()
        return won

    def succeed(job: Job) -> bool:
        mine = Job.objects.get(pk=job.pk)
        return jobs.succeed(mine, images.new_key(job.pk), made)

    with ThreadPoolExecutor(2) as threads:
        success = threads.submit(in_turn, succeed, 1)
        cancel = threads.submit(in_turn, lambda job: jobs.cancel(job, by=rich), 2)
    ends = Counter(zip(success.result(), cancel.result(), strict=True))
    assert set(ends) == {(True, False), (False, True)} and min(ends.values()) > RACES // 50
    wallet, paid = ledger.wallet_of(rich), ends[True, False] * PRICE
    assert held == RACES * PRICE and (wallet.posted, wallet.held) == (1100 * USD - paid, 0)
    assert Counter(Job.objects.values_list("state", flat=True)) == {
        "succeeded": ends[True, False], "cancelled": ends[False, True]
    }  # fmt: skip
    assert upkeep.audit(with_files=False) == []
