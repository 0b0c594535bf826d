"""What an account made and paid in a period. Reads only; days are UTC, as on the statement and in the caps."""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Case, Exists, F, OuterRef, Q, QuerySet, Sum, UUIDField, Value, When
from django.db.models.functions import Cast, Replace, Substr, TruncMonth, TruncYear
from django.db.models.lookups import Exact
from django.urls import reverse

from accounts.models import ApiKey, Transfer, User
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
    "test": "Test key",
    "failed": "Failed",
    "cancelled": "Cancelled",
    "refunded": "Refunded",
}
PAGES = 0  # what `UsageDay.by_key` says of what was ordered on the pages, by no key
# Previews and tests are few and have an index of their own, which is found only where no state is asked for.
_CAME = ~Q(state__in=(Job.State.FAILED, Job.State.CANCELLED))
_OF_JOBS = {
    "paid": Q(state=Job.State.SUCCEEDED, is_preview=False, is_test=False),
    "preview": Q(_CAME, is_preview=True, is_test=False),
    "test": Q(_CAME, is_test=True),
    "failed": Q(state=Job.State.FAILED),
    "cancelled": Q(state=Job.State.CANCELLED),
}
_AT_ONCE = 2000
_MOST_ID = 2**63 - 1
Cursor = tuple[datetime, uuid.UUID]
Charge = tuple[int, int | None]
# The id of the picture, from `keep:<id>`, in the subquery of a row with a hold.
_KEPT = Case(
    When(
        Exact(Substr(OuterRef("hold__business_id"), 1, 5), "keep:"),
        then=Cast(Replace(Substr(OuterRef("hold__business_id"), 6), Value("-"), Value("")), UUIDField()),
    )
)


@dataclass(frozen=True)
class Asked:
    """Which rows: `first` and `last` are UTC days, both inside; no variant, key or status means all of them."""

    period: str
    first: date
    last: date
    variant: Variant | None = None
    status: str = ""
    by_key: int | None = None

    @property
    def since(self) -> datetime:
        return datetime.combine(self.first, time(), UTC)

    @property
    def until(self) -> datetime:
        return datetime.combine(self.last, time(), UTC) + timedelta(days=1)

    @property
    def step(self) -> str:
        """What one bar stands for: never more bars than fit on a page."""
        days = (self.last - self.first).days + 1
        return "day" if days <= 62 else "month" if days <= 5 * 366 else "year"

    def has(self, status: str) -> bool:
        return self.status in ("", status)


@dataclass(frozen=True)
class Row:
    """A picture, a preview, a keep, what was not made, or a refund, whose `charged` is below zero.

    `balance` is None where no money moved.
    """

    at: datetime
    id: uuid.UUID
    status: str
    what: str
    key: ApiKey | None
    quoted: int
    charged: int
    balance: int | None
    job_id: uuid.UUID
    picture_id: uuid.UUID | None
    is_deleted: bool

    @property
    def status_words(self) -> str:
        return STATUSES[self.status]

    @property
    def tone(self) -> str:
        return {"paid": "good", "kept": "good", "failed": "bad", "refunded": "warn"}.get(self.status, "")

    @property
    def picture_url(self) -> str:
        return reverse("picture", args=[self.picture_id]) if self.picture_id and not self.is_deleted else ""

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


# --- Sums ---------------------------------------------------------------------------------------------
def _days(user: User, asked: Asked) -> QuerySet[UsageDay]:
    days = UsageDay.objects.filter(user=user, day__range=(asked.first, asked.last))
    if asked.variant:
        days = days.filter(variant=asked.variant)
    return days if asked.by_key is None else days.filter(by_key=asked.by_key)


@dataclass(frozen=True)
class Totals:
    spent: int
    refunded: int
    pictures: int
    previews: int
    kept: int

    @property
    def paid(self) -> int:
        return self.pictures + self.kept

    @property
    def average(self) -> int | None:
        """Micro-dollars for each picture that was paid, rounded down."""
        return self.spent // self.paid if self.paid else None

    @property
    def after_refunds(self) -> int:
        return self.spent - self.refunded


def totals(user: User, asked: Asked) -> Totals:
    """Of the rows that are asked for, from the days' counts, which the audit holds against the ledger."""
    names = ("pictures", "pictures_micros", "previews", "kept", "kept_micros")
    summed = _days(user, asked).aggregate(**{f"of_{name}": Sum(name) for name in names})
    found = {name: int(summed[f"of_{name}"] or 0) for name in names}
    paid, kept = asked.has("paid"), asked.has("kept")
    given_back = _refunds(user, asked).aggregate(of=Sum("amount"))["of"] if asked.has("refunded") else 0
    return Totals(
        spent=found["pictures_micros"] * paid + found["kept_micros"] * kept,
        refunded=int(given_back or 0),
        pictures=found["pictures"] * paid,
        previews=found["previews"] * asked.has("preview"),
        kept=found["kept"] * kept,
    )


