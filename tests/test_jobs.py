"""The life of a job, step by step, with the money that moves beside it."""

from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from accounts import ledger
from accounts.models import Cap, Hold, User, Wallet
from playground import catalog, jobs, orders, upkeep
from playground.models import Job, JobEvent, Picture, Price, Route, Run, Switch, Variant
from tests.making import (
    EDIT,
    FLEX_2K,
    KONTEXT,
    PRO,
    USD,
    give,
    job_for,
    leased,
    picture_for,
    rendered,
    run_for,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _sound_afterwards(db: None) -> object:
    """Whatever a test did, the books must balance after it."""
    yield
    assert upkeep.audit() == []


def available(user: User) -> int:
    return ledger.wallet_of(user).available


# --- Submitting ---------------------------------------------------------------------------------------
def test_a_run_makes_one_job_per_picture_and_holds_their_prices(alice: User) -> None:
    give(alice)
    run = run_for(alice, PRO, FLEX_2K, count=2)
    assert sorted(run.jobs.values_list("price_micros", flat=True)) == [35_000, 35_000, 168_000, 168_000]
    assert available(alice) == 10 * USD - 2 * 35_000 - 2 * 168_000
    assert ledger.wallet_of(alice).posted == 10 * USD


def test_a_run_that_alice_cannot_pay_leaves_nothing_behind(alice: User) -> None:
    ledger.grant(alice, 100_000, business_id="little", memo="")
    with pytest.raises(ledger.NotEnoughCredit) as refusal:
        run_for(alice, PRO, count=4)
    assert refusal.value.needed == 140_000
    assert not Run.objects.exists() and not Job.objects.exists() and not Hold.objects.exists()


def test_the_last_micro_dollar_can_be_spent(alice: User) -> None:
    ledger.grant(alice, 140_000, business_id="just", memo="")
    run_for(alice, PRO, count=4)
    assert available(alice) == 0


def test_a_run_over_a_cap_is_refused_by_the_name_of_the_cap(alice: User) -> None:
    give(alice)
    Cap.objects.create(user=alice, window=Cap.Window.DAY, limit=100_000)
    with pytest.raises(ledger.CapReached) as refusal:
        run_for(alice, PRO, count=3)
    assert refusal.value.window == "day" and not Run.objects.exists()
    run_for(alice, PRO, count=2)


def test_the_same_form_twice_is_one_run(alice: User) -> None:
    give(alice)
    first, second = run_for(alice, nonce="n"), run_for(alice, nonce="n")
    assert first.pk == second.pk and Job.objects.count() == 1
    assert available(alice) == 10 * USD - 35_000


def test_a_nonce_of_alice_means_nothing_to_bob(alice: User, bob: User) -> None:
    give(alice), give(bob)
    assert run_for(alice, nonce="n").pk != run_for(bob, nonce="n").pk


def test_previews_hold_nothing_of_alices_and_count_as_pictures(alice: User, settings: object) -> None:
    settings.PREVIEWS_PER_DAY = 3
    run_for(alice, count=2, pay="preview")
    assert ledger.wallet_of(alice).held == 0
    with pytest.raises(ledger.CapReached, match="1 of 3 free previews left"):
        run_for(alice, count=2, pay="preview")
    run_for(alice, pay="preview")


def test_the_houses_preview_budget_counts_what_the_upstream_takes(
    alice: User, bob: User, settings: object
) -> None:
    settings.AIGENERATE_API_KEY = "key"
    settings.PREVIEW_BUDGET_MICROS_PER_DAY = 100_000
    run_for(alice, count=2, pay="preview")
    with pytest.raises(ledger.CapReached, match="house's budget"):
        run_for(bob, pay="preview")


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"prompt": "x"}, "prompt"),
        ({"prompt": "x" * 5001}, "prompt"),
        ({"prompt": "nul\x00byte"}, "prompt"),
        ({"aspect_ratio": "21:9"}, "aspect_ratio"),
        ({"count": 0}, "count"),
        ({"count": 5}, "count"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
    ],
)
def test_what_cannot_be_made_is_refused_by_field(alice: User, asked: dict, field: str) -> None:
    give(alice)
    with pytest.raises(orders.NotPossible) as refusal:
        run_for(alice, **asked)
    assert refusal.value.field == field and not Run.objects.exists()


