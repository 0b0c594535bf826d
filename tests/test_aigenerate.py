"""The aigenerate provider: against published payloads, against a server of that shape, and against the real one.

What holds for every provider is in test_providers; Kontext and input pictures are in test_aigenerate_inputs.
"""

import asyncio
import json
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from playground import net
from playground.providers.aigenerate import AIGenerate
from playground.providers.base import (
    Failure,
    Order,
    OutcomeUnknown,
    ProviderError,
    Rejected,
    Report,
    State,
    TryLater,
)
from tests import talking
from tests.canned import Asked, Canned, reply
from tests.fake_upstream import FakeUpstream
from tests.talking import asked, balance, create, look, payloads, understood

KEY = "sk-aig-canary-5f2b"
PAYLOADS = payloads("aigenerate")
ORDER = replace(talking.ORDER, model="black-forest-labs-black-forest-labs-flux-2-pro-text-to-image-1-0s-1k")
HOME = "https://upstream.test/api/v1"


def there(up: FakeUpstream) -> AIGenerate:
    return AIGenerate(base_url=up.base_url, api_key=up.api_key)


def created(answer: net.Reply) -> Any:
    """What a create makes of one answer."""
    return create(AIGenerate(base_url=HOME, api_key=KEY), ORDER, Canned(lambda _: answer))


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_a_published_answer_is_understood(path: Path) -> None:
    payload = json.loads(path.read_text())
    got = understood(AIGenerate(base_url=HOME, api_key=KEY), payload)
    assert payload["expect"].items() <= got.items()


def test_there_are_payloads() -> None:
    assert len(PAYLOADS) > 65


# --- What is sent -------------------------------------------------------------------------------------
def sent(order: Order) -> Asked:
    client = Canned(lambda asked: reply(json={"code": 200, "data": {"taskId": "task_1"}}))
    create(AIGenerate(base_url=HOME + "/", api_key=KEY), order, client)
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


@pytest.mark.parametrize(
    ("status", "error"), [(301, Rejected), (308, Rejected), (302, OutcomeUnknown), (303, OutcomeUnknown)]
)
def test_a_redirect_is_never_followed(status: int, error: type[ProviderError]) -> None:
    got = created(reply(status, headers={"location": "https://elsewhere.test/"}))
    assert isinstance(got, error)


def test_retry_after_may_be_a_date() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    got = created(reply(429, headers={"retry-after": soon}))
    assert isinstance(got, TryLater)
    assert got.retry_after_s == pytest.approx(90, abs=3)


@pytest.mark.parametrize(
    "words", ["case-sensitive model name", "safety_tolerance must be 0 to 6", "model is required"]
)
def test_a_validation_message_is_not_moderation(words: str) -> None:
    got = created(reply(200, json={"code": 422, "msg": words}))
    assert isinstance(got, Rejected)
    assert got.failure is Failure.REJECTED


def test_the_operators_trouble_is_not_the_prompts_whatever_the_words() -> None:
    got = created(reply(402, json={"code": 402, "msg": "flagged: no credits"}))
    assert isinstance(got, Rejected)
    assert got.failure is Failure.UPSTREAM_UNAVAILABLE


@pytest.mark.parametrize("task_id", ["", "   ", 7, None, ["task_1"], "x" * 201, "task\n1"])
def test_an_id_that_cannot_be_one_is_no_id(task_id: Any) -> None:
    got = created(reply(200, json={"code": 200, "data": {"taskId": task_id}}))
    assert isinstance(got, OutcomeUnknown)


# --- A server of that shape -------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def server() -> Iterator[FakeUpstream]:
    with FakeUpstream() as up:
        yield up


@pytest.fixture
def up(server: FakeUpstream) -> FakeUpstream:
    server.forget()
    server.behave(ready_s=0, errors_in_envelope=0)
    return server


def started(up: FakeUpstream, prompt: str = "a fox") -> str:
    return create(there(up), replace(ORDER, prompt=prompt)).upstream_id


def test_alices_order_becomes_a_picture(up: FakeUpstream) -> None:
    up.behave(ready_s=30)
    task_id = started(up)
    assert look(there(up), task_id).state is State.RUNNING
    up.behave(ready_s=0)
    report = look(there(up), started(up))
    assert report.state is State.SUCCEEDED
    assert urllib.request.urlopen(report.urls[0], timeout=10).headers["Content-Type"] == "image/jpeg"
    assert asyncio.run(there(up).draw(report.urls[0])) is None
    assert up.stats()["tasks"][0]["model"] == ORDER.model


