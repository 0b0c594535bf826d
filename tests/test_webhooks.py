"""Callbacks of upstreams, and of everybody else who found the address: never believed, never an error."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User
from playground import jobs
from playground.models import Job, JobEvent
from playground.webhooks import MOST_BYTES, claimed_id
from tests.making import give, job_for, leased, picture_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def rich(alice: User) -> User:
    give(alice)
    return alice


@pytest.fixture
def stranger() -> Client:
    """No session, no CSRF token: an upstream."""
    return Client(enforce_csrf_checks=True)


def row(job: Job) -> dict[str, Any]:
    return Job.objects.filter(pk=job.pk).values().get()


def sent(alice: User) -> Job:
    """Its create is on its way."""
    job = leased(job_for(alice))
    assert jobs.sending(job)
    return job


def unanswered(alice: User) -> Job:
    """Its create's answer is lost: only a callback can tell what became of it."""
    job = sent(alice)
    assert jobs.lost(job, "the connection broke")
    return job


def running(alice: User) -> Job:
    job = sent(alice)
    assert jobs.started(job, "up-1")
    assert jobs.let_go(job, job.deadline)
    return job


def cancelled(alice: User) -> Job:
    job = job_for(alice)
    assert jobs.cancel(job, by=alice)
    return job


def post(stranger: Client, job: Job, body: bytes | dict[str, Any] = b"") -> int:
    data = json.dumps(body) if isinstance(body, dict) else body
    return stranger.post(f"/hooks/{job.callback_token}/", data, content_type="application/json").status_code


# --- What a callback does -----------------------------------------------------------------------------
def test_a_callback_for_a_running_job_is_a_reason_to_look_now_and_nothing_else(
    rich: User, stranger: Client
) -> None:
    job = running(rich)
    before = row(job)
    assert before["next_look"] == job.deadline
    lie = {"code": 200, "data": {"taskId": "forged", "state": "success", "resultUrls": ["http://evil"]}}
    assert post(stranger, job, lie) == 200
    after = row(job)
    assert after["next_look"] <= timezone.now()
    assert after | {"next_look": None} == before | {"next_look": None}


