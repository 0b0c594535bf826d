"""The bfl provider: against published payloads, against a server of that shape, and against the real one.

What holds for every provider is in test_providers.
"""

import asyncio
import base64
import hashlib
import json
import os
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from playground import net
from playground.providers.base import Failure, Rejected, Report, State, TryLater
from playground.providers.bfl import BFL, body
from tests.canned import Canned, reply
from tests.fake_bfl import FIELDS, FakeBFL
from tests.talking import ORDER, asked, balance, create, look, payloads, picture, understood

KEY = "bfl-canary-77aa"
HOME = "https://api.bfl.ai"
PAYLOADS = payloads("bfl")
KONTEXT = replace(ORDER, model="flux-kontext-pro")


def provider(base_url: str = HOME, api_key: str = KEY) -> BFL:
    return BFL(base_url=base_url, api_key=api_key)


@pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: path.stem)
def test_a_published_answer_is_understood(path: Path) -> None:
    payload = json.loads(path.read_text())
    assert payload["expect"].items() <= understood(provider(), payload).items()


def test_there_are_payloads() -> None:
    assert len(PAYLOADS) >= 40


# --- What is sent -------------------------------------------------------------------------------------
def test_create_sends_the_order_as_the_contract_has_it() -> None:
    client = Canned(lambda _: reply(json={"id": "a", "cost": 3}))
    create(provider(HOME + "/v1/"), replace(ORDER, callback_url="https://ours.test/hooks/token"), client)
    [request] = client.asked
    assert (request.method, request.url) == ("POST", "https://api.bfl.ai/v1/flux-2-pro")
    assert request.headers == {"x-key": KEY}
    assert request.json == {
        "prompt": ORDER.prompt,
        "output_format": "jpeg",
        "seed": 7,
        "width": 1360,
        "height": 768,
    }


def test_a_host_of_one_region_is_asked_to_call_back() -> None:
    client = Canned(lambda _: reply(json={"id": "a", "cost": 3}))
    ordered = replace(ORDER, callback_url="https://ours.test/hooks/token")
    create(provider("https://api.eu.bfl.ai"), ordered, client)
    assert client.asked[0].json["webhook_url"] == "https://ours.test/hooks/token"


def test_kontext_takes_a_ratio_and_no_size() -> None:
    assert body(replace(KONTEXT, seed=None)) == {
        "prompt": ORDER.prompt,
        "output_format": "jpeg",
        "aspect_ratio": "16:9",
    }


@pytest.mark.parametrize(
    ("model", "asked_for", "sent"),
    [
        ("flux-2-flex", (2048, 2048), (2048, 2048)),
        ("flux-2-flex", (2720, 1536), (2720, 1536)),
        ("flux-2-pro", (1000, 1000), (992, 992)),
        ("flux-2-max", (4096, 2048), (2896, 1440)),
        ("flux-2-klein-4b", (16, 16), (64, 64)),
        ("flux-pro-1.1", (1360, 768), (1344, 768)),
        ("flux-pro-1.1", (1552, 656), (1440, 608)),
        ("flux-pro-1.1", (2048, 64), (1440, 256)),
    ],
)
def test_sizes_are_what_each_model_takes(
    model: str, asked_for: tuple[int, int], sent: tuple[int, int]
) -> None:
    width, height = asked_for
    got = body(replace(ORDER, model=model, width=width, height=height))
    assert (got["width"], got["height"]) == sent


def test_a_route_adds_replaces_and_drops_but_never_the_prompt() -> None:
    fixed = {"disable_pup": True, "output_format": "png", "webhook_url": None, "prompt": "advertising"}
    got = body(replace(ORDER, fixed=fixed, callback_url="https://ours.test/hooks/token"))
    assert (got["disable_pup"], got["output_format"], got["prompt"]) == (True, "png", ORDER.prompt)
    assert "webhook_url" not in got


@pytest.mark.parametrize(("given", "sent"), [(6, 2), (1, 1)])
def test_an_edit_is_as_tolerant_as_edits_may_be(given: int, sent: int) -> None:
    tolerant = replace(KONTEXT, fixed={"safety_tolerance": given})
    assert body(tolerant)["safety_tolerance"] == given
    assert body(replace(tolerant, inputs=(picture(),)))["safety_tolerance"] == sent


def test_input_pictures_are_numbered_from_the_second_on() -> None:
    inputs = tuple(picture(f"{n}.jpg", b"\xff\xd8\xff" + bytes([n])) for n in range(1, 9))
    got = body(replace(ORDER, inputs=inputs))
    assert [name for name in got if name.startswith("input")] == [
        "input_image",
        *(f"input_image_{n}" for n in range(2, 9)),
    ]
    assert base64.b64decode(got["input_image_8"]) == inputs[7].data