def test_one_run_has_an_end(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    give(alice)
    monkeypatch.setattr(orders, "MAX_PICTURES", 4)
    with pytest.raises(orders.NotPossible, match="at most 4 pictures, and this would be 6"):
        run_for(alice, PRO, FLEX_2K, count=3)
    run_for(alice, PRO, FLEX_2K, count=2)


def test_a_ratio_must_suit_every_variant(alice: User) -> None:
    give(alice)
    with pytest.raises(orders.NotPossible, match=r"Kontext Pro does not make 2:3"):
        run_for(alice, PRO, KONTEXT, aspect_ratio="2:3")


def test_image_to_image_says_what_it_needs(alice: User) -> None:
    give(alice)
    with pytest.raises(orders.NotPossible, match=r"FLUX\.2 pro edit 1K needs an input picture"):
        run_for(alice, EDIT)


def test_an_unknown_price_is_refused_never_free(alice: User) -> None:
    give(alice)
    run_for(alice)
    Price.objects.all().delete()
    with pytest.raises(orders.NotPossible, match="no price"):
        run_for(alice)


def test_a_later_price_moves_no_old_job(alice: User) -> None:
    give(alice)
    old = job_for(alice)
    Price.objects.create(variant=Variant.objects.get(slug=PRO), micros=70_000)
    assert job_for(alice).price_micros == 70_000
    old.refresh_from_db()
    assert old.price_micros == 35_000 and old.hold.amount == 35_000


def test_pictures_of_one_ordinal_share_a_seed_across_variants(alice: User) -> None:
    give(alice)
    run = run_for(alice, PRO, FLEX_2K, count=2, seed=7)
    assert sorted((job.ordinal, job.params["seed"]) for job in run.jobs.all()) == [
        (0, 7),
        (0, 7),
        (1, 8),
        (1, 8),
    ]


def test_a_route_that_loses_the_seed_sends_none(alice: User, settings: object) -> None:
    settings.AIGENERATE_API_KEY = "key"
    give(alice)
    assert "seed" not in job_for(alice, seed=7).params


# --- Claiming and leases ------------------------------------------------------------------------------
def test_a_claimed_job_is_not_claimed_again_until_its_lease_runs_out(alice: User) -> None:
    give(alice)
    job = leased(job_for(alice), "one")
    assert jobs.claim("two", 10) == []
    Job.objects.update(next_look=timezone.now() - timedelta(seconds=1))
    [again] = jobs.claim("two", 10)
    assert again.pk == job.pk and not jobs.sending(job) and jobs.sending(again)


def test_renewing_keeps_the_lease(alice: User) -> None:
    give(alice)
    job = leased(job_for(alice), "one")
    Job.objects.update(next_look=timezone.now() - timedelta(seconds=1))
    assert jobs.renew("one", []) == 0 and jobs.renew("one", [job.pk]) == 1
    assert jobs.claim("two", 10) == []
    assert jobs.sending(job)


def test_the_kill_switch_holds_back_what_was_not_sent_and_nothing_else(alice: User) -> None:
    give(alice)
    running = leased(job_for(alice))
    assert jobs.sending(running) and jobs.started(running, "up-1")
    assert jobs.let_go(running, timezone.now())
    waiting = job_for(alice)
    Switch.objects.create(name=jobs.DISPATCH, is_on=False)
    assert [job.pk for job in jobs.claim("drive", 10)] == [running.pk]
    Switch.objects.update(is_on=True)
    assert [job.pk for job in jobs.claim("drive", 10)] == [waiting.pk]


# --- The way to success -------------------------------------------------------------------------------
def test_a_success_is_one_picture_and_one_charge(alice: User) -> None:
    give(alice)
    picture = picture_for(alice)
    wallet = ledger.wallet_of(alice)
    assert (wallet.posted, wallet.held) == (10 * USD - 35_000, 0)
    assert not picture.is_locked and picture.job.hold.state == Hold.State.CAPTURED
    states = [event.state for event in picture.job.events.all()]
    assert states == ["queued", "submitting", "running", "fetching", "succeeded"]


def test_a_success_cannot_happen_twice(alice: User) -> None:
    give(alice)
    picture = picture_for(alice)
    job = picture.job
    job.lease_owner = "drive"
    assert not jobs.succeed(job, "aa/bb/" + "0" * 32, rendered())
    assert Picture.objects.count() == 1 and ledger.wallet_of(alice).posted == 10 * USD - 35_000


def test_who_lost_the_lease_changes_nothing(alice: User) -> None:
    give(alice)
    job = leased(job_for(alice), "old")
    assert jobs.sending(job) and jobs.started(job, "up-1") and jobs.ready(job, ["u"])
    Job.objects.update(lease_owner="new")
    assert not jobs.succeed(job, "aa/bb/" + "0" * 32, rendered()) and not jobs.fail(job, "timed_out")
    job.refresh_from_db()
    assert job.state == Job.State.FETCHING and job.hold.state == Hold.State.OPEN


def test_a_preview_costs_alice_nothing_and_the_house_what_the_upstream_takes(
    alice: User, settings: object
) -> None:
    settings.AIGENERATE_API_KEY = "key"
    picture = picture_for(alice, pay="preview")
    assert picture.is_locked and ledger.wallet_of(alice).posted == 0
    assert ledger.house(Wallet.House.PREVIEW).posted == -35_000


# --- Every other end ----------------------------------------------------------------------------------
def test_a_failure_gives_the_money_back(alice: User) -> None:
    give(alice)
    job = leased(job_for(alice))
    assert jobs.sending(job) and jobs.started(job, "up-1") and jobs.fail(job, "moderated", "nsfw")
    assert available(alice) == 10 * USD and job.hold.state == Hold.State.RELEASED
    assert "safety filter" in jobs.why(job)


def test_a_failed_preview_gives_the_preview_back(alice: User) -> None:
    job = leased(job_for(alice, pay="preview"))
    assert jobs.fail(job, "upstream_failed")
    assert ledger.usage(f"user:{alice.pk}/previews", "day").reserved == 0


def test_a_lost_answer_is_looked_at_once_more_at_the_deadline_and_its_cost_suspected(
    alice: User, settings: object
) -> None:
    settings.AIGENERATE_API_KEY = "key"
    give(alice)
    job = leased(job_for(alice))
    assert jobs.sending(job) and jobs.lost(job, "reset")
    job.refresh_from_db()
    assert job.next_look == job.deadline and jobs.claim("other", 10) == []
    Job.objects.update(next_look=timezone.now())
    assert jobs.fail(leased(job), "outcome_unknown")
    assert available(alice) == 10 * USD
    assert ledger.house(Wallet.House.SUSPENSE).posted == -35_000


def test_a_move_that_was_rolled_back_with_its_batch_can_be_repeated(alice: User) -> None:
    give(alice)
    job = leased(job_for(alice))
    assert jobs.sending(job)
    for move in (jobs.not_started, jobs.not_started):
        with transaction.atomic():
            assert move(job, timezone.now(), "busy")
            transaction.set_rollback(True)
    assert jobs.not_started(job, timezone.now(), "busy")
    assert Job.objects.get(pk=job.pk).state == "queued"


def test_a_callback_before_the_answer_is_lost_is_a_reason_to_look_at_once(alice: User) -> None:
    give(alice)
    job = leased(job_for(alice))
    assert jobs.sending(job) and jobs.hint(job.callback_token, "up-9")
    assert jobs.claim("other", 10) == [] and jobs.lost(job, "reset")
    [due] = jobs.claim("other", 10)
    assert (due.claimed_id, due.outcome_unknown) == ("up-9", True)


def test_what_a_failed_preview_may_have_cost_counts_against_the_houses_budget(
    alice: User, settings: object
) -> None:
    settings.AIGENERATE_API_KEY = "key"
    settings.PREVIEW_BUDGET_MICROS_PER_DAY = 50_000
    job = leased(job_for(alice, pay="preview"))
    assert jobs.sending(job) and jobs.fail(job, "timed_out")
    assert ledger.usage(ledger.PREVIEW_BUDGET, "day").spent == 35_000
    assert ledger.house(Wallet.House.SUSPENSE).posted == -35_000
    with pytest.raises(ledger.CapReached, match="house's budget"):
        job_for(alice, pay="preview")


def test_cancelling_a_queued_job_gives_the_money_back_once(alice: User) -> None:
    give(alice)
    job = job_for(alice)
    assert jobs.can_cancel(job) and jobs.cancel(job, by=alice) and not jobs.cancel(job, by=alice)
    assert available(alice) == 10 * USD


def test_what_costs_upstream_cannot_be_cancelled_once_it_is_sent(alice: User, settings: object) -> None:
    settings.AIGENERATE_API_KEY = "key"
    give(alice)
    job = leased(job_for(alice))
    assert jobs.sending(job)
    assert not jobs.can_cancel(job) and not jobs.cancel(job, by=alice)


def test_a_cancelled_job_does_not_succeed(alice: User) -> None:
    give(alice)
    job = leased(job_for(alice))
    assert jobs.sending(job) and jobs.started(job, "up-1") and jobs.ready(job, ["u"])
    assert jobs.cancel(job, by=alice)
    job.state, job.lease_owner = Job.State.FETCHING, "drive"
    assert not jobs.succeed(job, "aa/bb/" + "0" * 32, rendered())
    assert available(alice) == 10 * USD


def test_the_operator_can_fail_and_release_whatever_is_open(alice: User, charlie: User) -> None:
    give(alice)
    job = leased(job_for(alice))
    assert jobs.sending(job) and jobs.give_up(job, by=charlie) and not jobs.give_up(job, by=charlie)
    assert available(alice) == 10 * USD
    assert JobEvent.objects.filter(job=job, note__contains="charlie").exists()


def test_a_retry_is_one_new_job_at_the_price_of_now(alice: User) -> None:
    give(alice)
    job = leased(job_for(alice, seed=7))
    assert jobs.fail(job, "upstream_failed")
    Price.objects.create(variant=job.variant, micros=70_000)
    again = orders.retry(job)
    assert orders.retry(job).pk == again.pk and again.params["seed"] == 7
    assert available(alice) == 10 * USD - 70_000


def test_only_what_failed_can_be_retried(alice: User) -> None:
    give(alice)
    with pytest.raises(orders.NotPossible):
        orders.retry(job_for(alice))


# --- Keeping a preview --------------------------------------------------------------------------------
def test_keeping_charges_once_however_often_it_is_asked(alice: User) -> None:
    give(alice)
    picture = picture_for(alice, pay="preview")
    assert orders.keep(picture) and not orders.keep(picture)
    picture.refresh_from_db()
    assert not picture.is_locked and available(alice) == 10 * USD - 35_000


def test_who_cannot_pay_keeps_nothing(alice: User) -> None:
    picture = picture_for(alice, pay="preview")
    with pytest.raises(ledger.NotEnoughCredit):
        orders.keep(picture)
    picture.refresh_from_db()
    assert picture.is_locked and picture.kept is None


def test_keeping_counts_against_the_caps(alice: User) -> None:
    give(alice)
    picture = picture_for(alice, pay="preview")
    Cap.objects.create(user=alice, window=Cap.Window.DAY, limit=34_999)
    with pytest.raises(ledger.CapReached):
        orders.keep(picture)


# --- Callbacks ----------------------------------------------------------------------------------------
def test_a_callback_makes_a_running_job_due_and_nothing_more(alice: User) -> None:
    give(alice)
    job = leased(job_for(alice))
    assert jobs.sending(job) and jobs.started(job, "up-1")
    assert jobs.hint(job.callback_token, "something-else")
    [due] = jobs.claim("drive", 10)
    assert due.upstream_id == "up-1" and due.state == Job.State.RUNNING


def test_a_callback_finds_a_job_whose_create_was_never_answered(alice: User) -> None:
    give(alice)
    job = leased(job_for(alice))
    assert jobs.sending(job) and jobs.lost(job, "reset")
    assert jobs.hint(job.callback_token, "up-9")
    [due] = jobs.claim("drive", 10)
    assert due.claimed_id == "up-9" and due.upstream_id is None


def test_a_callback_after_the_end_changes_nothing(alice: User) -> None:
    give(alice)
    job = picture_for(alice).job
    assert jobs.hint(job.callback_token, "up-9") and jobs.claim("drive", 10) == []


def test_nobody_has_a_made_up_token(db: None) -> None:
    assert not jobs.hint("made-up", "up-9")


# --- The catalogue of what can be ordered -------------------------------------------------------------
def test_sizes_have_the_pixels_of_their_resolution_and_never_more() -> None:
    for ratio in ("1:1", "4:3", "16:9", "9:16", "21:9"):
        for resolution, most in (("1K", 1024**2), ("2K", 2048**2), ("", 1024**2)):
            width, height = catalog.size(ratio, resolution)
            assert 0.94 * most < width * height <= most and width % 16 == height % 16 == 0


def test_who_read_a_preview_before_it_was_rerouted_releases_the_hold_it_has_now(
    alice: User, settings: object
) -> None:
    """Whoever cancels, deletes an account or sweeps has the job in hand while an engine gives it to another upstream."""
    settings.AIGENERATE_API_KEY, settings.KIE_API_KEY = "key", "key"
    seen = job_for(alice, pay="preview")
    job = leased(seen)
    route = Route.objects.get(variant=job.variant, provider="kie")
    route.cost_micros = job.cost_micros + 1
    assert jobs.reroute(job, route, "it is not well") and jobs.cancel(seen, by=alice)
    assert not Hold.objects.filter(state=Hold.State.OPEN).exists()
    assert ledger.usage(ledger.PREVIEW_BUDGET, "day").reserved == 0
