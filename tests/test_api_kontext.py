"""Kontext's own two routes: a flat body, another record, and the same tasks behind them."""

import json
from typing import Any

import pytest

from accounts import ledger
from accounts.models import User
from playground import callbacks, jobs, records
from playground.models import Job
from tests.calling import Api
from tests.making import KONTEXT, give, leased, load_catalogue, picture_for
from tests.test_api_files import data_url

GENERATE = "/api/v1/flux/kontext/generate"
RECORD = "/api/v1/flux/kontext/record-info"


@pytest.fixture
def api(alice: User) -> Api:
    load_catalogue()
    give(alice)
    return Api(alice)


def made(api: Api, **body: Any) -> Job:
    response = api.post(GENERATE, {"prompt": "a fox in the snow", **body})
    assert response.status_code == 200, response.json()
    return Job.objects.get(pk=response.json()["data"]["taskId"])


def record(api: Api, job: Job) -> dict[str, Any]:
    response = api.get(RECORD, {"taskId": str(job.pk)})
    assert response.status_code == 200 and response.json()["msg"] == "success"
    data: dict[str, Any] = response.json()["data"]
    return data


def test_a_prompt_alone_makes_a_wide_picture(api: Api, alice: User) -> None:
    response = api.post(GENERATE, {"prompt": "a fox in the snow"})
    job = Job.objects.get()
    assert response.json() == {"code": 200, "msg": "success", "data": {"taskId": str(job.pk)}}
    assert job.variant.slug == KONTEXT and job.params["aspect_ratio"] == "16:9" and job.key == api.key
    assert ledger.wallet_of(alice).held == 35_000
    assert response["RateLimit-Policy"].startswith('"key"') and response["X-AI-Task-Id"] == str(job.pk)


def test_everything_that_kies_clients_send_is_taken(api: Api) -> None:
    body = {
        "model": "flux-kontext-max",
        "aspectRatio": "21:9",
        "outputFormat": "png",
        "callBackUrl": "https://example.com/hook",
        "safetyTolerance": 6,
        "enableTranslation": True,
        "uploadCn": False,
        "promptUpsampling": False,
        "watermark": "",
        "inputImage": "",
    }
    job = made(api, **body)
    assert job.variant.slug.endswith("kontext-text-to-image-max") and job.params["aspect_ratio"] == "21:9"
    assert job.callback_url == "https://example.com/hook"
    assert json.loads(record(api, job)["paramJson"]) == {"prompt": "a fox in the snow", **body}


def test_an_edit_keeps_the_shape_of_its_picture(api: Api) -> None:
    job = made(api, inputImage=data_url(size=(480, 640)))
    assert job.params["aspect_ratio"] == "3:4" and len(job.params["inputs"]) == 1
    told = record(api, job)
    assert told["response"]["originImageUrl"].startswith("http://testserver/f/")
    assert len(told["paramJson"]) < 300  # the picture is not said back
    from_afar = made(api, inputImage="https://example.com/a.png", aspectRatio="1:1")
    assert from_afar.params["sources"] == ["https://example.com/a.png"]
    assert record(api, from_afar)["response"]["originImageUrl"] == "https://example.com/a.png"


NAUGHTY = [
    ({"prompt": ""}, "prompt"),
    ({"uploadCn": "x" * 5000}, "uploadCn"),
    ({"prompt": None}, "prompt"),
    ({"model": "flux-2/pro-text-to-image"}, "model"),
    ({"aspectRatio": "3:2"}, "aspectRatio"),
    ({"aspectRatio": "auto"}, "aspectRatio"),
    ({"outputFormat": "webp"}, "outputFormat"),
    ({"safetyTolerance": 7}, "safetyTolerance"),
    ({"safetyTolerance": -1}, "safetyTolerance"),
    ({"safetyTolerance": "much"}, "safetyTolerance"),
    ({"safetyTolerance": True}, "safetyTolerance"),
    ({"safetyTolerance": 3, "inputImage": "https://example.com/a.png"}, "safetyTolerance"),
    ({"watermark": "mine"}, "watermark"),
    ({"inputImage": "ftp://example.com/a.png"}, "inputImage"),
    ({"inputImage": "data:image/png;base64,####"}, "inputImage"),
    ({"inputImage": "http://testserver/f/forged/a.png"}, "inputImage"),
    ({"callBackUrl": "http://10.0.0.1/"}, "callBackUrl"),
    ({"input": {"prompt": "a fox"}}, "input"),
    ({"steps": 50}, "steps"),
]


