"""The usage page, and its rows as CSV and JSON."""

import csv
import json
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts import credits, ledger
from accounts.models import ApiKey, Cap, User
from playground import bars, usage
from playground.http import Request
from playground.models import UsageDay, Variant

PAGE = 50


@require_safe
@login_required
def report(request: Request) -> HttpResponse:
    """Sums, days and the list, for what the address asks for."""
    asked = _asked(request)
    before = _cursor(request.GET.get("before", ""))
    found = usage.page(request.user, asked, before, PAGE + 1)
    query = request.GET.copy()
    query.pop("before", None)
    made = usage.made(request.user, asked)
    context = {
        "asked": asked,
        "rows": found[:PAGE],
        "older": _as_text(found[PAGE - 1]) if len(found) > PAGE else None,
        "is_first_page": before is None,
        "query": query.urlencode(),
        "totals": usage.totals(request.user, asked),
        **_drawn(made, asked),
        "is_filtered": asked.variant or asked.status or asked.by_key is not None,
        "caps": _left(request.user),
        "periods": usage.PERIODS,
        "statuses": usage.STATUSES,
        "variants": _variants(request.user),
        "keys": ApiKey.objects.visible_to(request.user).order_by("-pk"),
    }
    return render(request, "usage.html", context)


@require_safe
@login_required
def export(request: Request, form: str) -> HttpResponseBase:
    """Exactly the rows of the page with this query, as a file."""
    asked = _asked(request)
    rows = usage.every(request.user, asked)
    lines, kind = (_csv(rows), "text/csv") if form == "csv" else (_json(rows), "application/json")
    name = f"usage-{asked.first}-to-{asked.last}.{form}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(lines, content_type=f"{kind}; charset=utf-8", headers=headers)


def _asked(request: Request) -> usage.Asked:
    """What the address says; a mangled one is the last 30 days of everything."""
    get, today = request.GET.get, timezone.now().astimezone(UTC).date()
    period = get("period", "30d") if get("period") in usage.PERIODS else "30d"
    first, last = usage.days_of(period, today)
    if period == "custom":
        first, last = sorted((_day(get("from", ""), first, today), _day(get("to", ""), last, today)))
    slug = get("variant", "")[:160].replace("\x00", "")
    variant = Variant.objects.filter(slug=slug).first() if slug else None
    status = get("status", "")
    status = status if status in usage.STATUSES else ""
    return usage.Asked(period, first, last, variant, status, _by_key(request.user, get("key", "")))


def _day(text: str, otherwise: date, today: date) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return otherwise
    return min(max(day, date(2000, 1, 1)), today)


def _by_key(user: User, text: str) -> int | None:
    """Of a key of one's own, or of the pages."""
    if text == "pages":
        return usage.PAGES
    own = ApiKey.objects.visible_to(user)
    is_own = text.isdecimal() and len(text) < 19 and own.filter(pk=text).exists()
    return int(text) if is_own else None


def _cursor(text: str) -> usage.Cursor | None:
    at, _, key = text.partition("_")
    try:
        when = datetime.fromisoformat(at)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC), uuid.UUID(key)
    except (ValueError, OverflowError):
        return None


def _as_text(row: usage.Row) -> str:
    return f"{row.at.astimezone(UTC).replace(tzinfo=None).isoformat()}_{row.id}"


def _left(user: User) -> list[tuple[str, int, int]]:
    """Window, limit and what is left, of each cap that stops."""
    caps = Cap.objects.filter(
        user=user, key=None, limit__isnull=False, window__in=(Cap.Window.DAY, Cap.Window.MONTH)
    )
    used = {cap.window: ledger.usage(ledger.spending_of(user), cap.window) for cap in caps}
    return [
        (cap.window, cap.limit, max(cap.limit - used[cap.window].spent - used[cap.window].reserved, 0))
        for cap in caps
        if cap.limit is not None
    ]


def _variants(user: User) -> Any:
    return Variant.objects.filter(pk__in=UsageDay.objects.filter(user=user).values("variant"))


# --- Sums and bars ------------------------------------------------------------------------------------
def _drawn(made: list[usage.Made], asked: usage.Asked) -> dict[str, Any]:
    """The bars and what they stand for: money, or, where nothing was paid, the number of pictures."""
    is_of_money = any(one.spent for one in made)
    cells = [
        bars.Cell(one.starts, one.variant_id, one.label, one.spent if is_of_money else one.count)
        for one in made
    ]
    words = credits.usd if is_of_money else str
    chart = bars.chart(cells, asked.first, asked.last, asked.step, words)
    colours = {one.key: one.colour for one in chart.series} if chart else {}
    return {"is_of_money": is_of_money, "chart": chart, "by_variant": _by_variant(made, colours)}


def _by_variant(made: list[usage.Made], colours: dict[int, int]) -> list[dict[str, Any]]:
    """The whole period, the most expensive variant first, with the colour of its bars."""
    sums: dict[int, dict[str, Any]] = {}
    for one in made:
        row = sums.setdefault(one.variant_id, {"label": one.label, "paid": 0, "previews": 0, "spent": 0})
        row["colour"] = colours.get(one.variant_id, bars.OTHERS)
        row["paid"] += one.pictures + one.kept
        row["previews"] += one.previews
        row["spent"] += one.spent
    whole = sum(row["spent"] for row in sums.values())
    for row in sums.values():
        row["share"] = f"{100 * row['spent'] / whole:.1f} %" if whole else ""
    return sorted(sums.values(), key=lambda row: (-row["spent"], -row["previews"], row["label"]))


# --- Files --------------------------------------------------------------------------------------------
def _fields(row: usage.Row) -> dict[str, Any]:
    """One row with a unit in the name of every amount; an empty balance: no money moved."""
    moved = row.balance is not None
    return {
        "time_utc": row.at.astimezone(UTC).isoformat(),
        "status": row.status,
        "what": row.what,
        "by": row.key.name if row.key else "playground",
        "key": row.key.pk if row.key else None,
        "quoted_micro_usd": row.quoted,
        "quoted_credits": _credits(row.quoted),
        "charged_micro_usd": row.charged,
        "charged_credits": _credits(row.charged),
        "balance_after_micro_usd": row.balance,
        "balance_after_credits": _credits(row.balance or 0) if moved else None,
        "job": str(row.job_id),
        "picture": str(row.picture_id) if row.picture_id else None,
    }


def _credits(micros: int) -> str:
    return credits.credits(micros).replace(",", "")


COLUMNS = [
    "time_utc",
    "status",
    "what",
    "by",
    "key",
    "quoted_micro_usd",
    "quoted_credits",
    "charged_micro_usd",
    "charged_credits",
    "balance_after_micro_usd",
    "balance_after_credits",
    "job",
    "picture",
]


class _Line:
    """What `csv` writes to, and gives back."""

    def write(self, line: str) -> str:
        return line


def _csv(rows: Iterator[usage.Row]) -> Iterator[str]:
    writer = csv.writer(_Line())
    yield writer.writerow(COLUMNS)
    for row in rows:
        fields = _fields(row)
        # What people wrote, and no amount: one below zero must stay a number.
        fields |= {name: _harmless(fields[name]) for name in ("what", "by")}
        yield writer.writerow(fields.values())


def _harmless(text: str) -> str:
    """What a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def _json(rows: Iterator[usage.Row]) -> Iterator[str]:
    yield '{"rows": ['
    for number, row in enumerate(rows):
        yield (",\n" if number else "\n") + json.dumps(_fields(row))
    yield "\n]}\n"
