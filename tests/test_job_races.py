"""Fifty real processes at once want a job, a picture or an upstream's last room; on SQLite and on PostgreSQL."""

import uuid
from collections import Counter
from datetime import timedelta

import pytest
from django.conf import settings
from django.utils import timezone

from accounts import ledger
from accounts.models import ApiKey, CapWindow, User
from playground import jobs, orders, upstreams
from playground.models import Job, Picture, Upstream, UpstreamState
from tests.making import USD, give, job_for, load_catalogue, picture_for, run_for
from tests.racing import Outcome, Track

pytestmark = [pytest.mark.kills, pytest.mark.races]
RUNNERS = 50
COST = PRICE = 35_000


def ends(outcomes: list[Outcome]) -> Counter[object]:
    """How often each thing was returned or raised."""
    return Counter(outcome.error or outcome.value for outcome in outcomes)


# --- What the runners do (in their own processes) -----------------------------------------------------
def alice() -> User:
    user, is_new = User.objects.get_or_create(email="alice@example.org")
    if is_new:
        give(user, 100)
    return user


def a_preview(folder: str) -> str:
    settings.MEDIA_ROOT = folder
    return str(picture_for(alice(), pay="preview").pk)


def keep(picture: str) -> bool:
    return orders.keep(Picture.objects.select_related("job__variant", "user").get(pk=picture))


def a_failed_job() -> str:
    job = job_for(alice())
    assert jobs.give_up(job, by=alice())
    return str(job.pk)


def retry(job: str) -> str:
    return str(orders.retry(Job.objects.select_related("run", "variant", "user").get(pk=job)).pk)


def balance() -> tuple[int, int]:
    wallet = ledger.wallet_of(alice())
    return wallet.posted, wallet.held


def an_upstream(limit: int | None, at_once: int | None, jobs_waiting: int) -> list[str]:
    settings.AIGENERATE_API_KEY = "key"
    Upstream.objects.create(name="aigenerate", kind="aigenerate", limit_micros_per_day=limit, at_once=at_once)
    made = [run_for(alice(), count=1, nonce=uuid.uuid4().hex).jobs.get() for _ in range(jobs_waiting)]
    return [str(job.pk) for job in made]


def send(job: str, runner: int) -> str:
    """As two drives would, that have both claimed it."""
    settings.AIGENERATE_API_KEY = "key"
    Job.objects.filter(pk=job, state="queued").update(lease_owner=f"drive {runner}")
    mine = Job.objects.get(pk=job)
    answer = jobs.sending(mine)
    return answer.detail.split(" ")[0] if isinstance(answer, upstreams.NotNow) else str(answer)


def sent() -> tuple[int, int]:
    settings.AIGENERATE_API_KEY = "key"
    return upstreams.running("aigenerate"), UpstreamState.objects.get().spent_micros


def give_all_up() -> None:
    for job in Job.objects.open():
        jobs.give_up(job, by=alice())


# --- The races ----------------------------------------------------------------------------------------
def test_fifty_keeps_of_one_preview_charge_once(track: Track, tmp_path: object) -> None:
    picture = track.alone(a_preview, str(tmp_path))
    outcomes = track.race(keep, [(picture,)] * RUNNERS)
    assert ends(outcomes) == {True: 1, False: RUNNERS - 1}
    assert track.alone(balance) == (100 * USD - PRICE, 0)


def test_fifty_retries_of_one_job_make_one_new_job(track: Track) -> None:
    job = track.alone(a_failed_job)
    outcomes = track.race(retry, [(job,)] * RUNNERS)
    assert len(ends(outcomes)) == 1 and not [outcome for outcome in outcomes if outcome.error]
    assert track.alone(balance) == (100 * USD, PRICE)
    track.alone(give_all_up)


def test_a_dollar_limit_for_7_pictures_lets_7_through(track: Track) -> None:
    waiting = track.alone(an_upstream, 8 * COST - 1, None, RUNNERS)
    outcomes = track.race(send, [(job, n) for n, job in enumerate(waiting)])
    assert ends(outcomes) == {"True": 7, "its": RUNNERS - 7}
    assert track.alone(sent) == (7, 7 * COST)
    track.alone(give_all_up)


def test_room_for_6_jobs_is_taken_by_6(track: Track) -> None:
    waiting = track.alone(an_upstream, None, 6, RUNNERS)
    outcomes = track.race(send, [(job, n) for n, job in enumerate(waiting)])
    assert ends(outcomes) == {"True": 6, "6": RUNNERS - 6}
    assert track.alone(sent) == (6, 6 * COST)
    track.alone(give_all_up)


def test_one_job_claimed_by_many_is_sent_and_counted_once(track: Track) -> None:
    [job] = track.alone(an_upstream, None, None, 1)
    outcomes = track.race(send, [(job, n) for n in range(RUNNERS)])
    assert ends(outcomes)["True"] == 1 and not [outcome for outcome in outcomes if outcome.error]
    assert track.alone(sent) == (1, COST)
    track.alone(give_all_up)


# --- Many of one person's jobs in one transaction -----------------------------------------------------
KEYS = 5


def ordered_with_keys(each: int) -> list[str]:
    """Jobs that wait, in turn of each key: in one transaction their caps' windows come up in many orders."""
    load_catalogue()
    made = [ApiKey.objects.create(user=alice(), digest=uuid.uuid4().hex) for _ in range(KEYS)]
    calls = [orders.Call(key=key, asked={}) for _ in range(each) for key in made]
    return [str(job_for(alice(), call).pk) for call in calls]


def end(job: str) -> object:
    """Empty: the operator ends all that waits. A job's id: its owner cancels it."""
    if not job:
        return bool(jobs.cancel_waiting(alice(), by=alice()))
    jobs.cancel(Job.objects.get(pk=job), by=alice())
    return "ended"


def test_who_ends_all_jobs_of_a_person_never_waits_in_a_circle(track: Track) -> None:
    waiting = track.alone(ordered_with_keys, 16)
    runners = [waiting[-1 - n] for n in range(RUNNERS - 1)]
    outcomes = track.race(end, [("",), *((job,) for job in runners)])
    assert not [outcome for outcome in outcomes if outcome.error]
    assert track.alone(balance) == (100 * USD, 0)


# --- Previews over midnight ---------------------------------------------------------------------------
def previews_of_yesterday(count: int) -> list[str]:
    """Sent, and with no answer yet."""
    settings.AIGENERATE_API_KEY = "key"
    made = [str(job_for(alice(), pay="preview").pk) for _ in range(count)]
    CapWindow.objects.update(starts=timezone.now().date() - timedelta(days=1))
    for job in jobs.claim("drive", count):
        assert jobs.sending(job) is True
    return made


def fail_or_order(job: str) -> str:
    settings.AIGENERATE_API_KEY = "key"
    if job:
        return str(jobs.fail(Job.objects.get(pk=job), "timed_out"))
    job_for(alice(), pay="preview")
    return "ordered"


def test_previews_that_fail_after_midnight_wait_in_no_circle_with_new_ones(track: Track) -> None:
    """What is given back is of yesterday's budget, and what it may have cost is of today's."""
    sent = track.alone(previews_of_yesterday, 20)
    outcomes = track.race(fail_or_order, [(job,) for made in sent for job in (made, "")])
    assert ends(outcomes) == {"True": len(sent), "ordered": len(sent)}