@pytest.mark.parametrize(("body", "param"), NAUGHTY)
def test_naughty_input_is_refused_by_name(api: Api, alice: User, body: Any, param: str) -> None:
    response = api.post(GENERATE, {"prompt": "a fox in the snow", **body})
    answer = response.json()
    assert (response.status_code, answer["code"], answer["error"]["param"]) == (422, 422, param), answer
    assert not Job.objects.exists() and ledger.wallet_of(alice).held == 0


def test_a_call_without_a_prompt_says_what_is_missing(api: Api) -> None:
    response = api.post(GENERATE, {"model": "flux-kontext-pro"})
    assert response.status_code == 400 and response.json()["msg"] == "prompt is missing."


def test_the_same_key_makes_one_picture(api: Api) -> None:
    headers = {"Idempotency-Key": "one"}
    first = api.post(GENERATE, {"prompt": "a fox"}, **headers)
    again = api.post(GENERATE, {"prompt": "a fox"}, **headers)
    other = api.post(GENERATE, {"prompt": "a bear"}, **headers)
    assert first.json() == again.json() and again["Idempotent-Replayed"] == "true"
    assert other.status_code == 422 and Job.objects.count() == 1


def test_the_record_is_whole_from_the_first_moment_on(api: Api) -> None:
    told = record(api, made(api))
    assert told["successFlag"] == 0 and told["completeTime"] is None
    assert told["errorCode"] is None and told["errorMessage"] == ""
    assert told["response"] == {"originImageUrl": "", "resultImageUrl": ""}
    assert told["createTime"].endswith("Z") and "T" in told["createTime"]


def test_a_success_names_its_picture(api: Api, alice: User, client: Any) -> None:
    picture = picture_for(alice)  # as the pages or createTask order it
    told = record(api, picture.job)
    assert told["successFlag"] == 1 and told["completeTime"].endswith("Z")
    assert client.get(told["response"]["resultImageUrl"]).status_code == 200


def test_the_usual_format_is_jpeg_and_png_is_png(api: Api, alice: User) -> None:
    job = picture_for(alice).job
    for wanted, suffix in (("", ".jpg"), ("png", ".png")):
        job.asked = made(api, **({"outputFormat": wanted} if wanted else {})).asked
        assert records.result_urls(job, "")[0].endswith(suffix)


@pytest.mark.parametrize(
    ("failure", "is_sent", "flag", "code"),
    [("input_gone", False, 2, 500), ("upstream_failed", True, 3, 501), ("moderated", True, 3, 400)],
)
def test_a_failure_says_when_and_why(api: Api, failure: str, is_sent: bool, flag: int, code: int) -> None:
    job = leased(made(api))
    if is_sent:
        assert jobs.sending(job) and jobs.started(job, "up-1")
    jobs.fail(job, failure)
    told = record(api, job)
    assert (told["successFlag"], told["errorCode"]) == (flag, code)
    assert told["errorMessage"] and told["response"]["resultImageUrl"] == ""


def test_both_routes_read_both_kinds_of_task(api: Api) -> None:
    job = made(api)
    market = api.get("/api/v1/jobs/recordInfo", {"taskId": str(job.pk)}).json()["data"]
    assert market["state"] == "waiting" and market["model"] == KONTEXT
    created = Job.objects.get(pk=api.create().json()["data"]["taskId"])
    assert record(api, created)["successFlag"] == 0


def test_the_message_of_its_end_has_kontexts_shape(api: Api) -> None:
    job = leased(made(api))
    jobs.fail(job, "input_gone")
    job.refresh_from_db()
    told = callbacks.told(job)
    assert told["code"] == 501 and set(told["data"]["info"]) == {"originImageUrl", "resultImageUrl"}


def test_the_message_names_a_picture_that_came_as_data_by_an_address(api: Api, alice: User) -> None:
    job = leased(made(api, inputImage=data_url()))
    jobs.fail(job, "moderated")
    job.refresh_from_db()
    assert callbacks.told(job)["data"]["info"]["originImageUrl"].startswith("http://127.0.0.1:8000/f/")


def test_others_tasks_do_not_exist(api: Api, bob: User) -> None:
    job = made(api)
    for task in (str(job.pk), "task_flux_17"):
        assert Api(bob).get(RECORD, {"taskId": task}).status_code == 404
    assert Api(bob).get(RECORD).status_code == 400
    assert api.client.get(RECORD, {"taskId": str(job.pk)}).status_code == 401
