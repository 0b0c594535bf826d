"""Our books beside what the upstreams say that they charge, by upstream and UTC day. Reads only; exact to the micro-dollar.

A job counts on the day on which it was last sent. What we expect it to cost us is its route's cost where it delivered,
the suspected cost that was booked where nobody knows, and nothing where the upstream is known not to charge. Jobs that
are still open are counted and not compared.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from accounts.models import Transfer
from playground.ids import oldest_id
from playground.models import Job, Picture

AT_ONCE = 2000
MOST_NAMED = 100
WAITED = timedelta(days=2)  # between being made and being sent for the last time: deadlines are far shorter


@dataclass
class Line:
    """One upstream on one day. All amounts are micro-dollars."""

    provider: str
    day: date
    sent: int = 0
    open: int = 0
    delivered: int = 0
    booked: int = 0
    suspected: int = 0
    captured: int = 0
    reports: int = 0
    reported: int = 0
    expected_of_reported: int = 0

    @property
    def difference(self) -> int:
        """What the upstream says, less what we expected, of the jobs of which it says something."""
        return self.reported - self.expected_of_reported

    def as_json(self) -> dict[str, Any]:
        amounts = {f"{name}_micros": getattr(self, name) for name in AMOUNTS}
        counts = {name: getattr(self, name) for name in ("sent", "open", "delivered", "reports")}
        return {"provider": self.provider, "day": self.day.isoformat(), **counts, **amounts}


AMOUNTS = ("booked", "suspected", "captured", "reported", "expected_of_reported", "difference")


@dataclass(frozen=True)
class Odd:
    """A job of which the upstream says another cost than we expected."""

    job: str
    provider: str
    day: date
    state: str
    expected_micros: int
    reported_micros: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"day": self.day.isoformat()}


@dataclass
class Books:
    lines: dict[tuple[str, date], Line] = field(default_factory=dict)
    odd: list[Odd] = field(default_factory=list)
    odd_count: int = 0

    def line(self, provider: str, day: date) -> Line:
        return self.lines.setdefault((provider, day), Line(provider, day))

    @property
    def in_order(self) -> list[Line]:
        return [self.lines[key] for key in sorted(self.lines, key=lambda key: (key[1], key[0]))]


def reconcile(*, days: int, now: datetime, provider: str = "") -> Books:
    """Today and the days before it, `days` in all; of one upstream, or of all."""
    since = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days - 1)
    books = Books()
    for jobs in _batches(since, provider):
        suspected, kept = _suspected(jobs), _kept(jobs)
        for job in jobs:
            _add(books, job, suspected.get(str(job.pk), 0), kept.get(str(job.pk), 0))
    return books


def _batches(since: datetime, provider: str) -> Iterator[list[Job]]:
    """Those that were sent since then, some at a time, by the index on ids."""
    wanted = {"submitted__gte": since} | ({"provider": provider} if provider else {})
    sent: QuerySet[Job] = Job.objects.filter(**wanted).select_related("hold").order_by("pk")
    last = oldest_id(since - WAITED)
    while batch := list(sent.filter(pk__gt=last).defer("params", "result_urls")[:AT_ONCE]):
        yield batch
        last = batch[-1].pk


def _suspected(jobs: Sequence[Job]) -> dict[str, int]:
    ids = [f"suspect:{job.pk}" for job in jobs if job.state != Job.State.SUCCEEDED]
    booked = Transfer.objects.filter(business_id__in=ids, kind=Transfer.Kind.SUSPECTED_COST)
    return {name.partition(":")[2]: amount for name, amount in booked.values_list("business_id", "amount")}


def _kept(jobs: Sequence[Job]) -> dict[str, int]:
    """What was paid for previews that were kept, whenever that was."""
    shown = Picture.objects.filter(job__in=[job for job in jobs if job.is_preview], kept__isnull=False)
    by_keep = {f"keep:{picture}": str(job) for picture, job in shown.values_list("pk", "job")}
    paid = Transfer.objects.filter(business_id__in=list(by_keep), kind=Transfer.Kind.KEEP)
    return {by_keep[name]: amount for name, amount in paid.values_list("business_id", "amount")}


def _add(books: Books, job: Job, suspected: int, kept: int) -> None:
    assert job.submitted
    day = job.submitted.astimezone(UTC).date()
    line = books.line(job.provider, day)
    line.sent += 1
    line.open += not job.is_final
    delivered = job.cost_micros if job.state == Job.State.SUCCEEDED else 0
    line.delivered += job.state == Job.State.SUCCEEDED
    line.booked += delivered
    line.suspected += suspected
    line.captured += kept + (0 if job.is_preview else job.hold.captured)
    if job.is_final and job.reported_cost_micros is not None:
        _compare(books, line, job, delivered + suspected, job.reported_cost_micros)


def _compare(books: Books, line: Line, job: Job, expected: int, reported: int) -> None:
    line.reports += 1
    line.reported += reported
    line.expected_of_reported += expected
    if reported != expected:
        books.odd_count += 1
        if len(books.odd) < MOST_NAMED:
            books.odd.append(Odd(str(job.pk), job.provider, line.day, job.state, expected, reported))
