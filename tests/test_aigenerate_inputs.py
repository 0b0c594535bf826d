"""The aigenerate provider's second endpoint, Kontext, and how input pictures get to its hosts."""

import asyncio
import hashlib
import json
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from playground import net
from playground.providers.aigenerate import AIGenerate, inputs
from playground.providers.aigenerate import provider as client_module
from playground.providers.base import Failure, Order, Rejected, State, TryLater
from tests.canned import Canned, reply
from tests.fake_upstream import FakeUpstream
from tests.talking import ORDER, asked, create, look, picture

KEY = "sk-aig-canary-5f2b"
HOME = "https://upstream.test/api/v1"
OURS = "https://ours.test/hooks/token"
KONTEXT = replace(ORDER, model="flux-kontext-pro")
KIE = replace(ORDER, model="flux-2/pro-text-to-image")
SLUG = "black-forest-labs-black-forest-labs-flux1-kontext-text-to-image-pro"


def there(up: FakeUpstream, **more: Any) -> AIGenerate:
    return AIGenerate(base_url=up.base_url, api_key=up.api_key, **more)


def sent(order: Order, **more: Any) -> tuple[str, Any]:
    """The path and the body of a create, with input pictures at addresses of ours."""
    client = Canned(lambda _: reply(json={"code": 200, "data": {"taskId": "task_1"}}))
    create(AIGenerate(base_url=HOME, api_key=KEY, inputs_by="url", **more), order, client)
    return client.asked[-1].url.removeprefix(HOME), client.asked[-1].json


# --- What is sent -------------------------------------------------------------------------------------
def test_kontext_has_an_endpoint_and_a_flat_body_of_its_own() -> None:
    path, body = sent(replace(KONTEXT, callback_url=OURS))
    assert path == "/flux/kontext/generate"
    assert body == {
        "model": "flux-kontext-pro",
        "prompt": ORDER.prompt,
        "aspectRatio": "16:9",
        "outputFormat": "jpeg",
        "callBackUrl": OURS,
    }


def test_kontext_edits_the_one_picture_that_it_is_given() -> None:
    _, body = sent(replace(KONTEXT, inputs=(picture(url="https://ours.test/inputs/a/"),)))
    assert body["inputImage"] == "https://ours.test/inputs/a/"
    assert "callBackUrl" not in body


def test_a_route_changes_how_kontext_works_but_not_what_was_ordered() -> None:
    fixed = {
        "safetyTolerance": 5,
        "outputFormat": "png",
        "prompt": "advertising",
        "callBackUrl": "https://x.test",
    }
    _, body = sent(replace(KONTEXT, fixed=fixed))
    assert (body["safetyTolerance"], body["outputFormat"], body["prompt"]) == (5, "png", ORDER.prompt)
    assert "callBackUrl" not in body


@pytest.mark.parametrize(
    ("model", "fixed", "path"),
    [
        ("flux-kontext-max", {}, "/flux/kontext/generate"),
        (SLUG, {}, "/jobs/createTask"),
        (SLUG, {"endpoint": "kontext"}, "/flux/kontext/generate"),
        ("flux-kontext-pro", {"endpoint": "jobs"}, "/jobs/createTask"),
        ("flux-2/pro-text-to-image", {"endpoint": "nonsense"}, "/jobs/createTask"),
    ],
)
def test_the_model_decides_the_endpoint_unless_the_route_does(
    model: str, fixed: dict[str, Any], path: str
) -> None:
    asked_at, body = sent(replace(ORDER, model=model, fixed=fixed))
    assert asked_at == path
    assert "endpoint" not in json.dumps(body)


@pytest.mark.parametrize(
    ("order", "resolution"),
    [
        (KIE, "1K"),
        (replace(KIE, fixed={"resolution": "2K"}), "2K"),
        (replace(KIE, resolution=""), None),
        (ORDER, None),
    ],
    ids=["order", "route", "none", "another name"],
)
def test_a_resolution_goes_to_those_whose_names_have_none(order: Order, resolution: str | None) -> None:
    assert sent(order)[1]["input"].get("resolution") == resolution


