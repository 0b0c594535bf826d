"""What the house does every minute and every night, and an audit that names each kind of damage by its name."""

import logging
import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.sessions.models import Session
from django.utils import timezone
from django_q.models import OrmQ

from accounts import ledger
from accounts.models import Hold, Transfer, User, Wallet
from playground import images, jobs, orders, upkeep, uploads
from playground.models import DriveBeat, Job, JobEvent, Picture
from tests.making import USD, give, job_for, leased, picture_for, rendered
from tests.pictures import photo

pytestmark = pytest.mark.django_db
LATE = timedelta(minutes=2)


@pytest.fixture
def rich(alice: User) -> User:
    give(alice)
    return alice


def overdue(job: Job, by: timedelta = LATE, **changes: Any) -> Job:
    past = timezone.now() - by
    Job.objects.filter(pk=job.pk).update(deadline=past, next_look=past, **changes)
    return job


def deleted(picture: Picture, ago: timedelta) -> Picture:
    Picture.objects.filter(pk=picture.pk).update(deleted=timezone.now() - ago)
    return picture


def files(picture: Picture) -> int:
    folder = images.path(picture.key, "original", picture.format).parent
    return len(list(folder.iterdir())) if folder.exists() else 0


def everything() -> dict[str, Any]:
    models = [User, Wallet, Hold, Transfer, Job, JobEvent, Picture, DriveBeat, OrmQ]
    return {model.__name__: list(model.objects.order_by("pk").values()) for model in models}


# --- The sweep ----------------------------------------------------------------------------------------
def test_a_second_sweep_finds_nothing_left_to_do(rich: User, bob: User) -> None:
    picture = deleted(picture_for(rich), upkeep.UNDO_FOR + LATE)
    job = overdue(job_for(rich))
    User.objects.filter(pk=bob.pk).update(awaits_welcome=True)
    DriveBeat.objects.create(owner="killed", at=timezone.now() - timedelta(hours=1))
    upkeep.sweep()
    swept = everything()
    upkeep.sweep()
    assert everything() == swept
    assert Job.objects.get(pk=job.pk).state == "failed" and files(picture) == 0
    assert ledger.wallet_of(bob).posted > 0 and OrmQ.objects.count() == 1 and not DriveBeat.objects.exists()
    assert upkeep.audit() == []


def test_a_job_that_nobody_ended_is_failed_and_its_money_comes_back(rich: User) -> None:
    job = overdue(job_for(rich))
    assert upkeep.end_overdue() == 1
    job.refresh_from_db()
    assert (job.state, job.failure, job.hold.state) == ("failed", "timed_out", "released")
    assert ledger.wallet_of(rich).available == 10 * USD
    assert upkeep.end_overdue() == 0 and upkeep.audit() == []


def test_what_the_upstream_may_have_charged_for_it_is_booked_once(rich: User) -> None:
    now = timezone.now()
    job = overdue(job_for(rich), state=Job.State.RUNNING, submitted=now, cost_micros=700, upstream_id="up")
    upkeep.sweep()
    upkeep.sweep()
    booked = Transfer.objects.get(kind=Transfer.Kind.SUSPECTED_COST)
    assert (booked.amount, booked.business_id) == (700, f"suspect:{job.pk}")
    assert upkeep.audit() == []


def test_a_job_in_the_hands_of_a_drive_is_left_to_it(rich: User) -> None:
    job = leased(job_for(rich))
    Job.objects.filter(pk=job.pk).update(deadline=timezone.now() - LATE)
    assert upkeep.end_overdue() == 0
    with time_machine.travel(timezone.now() + jobs.LEASE + timedelta(seconds=1)):
        assert upkeep.end_overdue() == 1


def test_a_job_has_a_minute_after_its_deadline(rich: User) -> None:
    overdue(job_for(rich), by=timedelta(seconds=50))
    assert upkeep.end_overdue() == 0


def test_welcome_credits_wait_for_the_budget_and_go_to_whoever_waits_longest(settings: Any) -> None:
    settings.SIGNUP_BUDGET_MICROS_PER_DAY = 2 * settings.SIGNUP_GRANT_MICROS
    people = [User.objects.create_user(f"{n}@example.org", awaits_welcome=True) for n in range(5)]
    today = timezone.now()
    welcomed = []
    for day in range(3):
        with time_machine.travel(today + timedelta(days=day)):
            for _ in range(2):
                upkeep.sweep()
        welcomed.append([ledger.wallet_of(person).posted > 0 for person in people])
    assert welcomed == [[True] * 2 + [False] * 3, [True] * 4 + [False], [True] * 5]
    assert upkeep.audit() == []


def test_deleted_pictures_lose_their_bytes_a_day_later_and_keep_their_row(rich: User) -> None:
    gone = deleted(picture_for(rich), upkeep.UNDO_FOR + timedelta(seconds=5))
    regretted = deleted(picture_for(rich), upkeep.UNDO_FOR - timedelta(seconds=55))
    shown = picture_for(rich)
    assert upkeep.purge_deleted() == 1
    assert [files(picture) for picture in (gone, regretted, shown)] == [0, 3, 3]
    gone.refresh_from_db()
    assert (gone.key, gone.sha256 != "", gone.job.state) == ("", True, "succeeded")
    assert upkeep.purge_deleted() == 0 and upkeep.audit() == []


