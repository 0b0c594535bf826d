"""createTask, recordInfo, cancel and the list: the shape that other people's clients know."""

import gzip
import io
import json
import logging
import uuid
from typing import Any

import pytest

from accounts import ledger
from accounts.models import ApiKey, Cap, Hold, User
from playground import upkeep
from playground.api import ordering
from playground.api.errors import Problem
from playground.models import IdempotentCall, Job
from tests.calling import Api
from tests.making import EDIT, KONTEXT, PRO, give, load_catalogue, picture_for

CREATE = "/api/v1/jobs/createTask"
RECORD = "/api/v1/jobs/recordInfo"


@pytest.fixture
def api(alice: User) -> Api:
    load_catalogue()
    give(alice)
    return Api(alice)


def error(response: Any) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert body["code"] == response.status_code and body["msg"] == body["error"]["message"]
    return body["error"]


def test_the_published_example_works_as_it_stands(api: Api) -> None:
    slug = "black-forest-labs-black-forest-labs-flux-2-pro-text-to-image-1-0s-1k"
    response = api.post(CREATE, {"model": slug, "input": {"prompt": "A red fox in the snow"}})
    body = response.json()
    assert response.status_code == 200 and body["code"] == 200 and body["msg"] == "success"
    job = Job.objects.get(pk=body["data"]["taskId"])
    assert job.variant.slug == slug and job.params["aspect_ratio"] == "1:1" and job.key == api.key
    assert job.hold.state == Hold.State.OPEN and job.hold.amount == 35_000
    assert response["X-AI-Task-Id"] == body["data"]["taskId"] and len(response["X-Request-Id"]) == 32


@pytest.mark.parametrize(
    ("model", "more", "slug"),
    [
        ("flux-2/pro-text-to-image", {}, PRO),
        ("flux-2/pro-text-to-image", {"resolution": "2K"}, PRO.replace("-1k", "-2k")),
        (
            "flux-2/flex-text-to-image",
            {"resolution": "1k", "nsfw_checker": False},
            "flex-text-to-image-1-0s-1k",
        ),
        ("flux-kontext-pro", {"aspectRatio": "21:9"}, KONTEXT),
        ("flux-kontext-max", {}, "kontext-text-to-image-max"),
    ],
)
def test_kies_names_mean_the_same_variants(api: Api, model: str, more: dict[str, Any], slug: str) -> None:
    response = api.post(CREATE, {"model": model, "input": {"prompt": "a fox", **more}})
    assert response.status_code == 200, response.json()
    assert Job.objects.get().variant.slug.endswith(slug)


def test_what_known_clients_always_send_is_taken(api: Api) -> None:
    """`auto` is listed for text-to-image in some of kie.ai's pages, and the last ones are of the Kontext route."""
    more = {"aspect_ratio": "auto", "nsfw_checker": False, "uploadCn": False, "watermark": "", "seed": "7"}
    response = api.post(CREATE, {"model": PRO, "input": {"prompt": "a fox", **more}, "callBackUrl": ""})
    assert response.status_code == 200, response.json()
    assert Job.objects.get().params["aspect_ratio"] == "1:1"


def test_blanks_around_a_prompt_are_neither_counted_nor_kept(api: Api) -> None:
    text = json.dumps({"prompt": "a fox" + " " * 20_000}) + " " * 20_000
    for wanted in (json.loads(text), text):
        response = api.post(CREATE, {"model": PRO, "input": wanted})
        job = Job.objects.get(pk=response.json()["data"]["taskId"])
        assert job.run.prompt == "a fox" and job.asked == {"model": PRO, "input": {"prompt": "a fox"}}


