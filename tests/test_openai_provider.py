"""The openai provider: against published payloads, against a server of that shape, and against a real one.

What holds for every provider is in test_providers.
"""

import asyncio
import base64
import hashlib
import io
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http.multipartparser import MultiPartParser
from PIL import Image

from playground import net
from playground.providers import openai
from playground.providers.base import Failure, Order, OutcomeUnknown, Rejected, Started, State
from playground.providers.openai import OpenAI
from tests.canned import Asked, Canned, reply
from tests.fake_openai import FakeOpenAI
from tests.fake_wire import Reply, Wire
from tests.talking import ORDER, asked, balance, create, look, payloads, picture, understood

KEY = "sk-canary-88bb"
PAYLOADS = payloads("openai")
EDIT = replace(ORDER, inputs=(picture(),))
BLEND = replace(ORDER, inputs=(picture("a.jpg", b"\xff\xd8\xff\r\n--a"), picture("b.jpg", b"\xff\xd8\xff b")))


def provider(base_url: str = "https://up.test/v1", api_key: str = KEY) -> OpenAI:
    return OpenAI(base_url=base_url, api_key=api_key)


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_a_published_answer_is_understood(path: Path) -> None:
    payload = json.loads(path.read_text())
    assert payload["expect"].items() <= understood(provider(), payload).items()


def test_there_are_payloads() -> None:
    assert len(PAYLOADS) >= 35


# --- What is sent -------------------------------------------------------------------------------------
def sent(order: Order, api_key: str = KEY) -> Asked:
    client = Canned(lambda _: reply(json={"data": []}))
    create(provider(api_key=api_key), order, client)
    return client.asked[0]


def test_a_picture_from_nothing_is_asked_for_in_json() -> None:
    request = sent(ORDER)
    assert (request.method, request.url) == ("POST", "https://up.test/v1/images/generations")
    assert request.headers == {"Authorization": f"Bearer {KEY}"}
    assert request.json == {
        "model": "flux-2-pro",
        "prompt": ORDER.prompt,
        "n": 1,
        "size": "1360x768",
        "response_format": "b64_json",
        "seed": 7,
    }
    assert request.limit_bytes == 60_000_000


def test_a_server_that_asks_for_no_key_is_sent_none() -> None:
    assert sent(ORDER, api_key="").headers == {}


def test_a_route_adds_replaces_and_drops_but_never_what_was_ordered() -> None:
    fixed = {"response_format": None, "size": "auto", "quality": "high", "n": 4, "prompt": "advertising"}
    assert sent(replace(ORDER, fixed=fixed, seed=None)).json == {
        "model": "flux-2-pro",
        "prompt": ORDER.prompt,
        "n": 1,
        "size": "auto",
        "quality": "high",
    }


