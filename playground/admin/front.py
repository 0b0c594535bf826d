"""The operator's front page: figures that renew themselves, the month's takings, and the audit."""

import csv
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import render
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import credits, desk
from accounts.admin.people import SEES_MONEY, staff
from playground import audits, health, takings
from playground.admin import figures
from playground.ids import oldest_id
from playground.models import AuditRun, Variant

PERIODS = (7, 30, 90)
HEIGHT = 160  # of the drawing, in pixels
INDEX = "admin:index"


def index(request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
    """For `admin.site`: its own page of lists, below how the house stands."""
    context = {**live(request), **money(request), **(extra_context or {})}
    return admin.AdminSite.index(admin.site, request, context)


# --- What renews itself -------------------------------------------------------------------------------
@require_safe
@never_cache
def fragment(request: HttpRequest) -> HttpResponse:
    return render(request, "admin/_front.html", live(request))


def live(request: HttpRequest) -> dict[str, Any]:
    """How it stands now, each part for those who may see it."""
    now, may = timezone.now(), request.user.has_perm
    upstreams, jobs = health.report(with_latencies=False), figures.open_jobs(now)
    sees_jobs, sees_money = may("playground.view_job"), may(SEES_MONEY)
    return {
        "now": now,
        "today_id": oldest_id(figures.midnight(now) - health.OLDEST),
        "worries": figures.worries(staff(request), now, upstreams, jobs),
        "open_jobs": jobs if sees_jobs else None,
        "failures": figures.failures(upstreams) if sees_jobs else None,
        "upstreams": upstreams if may("playground.view_upstream") else None,
        "held": figures.held() if sees_money else None,
        "owed": figures.owed_to_people() if sees_money else None,
        "budgets": figures.budgets(now) if sees_money else None,
        "today": takings.today(now) if sees_money else None,
        "audit": figures.audit() if may("playground.view_auditrun") else None,
        "may_audit": may("playground.add_auditrun"),
    }


# --- Takings ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Period:
    """UTC days, both included; `days` is one of `PERIODS`, or 0 for a single day."""

    first: date
    last: date
    days: int


@dataclass(frozen=True)
class Bar:
    """One day of the drawing, in pixels of a box that is 100 wide for each day."""

    day: date
    x: int
    revenue_y: float
    revenue_height: float
    cost_y: float
    cost_height: float
    title: str


def period(request: HttpRequest) -> Period:
    """What the address says; a mangled one is the last 30 days."""
    today = timezone.now().astimezone(UTC).date()
    asked = request.GET.get("day", "")
    try:
        day = min(max(date.fromisoformat(asked), date(2000, 1, 1)), today)
        return Period(day, day, 0)
    except ValueError:
        days = request.GET.get("days", "")
        length = int(days) if days in map(str, PERIODS) else 30
        return Period(today - timedelta(days=length - 1), today, length)


def money(request: HttpRequest) -> dict[str, Any]:
    """The table of days, that of variants, and the drawing, for those who may see money."""
    if not request.user.has_perm(SEES_MONEY):
        return {}
    asked = period(request)
    found = takings.by_day_and_variant(asked.first, asked.last)
    by_day: dict[date, takings.Sums] = defaultdict(takings.Sums)
    by_variant: dict[int, takings.Sums] = defaultdict(takings.Sums)
    for (day, variant), sums in found.items():
        by_day[day] += sums
        by_variant[variant] += sums
    labels = _labels(by_variant)
    ranked = sorted(by_variant.items(), key=lambda one: (-one[1].revenue, -one[1].cost, labels[one[0]]))
    return {
        "period": asked,
        "periods": PERIODS,
        "by_day": sorted(by_day.items(), reverse=True),
        "by_variant": [(pk, labels[pk], sums) for pk, sums in ranked],
        "whole": takings.total(found.values()),
        "bars": _bars(by_day, asked),
        "height": HEIGHT,
        "top": max((max(sums.revenue, sums.cost) for sums in by_day.values()), default=0),
        "ids": (oldest_id(_start(asked.first)), oldest_id(_start(asked.last + timedelta(days=1)))),
    }


def _labels(known: Any) -> dict[int, str]:
    labels = dict(Variant.objects.filter(pk__in=list(known)).values_list("pk", "label"))
    return {pk: labels.get(pk, "not known") for pk in known}


def _start(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _bars(by_day: dict[date, takings.Sums], asked: Period) -> list[Bar]:
    """Revenue and cost side by side. Whatever is there can be seen; what is below zero is not drawn, and is in the table."""
    top = max((max(sums.revenue, sums.cost) for sums in by_day.values()), default=0)
    if top <= 0 or asked.first == asked.last:
        return []
    every = (asked.first + timedelta(days=after) for after in range((asked.last - asked.first).days + 1))
    return [_bar(number, day, by_day.get(day, takings.Sums()), top) for number, day in enumerate(every)]


def _bar(number: int, day: date, sums: takings.Sums, top: int) -> Bar:
    tall = [max(HEIGHT * value / top, 1 if value > 0 else 0) for value in (sums.revenue, sums.cost)]
    said = f"{day:%Y-%m-%d}: revenue {credits.usd(sums.revenue)}, upstream cost {credits.usd(sums.cost)}"
    revenue, cost = (round(height, 2) for height in tall)
    return Bar(day, number * 100, HEIGHT - revenue, revenue, HEIGHT - cost, cost, said)


@require_safe
def as_csv(request: HttpRequest) -> StreamingHttpResponse:
    """Days by variants, with every micro-dollar."""
    if not request.user.has_perm(SEES_MONEY):
        raise PermissionDenied
    asked = period(request)
    found = takings.by_day_and_variant(asked.first, asked.last)
    name = f"takings-{asked.first}-to-{asked.last}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(_csv(found), content_type="text/csv; charset=utf-8", headers=headers)


COLUMNS = ("revenue_micros", "upstream_cost_micros", "margin_micros", *takings.NAMES)


class _Line:
    """What `csv` writes to, and gives back."""

    def write(self, line: str) -> str:
        return line


def _csv(found: dict[takings.Key, takings.Sums]) -> Iterator[str]:
    writer = csv.writer(_Line())
    known = Variant.objects.in_bulk({variant for _, variant in found})
    yield writer.writerow(["day_utc", "variant", "name", *COLUMNS])
    for (day, pk), sums in sorted(found.items()):
        variant = known.get(pk)
        sums_of = [sums.revenue, sums.cost, sums.margin, *(getattr(sums, name) for name in takings.NAMES)]
        yield writer.writerow(
            [day, variant.slug if variant else "", variant.name if variant else "", *sums_of]
        )


# --- The audit ----------------------------------------------------------------------------------------
@require_POST
def ask_audit(request: HttpRequest) -> HttpResponse:
    """Has it run in the queue; the page shows how far it is."""
    if not request.user.has_perm("playground.add_auditrun"):
        raise PermissionDenied
    asked = audits.ask(staff(request))
    if asked:
        admin.site.get_model_admin(AuditRun).log_change(request, asked, "Audit asked for.")
        messages.success(request, "The audit has begun. What it finds is shown here.")
    else:
        messages.info(request, "An audit is under way already.")
    return HttpResponseRedirect(reverse(INDEX))


@admin.register(AuditRun)
class AuditRunDesk(desk.ReadOnly):
    """What each audit found."""

    list_display = ["started", "by", "state", "found", "with_files", "took", "staff"]
    list_select_related = ["staff"]
    list_filter = ["state", "by"]
    ordering = ["-id"]

    @admin.display(description="took")
    def took(self, run: AuditRun) -> str:
        return "-" if run.seconds is None else f"{run.seconds:,.1f} s"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("figures/", wrap(fragment), name="front_figures"),
            path("takings.csv", wrap(as_csv), name="front_csv"),
            path("ask/", wrap(ask_audit), name="audit_ask"),
            *super().get_urls(),
        ]
