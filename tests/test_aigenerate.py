"""The aigenerate provider: against published payloads, against a server that lies, and against the real one."""

import asyncio
import json
import logging
import os
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from playground import net
from playground.providers.aigenerate import AIGenerate
from playground.providers.aigenerate import provider as client_module
from playground.providers.base import (
    Failure,
    Order,
    OutcomeUnknown,
    ProviderError,
    Rejected,
    Report,
    Started,
    State,
    TryLater,
)
from tests.canned import Asked, Canned, reply
from tests.fake_faults import WRONG_TYPES
from tests.fake_upstream import FakeUpstream

KEY = "sk-aig-canary-5f2b"
PAYLOADS = sorted((Path(__file__).parent / "payloads" / "aigenerate").glob("*.json"))
ORDER = Order(
    job_id="018f3e2a-7c1b-7c3d-9e4f-a0b1c2d3e4f5",
    model="black-forest-labs-black-forest-labs-flux-2-pro-text-to-image-1-0s-1k",
    prompt="a fox in the snow",
    aspect_ratio="16:9",
    resolution="1K",
    width=1360,
    height=768,
    seed=7,
)


def asked(ask: Callable[[net.Client], Awaitable[Any]], client: net.Client | None = None) -> Any:
    async def conversation() -> Any:
        async with client or net.client(allowed_hosts=[]) as http:
            return await ask(http)

    try:
        return asyncio.run(conversation())
    except ProviderError as error:
        return error


def create(provider: AIGenerate, order: Order = ORDER, client: net.Client | None = None) -> Any:
    """The id, or the ProviderError."""
    got = asked(lambda http: provider.create(http, order), client)
    return got.upstream_id if isinstance(got, Started) else got


def look(provider: AIGenerate, task_id: str = "task_1", client: net.Client | None = None) -> Any:
    """The Report, or the ProviderError."""
    return asked(lambda http: provider.look(http, task_id), client)


def outcome(answer: net.Reply | Exception, what: str) -> Any:
    """What `create` or `look` makes of one answer."""
    provider = AIGenerate(base_url="https://upstream.test/api/v1", api_key=KEY)
    ask = {"create": create, "look": look}[what]
    return ask(provider, client=Canned(lambda asked: answer))


def summary(got: Any) -> dict[str, Any]:
    """The outcome in the words of the payload files."""
    if isinstance(got, str):
        return {"id": got}
    if isinstance(got, ProviderError):
        return {"raises": type(got).__name__, **vars(got)}
    assert isinstance(got, Report)
    return {**vars(got), "urls": list(got.urls)}


# --- Published payloads -------------------------------------------------------------------------------
@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_a_published_answer_is_understood(path: Path) -> None:
    payload = json.loads(path.read_text())
    body = payload["body"] if isinstance(payload["body"], str) else json.dumps(payload["body"])
    got = summary(outcome(reply(payload["status"], headers=payload["headers"], text=body), payload["asks"]))
    assert payload["expect"].items() <= got.items()


def test_there_are_payloads() -> None:
    assert len(PAYLOADS) > 40


# --- What is sent -------------------------------------------------------------------------------------
def sent(order: Order) -> Asked:
    client = Canned(lambda asked: reply(json={"code": 200, "data": {"taskId": "task_1"}}))
    create(AIGenerate(base_url="https://upstream.test/api/v1/", api_key=KEY), order, client)
    return client.asked[0]


def test_create_sends_the_order_as_the_contract_has_it() -> None:
    request = sent(replace(ORDER, callback_url="https://ours.test/hooks/token"))
    assert (request.method, request.url) == ("POST", "https://upstream.test/api/v1/jobs/createTask")
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.json == {
        "model": ORDER.model,
        "input": {"prompt": ORDER.prompt, "aspect_ratio": "16:9"},
        "callBackUrl": "https://ours.test/hooks/token",
    }


def test_a_route_may_add_parameters_but_not_change_the_prompt() -> None:
    body = sent(replace(ORDER, fixed={"resolution": "2K", "prompt": "advertising"})).json
    assert body["input"] == {"prompt": ORDER.prompt, "aspect_ratio": "16:9", "resolution": "2K"}
    assert "callBackUrl" not in body


# --- Answers that do not come -------------------------------------------------------------------------
def test_a_create_that_was_never_sent_may_be_tried_again() -> None:
    assert isinstance(outcome(net.NotSent("refused"), "create"), TryLater)


