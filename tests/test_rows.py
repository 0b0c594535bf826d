"""Statements that are spelt once must store exactly what the ORM stores."""

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import IntegrityError, connection, models

from accounts import ledger, rows
from accounts.models import Hold, Transfer, User, Wallet
from playground.ids import new_id
from playground.models import Job, JobEvent, Picture
from tests.making import give, job_for, picture_for

pytestmark = pytest.mark.django_db
TIME = datetime(2026, 3, 29, 2, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=45)))
WORDS = "100 % of 'Fuchs' \"äöü\" 🦊 \\ %s {} ; --"


@pytest.fixture
def rich(alice: User) -> User:
    give(alice)
    return alice


def stored(row: models.Model, *but: str) -> dict[str, Any]:
    """The row's columns as the database has them, past the ORM and its conversions."""
    table, key = row._meta.db_table, row._meta.pk
    assert key is not None
    with connection.cursor() as cursor:
        value = key.get_db_prep_value(row.pk, connection)
        cursor.execute(f'SELECT * FROM "{table}" WHERE "{key.column}" = %s', [value])
        [found] = cursor.fetchall()
        names = [column[0] for column in cursor.description]
    return {name: value for name, value in zip(names, found, strict=True) if name not in but}


def another_hold(of: Job) -> Hold:
    return Hold.objects.create(wallet=of.hold.wallet, business_id=str(uuid.uuid4()), memo="", amount=0)


# --- insert -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("fields", [{}, {"note": WORDS, "at": TIME}])
def test_an_event_is_stored_as_the_orm_would(rich: User, fields: dict[str, Any]) -> None:
    fields = {
        "job": job_for(rich),
        "state": Job.State.RUNNING,
        "at": datetime(2026, 1, 1, tzinfo=UTC),
        **fields,
    }
    by_orm = JobEvent.objects.create(**fields)
    rows.insert(JobEvent(**fields))
    ours = JobEvent.objects.latest("id")
    assert ours.pk > by_orm.pk
    assert stored(ours, "id") == stored(by_orm, "id")


@pytest.mark.parametrize("is_full", [False, True])
def test_a_transfer_is_stored_as_the_orm_would(rich: User, charlie: User, is_full: bool) -> None:
    fields: dict[str, Any] = {
        "kind": Transfer.Kind.KEEP,
        "debit": ledger.wallet_of(rich),
        "credit": ledger.house(Wallet.House.REVENUE),
        "amount": 2**63 - 1,
        "created": TIME,
    }
    if is_full:
        fields |= {"user_balance": -(2**63), "hold": job_for(rich).hold, "memo": WORDS, "actor": charlie}
    by_orm = Transfer.objects.create(business_id="by the orm", **fields)
    rows.insert(Transfer(business_id="ours", **fields))
    ours = Transfer.objects.get(business_id="ours")
    assert ours.pk > by_orm.pk
    assert stored(ours, "id", "business_id") == stored(by_orm, "id", "business_id")


@pytest.mark.parametrize("at", [None, TIME])
def test_a_picture_is_stored_as_the_orm_would(rich: User, at: datetime | None) -> None:
    picture, job = picture_for(rich), job_for(rich)
    Picture.objects.filter(pk=picture.pk).update(created=TIME, kept=at, deleted=at, is_locked=at is None)
    picture.refresh_from_db()
    ours = Picture.objects.get(pk=picture.pk)
    ours.pk, ours.job = new_id(), job
    rows.insert(ours)
    assert stored(ours, "id", "job_id") == stored(picture, "id", "job_id")
    assert Picture.objects.get(pk=ours.pk).job == job


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {
            "params": {"prompt": WORDS, "seed": 2**32, "deep": [None, True, 1.5, {"ä": []}]},
            "result_urls": [f"https://up.example/?{WORDS}"],
            "upstream_id": "up-7",
            "lease_until": TIME,
            "submitted": TIME,
            "progress": 0,
            "outcome_unknown": True,
        },
        {"params": {"none": None}, "upstream_fixed": [], "result_urls": ""},
    ],
)
def test_json_uuids_and_times_are_stored_as_the_orm_would(rich: User, changes: dict[str, Any]) -> None:
    job = job_for(rich)
    values = {field.attname: getattr(job, field.attname) for field in Job._meta.concrete_fields}
    values |= changes
    unique = {"id", "hold_id", "callback_token", "upstream_id"}
    made = []
    for make in (lambda new: Job.objects.create(**new), lambda new: rows.insert(Job(**new))):
        own = {"id": new_id(), "hold_id": another_hold(job).pk, "callback_token": uuid.uuid4().hex}
        if values["upstream_id"]:
            own["upstream_id"] = f"up {len(made)}"
        make(values | own)
        made.append(Job.objects.get(pk=own["id"]))
    by_orm, ours = made
    assert stored(ours, *unique) == stored(by_orm, *unique)
    assert ours.params == by_orm.params == values["params"]
    assert (ours.upstream_id is None) == (values["upstream_id"] is None)


