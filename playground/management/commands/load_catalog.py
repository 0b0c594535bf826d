import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from accounts import trail
from playground import catalogue_changes
from playground.catalogue_file import Entry, NotACatalogue, PriceEntry, new_route, read
from playground.models import Price, Route, Variant

CATALOGUE = Path(__file__).resolve().parents[2] / "catalogue.toml"


class Command(BaseCommand):
    help = (
        "Loads the catalogue file: adds what is new, dates changed prices, leaves everything else alone. With --replace"
        " the catalogue becomes what the file says, as by the import in the admin."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "file",
            nargs="?",
            type=Path,
            default=CATALOGUE,
            help="A catalogue in TOML; - reads standard input.",
        )
        parser.add_argument("--replace", action="store_true", help="Change what is there already, too.")
        parser.add_argument(
            "--drop-unknown", action="store_true", help="Switch off what the file does not name."
        )
        parser.add_argument("--dry-run", action="store_true", help="Say what --replace would do; do nothing.")
        parser.add_argument("--reason", default="", help="Why, for the trail; --replace needs one.")

    def handle(self, *args: Any, file: Path, **options: Any) -> None:
        try:
            entries = read(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
        except OSError as error:
            raise CommandError(f"{file} cannot be read: {error.strerror}") from error
        except NotACatalogue as error:
            raise CommandError("\n".join([f"{file} is not a catalogue:", *error.problems])) from error
        if options["replace"] or options["dry_run"]:
            self._replace(entries, options)
            return
        with transaction.atomic():
            variants, prices, routes = load(entries)
            if file != CATALOGUE:  # the one that is shipped comes with the program, and nobody did anything
                _log(variants, prices, routes, why=options["reason"] or f"loaded from {file}")
        self.stdout.write(
            f"{len(entries)} variants in the file: {len(variants)} new, {len(prices)} new prices,"
            f" {len(routes)} new routes."
        )

    def _replace(self, entries: Sequence[Entry], options: dict[str, Any]) -> None:
        if options["dry_run"]:
            done = catalogue_changes.plan(entries, drops_unknown=options["drop_unknown"])
        elif not trail.words(options["reason"]):
            raise CommandError("--replace needs a --reason: prices are money.")
        else:
            why = f"{options['reason']} ({trail.at_console('load_catalog')})"
            drops = options["drop_unknown"]
            done = catalogue_changes.apply(
                entries, seen=None, by=trail.console(), why=why, drops_unknown=drops
            )
        for row in done.rows:
            self.stdout.write(f"{row.kind}: {row.slug}")
            for line in row.lines:
                self.stdout.write(f"    {line}")
        for remark in done.remarks:
            self.stderr.write(remark)
        self.stdout.write(
            f"{len(done.added)} added, {len(done.changed)} changed, {len(done.off)} switched off, {done.same} as they were."
        )


def _log(variants: Sequence[Variant], prices: Sequence[Price], routes: Sequence[Route], *, why: str) -> None:
    """One entry for each variant that something came to."""
    came: dict[Variant, list[str]] = {variant: ["added"] for variant in variants}
    for price in prices:
        came.setdefault(price.variant, []).append(f"price added: {price}")
    for route in routes:
        came.setdefault(route.variant, []).append(f"route added: {route.provider}")
    if came:
        told = f"({trail.at_console('load_catalog')})"
        trail.log_many(
            trail.console(), [(row, f"{'; '.join(what)}: {why} {told}") for row, what in came.items()]
        )


# --- Writing what is new ------------------------------------------------------------------------------
def load(entries: Sequence[Entry]) -> tuple[list[Variant], list[Price], list[Route]]:
    """Writes what is new among the entries, and returns it. A handful of statements, however long the file is.

    A variant that exists keeps what was edited in the admin: only a newer price and new routes in the file reach it.
    """
    known = {variant.slug: variant for variant in Variant.objects.prefetch_related("prices", "routes")}
    added = {
        entry.slug: Variant(slug=entry.slug, **entry.fields) for entry in entries if entry.slug not in known
    }
    Variant.objects.bulk_create(added.values())
    _name(entries, known)
    everything = known | added
    prices = [
        Price(variant=everything[entry.slug], micros=price.micros, starts=price.starts or timezone.now())
        for entry in entries
        for price in _new_prices(entry, known.get(entry.slug))
    ]
    Price.objects.bulk_create(prices)
    routes: list[Route] = []
    brought: list[Variant] = []
    for entry in entries:
        routes += _new_routes(entry, everything[entry.slug], is_known=entry.slug in known, brought=brought)
    Route.objects.bulk_create(routes)
    Variant.objects.bulk_update(brought, ["routes_brought"], batch_size=100)
    return list(added.values()), prices, routes


def _name(entries: Sequence[Entry], known: dict[str, Variant]) -> None:
    """Other names for what was here before the file had any."""
    named = [known[entry.slug] for entry in entries if entry.slug in known and entry.fields.get("aliases")]
    bare = {variant.slug: variant for variant in named if not variant.aliases}
    for entry in entries:
        if entry.slug in bare:
            bare[entry.slug].aliases = entry.fields["aliases"]
    Variant.objects.bulk_update(bare.values(), ["aliases"], batch_size=100)


def _new_prices(entry: Entry, known: Variant | None) -> list[PriceEntry]:
    """All of a new variant; of one that is known those that begin when none of its own does."""
    told = [price for price in [entry.price, *(entry.later or [])] if price]
    if known is None:
        return told
    starts = {price.starts for price in known.prices.all()}
    return [price for price in told if price.starts and price.starts not in starts]


def _new_routes(entry: Entry, variant: Variant, *, is_known: bool, brought: list[Variant]) -> list[Route]:
    """Those that the file has never brought before: one that was deleted in the admin stays away."""
    told = entry.routes or []
    ours = {route.provider for route in variant.routes.all()} if is_known else set()
    before = {*variant.routes_brought, *entry.without}
    new = [(place, route) for place, route in enumerate(told) if route.provider not in ours | before]
    now_brought = sorted({*before, *(route.provider for route in told)})
    if now_brought != variant.routes_brought:
        variant.routes_brought = now_brought
        brought.append(variant)
    return [new_route(variant, route, place) for place, route in new]