def test_a_model_name_that_is_no_path_is_sent_nowhere() -> None:
    for name in ("../credits", "flux 2", "", "flux-2-pro?x=1"):
        got = create(provider(), replace(ORDER, model=name), Canned(lambda _: net.NoAnswer("sent")))
        assert isinstance(got, Rejected)
        assert got.failure is Failure.UPSTREAM_UNAVAILABLE


# --- Where to ask -------------------------------------------------------------------------------------
def memo(polling_url: Any, base_url: str = HOME) -> str:
    client = Canned(lambda _: reply(json={"id": "a", "polling_url": polling_url}))
    return create(provider(base_url), client=client).memo


@pytest.mark.parametrize(
    ("base_url", "polling_url"),
    [
        (HOME, "https://api.bfl.ai/v1/get_result?id=a"),
        (HOME, "https://api.us1.bfl.ai/v1/get_result?id=a"),
        ("http://127.0.0.1:8101", "http://127.0.0.1:8101/v1/get_result?id=a"),
        ("https://reseller.test/bfl", "https://reseller.test/bfl/v1/get_result?id=a"),
    ],
)
def test_a_tasks_own_address_is_kept_and_asked(base_url: str, polling_url: str) -> None:
    assert memo(polling_url, base_url) == polling_url
    client = Canned(lambda _: reply(json={"status": "Pending"}))
    look(provider(base_url), "a", polling_url, client)
    assert (client.asked[0].url, client.asked[0].headers) == (polling_url, {"x-key": KEY})


@pytest.mark.parametrize(
    "polling_url",
    [
        "https://evil.test/v1/get_result?id=a",
        "https://bfl.ai.evil.test/a",
        "https://evilbfl.ai/a",
        "http://api.us1.bfl.ai/a",
        "https://api.us1.bfl.ai:8443/a",
        "https://api.bfl.ai@evil.test/a",
        "https://evil.test\\@api.bfl.ai/a",
        "https://evil.test#.bfl.ai/a",
        "https://evil.test?.bfl.ai/a",
        "//api.bfl.ai/a",
        "/v1/get_result?id=a",
        "https://api.bfl.ai/a\r\nx-key: b",
        "https://api.bfl.ai/" + "a" * 500,
        "https://127.0.0.1/a",
        "https://api.bfl.ai:99999/a",
        7,
        None,
        ["https://api.bfl.ai/a"],
    ],
)
def test_an_address_elsewhere_is_not_kept_and_never_sees_the_key(polling_url: Any) -> None:
    assert memo(polling_url) == ""
    client = Canned(lambda _: reply(json={"status": "Pending"}))
    look(provider(), "a", str(polling_url), client)
    assert client.asked[0].url == "https://api.bfl.ai/v1/get_result"
    assert client.asked[0].params == {"id": "a"}


def test_a_local_server_does_not_open_its_neighbour() -> None:
    assert memo("http://127.0.0.1:8102/v1/get_result?id=a", "http://127.0.0.1:8101") == ""


@pytest.mark.parametrize("cost", [float("inf"), float("nan"), 1e300, "1e999", "free", True, [3], {}, 10**400])
def test_a_cost_that_cannot_be_one_is_no_cost(cost: Any) -> None:
    text = json.dumps({"id": "a", "cost": cost})
    got = create(provider(), client=Canned(lambda _: reply(text=text)))
    assert got.cost_micros is None


def test_no_id_that_somebody_sends_is_taken_for_ours() -> None:
    client = Canned(lambda _: AssertionError("nothing is asked"))
    assert asked(lambda http: provider().is_ours(http, "a", "https://ours.test/hook"), client) is False


def test_its_bounds_are_those_of_the_contract() -> None:
    assert provider().most_at_once == {"": 24, "flux-kontext-max": 6}
    assert (provider().inputs_by, provider().result_hosts) == ("base64", ("bfl.ai",))


# --- A server of that shape ---------------------------------------------------------------------------
@pytest.fixture(scope="module")
def server() -> Iterator[FakeBFL]:
    with FakeBFL() as up:
        yield up


@pytest.fixture
def up(server: FakeBFL) -> FakeBFL:
    server.forget()
    server.behave(ready_s=0, most_tasks=0, not_found_s=0)
    return server


def there(up: FakeBFL) -> BFL:
    return provider(up.base_url, up.api_key)


