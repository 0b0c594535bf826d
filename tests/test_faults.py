"""Everything that an upstream can do wrong, and what must hold at the end: of the job, the money, the disk and the drive.

Each row of the table is one drive, in which every variant of the fault has a job and an upstream of its own on one
lying server, so that none waits for another's pauses and circuit. When all have ended, the same drive is given one
more job, which must succeed. What goes wrong in our own house is in `test_faults_at_home`.
"""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts import ledger
from accounts.models import User, Wallet
from playground import drives, images, jobs, net, seals, steps, upkeep
from playground.models import Job, JobEvent, Picture, Run, Upstream, UpstreamState
from playground.providers.aigenerate import provider
from tests.driving import drive_until, drive_until_final, stored
from tests.fake_upstream import FakeUpstream
from tests.making import USD, give, run_for

pytestmark = pytest.mark.django_db(transaction=True)
PRICE = COST = 35_000
ENDS_AFTER_S = 5
PATIENT_S = 10  # for what is sent again


@dataclass(frozen=True)
class Case:
    """`ends`: "succeeded", or the failure. `creates`: how often it arrives upstream."""

    name: str
    rule: dict[str, Any]
    ends: str
    creates: int = 1
    may_have_cost: bool = False
    base_url: str = ""
    hosts: tuple[str, ...] = ()


def case(name: str, ends: str, /, where: str = "", **rule: Any) -> Case:
    about = {key: rule.pop(key) for key in ("creates", "may_have_cost", "base_url", "hosts") if key in rule}
    return Case(name, {"where": where, **rule} if where else {}, ends, **about)


def lost(name: str, **rule: Any) -> Case:
    return case(name, "outcome_unknown", "create", started=True, may_have_cost=True, **rule)


def sent_again(name: str, **rule: Any) -> Case:
    return case(name, "succeeded", "create", times=1, creates=2, **rule)


def once(where: str, kind: str, **rule: Any) -> Case:
    return case(f"{where} {kind}", "succeeded", where, kind=kind, times=1, **rule)


def no_picture(name: str, where: str = "file", ends: str = "no_picture", **rule: Any) -> Case:
    return case(name, ends, where, may_have_cost=True, **rule)


UNREADABLE = ("html", "empty", "garbage", "truncate", "huge", "never_ending", "wrong_types")
INSIDE = {
    "loopback": "http://127.0.0.1:8000/files/x.jpg",
    "loopback by name": "http://localhost:PORT/files/x.jpg",
    "loopback in IPv6": "http://[::ffff:127.0.0.1]:PORT/files/x.jpg",
    "private": "http://10.0.0.1/x.jpg",
    "link-local": "http://[fe80::1]/x.jpg",
    "metadata": "http://169.254.169.254/latest/meta-data/",
    "NAT64": "http://[64:ff9b::7f00:1]/x.jpg",
    "rebinding": "http://rebinding.test:PORT/x.jpg",
    "half": "http://half.test:PORT/x.jpg",
}

