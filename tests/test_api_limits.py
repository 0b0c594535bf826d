"""So many creates in so many seconds: exact, said in the headers, and never queued."""

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import redis
import time_machine
from django.test import RequestFactory
from django.utils import timezone
from limits import RateLimitItemPerSecond

from accounts import keys
from accounts.models import ApiKey, User
from playground import checks
from playground.api import limits, windows
from playground.api.errors import Problem
from playground.models import Job
from tests.calling import Api
from tests.conftest import needs
from tests.making import give, load_catalogue

pytestmark = pytest.mark.once
REDIS = os.environ.get("TEST_REDIS_URL", "redis://127.0.0.1:6379/5")


def has_redis() -> bool:
    try:
        return bool(redis.from_url(REDIS, socket_connect_timeout=2).ping())
    except redis.RedisError:
        return False


@pytest.fixture
def api(alice: User, settings: Any) -> Api:
    settings.API_RATE_LIMIT = (3, 10)
    load_catalogue()
    give(alice)
    return Api(alice)


def test_what_is_more_is_refused_and_says_when_there_is_room(api: Api) -> None:
    answers = [api.create() for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert answers[0]["RateLimit-Policy"] == '"key";q=3;w=10' and answers[0]["RateLimit"].startswith(
        '"key";r=2;'
    )
    last = answers[-1]
    assert 1 <= int(last["Retry-After"]) <= 10 and last["RateLimit"].startswith('"key";r=0;')
    assert last["x-should-retry"] == "true" and last.json()["error"]["type"] == "rate_limit_error"
    assert Job.objects.count() == 3


def test_the_window_moves(api: Api) -> None:
    start = timezone.now()
    for after, status in ((0, 200), (4, 200), (8, 200), (9, 429), (10.1, 200), (10.2, 429), (14.2, 200)):
        with time_machine.travel(start + timedelta(seconds=after)):
            assert api.create().status_code == status, after


def test_looking_is_not_counted(api: Api) -> None:
    assert [api.get("/api/v1/jobs").status_code for _ in range(8)] == [200] * 8


def test_an_account_is_counted_over_its_keys(api: Api, alice: User, settings: Any) -> None:
    settings.API_RATE_LIMIT_ACCOUNT = (4, 10)
    other = Api(alice)
    statuses = [caller.create().status_code for caller in (api, api, other, other, other)]
    assert statuses == [200, 200, 200, 200, 429]


def test_guessing_keys_is_counted_by_address(api: Api, settings: Any) -> None:
    settings.API_RATE_LIMIT_ANONYMOUS = (2, 60)
    guesses = [Api(None, text="sk-aig-" + "a" * 38).get("/api/v1/jobs").status_code for _ in range(3)]  # type: ignore[arg-type]
    assert guesses == [401, 401, 429] and api.get("/api/v1/jobs").status_code == 200


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_no_more_get_through_at_once(alice: User, settings: Any, store: str) -> None:
    if store == "redis":
        needs(has_redis(), "Redis", "TEST_REDIS_URL=redis://host:6379/5")
        settings.REDIS_URL = REDIS
        limits.forget()
    key, _ = keys.make(alice, "Robot")
    settings.API_RATE_LIMIT = (20, 10)

    def passes(_: int) -> bool:
        try:
            limits.count_create(key)
        except Problem:
            return False
        return True

    with ThreadPoolExecutor(16) as threads:
        assert sum(threads.map(passes, range(100))) == 20
    limits.forget()


def test_room_is_made_of_windows_that_are_over_and_of_no_others(monkeypatch: Any) -> None:
    """Guessing keys is counted for a minute, though ten seconds are over for those who have one."""
    monkeypatch.setattr(windows, "MOST_KEYS", 2)
    minute, seconds = (RateLimitItemPerSecond(1, length, namespace=str(length)) for length in (60, 10))
    counter, start = windows.Windows(), timezone.now()
    for after, item, who, full in (
        (0, minute, "Bob", None),
        (0, seconds, "Alice", None),
        (11, seconds, "Charlie", None),
    ):
        with time_machine.travel(start + timedelta(seconds=after)):
            assert counter.count([(item, who)]).full is full
    assert len(counter._hits) == 2
    with time_machine.travel(start + timedelta(seconds=12)):
        assert counter.count([(minute, "Bob")]).full == 0


def test_a_store_that_is_away_stops_nobody(alice: User, settings: Any) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    limits.forget()
    key = ApiKey(pk=1, user=alice)
    assert limits.count_create(key) == {}
    limits.count_stranger(RequestFactory().get("/"))
    limits.forget()


def test_several_processes_without_redis_are_refused(settings: Any) -> None:
    settings.WEB_PROCESSES, settings.REDIS_URL = 2, ""
    assert [message.id for message in checks.processes(None)] == ["playground.E002"]
    settings.WEB_PROCESSES = 1
    assert checks.processes(None) == []
