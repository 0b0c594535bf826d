"""The engine against a real HTTP upstream: what people, the books and the upstream see at the end."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from accounts import ledger
from accounts.models import User, Wallet
from playground import drives, engine, jobs, steps, upkeep
from playground.models import DriveBeat, Job, Picture, Run, Switch
from tests.driving import drive_until_final, states
from tests.fake_upstream import FakeUpstream
from tests.making import FLEX_2K, PRO, USD, give, run_for

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeUpstream]:
    with FakeUpstream(ready_s=0.1, picture_kb=60) as up:
        yield up


@pytest.fixture
def up(server: FakeUpstream, settings: Any) -> FakeUpstream:
    server.forget()
    settings.AIGENERATE_API_KEY, settings.AIGENERATE_BASE_URL = server.api_key, server.base_url
    settings.NET_ALLOWED_HOSTS = [server.host]
    return server


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drives, "BEAT_S", 0.05)


@pytest.fixture
def rich(alice: User) -> User:
    give(alice)
    return alice


def test_pictures_arrive_are_charged_once_and_asked_for_once(up: FakeUpstream, rich: User) -> None:
    run = run_for(rich, PRO, FLEX_2K, count=2)
    drive_until_final()
    assert states(run) == ["succeeded"] * 4
    assert ledger.wallet_of(rich).posted == 10 * USD - 2 * 35_000 - 2 * 168_000
    assert sum(up.stats()["calls"].values()) == 4 and upkeep.audit() == []


def test_the_untouched_bytes_are_what_the_upstream_sent(up: FakeUpstream, rich: User) -> None:
    run_for(rich)
    drive_until_final()
    picture = Picture.objects.get()
    assert (picture.width, picture.height, picture.format) == (1024, 1024, "jpeg")


@pytest.mark.parametrize(
    ("prompt", "failure"),
    [("a fox [[fail]]", "upstream_failed"), ("a fox [[moderated]]", "moderated")],
)
def test_an_upstream_that_fails_costs_nothing(
    up: FakeUpstream, rich: User, prompt: str, failure: str
) -> None:
    run = run_for(rich, prompt=prompt)
    drive_until_final()
    job = run.jobs.get()
    assert (job.state, job.failure) == ("failed", failure)
    assert ledger.wallet_of(rich).available == 10 * USD and upkeep.audit() == []


def test_a_create_that_is_known_not_to_have_started_is_sent_again(up: FakeUpstream, rich: User) -> None:
    up.fault(where="create", kind="status", status=429, code=429, retry_after="1", times=1)
    run = run_for(rich)
    drive_until_final()
    assert states(run) == ["succeeded"] and run.jobs.get().submit_attempts == 2


def test_a_lost_answer_is_never_sent_again(up: FakeUpstream, rich: User, settings: Any) -> None:
    settings.JOB_DEADLINE_S = 4
    up.fault(where="create", kind="reset", started=True)
    run = run_for(rich)
    drive_until_final()
    job = run.jobs.get()
    assert (job.state, job.failure) == ("failed", "outcome_unknown")
    assert sum(up.stats()["calls"].values()) == 1
    assert ledger.wallet_of(rich).available == 10 * USD
    assert ledger.house(Wallet.House.SUSPENSE).posted == -35_000 and upkeep.audit() == []


def test_a_callback_finds_the_job_whose_answer_was_lost(up: FakeUpstream, rich: User, settings: Any) -> None:
    settings.BASE_URL = "http://playground.example"
    up.fault(where="create", kind="reset", started=True, times=1)
    run = run_for(rich)
    finder = threading.Timer(1.0, call_back, [up, run])
    finder.start()
    drive_until_final()
    finder.join()
    assert states(run) == ["succeeded"] and sum(up.stats()["calls"].values()) == 1
    assert ledger.wallet_of(rich).posted == 10 * USD - 35_000


def test_a_hundred_callbacks_wake_a_job_and_never_take_it_twice(
    up: FakeUpstream, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LIFETIME_S", 2.0)
    begun: list[Any] = []
    see_through = steps.Steps.see_through

    async def counted(self: steps.Steps, job: Job) -> None:
        begun.append(job.pk)
        await see_through(self, job)

    monkeypatch.setattr(steps.Steps, "see_through", counted)
    run = run_for(rich, prompt="a fox [[slow]]")
    token = run.jobs.get().callback_token

    def pester() -> None:
        for _ in range(100):
            jobs.hint(token, "")
            time.sleep(0.015)
        connection.close()

    pesterer = threading.Thread(target=pester)
    pesterer.start()
    engine.drive()
    pesterer.join()
    job = run.jobs.get()
    assert job.state == "running" and begun == [job.pk]
    assert up.stats()["polls"] > 5


def test_a_create_that_is_refused_cost_nobody_anything(up: FakeUpstream, rich: User) -> None:
    up.fault(where="create", kind="status", status=401, code=401)
    run = run_for(rich)
    drive_until_final()
    assert run.jobs.get().failure == "upstream_unavailable"
    assert ledger.wallet_of(rich).available == 10 * USD
    assert ledger.house(Wallet.House.SUSPENSE).posted == 0 and upkeep.audit() == []


def test_the_kill_switch_stops_what_a_drive_has_claimed_but_not_yet_sent(
    up: FakeUpstream, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LIFETIME_S", 2.5)
    monkeypatch.setattr(steps, "SENDING_AT_ONCE", 1)
    up.behave(submit_s=0.5)
    run = run_for(rich, count=4)
    switched = threading.Timer(
        0.4, lambda: (Switch.objects.create(name="dispatch", is_on=False), connection.close())
    )
    switched.start()
    engine.drive()
    switched.join()
    up.behave(submit_s=0.0)
    assert len(up.stats()["creates"]) <= 1
    assert run.jobs.filter(state="queued", lease_owner="").count() == 4 - len(up.stats()["creates"])


def call_back(up: FakeUpstream, run: Run) -> None:
    """What the upstream would send, after a lie that must not be believed."""
    job = run.jobs.get()
    while not up.stats()["tasks"]:
        time.sleep(0.1)
    for task_id in ("task_of_somebody_else", up.stats()["tasks"][0]["id"]):
        body = {"code": 200, "data": {"taskId": task_id, "state": "fail"}}
        assert Client().post(f"/hooks/{job.callback_token}/", body, "application/json").status_code == 200
    connection.close()


def test_a_deadline_ends_what_never_gets_ready(up: FakeUpstream, rich: User, settings: Any) -> None:
    settings.JOB_DEADLINE_S = 2
    run = run_for(rich, prompt="a fox [[slow]]")
    drive_until_final()
    job = run.jobs.get()
    assert (job.state, job.failure) == ("failed", "timed_out")
    assert ledger.wallet_of(rich).available == 10 * USD


def test_half_a_picture_is_no_picture(up: FakeUpstream, rich: User) -> None:
    up.fault(where="file", kind="corrupt_picture")
    run = run_for(rich)
    drive_until_final()
    assert run.jobs.get().failure == "bad_picture" and not Picture.objects.exists()
    assert ledger.wallet_of(rich).available == 10 * USD


def test_a_private_result_address_is_refused(up: FakeUpstream, rich: User, settings: Any) -> None:
    settings.NET_ALLOWED_HOSTS = []
    run = run_for(rich)
    drive_until_final()
    assert run.jobs.get().state == "failed" and up.stats()["downloads"] == 0


def test_without_a_key_the_sandbox_draws(rich: User, settings: Any) -> None:
    settings.SANDBOX_DELAY_S = 0.1
    run = run_for(rich, PRO, count=2, pay="preview")
    drive_until_final()
    assert states(run) == ["succeeded"] * 2 and run.jobs.first().provider == "sandbox"
    assert Picture.objects.filter(is_locked=True).count() == 2


def test_the_sandbox_is_sent_again_what_a_dead_sender_left(rich: User, settings: Any) -> None:
    settings.SANDBOX_DELAY_S = 0.0
    run = run_for(rich)
    [job] = jobs.claim("dead", 1)
    assert jobs.sending(job)
    Job.objects.update(next_look=job.created)
    drive_until_final()
    assert states(run) == ["succeeded"]


def test_a_second_drive_is_one_too_many(db: None) -> None:
    assert drives.join("first") and not drives.join("second")
    drives.leave("first")
    assert drives.join("second")


def test_a_drive_that_ends_lets_go_of_what_waits(
    up: FakeUpstream, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LIFETIME_S", 0.5)
    run = run_for(rich, prompt="a fox [[slow]]", count=4)
    engine.drive()
    assert not DriveBeat.objects.exists()
    assert set(run.jobs.values_list("state", "lease_owner")) == {("running", "")}
    assert run.jobs.filter(next_look__gt=run.created).count() == 4