def test_a_task_is_told_from_the_first_moment_on(api: Api) -> None:
    task = api.create(callBackUrl="https://example.com/hook").json()["data"]["taskId"]
    body = api.get(RECORD, {"taskId": task}).json()
    data = body["data"]
    assert body["code"] == 200 and data["state"] == "waiting" and data["taskId"] == task
    assert data["resultJson"] == "" and data["failCode"] == "" and data["creditsCharged"] == 0
    assert json.loads(data["param"]) == {
        "model": "flux-2/pro-text-to-image",
        "input": {"prompt": "a fox in the snow"},
        "callBackUrl": "https://example.com/hook",
    }
    assert "status" not in data


def test_a_result_comes_with_an_address_that_needs_no_key(api: Api, alice: User, client: Any) -> None:
    picture = picture_for(alice)
    response = api.get(RECORD, {"taskId": str(picture.job_id)})
    data = response.json()["data"]
    [url] = json.loads(data["resultJson"])["resultUrls"]
    assert data["state"] == "success" and data["creditsCharged"] == 5 and data["progress"] == 100
    assert response["X-AI-Credits-Charged"] == "5.00"
    assert client.get(url).status_code == 200


def test_others_tasks_do_not_exist(api: Api, bob: User) -> None:
    task = api.create().json()["data"]["taskId"]
    stranger = Api(bob)
    for response in (
        stranger.get(RECORD, {"taskId": task}),
        stranger.post("/api/v1/jobs/cancel", {"taskId": task}),
        api.get(RECORD, {"taskId": str(uuid.uuid4())}),
        api.get(RECORD, {"taskId": "task_flux-2_1765175490366"}),
    ):
        assert response.status_code == 404 and error(response)["code"] == "not_found"
    assert Job.objects.get().state == Job.State.QUEUED


def test_without_a_task_id_it_says_what_is_missing(api: Api) -> None:
    response = api.get(RECORD)
    assert response.status_code == 400 and response.json()["msg"] == "taskId parameter is required"


def test_a_waiting_task_can_be_cancelled_once(api: Api, alice: User) -> None:
    task = api.create().json()["data"]["taskId"]
    data = api.post("/api/v1/jobs/cancel", {"taskId": task}).json()["data"]
    assert data["state"] == "fail" and data["failMsg"] == "It was cancelled."
    assert ledger.wallet_of(alice).held == 0
    again = api.post("/api/v1/jobs/cancel", {"taskId": task})
    assert again.status_code == 409 and error(again)["code"] == "not_cancellable"


def test_the_list_pages_by_cursor(api: Api) -> None:
    made = [api.create(f"fox {number}").json()["data"]["taskId"] for number in range(5)]
    first = api.get("/api/v1/jobs", {"limit": 2}).json()["data"]
    second = api.get("/api/v1/jobs", {"limit": 3, "cursor": first["nextCursor"]}).json()["data"]
    assert [row["taskId"] for row in first["items"] + second["items"]] == made[::-1]
    assert second["nextCursor"] is None
    assert api.get("/api/v1/jobs", {"state": "success"}).json()["data"]["items"] == []


