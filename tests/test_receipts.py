"""The receipt of a job that made no picture, and what happened to every job, in words that its owner may read."""

import re
import uuid
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from playground import jobs, orders, receipts, uploads, upstreams
from playground.models import Job, JobEvent, Route, RunInput, UpstreamState
from tests.making import give, job_for, leased, load_catalogue, picture_for
from tests.pictures import photo

pytestmark = pytest.mark.django_db


@pytest.fixture
def rich(alice: User, settings: Any) -> User:
    """Alice with credits, where two upstreams make the pictures."""
    settings.AIGENERATE_API_KEY, settings.KIE_API_KEY = "key-one", "key-two"
    load_catalogue()
    give(alice)
    return alice


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def receipt_of(user: User, job: Job) -> str:
    response = logged_in(user).get(f"/jobs/{job.pk}/")
    assert response.status_code == 200
    return " ".join(unescape(response.content.decode()).split())


def sent(job: Job) -> Job:
    held = leased(job)
    assert jobs.sending(held) is True
    return held


def failed(job: Job, failure: str = "moderated", detail: str = "flagged as unsafe") -> Job:
    held = sent(job)
    assert jobs.started(held, f"up-{job.pk}") and jobs.fail(held, failure, detail)
    return Job.objects.get(pk=job.pk)


def told(job: Job) -> list[str]:
    return [step.words for step in receipts.timeline(Job.objects.get(pk=job.pk))]


def spare(job: Job) -> Route:
    """Where a job goes that its first upstream has not started."""
    return Route(variant=job.variant, provider="kie", upstream_model="spare", cost_micros=job.cost_micros)


# --- The page -----------------------------------------------------------------------------------------
def test_a_receipt_says_what_was_asked_what_happened_and_what_it_cost(rich: User) -> None:
    job = failed(job_for(rich, prompt="a blue door"))
    page = receipt_of(rich, job)
    assert "<h1>Refused</h1>" in page and f"{jobs.EXPLAINED['moderated']} Nothing was charged." in page
    assert 'id="prompt">a blue door</p>' in page and "FLUX.2 pro 1K</a></dd>" in page
    assert re.search(r"Held</dt><dd[^>]*>5\.00 credits \(\$0\.035\), ", page)
    assert re.search(r"Released</dt><dd[^>]*>5\.00 credits \(\$0\.035\), ", page)
    assert "Charged</dt><dd>Nothing</dd>" in page and "Upstreams asked</dt><dd>aigenerate</dd>" in page
    assert f"up-{job.pk}" in page and "flagged as unsafe" in page and 'Attempts</dt><dd class="num">1' in page


def test_a_preview_that_failed_shows_nothing_of_what_the_house_held(rich: User) -> None:
    job = job_for(rich, pay="preview")
    assert job.hold.amount == job.cost_micros > 0
    page = receipt_of(rich, failed(job))
    assert "The preview was given back to you." in page and "Released" not in page
    assert "$0.0" not in page.replace("5.00 credits ($0.035) to keep", "")


def test_what_was_cancelled_has_a_receipt_too(rich: User) -> None:
    job = job_for(rich)
    jobs.cancel(job, by=rich)
    page = receipt_of(rich, job)
    assert "<h1>Cancelled</h1>" in page and "Upstreams asked</dt><dd>none</dd>" in page
    assert told(job) == ["Ordered.", "You cancelled it."]


def test_a_receipt_orders_it_again_at_the_price_of_today_and_then_leads_there(rich: User) -> None:
    job = failed(job_for(rich))
    assert ">Try again: 5.00 credits</button>" in receipt_of(rich, job)
    again = orders.retry(job)
    page = receipt_of(rich, job)
    assert f'href="/jobs/{again.pk}/">It was tried again' in page and "/retry/" not in page
    assert f'href="/jobs/{job.pk}/">Receipt of the attempt before' in receipt_of(rich, failed(again))


def test_a_receipt_shows_the_inputs(rich: User) -> None:
    upload, job = uploads.take(rich, photo()), job_for(rich)
    RunInput.objects.create(run=job.run, upload=upload, position=0)
    Job.objects.update(params=job.params | {"inputs": [str(upload.pk)]})
    assert f'src="/uploads/{upload.pk}/thumb/"' in receipt_of(rich, failed(job))


def test_bob_and_visitors_find_no_receipt(rich: User, bob: User) -> None:
    job = failed(job_for(rich))
    assert logged_in(bob).get(f"/jobs/{job.pk}/").status_code == 404
    assert logged_in(rich).get(f"/jobs/{uuid.uuid4()}/").status_code == 404
    assert "/accounts/login/" in Client().get(f"/jobs/{job.pk}/")["Location"]


def test_a_long_history_costs_no_more_queries(rich: User) -> None:
    job = failed(job_for(rich))
    costs = []
    for more in (0, 40):
        JobEvent.objects.bulk_create(JobEvent(job=job, state="queued", note=f"no {n}") for n in range(more))
        with CaptureQueriesContext(connection) as queries:
            receipt_of(rich, job)
        costs.append(len(queries))
    assert costs[0] == costs[1]