TABLE = {
    "create sent, answer lost": [
        lost("silent", kind="silent"),
        lost("reset", kind="reset"),
        lost("half an answer", kind="truncate"),
        lost("500 after the body", kind="status", status=500),
        lost("502 after the body", kind="status", status=502),
        lost("503 after the body", kind="status", status=503),
        lost("504 after the body", kind="status", status=504),
        lost("408 after the body", kind="status", status=408),
    ],
    "known not to have started": [
        case("refused", "timed_out", creates=0, base_url="http://127.0.0.1:9"),
        case("no such name", "timed_out", creates=0, base_url="http://nobody.test:PORT"),
        case("no name for a while", "succeeded", base_url="http://later.test:PORT"),
        sent_again("429", kind="status", status=429),
        sent_again("429, wait", kind="status", status=429, retry_after="1"),
        sent_again("429 in the envelope", kind="envelope", code=429),
        sent_again("425", kind="status", status=425),
        sent_again("455", kind="envelope", code=455),
    ],
    "two opinions in one answer": [
        case("200 says no", "rejected", "create", kind="envelope", code=422),
        case("200 says no money", "upstream_unavailable", "create", kind="envelope", code=402),
        case("500 says yes", "succeeded", "create", kind="disguised", status=500),
        case("404 says yes", "succeeded", "create", kind="disguised", status=404),
        case("500 has the record", "succeeded", "look", kind="disguised", status=500),
        case("200 looks bad", "succeeded", "look", kind="envelope", code=500, times=1),
        case("404 at first", "succeeded", "look", kind="status", status=404, times=1),
        case("422 at first", "succeeded", "look", kind="envelope", code=422, times=1),
    ],
    "an unreadable answer to a create": [lost(kind, kind=kind) for kind in UNREADABLE],
    "an unreadable answer to a look": [
        *(once("look", kind) for kind in (*UNREADABLE, "silent", "reset")),
        case("word", "timed_out", "look", kind="unknown_state", may_have_cost=True),
        case("word at first", "succeeded", "look", kind="unknown_state", times=1),
    ],
    "no picture where there should be one": [
        no_picture("no address", "look", kind="no_url"),
        no_picture("gone", kind="gone"),
        no_picture("expired", kind="status", status=403),
        no_picture("404", kind="status", status=404),
        no_picture("404 with a picture", kind="disguised", status=404),
        no_picture("in circles", kind="redirect"),
        no_picture("to nowhere", kind="redirect", url="/files/nothing.jpg"),
        case("no address at first", "succeeded", "look", kind="no_url", times=1),
        once("file", "gone"),
        case("expired at first", "succeeded", "file", kind="status", status=403, times=1),
    ],
    "a picture that is none": [
        no_picture("corrupt", ends="bad_picture", kind="corrupt_picture"),
        no_picture("half", ends="bad_picture", kind="truncated_picture"),
        no_picture("wrong type", ends="bad_picture", kind="wrong_type"),
        no_picture("bomb", ends="bad_picture", kind="bomb"),
        no_picture("html", ends="bad_picture", kind="html"),
        no_picture("empty", ends="bad_picture", kind="empty"),
        no_picture("100 MB", ends="bad_picture", kind="huge", mb=100),
        no_picture("a byte a second", kind="slow_drip"),
        no_picture("nothing comes", kind="silent"),
        no_picture("no end", kind="never_ending", seconds=0.1),
        no_picture("reset", kind="reset"),
        once("file", "truncate"),
    ],
    "an address inside": [
        *(no_picture(name, "look", "bad_picture", kind="url", url=url) for name, url in INSIDE.items()),
        *(no_picture(f"{name}, redirected", ends="bad_picture", kind="redirect", url=url) for name, url in INSIDE.items()),
        no_picture("not its host", "look", "bad_picture", kind="url", url="http://a.test/x.jpg", hosts=("b.test",)),
    ],
    "moderated": [
        case("at create", "moderated", "create", kind="moderated"),
        case("at create, in the envelope", "moderated", "create", kind="envelope", code=400, msg="flagged as NSFW"),
        case("at the end", "moderated", "look", kind="moderated"),
        case("failed at the end", "upstream_failed", "look", kind="fail"),
    ],
}  # fmt: skip


# --- A lying server, and a name server that lies too --------------------------------------------------
@pytest.fixture(scope="module")
def server() -> Iterator[FakeUpstream]:
    with FakeUpstream(ready_s=0.1, picture_kb=60) as up:
        yield up


@pytest.fixture
def up(server: FakeUpstream, settings: Any) -> FakeUpstream:
    server.forget()
    settings.AIGENERATE_API_KEY, settings.AIGENERATE_BASE_URL = server.api_key, server.base_url
    settings.UPSTREAM_KEYS_SECRETS = ["s" * 32]
    settings.NET_ALLOWED_HOSTS = [server.host]
    settings.JOB_DEADLINE_S = ENDS_AFTER_S
    return server


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drives, "BEAT_S", 0.05)
    monkeypatch.setattr(net, "TOTAL_S", 1.0)
    for name in ("CREATE_S", "LOOK_S"):
        monkeypatch.setattr(provider, name, 1.0)


