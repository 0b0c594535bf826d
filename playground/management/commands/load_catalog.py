import re
import tomllib
from argparse import ArgumentParser
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from accounts.credits import MICROS_PER_CREDIT, MICROS_PER_USD
from playground.models import Price, Route, Variant

CATALOGUE = Path(__file__).resolve().parents[2] / "catalogue.toml"


class Command(BaseCommand):
    help = "Loads the catalogue file: adds what is new, dates changed prices, leaves everything else alone."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", nargs="?", type=Path, default=CATALOGUE, help="A catalogue in TOML.")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            catalogue = tomllib.loads(file.read_text())
            rows = read(catalogue)
        except (OSError, KeyError, ValueError, ArithmeticError) as error:
            raise CommandError(f"{file} is not a catalogue: {error!r}") from error
        with transaction.atomic():
            variants, prices, routes = load(rows)
        self.stdout.write(
            f"{len(rows)} variants in the file: {variants} new, {prices} new prices, {routes} new routes."
        )


def slug_of(maker: str, name: str) -> str:
    """The published rule: the maker, then the maker's own full name for the variant, in lower case and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", f"{maker} {maker} {name}".lower()).strip("-")


def read(catalogue: dict[str, Any]) -> list[dict[str, Any]]:
    """One flat row a variant; raises ValueError or KeyError where the file does not add up."""
    rows = [_row(model, variant) for model in catalogue["models"] for variant in model["variants"]]
    slugs = [row["slug"] for row in rows]
    if twice := {slug for slug in slugs if slugs.count(slug) > 1}:
        raise ValueError(f"listed twice: {', '.join(sorted(twice))}")
    return rows


def _row(model: dict[str, Any], variant: dict[str, Any]) -> dict[str, Any]:
    is_live = variant.get("on", True)
    micros = _micros(variant["usd"]) if is_live or "usd" in variant else None
    if "credits" in variant and Decimal(variant["credits"]) * MICROS_PER_CREDIT != micros:
        raise ValueError(f"{variant['name']}: {variant['credits']} credits are not its price in US dollars")
    slug = variant.get("slug") or slug_of(model["maker"], variant["name"])
    return {
        "slug": slug,
        "fields": {
            "name": variant["name"],
            "label": variant.get("label", variant["name"])[:60],
            "maker": model["maker"],
            "family": model["family"],
            "kind": Variant.Kind(variant["kind"]),
            "resolution": variant.get("resolution", ""),
            "blurb": variant["blurb"],
            "parameters": model.get("parameters", {}) | variant.get("parameters", {}),
            "is_live": is_live,
        },
        "micros": micros,
        "from": variant.get("from"),
        "routes": _routes(variant.get("routes", []), slug, micros),
    }


def _micros(usd: str) -> int:
    micros = Decimal(usd) * MICROS_PER_USD
    if micros <= 0 or micros != int(micros):
        raise ValueError(f"{usd!r} is not a price in US dollars with at most six decimals")
    return int(micros)


def _routes(routes: list[dict[str, Any]], slug: str, micros: int | None) -> list[dict[str, Any]]:
    providers = [route["provider"] for route in routes]
    if len(set(providers)) < len(providers):
        raise ValueError(f"{slug}: two routes to one upstream")
    return [_route(route, slug, micros) | {"position": place} for place, route in enumerate(routes)]


def _route(route: dict[str, Any], slug: str, micros: int | None) -> dict[str, Any]:
    if micros is None and "cost_usd" not in route:
        raise ValueError(f"{slug}: without a price, its route to {route['provider']} needs a cost_usd")
    return {
        "provider": route["provider"],
        "upstream_model": route.get("model", slug),
        "fixed": route.get("fixed", {}),
        "ignores": route.get("ignores", []),
        "cost_micros": _micros(route["cost_usd"]) if "cost_usd" in route else micros,
    }


# --- Writing ------------------------------------------------------------------------------------------
def load(rows: list[dict[str, Any]]) -> tuple[int, int, int]:
    """Writes the rows; returns how many variants, prices and routes were new.

    A variant that exists keeps what was edited in the admin: only a newer price and new routes in the file reach it.
    """
    known = {variant.slug: variant for variant in Variant.objects.prefetch_related("prices", "routes")}
    new = [
        Variant(slug=row["slug"], position=position, **row["fields"])
        for position, row in enumerate(rows)
        if row["slug"] not in known
    ]
    Variant.objects.bulk_create(new)
    added = {variant.slug: variant for variant in new}
    prices = [price for row in rows if (price := _new_price(row, added, known))]
    Price.objects.bulk_create(prices)
    everything = known | added
    routes = [route for row in rows for route in _new_routes(row, everything[row["slug"]])]
    Route.objects.bulk_create(routes)
    return len(new), len(prices), len(routes)


def _new_price(row: dict[str, Any], added: dict[str, Variant], known: dict[str, Variant]) -> Price | None:
    if row["micros"] is None:
        return None
    if row["slug"] in added:
        return Price(variant=added[row["slug"]], micros=row["micros"], starts=_starts(row) or timezone.now())
    starts = _starts(row)
    variant = known[row["slug"]]
    if starts is None or any(price.starts == starts for price in variant.prices.all()):
        return None
    return Price(variant=variant, micros=row["micros"], starts=starts)


def _new_routes(row: dict[str, Any], variant: Variant) -> list[Route]:
    """Those that the file has never brought before: one that was deleted in the admin stays away."""
    ours = {route.provider for route in variant.routes.all()}
    named = [route["provider"] for route in row["routes"]]
    new = [route for route in row["routes"] if route["provider"] not in {*ours, *variant.routes_brought}]
    if set(named) - set(variant.routes_brought):
        variant.routes_brought = sorted({*variant.routes_brought, *named})
        variant.save(update_fields=["routes_brought"])
    return [Route(variant=variant, **route) for route in new]


def _starts(row: dict[str, Any]) -> datetime | None:
    """A date in the file, as midnight UTC."""
    day = row["from"]
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)