@pytest.mark.parametrize("model", sorted(FIELDS))
def test_alices_order_becomes_a_picture(up: FakeBFL, model: str) -> None:
    started = create(there(up), replace(ORDER, model=model))
    report = look(there(up), started.upstream_id, started.memo)
    assert report.state is State.SUCCEEDED
    assert urllib.request.urlopen(report.urls[0], timeout=10).headers["Content-Type"] == "image/jpeg"
    [task] = up.stats()["tasks"]
    assert (task["model"], task["body"]["seed"]) == (model, 7)
    assert started.cost_micros > 0


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("model", sorted(FIELDS))
def test_alices_edit_arrives_with_its_pictures(up: FakeBFL, model: str, count: int) -> None:
    inputs = tuple(picture(f"{n}.jpg", b"\xff\xd8\xff" + bytes([n])) for n in range(count))
    got = create(there(up), replace(ORDER, model=model, inputs=inputs))
    if model == "flux-pro-1.1":
        assert got.failure is Failure.REJECTED  # it makes pictures from nothing only
        return
    assert up.stats()["tasks"][0]["inputs"] == [hashlib.sha256(one.data).hexdigest() for one in inputs]


def test_with_a_webhook_it_is_asked_by_its_id(up: FakeBFL) -> None:
    up.behave(ready_s=30)
    started = create(there(up), replace(ORDER, callback_url="http://127.0.0.1:9/hook"))
    assert started.memo == ""
    running = look(there(up), started.upstream_id)
    assert running.state is State.RUNNING
    assert 0 <= running.progress < 100
    up.behave(ready_s=0)
    started = create(there(up), replace(ORDER, prompt="b fox", callback_url="http://127.0.0.1:9/hook/2"))
    assert look(there(up), started.upstream_id).state is State.SUCCEEDED


def test_a_server_that_sends_its_clients_elsewhere_is_asked_itself(up: FakeBFL) -> None:
    up.fault(where="create", kind="polling_url", url="https://evil.test/steal")
    started = create(there(up))
    assert look(there(up), started.upstream_id, started.memo).state is State.SUCCEEDED


def test_the_first_looks_may_come_too_early(up: FakeBFL) -> None:
    up.behave(not_found_s=0.3)
    started = create(there(up))
    assert isinstance(look(there(up), started.upstream_id, started.memo), TryLater)
    up.behave(not_found_s=0)
    assert look(there(up), started.upstream_id, started.memo).state is State.SUCCEEDED


def test_more_than_it_runs_at_once_waits(up: FakeBFL) -> None:
    up.behave(ready_s=30, most_tasks=1)
    create(there(up))
    assert isinstance(create(there(up), replace(ORDER, prompt="another")), TryLater)


def test_the_operator_sees_what_is_left(up: FakeBFL) -> None:
    assert balance(there(up)) == "987.25 credits"
    assert isinstance(balance(provider(up.base_url, "nonsense")), TryLater)


@pytest.mark.parametrize(
    ("credits", "words"),
    [
        (0, "0 credits"),
        (1e-249, "0 credits"),
        (100, "100 credits"),
        (-2.5, "-2.5 credits"),
        ("12345.678", "12,345.68 credits"),
    ],
)
def test_a_balance_is_told_to_the_hundredth(credits: Any, words: str) -> None:
    assert balance(provider(), Canned(lambda _: reply(json={"credits": credits}))) == words


# --- The real one -------------------------------------------------------------------------------------
LIVE_COST_USD = 0.03


@pytest.mark.skipif(
    not os.environ.get("BFL_LIVE_KEY") or float(os.environ.get("BFL_LIVE_USD_LIMIT") or 0) < LIVE_COST_USD,
    reason=f"spends ${LIVE_COST_USD} upstream. To turn it on: set BFL_LIVE_KEY, BFL_LIVE_USD_LIMIT={LIVE_COST_USD}"
    " or more, and BFL_LIVE_BASE_URL where it is not the default",
)
def test_the_real_upstream_makes_one_picture() -> None:
    live = provider(os.environ.get("BFL_LIVE_BASE_URL", HOME), os.environ["BFL_LIVE_KEY"])
    order = replace(ORDER, width=1024, height=1024)

    async def made() -> Report:
        async with net.client(allowed_hosts=[]) as http:
            started = await live.create(http, order)
            for _ in range(60):
                await asyncio.sleep(2)
                try:
                    report = await live.look(http, started.upstream_id, started.memo)
                except TryLater:
                    continue
                if report.state is not State.RUNNING:
                    return report
        raise TimeoutError(started.upstream_id)

    report = asyncio.run(made())
    assert report.state is State.SUCCEEDED
    assert urllib.request.urlopen(report.urls[0], timeout=10).headers["Content-Type"].startswith("image/")