def test_inputs_of_a_task_are_a_list_of_addresses() -> None:
    two = tuple(picture(url=f"https://ours.test/inputs/{n}/") for n in range(2))
    _, body = sent(replace(KIE, inputs=two))
    assert body["input"]["input_urls"] == ["https://ours.test/inputs/0/", "https://ours.test/inputs/1/"]


def test_without_a_public_address_of_ours_it_says_what_to_do() -> None:
    provider = AIGenerate(base_url=HOME, api_key=KEY, inputs_by="url")
    got = create(provider, replace(KIE, inputs=(picture(),)), Canned(lambda _: net.NoAnswer("sent")))
    assert isinstance(got, Rejected)
    assert got.failure is Failure.UPSTREAM_UNAVAILABLE
    assert "BASE_URL" in got.detail


def test_it_takes_no_base64() -> None:
    with pytest.raises(ValueError, match="upload or by url"):
        AIGenerate(base_url=HOME, api_key=KEY, inputs_by="base64")


# --- A server of that shape ---------------------------------------------------------------------------
@pytest.fixture(scope="module")
def server() -> Iterator[FakeUpstream]:
    with FakeUpstream() as up:
        yield up


@pytest.fixture
def up(server: FakeUpstream) -> FakeUpstream:
    server.forget()
    server.behave(ready_s=0, errors_in_envelope=0)
    return server


def test_alices_kontext_order_becomes_a_picture(up: FakeUpstream) -> None:
    up.behave(ready_s=30)
    started = create(there(up), KONTEXT)
    assert started.memo == "kontext"
    assert look(there(up), started.upstream_id, started.memo).state is State.RUNNING
    up.behave(ready_s=0)
    started = create(there(up), replace(KONTEXT, prompt="another"))
    report = look(there(up), started.upstream_id, started.memo)
    assert report.state is State.SUCCEEDED
    assert urllib.request.urlopen(report.urls[0], timeout=10).headers["Content-Type"] == "image/jpeg"


@pytest.mark.parametrize("order", [KONTEXT, KIE], ids=["kontext", "jobs"])
def test_a_task_that_was_found_again_is_ours_at_whichever_endpoint(up: FakeUpstream, order: Order) -> None:
    """Its create was answered into the void, so no memo says where it is."""
    started = create(there(up), replace(order, callback_url=OURS))
    assert asked(lambda http: there(up).is_ours(http, started.upstream_id, OURS)) is True
    assert asked(lambda http: there(up).is_ours(http, started.upstream_id, OURS + "2")) is False
    assert asked(lambda http: there(up).is_ours(http, started.upstream_id, "")) is False
    assert look(there(up), started.upstream_id, "").state is State.SUCCEEDED


def test_a_task_whose_endpoint_is_known_is_not_asked_for_elsewhere() -> None:
    for memo, path in (("jobs", "/jobs/recordInfo"), ("kontext", "/flux/kontext/record-info")):
        client = Canned(lambda _: reply(404, json={"code": 404, "msg": "Task not found"}))
        assert isinstance(look(AIGenerate(base_url=HOME, api_key=KEY), "a", memo, client), TryLater)
        assert [one.url for one in client.asked] == [HOME + path]


EDIT = replace(KIE, model="flux-2/pro-image-to-image", inputs=(picture(), picture("b.png", b"\x89PNG b")))


@pytest.mark.parametrize("order", [EDIT, replace(KONTEXT, inputs=EDIT.inputs[:1])], ids=["jobs", "kontext"])
def test_alices_pictures_are_uploaded_before_they_are_ordered_with(up: FakeUpstream, order: Order) -> None:
    assert create(there(up), order).upstream_id
    stats = up.stats()
    urls = [f"http://{up.host}/uploads/inputs/{one.name}" for one in order.inputs]
    assert stats["tasks"][0]["inputs"] == urls
    for one in order.inputs:
        seen = stats["uploads"][one.name]
        assert seen["sha256"] == hashlib.sha256(one.data).hexdigest()
        assert (seen["filename"], seen["mimeType"]) == (one.name, "image/jpeg")


