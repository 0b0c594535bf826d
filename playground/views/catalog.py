"""The public pages of the catalogue: prices and their rules, the models, and one page for each variant."""

import json
from dataclasses import dataclass

from django.conf import settings
from django.core.paginator import Page, Paginator
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from playground import catalog, prices, upkeep
from playground.http import Request, absolute
from playground.models import Variant

TEN_DOLLARS = 10_000_000
PER_PAGE = 50
EXAMPLE_PROMPT = "A lighthouse in a storm, seen from the sea"


@dataclass(frozen=True)
class Offer:
    """A variant in a list. `ten_buys`: pictures for $10; `ahead`: its next price, in words."""

    variant: Variant
    ten_buys: int | None
    ahead: str = ""


@require_safe
@vary_on_headers("HX-Target")
def pricing(request: Request) -> HttpResponse:
    """The price table, cheapest first, and the rules."""
    context = {
        **_listed(request),
        "previews_a_day": settings.PREVIEWS_PER_DAY,
        "welcome_micros": settings.SIGNUP_GRANT_MICROS,
        "undo_hours": int(upkeep.UNDO_FOR.total_seconds() // 3600),
    }
    return render(request, _or_rows(request, "pricing.html"), context)


@require_safe
@vary_on_headers("HX-Target")
def variants(request: Request) -> HttpResponse:
    """Every model with what it is for."""
    return render(request, _or_rows(request, "variants.html"), _listed(request))


def _listed(request: Request) -> dict[str, object]:
    """The page of the catalogue that the address asks for: one count and two queries, however many there are."""
    words = request.GET.get("q", "")[:100].replace("\x00", "").strip()
    found = Variant.objects.live().priced().search(words)
    page: Page[Variant] = Paginator(found, PER_PAGE).get_page(request.GET.get("page"))
    ahead = prices.ahead(list(page))
    offers = [_offer(variant, ahead.get(variant.pk, "")) for variant in page]
    return {"words": words, "page": page, "offers": offers}


def _offer(variant: Variant, ahead: str = "") -> Offer:
    return Offer(variant, TEN_DOLLARS // variant.price_micros if variant.price_micros else None, ahead)


def _or_rows(request: Request, template: str) -> str:
    """A search as it is typed, and the next page, change the rows only."""
    return f"{template}#rows" if request.htmx.target == "rows" else template


@require_safe
def variant(request: Request, slug: str) -> HttpResponse:
    """Price and its history, parameters, sizes, and a ready call."""
    row = get_object_or_404(Variant.objects.live().priced().prefetch_related("routes"), slug=slug)
    now, dated = timezone.now(), list(row.prices.all())
    relatives = Variant.objects.live().priced().filter(family=row.family, maker=row.maker)
    context = {
        "variant": row,
        "ten_buys": _offer(row).ten_buys,
        "prices": dated,
        "ahead": prices.next_of(dated, now),
        "now": now,
        "why_not": catalog.why_not(row, inputs=row.fewest_inputs),
        "has_seed": catalog.takes_seed(row),
        "sizes": [(ratio, *catalog.size(ratio, row.resolution)) for ratio in row.aspect_ratios],
        "relatives": relatives.exclude(pk=row.pk)[:8],
        "call": _call(request, row),
    }
    return render(request, "variant.html", context)


def _call(request: Request, row: Variant) -> str:
    """The curl command that will order one picture of it."""
    order: dict[str, object] = {"prompt": EXAMPLE_PROMPT}
    if row.aspect_ratios:
        order["aspect_ratio"] = row.aspect_ratios[0]
    if row.needs_input_picture:
        order["input_urls"] = ["https://example.com/picture.jpg"]
    body = json.dumps({"model": row.slug, "input": order}, indent=2)
    return (
        f"curl -X POST {absolute(request, '/api/v1/jobs/createTask')} \\\n"
        '  -H "Authorization: Bearer sk-aig-..." \\\n'
        '  -H "Content-Type: application/json" \\\n'
        f"  -d '{body}'"
    )