def test_a_purge_that_died_between_the_files_and_the_row_is_finished_by_the_next(rich: User) -> None:
    picture = deleted(picture_for(rich), upkeep.UNDO_FOR + LATE)
    images.remove(picture.key)
    assert upkeep.purge_deleted() == 1 and upkeep.audit() == []


# --- The night ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["end_overdue", "purge_deleted"])
def test_a_part_of_the_sweep_that_fails_does_not_stop_the_rest(
    rich: User, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("a bad row")

    monkeypatch.setattr(upkeep, part, fail)
    User.objects.filter(pk=rich.pk).update(awaits_welcome=True)
    DriveBeat.objects.create(owner="killed", at=timezone.now() - timedelta(hours=1))
    swept: list[str] = []
    monkeypatch.setattr(images, "clear_incoming", lambda: swept.append("incoming"))
    upkeep.sweep()
    assert swept == ["incoming"] and not DriveBeat.objects.exists() and "a bad row" in caplog.text


def test_a_job_that_cannot_be_ended_does_not_keep_the_others(
    rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = overdue(job_for(rich), 2 * LATE), overdue(job_for(rich))
    expire = jobs.expire

    def fail(job: Job) -> bool:
        if job.pk == first.pk:
            raise ValueError("a bad row")
        return expire(job)

    monkeypatch.setattr(jobs, "expire", fail)
    assert upkeep.end_overdue() == 1
    second.refresh_from_db()
    assert second.state == "failed"


def test_a_picture_whose_folder_cannot_be_removed_does_not_keep_the_others(rich: User) -> None:
    bad, good = (deleted(picture_for(rich), upkeep.UNDO_FOR + LATE) for _ in range(2))
    Picture.objects.filter(pk=bad.pk).update(key="no/key")
    assert upkeep.purge_deleted() == 1 and files(good) == 0


# --- Folders without a row ----------------------------------------------------------------------------
def orphan(days: float = 2) -> str:
    """A picture whose process was killed before its row was written."""
    key = images.new_key(uuid.uuid4())
    images.store(key, rendered())
    aged(key, days)
    return key


def aged(key: str, days: float) -> None:
    then = time.time() - days * 86_400
    os.utime(images.path(key, "original", "jpeg").parent, (then, then))


def is_there(key: str) -> bool:
    return images.path(key, "original", "jpeg").exists()


def test_a_folder_that_no_row_knows_goes_within_32_nights(rich: User) -> None:
    picture, upload = picture_for(rich), uploads.take(rich, photo())
    orphans, young = [orphan() for _ in range(5)], orphan(days=0.5)
    for row in (picture, upload):
        aged(row.key, 2)
    removed = 0
    for night in range(32):
        with time_machine.travel(datetime(2030, 1, 1, tzinfo=UTC) + timedelta(days=night)):
            aged(young, -365 * 10)
            removed += upkeep.remove_orphans()
    assert removed == 5 and not any(is_there(key) for key in orphans)
    assert is_there(young) and is_there(picture.key) and is_there(upload.key)


def test_a_database_that_knows_hardly_any_of_them_removes_none(
    rich: User, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(upkeep, "FEW_ORPHANS", 0)
    monkeypatch.setattr(upkeep, "TOPS_A_NIGHT", 256)
    keys = [orphan() for _ in range(3)]
    assert upkeep.remove_orphans() == 0
    assert all(is_there(key) for key in keys) and "have no row" in caplog.text


# --- The night ---------------------------------------------------------------------------------------
def test_the_night_logs_what_the_audit_finds_and_forgets_old_sessions(
    rich: User, caplog: pytest.LogCaptureFixture
) -> None:
    now = timezone.now()
    for key, ends in {"old": now - LATE, "new": now + LATE}.items():
        Session.objects.create(session_key=key, session_data="", expire_date=ends)
    job = overdue(job_for(rich), by=timedelta(minutes=16))
    with caplog.at_level(logging.INFO, "playground.upkeep"):
        upkeep.nightly()
    assert [session.session_key for session in Session.objects.all()] == ["new"]
    [line] = [record for record in caplog.records if record.name == "playground.upkeep"]
    assert line.levelno == logging.ERROR
    assert str(job.pk) in line.getMessage() and "15 minutes past its deadline" in line.getMessage()


def test_a_quiet_night_logs_nothing(rich: User, caplog: pytest.LogCaptureFixture) -> None:
    picture_for(rich)
    upkeep.nightly()
    assert not [record for record in caplog.records if record.name == "playground.upkeep"]


# --- The audit: each damage by hand, and its name ------------------------------------------------------
# Each takes Alice, does one thing that our own code never does, and returns the row that the finding is about.
Damage = Callable[[User], Any]


def hold_released_of_an_open_job(alice: User) -> Job:
    job = job_for(alice)
    ledger.release(job.hold_id)
    return job


def hold_captured_of_an_open_job(alice: User) -> Job:
    job = job_for(alice)
    ledger.capture(job.hold_id, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)
    return job


def ended(job: Job, state: str) -> Job:
    Job.objects.filter(pk=job.pk).update(state=state, finished=timezone.now())
    return job


def picture_row_lost(alice: User) -> Job:
    picture = picture_for(alice)
    Picture.objects.filter(pk=picture.pk).delete()
    return picture.job


def picture_of_a_cancelled_job(alice: User) -> Job:
    picture, job = picture_for(alice), job_for(alice)
    assert jobs.cancel(job, by=alice)
    picture.pk, picture.job, picture.key = uuid.uuid4(), job, ""
    picture.save(force_insert=True)
    return job


def file_lost(alice: User) -> Picture:
    picture = picture_for(alice)
    images.path(picture.key, "original", picture.format).unlink()
    return picture


def one_byte_changed(alice: User) -> Picture:
    picture = picture_for(alice)
    file = images.path(picture.key, "original", picture.format)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    return picture


def file_unreadable(alice: User) -> Picture:
    picture = picture_for(alice)
    file = images.path(picture.key, "original", picture.format)
    file.unlink()
    file.mkdir()
    return picture


def preview_with(alice: User, *, is_locked: bool, kept: datetime | None) -> Picture:
    picture = picture_for(alice, pay="preview")
    Picture.objects.filter(pk=picture.pk).update(is_locked=is_locked, kept=kept)
    return picture


def other_price(alice: User) -> Job:
    job = picture_for(alice).job
    Job.objects.filter(pk=job.pk).update(price_micros=job.price_micros + 1)
    return job


STUCK = "no job is open 15 minutes past its deadline"
FILE = "the stored file is the one that was fetched"
PICTURE = "succeeded <=> a picture"
KEPT = "a kept preview is paid for"
PRICE = "a success captures its price"


@pytest.mark.parametrize(
    ("damage", "invariant"),
    [
        (hold_released_of_an_open_job, "a job that is queued has a hold that is open"),
        (hold_captured_of_an_open_job, "a job that is queued has a hold that is open"),
        (lambda alice: ended(job_for(alice), "failed"), "a job that is failed has a hold that is released"),
        (
            lambda alice: ended(job_for(alice), "cancelled"),
            "a job that is cancelled has a hold that is released",
        ),
        (picture_row_lost, PICTURE),
        (picture_of_a_cancelled_job, PICTURE),
        (file_lost, FILE),
        (one_byte_changed, FILE),
        (file_unreadable, FILE),
        (lambda alice: preview_with(alice, is_locked=False, kept=timezone.now()), KEPT),
        (lambda alice: preview_with(alice, is_locked=False, kept=None), KEPT),
        (lambda alice: preview_with(alice, is_locked=True, kept=timezone.now()), KEPT),
        (lambda alice: overdue(job_for(alice), by=timedelta(minutes=15, seconds=5)), STUCK),
        (other_price, PRICE),
    ],
)
def test_one_damage_is_one_finding_by_its_name(rich: User, damage: Damage, invariant: str) -> None:
    picture_for(rich), picture_for(rich, pay="preview"), job_for(rich)
    assert upkeep.audit() == []
    damaged = damage(rich)
    [found] = upkeep.audit()
    assert found["invariant"] == invariant and str(damaged.pk) in str(found["subject"])


@pytest.mark.parametrize(
    ("state", "changes", "expected"),
    [
        (
            "succeeded",
            {"state": "open", "captured": 0, "closed": None},
            {"a job that is succeeded has a hold that is captured", PRICE, "capture = one transfer"},
        ),
        ("succeeded", {"captured": 1}, {PRICE, "capture = one transfer"}),
        (
            "queued",
            {"state": "released", "closed": timezone.now()},
            {"a job that is queued has a hold that is open", "held = sum of open holds"},
        ),
    ],
)
def test_a_hold_changed_behind_the_ledgers_back_is_named_by_the_ledger_as_well(
    rich: User, state: str, changes: dict[str, Any], expected: set[str]
) -> None:
    job = picture_for(rich).job if state == "succeeded" else job_for(rich)
    Hold.objects.filter(pk=job.hold_id).update(**changes)
    named = {str(found["invariant"]) for found in upkeep.audit()}
    assert expected <= named
    assert named - expected <= {"held = sum of open holds", "cap window = its holds and captures"}


def test_a_kept_preview_that_was_paid_for_is_sound(rich: User) -> None:
    assert orders.keep(picture_for(rich, pay="preview"))
    assert upkeep.audit() == []


def test_a_job_fourteen_minutes_late_is_the_sweeps_business(rich: User) -> None:
    overdue(job_for(rich), by=timedelta(minutes=14))
    assert upkeep.audit() == []


def test_without_files_only_the_rows_are_looked_at(rich: User) -> None:
    file_lost(rich)
    assert upkeep.audit(with_files=False) == []