NAUGHTY = [
    ({}, 400, "model"),
    ({"model": PRO}, 400, "input"),
    ({"model": PRO, "input": {}}, 400, "input.prompt"),
    ({"model": PRO, "input": {"prompt": ""}}, 422, "input.prompt"),
    ({"model": PRO, "input": {"prompt": 7}}, 422, "input.prompt"),
    ({"model": PRO, "input": {"prompt": "a\x00fox"}}, 422, "input.prompt"),
    ({"model": PRO, "input": {"prompt": "a fox" * 2000}}, 422, "input.prompt"),
    ({"model": PRO, "input": {"prompt": "a fox", "steps": 5}}, 422, "input.steps"),
    ({"model": PRO, "input": {"prompt": "a fox"}, "webhok": "x"}, 422, "webhok"),
    ({"model": PRO, "input": {"prompt": "a fox", "aspect_ratio": "7:5"}}, 422, "input.aspect_ratio"),
    ({"model": PRO, "input": {"prompt": "a fox", "resolution": "4K"}}, 422, "input.resolution"),
    ({"model": PRO, "input": {"prompt": "a fox", "seed": -1}}, 422, "input.seed"),
    ({"model": PRO, "input": {"prompt": "a fox", "seed": True}}, 422, "input.seed"),
    (
        {"model": PRO, "input": {"prompt": "a fox", "input_urls": ["https://example.com/a.png"]}},
        422,
        "input.input_urls",
    ),
    ({"model": EDIT, "input": {"prompt": "a fox"}}, 422, "input.input_urls"),
    ({"model": EDIT, "input": {"prompt": "a fox", "input_urls": ["ftp://x/a"]}}, 422, "input.input_urls[0]"),
    (
        {"model": EDIT, "input": {"prompt": "a fox", "input_urls": ["https://x.example/a"] * 9}},
        422,
        "input.input_urls",
    ),
    (
        {"model": EDIT, "input": {"prompt": "a fox", "input_urls": ["data:image/png;base64,####"]}},
        422,
        "input.input_urls[0]",
    ),
    ({"model": "flux-2/pro", "input": {"prompt": "a fox"}}, 422, "model"),
    ({"model": PRO, "input": {"prompt": "a fox"}, "callBackUrl": "http://10.0.0.1/"}, 422, "callBackUrl"),
    ({"model": PRO, "input": {"prompt": "a fox"}, "metadata": "x" * 5000}, 422, "metadata"),
    ({"model": PRO, "input": {"prompt": "a fox", "uploadCn": [0] * 5000}}, 422, "input.uploadCn"),
    ({"model": PRO, "input": {"prompt": "a fox", "resolution": "1K" + " " * 5000}}, 422, "input.resolution"),
    ({"model": PRO, "input": {"prompt": "a fox", "aspect_ratio": "x" * 5000}}, 422, "input.aspect_ratio"),
    ({"model": PRO, "input": {"prompt": "a fox", "seed": " " * 5000 + "7"}}, 422, "input.seed"),
    ({"model": PRO, "input": {"prompt": "a fox", "watermark": "mine"}}, 422, "input.watermark"),
    ({"model": KONTEXT, "input": {"prompt": "a fox", "resolution": "2K"}}, 422, "input.resolution"),
]


@pytest.mark.parametrize(("body", "status", "param"), NAUGHTY)
def test_naughty_input_is_refused_by_name(api: Api, alice: User, body: Any, status: int, param: str) -> None:
    response = api.post(CREATE, body)
    assert (response.status_code, error(response)["param"]) == (status, param), response.json()
    assert not Job.objects.exists() and ledger.wallet_of(alice).held == 0
    assert response["x-should-retry"] == "false"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
    ],
)
def test_a_body_that_is_no_json_object_is_refused(api: Api, body: bytes) -> None:
    response = api.client.post(CREATE, body, content_type="application/json", headers=api.headers({}))
    assert response.status_code in (400, 422)
    assert error(response)["code"] in ("invalid_json", "invalid_parameter", "missing_parameter")


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (b'{"model": "x",}', "invalid_json", "in line 1, column 15"),
        (b'{"model": "\xff"}', "invalid_json", "not UTF-8"),
        (b'{"model": ' + b"9" * 5000 + b"}", "invalid_json", "more than 1,000 digits"),
        (b'{"model": -Infinity}', "invalid_json", "it has no -Infinity"),
        (b'{"model": "a", "input": {}, "model": "b"}', "invalid_parameter", "model is there twice"),
        (b'{"a\\u0000": 1}', "invalid_parameter", "cannot be sent"),
    ],
)
def test_what_is_wrong_with_a_body_is_said(api: Api, body: bytes, code: str, words: str) -> None:
    response = api.client.post(CREATE, body, content_type="application/json", headers=api.headers({}))
    assert error(response)["code"] == code and words in error(response)["message"]
    if code == "invalid_parameter":
        assert error(response)["param"] in ("model", "body")


