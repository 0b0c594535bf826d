"""What is counted by day as it happens is what the ledger says, whoever counts at the same moment."""

import importlib
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection

from accounts import ledger
from accounts.models import ApiKey, Transfer, User
from playground import jobs, orders, tally, upkeep
from playground.models import Job, Picture, UsageDay
from tests.making import FLEX_2K, KONTEXT, PRO, give, job_for, leased, picture_for, run_for

AT = datetime(2026, 11, 30, 23, 59, 59, 999_999, tzinfo=UTC)


@pytest.mark.django_db
def test_a_paid_picture_a_preview_and_a_keep_are_counted(alice: User) -> None:
    give(alice)
    paid = picture_for(alice)
    picture_for(alice, pay="preview")
    orders.keep(picture_for(alice, pay="preview"))
    [day] = UsageDay.objects.filter(user=alice)
    assert (day.pictures, day.previews, day.kept) == (1, 2, 1)
    assert day.pictures_micros == day.kept_micros == paid.job.price_micros
    assert list(tally.audit()) == []


@pytest.mark.django_db
def test_what_fails_is_cancelled_or_kept_twice_is_not_counted(alice: User) -> None:
    give(alice)
    jobs.cancel(job_for(alice), by=alice)
    job = leased(job_for(alice))
    jobs.fail(job, "moderated")
    assert not UsageDay.objects.exists()
    picture = picture_for(alice, pay="preview")
    assert orders.keep(picture)
    assert not orders.keep(picture)
    assert UsageDay.objects.get().kept == 1


@pytest.mark.django_db
def test_a_keep_that_is_refused_counts_nothing(alice: User) -> None:
    picture = picture_for(alice, pay="preview")
    with pytest.raises(ledger.Refusal):
        orders.keep(picture)
    assert UsageDay.objects.get().kept == 0


@pytest.mark.django_db
def test_job_hold_statement_and_day_have_one_time_at_the_last_microsecond(alice: User) -> None:
    with time_machine.travel(AT, tick=False):
        give(alice)
        job = picture_for(alice).job
    assert job.finished is not None
    moved = Transfer.objects.get(kind="charge")
    assert moved.created == job.hold.closed == job.finished == AT
    assert UsageDay.objects.get().day == AT.date()


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(5))
def test_random_histories_are_counted_as_the_ledger_has_them(alice: User, bob: User, seed: int) -> None:
    dice = random.Random(seed)
    with time_machine.travel(AT - timedelta(days=2), tick=True) as clock:
        for user in (alice, bob):
            give(user, 1000)
        for _ in range(25):
            clock.shift(timedelta(hours=dice.randrange(7)))
            something_happens(dice, dice.choice([alice, bob]))
    assert upkeep.audit(with_files=False) == []
    for user in (alice, bob):
        days = UsageDay.objects.filter(user=user)
        moved = Transfer.objects.filter(debit__user=user).values_list("amount", flat=True)
        assert sum(day.pictures_micros + day.kept_micros for day in days) == sum(moved)


def something_happens(dice: random.Random, user: User) -> None:
    asked: dict[str, Any] = {"pay": dice.choice(["credits", "preview"])}
    match dice.randrange(7):
        case 0 | 1 | 6:
            picture = picture_for(user, **asked)
            if picture.is_locked and dice.random() < 0.5:
                orders.keep(picture)
        case 2:
            jobs.fail(leased(job_for(user, **asked)), "rejected")
        case 3:
            [job] = run_for(user, dice.choice([PRO, KONTEXT, FLEX_2K]), **asked).jobs.all()
            jobs.cancel(job, by=user)
            jobs.cancel(orders.retry(job), by=user)
        case 4:
            give(user, 1)
        case 5:
            call = orders.Call(key=key_of(user, is_test=dice.random() < 0.4), asked={})
            if dice.random() < 0.7:
                picture_for(user, call=call)
            else:
                jobs.fail(leased(job_for(user, call=call)), "moderated")


def key_of(user: User, *, is_test: bool = False) -> ApiKey:
    name = "Trials" if is_test else "Production"
    return ApiKey.objects.get_or_create(user=user, name=name, is_test=is_test, digest=f"{user.pk} {name}")[0]


@pytest.mark.django_db
@pytest.mark.parametrize("change", [{"pictures": 2}, {"pictures_micros": 1}, {"kept": 1}, None])
def test_the_audit_names_a_day_that_is_wrong_or_missing(alice: User, change: dict[str, int] | None) -> None:
    give(alice)
    picture_for(alice)
    days = UsageDay.objects.filter(user=alice)
    days.update(**change) if change else days.delete()
    found = upkeep.audit(with_files=False)
    assert {problem["invariant"] for problem in found} == {"usage of a day = its ledger"}


@pytest.mark.django_db
def test_the_migration_counts_what_was_before(alice: User) -> None:
    give(alice)
    picture_for(alice)
    orders.keep(picture_for(alice, pay="preview"))
    before = list(UsageDay.objects.values("user", "day", "variant", *tally._COLUMNS.split(", ")))
    UsageDay.objects.all().delete()
    fill = importlib.import_module("playground.migrations.0005_fill_usage").fill
    with connection.schema_editor(atomic=False) if connection.vendor == "postgresql" else editor() as schema:
        fill(None, schema)
    assert list(UsageDay.objects.values("user", "day", "variant", *tally._COLUMNS.split(", "))) == before


class editor:
    """SQLite's schema editor refuses to open inside a test's transaction, and `fill` needs none of it."""

    connection = connection

    def __enter__(self) -> "editor":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def execute(self, statement: str) -> None:
        with connection.cursor() as cursor:
            cursor.execute(statement)


def add_many(user_id: int, variant_id: int) -> None:
    for _ in range(40):
        tally.count_picture(user_id=user_id, variant_id=variant_id, at=AT, micros=7)
    connection.close()


@pytest.mark.django_db(transaction=True)
@pytest.mark.postgres
def test_counts_at_the_same_moment_all_count(alice: User) -> None:
    variant_id = job_for(alice, pay="preview").variant_id
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: add_many(alice.pk, variant_id), range(8)))
    day = UsageDay.objects.get()
    assert (day.pictures, day.pictures_micros) == (320, 2240)
    assert Job.objects.count() == 1
    assert not Picture.objects.exists()
