"""The catalogue as a file in TOML: read strictly, with the place of every mistake, and written so that it reads back.

What the keys mean is told at the top of playground/catalogue.toml. Money is exact: "0.035", or 0.035, which is read as
the decimal that it is and never as a float.
"""

import json
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from accounts.credits import MICROS_PER_CREDIT, MICROS_PER_USD
from playground.catalogue_values import MAX_NAME, MAX_POSITION, Wrong, fit, names, parameters, plain
from playground.models import Route, Variant

MAX_BYTES = 1_000_000  # about a thousand variants
MAX_VARIANTS = 2_000
MAX_MICROS = 1000 * MICROS_PER_USD
MAX_PROBLEMS = 50

_SLUG = re.compile(r"[-a-zA-Z0-9_]{1,160}")
_PROVIDER = re.compile(r"[-a-zA-Z0-9_]{1,40}")
_HEADER = re.compile(r"^\s*\[\[\s*models\s*\.\s*variants\s*\]\]")
_MODEL_KEYS = {"maker", "family", "parameters", "variants"}
_VARIANT_KEYS = {
    "name", "slug", "label", "kind", "resolution", "blurb", "on", "usd", "credits", "from", "later", "parameters",
    "routes", "position", "without", "aliases",
}  # fmt: skip
_PRICE_KEYS = {"usd", "credits", "from"}
_ROUTE_KEYS = {"provider", "model", "fixed", "cost_usd", "ignores", "position"}


@dataclass(frozen=True)
class PriceEntry:
    """In force from `starts`; None: from the moment when the file is taken."""

    micros: int
    starts: datetime | None


@dataclass(frozen=True)
class RouteEntry:
    provider: str
    upstream_model: str
    fixed: dict[str, Any]
    ignores: list[str]
    cost_micros: int
    position: int | None = None


def new_route(variant: Variant | None, entry: RouteEntry, place: int) -> Route:
    """Not saved yet."""
    return Route(
        variant=variant,
        provider=entry.provider,
        upstream_model=entry.upstream_model,
        fixed=entry.fixed,
        ignores=entry.ignores,
        cost_micros=entry.cost_micros,
        position=place if entry.position is None else entry.position,
    )


@dataclass(frozen=True)
class Entry:
    """One variant of the file. `later` and `routes` are None where the file is silent about them."""

    slug: str
    fields: dict[str, Any]
    price: PriceEntry | None
    later: list[PriceEntry] | None
    routes: list[RouteEntry] | None
    without: list[str] = field(default_factory=list)


class NotACatalogue(ValueError):
    """What is wrong with a file: `problems`, each in plain words with its place."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = list(problems)
        super().__init__("; ".join(self.problems))


# --- Reading ------------------------------------------------------------------------------------------
def read(data: bytes | str) -> list[Entry]:
    """The variants of a file in its order. Raises NotACatalogue with everything that is wrong, at most 50 mistakes."""
    text = _text(data)
    models = _models(_parsed(text))
    lines = [number for number, line in enumerate(text.split("\n"), 1) if _HEADER.match(line)]
    entries: list[Entry] = []
    problems: list[str] = []
    found = list(_variants(models, problems))
    if len(found) > MAX_VARIANTS:
        raise NotACatalogue([f"It has {len(found):,} variants, and {MAX_VARIANTS:,} are the most."])
    has_lines = len(lines) == len(found)
    for at, (place, model, variant) in enumerate(found):
        where = f"line {lines[at]}, {place}" if has_lines else place
        try:
            entries.append(_entry(model, variant, position=at))
        except Wrong as wrong:
            problems.append(f"{where}: {wrong}")
    problems += _twice(entries)
    if problems:
        raise NotACatalogue(_few(problems))
    return entries


def _few(problems: Sequence[str]) -> list[str]:
    rest = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], *([f"And {rest} more."] if rest > 0 else [])]


def _text(data: bytes | str) -> str:
    size = len(data) if isinstance(data, bytes) else len(data.encode(errors="replace"))
    if size > MAX_BYTES:
        raise NotACatalogue([f"The file has {size:,} bytes, and {MAX_BYTES:,} are the most."])
    try:
        return data.decode("utf-8-sig") if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        raise NotACatalogue([f"The file is not text in UTF-8: see byte {error.start:,}."]) from None


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except RecursionError:
        raise NotACatalogue(["It is nested too deeply."]) from None
    except (ValueError, ArithmeticError) as error:
        raise NotACatalogue([f"The file is not TOML: {str(error)[:300]}."]) from None


def _models(catalogue: dict[str, Any]) -> list[dict[str, Any]]:
    if unknown := sorted(catalogue.keys() - {"models"}):
        raise NotACatalogue(
            [f"“{unknown[0][:60]}” at the top is not known here; a catalogue has [[models]]."]
        )
    models = catalogue.get("models")
    if not isinstance(models, list) or not models or not all(isinstance(model, dict) for model in models):
        raise NotACatalogue(["There is no [[models]] in it."])
    return models


def _variants(
    models: Sequence[dict[str, Any]], problems: list[str]
) -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Each variant with its place and its model; a model that is wrong is a problem, once."""
    for number, model in enumerate(models, 1):
        variants = model.get("variants")
        if not isinstance(variants, list) or not all(isinstance(variant, dict) for variant in variants):
            problems.append(f"model {number}: has no [[models.variants]]")
            continue
        if unknown := sorted(model.keys() - _MODEL_KEYS):
            problems.append(f"model {number}: “{unknown[0][:60]}” is not known here")
        for place, variant in enumerate(variants, 1):
            name = variant.get("label", variant.get("name"))
            called = f" ({name[:60]})" if isinstance(name, str) else ""
            yield f"model {number}, variant {place}{called}", model, variant


