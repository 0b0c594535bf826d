"""Two upstreams that make the same variant: a job goes to the second where the first is known not to have started it."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts import ledger
from accounts.models import CapWindow, User, Wallet
from playground import drives, jobs, upkeep, upstreams
from playground.models import Job, Route, Upstream, UpstreamState
from tests.driving import drive_until_final, states
from tests.fake_upstream import FakeUpstream
from tests.making import PRO, USD, give, load_catalogue, run_for

pytestmark = pytest.mark.django_db(transaction=True)
NOBODY = "http://127.0.0.1:9/api/v1"


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[FakeUpstream, FakeUpstream]]:
    with (
        FakeUpstream(ready_s=0.1, picture_kb=60) as first,
        FakeUpstream(ready_s=0.1, picture_kb=60) as second,
    ):
        yield first, second


@pytest.fixture
def pair(
    servers: tuple[FakeUpstream, FakeUpstream], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[FakeUpstream, FakeUpstream]:
    """ "aigenerate" and "spare", of which the spare is half as dear again."""
    first, second = servers
    for server in servers:
        server.forget()
    monkeypatch.setattr(drives, "BEAT_S", 0.05)
    settings.AIGENERATE_API_KEY, settings.AIGENERATE_BASE_URL = first.api_key, first.base_url
    settings.KIE_API_KEY, settings.KIE_BASE_URL = second.api_key, second.base_url
    settings.NET_ALLOWED_HOSTS = [first.host, second.host]
    load_catalogue()
    Route.objects.filter(variant__slug=PRO, provider="kie").delete()
    route = Route.objects.get(variant__slug=PRO, provider="aigenerate")
    route.pk, route.provider, route.position, route.cost_micros = None, "kie", 9, route.cost_micros * 3 // 2
    route.save()
    return first, second


@pytest.fixture
def rich(alice: User) -> User:
    give(alice)
    return alice


def job_of(user: User, **asked: Any) -> Job:
    run = run_for(user, **asked)
    drive_until_final()
    return run.jobs.select_related("hold").get()


def creates(up: FakeUpstream) -> int:
    return sum(up.stats()["calls"].values())


def test_the_first_is_asked_first(pair: tuple[FakeUpstream, FakeUpstream], rich: User) -> None:
    job = job_of(rich)
    assert (job.state, job.provider, job.tried) == ("succeeded", "aigenerate", [])
    assert creates(pair[1]) == 0


@pytest.mark.parametrize("status", [401, 402, 505])
def test_a_no_to_the_operator_sends_the_job_on(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User, status: int
) -> None:
    pair[0].fault(where="create", kind="envelope", code=status)
    job = job_of(rich)
    assert (job.state, job.provider, job.tried) == ("succeeded", "kie", ["aigenerate"])
    assert ledger.wallet_of(rich).posted == 10 * USD - 35_000 and upkeep.audit() == []
    assert UpstreamState.objects.get(name="aigenerate").spent_micros == 0


def test_an_upstream_that_cannot_be_reached_is_tried_and_left(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User, settings: Any
) -> None:
    settings.AIGENERATE_BASE_URL = NOBODY
    job = job_of(rich)
    assert (job.state, job.provider) == ("succeeded", "kie") and job.submit_attempts > 1


def test_a_job_goes_round_an_open_circuit_at_once(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User
) -> None:
    upstreams.failed("aigenerate", "down", times=99)
    UpstreamState.objects.update(open_until="2100-01-01T00:00:00Z")
    assert job_of(rich).provider == "kie" and creates(pair[0]) == 0


def test_a_job_goes_round_a_dollar_limit(pair: tuple[FakeUpstream, FakeUpstream], rich: User) -> None:
    Upstream.objects.create(name="aigenerate", kind=Upstream.Kind.AIGENERATE, limit_micros_per_day=40_000)
    assert [job_of(rich).provider for _ in range(2)] == ["aigenerate", "kie"]


def test_with_nowhere_else_to_go_a_dollar_limit_is_the_end_and_costs_nothing(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User, settings: Any
) -> None:
    settings.KIE_API_KEY = ""
    Upstream.objects.create(name="aigenerate", kind=Upstream.Kind.AIGENERATE, limit_micros_per_day=0)
    job = job_of(rich)
    assert (job.state, job.failure) == ("failed", "limit_reached") and creates(pair[0]) == 0
    assert ledger.wallet_of(rich).available == 10 * USD and upkeep.audit() == []


@pytest.mark.parametrize("fault", [{"kind": "reset", "started": True}, {"kind": "status", "status": 500}])
def test_a_job_that_may_run_goes_nowhere_else(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User, settings: Any, fault: dict[str, Any]
) -> None:
    settings.JOB_DEADLINE_S = 2
    pair[0].fault(where="create", **fault)
    job = job_of(rich)
    assert (job.state, job.failure, job.tried) == ("failed", "outcome_unknown", [])
    assert creates(pair[0]) == 1 and creates(pair[1]) == 0 and upkeep.audit() == []


@pytest.mark.parametrize(("code", "msg"), [(400, "your prompt was flagged"), (422, "no such ratio")])
def test_a_no_to_what_was_asked_is_final(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User, code: int, msg: str
) -> None:
    pair[0].fault(where="create", kind="status", status=code, code=code, msg=msg)
    assert job_of(rich).state == "failed" and creates(pair[1]) == 0


def test_both_down_and_up_again_before_the_deadline(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User
) -> None:
    for up in pair:
        up.fault(where="create", kind="envelope", code=455, times=2)
    run = run_for(rich, count=3)
    drive_until_final()
    assert states(run) == ["succeeded"] * 3 and upkeep.audit() == []


def test_a_preview_is_paid_at_the_cost_of_the_upstream_that_made_it(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User
) -> None:
    pair[0].fault(where="create", kind="envelope", code=402)
    job = job_of(rich, pay="preview")
    assert (job.state, job.provider, job.hold.captured) == ("succeeded", "kie", job.cost_micros)
    assert ledger.house(Wallet.House.PREVIEW).posted == -job.cost_micros == -52_500
    spent = dict(CapWindow.objects.filter(spent__gt=0).values_list("subject", "spent"))
    assert spent == {"house:preview/usd": 52_500, f"user:{rich.pk}/previews": 1} and upkeep.audit() == []


def test_a_preview_goes_nowhere_that_the_budget_does_not_allow(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User, settings: Any
) -> None:
    settings.PREVIEW_BUDGET_MICROS_PER_DAY = 40_000
    pair[0].fault(where="create", kind="envelope", code=402)
    job = job_of(rich, pay="preview")
    assert (job.state, job.failure, creates(pair[1])) == ("failed", "upstream_unavailable", 0)
    assert not CapWindow.objects.filter(reserved__gt=0).exists() and upkeep.audit() == []


def test_a_wait_that_the_upstream_asks_for_holds_for_all_its_jobs(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User, settings: Any
) -> None:
    settings.KIE_API_KEY = ""
    pair[0].fault(where="create", kind="status", status=429, code=429, retry_after="2", times=1)
    run = run_for(rich, count=4)
    drive_until_final()
    stats = pair[0].stats()
    assert states(run) == ["succeeded"] * 4
    first, *later = sorted(create["at"] for create in stats["creates"])
    assert all(at - first < 0.9 or at - first > 1.9 for at in later)


def test_an_upstream_that_speaks_nonsense_opens_its_circuit(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User, settings: Any
) -> None:
    settings.JOB_DEADLINE_S = 8
    settings.KIE_API_KEY = ""
    pair[0].fault(where="look", kind="unknown_state")
    run = run_for(rich, count=4)
    drive_until_final()
    assert states(run) == ["failed"] * 4
    assert UpstreamState.objects.get(name="aigenerate").open_until is not None


def test_an_upstream_that_is_set_up_while_a_drive_runs_is_known_at_once(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User, settings: Any
) -> None:
    settings.AIGENERATE_API_KEY = settings.KIE_API_KEY = ""
    first = run_for(rich, prompt="[slow] a fox")

    def set_up() -> None:
        settings.AIGENERATE_API_KEY = pair[0].api_key
        run_for(rich)
        jobs.cancel(first.jobs.get(), by=rich)
        connection.close()

    later = threading.Timer(0.7, set_up)
    later.start()
    drive_until_final()
    later.join()
    assert sorted(Job.objects.values_list("provider", "state")) == [
        ("aigenerate", "succeeded"),
        ("sandbox", "cancelled"),
    ]


def test_a_long_wait_for_one_is_no_wait_where_another_is_free(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User
) -> None:
    pair[0].fault(where="create", kind="status", status=429, code=429, retry_after="3600")
    job = job_of(rich)
    assert (job.state, job.provider, job.tried) == ("succeeded", "kie", ["aigenerate"])


def test_a_refused_prompt_shows_that_the_upstream_is_well(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User
) -> None:
    upstreams.failed("aigenerate", "down", times=upstreams.FAILURES_TO_OPEN)
    UpstreamState.objects.update(open_until=timezone.now())
    pair[0].fault(where="create", kind="status", status=400, code=400, msg="your prompt was flagged")
    assert job_of(rich).failure == "moderated"
    assert UpstreamState.objects.get(name="aigenerate").open_until is None


def test_a_job_that_runs_where_the_operator_has_switched_off_is_finished(
    pair: tuple[FakeUpstream, FakeUpstream], rich: User
) -> None:
    pair[0].behave(ready_s=1.0)
    run = run_for(rich)

    def switch_off() -> None:
        end = time.monotonic() + 15
        while time.monotonic() < end and not run.jobs.filter(state="running").exists():
            time.sleep(0.02)
        Upstream.objects.create(name="aigenerate", kind=Upstream.Kind.AIGENERATE, is_on=False)
        connection.close()

    later = threading.Thread(target=switch_off)
    later.start()
    drive_until_final()
    later.join()
    pair[0].behave(ready_s=0.1)
    assert states(run) == ["succeeded"] and run.jobs.get().provider == "aigenerate"
