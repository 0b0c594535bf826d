"""The same call is done once, however often and however fast it is sent."""

import base64
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.utils import timezone

from accounts import ledger
from accounts.models import User
from playground import orders, uploads
from playground.api import waiting
from playground.models import IdempotentCall, Job, Upload
from tests.calling import Api
from tests.making import EDIT, give, load_catalogue
from tests.pictures import photo


@pytest.fixture
def api(alice: User) -> Api:
    load_catalogue()
    give(alice)
    return Api(alice)


def test_the_same_key_and_body_get_the_first_reply(api: Api, alice: User) -> None:
    first, again = (api.create(headers={"Idempotency-Key": "one"}) for _ in range(2))
    assert first.json() == again.json() and again["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first
    assert Job.objects.count() == 1 and ledger.wallet_of(alice).held == 35_000


def test_a_repeat_is_answered_also_where_nothing_more_may_be_begun(api: Api, settings: Any) -> None:
    settings.API_RATE_LIMIT = (1, 10)
    first, again = (api.create(headers={"Idempotency-Key": "one"}) for _ in range(2))
    assert first.json() == again.json() and again["Idempotent-Replayed"] == "true"
    assert api.create("a bear", headers={"Idempotency-Key": "one"}).status_code == 422
    assert api.create(headers={"Idempotency-Key": "two"}).status_code == 429
    assert api.create().status_code == 429 and Job.objects.count() == 1


@pytest.mark.parametrize("path", ["/api/v1/jobs/createTask", "/api/v1/flux/kontext/generate"])
def test_a_repeat_is_answered_also_when_its_input_pictures_are_gone(api: Api, alice: User, path: str) -> None:
    url = uploads.link(uploads.take(alice, photo()), "http://testserver")
    body: dict[str, Any] = {"model": EDIT, "input": {"prompt": "a fox", "input_urls": [url]}}
    if "kontext" in path:
        body = {"prompt": "a fox", "inputImage": url}
    first = api.post(path, body, **{"Idempotency-Key": "one"})
    Upload.objects.update(key="")
    again = api.post(path, body, **{"Idempotency-Key": "one"})
    assert first.status_code == 200 and first.json() == again.json()
    assert api.post(path, body).status_code == 422 and Job.objects.count() == 1
    assert again["RateLimit"] != first["RateLimit"]  # repeats count, too


def test_so_is_one_that_waits_for_its_pictures(
    api: Api, alice: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "until_ended", lambda ids, seconds: False)
    url = uploads.link(uploads.take(alice, photo()), "http://testserver")
    path, body = "/v1/images/generations", {"prompt": "a fox", "input_urls": [url]}
    first = api.post(path, body, **{"Idempotency-Key": "one"})
    Upload.objects.update(key="")
    settings.API_RATE_LIMIT = (1, 10)
    again = api.post(path, body, **{"Idempotency-Key": "one"})
    assert first.status_code == again.status_code == 504
    assert first["X-AI-Task-Id"] == again["X-AI-Task-Id"] and Job.objects.count() == 1


@pytest.mark.parametrize("route", ["generations", "edits"])
def test_a_repeat_of_a_call_that_waits_is_told_before_its_pictures_are_looked_at(
    api: Api, settings: Any, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    settings.API_RATE_LIMIT = (1, 10)
    monkeypatch.setattr(waiting, "until_ended", lambda *_: False)
    same = {"Idempotency-Key": "one"}
    first = image_call(api, route, **same)
    Upload.objects.update(key="")
    again = image_call(api, route, **same)
    assert first.status_code == again.status_code == 504 and again["X-AI-Task-Id"] == first["X-AI-Task-Id"]
    assert image_call(api, route, "a bear", **same).status_code == 422
    assert image_call(api, route).status_code == 429
    assert Job.objects.count() == 1 and not Upload.objects.exclude(key="").exists()


def image_call(api: Api, route: str, prompt: str = "a fox in autumn", **headers: str) -> Any:
    picture = photo()
    if route == "generations":
        url = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
        return api.post("/v1/images/generations", {"prompt": prompt, "input_urls": [url]}, **headers)
    body = {"prompt": prompt, "image": SimpleUploadedFile("a.jpg", picture)}
    return api.client.post("/v1/images/edits", body, headers=api.headers(headers))


@pytest.mark.parametrize(
    ("quoted", "bare"),
    [('"one"', "one"), (r'"an \"a\" and a \\"', r'an "a" and a \ '.strip()), (r'"C:\new"', r"C:\new")],
)
def test_the_quoted_form_is_the_bare_one(api: Api, quoted: str, bare: str) -> None:
    api.create(headers={"Idempotency-Key": quoted})
    assert api.create(headers={"Idempotency-Key": bare})["Idempotent-Replayed"] == "true"


def test_an_id_of_the_clients_own_works_as_one(api: Api) -> None:
    first, again = api.create(taskId="mine"), api.create(taskId="mine")
    assert first.json() == again.json() and first.json()["data"]["taskId"] != "mine"
    assert Job.objects.count() == 1


def test_another_body_is_refused(api: Api) -> None:
    api.create("a fox", headers={"Idempotency-Key": "one"})
    other = api.create("a bear", headers={"Idempotency-Key": "one"})
    assert other.status_code == 422 and other.json()["error"]["code"] == "idempotency_conflict"
    assert Job.objects.count() == 1


def test_what_failed_before_a_job_existed_is_not_stored(api: Api, alice: User, bob: User) -> None:
    poor = Api(bob)
    assert poor.create(headers={"Idempotency-Key": "one"}).status_code == 402
    assert not IdempotentCall.objects.exists()
    give(bob)
    assert poor.create(headers={"Idempotency-Key": "one"}).status_code == 200


def test_each_account_has_its_own(api: Api, bob: User) -> None:
    give(bob)
    mine = api.create(headers={"Idempotency-Key": "one"}).json()["data"]["taskId"]
    his = Api(bob).create(headers={"Idempotency-Key": "one"}).json()["data"]["taskId"]
    assert mine != his


def test_after_a_week_it_is_a_new_call(api: Api) -> None:
    api.create(headers={"Idempotency-Key": "one"})
    with time_machine.travel(timezone.now() + timedelta(days=7, seconds=1)):
        assert "Idempotent-Replayed" not in api.create(headers={"Idempotency-Key": "one"})
    assert Job.objects.count() == 2 and IdempotentCall.objects.count() == 1


def test_without_a_key_a_repeat_is_a_second_picture(api: Api) -> None:
    assert api.create().json() != api.create().json()


def test_a_key_that_is_too_long_is_refused(api: Api) -> None:
    response = api.create(headers={"Idempotency-Key": "x" * 256})
    assert response.status_code == 422 and response.json()["error"]["param"] == "Idempotency-Key"


@pytest.mark.django_db
@pytest.mark.postgres
def test_a_call_waits_for_its_turn_at_the_caps_as_long_as_one_without_a_key(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[str] = []

    def submit(*_: object, **__: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            waits.extend(cursor.fetchone())

    monkeypatch.setattr(orders, "submit_call", submit)
    api.create()
    api.create(headers={"Idempotency-Key": "one"})
    assert waits == ["0", "0"]
