"""What every provider needs to speak with a host: a line to it, and a sceptical reading of what it says."""

import json
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from playground.net import Client, NoAnswer, NotSent, Reply
from playground.providers.base import OutcomeUnknown, TryLater

MODERATED = re.compile(
    r"nsfw|moderat(ed|ion)|(?<!case[ -])sensitive|flagged|inappropriate|sexual|prohibited content|敏感"
    r"|content[ _-](policy|filter)|safety (system|filter|check)|(violat|against).{0,40}(polic|guideline|terms)",
    re.IGNORECASE,
)
# 4xx of proxies and of servers that got stuck: the request may have been taken.
LOST = {408, 409, 499}
_LONGEST_ID = 200
_MOST_MICROS = 10**9  # $1,000 for one picture is no price

logger = logging.getLogger(__name__)


class Line:
    """One host and the key that it knows us by. `headers`: how that key is sent."""

    def __init__(self, *, name: str, base_url: str, api_key: str, headers: Mapping[str, str]) -> None:
        if not api_key.isascii() or not api_key.isprintable():
            raise ValueError(f"The API key of {name} has characters that cannot be sent.")
        self.base_url = base_url.rstrip("/")
        self._api_key = api_key
        self._headers = dict(headers)

    async def ask(self, http: Client, method: str, url: str, *, within_s: float, **more: Any) -> Reply:
        """TryLater where nothing was sent, OutcomeUnknown where no whole answer came back.

        `url` may be a path below the base address.
        """
        url = self.base_url + url if url.startswith("/") else url
        try:
            return await http.ask(method, url, headers=self._headers, within_s=within_s, **more)
        except NotSent as error:
            raise TryLater(self.clean(f"Not reached: {error}")) from None
        except NoAnswer as error:
            raise OutcomeUnknown(self.clean(f"No answer: {error}")) from None

    async def read(self, http: Client, url: str, *, within_s: float, **more: Any) -> Reply:
        """A GET, which may be repeated: TryLater whatever went wrong."""
        try:
            return await self.ask(http, "GET", url, within_s=within_s, **more)
        except OutcomeUnknown as lost:
            raise TryLater(lost.detail) from None

    def clean(self, text: str) -> str:
        """At most 300 printable characters, without our key, should an upstream repeat it to us, in whichever case."""
        text = re.sub(re.escape(self._api_key), "[key]", text, flags=re.IGNORECASE) if self._api_key else text
        return " ".join("".join(c if c.isprintable() else " " for c in text[:5000]).split())[:300]


@lru_cache(maxsize=100)
def log_unknown_state(provider: str, word: str) -> None:
    """Once for each word, or a new word upstream would fill the log at every look."""
    logger.warning("%s: state %r is not known here; read as still running", provider, word)


# --- Bodies -------------------------------------------------------------------------------------------
def with_fixed(body: Mapping[str, Any], fixed: Mapping[str, Any], *, keep: set[str]) -> dict[str, Any]:
    """`body` as a route changes it: `fixed` adds and replaces, and drops what it sets to None; but never what we `keep`."""
    changed = {**body, **{name: value for name, value in fixed.items() if name not in keep}}
    return {name: value for name, value in changed.items() if value is not None}


def parse(text: str | bytes) -> dict[str, Any]:
    """The JSON object in `text`; an empty one where there is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def opened(value: Any) -> dict[str, Any]:
    """An object that may have come as JSON in a string; an empty one where it is neither."""
    if isinstance(value, str):
        return parse(value)
    return value if isinstance(value, dict) else {}


def number(value: Any) -> int | None:
    """A whole number that may have come as text."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def percent(value: Any) -> int | None:
    found = number(value)
    return found if found is not None and 0 <= found <= 100 else None


def amount(value: Any) -> Decimal | None:
    """A number of credits or dollars, which may have come as text; None where it is none."""
    if not isinstance(value, int | float | str):
        return None
    try:
        found = Decimal(str(value)[:40])
    except InvalidOperation:
        return None
    # By its exponent: to compare 1e999999999 with anything overflows.
    return found if found.is_finite() and found.adjusted() < 12 else None


def credits_left(value: Any) -> str:
    """A balance in words, to the hundredth; "" where it is no number."""
    found = amount(value)
    return "" if found is None else f"{round(found, 2).normalize():,f} credits"


def micros(value: Any, *, micros_each: int) -> int | None:
    """Micro-dollars for an amount of units that are worth `micros_each`; None where it cannot be a picture's cost."""
    units = amount(value)
    if units is None or units < 0 or units * micros_each > _MOST_MICROS:
        return None
    return round(units * micros_each)


def web_address(value: Any) -> str:
    """`value` if it looks like the address of a file, else ""."""
    is_one = isinstance(value, str) and value.isprintable() and re.fullmatch(r"https?://\S{1,2000}", value)
    return value if is_one else ""


def identifier(value: Any) -> str:
    """`value` if it can be an upstream's id, else ""."""
    if not isinstance(value, str) or not value.isprintable():
        return ""
    found = value.strip()
    return found if len(found) <= _LONGEST_ID else ""


def wording(value: Any) -> str:
    """An upstream's explanation, whatever its shape: a text, FastAPI's list of complaints, or some object."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and any(isinstance(item, dict) and "msg" in item for item in value):
        return "; ".join(_complaint(item) for item in value[:10] if isinstance(item, dict))
    with suppress(RecursionError):
        return json.dumps(value)[:500] if value else ""
    return ""


def _complaint(item: Mapping[str, Any]) -> str:
    loc = item.get("loc")
    field = ".".join(str(part) for part in loc[-2:] if part != "body") if isinstance(loc, list) else ""
    return f"{field}: {item.get('msg')}" if field else str(item.get("msg"))