@dataclass(frozen=True)
class Made:
    """What was made of one variant in one day, month or year, which began on `starts`."""

    starts: date
    variant_id: int
    label: str
    pictures: int
    previews: int
    kept: int
    spent: int

    @property
    def count(self) -> int:
        return self.pictures + self.previews + self.kept


def made(user: User, asked: Asked) -> list[Made]:
    """What the totals are made of, oldest first."""
    starts = {"day": F("day"), "month": TruncMonth("day"), "year": TruncYear("day")}[asked.step]
    paid, kept, previews = (int(asked.has(status)) for status in ("paid", "kept", "preview"))
    grouped = _days(user, asked).annotate(starts=starts).values("starts", "variant_id", "variant__label")
    summed = grouped.annotate(
        of_pictures=Sum("pictures") * paid,
        of_previews=Sum("previews") * previews,
        of_kept=Sum("kept") * kept,
        spent=Sum("pictures_micros") * paid + Sum("kept_micros") * kept,
    )
    return [
        Made(
            starts=row["starts"],
            variant_id=row["variant_id"],
            label=row["variant__label"],
            pictures=row["of_pictures"],
            previews=row["of_previews"],
            kept=row["of_kept"],
            spent=int(row["spent"]),
        )
        for row in summed.order_by("starts", "variant_id")
    ]


# --- The list -----------------------------------------------------------------------------------------
def page(user: User, asked: Asked, before: Cursor | None, most: int) -> list[Row]:
    """The newest `most` rows older than `before`: three walks along an index and a merge, at any depth."""
    walks = (_jobs(user, asked), "finished"), (_kept(user, asked), "kept"), (_refunds(user, asked), "created")
    found = [row for rows, at in walks for row in _newest(rows, at, asked, before, most)]
    found.sort(key=lambda row: row[:2], reverse=True)
    return _rows([row for _, _, row in found[:most]])


def every(user: User, asked: Asked) -> Iterator[Row]:
    """All the rows, newest first, a few thousand in memory at a time."""
    before: Cursor | None = None
    while rows := page(user, asked, before, _AT_ONCE):
        yield from rows
        before = rows[-1].at, rows[-1].id


def _jobs(user: User, asked: Asked) -> QuerySet[Job]:
    if asked.status and asked.status not in _OF_JOBS:
        return Job.objects.none()
    own = _of_variant(Job.objects.visible_to(user).filter(_OF_JOBS.get(asked.status, Q())), asked)
    if asked.by_key is not None:
        own = own.filter(key=asked.by_key or None)
    shown = ("finished", "state", "is_preview", "is_test", "price_micros", "params", "hold_id")
    # One object for all rows of a variant or a key, which spares an export a third of its time.
    return (
        own.select_related("picture")
        .prefetch_related("variant", "key")
        .only(*shown, "variant", "key", "picture__deleted")
    )


def _kept(user: User, asked: Asked) -> QuerySet[Picture]:
    """What was kept: on the pages, by no key."""
    if not asked.has("kept") or asked.by_key not in (None, PAGES):
        return Picture.objects.none()
    return _of_variant(Picture.objects.visible_to(user), asked).select_related("job__variant")


def _refunds(user: User, asked: Asked) -> QuerySet[Transfer]:
    """Those that arrived in the period; each is about the hold of a job or of a keep."""
    if not asked.has("refunded"):
        return Transfer.objects.none()
    rows = Transfer.objects.filter(kind=Transfer.Kind.REFUND, credit__user=user, hold__isnull=False)
    rows = rows.filter(created__gte=asked.since, created__lt=asked.until).select_related("hold")
    if asked.variant is None and asked.by_key is None:
        return rows
    jobs, kept = Job.objects.filter(hold=OuterRef("hold")), Picture.objects.filter(pk=_KEPT)
    if asked.by_key is not None:
        jobs, kept = jobs.filter(key=asked.by_key or None), kept if asked.by_key == PAGES else kept.none()
    return rows.filter(Exists(_of_variant(jobs, asked)) | Exists(_of_variant(kept, asked)))


def _of_variant(rows: QuerySet[Any], asked: Asked) -> QuerySet[Any]:
    return rows.filter(variant=asked.variant) if asked.variant else rows