def test_a_create_whose_answer_was_lost_has_an_unknown_outcome() -> None:
    assert isinstance(outcome(net.NoAnswer("reset"), "create"), OutcomeUnknown)


@pytest.mark.parametrize("error", [net.NotSent("refused"), net.NoAnswer("reset")], ids=repr)
def test_a_look_that_fails_has_learnt_nothing(error: Exception) -> None:
    assert isinstance(outcome(error, "look"), TryLater)


def test_a_host_that_is_not_there_was_not_reached() -> None:
    nowhere = AIGenerate(base_url="http://127.0.0.1:9/api/v1", api_key=KEY)
    assert isinstance(create(nowhere), TryLater)
    unknown = AIGenerate(base_url="http://no-such-host.invalid/api/v1", api_key=KEY)
    assert isinstance(create(unknown), TryLater)
    nonsense = AIGenerate(base_url="http://upstream.test:port/api/v1", api_key=KEY)
    assert isinstance(create(nonsense), TryLater)


@pytest.mark.parametrize(
    ("status", "error"), [(301, Rejected), (308, Rejected), (302, OutcomeUnknown), (303, OutcomeUnknown)]
)
def test_a_redirect_is_never_followed(status: int, error: type[ProviderError]) -> None:
    got = outcome(reply(status, headers={"location": "https://elsewhere.test/"}), "create")
    assert isinstance(got, error)


def test_retry_after_may_be_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    got = outcome(reply(429, headers={"retry-after": soon}), "create")
    assert isinstance(got, TryLater)
    assert got.retry_after_s == pytest.approx(90, abs=3)


@pytest.mark.parametrize(
    "words", ["case-sensitive model name", "safety_tolerance must be 0 to 6", "model is required"]
)
def test_a_validation_message_is_not_moderation(words: str) -> None:
    got = outcome(reply(200, json={"code": 422, "msg": words}), "create")
    assert isinstance(got, Rejected)
    assert got.failure is Failure.REJECTED


def test_the_operators_trouble_is_not_the_prompts_whatever_the_words() -> None:
    got = outcome(reply(402, json={"code": 402, "msg": "flagged: no credits"}), "create")
    assert isinstance(got, Rejected)
    assert got.failure is Failure.UPSTREAM_UNAVAILABLE


@pytest.mark.parametrize("task_id", ["", "   ", 7, None, ["task_1"], "x" * 201, "task\n1"])
def test_an_id_that_cannot_be_one_is_no_id(task_id: Any) -> None:
    got = outcome(reply(200, json={"code": 200, "data": {"taskId": task_id}}), "create")
    assert isinstance(got, OutcomeUnknown)


def test_deeply_nested_json_is_no_json() -> None:
    assert isinstance(outcome(reply(200, text="[" * 200_000), "look"), TryLater)


def test_an_unknown_state_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    body = {"code": 200, "data": {"state": "pondering anew"}}
    with caplog.at_level(logging.WARNING):
        reports = [outcome(reply(200, json=body), "look") for _ in range(3)]
    assert {report.state for report in reports} == {State.RUNNING}
    assert caplog.text.count("pondering anew") == 1


# --- The key and the upstream's words -----------------------------------------------------------------
def test_the_key_is_in_no_error_and_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for what in ("create", "look"):
        echo = {
            "code": 400,
            "msg": f"the key {KEY} is bad",
            "data": {"state": "fail", "failMsg": f"Bearer {KEY}"},
        }
        for code in (200, 400, 429, 500, 501):
            got = outcome(reply(200, json={**echo, "code": code}), what)
            assert KEY not in repr(got) + str(got) + str(summary(got))
        assert KEY not in repr(vars(outcome(net.NoAnswer(f"while sending {KEY}"), what)))
    assert KEY not in caplog.text


def test_a_key_that_cannot_be_sent_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="aigenerate") as refused:
        AIGenerate(base_url="https://upstream.test", api_key=KEY + "\n")
    assert KEY not in str(refused.value)


def test_the_upstreams_words_are_shortened_and_harmless() -> None:
    got = outcome(reply(200, json={"code": 400, "msg": "\x1b[31m no\r\n\x00" + "x" * 9999}), "create")
    assert got.detail.isprintable()
    assert got.detail.startswith("HTTP 200, code 400: [31m no x")
    assert len(got.detail) == 300


