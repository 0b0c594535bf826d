"""A run's page: a tile a picture, progress that costs little, and what can be done with a tile."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import ledger
from accounts.models import User
from playground import jobs, uploads
from playground.models import Job, Picture, Price, Run, Variant
from tests.making import (
    EDIT,
    FLEX_2K,
    KONTEXT,
    PRO,
    give,
    job_for,
    leased,
    load_catalogue,
    picture_for,
    run_for,
)
from tests.pictures import photo

HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def _credits(alice: User) -> None:
    give(alice)


@pytest.fixture
def client_of_alice(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def page(response: Any) -> str:
    return unescape(response.content.decode())


def page_of(client: Client, run: Run) -> str:
    response = client.get(run.get_absolute_url())
    assert response.status_code == 200
    return page(response)


def tiles(html: str) -> dict[str, str]:
    return dict(re.findall(r'data-job="([^"]+)" data-state="([^"]+)"', html))


def marks(html: str) -> str:
    return re.search(r'name="v" value="([^"]*)"', html)[1]  # type: ignore[index]


def progress(client: Client, run: Run, seen: str = "") -> Any:
    return client.get(f"{run.get_absolute_url()}progress/", {"v": seen}, headers=HTMX)


def fail(job: Job, failure: str = "moderated") -> Job:
    held = leased(job)
    assert jobs.sending(held) and jobs.started(held, f"up-{job.pk}")
    assert jobs.fail(held, failure, "")
    job.refresh_from_db()
    return job


# --- Tiles --------------------------------------------------------------------------------------------
def test_each_picture_is_a_tile_grouped_by_variant_cheapest_first(
    alice: User, client_of_alice: Client
) -> None:
    run = run_for(alice, FLEX_2K, PRO, count=2)
    html = page_of(client_of_alice, run)
    assert tiles(html) == {str(job.pk): "queued" for job in run.jobs.all()}
    assert html.index("FLUX.2 pro 1K</a>") < html.index("FLUX.2 flex 2K</a>")


def test_a_tile_has_its_final_shape_from_the_start(alice: User, client_of_alice: Client) -> None:
    picture = picture_for(alice, aspect_ratio="16:9")
    assert 'width="1600" height="900" alt=' in page_of(
        client_of_alice, picture.job.run
    )  # the fake one is square
    run = run_for(alice, PRO, aspect_ratio="16:9")
    assert '<svg viewBox="0 0 1600 900" width="1600" height="900"' in page_of(client_of_alice, run)
    assert 'height="100" class="as-asked"' in page_of(client_of_alice, picture_for(alice).job.run)


@pytest.mark.parametrize(
    ("state", "shown"), [("queued", "queued"), ("submitting", "running"), ("fetching", "running")]
)
def test_open_jobs_show_how_long_they_have_taken(
    alice: User, client_of_alice: Client, state: str, shown: str
) -> None:
    job = job_for(alice)
    Job.objects.update(state=state, created=timezone.now() - timedelta(seconds=7))
    html = page_of(client_of_alice, job.run)
    assert tiles(html) == {str(job.pk): shown}
    assert re.search(r'data-since="7\.\d">7 s', html)


def test_a_paid_picture_shows_seconds_and_price(alice: User, client_of_alice: Client) -> None:
    picture = picture_for(alice, prompt="a blue door", seed=42)
    html = page_of(client_of_alice, picture.job.run)
    assert tiles(html) == {str(picture.job.pk): "succeeded"}
    assert re.search(r"\d\.\d s</span> · 5\.00 credits \(\$0\.035\)", html)
    assert f"/pictures/{picture.pk}/thumb/" in html and "Download" in html
    assert 'alt="a blue door. FLUX.2 pro 1K, seed 42."' in html


def test_a_preview_is_free_small_and_can_be_kept(alice: User, client_of_alice: Client) -> None:
    picture = picture_for(alice, pay="preview")
    html = page_of(client_of_alice, picture.job.run)
    assert "free preview" in html and "Keep full size: 5.00 credits" in html
    assert f"/pictures/{picture.pk}/preview/" in html
    assert f"/pictures/{picture.pk}/original/" not in html and "Download" not in html


def test_a_kept_preview_shows_its_price_and_original(alice: User, client_of_alice: Client) -> None:
    picture = picture_for(alice, pay="preview")
    client_of_alice.post(f"/pictures/{picture.pk}/keep/", {"next": picture.job.run.get_absolute_url()})
    html = page_of(client_of_alice, picture.job.run)
    assert "5.00 credits ($0.035)" in html and "Keep full size" not in html and "Download" in html


def test_a_failure_stays_in_its_tile_with_reason_and_retry(alice: User, client_of_alice: Client) -> None:
    job = fail(job_for(alice))
    html = page_of(client_of_alice, job.run)
    assert tiles(html) == {str(job.pk): "failed"}
    assert jobs.why(job) in html and "Not charged" in html and "Try again" in html


@pytest.mark.parametrize(
    ("failure", "heading"),
    [("moderated", "Refused"), ("rejected", "Not accepted"), ("upstream_failed", "Failed")],
)
def test_a_tile_says_whether_it_was_refused_or_failed(
    alice: User, client_of_alice: Client, failure: str, heading: str
) -> None:
    job = fail(job_for(alice), failure)
    html = page_of(client_of_alice, job.run)
    assert f'data-state="failed" data-failure="{failure}"' in html
    assert f'<p class="strong">{heading}</p>' in html and jobs.EXPLAINED[failure] in html
    assert f"0 of 1 picture is ready, 1 {heading.lower()}." in html and "Not charged" in html


@pytest.mark.parametrize("end", ["failed", "cancelled"])
def test_a_tile_without_a_picture_leads_to_its_receipt(
    alice: User, client_of_alice: Client, end: str
) -> None:
    job = job_for(alice)
    assert fail(job) if end == "failed" else jobs.cancel(job, by=alice)
    assert f'href="/jobs/{job.pk}/">Receipt' in page_of(client_of_alice, job.run)


def test_a_deleted_picture_leaves_an_empty_tile(alice: User, client_of_alice: Client) -> None:
    picture = picture_for(alice)
    Picture.objects.update(deleted=timezone.now())
    html = page_of(client_of_alice, picture.job.run)
    assert "Deleted" in html and "/thumb/" not in html


# --- Whose it is --------------------------------------------------------------------------------------
@pytest.mark.parametrize("tail", ["", "progress/"])
def test_bob_does_not_find_alices_run(alice: User, bob: User, tail: str) -> None:
    stranger = Client()
    stranger.force_login(bob)
    assert stranger.get(f"{run_for(alice).get_absolute_url()}{tail}").status_code == 404


def test_a_visitor_is_asked_to_log_in_and_a_stale_page_reloads(alice: User) -> None:
    run = run_for(alice)
    assert Client().get(run.get_absolute_url()).headers["Location"].startswith("/accounts/login/?next=")
    assert progress(Client(), run).headers["HX-Refresh"] == "true"


@pytest.mark.parametrize("deed", ["cancel", "retry"])
def test_bob_can_do_nothing_to_alices_job(alice: User, bob: User, deed: str) -> None:
    job = job_for(alice)
    stranger = Client()
    stranger.force_login(bob)
    assert stranger.post(f"/jobs/{job.pk}/{deed}/").status_code == 404
    assert Job.objects.get().state == "queued"


# --- Progress -----------------------------------------------------------------------------------------
def test_an_idle_poll_answers_nothing(alice: User, client_of_alice: Client) -> None:
    run = run_for(alice, PRO, KONTEXT)
    answer = progress(client_of_alice, run, marks(page_of(client_of_alice, run)))
    assert (answer.status_code, answer.content) == (204, b"")


def test_a_poll_brings_only_the_tiles_that_changed(alice: User, client_of_alice: Client) -> None:
    run = run_for(alice, PRO, KONTEXT, count=2)
    seen = marks(page_of(client_of_alice, run))
    job = fail(run.jobs.first())  # type: ignore[arg-type]
    answer = progress(client_of_alice, run, seen)
    html = page(answer)
    assert answer.status_code == 200 and tiles(html) == {str(job.pk): "failed"}
    assert "0 of 4 pictures are ready, 1 refused." in html
    assert progress(client_of_alice, run, marks(html)).status_code == 204


def test_progress_moves_a_number_and_leaves_the_tile_alone(alice: User, client_of_alice: Client) -> None:
    run = run_for(alice, PRO, KONTEXT)
    job = leased(run.jobs.first())  # type: ignore[arg-type]
    assert jobs.sending(job) and jobs.started(job, "up-1")
    seen = marks(page_of(client_of_alice, run))
    jobs.progressed(job, 40)
    html = page(progress(client_of_alice, run, seen))
    assert 'hx-swap-oob="true">Making it, 40 %' in html
    assert tiles(html) == {} and "pictures are ready" not in html
    assert progress(client_of_alice, run, marks(html)).status_code == 204


def test_the_polling_ends_when_all_is_final(alice: User, client_of_alice: Client) -> None:
    picture = picture_for(alice)
    answer = progress(client_of_alice, picture.job.run, "xxx")
    html = page(answer)
    assert answer.status_code == 286 and tiles(html) == {str(picture.job.pk): "succeeded"}
    assert "every 700ms" not in html and "1 of 1 picture is ready." in html
    assert 'id="balance"' in html and "1,423.57" in html


@pytest.mark.parametrize("seen", ["", "nonsense", "q" * 5000])
def test_a_page_that_knows_nothing_gets_every_tile(alice: User, client_of_alice: Client, seen: str) -> None:
    run = run_for(alice, PRO, KONTEXT)
    assert len(tiles(page(progress(client_of_alice, run, seen)))) == 2


def test_progress_is_cheap_with_48_jobs(alice: User, client_of_alice: Client) -> None:
    give(alice, 100)
    one, *runs = [run_for(alice, PRO)] + [run_for(alice, PRO, KONTEXT, FLEX_2K, count=4) for _ in range(4)]
    for ordinal, job in enumerate(Job.objects.filter(run__in=runs)):
        Job.objects.filter(pk=job.pk).update(run=runs[0], ordinal=ordinal)
    costs = []
    for run in (one, runs[0]):
        with CaptureQueriesContext(connection) as queries:
            html = page(progress(client_of_alice, run))
        costs.append(len(queries))
    assert len(tiles(html)) == 48
    assert costs[0] == costs[1] <= 5  # session, person, run, jobs with their pictures, balance


# --- Cancel and retry ---------------------------------------------------------------------------------
def test_alice_cancels_while_nothing_is_owed(alice: User, client_of_alice: Client) -> None:
    run = run_for(alice, PRO, KONTEXT)
    html = page_of(client_of_alice, run)
    assert html.count(">Cancel<") == 2
    job = run.jobs.first()
    assert job
    answer = client_of_alice.post(f"/jobs/{job.pk}/cancel/", {"v": marks(html)}, headers=HTMX)
    assert tiles(page(answer)) == {str(job.pk): "cancelled"}
    assert ledger.wallet_of(alice).held == 35_000


def test_without_javascript_cancelling_leads_back_to_the_run(alice: User, client_of_alice: Client) -> None:
    job = job_for(alice)
    answer = client_of_alice.post(f"/jobs/{job.pk}/cancel/")
    assert (answer.status_code, answer.headers["Location"]) == (303, job.run.get_absolute_url())
    assert tiles(page_of(client_of_alice, job.run)) == {str(job.pk): "cancelled"}


def test_what_may_cost_already_cannot_be_cancelled(
    alice: User, client_of_alice: Client, settings: LazySettings
) -> None:
    settings.AIGENERATE_API_KEY = "key"
    job = leased(job_for(alice))
    assert jobs.sending(job) and jobs.started(job, "up-1")
    assert ">Cancel<" not in page_of(client_of_alice, job.run)
    answer = client_of_alice.post(f"/jobs/{job.pk}/cancel/", follow=True)
    assert "Too late to cancel" in page(answer)
    assert Job.objects.get().state == "running"


def test_a_retry_takes_the_place_of_what_failed(alice: User, client_of_alice: Client) -> None:
    job = fail(job_for(alice))
    html = page_of(client_of_alice, job.run)
    answers = [
        client_of_alice.post(f"/jobs/{job.pk}/retry/", {"v": marks(html)}, headers=HTMX) for _ in range(2)
    ]
    again = Job.objects.get(retry_of=job)
    assert [tiles(page(answer)) for answer in answers] == [{str(again.pk): "queued"}] * 2
    assert "every 700ms" in page(answers[0])
    assert tiles(page_of(client_of_alice, job.run)) == {str(again.pk): "queued"}


@pytest.mark.parametrize(
    ("pay", "says"), [("credits", "Try again: 10.00 credits"), ("preview", "Try again: free preview")]
)
def test_a_retry_names_the_price_of_today(alice: User, client_of_alice: Client, pay: str, says: str) -> None:
    job = fail(job_for(alice, pay=pay))
    Price.objects.create(variant=job.variant, micros=70_000)
    assert f">{says}</button>" in page_of(client_of_alice, job.run)
    cancelled = job_for(alice, pay=pay)
    jobs.cancel(cancelled, by=alice)
    assert f">{says.replace('Try again', 'Make it after all')}</button>" in page_of(
        client_of_alice, cancelled.run
    )


def test_what_is_not_on_offer_any_more_has_no_retry(alice: User, client_of_alice: Client) -> None:
    job = fail(job_for(alice))
    Variant.objects.filter(pk=job.variant_id).update(is_live=False)
    html = page_of(client_of_alice, job.run)
    assert "Try again" not in html and "/retry/" not in html and "Not charged" in html


def test_what_has_lost_its_input_has_no_retry_and_says_why(alice: User, client_of_alice: Client) -> None:
    load_catalogue()
    upload = uploads.take(alice, photo())
    job = fail(run_for(alice, EDIT, inputs=[upload]).jobs.get())
    assert "Try again" in page_of(client_of_alice, job.run)
    uploads.remove(upload)
    for path in (job.run.get_absolute_url(), f"/jobs/{job.pk}/"):
        html = page(client_of_alice.get(path))
        assert "Its input picture has been removed." in html and "/retry/" not in html


def test_the_prices_of_retries_cost_the_same_however_many_there_are(
    alice: User, client_of_alice: Client
) -> None:
    costs = []
    for slugs in ((PRO,), (PRO, KONTEXT, FLEX_2K)):
        run = run_for(alice, *slugs, count=2)
        for job in run.jobs.all():
            jobs.cancel(job, by=alice)
        with CaptureQueriesContext(connection) as queries:
            html = page_of(client_of_alice, run)
        costs.append(len(queries))
        assert html.count("Make it after all: ") == 2 * len(slugs)
    assert costs[0] == costs[1]


def test_a_second_click_shows_the_retry_also_when_the_credits_are_gone(
    alice: User, client_of_alice: Client
) -> None:
    job = fail(job_for(alice))
    Price.objects.create(variant=job.variant, micros=10_000_000)  # all that she has
    answers = [client_of_alice.post(f"/jobs/{job.pk}/retry/", follow=True) for _ in range(2)]
    again = Job.objects.get(retry_of=job)
    assert ledger.wallet_of(alice).available == 0
    for answer in answers:
        assert tiles(page(answer)) == {str(again.pk): "queued"} and "This needs" not in page(answer)


def test_a_retry_that_is_refused_says_why(
    alice: User, client_of_alice: Client, settings: LazySettings
) -> None:
    job = fail(job_for(alice, pay="preview"))
    settings.PREVIEWS_PER_DAY = 0
    answer = client_of_alice.post(f"/jobs/{job.pk}/retry/", follow=True)
    assert "You have 0 of 0 free previews left today (UTC), and this needs 1." in page(answer)
    assert not Job.objects.filter(retry_of=job).exists()
    answer = client_of_alice.post(f"/jobs/{job.pk}/retry/", headers=HTMX)
    assert answer.headers["HX-Refresh"] == "true"


def test_the_page_reads_without_javascript(alice: User, client_of_alice: Client) -> None:
    html = page_of(client_of_alice, run_for(alice))
    assert '<noscript><meta http-equiv="refresh"' in html
    assert '<noscript><meta http-equiv="refresh"' not in page_of(client_of_alice, picture_for(alice).job.run)
