"""Statements by month: the list, the page to print, and the same as CSV and PDF."""

import csv
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accounts import ledger, monthly, monthly_pdf, statement
from accounts.models import Wallet
from accounts.monthly import Month
from accounts.views.account import Request

MOST_LINES_OF_PDF = 1000
COLUMNS = ("when_utc", "what", "about", "usd", "balance_usd")


@require_safe
@login_required
def statements(request: Request) -> HttpResponse:
    months = monthly.months(ledger.wallet_of(request.user))
    return render(request, "statements/months.html", {"months": months})


@require_safe
@login_required
def month(request: Request, name: str) -> HttpResponse:
    """Totals, and the lines a page at a time."""
    wallet, made = _asked(request, name)
    after = statement.cursor(request.GET.get("after", "")) or 0
    lines = monthly.lines(wallet, made, after, monthly.PAGE + 1)
    shown = lines[: monthly.PAGE]
    context = {
        "month": made,
        "totals": monthly.totals(wallet, made.first),
        "lines": shown,
        "next": shown[-1].id if len(lines) > monthly.PAGE else None,
        "is_first_page": not after,
        "is_over": made.first < timezone.now().date().replace(day=1),
        "seller": settings.OPERATOR_NAME,
    }
    return render(request, "statements/month.html", context)


@require_safe
@login_required
def month_csv(request: Request, name: str) -> HttpResponseBase:
    wallet, made = _asked(request, name)
    return StreamingHttpResponse(
        _csv(wallet, made), content_type="text/csv; charset=utf-8", headers=_download(made, "csv")
    )


@require_safe
@login_required
def month_pdf(request: Request, name: str) -> HttpResponse:
    wallet, made = _asked(request, name)
    lines = monthly.lines(wallet, made, most=MOST_LINES_OF_PDF)
    document = monthly_pdf.render(
        made,
        monthly.totals(wallet, made.first),
        lines,
        seller=settings.OPERATOR_NAME,
        buyer=monthly_pdf.known_as(request.user.name, request.user.email),
        is_short=made.count > len(lines),
    )
    return HttpResponse(document, content_type="application/pdf", headers=_download(made, "pdf"))


def _asked(request: Request, name: str) -> tuple[Wallet, Month]:
    """The month of an address; one that has not begun is 404."""
    first: date | None = monthly.parsed(name)
    if first is None or first > timezone.now().date():
        raise Http404
    wallet = ledger.wallet_of(request.user)
    return wallet, monthly.month(wallet, first)


def _download(made: Month, ending: str) -> dict[str, str]:
    name = f"statement-{made.name}.{ending}"
    return {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}


class _Written:
    """What `csv` writes to, and gives back."""

    def write(self, line: str) -> str:
        return line


def _csv(wallet: Wallet, made: Month) -> Iterator[str]:
    writer: Any = csv.writer(_Written())
    first = datetime(made.first.year, made.first.month, 1)
    yield writer.writerow(COLUMNS)
    yield writer.writerow(
        [f"{first:%Y-%m-%dT%H:%M:%SZ}", "Balance before", "", "", monthly.exact(made.opened)]
    )
    for line in monthly.every(wallet, made):
        amounts = [monthly.exact(line.change), monthly.exact(line.balance)]
        yield writer.writerow([f"{line.at:%Y-%m-%dT%H:%M:%SZ}", line.kind, _harmless(line.memo), *amounts])


def _harmless(text: str) -> str:
    """What a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r\n") and text else text