# --- A server that lies -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def server() -> Iterator[FakeUpstream]:
    with FakeUpstream() as up:
        yield up


@pytest.fixture
def up(server: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> FakeUpstream:
    monkeypatch.setattr(client_module, "CREATE_S", 0.5)
    monkeypatch.setattr(client_module, "LOOK_S", 0.5)
    server.forget()
    server.behave(ready_s=0, errors_in_envelope=0)
    return server


def provider(up: FakeUpstream) -> AIGenerate:
    return AIGenerate(base_url=up.base_url, api_key=up.api_key)


def started(up: FakeUpstream, prompt: str = "a fox") -> str:
    task_id = create(provider(up), replace(ORDER, prompt=prompt))
    assert isinstance(task_id, str)
    return task_id


def test_alices_order_becomes_a_picture(up: FakeUpstream) -> None:
    up.behave(ready_s=0.3)
    task_id = started(up)
    assert look(provider(up), task_id).state is State.RUNNING
    up.behave(ready_s=0)
    report = look(provider(up), started(up))
    assert report.state is State.SUCCEEDED
    assert urllib.request.urlopen(report.urls[0], timeout=10).headers["Content-Type"] == "image/jpeg"
    assert asyncio.run(provider(up).draw(report.urls[0])) is None
    assert up.stats()["tasks"][0]["model"] == ORDER.model


@pytest.mark.parametrize("in_envelope", [0, 1])
def test_a_wrong_key_is_the_operators_trouble(up: FakeUpstream, in_envelope: int) -> None:
    up.behave(errors_in_envelope=in_envelope)
    got = create(AIGenerate(base_url=up.base_url, api_key="nonsense"))
    assert isinstance(got, Rejected)
    assert got.failure is Failure.UPSTREAM_UNAVAILABLE
    assert up.stats()["tasks"] == []


LOSSES: list[dict[str, Any]] = [
    {"kind": "reset"},
    {"kind": "reset", "started": False},
    {"kind": "silent"},
    {"kind": "truncate"},
    {"kind": "html"},
    {"kind": "empty"},
    {"kind": "garbage"},
    {"kind": "never_ending", "seconds": 0.01},
    {"kind": "slow_drip", "seconds": 0.05},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 504, "started": True},
    {"kind": "wrong_types"},
]


@pytest.mark.parametrize("fault", LOSSES, ids=lambda fault: "-".join(map(str, fault.values())))
def test_whatever_loses_the_answer_of_a_create_leaves_its_outcome_unknown(
    up: FakeUpstream, fault: dict[str, Any]
) -> None:
    up.fault(where="create", **fault)
    assert isinstance(create(provider(up)), OutcomeUnknown)
    assert up.stats()["calls"] == {ORDER.prompt: 1}


@pytest.mark.parametrize("fault", LOSSES, ids=lambda fault: "-".join(map(str, fault.values())))
def test_whatever_loses_the_answer_of_a_look_has_learnt_nothing(
    up: FakeUpstream, fault: dict[str, Any]
) -> None:
    task_id = started(up)
    up.fault(where="look", **fault)
    assert isinstance(look(provider(up), task_id), TryLater)


def test_every_wrong_type_is_survived(up: FakeUpstream) -> None:
    task_id = started(up)
    up.fault(where="look", kind="wrong_types")
    for got in [look(provider(up), task_id) for _ in WRONG_TYPES["look"]]:
        assert isinstance(got, TryLater) or got == Report(state=State.RUNNING)
    up.fault(where="create", kind="wrong_types")
    for got in [create(provider(up)) for _ in WRONG_TYPES["create"]]:
        assert isinstance(got, OutcomeUnknown)