def _newest(
    rows: QuerySet[Any], at: str, asked: Asked, before: Cursor | None, most: int
) -> list[tuple[datetime, uuid.UUID, Any]]:
    rows = rows.filter(**{f"{at}__gte": asked.since})
    # One upper bound, never two: SQLite starts its walk at the first that it reads.
    if before is None or before[0] >= asked.until:
        rows = rows.filter(**{f"{at}__lt": asked.until})
    else:
        pk = min(before[1].int, _MOST_ID) if rows.model is Transfer else before[1]
        older = Q(**{f"{at}__lt": before[0]}) | Q(**{at: before[0], "pk__lt": pk})
        rows = rows.filter(older, **{f"{at}__lte": before[0]})
    return [(getattr(row, at), _id(row), row) for row in rows.order_by(f"-{at}", "-pk")[:most]]


def _id(row: Any) -> uuid.UUID:
    """One order for rows of all three tables: a refund's number is a small id."""
    return row.pk if isinstance(row.pk, uuid.UUID) else uuid.UUID(int=row.pk)


def _rows(found: list[Job | Picture | Transfer]) -> list[Row]:
    refunds = [row for row in found if isinstance(row, Transfer)]
    about = _about(refunds) if refunds else {}
    holds = [row.hold_id for row in found if isinstance(row, Job) and not row.is_preview]
    keeps = [f"keep:{row.pk}" for row in found if isinstance(row, Picture)]
    charges = Transfer.objects.filter(hold_id__in=holds, kind=Transfer.Kind.CHARGE)
    moved = _moved(charges, "hold_id") | _moved(Transfer.objects.filter(business_id__in=keeps), "business_id")
    return [_row(row, moved, about) for row in found]


def _moved(rows: QuerySet[Transfer], of: str) -> dict[Any, Charge]:
    """What was charged and the balance after it, by what it was for."""
    return {key: (amount, balance) for key, amount, balance in rows.values_list(of, "amount", "user_balance")}


def _row(row: Job | Picture | Transfer, moved: dict[Any, Charge], about: dict[str, Job]) -> Row:
    if isinstance(row, Job):
        return _of_job(row, moved.get(row.hold_id, (0, None)))
    if isinstance(row, Picture):
        return _of_keep(row, moved[f"keep:{row.pk}"])
    assert row.hold is not None
    return _of_refund(row, about[row.hold.business_id])


def _about(refunds: list[Transfer]) -> dict[str, Job]:
    """The jobs whose pictures were refunded, by what was paid: the job's own hold, or that of keeping its preview."""
    paid = [row.hold.business_id for row in refunds if row.hold]
    ids = {
        about: [key for kind, _, key in (one.partition(":") for one in paid) if kind == about]
        for about in ("job", "keep")
    }
    jobs = Job.objects.select_related("variant", "key", "picture")
    found = {f"job:{job.pk}": job for job in jobs.filter(pk__in=ids["job"])}
    return found | {f"keep:{job.picture.pk}": job for job in jobs.filter(picture__in=ids["keep"])}


def _of_job(job: Job, charge: Charge) -> Row:
    assert job.finished is not None
    return Row(
        at=job.finished,
        id=job.pk,
        status=_made_as(job) if job.state == Job.State.SUCCEEDED else job.state,
        key=job.key,
        quoted=0 if job.is_preview or job.is_test else job.price_micros,
        charged=charge[0],
        balance=charge[1],
        **_seen(job),
    )


def _made_as(job: Job) -> str:
    return "test" if job.is_test else "preview" if job.is_preview else "paid"


def _of_keep(picture: Picture, charge: Charge) -> Row:
    assert picture.kept is not None
    return Row(
        at=picture.kept,
        id=picture.pk,
        status="kept",
        key=None,
        quoted=picture.job.price_micros,
        charged=charge[0],
        balance=charge[1],
        **_seen(picture.job),
    )


def _of_refund(refund: Transfer, job: Job) -> Row:
    return Row(
        at=refund.created,
        id=_id(refund),
        status="refunded",
        key=job.key,
        quoted=0,
        charged=-refund.amount,
        balance=refund.user_balance,
        **_seen(job),
    )


def _seen(job: Job) -> dict[str, Any]:
    picture = getattr(job, "picture", None)
    return {
        "what": f"{job.variant.label}, {job.params['aspect_ratio']}",
        "job_id": job.pk,
        "picture_id": picture.pk if picture else None,
        "is_deleted": bool(picture and picture.deleted),
    }