@pytest.mark.parametrize("in_envelope", [0, 1])
def test_a_wrong_key_is_the_operators_trouble(up: FakeUpstream, in_envelope: int) -> None:
    up.behave(errors_in_envelope=in_envelope)
    got = create(AIGenerate(base_url=up.base_url, api_key="nonsense"), ORDER)
    assert isinstance(got, Rejected)
    assert got.failure is Failure.UPSTREAM_UNAVAILABLE
    assert up.stats()["tasks"] == []


def test_the_first_looks_may_come_too_early(up: FakeUpstream) -> None:
    up.fault(where="look", kind="status", status=404, times=1)
    up.fault(where="look", kind="envelope", code=422, msg="recordInfo is null", times=2)
    task_id = started(up)
    got = [look(there(up), task_id) for _ in range(3)]
    assert [type(report) for report in got] == [TryLater, TryLater, Report]


def test_a_task_is_ours_when_the_upstream_names_our_callback_address(up: FakeUpstream) -> None:
    ours = "https://ours.test/hooks/token"
    task_id = create(there(up), replace(ORDER, callback_url=ours)).upstream_id
    nobody_named = started(up)
    assert asked(lambda http: there(up).is_ours(http, task_id, ours)) is True
    assert asked(lambda http: there(up).is_ours(http, task_id, "https://ours.test/hooks/other")) is False
    assert asked(lambda http: there(up).is_ours(http, nobody_named, "")) is False
    assert isinstance(asked(lambda http: there(up).is_ours(http, "task_of_nobody", ours)), TryLater)


@pytest.mark.parametrize("param", [None, 7, "", "[1]", "{", {"callBackUrl": None}, [], '{"callBackUrl": ""}'])
def test_a_task_whose_order_cannot_be_read_is_not_ours(param: Any) -> None:
    answer = reply(200, json={"code": 200, "data": {"state": "success", "param": param}})
    theirs = AIGenerate(base_url=HOME, api_key=KEY)
    canned = Canned(lambda asked: answer)
    assert asked(lambda http: theirs.is_ours(http, "task_1", "x"), canned) is False
    assert asked(lambda http: theirs.is_ours(http, "task_1", ""), canned) is False


def test_the_charge_that_a_header_names_is_noted() -> None:
    answer = {"code": 200, "data": {"taskId": "task_1"}}
    for said, micros in (("5", 35_000), ("7.5", 52_500), ("lots", None), ("-1", None), ("", None)):
        got = created(reply(json=answer, headers={"X-AI-Credits-Charged": said}))
        assert got.cost_micros == micros
    assert created(reply(json=answer)).cost_micros is None


def test_the_operator_sees_what_is_left(up: FakeUpstream) -> None:
    assert balance(there(up)) == "1,234.5 credits"
    assert isinstance(balance(AIGenerate(base_url=up.base_url, api_key="nonsense")), TryLater)


# --- The real one -------------------------------------------------------------------------------------
LIVE_COST_USD = 0.035


@pytest.mark.skipif(
    not os.environ.get("AIGENERATE_LIVE_KEY")
    or float(os.environ.get("AIGENERATE_LIVE_USD_LIMIT") or 0) < LIVE_COST_USD,
    reason=f"spends ${LIVE_COST_USD} upstream. To turn it on: set AIGENERATE_LIVE_KEY, AIGENERATE_LIVE_USD_LIMIT={LIVE_COST_USD}"
    " or more, and AIGENERATE_LIVE_BASE_URL and AIGENERATE_LIVE_MODEL where they are not the default",
)
def test_the_real_upstream_makes_one_picture() -> None:
    base_url = os.environ.get("AIGENERATE_LIVE_BASE_URL", "https://aimarcusimage.eu/api/v1")
    live = AIGenerate(base_url=base_url, api_key=os.environ["AIGENERATE_LIVE_KEY"])

    async def picture() -> Report:
        async with net.client(allowed_hosts=[]) as http:
            order = replace(ORDER, model=os.environ.get("AIGENERATE_LIVE_MODEL", ORDER.model))
            task_id = (await live.create(http, order)).upstream_id
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
