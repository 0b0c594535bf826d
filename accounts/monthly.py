"""Statements by month (UTC): what there was, what came and went, what there is. Reads only.

What was there before is the sum of all that came before it, so a statement adds up to the micro-dollar by
construction, and never disagrees with the one of the month before.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.db.models import BigIntegerField, Case, CharField, Count, F, Q, QuerySet, Sum, When
from django.db.models.functions import Cast, Substr

from accounts import credits, statement
from accounts.models import Transfer, Wallet

PAGE = 500


@dataclass(frozen=True)
class Month:
    """`opened` is the balance before its first line, `closed` after its last; all in micro-dollars."""

    first: date
    count: int
    opened: int
    came: int
    went: int

    @property
    def closed(self) -> int:
        return self.opened + self.came - self.went

    @property
    def name(self) -> str:
        return f"{self.first:%Y-%m}"

    @property
    def title(self) -> str:
        return f"{self.first:%B %Y}"


@dataclass(frozen=True)
class Total:
    """All lines of one kind and direction."""

    kind: str
    count: int
    change: int


@dataclass(frozen=True)
class Line:
    id: int
    at: datetime
    kind: str
    memo: str
    business_id: str
    change: int
    balance: int

    @property
    def url(self) -> str:
        return statement.page_of(self.business_id)


def months(wallet: Wallet) -> list[Month]:
    """Those in which something moved, newest first."""
    # As text: what a function for months does to each row costs SQLite ten times as much.
    named = Substr(Cast("created", CharField()), 1, 7)
    rows = _signed(Transfer.objects.filter(_of(wallet)), wallet).annotate(month=named)
    found, balance = [], 0
    for row in rows.values("month").annotate(**_SUMS).order_by("month"):
        made = _month(date.fromisoformat(f"{row['month']}-01"), balance, row)
        found.append(made)
        balance = made.closed
    return found[::-1]


def month(wallet: Wallet, first: date) -> Month:
    """One month, also one in which nothing moved."""
    rows = _signed(Transfer.objects.filter(_of(wallet)), wallet)
    before = rows.filter(created__lt=_midnight(first)).aggregate(opened=Sum("change"))
    sums = rows.filter(_within(first)).aggregate(**_SUMS)
    return _month(first, int(before["opened"] or 0), sums)


def totals(wallet: Wallet, first: date) -> list[Total]:
    """What came first, then what went; the largest of each before the others."""
    rows = _signed(Transfer.objects.filter(_of(wallet), _within(first)), wallet)
    sums = rows.values("kind", is_gain=Q(credit=wallet)).annotate(count=Count("pk"), total=Sum("change"))
    found = [Total(Transfer.Kind(r["kind"]).label, r["count"], int(r["total"])) for r in sums.order_by()]
    return sorted(found, key=lambda total: (total.change < 0, -abs(total.change)))


def lines(wallet: Wallet, made: Month, after: int = 0, most: int = PAGE) -> list[Line]:
    """Oldest first, `most` of those after the id `after`."""
    passed = 0
    if after:
        rows = Transfer.objects.filter(_of(wallet), _within(made.first), pk__lte=after)
        passed = int(_signed(rows, wallet).aggregate(passed=Sum("change"))["passed"] or 0)
    return list(_run(_page(wallet, made, after, most), wallet, made.opened + passed))


def every(wallet: Wallet, made: Month) -> Iterator[Line]:
    """All of them, oldest first, however many: a page at a time."""
    after, balance = 0, made.opened
    while page := list(_run(_page(wallet, made, after, PAGE), wallet, balance)):
        yield from page
        after, balance = page[-1].id, page[-1].balance


def _page(wallet: Wallet, made: Month, after: int, most: int) -> list[Transfer]:
    """Two walks along an index and a merge, so that the last page of many costs what the first one does."""
    rows = Transfer.objects.filter(_within(made.first), pk__gt=after).order_by("pk")
    sides = [*rows.filter(debit=wallet)[:most], *rows.filter(credit=wallet)[:most]]
    return sorted(sides, key=lambda row: row.pk)[:most]


def _run(rows: Iterable[Transfer], wallet: Wallet, balance: int) -> Iterator[Line]:
    for row in rows:
        change = row.amount if row.credit_id == wallet.pk else -row.amount
        balance += change
        kind = row.get_kind_display()
        memo = "" if row.memo == kind else row.memo
        yield Line(row.pk, row.created, kind, memo, row.business_id, change, balance)


def parsed(text: str) -> date | None:
    """`2026-11` -> its first day; None for what is no month of ours."""
    try:
        first = date.fromisoformat(f"{text}-01")
    except ValueError:
        return None
    return first if len(text) == 7 and 2000 <= first.year < 9999 else None


def _of(wallet: Wallet) -> Q:
    return Q(debit=wallet) | Q(credit=wallet)


def _within(first: date) -> Q:
    after = (first + timedelta(days=32)).replace(day=1)
    return Q(created__gte=_midnight(first), created__lt=_midnight(after))


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _signed(rows: QuerySet[Transfer], wallet: Wallet) -> Any:
    change = Case(When(credit=wallet, then=F("amount")), default=-F("amount"), output_field=BigIntegerField())
    return rows.annotate(change=change)


_SUMS: dict[str, Any] = {
    "count": Count("pk"),
    "came": Sum("change", filter=Q(change__gt=0)),
    "went": Sum("change", filter=Q(change__lt=0)),
}


def _month(first: date, opened: int, sums: dict[str, Any]) -> Month:
    return Month(first, sums["count"], opened, int(sums["came"] or 0), -int(sums["went"] or 0))


def exact(micros: int) -> str:
    """Dollars as a spreadsheet reads them, with all six decimals: what is printed adds up to what is printed."""
    whole, rest = divmod(abs(micros), credits.MICROS_PER_USD)
    return f"{'-' if micros < 0 else ''}{whole}.{rest:06d}"
