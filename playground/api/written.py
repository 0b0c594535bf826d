"""JSON as callers write it, and nothing in it that a database or a log could not keep."""

import json
import math
from typing import Any

from playground.api.errors import Problem

DEEPEST = 20
MOST_DIGITS = 1000


def read(text: str | bytes, at: str = "", *, depth: int = 0) -> Any:
    """`at`: what names the place of the text in messages, `depth`: how deep it lies. Raises Problem; ValueError for
    what is not JSON."""
    try:
        value = json.loads(text, parse_int=_whole, parse_constant=_no_number, object_pairs_hook=_once_each)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg}, in line {error.lineno}, column {error.colno}") from None
    check(value, at, depth)
    return value


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number in it has more than {MOST_DIGITS:,} digits")
    return int(text)


def _no_number(text: str) -> None:
    raise ValueError(f"it has no {text}")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of a name that comes twice nobody could say which one is meant, and what it is to cost."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            _check_text(name, "body")
            raise Problem("invalid_parameter", f"{name[:100]} is there twice.", param=name[:100])
        found[name] = value
    return found


def check(value: Any, at: str, depth: int = 0) -> None:
    """Raises Problem."""
    if depth > DEEPEST:
        raise Problem("invalid_json", f"The body is nested more than {DEEPEST} deep.")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check_text(name, at or "body")
            check(inner, f"{at}.{name}".strip("."), depth + 1)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            check(inner, f"{at}[{number}]", depth + 1)
    elif isinstance(value, str):
        _check_text(value, at)
    elif isinstance(value, float) and not math.isfinite(value):
        raise Problem("invalid_parameter", "This number is too large.", param=at)


def _check_text(value: str, at: str) -> None:
    try:
        value.encode()
        is_bad = "\x00" in value
    except UnicodeEncodeError:
        is_bad = True
    if is_bad:
        raise Problem("invalid_parameter", "It has a character in it that cannot be sent.", param=at[:100])
