"""What the API says of a job, in every state, as clients of that shape read it."""

import json
from datetime import timedelta
from typing import Any

import pytest

from accounts.models import User
from playground import jobs, records
from playground.models import Job, Picture
from tests.making import PRO, give, job_for, leased, picture_for

pytestmark = pytest.mark.django_db
BASE = "https://flux.example.com"
FIELDS = {
    *("taskId", "model", "state", "param", "resultJson", "failCode", "failMsg", "progress"),
    *("costTime", "completeTime", "createTime", "updateTime", "creditsCharged"),
}


@pytest.fixture
def rich(alice: User) -> User:
    give(alice)
    return alice


def in_state(job: Job, state: str, **more: Any) -> dict[str, Any]:
    job.state = state
    for name, value in more.items():
        setattr(job, name, value)
    return records.record(job, BASE)


def test_a_success_has_the_picture_the_price_and_the_times(rich: User) -> None:
    job = picture_for(rich).job
    said = records.record(job, BASE)
    assert set(said) == FIELDS
    assert said["taskId"] == str(job.pk) and said["state"] == "success" and said["progress"] == 100
    [address] = json.loads(said["resultJson"])["resultUrls"]
    assert address.startswith(f"{BASE}/r/") and said["creditsCharged"] == 5
    assert said["createTime"] == int(job.created.timestamp() * 1000)
    assert said["completeTime"] == said["updateTime"] == said["createTime"] + said["costTime"]
    assert said["failCode"] == said["failMsg"] == ""
    json.dumps(said)


@pytest.mark.parametrize(
    ("state", "word"),
    [("queued", "waiting"), ("submitting", "queuing"), ("running", "generating"), ("fetching", "generating")],
)
def test_while_it_is_open_nothing_is_known_of_the_end(rich: User, state: str, word: str) -> None:
    said = in_state(job_for(rich), state, progress=40)
    assert set(said) == FIELDS and said["state"] == word and said["progress"] == 40
    assert said["resultJson"] == said["failCode"] == said["failMsg"] == ""
    assert said["completeTime"] is said["costTime"] is None and said["creditsCharged"] == 0


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        ("moderated", "400"),
        ("rejected", "422"),
        ("timed_out", "408"),
        ("upstream_failed", "501"),
        ("new", "501"),
    ],
)
def test_a_failure_has_a_code_and_plain_words_and_costs_nothing(rich: User, failure: str, code: str) -> None:
    job = leased(job_for(rich))
    assert jobs.fail(job, failure, "their words")
    said = records.record(job, BASE)
    assert (said["state"], said["failCode"], said["creditsCharged"]) == ("fail", code, 0)
    assert said["failMsg"].endswith(".") and "their words" not in said["failMsg"] and said["resultJson"] == ""


def test_of_input_pictures_it_says_which_one_and_why(rich: User) -> None:
    job = leased(job_for(rich))
    assert jobs.fail(job, "input_unreachable", "Input picture 2: example.com answered 404")
    looked = records.find(job.pk, rich.pk, is_test=False)
    assert looked and records.record(looked, BASE)["failMsg"] == (
        "An input picture could not be fetched from its address. Input picture 2: example.com answered 404."
    )


def test_a_cancelled_one_says_so(rich: User) -> None:
    job = job_for(rich)
    assert jobs.cancel(job, by=rich)
    said = records.record(job, BASE)
    assert (said["state"], said["failCode"], said["failMsg"]) == ("fail", "499", "It was cancelled.")


def test_model_and_param_are_as_the_client_sent_them(rich: User) -> None:
    asked = {
        "model": "flux-2/pro-text-to-image",
        "input": {"prompt": "ä"},
        "callBackUrl": "https://x.example/",
        "_route": "kontext",
    }
    said = in_state(job_for(rich), "queued", asked=asked)
    del asked["_route"]
    assert said["model"] == "flux-2/pro-text-to-image" and json.loads(said["param"]) == asked


def test_what_the_pages_ordered_has_its_like(rich: User) -> None:
    said = records.record(job_for(rich), BASE)
    assert said["model"] == PRO and json.loads(said["param"])["input"]["prompt"] == "a fox in the snow"


def test_free_ones_charge_nothing(rich: User) -> None:
    job = picture_for(rich).job
    assert in_state(job, "succeeded", is_test=True)["creditsCharged"] == 0
    assert in_state(job, "succeeded", is_test=False, is_preview=True)["creditsCharged"] == 0
    assert in_state(job, "succeeded", is_preview=False, price_micros=24_500)["creditsCharged"] == 3.5


def test_a_deleted_picture_is_no_result_any_more(rich: User) -> None:
    picture = picture_for(rich)
    Picture.objects.update(deleted=picture.created + timedelta(hours=1))
    job = Job.objects.get()
    assert json.loads(records.record(job, BASE)["resultJson"]) == {"resultUrls": []}
