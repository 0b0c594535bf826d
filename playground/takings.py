"""What the house takes and what it costs, by UTC day and variant, to the micro-dollar.

Summed from what `playground.tally` counts for each account, so that no two successes wait for one row of the house; a
day that is over is summed once and kept. Refunds count on the day on which they are given, suspected costs on the day
on which they are booked: both are few, and are read from the ledger by an index of their own.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Min, Q, Sum
from django.utils import timezone

from accounts.audit import Problem, problem
from accounts.models import Transfer
from playground.models import HouseClosed, HouseDay, Job, Picture, UsageDay

# A success that began before midnight may be committed after it.
SETTLED = timedelta(hours=1)
MOST_DAYS_A_NIGHT = 400
_RARE = [Transfer.Kind.REFUND, Transfer.Kind.SUSPECTED_COST]
_COUNTED = (
    "pictures",
    "pictures_micros",
    "previews",
    "kept",
    "kept_micros",
    "cost_micros",
    "preview_cost_micros",
)
_AT_ONCE = 500


@dataclass
class Sums:
    """Of any number of pictures. Amounts are micro-dollars."""

    pictures: int = 0
    pictures_micros: int = 0
    previews: int = 0
    kept: int = 0
    kept_micros: int = 0
    cost_micros: int = 0
    preview_cost_micros: int = 0
    suspected_micros: int = 0
    refunded_micros: int = 0

    def __iadd__(self, other: "Sums") -> "Sums":
        for name in NAMES:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self

    @property
    def paid(self) -> int:
        return self.pictures + self.kept

    @property
    def revenue(self) -> int:
        """What pictures brought in, less what was given back."""
        return self.pictures_micros + self.kept_micros - self.refunded_micros

    @property
    def cost(self) -> int:
        """What upstreams took, or may have taken."""
        return self.cost_micros + self.preview_cost_micros + self.suspected_micros

    @property
    def margin(self) -> int:
        return self.revenue - self.cost

    @property
    def margin_percent(self) -> int | None:
        """Of the revenue, rounded towards nothing; None where there is none."""
        return int(100 * self.margin / self.revenue) if self.revenue > 0 else None


NAMES = tuple(one.name for one in fields(Sums))
Key = tuple[date, int]


def today(now: datetime | None = None) -> Sums:
    """Everything since midnight UTC, from rows of this day alone."""
    day = (now or timezone.now()).astimezone(UTC).date()
    return total(_live([day]).values())


def by_day_and_variant(first: date, last: date) -> dict[Key, Sums]:
    """What there is of the days from `first` to `last`, both included; a day or a variant without anything is left out."""
    closed = set(HouseClosed.objects.filter(day__range=(first, last)).values_list("day", flat=True))
    found = {}
    for row in HouseDay.objects.filter(day__range=(first, last), day__in=closed).values_list(
        "day", "variant_id", *NAMES
    ):
        found[row[0], row[1]] = Sums(*row[2:])
    every = (first + timedelta(days=after) for after in range((last - first).days + 1))
    return found | _live([day for day in every if day not in closed])


def total(sums: Iterable[Sums]) -> Sums:
    whole = Sums()
    for one in sums:
        whole += one
    return whole


# --- Summed from the rows of accounts, and from the ledger --------------------------------------------
def _live(days: Sequence[date]) -> dict[Key, Sums]:
    if not days:
        return {}
    found: dict[Key, Sums] = defaultdict(Sums)
    counted: Any = UsageDay.objects.filter(day__in=days).values("day", "variant_id").order_by()
    for row in counted.annotate(**{f"of_{name}": Sum(name) for name in _COUNTED}):
        found[row["day"], row["variant_id"]] += Sums(**{name: int(row[f"of_{name}"]) for name in _COUNTED})
    _add_rare(
        found, Q(created__gte=_midnight(min(days)), created__lt=_midnight(max(days) + timedelta(days=1)))
    )
    wanted = set(days)
    return {key: sums for key, sums in found.items() if key[0] in wanted}


def _add_rare(found: dict[Key, Sums], when: Q) -> None:
    rare = Transfer.objects.filter(when, kind__in=_RARE).order_by("created")
    rows = rare.values_list("kind", "created", "amount", "business_id", "hold__business_id")
    batch = []
    for row in rows.iterator(chunk_size=_AT_ONCE):
        batch.append(row)
        if len(batch) == _AT_ONCE:
            _add_batch(found, batch)
            batch = []
    _add_batch(found, batch)


def _add_batch(found: dict[Key, Sums], batch: Sequence[tuple[Any, ...]]) -> None:
    """A suspected cost is named after its job; a refund is about the hold of a job or of a preview that was kept."""
    about = [hold if kind == Transfer.Kind.REFUND else name for kind, _, _, name, hold in batch]
    variants = _variants(about)
    for (kind, created, amount, _, _), name in zip(batch, about, strict=True):
        sums = found[created.astimezone(UTC).date(), variants[name]]
        if kind == Transfer.Kind.REFUND:
            sums.refunded_micros += amount
        else:
            sums.suspected_micros += amount


def _variants(names: Sequence[str]) -> dict[str, int]:
    """Of `job:<id>`, `suspect:<id>` and `keep:<picture's id>`; a rerouted job has its upstream after a slash.

    0 for any other name: the money counts all the same.
    """
    ids = {name: _id_in(name) for name in names}
    jobs = dict(Job.objects.filter(pk__in=ids.values()).values_list("pk", "variant_id"))
    kept = [pk for name, pk in ids.items() if name.startswith("keep:")]
    pictures = dict(Picture.objects.filter(pk__in=kept).values_list("pk", "variant_id")) if kept else {}
    return {name: jobs.get(pk) or pictures.get(pk) or 0 for name, pk in ids.items()}


def _id_in(name: str) -> uuid.UUID:
    try:
        return uuid.UUID(name.partition(":")[2].partition("/")[0])
    except ValueError:
        return uuid.UUID(int=0)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


# --- Days that are over -------------------------------------------------------------------------------
def close_days(now: datetime | None = None) -> int:
    """Keeps the sums of every day that is over and is not kept yet, the oldest first. Returns how many."""
    last = ((now or timezone.now()) - SETTLED).astimezone(UTC).date() - timedelta(days=1)
    first = _first_open()
    closed = 0
    while first is not None and first <= last and closed < MOST_DAYS_A_NIGHT:
        closed += _close(first)
        first += timedelta(days=1)
    return closed


def _first_open() -> date | None:
    newest = HouseClosed.objects.order_by("-day").first()
    if newest:
        return newest.day + timedelta(days=1)
    used = UsageDay.objects.aggregate(of=Min("day"))["of"]
    rare = Transfer.objects.filter(kind__in=_RARE).aggregate(of=Min("created"))["of"]
    known = [day for day in (used, rare and rare.astimezone(UTC).date()) if day]
    return min(known, default=None)


@transaction.atomic
def _close(day: date) -> bool:
    """Whoever writes the day first has summed it."""
    if not HouseClosed.objects.get_or_create(day=day)[1]:
        return False
    HouseDay.objects.bulk_create(
        HouseDay(day=day, variant_id=variant, **{name: getattr(sums, name) for name in NAMES})
        for (_, variant), sums in _live([day]).items()
    )
    return True


def audit() -> Iterator[Problem]:
    """Every day that was kept and is not what it would be if it were summed anew."""
    days = list(HouseClosed.objects.order_by("day").values_list("day", flat=True))
    for at in range(0, len(days), 31):
        some = days[at : at + 31]
        kept = by_day_and_variant(some[0], some[-1])
        anew = _live(some)
        for key in sorted({*kept, *anew}):
            if key[0] in some and kept.get(key, Sums()) != anew.get(key, Sums()):
                subject = f"{key[0]}, variant {key[1]} ({', '.join(NAMES)})"
                yield problem(
                    "a day of the house = its accounts'",
                    subject,
                    _words(anew.get(key)),
                    _words(kept.get(key)),
                )


def _words(sums: Sums | None) -> str:
    return ", ".join(str(getattr(sums or Sums(), name)) for name in NAMES)
