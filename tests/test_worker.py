"""The watchdog: what it sees, what it does about it, and a real one that is robbed of its cluster."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
import time_machine
from django.db import OperationalError, close_old_connections
from django.utils import timezone
from django_q.models import OrmQ, Schedule
from django_q.tasks import async_task

from playground import drives, watchdog
from playground.models import DriveBeat
from tests.conftest import BASE_DIR


class FakeCluster:
    """A child that only remembers what was done to it."""

    def __init__(self) -> None:
        self.is_running, self.age, self.deeds = True, 60.0, list[str]()

    def reap(self) -> None: ...

    def kill(self) -> None:
        self.is_running = False
        self.deeds.append("kill")

    def keep(self) -> None:
        self.is_running = True
        self.deeds.append("start")


class Clock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(watchdog, "time", clock)
    monkeypatch.setattr(
        watchdog, "end_strays", lambda children: None
    )  # it would end the test runner's own helpers
    monkeypatch.setattr(watchdog.connections, "close_all", lambda: None)
    monkeypatch.setattr(watchdog, "close_old_connections", lambda: None)
    return clock


@pytest.fixture
def cluster() -> FakeCluster:
    return FakeCluster()


@pytest.fixture
def dog(db: None, clock: Clock, cluster: FakeCluster) -> watchdog.Watchdog:
    return watchdog.Watchdog(cluster)  # type: ignore[arg-type]


def pass_seconds(
    dog: watchdog.Watchdog, clock: Clock, seconds: int, each: Callable[[], Any] = lambda: None
) -> None:
    for _ in range(seconds):
        clock.now += 1
        each()
        dog.tend()


def beat(owner: str = "there:1", **fields: Any) -> DriveBeat:
    fields = {"host": "there", "at": timezone.now(), **fields}
    return DriveBeat.objects.update_or_create(owner=owner, defaults=fields)[0]


def test_a_cluster_whose_drive_beats_is_left_alone(
    dog: watchdog.Watchdog, clock: Clock, cluster: FakeCluster
) -> None:
    pass_seconds(dog, clock, 60, beat)
    assert cluster.deeds == []
    assert not OrmQ.objects.exists()


def test_a_silent_cluster_gets_a_nudge_at_once_and_is_killed_after_twelve_seconds(
    dog: watchdog.Watchdog, clock: Clock, cluster: FakeCluster
) -> None:
    beat(at=timezone.now() - timedelta(minutes=1))
    dog.tend()
    assert [row.func() for row in OrmQ.objects.all()] == ["playground.tasks.drive"]
    pass_seconds(dog, clock, 12)
    assert cluster.deeds == []
    pass_seconds(dog, clock, 1)
    assert cluster.deeds == ["kill", "start"]


def test_a_new_cluster_has_fifteen_seconds_to_get_going(
    dog: watchdog.Watchdog, clock: Clock, cluster: FakeCluster
) -> None:
    cluster.age = 15
    pass_seconds(dog, clock, 60)
    assert cluster.deeds == []


def test_drives_that_are_ending_get_some_time_but_not_for_ever(
    dog: watchdog.Watchdog, clock: Clock, cluster: FakeCluster
) -> None:
    pass_seconds(dog, clock, 20, lambda: beat(is_ending=True))
    assert cluster.deeds == []
    pass_seconds(dog, clock, 1, lambda: beat(is_ending=True))
    assert cluster.deeds == ["kill", "start"]


def test_a_wrong_clock_elsewhere_changes_nothing(
    dog: watchdog.Watchdog, clock: Clock, cluster: FakeCluster
) -> None:
    beat("dead:1", at=timezone.now() + timedelta(days=1))
    dog.tend()
    pass_seconds(dog, clock, 12)
    assert cluster.deeds == []
    pass_seconds(dog, clock, 1)
    assert cluster.deeds == ["kill", "start"]


def test_a_machine_that_slept_does_not_blame_its_cluster(
    dog: watchdog.Watchdog, clock: Clock, cluster: FakeCluster
) -> None:
    pass_seconds(dog, clock, 5, beat)
    clock.now += 600
    pass_seconds(dog, clock, 11)
    assert cluster.deeds == []


def test_a_database_that_does_not_answer_is_no_reason_to_kill(
    dog: watchdog.Watchdog, clock: Clock, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: watchdog.Pulse, now: float) -> float:
        raise OperationalError("the server is restarting")

    with monkeypatch.context() as patch:
        patch.setattr(watchdog.Pulse, "look", fails)
        pass_seconds(dog, clock, 60)
    pass_seconds(dog, clock, 5)
    assert cluster.deeds == []


def test_a_dead_cluster_is_started_even_without_a_database(
    dog: watchdog.Watchdog, cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> None:
        raise OperationalError("the server is restarting")

    monkeypatch.setattr(drives, "ensure", fails)
    cluster.is_running = False
    dog.tend()
    assert cluster.deeds == ["start"]


def test_what_killed_workers_had_taken_does_not_pile_up(db: None) -> None:
    for name in ["drive", "sweep", "nightly"]:
        async_task(f"playground.tasks.{name}")
    async_task("math.sqrt")
    OrmQ.objects.update(lock=timezone.now() + timedelta(seconds=590))
    async_task("playground.tasks.drive")
    beat("here:1", host=drives.HOST)
    beat("there:1")
    watchdog.forget_the_killed()
    assert sorted(row.func() for row in OrmQ.objects.all()) == ["math.sqrt", "playground.tasks.drive"]
    assert [row.owner for row in DriveBeat.objects.all()] == ["there:1"]


def test_the_upkeep_is_scheduled_once_however_often_a_watchdog_starts(db: None) -> None:
    for name in ["sweep", "sweep", "nightly", "nightly"]:
        Schedule.objects.create(
            name=name, func="old.name", schedule_type=Schedule.HOURLY, minutes=7, repeats=1
        )
    for _ in range(2):
        watchdog.schedule_upkeep()
    rows = Schedule.objects.order_by("-name").values_list("func", "schedule_type", "minutes", "repeats")
    assert list(rows) == [
        ("playground.tasks.sweep", "I", 1, -1),
        ("playground.tasks.nightly", "D", None, -1),
    ]


@pytest.mark.parametrize(
    ("started", "runs"),
    [
        ("2026-03-01 02:59:59", "2026-03-01 03:00:00"),
        ("2026-03-01 03:00:00", "2026-03-02 03:00:00"),
        ("2026-12-31 23:10:00", "2027-01-01 03:00:00"),
    ],
)
def test_the_nightly_round_is_at_three_and_a_restart_does_not_put_it_off(
    db: None, started: str, runs: str
) -> None:
    wanted = datetime.fromisoformat(runs).replace(tzinfo=UTC)
    for hours in (0, 30):
        with time_machine.travel(
            datetime.fromisoformat(started).replace(tzinfo=UTC) + timedelta(hours=hours)
        ):
            watchdog.schedule_upkeep()
        assert Schedule.objects.get(name="nightly").next_run == wanted
    row = Schedule.objects.get(name="nightly")
    assert row.calculate_next_run() == wanted + timedelta(days=1)


# --- A real one ---------------------------------------------------------------------------------------
@pytest.fixture
def worker(transactional_db: None, process_env: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen([sys.executable, "manage.py", "worker"], cwd=BASE_DIR, env=process_env)
    tree = psutil.Process(process.pid)
    yield process
    left = [*tree.children(recursive=True), tree] if process.poll() is None else []
    for each in left:
        each.kill()
    process.wait()


def beats_anew(since: set[str], seconds: float) -> float:
    """Seconds until a drive beats that was not there before."""
    begun = time.monotonic()
    while not set(DriveBeat.objects.values_list("owner", flat=True)) - since:
        assert time.monotonic() - begun < seconds
        time.sleep(0.1)
        close_old_connections()
    return time.monotonic() - begun


@pytest.mark.once
@pytest.mark.kills
@pytest.mark.parametrize("victim", ["cluster", "sentinel", "whole group"])
def test_a_drive_beats_again_within_thirty_seconds(worker: "subprocess.Popen[bytes]", victim: str) -> None:
    beats_anew(set(), 30)
    before = set(DriveBeat.objects.values_list("owner", flat=True))
    (cluster,) = psutil.Process(worker.pid).children()
    (sentinel,) = cluster.children()
    group = [cluster, *cluster.children(recursive=True)]
    for process in {"cluster": [cluster], "sentinel": [sentinel], "whole group": group}[victim]:
        process.kill()
    beats_anew(before, 30)
    psutil.wait_procs(group, timeout=5)
    assert not any(process.is_running() for process in group)

    worker.send_signal(signal.SIGTERM)
    everything = psutil.Process(worker.pid).children(recursive=True)
    assert worker.wait(6) == 0
    assert not any(process.is_running() for process in everything)
