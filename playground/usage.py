"""What an account made and paid in a period. Reads only; days are UTC, as on the statement and in the caps."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Q, QuerySet, Sum
from django.urls import reverse

from accounts.models import Transfer, User
from playground.models import Job, Picture, UsageDay, Variant

PERIODS = {
    "today": "Today",
    "7d": "7 days",
    "30d": "30 days",
    "month": "This month",
    "last-month": "Last month",
    "custom": "From … to …",
}
STATUSES = {
    "paid": "Paid",
    "preview": "Free preview",
    "kept": "Preview kept",
    "failed": "Failed",
    "cancelled": "Cancelled",
}
_OF_JOBS: dict[str, dict[str, Any]] = {
    "paid": {"state": Job.State.SUCCEEDED, "is_preview": False},
    "preview": {"state": Job.State.SUCCEEDED, "is_preview": True},
    "failed": {"state": Job.State.FAILED},
    "cancelled": {"state": Job.State.CANCELLED},
}
_AT_ONCE = 2000
Cursor = tuple[datetime, uuid.UUID]


@dataclass(frozen=True)
class Asked:
    """Which rows: `first` and `last` are UTC days, both inside; no variant or status means all of them."""

    period: str
    first: date
    last: date
    variant: Variant | None = None
    status: str = ""

    @property
    def since(self) -> datetime:
        return datetime.combine(self.first, time(), UTC)

    @property
    def until(self) -> datetime:
        return datetime.combine(self.last, time(), UTC) + timedelta(days=1)


@dataclass(frozen=True)
class Row:
    """A picture, a preview, a keep, or what was not made. `balance` is None where no money moved."""

    at: datetime
    id: uuid.UUID
    status: str
    what: str
    quoted: int
    charged: int
    balance: int | None
    job_id: uuid.UUID
    picture_id: uuid.UUID | None
    picture_url: str

    @property
    def status_words(self) -> str:
        return STATUSES[self.status]

    @property
    def receipt_url(self) -> str:
        return reverse("job", args=[self.job_id])


def days_of(period: str, today: date) -> tuple[date, date]:
    """The first and the last day of a named period."""
    if period in ("month", "last-month"):
        first = today.replace(day=1)
        if period == "month":
            return first, today
        return (first - timedelta(days=1)).replace(day=1), first - timedelta(days=1)
    return today - timedelta(days={"today": 0, "7d": 6}.get(period, 29)), today


def by_day(user: User, asked: Asked) -> QuerySet[UsageDay]:
    days = UsageDay.objects.filter(user=user, day__range=(asked.first, asked.last))
    if asked.variant:
        days = days.filter(variant=asked.variant)
    return days.select_related("variant").order_by("day", "variant__position", "variant_id")


@dataclass(frozen=True)
class Totals:
    spent: int
    pictures: int
    previews: int
    kept: int

    @property
    def average(self) -> int | None:
        """Micro-dollars for each picture that was paid, rounded down."""
        paid = self.pictures + self.kept
        return self.spent // paid if paid else None


def totals(user: User, asked: Asked) -> Totals:
    """Of the rows that are asked for, from the days' counts, which the audit holds against the ledger."""
    names = ("pictures", "pictures_micros", "previews", "kept", "kept_micros")
    summed = by_day(user, asked).order_by().aggregate(**{f"of_{name}": Sum(name) for name in names})
    found = {name: int(summed[f"of_{name}"] or 0) for name in names}
    pays = asked.status in ("", "paid"), asked.status in ("", "kept")
    return Totals(
        spent=found["pictures_micros"] * pays[0] + found["kept_micros"] * pays[1],
        pictures=found["pictures"] * pays[0],
        previews=found["previews"] * (asked.status in ("", "preview")),
        kept=found["kept"] * pays[1],
    )


# --- The list -----------------------------------------------------------------------------------------
def page(user: User, asked: Asked, before: Cursor | None, most: int) -> list[Row]:
    """The newest `most` rows older than `before`: two walks along an index and a merge, at any depth."""
    found: list[tuple[datetime, uuid.UUID, Job | Picture]] = []
    if asked.status != "kept":
        own = Job.objects.visible_to(user).filter(**_OF_JOBS.get(asked.status, {}))
        jobs = _walk(own, "finished", asked, before).select_related("variant", "picture")
        found += [(job.finished, job.pk, job) for job in jobs[:most]]
    if asked.status in ("", "kept"):
        kept = _walk(Picture.objects.visible_to(user), "kept", asked, before)
        found += [(row.kept, row.pk, row) for row in kept.select_related("variant", "job")[:most]]
    found.sort(key=lambda row: row[:2], reverse=True)
    return _rows([row for _, _, row in found[:most]])


def every(user: User, asked: Asked) -> Iterator[Row]:
    """All the rows, newest first, a few thousand in memory at a time."""
    before: Cursor | None = None
    while rows := page(user, asked, before, _AT_ONCE):
        yield from rows
        before = rows[-1].at, rows[-1].id


def _walk(rows: QuerySet[Any], at: str, asked: Asked, before: Cursor | None) -> QuerySet[Any]:
    rows = rows.filter(**{f"{at}__gte": asked.since, f"{at}__lt": asked.until})
    if asked.variant:
        rows = rows.filter(variant=asked.variant)
    if before:
        older = Q(**{f"{at}__lt": before[0]}) | Q(**{at: before[0], "pk__lt": before[1]})
        rows = rows.filter(older, **{f"{at}__lte": before[0]})
    return rows.order_by(f"-{at}", "-pk")


def _rows(found: list[Job | Picture]) -> list[Row]:
    holds = [row.hold_id for row in found if isinstance(row, Job) and not row.is_preview]
    keeps = [f"keep:{row.pk}" for row in found if isinstance(row, Picture)]
    charges = Transfer.objects.filter(hold_id__in=holds, kind=Transfer.Kind.CHARGE)
    moved: dict[Any, Transfer] = {row.hold_id: row for row in charges} if holds else {}
    if keeps:
        moved |= {row.business_id: row for row in Transfer.objects.filter(business_id__in=keeps)}
    return [_of_job(row, moved) if isinstance(row, Job) else _of_keep(row, moved) for row in found]


def _of_job(job: Job, moved: dict[Any, Transfer]) -> Row:
    charge = moved.get(job.hold_id)
    picture = getattr(job, "picture", None)
    made = "preview" if job.is_preview else "paid"
    assert job.finished is not None
    return Row(
        at=job.finished,
        id=job.pk,
        status=made if job.state == Job.State.SUCCEEDED else job.state,
        what=f"{job.variant.label}, {job.params['aspect_ratio']}",
        quoted=0 if job.is_preview else job.price_micros,
        charged=charge.amount if charge else 0,
        balance=charge.user_balance if charge else None,
        job_id=job.pk,
        picture_id=picture.pk if picture else None,
        picture_url=picture.get_absolute_url() if picture and not picture.deleted else "",
    )


def _of_keep(picture: Picture, moved: dict[Any, Transfer]) -> Row:
    charge = moved[f"keep:{picture.pk}"]
    assert picture.kept is not None
    return Row(
        at=picture.kept,
        id=picture.pk,
        status="kept",
        what=f"{picture.variant.label}, {picture.job.params['aspect_ratio']}",
        quoted=picture.job.price_micros,
        charged=charge.amount,
        balance=charge.user_balance,
        job_id=picture.job_id,
        picture_id=picture.pk,
        picture_url="" if picture.deleted else picture.get_absolute_url(),
    )
