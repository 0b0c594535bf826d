"""The catalogue of the database, written as the file that `catalogue_file` reads: nothing is lost on the way there and back."""

import json
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from django.utils import timezone

from accounts import credits
from playground.catalogue_file import slug_of
from playground.models import Price, Route, Variant

HEAD = """# The catalogue of {now:%Y-%m-%d %H:%M} UTC: {count} variants. Read back by the import in the admin, and by
# `manage.py load_catalog FILE` into an empty catalogue. What the keys mean is told at the top of playground/catalogue.toml.
"""
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dump(now: datetime | None = None) -> str:
    """Every variant with the price in force, those to come, its routes, position and whether it is on: three queries."""
    now = now or timezone.now()
    rows = Variant.objects.order_by("position", "id").prefetch_related("prices", "routes")
    variants = list(rows)
    parts = [HEAD.format(now=now, count=len(variants))]
    places = {variant.pk: place for place, variant in enumerate(variants)}
    for (maker, family), group in groupby(variants, key=lambda variant: (variant.maker, variant.family)):
        parts.append(_model(maker, family, list(group), places, now))
    return "\n".join(parts)


def _model(
    maker: str, family: str, variants: Sequence[Variant], places: dict[int, int], now: datetime
) -> str:
    shared = _shared(variants)
    lines = ["", "[[models]]", f"maker = {_text(maker)}", f"family = {_text(family)}"]
    if shared:
        lines.append(f"parameters = {_table(shared)}")
    for variant in variants:
        lines += _variant(variant, shared, places[variant.pk], now)
    return "\n".join(lines)


def _shared(variants: Sequence[Variant]) -> dict[str, Any]:
    """What all of them say alike. One that TOML cannot say is left to each variant."""
    first, *others = variants
    return {
        name: value
        for name, value in first.parameters.items()
        if _sayable(value) and all(_same(other.parameters.get(name), value) for other in others)
    }


def _same(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _variant(variant: Variant, shared: dict[str, Any], place: int, now: datetime) -> list[str]:
    fields: dict[str, str] = {"name": _text(variant.name)}
    if variant.slug != slug_of(variant.maker, variant.name):
        fields["slug"] = _text(variant.slug)
    fields |= {name: _text(getattr(variant, name)) for name in ("label", "kind", "resolution", "blurb")}
    fields["aliases"] = _value(variant.aliases)
    if not variant.is_live:
        fields["on"] = "false"
    if variant.position != place:
        fields["position"] = str(variant.position)
    own = {name: value for name, value in variant.parameters.items() if name not in shared}
    if own:
        fields["parameters"] = _table(own)
    prices = sorted(variant.prices.all(), key=lambda price: (price.starts, price.pk))
    begun = [price for price in prices if price.starts <= now]
    if begun:
        fields |= _price(begun[-1])
    lines = ["  [[models.variants]]", *(f"  {name} = {value}" for name, value in fields.items())]
    lines.append(_list("later", (_inline(_price(price)) for price in prices if price.starts > now)))
    routes = list(variant.routes.all())
    lines.append(_list("routes", (_inline(_route(route, place)) for place, route in enumerate(routes))))
    gone = sorted(set(variant.routes_brought) - {route.provider for route in routes})
    return [*lines, *([f"  without = {_value(gone)}"] if gone else [])]


def _price(price: Price) -> dict[str, str]:
    return {"usd": _text(_usd(price.micros)), "from": _moment(price.starts)}


def _route(route: Route, place: int) -> dict[str, str]:
    said = {"provider": _text(route.provider), "model": _text(route.upstream_model)}
    if route.fixed:
        said["fixed"] = _table(route.fixed)
    said["cost_usd"] = _text(_usd(route.cost_micros))
    said |= {"ignores": _value(route.ignores)} if route.ignores else {}
    return said | ({"position": str(route.position)} if route.position != place else {})


def _usd(micros: int) -> str:
    return credits.usd(micros).replace("$", "").replace(",", "")


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


# --- TOML's words -------------------------------------------------------------------------------------
def _list(name: str, rows: Iterable[str]) -> str:
    inner = "".join(f"\n    {row}," for row in rows)
    return f"  {name} = [{inner}\n  ]" if inner else f"  {name} = []"


def _inline(pairs: dict[str, str]) -> str:
    return "{ " + ", ".join(f"{name} = {value}" for name, value in pairs.items()) + " }" if pairs else "{}"


def _table(value: dict[str, Any]) -> str:
    return _value(value) if _sayable(value) else _text(json.dumps(value))


def _sayable(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_sayable(inner) for inner in value.values())
    return all(_sayable(inner) for inner in value) if isinstance(value, list) else value is not None


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return _inline({_key(name): _value(inner) for name, inner in value.items()})
    if isinstance(value, list):
        return f"[{', '.join(_value(inner) for inner in value)}]"
    if isinstance(value, str):
        return _text(value)
    return json.dumps(value) if isinstance(value, bool) else repr(value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _text(name)


def _text(value: str) -> str:
    """TOML's basic strings escape as JSON's do, and the one control character that JSON lets through."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
