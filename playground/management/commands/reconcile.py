import json
from argparse import ArgumentParser, ArgumentTypeError
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from accounts.credits import usd
from playground.reconciliation import AMOUNTS, Books, Line, reconcile

COLUMNS = ("day", "provider", "sent", "open", "delivered", "booked", "suspected", "captured", "reports", "reported",
           "difference")  # fmt: skip


class Command(BaseCommand):
    help = (
        "Compares what we booked as upstream costs with what the upstreams say that they charge, by upstream and UTC"
        " day. Exits 0 where every cost that was reported is the one we expected, 1 where one differs."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--days", type=days, default=7, help="Today and the days before it; default 7.")
        parser.add_argument("--provider", default="", help="Only this upstream.")
        parser.add_argument("--json", action="store_true", help="For programs; amounts in micro-dollars.")

    def handle(self, *args: Any, **options: Any) -> None:
        books = reconcile(days=options["days"], now=timezone.now(), provider=options["provider"])
        self.stdout.write(as_json(books) if options["json"] else as_text(books))
        if books.odd_count:
            raise SystemExit(1)


def days(word: str) -> int:
    if not word.isdecimal() or not 1 <= int(word) <= 3660:
        raise ArgumentTypeError("must be a whole number of days, from 1 to 3660")
    return int(word)


def as_json(books: Books) -> str:
    found = {
        "ok": not books.odd_count,
        "lines": [line.as_json() for line in books.in_order],
        "odd_jobs_count": books.odd_count,
        "odd_jobs": [odd.as_json() for odd in books.odd],
    }
    return json.dumps(found, indent=2)


def as_text(books: Books) -> str:
    if not books.lines:
        return "No job was sent in that time."
    rows = [COLUMNS, *(_cells(line) for line in books.in_order)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    table = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join([*table, "", *_odd_jobs(books)])


def _cells(line: Line) -> tuple[str, ...]:
    return tuple(
        usd(getattr(line, name)) if name in AMOUNTS else str(getattr(line, name)) for name in COLUMNS
    )


def _odd_jobs(books: Books) -> list[str]:
    if not books.odd_count:
        return ["Every cost that was reported is the one that was expected."]
    shown = f", the first {len(books.odd)} of them" if len(books.odd) < books.odd_count else ""
    return [f"{books.odd_count} jobs cost something else than expected{shown}:"] + [
        f"  {odd.job}  {odd.day}  {odd.provider}, {odd.state}: expected {usd(odd.expected_micros)},"
        f" reported {usd(odd.reported_micros)}"
        for odd in books.odd
    ]
