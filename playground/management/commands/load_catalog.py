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
            variants, prices = load(rows)
        self.stdout.write(f"{len(rows)} variants in the file: {variants} new, {prices} new prices.")


def slug_of(maker: str, name: str) -> str:
    """The published rule: the maker, then the maker's own full name for the variant, in lower case and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", f"{maker} {maker} {name}".lower()).strip("-")


def read(catalogue: dict[str, Any]) -> list[dict[str, Any]]:
    """One flat row a variant; raises ValueError or KeyError where the file does not add up."""
    default = catalogue.get("default_route")
    rows = [_row(model, variant, default) for model in catalogue["models"] for variant in model["variants"]]
    slugs = [row["slug"] for row in rows]
    if twice := {slug for slug in slugs if slugs.count(slug) > 1}:
        raise ValueError(f"listed twice: {', '.join(sorted(twice))}")
    return rows


def _row(model: dict[str, Any], variant: dict[str, Any], default: dict[str, Any] | None) -> dict[str, Any]:
    micros = _micros(variant["usd"])
    if "credits" in variant and Decimal(variant["credits"]) * MICROS_PER_CREDIT != micros:
        raise ValueError(f"{variant['name']}: {variant['credits']} credits are not ${variant['usd']}")
    slug = variant.get("slug") or slug_of(model["maker"], variant["name"])
    routes = variant.get("routes", [default] if default else [])
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
        },
        "micros": micros,
        "from": variant.get("from"),
        "routes": [_route(route, slug, micros) for route in routes],
    }


def _micros(usd: str) -> int:
    micros = Decimal(usd) * MICROS_PER_USD
    if micros <= 0 or micros != int(micros):
        raise ValueError(f"{usd!r} is not a price in US dollars with at most six decimals")
    return int(micros)


def _route(route: dict[str, Any], slug: str, micros: int) -> dict[str, Any]:
    return {
        "provider": route["provider"],
        "upstream_model": route.get("model", slug),
        "fixed": route.get("fixed", {}),
        "ignores": route.get("ignores", []),
        "cost_micros": _micros(route["cost_usd"]) if "cost_usd" in route else micros,
    }


def load(rows: list[dict[str, Any]]) -> tuple[int, int]:
    """Writes the rows; returns how many variants and how many prices were new.

    A variant that exists keeps what was edited in the admin: only a newer price in the file reaches it.
    """
    known = {variant.slug: variant for variant in Variant.objects.prefetch_related("prices")}
    new = [
        Variant(slug=row["slug"], position=position, **row["fields"])
        for position, row in enumerate(rows)
        if row["slug"] not in known
    ]
    Variant.objects.bulk_create(new)
    added = {variant.slug: variant for variant in new}
    Route.objects.bulk_create(
        Route(variant=added[row["slug"]], position=position, **route)
        for row in rows
        if row["slug"] in added
        for position, route in enumerate(row["routes"])
    )
    prices = [price for row in rows if (price := _new_price(row, added, known))]
    Price.objects.bulk_create(prices)
    return len(new), len(prices)


def _new_price(row: dict[str, Any], added: dict[str, Variant], known: dict[str, Variant]) -> Price | None:
    if row["slug"] in added:
        return Price(variant=added[row["slug"]], micros=row["micros"], starts=_starts(row) or timezone.now())
    starts = _starts(row)
    variant = known[row["slug"]]
    if starts is None or any(price.starts == starts for price in variant.prices.all()):
        return None
    return Price(variant=variant, micros=row["micros"], starts=starts)


def _starts(row: dict[str, Any]) -> datetime | None:
    """A date in the file, as midnight UTC."""
    day = row["from"]
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)