def test_what_the_database_refuses_is_refused(rich: User) -> None:
    picture = picture_for(rich)
    with pytest.raises(IntegrityError):
        rows.insert(picture)


# --- change -------------------------------------------------------------------------------------------
def test_change_stores_what_the_orms_update_would(rich: User) -> None:
    by_orm, ours = job_for(rich), job_for(rich)
    changes = {
        "state": Job.State.SUCCEEDED,
        "finished": TIME,
        "lease_until": None,
        "result_urls": [WORDS],
        "progress": 99,
        "outcome_unknown": True,
        "failure_detail": WORDS,
    }
    Job.objects.filter(pk=by_orm.pk).update(**changes)
    assert rows.change(Job, {"id": ours.pk}, changes) == 1
    for job in (by_orm, ours):
        job.refresh_from_db()
    assert {name: getattr(ours, name) for name in changes} == changes
    names = [Job._meta.get_field(name).column for name in changes]
    after, expected = stored(ours), stored(by_orm)
    assert [after[name] for name in names] == [expected[name] for name in names]


def test_change_touches_only_the_row_and_the_columns_that_it_names(rich: User) -> None:
    job, other = job_for(rich), job_for(rich)
    before, others = stored(job), stored(other)
    assert rows.change(Job, {"id": job.pk}, {"progress": 7}) == 1
    assert stored(job) == before | {"progress": 7} and stored(other) == others


@pytest.mark.parametrize(
    "wrong",
    [
        {"id": uuid.uuid4()},
        {"state": Job.State.RUNNING},
        {"lease_owner": "another"},
        {"deadline": TIME},
        {"is_preview": True},
    ],
)
def test_one_condition_that_does_not_hold_changes_nothing(rich: User, wrong: dict[str, Any]) -> None:
    job = job_for(rich)
    right = {name: getattr(job, name) for name in ("id", "state", "lease_owner", "deadline", "is_preview")}
    before = stored(job)
    assert rows.change(Job, right | wrong, {"progress": 7}) == 0
    assert stored(job) == before
    assert rows.change(Job, right, {"progress": 7}) == 1


def test_change_counts_every_row(rich: User, bob: User) -> None:
    give(bob)
    for user in (rich, rich, rich, bob):
        job_for(user)
    assert rows.change(Job, {"user": rich.pk}, {"progress": 7}) == 3
    assert Job.objects.filter(progress=7).count() == 3


def test_a_condition_of_none_holds_for_no_row(rich: User) -> None:
    """As in SQL, where nothing equals NULL: the loser's side, which changes nothing."""
    job = job_for(rich)
    assert rows.change(Job, {"id": job.pk, "lease_until": None}, {"progress": 7}) == 0


def test_the_same_columns_in_another_order_are_another_statement(rich: User) -> None:
    job = job_for(rich)
    assert rows.change(Job, {"id": job.pk, "state": "queued"}, {"progress": 1, "fetch_attempts": 2}) == 1
    assert rows.change(Job, {"state": "queued", "id": job.pk}, {"fetch_attempts": 3, "progress": 4}) == 1
    job.refresh_from_db()
    assert (job.progress, job.fetch_attempts) == (4, 3)