def test_a_body_that_is_packed_is_refused_clearly(api: Api) -> None:
    body = gzip.compress(json.dumps({"model": PRO, "input": {"prompt": "a fox"}}).encode())
    headers = api.headers({"Content-Encoding": "gzip"})
    response = api.client.post(CREATE, body, content_type="application/json", headers=headers)
    assert response.status_code == 415 and "Content-Encoding" in error(response)["message"]


def test_a_body_that_comes_in_chunks_is_read(api: Api) -> None:
    def post(body: bytes) -> Any:
        return api.client.generic(
            "POST",
            CREATE,
            headers=api.headers({"Transfer-Encoding": "chunked"}),
            **{"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": ""},
        )

    assert post(json.dumps({"model": PRO, "input": {"prompt": "a fox"}}).encode()).status_code == 200
    assert post(b'{"model": "' + b"x" * 15_000_000).status_code == 413


@pytest.mark.parametrize(
    "text",
    [
        '{"prompt": "a fox\\ud800"}',
        '{"prompt": "a fox\\u0000"}',
        '{"prompt": "a fox", "nsfw_checker": 1e999}',
        '{"prompt": "a fox", "nsfw_checker": NaN}',
        '{"prompt": "a fox", "nsfw_checker": ' + "[" * 30 + "]" * 30 + "}",
        '["a fox"]',
        "a fox",
        "[" * 100_000,
    ],
)
def test_input_that_is_sent_as_text_is_read_as_strictly(api: Api, text: str) -> None:
    response = api.post(CREATE, {"model": PRO, "input": text})
    assert response.status_code in (400, 422) and not Job.objects.exists()
    assert error(response)["code"] in ("invalid_json", "invalid_parameter")


@pytest.mark.parametrize("path", [f"{CREATE}/", "/api/v1//jobs/createTask", "/api//v1/jobs/createTask//"])
def test_one_slash_more_is_no_other_address(api: Api, path: str) -> None:
    """Of a host that ends with one, and a path that begins with one; a redirect would lose the body."""
    body = {"model": PRO, "input": {"prompt": "a fox"}}
    response = api.client.generic(
        "POST", path, json.dumps(body), content_type="application/json", headers=api.headers({})
    )
    assert response.status_code == 200 and response.json()["data"]["taskId"] and response["X-Request-Id"]


def test_errors_keep_their_family_where_there_is_a_slash_more(api: Api) -> None:
    response = api.client.post(
        "/api/v1//images/generations/", {}, "application/json", headers=api.headers({})
    )
    assert response.status_code == 400 and set(response.json()) == {"error"}


def test_what_can_be_got_can_be_asked_for_by_head(api: Api) -> None:
    for path in ("/api/v1/models", "/v1/models", "/api/v1/jobs", "/api/v1/chat/credit"):
        assert api.client.head(path, headers=api.headers({})).status_code == 200, path
    assert api.client.head(CREATE, headers=api.headers({})).status_code == 405
    assert api.client.head("/api/v1/jobs").status_code == 401


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Basic abc", "Bearer nonsense", "Bearer sk-aig-" + "a" * 38]
)
def test_without_a_key_nobody_comes_in(api: Api, header: str) -> None:
    response = api.client.get(RECORD, {"taskId": "x"}, headers={"Authorization": header} if header else {})
    assert response.status_code == 401 and error(response)["type"] == "authentication_error"


@pytest.mark.parametrize("words", ["Bearer\t{}", " bearer \t {} "])
def test_any_white_space_may_stand_before_the_key(api: Api, words: str) -> None:
    header = {"Authorization": words.format(api.text)}
    assert api.client.get("/api/v1/jobs", headers=header).status_code == 200


def test_a_log_in_is_no_key(api: Api, alice: User) -> None:
    api.client.force_login(alice)
    assert api.client.get("/api/v1/jobs").status_code == 401