def test_uploads_may_have_a_host_of_their_own(up: FakeUpstream) -> None:
    elsewhere = AIGenerate(
        base_url="http://127.0.0.1:9/api/v1", api_key=up.api_key, upload_url=f"http://{up.host}/"
    )
    assert isinstance(create(elsewhere, EDIT), TryLater)  # the order's own host is not there
    assert up.stats()["uploaded"] == 2


def many(provider: AIGenerate, orders: list[Order]) -> None:
    async def at_once() -> None:
        async with net.client(allowed_hosts=[]) as http:
            await asyncio.gather(*(provider.create(http, order) for order in orders))

    asyncio.run(at_once())


def test_a_runs_jobs_share_one_upload_for_an_hour(up: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = there(up)
    many(provider, [replace(EDIT, prompt=f"fox {n}") for n in range(8)])
    assert up.stats()["uploaded"] == 2
    monkeypatch.setattr(inputs.time, "monotonic", lambda now=inputs.time.monotonic: now() + inputs.KEPT_S)
    many(provider, [EDIT])
    assert up.stats()["uploaded"] == 4


def test_what_is_remembered_of_uploads_has_a_bound(up: FakeUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MOST_KEPT", 3)
    provider = there(up)
    many(provider, [replace(EDIT, prompt=f"fox {n}", inputs=(picture(f"{n}.jpg"),)) for n in range(5)])
    assert len(provider._uploads._kept) == 3
    assert len(provider._uploads._under_way) == 0


UPLOAD_LOSSES: list[dict[str, Any]] = [
    {"kind": "reset"},
    {"kind": "silent"},
    {"kind": "truncate"},
    {"kind": "html"},
    {"kind": "empty"},
    {"kind": "garbage"},
    {"kind": "never_ending", "seconds": 0.01},
    {"kind": "slow_drip", "seconds": 0.05},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 429},
    {"kind": "envelope", "code": 500},
    {"kind": "huge", "mb": 5},
    {"kind": "redirect"},
]


@pytest.mark.parametrize("fault", UPLOAD_LOSSES, ids=lambda fault: "-".join(map(str, fault.values())))
def test_an_upload_that_fails_starts_nothing(
    up: FakeUpstream, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "UPLOADS_S", 0.5)
    up.fault(where="upload", **fault)
    assert isinstance(create(there(up), EDIT), TryLater)
    assert up.stats()["creates"] == []
    up.clear()
    assert create(there(up), EDIT).upstream_id


def test_an_upload_survives_every_wrong_type(up: FakeUpstream) -> None:
    up.fault(where="upload", kind="wrong_types")
    for _ in range(6):
        assert isinstance(create(there(up), EDIT), TryLater)
    assert up.stats()["creates"] == []


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (401, Failure.UPSTREAM_UNAVAILABLE),
        (404, Failure.UPSTREAM_UNAVAILABLE),
        (413, Failure.REJECTED),
        (422, Failure.REJECTED),
    ],
)
def test_an_upload_that_is_refused_for_good_is_not_tried_again(
    up: FakeUpstream, status: int, failure: Failure
) -> None:
    up.fault(where="upload", kind="status", status=status, msg="no")
    got = create(there(up), EDIT)
    assert isinstance(got, Rejected)
    assert got.failure is failure
    assert got.detail == f"The upload of an input picture failed: HTTP {status}, code {status}: no"
    assert up.stats()["creates"] == []


def test_the_key_is_in_no_word_about_an_upload() -> None:
    provider = AIGenerate(base_url=HOME, api_key=KEY)
    for answer in (
        reply(500, json={"code": 500, "msg": KEY}),
        reply(401, json={"code": 401, "msg": KEY}),
        net.NoAnswer(KEY),
        net.NotSent(KEY),
    ):
        got = create(provider, EDIT, Canned(lambda _, answer=answer: answer))
        assert KEY not in repr(vars(got)) + str(got)
