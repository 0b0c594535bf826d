"""Real processes, really killed, while jobs run: nothing is lost, made twice upstream, or charged twice."""

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from django.db import connection

from accounts import ledger
from accounts.models import User
from playground import drives, upkeep
from playground.models import DriveBeat, Job, Run
from tests.fake_upstream import FakeUpstream
from tests.making import USD, give, run_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.kills]

ROOT = Path(__file__).resolve().parents[1]
PRICE = 35_000
OTHERS = ["idle", "sentinel", "parent"]


@pytest.fixture
def up() -> Iterator[FakeUpstream]:
    with FakeUpstream(submit_s=0.2, poll_s=0.02, ready_s=3, picture_kb=60) as server:
        yield server


@pytest.fixture
def worker(up: FakeUpstream, process_env: dict[str, str], settings: Any) -> Iterator[psutil.Popen]:
    """The watchdog and its cluster, on the test's database."""
    settings.AIGENERATE_API_KEY = up.api_key
    ours = {
        "AIGENERATE_API_KEY": up.api_key,
        "AIGENERATE_BASE_URL": up.base_url,
        "NET_ALLOWED_HOSTS": up.host,
        "LOG_LEVEL": "CRITICAL",
    }
    command = [sys.executable, "manage.py", "worker", "--patience", "20"]
    process = psutil.Popen(command, cwd=ROOT, env=process_env | ours, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
        process.wait(30)


def family(worker: psutil.Popen) -> dict[str, list[psutil.Process]]:
    """Who can be killed: the cluster's parent, its sentinel, and the sentinel's children (workers, pusher, monitor)."""
    parents = worker.children()
    sentinels = [child for parent in parents for child in parent.children()]
    workers = [child for sentinel in sentinels for child in sentinel.children()]
    return {"parent": parents, "sentinel": sentinels, "worker": workers}


def until(is_so: Any, seconds: float, what: str) -> float:
    start = time.monotonic()
    while not is_so():
        assert time.monotonic() - start < seconds, f"{what} took more than {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - start


def is_driven() -> bool:
    return drives.alive().exists()


def drive_pid() -> int | None:
    newest = DriveBeat.objects.order_by("-started").values_list("owner", flat=True).first()
    return int(newest.split(":")[-2]) if newest else None


def kill_one(worker: psutil.Popen, who: str, choose: random.Random) -> bool:
    driving = drive_pid()
    processes = family(worker)["worker" if who in ("driving", "idle") else who]
    if who == "driving":
        processes = [process for process in processes if process.pid == driving]
    elif who == "idle":
        processes = [process for process in processes if process.pid != driving]
    if processes:
        choose.choice(processes).kill()
    return bool(processes)


# How the others are missed is the same on every database; at random, below, they all are killed on both.
@pytest.mark.parametrize("who", ["driving", *[pytest.param(who, marks=pytest.mark.once) for who in OTHERS]])
def test_work_goes_on_within_30_seconds_of_any_kill(
    who: str, up: FakeUpstream, worker: psutil.Popen, alice: User, settings: Any
) -> None:
    """A job that is being sent when its sender is killed ends at its deadline; the next ones must succeed."""
    settings.JOB_DEADLINE_S = 20
    give(alice)
    until(is_driven, 30, "the first drive")
    run = run_for(alice, count=4)
    until(lambda: run.jobs.filter(state="running").count() == 4, 10, "submitting")
    until(lambda: kill_one(worker, who, random.Random(1)), 10, f"finding the {who}")
    until(lambda: succeeds(run_for(alice)), 30, f"recovery from killing the {who}")
    until(lambda: not Job.objects.open().exists(), 30, "finishing everything")
    assert run.jobs.filter(state="succeeded").count() == 4
    assert_nothing_is_wrong(up, alice, 10)


def succeeds(run: Run) -> bool:
    """Whether its picture comes within eight seconds; the upstream needs three."""
    end = time.monotonic() + 8
    while time.monotonic() < end and not run.jobs.filter(finished__isnull=False).exists():
        time.sleep(0.05)
    return run.jobs.filter(state="succeeded").exists()


def test_random_kills_lose_nothing_and_repeat_nothing(
    up: FakeUpstream, worker: psutil.Popen, alice: User, settings: Any
) -> None:
    settings.JOB_DEADLINE_S = 60  # which is when those whose sender was killed in the middle of the call end
    give(alice, 20)
    choose = random.Random(20)
    until(is_driven, 30, "the first drive")
    for _ in range(6):
        for _ in range(6):
            run_for(alice, count=1, prompt=f"a fox and {choose.random()}")
        time.sleep(choose.uniform(0.2, 3.0))
        kill_one(worker, choose.choice(["driving", "driving", "idle", "sentinel", "parent"]), choose)
        time.sleep(choose.uniform(0.5, 3.0))
    until(is_driven, 30, "recovery after the last kill")
    until(lambda: not Job.objects.open().exists(), 80, "finishing everything")
    assert Job.objects.filter(state="succeeded").count() >= 12
    assert_nothing_is_wrong(up, alice, 20)


def assert_nothing_is_wrong(up: FakeUpstream, alice: User, usd: int) -> None:
    connection.close()
    ended = list(Job.objects.values_list("state", "failure"))
    assert {failure for state, failure in ended if state != "succeeded"} <= {"outcome_unknown", "timed_out"}
    created = Job.objects.exclude(upstream_id=None).values_list("upstream_id", flat=True)
    assert len(set(created)) == len(created)
    calls = sum(up.stats()["calls"].values())
    assert calls <= len(ended), "a job was sent twice"
    paid = sum(state == "succeeded" for state, _ in ended)
    assert ledger.wallet_of(alice).posted == usd * USD - paid * PRICE
    assert ledger.wallet_of(alice).held == 0
    assert upkeep.audit() == []


@pytest.mark.once
def test_a_patient_worker_waits_for_the_answer_to_a_paid_call(
    up: FakeUpstream, worker: psutil.Popen, alice: User
) -> None:
    up.behave(submit_s=8)
    until(is_driven, 30, "the first drive")
    give(alice)
    run = run_for(alice)
    until(lambda: up.stats()["creates"], 10, "the create")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    job = run.jobs.get()
    assert (job.state, job.lease_owner, bool(job.upstream_id)) == ("running", "", True)
