"""What a catalogue file would change here, told before it is done; and doing it, all of it or none.

The file is what shall be, as far as it says: a variant that it names gets its words, its price (from now where that
differs), and, where the file has them, its later prices and routes as listed. What has been charged for is never rewritten.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import credits, trail
from accounts.models import User
from playground import upstreams
from playground.catalogue_file import Entry, PriceEntry, RouteEntry, new_route
from playground.models import Price, Route, Variant

ROUTE_FIELDS = ("upstream_model", "fixed", "ignores", "cost_micros", "position")


@dataclass(frozen=True)
class Line:
    """One thing that changes. `old` is empty where it is new, `new` where it goes."""

    what: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.what}: {self.old or 'none'} -> {self.new or 'none'}"


@dataclass(eq=False)
class Row:
    """A variant and what becomes of it; `kind`: added, changed or off."""

    kind: str
    slug: str
    label: str
    variant: Variant | None
    entry: Entry | None = None
    lines: list[Line] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    prices: list[PriceEntry] = field(default_factory=list)
    cancelled: list[Price] = field(default_factory=list)
    routes: list[Route] = field(default_factory=list)
    rerouted: list[Route] = field(default_factory=list)
    unrouted: list[Route] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """`rows`: those that change. `unknown`: switched on here and not in the file; `remarks`: what to think about."""

    rows: list[Row]
    same: int
    unknown: list[Variant]
    remarks: list[str]

    def of(self, kind: str) -> list[Row]:
        return [row for row in self.rows if row.kind == kind]

    @property
    def added(self) -> list[Row]:
        return self.of("added")

    @property
    def changed(self) -> list[Row]:
        return self.of("changed")

    @property
    def off(self) -> list[Row]:
        return self.of("off")

    @property
    def digest(self) -> str:
        """The same for two plans that would do the same."""
        said = [(row.slug, row.kind, [str(line) for line in row.lines]) for row in self.rows]
        return hashlib.sha256(repr(said).encode()).hexdigest()


class Stale(Exception):
    """The catalogue is not what it was when the plan was shown. `plan`: what the file would change now."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__("The catalogue has changed since this was shown. Look again, then apply.")


# --- Planning -----------------------------------------------------------------------------------------
def plan(entries: Sequence[Entry], *, drops_unknown: bool = False, now: datetime | None = None) -> Plan:
    """Three queries, however long the file is. `drops_unknown`: what the file does not name is switched off."""
    now = now or timezone.now()
    known = {variant.slug: variant for variant in Variant.objects.prefetch_related("prices", "routes")}
    rows = [_row(entry, known.get(entry.slug), now) for entry in entries]
    named = {entry.slug for entry in entries}
    unknown = [variant for slug, variant in known.items() if slug not in named and variant.is_live]
    if drops_unknown:
        rows += [_off(variant) for variant in unknown]
    changing = [row for row in rows if row.lines]
    return Plan(changing, len(rows) - len(changing), [] if drops_unknown else unknown, _remarks(entries))


def _remarks(entries: Sequence[Entry]) -> list[str]:
    providers = {route.provider for entry in entries for route in entry.routes or []}
    missing = sorted(providers - upstreams.configured().keys())
    return [f"No upstream {name} is set up here: its routes wait for it." for name in missing]


def _off(variant: Variant) -> Row:
    row = Row("off", variant.slug, variant.label, variant, values={"is_live": False})
    row.lines.append(Line("on", "yes", "no"))
    return row


def _row(entry: Entry, variant: Variant | None, now: datetime) -> Row:
    row = Row("changed" if variant else "added", entry.slug, entry.fields["label"], variant, entry)
    if variant is None:
        row.lines.append(Line("variant", "", entry.slug))
        row.prices = [price for price in [entry.price, *(entry.later or [])] if price]
        row.lines += [_price_line(None, price, now) for price in row.prices]
        row.routes = [new_route(None, route, place) for place, route in enumerate(entry.routes or [])]
        row.lines += [Line(f"route to {route.provider}", "", _of_route(route)) for route in row.routes]
        return row
    for name, value in entry.fields.items():
        old = getattr(variant, name)
        if old != value:
            row.values[name] = value
            row.lines.append(Line("on" if name == "is_live" else name, _said(old), _said(value)))
    if row.values.get("is_live") is False:
        row.kind = "off"
    _plan_prices(row, entry, variant, now)
    if entry.routes is not None:
        _plan_routes(row, entry.routes, variant)
    return row


def _plan_prices(row: Row, entry: Entry, variant: Variant, now: datetime) -> None:
    told = [price for price in [entry.price, *(entry.later or [])] if price]
    begun = [price for price in told if price.starts is None or price.starts <= now]
    wanted = {price.starts: price for price in told if price.starts and price.starts > now}
    current = next((price for price in variant.prices.all() if price.starts <= now), None)
    ahead = {price.starts: price for price in variant.prices.all() if price.starts > now}
    if begun:
        # Of several that have begun, the last: a file may have been written before one of them was due.
        last = max(begun, key=lambda price: (price.starts is not None, price.starts))
        if current is None or current.micros != last.micros:
            row.prices.append(PriceEntry(last.micros, None))
            row.lines.append(_price_line(current, row.prices[-1], now))
    for starts, price in ahead.items():
        same = starts in wanted and wanted[starts].micros == price.micros
        if not same and (starts in wanted or entry.later is not None):
            row.cancelled.append(price)
            row.lines.append(Line(f"price {_from(starts)}", credits.usd(price.micros), ""))
    for starts, entered in sorted(wanted.items()):
        if starts not in ahead or ahead[starts].micros != entered.micros:
            row.prices.append(entered)
            row.lines.append(_price_line(current, entered, now))