@pytest.mark.parametrize("name", ["taskId", "task_id", "id"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_callback_tells_the_id_of_a_job_whose_create_was_never_answered(
    rich: User, stranger: Client, name: str, wrapped: bool
) -> None:
    job = unanswered(rich)
    assert post(stranger, job, {"data": {name: "up-7"}} if wrapped else {name: "up-7"}) == 200
    after = row(job)
    assert (after["claimed_id"], after["upstream_id"], after["state"]) == ("up-7", None, "submitting")
    assert after["next_look"] <= timezone.now()


def test_a_callback_that_is_faster_than_the_creates_answer_is_only_noted(
    rich: User, stranger: Client
) -> None:
    job = sent(rich)
    before = row(job)
    assert post(stranger, job, {"taskId": "up-7"}) == 200
    assert row(job) == before | {"claimed_id": "up-7"}


@pytest.mark.parametrize("make", [job_for, cancelled, lambda alice: picture_for(alice).job])
def test_a_job_that_waits_or_has_ended_is_untouched(
    rich: User, stranger: Client, make: Callable[[User], Job]
) -> None:
    job = make(rich)
    before = row(job)
    assert post(stranger, job, {"taskId": "up-7", "state": "fail"}) == 200
    assert row(job) == before


def test_a_hundred_callbacks_have_one_effect(rich: User, stranger: Client) -> None:
    job = unanswered(rich)
    post(stranger, job, {"taskId": "up-7"})
    once, events = row(job), JobEvent.objects.count()
    assert {post(stranger, job, {"taskId": "up-7"}) for _ in range(99)} == {200}
    assert row(job) | {"next_look": None} == once | {"next_look": None}
    assert JobEvent.objects.count() == events


def test_a_callback_wakes_no_other_job(rich: User, stranger: Client) -> None:
    job, other = unanswered(rich), unanswered(rich)
    before = row(other)
    assert post(stranger, job, {"taskId": "up-7"}) == 200
    assert row(other) == before


# --- What is not a callback ---------------------------------------------------------------------------
@pytest.mark.parametrize("token", ["x" * 32, "x" * 5000, "%00", "%F0%9F%A6%8A", "ŧoken", "' OR 1=1 --"])
def test_a_token_that_nobody_has_is_404(rich: User, stranger: Client, token: str) -> None:
    job = running(rich)
    before = row(job)
    assert stranger.post(f"/hooks/{token}/", b'{"id": "up-7"}', content_type="a/b").status_code == 404
    assert row(job) == before


@pytest.mark.parametrize("method", ["get", "head", "put", "patch", "delete", "options"])
def test_only_post_is_allowed(rich: User, stranger: Client, method: str) -> None:
    job = running(rich)
    before = row(job)
    assert getattr(stranger, method)(f"/hooks/{job.callback_token}/").status_code == 405
    assert row(job) == before


NONSENSE = {
    "empty": b"",
    "no JSON": b"<html>",
    "cut off": b'{"taskId": "up-7',
    "no UTF-8": b'{"taskId": "\xff\xfe\xfd"}',
    "a form": b"taskId=up-7",
    "null": b"null",
    "a number": b"7",
    "a long number": b"9" * 10_000,
    "NaN": b"NaN",
    "text": b'"up-7"',
    "a list": b'[{"taskId": "up-7"}]',
    "an object without an id": b"{}",
    "an id that is a number": b'{"taskId": 7}',
    "an id that is nothing": b'{"taskId": null, "data": null}',
    "an id that is empty": b'{"taskId": ""}',
    "an id that is an object": b'{"taskId": {"id": "up-7"}}',
    "an id too deep": b'{"data": {"data": {"taskId": "up-7"}}}',
    "a list of data": b'{"data": [{"taskId": "up-7"}]}',
    "an id of 201 characters": b'{"taskId": "%s"}' % (b"x" * 201),
    "an id with a NUL": b'{"taskId": "up\\u00007"}',
    "an id with half a character": b'{"taskId": "up\\ud8007"}',
    "an id behind 64 KB": b" " * MOST_BYTES + b'{"taskId": "up-7"}',
    "5 MB": b'{"taskId": "up-7", "more": "%s"}' % (b"x" * 5_000_000),
    "deeply nested lists": b"[" * MOST_BYTES,
    "deeply nested objects": b'{"data":' * 8000,
}


@pytest.mark.parametrize("make", [sent, unanswered, cancelled])
@pytest.mark.parametrize("body", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_accepted_and_changes_nothing(
    rich: User, stranger: Client, body: bytes, make: Callable[[User], Job]
) -> None:
    job = make(rich)
    before = row(job)
    assert post(stranger, job, body) == 200
    assert row(job) == before


@pytest.mark.parametrize(
    "content_type", ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]
)
def test_the_type_that_a_callback_claims_does_not_matter(
    rich: User, stranger: Client, content_type: str
) -> None:
    job = unanswered(rich)
    path = f"/hooks/{job.callback_token}/"
    answer = stranger.generic("POST", path, b'{"taskId": "up-7"}', content_type=content_type)
    assert (answer.status_code, row(job)["claimed_id"]) == (200, "up-7")


def test_an_id_of_200_characters_is_an_id() -> None:
    assert claimed_id(json.dumps({"id": "x" * 200}).encode()) == "x" * 200
    assert claimed_id(json.dumps({"id": "x" * 201, "data": {"id": "up-7"}}).encode()) == "up-7"


def test_the_worst_body_takes_no_time() -> None:
    begun = time.monotonic()
    for body in (b"[" * MOST_BYTES, b'{"a":' * 13_000, b"9" * MOST_BYTES, b'"' + b"\\u0000" * 10_000 + b'"'):
        assert claimed_id(body) == ""
    assert time.monotonic() - begun < 1