def _twice(entries: Sequence[Entry]) -> list[str]:
    seen: set[str] = set()
    twice = dict.fromkeys(entry.slug for entry in entries if entry.slug in seen or seen.add(entry.slug))  # type: ignore[func-returns-value]
    return [f"{slug}: is in the file more than once" for slug in twice]


def slug_of(maker: str, name: str) -> str:
    """The published rule: the maker, then the maker's own full name for the variant, in lower case and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", f"{maker} {maker} {name}".lower()).strip("-")


def _entry(model: dict[str, Any], variant: dict[str, Any], *, position: int) -> Entry:
    _known(variant, _VARIANT_KEYS)
    maker, name = _words(model, "maker"), _words(variant, "name")
    is_live = _flag(variant, "on", True)
    slug = _slug(variant, maker, name)
    price = _price(variant) if "usd" in variant else None
    if price is None and ((is_live and "later" not in variant) or variant.keys() & {"credits", "from"}):
        raise Wrong('needs a price: usd = "0.035"; or on = false, or later = [...]')
    fields = {
        "name": name,
        "label": _words(variant, "label", name[:60]),
        "maker": maker,
        "family": _words(model, "family"),
        "kind": _kind(variant),
        "resolution": _words(variant, "resolution", ""),
        "blurb": _words(variant, "blurb"),
        "parameters": parameters(_table(model, "parameters") | _table(variant, "parameters")),
        "position": _position(variant, position),
        "is_live": is_live,
    }
    if "aliases" in variant:  # a file that is silent about them leaves them as they are
        fields["aliases"] = _names(variant, "aliases")
    return Entry(slug, fields, price, _later(variant), _routes(variant, slug, price), _without(variant))


def _known(row: dict[str, Any], keys: set[str]) -> None:
    if unknown := sorted(row.keys() - keys):
        raise Wrong(f"“{unknown[0][:60]}” is not known here")


def _words(row: dict[str, Any], key: str, default: str | None = None) -> str:
    """A text that fits its column. Without a default it must be there, and not be empty."""
    value = row.get(key, default)
    if not isinstance(value, str):
        raise Wrong(f"{key} is missing" if value is None else f"{key} must be text in quotes")
    most = Variant._meta.get_field(key).max_length or 0  # type: ignore[union-attr]
    if len(value) > most:
        raise Wrong(f"{key} has {len(value)} characters, and {most} are the most")
    fit(value, key)
    if default is None and not value.strip():
        raise Wrong(f"{key} is empty")
    return value


def _flag(row: dict[str, Any], key: str, default: bool) -> bool:
    value = row.get(key, default)
    if not isinstance(value, bool):
        raise Wrong(f"{key} must be true or false")
    return value


def _slug(variant: dict[str, Any], maker: str, name: str) -> str:
    slug = variant.get("slug") or slug_of(maker, name)
    if not isinstance(slug, str) or not _SLUG.fullmatch(slug):
        raise Wrong("slug must have only a to z, digits, hyphens and underscores, at most 160")
    return slug


def _kind(variant: dict[str, Any]) -> str:
    kind = variant.get("kind")
    if kind not in Variant.Kind.values:
        raise Wrong(f"kind must be {' or '.join(Variant.Kind.values)}")
    return str(kind)


def _position(row: dict[str, Any], default: int) -> int:
    value = row.get("position", default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_POSITION:
        raise Wrong(f"position must be a whole number from 0 to {MAX_POSITION:,}")
    return value


# --- Money and time -----------------------------------------------------------------------------------
def _price(row: dict[str, Any]) -> PriceEntry:
    micros = _micros(row, "usd", least=1)
    if "credits" in row and _decimal(row, "credits") * MICROS_PER_CREDIT != micros:
        raise Wrong(f"{row['credits']} credits are not {row['usd']} US dollars")
    return PriceEntry(micros, _moment(row["from"]) if "from" in row else None)


def _later(variant: dict[str, Any]) -> list[PriceEntry] | None:
    if "later" not in variant:
        return None
    rows = _tables(variant, "later")
    for row in rows:
        _known(row, _PRICE_KEYS)
        if "from" not in row or "usd" not in row:
            raise Wrong("each of its later prices needs usd and from")
    prices = [_price(row) for row in rows]
    if len({price.starts for price in prices}) < len(prices):
        raise Wrong("two of its later prices begin at the same time")
    return prices


def _micros(row: dict[str, Any], key: str, *, least: int = 0) -> int:
    micros = _decimal(row, key) * MICROS_PER_USD
    if not least <= micros <= MAX_MICROS or micros != int(micros):
        more = "more than 0" if least else "at least 0"
        raise Wrong(
            f"{key} must be {more}, at most 1000, with at most six decimals, not {str(row[key])[:40]}"
        )
    return int(micros)


def _decimal(row: dict[str, Any], key: str) -> Decimal:
    value = row[key]
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
            raise InvalidOperation
        found = Decimal(value.strip() if isinstance(value, str) else value)
    except (InvalidOperation, ValueError):
        raise Wrong(f'{key} must be an amount such as "0.035"') from None
    if not found.is_finite() or found.adjusted() > 12 or len(found.as_tuple().digits) > 30:
        raise Wrong(f'{key} must be an amount such as "0.035", not {str(value)[:40]}')
    return found


def _moment(value: Any) -> datetime:
    """A day is its midnight in UTC, as is a time without a zone."""
    if isinstance(value, datetime):
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise Wrong("from must be a date without quotes: 2026-12-01, or 2026-12-01T09:00:00Z")


# --- Routes and parameters ----------------------------------------------------------------------------
def _routes(variant: dict[str, Any], slug: str, price: PriceEntry | None) -> list[RouteEntry] | None:
    if "routes" not in variant:
        return None
    routes = [_route(row, slug, price) for row in _tables(variant, "routes")]
    if len({route.provider for route in routes}) < len(routes):
        raise Wrong("two routes to one upstream")
    return routes


def _route(row: dict[str, Any], slug: str, price: PriceEntry | None) -> RouteEntry:
    _known(row, _ROUTE_KEYS)
    provider, model = row.get("provider"), row.get("model", slug)
    if not isinstance(provider, str) or not _PROVIDER.fullmatch(provider) or provider == "sandbox":
        raise Wrong("each route needs a provider: aigenerate, kie, bfl, openai, or one of yours")
    if not isinstance(model, str) or not 0 < len(model) <= MAX_NAME:
        raise Wrong(f"the route to {provider} has a model that is no name of at most {MAX_NAME} characters")
    fit(model, f"the model of the route to {provider}")
    if price is None and "cost_usd" not in row:
        raise Wrong(f"without a price, its route to {provider} needs a cost_usd")
    cost = _micros(row, "cost_usd") if "cost_usd" in row else price.micros if price else 0
    position = _position(row, 0) if "position" in row else None
    return RouteEntry(provider, model, _table(row, "fixed"), _names(row, "ignores"), cost, position)


def _without(variant: dict[str, Any]) -> list[str]:
    return _names(variant, "without")


def _names(row: dict[str, Any], key: str) -> list[str]:
    return names(row.get(key, []), key)


def _tables(row: dict[str, Any], key: str) -> list[dict[str, Any]]:
    rows = row[key]
    if not isinstance(rows, list) or len(rows) > 50 or not all(isinstance(one, dict) for one in rows):
        raise Wrong(f"{key} must be a list of at most 50 tables")
    return rows


def _table(row: dict[str, Any], key: str) -> dict[str, Any]:
    """A table of plain values; or the same as JSON in a text, for what TOML has no word for, such as null."""
    value = row.get(key, {})
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise Wrong(f"{key} is text, but not JSON") from None
    if not isinstance(value, dict):
        raise Wrong(f"{key} must be a table")
    return plain(value, key)