def _price_line(current: Price | None, price: PriceEntry, now: datetime) -> Line:
    when = "from now" if price.starts is None else _from(price.starts)
    return Line(f"price {when}", credits.usd(current.micros) if current else "", credits.usd(price.micros))


def _from(starts: datetime) -> str:
    return f"from {starts:%Y-%m-%d %H:%M} UTC"


def _plan_routes(row: Row, wanted: Sequence[RouteEntry], variant: Variant) -> None:
    ours = {route.provider: route for route in variant.routes.all()}
    for place, entry in enumerate(wanted):
        new, old = new_route(variant, entry, place), ours.pop(entry.provider, None)
        if old is None:
            row.routes.append(new)
            row.lines.append(Line(f"route to {entry.provider}", "", _of_route(new)))
        elif any(getattr(old, name) != getattr(new, name) for name in ROUTE_FIELDS):
            row.lines.append(Line(f"route to {entry.provider}", _of_route(old), _of_route(new)))
            for name in ROUTE_FIELDS:
                setattr(old, name, getattr(new, name))
            row.rerouted.append(old)
    row.unrouted = list(ours.values())
    row.lines += [Line(f"route to {route.provider}", _of_route(route), "") for route in row.unrouted]


def _of_route(route: Route) -> str:
    more = [f"fixed {route.fixed}"] if route.fixed else []
    more += [f"ignores {', '.join(route.ignores)}"] if route.ignores else []
    what = f"{route.upstream_model} at {credits.usd(route.cost_micros)}, number {route.position + 1}"
    return ", ".join([what, *more])


def _said(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value) if value != "" else "empty"


# --- Doing it -----------------------------------------------------------------------------------------
def apply(
    entries: Sequence[Entry], *, seen: str | None, by: User, why: str, drops_unknown: bool = False
) -> Plan:
    """Does what the plan of that digest said (None: whatever it says), with an entry in the trail for each variant.

    A plan with no rows: there is nothing left to do, because it has been done. Raises Stale where it says otherwise by now.
    """
    for last_try in (False, True):
        try:
            with transaction.atomic():
                return _apply(entries, seen, by, why, drops_unknown)
        except (
            IntegrityError
        ):  # somebody else adds the same variants at this moment: then look at what they left
            if last_try:
                raise
    raise AssertionError("not reached")


def _apply(entries: Sequence[Entry], seen: str | None, by: User, why: str, drops_unknown: bool) -> Plan:
    list(Variant.objects.select_for_update().order_by("pk").values_list("pk"))
    now = timezone.now()
    planned = plan(entries, drops_unknown=drops_unknown, now=now)
    if planned.rows and seen is not None and planned.digest != seen:
        raise Stale(planned)
    _write(planned.rows, now)
    trail.log_many(by, _deeds(planned.added, why), trail.ADDITION)
    trail.log_many(by, _deeds([*planned.changed, *planned.off], why))
    return planned


def _deeds(rows: Sequence[Row], why: str) -> Iterator[tuple[Variant, str]]:
    for row in rows:
        yield _variant_of(row), f"By a catalogue file: {'; '.join(map(str, row.lines))}: {why}"


def _variant_of(row: Row) -> Variant:
    assert row.variant is not None
    return row.variant


def _write(rows: Sequence[Row], now: datetime) -> None:
    """A handful of statements, however many rows."""
    for row in rows:
        if row.entry is not None and row.variant is None:
            row.variant = Variant(slug=row.slug, **row.entry.fields)
        _variant_of(row).__dict__.update(row.values)
        _bring(_variant_of(row), row.entry)
    Variant.objects.bulk_create([_variant_of(row) for row in rows if row.kind == "added"])
    changed = [_variant_of(row) for row in rows if row.kind != "added"]
    Variant.objects.bulk_update(changed, [*_FIELDS, "routes_brought"], batch_size=100)
    gone = [price.pk for row in rows for price in row.cancelled]
    Price.objects.filter(pk__in=gone, starts__gt=now).delete()
    Price.objects.bulk_create(
        Price(variant=_variant_of(row), micros=price.micros, starts=price.starts or now)
        for row in rows
        for price in row.prices
    )
    Route.objects.filter(pk__in=[route.pk for row in rows for route in row.unrouted]).delete()
    Route.objects.bulk_update([route for row in rows for route in row.rerouted], ROUTE_FIELDS, batch_size=100)
    for row in rows:
        for route in row.routes:
            route.variant = _variant_of(row)
    Route.objects.bulk_create(route for row in rows for route in row.routes)


def _bring(variant: Variant, entry: Entry | None) -> None:
    if entry is not None:
        named = {route.provider for route in entry.routes or []}
        variant.routes_brought = sorted({*variant.routes_brought, *named, *entry.without})


_FIELDS = [
    "name", "label", "maker", "family", "kind", "resolution", "blurb", "parameters", "position", "is_live", "aliases",
]  # fmt: skip
