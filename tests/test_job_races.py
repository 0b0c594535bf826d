"""Fifty real processes at once want a job, a picture or an upstream's last room; on SQLite and on PostgreSQL."""

import uuid
from collections import Counter

import pytest
from django.conf import settings

from accounts import ledger
from accounts.models import User
from playground import jobs, orders, upstreams
from playground.models import Job, Picture, Upstream, UpstreamState
from tests.making import USD, give, job_for, picture_for, run_for
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