def test_what_is_no_route_answers_in_json(api: Api) -> None:
    for response, status in (
        (api.get("/api/v1/nothing"), 404),
        (api.get("/v1/nothing"), 404),
        (api.get(CREATE), 405),
        (api.get("/api/v1/nothing/"), 404),
    ):
        assert response.status_code == status and response["Content-Type"] == "application/json"
        assert response["X-Request-Id"]


def test_an_empty_balance_and_a_reached_cap_are_told_apart(api: Api, alice: User, bob: User) -> None:
    poor = Api(bob).create()
    assert poor.status_code == 402 and error(poor)["code"] == "insufficient_credits"
    key = ApiKey.objects.get(user=alice)
    Cap.objects.create(user=alice, key=key, window="total", limit=34_999)
    capped = api.create()
    assert capped.status_code == 402 and error(capped)["code"] == "spend_cap_reached"
    assert error(capped)["details"] == {
        "cap": "key/total",
        "limit_micro_usd": 34_999,
        "used_micro_usd": 0,
        "asked_micro_usd": 35_000,
        "resets": None,
    }


def test_a_keys_cap_for_one_picture_is_named(api: Api, alice: User) -> None:
    Cap.objects.create(user=alice, key=ApiKey.objects.get(user=alice), window="job", limit=34_999)
    refused = api.create()
    assert refused.status_code == 402 and error(refused)["code"] == "spend_cap_reached"
    assert error(refused)["details"] == {
        "cap": "key/job",
        "limit_micro_usd": 34_999,
        "used_micro_usd": 0,
        "asked_micro_usd": 35_000,
        "resets": None,
    }


def test_the_night_forgets_old_keys_and_no_others(api: Api) -> None:
    for name in ("old", "new"):
        api.create(headers={"Idempotency-Key": name})
    oldest = IdempotentCall.objects.earliest("pk")
    IdempotentCall.objects.filter(pk=oldest.pk).update(created=oldest.created - IdempotentCall.KEPT)
    assert upkeep.forget_calls() == 1 and upkeep.forget_calls() == 0
    assert api.create(headers={"Idempotency-Key": "new"})["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in api.create(headers={"Idempotency-Key": "old"})


# --- Without the middleware of pages --------------------------------------------------------------------
def test_replies_keep_the_headers_that_protect_and_neither_read_nor_set_cookies(api: Api) -> None:
    assert api.key is not None
    api.client.force_login(api.key.user)
    for path, status in ((f"{RECORD}?taskId=nothing", 404), ("/api/v1/nowhere", 404), ("/v1/models", 200)):
        response = api.get(path)
        assert response.status_code == status and response["Content-Type"].startswith("application/json")
        assert response["X-Content-Type-Options"] == "nosniff" and response["X-Frame-Options"] == "DENY"
        assert response["Referrer-Policy"] == "same-origin" and len(response["X-Request-Id"]) == 32
        assert not response.cookies and "Cookie" not in response.get("Vary", "")
        assert not hasattr(response.wsgi_request, "session")


@pytest.mark.parametrize(
    ("code", "status", "level"),
    [
        ("unavailable", 503, "WARNING"),
        ("generation_failed", 502, "WARNING"),
        ("internal_error", 500, "ERROR"),
    ],
)
def test_what_fails_is_logged_once_and_only_as_our_error_where_it_is_ours(
    api: Api, monkeypatch: pytest.MonkeyPatch, caplog: Any, code: str, status: int, level: str
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise Problem(code, "It cannot be done.")

    monkeypatch.setattr(ordering, "submit", fails)
    answer = api.create()
    said = f"POST /api/v1/jobs/createTask answered {status} as {answer['X-Request-Id']}"
    told = [(one.levelname, one.getMessage()) for one in caplog.records if one.levelno >= logging.WARNING]
    assert answer.status_code == status and told == [(level, said)]


def test_a_host_that_is_not_ours_is_refused(api: Api, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["example.org"]
    assert api.get("/v1/models", Host="elsewhere.net").status_code == 400
    assert api.get("/v1/models", Host="example.org").status_code == 200