@pytest.fixture
def dialled(up: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Every address for which a socket is made. Names end in .test and are known to this test alone."""
    asked, connected = Counter[str](), Counter[str]()
    start_connection = aiohttp.connector.aiohappyeyeballs.start_connection

    def resolve(host: str, port: int) -> list[str]:
        asked[host] += 1
        if host == "nobody.test" or (host == "later.test" and asked[host] < 2):
            raise OSError("no such name")
        known = {"rebinding.test": ["192.0.2.1"], "half.test": ["93.184.215.14", "127.0.0.1"]}
        return known.get(host, ["127.0.0.1"])

    async def connect(addr_infos: list[Any], socket_factory: Any = None, **more: Any) -> Any:
        def recorded(info: Any) -> socket.socket:
            made = socket_factory(info) if socket_factory else socket.socket(*info[:3])
            connected[f"{info[4][0]}:{info[4][1]}"] += 1
            return made

        return await start_connection(addr_infos, socket_factory=recorded, **more)

    monkeypatch.setattr(net, "resolve", resolve)
    monkeypatch.setattr(aiohttp.connector.aiohappyeyeballs, "start_connection", connect)
    return connected


@pytest.fixture
def rich(alice: User) -> User:
    give(alice)
    return alice


def order(up: FakeUpstream, user: User, case: Case, number: int) -> Job:
    """A job of this case, on an upstream that is asked for nothing else."""
    port = up.host.partition(":")[2]
    name, prompt = f"upstream-{number}", f"a fox <{case.name}>"
    Upstream.objects.create(
        name=name, kind="aigenerate", sealed_key=seals.seal(up.api_key), result_hosts=list(case.hosts),
        base_url=case.base_url.replace("PORT", port) + "/api/v1" if case.base_url else up.base_url,
    )  # fmt: skip
    if case.rule:
        url = case.rule.get("url", "").replace("PORT", port)
        up.fault(**{**case.rule, "prompt": f"<{case.name}>", "url": url})
    run = run_for(user, prompt=prompt)
    run.jobs.update(provider=name, tried=["aigenerate"])  # so that there is nobody to go on to
    return run.jobs.get()


# --- The table ----------------------------------------------------------------------------------------
@pytest.mark.once
@pytest.mark.parametrize("row", TABLE)
def test_what_must_hold_holds(
    row: str, up: FakeUpstream, rich: User, dialled: Counter[str], settings: Any
) -> None:
    settings.JOB_DEADLINE_S = PATIENT_S if row == "known not to have started" else ENDS_AFTER_S
    ordered = {case.name: order(up, rich, case, number).pk for number, case in enumerate(TABLE[row])}
    next_one: list[Run] = []
    drive_until_final(30, then=lambda: next_one.append(run_for(rich, prompt="the next one")))
    for job in Job.objects.filter(pk__in=ordered.values()):
        assert job.deadline - job.created < timedelta(seconds=settings.JOB_DEADLINE_S + 1)
        assert job.finished and job.finished < job.deadline + timedelta(seconds=2), job.params["prompt"]
    ended = {name: outcome(Job.objects.get(pk=pk)) for name, pk in ordered.items()}
    assert ended == {case.name: case.ends for case in TABLE[row]}
    assert [outcome(job) for job in next_one[0].jobs.all()] == ["succeeded"]
    assert_sent_as_said(up, TABLE[row])
    assert_paid_and_stored(rich, suspected=sum(case.may_have_cost for case in TABLE[row]))
    assert set(dialled) <= {up.host, "127.0.0.1:9"}


def outcome(job: Job) -> str:
    return job.failure if job.state == Job.State.FAILED else job.state


def assert_sent_as_said(up: FakeUpstream, cases: list[Case]) -> None:
    """And whatever was sent, at most one task was started of each job."""
    stats = up.stats()
    calls = {case.name: stats["calls"].get(f"a fox <{case.name}>", 0) for case in cases}
    assert calls == {case.name: case.creates for case in cases}
    assert set(stats["started"].values()) <= {1}


def assert_paid_and_stored(alice: User, *, suspected: int) -> None:
    """One price for each picture that is there, nothing held, and nothing on the disk of what did not come."""
    connection.close()
    delivered = Job.objects.filter(state="succeeded").count()
    wallet = ledger.wallet_of(alice)
    assert (wallet.posted, wallet.held) == (10 * USD - delivered * PRICE, 0)
    assert ledger.house(Wallet.House.SUSPENSE).posted == -suspected * COST
    assert Picture.objects.count() == delivered == len(stored())
    assert upkeep.audit() == []


# --- What a case of one job cannot show ---------------------------------------------------------------
def test_alice_pays_only_for_the_pictures_of_a_run_that_came(up: FakeUpstream, rich: User) -> None:
    up.fault(where="look", kind="no_url", fraction=0.5)
    up.fault(where="file", kind="gone", fraction=0.3)
    run = run_for(rich, count=4)
    drive_until_final()
    assert set(run.jobs.values_list("state", "failure")) <= {("succeeded", ""), ("failed", "no_picture")}
    assert_paid_and_stored(rich, suspected=run.jobs.filter(state="failed").count())


@pytest.mark.once
def test_a_new_address_is_asked_for_once(up: FakeUpstream, rich: User) -> None:
    up.fault(where="file", kind="gone")
    run_for(rich)
    drive_until_final()
    [task] = up.stats()["tasks"]
    assert task["downloads"] == 2


@pytest.mark.once
def test_a_picture_that_drips_lets_others_pass(
    up: FakeUpstream, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "FETCHING_AT_ONCE", 1)
    monkeypatch.setattr(net, "TOTAL_S", 60.0)
    monkeypatch.setattr(net, "SLOW_AFTER_S", 0.5)
    up.fault(where="file", kind="slow_drip", seconds=0.2, prompt="<drips>")
    drips, passes = (run_for(rich, prompt=f"a fox <{name}>") for name in ("drips", "passes"))
    Job.objects.filter(run=drips).update(next_look=timezone.now() - timedelta(seconds=1))
    drive_until_final()
    assert [outcome(run.jobs.get()) for run in (drips, passes)] == ["no_picture", "succeeded"]
    assert (passes.jobs.get().seconds or 99) < ENDS_AFTER_S - 1
    assert_paid_and_stored(rich, suspected=1)


def test_who_waits_for_a_turn_that_never_comes_ends_at_the_deadline(
    up: FakeUpstream, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "FETCHING_AT_ONCE", 1)
    monkeypatch.setattr(net, "TOTAL_S", 60.0)
    up.fault(where="file", kind="slow_drip", seconds=0.2)
    run_for(rich)
    Job.objects.update(deadline=timezone.now() + timedelta(seconds=8))
    second = run_for(rich).jobs.get()
    Job.objects.filter(pk=second.pk).update(next_look=timezone.now() + timedelta(seconds=0.7))
    drive_until_final()
    second.refresh_from_db()
    assert outcome(second) == "no_picture" and (second.seconds or 99) < ENDS_AFTER_S + 1
    assert_paid_and_stored(rich, suspected=2)


def test_nothing_is_sent_for_a_job_whose_deadline_came_while_it_waited_its_turn(
    up: FakeUpstream, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "SENDING_AT_ONCE", 1)
    monkeypatch.setattr(net, "TOTAL_S", 5.0)
    monkeypatch.setattr(provider, "CREATE_S", 5.0)
    up.behave(submit_s=2.2)
    run = run_for(rich, count=2)
    Job.objects.update(deadline=timezone.now() + timedelta(seconds=2))
    drive_until_final()
    up.behave(submit_s=0.0)
    assert {outcome(job) for job in run.jobs.all()} == {"timed_out"}
    assert len(up.stats()["creates"]) == 1
    assert_paid_and_stored(rich, suspected=1)


@pytest.mark.parametrize("kind", ["unknown_state", "html"])
def test_a_run_of_looks_in_vain_opens_the_circuit_and_a_good_answer_closes_it(
    up: FakeUpstream, rich: User, kind: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "LOOKS_IN_VAIN", 3)
    settings.JOB_DEADLINE_S = PATIENT_S
    up.fault(where="look", kind=kind)
    for _ in range(3):
        run_for(rich)
    drive_until(UpstreamState.objects.filter(open_until__isnull=False).exists)
    assert UpstreamState.objects.get().open_until
    up.clear()
    Job.objects.update(deadline=timezone.now() + timedelta(seconds=20))
    UpstreamState.objects.update(open_until=timezone.now())
    run_for(rich)  # the probe
    drive_until_final()
    assert UpstreamState.objects.get().open_until is None


# --- Callbacks ----------------------------------------------------------------------------------------
def call_back(job: Job, task_id: str) -> int:
    """As the upstream does, or somebody who wants us to believe that it did."""
    body = {"code": 200, "data": {"taskId": task_id, "state": "success", "resultJson": "{}"}}
    try:
        return Client().post(f"/hooks/{job.callback_token}/", body, "application/json").status_code
    finally:
        connection.close()


def call_back_at_once(job: Job, *task_ids: str) -> set[int]:
    with ThreadPoolExecutor(
        20
    ) as threads:  # which is as many connections, of the hundred that PostgreSQL has
        return set(threads.map(lambda task_id: call_back(job, task_id), task_ids))


@pytest.fixture
def reachable(up: FakeUpstream, settings: Any) -> FakeUpstream:
    settings.BASE_URL = "http://playground.example"
    settings.JOB_DEADLINE_S = 20
    return up


def lose_the_answer(up: FakeUpstream, user: User) -> Job:
    """A job that runs upstream, and only the upstream knows that it does."""
    up.fault(where="create", kind="reset", times=1)
    job = run_for(user).jobs.get()
    drive_until_final(0.5)
    return job


def test_a_hundred_callbacks_in_parallel_find_a_lost_job_once(reachable: FakeUpstream, rich: User) -> None:
    job = lose_the_answer(reachable, rich)
    [task] = reachable.stats()["tasks"]
    assert call_back_at_once(job, *[task["id"]] * 100) == {200}
    drive_until_final()
    assert call_back_at_once(job, *[task["id"]] * 20) == {200}
    job.refresh_from_db()
    assert outcome(job) == "succeeded" and not job.outcome_unknown
    assert sum(reachable.stats()["calls"].values()) == 1
    assert_paid_and_stored(rich, suspected=0)


def test_a_hundred_forged_callbacks_in_parallel_do_nothing(reachable: FakeUpstream, rich: User) -> None:
    other = run_for(rich)
    drive_until_final()
    job = lose_the_answer(reachable, rich)
    Job.objects.filter(pk=job.pk).update(deadline=timezone.now() + timedelta(seconds=4))
    theirs = other.jobs.get().upstream_id or ""
    forged = [theirs if number % 2 else f"task_{number}" for number in range(100)]
    pesterer = threading.Timer(0.3, call_back_at_once, [job, *forged])
    pesterer.start()
    drive_until_final()
    pesterer.join()
    job.refresh_from_db()
    assert (outcome(job), job.upstream_id) == ("outcome_unknown", None)
    assert_paid_and_stored(rich, suspected=1)


def test_a_success_after_we_gave_up_is_written_down_once_and_never_charged(
    reachable: FakeUpstream, rich: User
) -> None:
    reachable.fault(where="look", kind="slow", seconds=4)
    job = run_for(rich).jobs.get()
    Job.objects.update(deadline=timezone.now() + timedelta(seconds=1.5))
    drive_until_final()
    job.refresh_from_db()
    assert outcome(job) == "timed_out"
    assert call_back_at_once(job, *[job.upstream_id or ""] * 100) == {200}
    drive_until_final(0.5)
    assert JobEvent.objects.filter(job=job, note__contains="after the end; nothing is charged").count() == 1
    assert_paid_and_stored(rich, suspected=1)


def test_a_picture_that_comes_when_charlie_has_given_up_is_written_down_and_thrown_away(
    up: FakeUpstream, rich: User, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = run_for(rich).jobs.get()
    store = images.store

    def store_too_late(*args: Any) -> None:
        store(*args)
        assert jobs.give_up(job, by=charlie)
        connection.close()

    monkeypatch.setattr(images, "store", store_too_late)
    drive_until_final()
    job.refresh_from_db()
    assert outcome(job) == "given_up"
    assert JobEvent.objects.filter(job=job, note__contains="after the end; nothing is charged").count() == 1
    assert_paid_and_stored(rich, suspected=1)
