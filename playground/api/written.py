"""JSON as callers write it, and nothing in it that a database or a log could not keep."""

import json
import math
from typing import Any

from playground.api.errors import Problem

DEEPEST = 20


def read(text: str | bytes, at: str = "", *, depth: int = 0) -> Any:
    """`at`: what names the place of the text in messages, `depth`: how deep it lies. Raises Problem; ValueError for
    what is not JSON."""
    try:
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deep") from None
    check(value, at, depth)
    return value


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def check(value: Any, at: str, depth: int = 0) -> None:
    """Raises Problem."""
    if depth > DEEPEST:
        raise Problem("invalid_json", f"The body is nested more than {DEEPEST} deep.")
    if isinstance(value, dict):
        for name, inner in value.items():
            check(name, at, depth + 1)
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