@pytest.mark.parametrize("fault", [{"kind": "huge", "mb": 50}, {"kind": "never_ending", "seconds": 0}])
def test_an_answer_without_end_is_left_after_a_megabyte(
    up: FakeUpstream, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CREATE_S", 60)
    monkeypatch.setattr(client_module, "LOOK_S", 60)
    task_id = started(up)
    up.fault(where="create", **fault)
    up.fault(where="look", **fault)
    begun = time.monotonic()
    assert isinstance(create(provider(up)), OutcomeUnknown)
    assert isinstance(look(provider(up), task_id), TryLater)
    assert time.monotonic() - begun < 10


def test_the_first_looks_may_come_too_early(up: FakeUpstream) -> None:
    up.fault(where="look", kind="status", status=404, times=1)
    up.fault(where="look", kind="envelope", code=422, msg="recordInfo is null", times=2)
    task_id = started(up)
    got = [look(provider(up), task_id) for _ in range(3)]
    assert [type(report) for report in got] == [TryLater, TryLater, Report]


def test_a_disguised_success_is_a_success(up: FakeUpstream) -> None:
    up.fault(where="create", kind="disguised", status=503)
    up.fault(where="look", kind="disguised", status=500)
    assert look(provider(up), started(up)).state is State.SUCCEEDED


def test_a_task_is_ours_when_the_upstream_names_our_callback_address(up: FakeUpstream) -> None:
    ours = "https://ours.test/hooks/token"
    task_id = create(provider(up), replace(ORDER, callback_url=ours))
    nobody_named = started(up)
    assert asked(lambda http: provider(up).is_ours(http, task_id, ours), None) is True
    assert (
        asked(lambda http: provider(up).is_ours(http, task_id, "https://ours.test/hooks/other"), None)
        is False
    )
    assert asked(lambda http: provider(up).is_ours(http, nobody_named, ""), None) is False
    assert isinstance(asked(lambda http: provider(up).is_ours(http, "task_of_nobody", ours), None), TryLater)


@pytest.mark.parametrize("param", [None, 7, "", "[1]", "{", {"callBackUrl": None}, [], '{"callBackUrl": ""}'])
def test_a_task_whose_order_cannot_be_read_is_not_ours(param: Any) -> None:
    answer = reply(200, json={"code": 200, "data": {"state": "success", "param": param}})
    theirs = AIGenerate(base_url="https://upstream.test/api/v1", api_key=KEY)
    canned = Canned(lambda asked: answer)
    assert asked(lambda http: theirs.is_ours(http, "task_1", "x"), canned) is False
    assert asked(lambda http: theirs.is_ours(http, "task_1", ""), canned) is False


@pytest.mark.parametrize(
    ("words", "failure"),
    [
        ("[[fail]]", Failure.UPSTREAM_FAILED),
        ("[[moderated]]", Failure.MODERATED),
        ("[[no url]]", Failure.NO_PICTURE),
        ("[[odd state]]", None),
    ],
)
def test_what_the_upstream_says_at_the_end(up: FakeUpstream, words: str, failure: Failure | None) -> None:
    report = look(provider(up), started(up, f"a fox {words}"))
    assert report.failure is failure
    assert report.state is (State.FAILED if failure else State.RUNNING)


def test_too_many_requests_are_told_apart_from_a_loss(up: FakeUpstream) -> None:
    up.fault(where="create", kind="status", status=429, retry_after="7")
    got = create(provider(up))
    assert isinstance(got, TryLater)
    assert got.retry_after_s == 7


# --- The real one -------------------------------------------------------------------------------------
LIVE_COST_USD = 0.035


@pytest.mark.skipif(
    not os.environ.get("AIGENERATE_LIVE_KEY")
    or float(os.environ.get("AIGENERATE_LIVE_USD_LIMIT") or 0) < LIVE_COST_USD,
    reason=f"spends ${LIVE_COST_USD} upstream. To turn it on: set AIGENERATE_LIVE_KEY, AIGENERATE_LIVE_USD_LIMIT={LIVE_COST_USD}"
    " or more, and AIGENERATE_LIVE_BASE_URL where it is not the default",
)
def test_the_real_upstream_makes_one_picture() -> None:
    base_url = os.environ.get("AIGENERATE_LIVE_BASE_URL", "https://aimarcusimage.eu/api/v1")
    live = AIGenerate(base_url=base_url, api_key=os.environ["AIGENERATE_LIVE_KEY"])

    async def picture() -> Report:
        async with net.client(allowed_hosts=[]) as http:
            task_id = (await live.create(http, ORDER)).upstream_id
            for _ in range(60):
                await asyncio.sleep(3)
                try:
                    report = await live.look(http, task_id)
                except TryLater:
                    continue
                if report.state is not State.RUNNING:
                    return report
        raise TimeoutError(task_id)

    report = asyncio.run(picture())
    assert report.state is State.SUCCEEDED
    assert urllib.request.urlopen(report.urls[0], timeout=10).headers["Content-Type"].startswith("image/")
