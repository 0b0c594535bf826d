"""What Charlie sees of the upstreams' health, and what he may do there."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import User
from playground import health, upstreams
from playground.models import Job, Upstream, UpstreamState
from playground.providers.aigenerate import AIGenerate
from playground.providers.base import TryLater
from tests.making import give, job_for, leased, picture_for

pytestmark = pytest.mark.django_db
PAGE = "/admin/playground/upstream/health/"


@pytest.fixture(autouse=True)
def _upstream(settings: Any) -> None:
    settings.AIGENERATE_API_KEY = "k-canary"
    upstreams.forget()


def state(**changes: Any) -> UpstreamState:
    return UpstreamState.objects.create(name="aigenerate", **changes)


def seen(desk: Client, name: str = "aigenerate") -> str:
    """The words of one upstream's part of the page."""
    page = desk.get(PAGE).content.decode()
    [part] = re.findall(rf'<section[^>]*upstream-{name}">(.*?)</section>', page, re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", part).split())


def in_seconds(seconds: float) -> Any:
    return timezone.now() + timedelta(seconds=seconds)


# --- What is seen -------------------------------------------------------------------------------------
def test_the_page_is_found_from_the_front_page_and_from_the_list(desk: Client) -> None:
    for page in ("/admin/", "/admin/playground/upstream/"):
        assert f'href="{PAGE}"' in desk.get(page).content.decode()
    assert "takes jobs" in seen(desk) and "while no upstream is set up" in seen(desk, "sandbox")


@pytest.mark.parametrize(
    ("changes", "word", "also"),
    [
        ({}, "takes jobs", "Circuit closed"),
        ({"failures": 3}, "takes jobs", "closed, 3 failures in a row"),
        ({"open_until": 60, "failures": 5, "trips": 1}, "circuit open", "5 failures in a row"),
        ({"open_until": 60, "failures": 7, "trips": 3}, "circuit open", "2 probes sent"),
        ({"open_until": -1, "failures": 5}, "probing", "the next job shows"),
        ({"paused_until": 60}, "paused", "as it asked"),
        ({"paused_until": -60}, "takes jobs", "Paused no"),
    ],
)
def test_the_circuit_and_the_pause_in_words(
    desk: Client, changes: dict[str, Any], word: str, also: str
) -> None:
    state(**{name: in_seconds(at) if name.endswith("until") else at for name, at in changes.items()})
    assert word in seen(desk) and also in seen(desk)


def test_todays_spending_beside_its_limit(desk: Client) -> None:
    row = Upstream.objects.create(name="aigenerate", kind="aigenerate", limit_micros_per_day=2_500_000)
    kept = state(day=timezone.now().date(), spent_micros=35_000)
    assert "$0.035 of $2.50" in seen(desk)
    UpstreamState.objects.update(spent_micros=2_500_000)
    assert "limit reached" in seen(desk)
    UpstreamState.objects.update(day=kept.day - timedelta(days=1))
    assert "$0.00 of $2.50" in seen(desk)
    row.delete()
    assert "$0.00, no limit" in seen(desk)


def test_jobs_in_flight_failures_of_today_and_latency(alice: User, desk: Client) -> None:
    give(alice)
    for seconds in (4, 9):
        job = picture_for(alice).job
        Job.objects.filter(pk=job.pk).update(submitted=job.finished - timedelta(seconds=seconds))
    for failure in ("moderated", "moderated", "timed_out"):
        job = leased(job_for(alice))
        assert type(job).objects.filter(pk=job.pk).update(submitted=job.created)
        Job.objects.filter(pk=job.pk).update(state="failed", failure=failure, finished=timezone.now())
    failed_before = leased(job_for(alice))
    Job.objects.filter(pk=failed_before.pk).update(
        state="failed", failure="rejected", finished=timezone.now() - timedelta(days=1)
    )
    Job.objects.filter(pk=leased(job_for(alice)).pk).update(state="running")
    job_for(alice)
    words = seen(desk)
    assert "In flight 1, 1 waiting" in words
    assert "Failed today 3: moderated 2, timed_out 1" in words and "rejected" not in words
    assert "p50 4.0 s, p95 9.0 s" in words


def test_on_a_very_bad_day_not_every_failure_is_counted_and_the_page_says_so(
    alice: User, desk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(alice)
    for _ in range(3):
        Job.objects.filter(pk=job_for(alice).pk).update(
            state="failed", failure="timed_out", finished=timezone.now()
        )
    monkeypatch.setattr(health, "MOST_FAILURES", 2)
    assert "Failed today at least 2: timed_out 2" in seen(desk)


def test_just_after_midnight_yesterdays_failures_do_not_pass_for_all_of_todays(
    alice: User, desk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(alice)
    for ago in (0, 1, 1):  # days; the newest ended first, and are all that is read
        at = timezone.now() - timedelta(days=ago)
        Job.objects.filter(pk=job_for(alice).pk).update(state="failed", failure="rejected", finished=at)
    assert "Failed today 1: rejected 1" in seen(desk)
    monkeypatch.setattr(health, "MOST_FAILURES", 2)
    assert "Failed today at least 0" in seen(desk)
    assert "At least 0 in all since midnight UTC." in desk.get("/admin/").content.decode()


def test_open_jobs_do_not_hide_the_latency_of_those_that_ended(
    alice: User, desk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    give(alice)
    picture_for(alice)
    for _ in range(3):
        job_for(alice)
    monkeypatch.setattr(health, "LOOKED_AT", 2)
    assert "(last 1 success)" in seen(desk)


def test_what_an_upstream_said_cannot_become_part_of_the_page(desk: Client) -> None:
    state(last_failure="<script>alert(1)</script>", last_failure_at=timezone.now(), balance="<b>1</b>")
    page = desk.get(PAGE).content.decode()
    assert "<script>alert" not in page and "<b>1</b>" not in page


def test_one_that_was_set_up_once_is_shown_as_such(desk: Client) -> None:
    UpstreamState.objects.create(name="gone", open_until=in_seconds(60))
    assert "not set up" in seen(desk, "gone")


@pytest.mark.parametrize(
    ("of", "percent", "is_"), [([], 50, None), ([7], 95, 7), (range(1, 101), 50, 50), (range(1, 101), 95, 95)]
)
def test_percentiles_are_values_that_happened(of: Any, percent: int, is_: float | None) -> None:
    assert health.percentile(of, percent) == is_


def test_the_page_asks_few_questions_and_each_by_an_index(
    alice: User, desk: Client, django_assert_max_num_queries: Any
) -> None:
    give(alice)
    for _ in range(3):
        picture_for(alice)
    with django_assert_max_num_queries(10) as queries:
        desk.get(PAGE)
    of_jobs = [query["sql"] for query in queries if 'FROM "playground_job"' in query["sql"]]
    assert len(of_jobs) == 4
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            for sql in of_jobs:
                cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
                assert "SCAN playground_job\n" not in "".join(f"{row[3]}\n" for row in cursor.fetchall())


# --- What may be done ---------------------------------------------------------------------------------
def test_charlie_closes_a_circuit_by_hand_and_that_is_logged(charlie: User, desk: Client) -> None:
    state(open_until=in_seconds(600), paused_until=in_seconds(60), failures=9, trips=4)
    page = desk.post(f"{PAGE}aigenerate/lift/", follow=True).content.decode()
    assert "aigenerate takes jobs again." in page
    now = UpstreamState.objects.get()
    assert (now.open_until, now.paused_until, now.failures, now.trips) == (None, None, 0, 0)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (charlie, "aigenerate") and "by hand" in entry.change_message


def test_looking_at_the_address_of_a_deed_does_nothing(desk: Client) -> None:
    kept = state(open_until=in_seconds(600))
    assert desk.get(f"{PAGE}aigenerate/lift/").status_code == 405
    assert UpstreamState.objects.get().open_until == kept.open_until
    assert desk.post(f"{PAGE}nobody/lift/").status_code == 404


def test_who_may_only_look_may_not_act(bob: User) -> None:
    state(open_until=in_seconds(600))
    bob.is_staff = True
    bob.save()
    bob.user_permissions.set(Permission.objects.filter(codename="view_upstream"))
    client = Client()
    client.force_login(bob)
    page = client.get(PAGE)
    assert page.status_code == 200 and b"Close the circuit" not in page.content
    assert {client.post(f"{PAGE}aigenerate/{deed}/").status_code for deed in ("lift", "ask")} == {403}
    bob.user_permissions.clear()
    client.force_login(User.objects.get(pk=bob.pk))
    assert client.get(PAGE).status_code == 403


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("1,234.5 credits", "What is left there: 1,234.5 credits."),
        ("", "no question that costs nothing"),
        (TryLater("HTTP 401, code 401: no such key"), "could not be asked: HTTP 401"),
        (TimeoutError(), "no answer in 12 seconds"),
    ],
)
def test_a_test_question_says_what_came_of_it(
    desk: Client, monkeypatch: pytest.MonkeyPatch, answer: Any, said: str
) -> None:
    async def balance(self: AIGenerate, http: Any) -> str:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(AIGenerate, "balance", balance)
    page = desk.post(f"{PAGE}aigenerate/ask/", follow=True).content.decode()
    assert said in page
    if "left there: 1" in said:
        assert "Balance there 1,234.5 credits (now)" in seen(desk)
    assert not UpstreamState.objects.exclude(failures=0).exists()


def test_a_question_to_one_that_is_not_set_up_is_not_sent(desk: Client) -> None:
    for name in ("nobody", "sandbox"):
        assert f"{name} is not set up" in desk.post(f"{PAGE}{name}/ask/", follow=True).content.decode()