def on_the_wire(order: Order) -> tuple[dict[str, str], bytes]:
    """The headers and the body that really go out."""
    seen: list[tuple[dict[str, str], bytes]] = []

    async def talk() -> None:
        def answer(method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
            seen.append((headers, body))
            return Reply(b'{"data": []}')

        async with await Wire(answer).listen(0) as server, net.client(allowed_hosts=[]) as http:
            port = server.sockets[0].getsockname()[1]
            await provider(f"http://127.0.0.1:{port}/v1").create(http, order)

    asyncio.run(talk())
    return seen[0]


@pytest.mark.parametrize(("order", "name"), [(EDIT, "image"), (BLEND, "image[]")], ids=["one", "two"])
def test_a_form_is_read_by_others_as_it_was_meant(order: Order, name: str) -> None:
    order = replace(order, prompt='füchse\r\n"im" Schnee', fixed={"moderation": True})
    headers, body = on_the_wire(order)
    environ = {"CONTENT_TYPE": headers["content-type"], "CONTENT_LENGTH": headers["content-length"]}
    handler = MemoryFileUploadHandler()
    handler.activated = True
    texts, files = MultiPartParser(environ, io.BytesIO(body), [handler]).parse()
    assert texts.dict() == {
        "model": "flux-2-pro",
        "prompt": order.prompt,
        "n": "1",
        "size": "1360x768",
        "response_format": "b64_json",
        "seed": "7",
        "moderation": "true",
    }
    assert [file.read() for file in files.getlist(name)] == [one.data for one in order.inputs]
    assert [file.name for file in files.getlist(name)] == [one.name for one in order.inputs]
    assert list(files) == [name]
    assert {file.content_type for file in files.getlist(name)} == {"image/jpeg"}


# --- A server of that shape ---------------------------------------------------------------------------
@pytest.fixture(scope="module")
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as up:
        yield up


@pytest.fixture
def up(server: FakeOpenAI) -> FakeOpenAI:
    server.forget()
    server.behave(ready_s=0, with_url=0, refuses="")
    return server


def there(up: FakeOpenAI) -> OpenAI:
    return provider(up.base_url, up.api_key)


def test_alices_order_is_answered_with_its_picture(up: FakeOpenAI) -> None:
    started = create(there(up))
    assert Image.open(io.BytesIO(started.picture)).size == (1360, 768)
    assert started.upstream_id == f"{ORDER.job_id}.req_1"
    assert "bytes" not in repr(started) and len(repr(started)) < 300


@pytest.mark.parametrize("order", [EDIT, BLEND], ids=["one", "two"])
def test_alices_edit_arrives_with_its_pictures(up: FakeOpenAI, order: Order) -> None:
    assert create(there(up), order).picture
    assert up.stats()["tasks"][0]["inputs"] == [hashlib.sha256(one.data).hexdigest() for one in order.inputs]


def test_two_jobs_never_share_an_id_whatever_the_server_calls_them() -> None:
    answer = reply(json={"data": [{"url": "https://pictures.test/a.jpg"}]}, headers={"x-request-id": "same"})
    ids = {
        create(provider(), replace(ORDER, job_id=job), Canned(lambda _: answer)).upstream_id
        for job in ("one", "two")
    }
    assert ids == {"one.same", "two.same"}


def test_a_picture_of_twenty_megabytes_fits(up: FakeOpenAI) -> None:
    data = b"\xff\xd8\xff" + bytes(20_000_000)
    text = json.dumps({"data": [{"b64_json": base64.b64encode(data).decode()}]})
    assert create(provider(), client=Canned(lambda _: reply(text=text))).picture == data


def test_an_address_is_kept_for_the_engine_to_fetch(up: FakeOpenAI) -> None:
    up.behave(with_url=1)
    started = create(there(up))
    assert started.picture is None
    report = look(there(up), started.upstream_id, started.memo)
    assert report.state is State.SUCCEEDED
    assert report.urls[0].startswith(f"http://{up.host}/files/")


def test_an_address_too_long_to_keep_is_fetched_at_once(up: FakeOpenAI) -> None:
    up.behave(with_url=1)
    known = create(there(up)).memo
    up.fault(where="create", kind="url", url=f"{known}?sig={'x' * 600}")

    async def made() -> Started:
        async with net.client(allowed_hosts=[up.host]) as http:
            return await there(up).create(http, replace(ORDER, prompt="another"))

    started = asyncio.run(made())
    assert Image.open(io.BytesIO(started.picture or b"")).size == (1360, 768)
    assert started.memo == ""
    # Not allowed: it points inside. It was made and it may have cost, so it is not ordered again.
    assert isinstance(create(there(up), replace(ORDER, prompt="a third")), OutcomeUnknown)


@pytest.mark.parametrize("kind", ["no_picture", "bad_base64"])
def test_a_success_without_a_picture_fails_at_the_first_look(up: FakeOpenAI, kind: str) -> None:
    up.fault(where="create", kind=kind)
    started = create(there(up))
    report = look(there(up), started.upstream_id, started.memo)
    assert (report.state, report.failure) == (State.FAILED, Failure.NO_PICTURE)


def test_a_field_that_a_server_does_not_know_can_be_dropped_by_the_route(up: FakeOpenAI) -> None:
    up.behave(refuses="response_format")
    assert isinstance(create(there(up)), Rejected)
    started = create(there(up), replace(ORDER, fixed={"response_format": None}))
    assert started.picture


def test_it_gives_the_longest_time_that_a_create_may_take(up: FakeOpenAI) -> None:
    assert openai.CREATE_S < OpenAI.longest_create_s == 120
    up.behave(ready_s=1)
    assert create(there(up)).picture


def test_it_calls_nobody_back_and_knows_no_balance() -> None:
    assert asked(lambda http: provider().is_ours(http, "a", "https://ours.test/hook")) is False
    assert balance(provider()) == ""


@pytest.mark.parametrize("code", [0, -5, "400", None, [], True])
def test_a_strange_code_within_a_success_is_survived(code: Any) -> None:
    got = create(provider(), client=Canned(lambda _: reply(json={"error": {"message": "no", "code": code}})))
    assert isinstance(got, Rejected)


# --- A real one ---------------------------------------------------------------------------------------
LIVE_COST_USD = 0.05


@pytest.mark.skipif(
    not os.environ.get("OPENAI_LIVE_KEY")
    or float(os.environ.get("OPENAI_LIVE_USD_LIMIT") or 0) < LIVE_COST_USD,
    reason=f"spends up to ${LIVE_COST_USD} upstream. To turn it on: set OPENAI_LIVE_KEY, OPENAI_LIVE_USD_LIMIT={LIVE_COST_USD}"
    " or more, OPENAI_LIVE_BASE_URL, OPENAI_LIVE_MODEL, and OPENAI_LIVE_FIXED (JSON) where its route needs some",
)
def test_a_real_upstream_makes_one_picture() -> None:
    live = provider(
        os.environ.get("OPENAI_LIVE_BASE_URL", "https://api.openai.com/v1"), os.environ["OPENAI_LIVE_KEY"]
    )
    order = replace(
        ORDER,
        model=os.environ.get("OPENAI_LIVE_MODEL", "gpt-image-1-mini"),
        width=1024,
        height=1024,
        seed=None,
        fixed=json.loads(os.environ.get("OPENAI_LIVE_FIXED", '{"response_format": null, "quality": "low"}')),
    )
    started = create(live, order)
    assert isinstance(started, Started), started
    if started.picture:
        Image.open(io.BytesIO(started.picture)).load()
    else:
        assert look(live, started.upstream_id, started.memo).urls