def test_a_pictures_page_tells_what_happened_and_who_made_it(rich: User) -> None:
    picture = picture_for(rich)
    page = unescape(logged_in(rich).get(picture.get_absolute_url()).content.decode())
    assert "Made by</dt><dd>aigenerate</dd>" in page and "What happened" in page
    assert told(picture.job) == [
        "Ordered.",
        "Sent to aigenerate.",
        "Started there.",
        "Ready there; we fetch it.",
        "The picture arrived and is stored.",
    ]


# --- Which upstreams were asked -----------------------------------------------------------------------
def put_off(job: Job) -> str:
    """Why the upstream takes no job now, as the engine writes it down."""
    with pytest.raises(upstreams.NotNow) as caught:
        upstreams.admit(job)
    return caught.value.detail


def state_of(**changes: Any) -> None:
    UpstreamState.objects.update_or_create(name="aigenerate", defaults=changes)


def paused() -> None:
    state_of(paused_until=timezone.now() + timedelta(minutes=1))


def broken() -> None:
    state_of(open_until=timezone.now() + timedelta(minutes=1), failures=5)


def spent() -> None:
    upstreams.Upstream.objects.create(name="aigenerate", kind="aigenerate", limit_micros_per_day=1)


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (paused, "it asked us to wait"),
        (broken, "it was not well"),
        (spent, "our limit for it was used up for the day"),
    ],
)
def test_it_says_why_another_upstream_was_asked(rich: User, trouble: Any, why: str) -> None:
    job = leased(job_for(rich))
    trouble()
    assert jobs.reroute(job, spare(job), put_off(job))
    assert told(job)[-1] == f"Not started by aigenerate: {why}. It goes to kie."
    assert receipts.asked(job) == ["aigenerate"]
    [again] = jobs.claim("drive", 10)
    assert jobs.sending(again) is True and told(job)[-1] == "Sent to kie."


@pytest.mark.parametrize(
    ("note", "why"),
    [
        ("Not reached: ConnectionRefusedError 10.1.2.3", "it could not be reached"),
        ("HTTP 429, code 429: slow down", "it asked us to wait"),
        ("HTTP 200, code 429: slow down", "it asked us to wait"),
        ("HTTP 402, code 402: balance 0.30, needs $0.02", "it would not take it at that moment"),
        ("aigenerate is not set up any more", "it is not in use here any more"),
        ("24 jobs are running there, as many as it lets us", "it had no room"),
    ],
)
def test_what_upstreams_say_of_our_account_is_not_repeated(rich: User, note: str, why: str) -> None:
    job = sent(job_for(rich))
    assert jobs.not_started(job, timezone.now(), note)
    assert told(job)[-1] == f"Not started by aigenerate: {why}. It is asked again."


def test_many_attempts_are_told_once(rich: User) -> None:
    job = job_for(rich)
    for _ in range(4):
        assert jobs.not_started(sent(job), timezone.now(), "HTTP 429: busy")
    steps = receipts.timeline(Job.objects.get())
    assert [(step.words.split()[0], step.times) for step in steps] == [
        ("Ordered.", 1),
        ("Sent", 4),
        ("Not", 4),
    ]


@pytest.mark.parametrize(
    ("failure", "detail"),
    [
        ("upstream_unavailable", "HTTP 401, code 401: key ab… of team-account"),
        ("limit_reached", "its dollar limit for today (UTC) is used up"),
        ("rejected", "HTTP 400, code 400: insufficient credits, this needs 5"),
        ("moderated", "your balance of $3.10 is unchanged"),
    ],
)
def test_what_is_the_operators_business_is_not_shown(rich: User, failure: str, detail: str) -> None:
    page = receipt_of(rich, failed(job_for(rich), failure, detail))
    assert detail not in page and "words</h2>" not in page and jobs.EXPLAINED[failure] in page


def test_no_cost_no_token_and_no_operator_is_shown(rich: User, charlie: User) -> None:
    job = sent(job_for(rich))
    assert jobs.started(job, "up-1", memo="memo-of-upstream", cost_micros=12_345)
    assert jobs.give_up(job, by=charlie)
    page = receipt_of(rich, job)
    for secret in ("charlie@", "0.012345", "memo-of-upstream", job.callback_token, "key-one"):
        assert secret not in page
    assert told(job)[-1] == f"Failed. {jobs.EXPLAINED['given_up']}"


def test_a_lost_answer_and_a_late_call_are_told(rich: User) -> None:
    job = sent(job_for(rich))
    jobs.lost(job, "No answer: TimeoutError")
    assert told(job)[-1].startswith("The connection broke before an answer came.")
    job = Job.objects.get()
    assert jobs.fail(job, "outcome_unknown") and jobs.hint(job.callback_token, "task-9")
    assert told(job)[-2:] == [
        f"Failed. {jobs.EXPLAINED['outcome_unknown']}",
        "The upstream was heard of after the end. Nothing is charged.",
    ]
