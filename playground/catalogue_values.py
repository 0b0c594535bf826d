"""What a catalogue may hold, whoever writes it down: a file, or somebody at a form of the desk.

One rule for both, so that whatever is entered can be stored by either database, and comes back from its own file.
"""

import re
from decimal import Decimal
from typing import Any

MAX_DEPTH = 6
MAX_NAME = 200
MAX_POSITION = 1_000_000

_RATIO = re.compile(r"[1-9]\d{0,2}:[1-9]\d{0,2}")
_UNFIT = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class Wrong(ValueError):
    """One mistake, told without its place."""


def fit(text: str, key: str) -> str:
    """A text of one line."""
    if _UNFIT.search(text):
        raise Wrong(f"{key} has a character in it that cannot be shown")
    return text


def names(found: Any, key: str) -> list[str]:
    if not isinstance(found, list) or not all(
        isinstance(name, str) and 0 < len(name) <= MAX_NAME for name in found
    ):
        raise Wrong(f"{key} must be a list of names")
    return [fit(name, key) for name in found]


def plain(value: Any, key: str, depth: int = 0) -> Any:
    """As JSON has it: Decimals as floats again, and nothing that a database could not keep."""
    if depth > MAX_DEPTH:
        raise Wrong(f"{key} is nested too deeply")
    if isinstance(value, dict):
        return {plain(name, key, depth + 1): plain(inner, key, depth + 1) for name, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner, key, depth + 1) for inner in value]
    if isinstance(value, Decimal):
        value = float(value)
    is_finite = not isinstance(value, float) or abs(value) < 1e300
    is_small = not isinstance(value, int) or abs(value) < 2**53
    if (value is not None and not isinstance(value, str | bool | int | float)) or not (
        is_finite and is_small
    ):
        raise Wrong(f"{key} has a value in it that is neither text, nor a usual number, nor true or false")
    if isinstance(value, str) and (
        "\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value)
    ):
        raise Wrong(f"{key} has a character in it that cannot be kept")
    return value


def parameters(found: dict[str, Any]) -> dict[str, Any]:
    """The same, where pages and forms can be built from it (see playground/catalog.py); or ValueError in plain words."""
    ratios = found.get("aspect_ratios", [])
    if not isinstance(ratios, list) or not all(isinstance(r, str) and _RATIO.fullmatch(r) for r in ratios):
        raise Wrong('parameters: aspect_ratios must be a list such as ["1:1", "16:9"]')
    if not isinstance(found.get("seed", False), bool):
        raise Wrong("parameters: seed must be true or false")
    for name, most in (("prompt", 100_000), ("input_images", 100)):
        bounds = found.get(name, {})
        if not isinstance(bounds, dict) or (name in found and not _is_range(bounds, most)):
            raise Wrong(f"parameters: {name} must be {{ min = ..., max = ... }} with whole numbers")
    return found


def _is_range(bounds: dict[str, Any], most: int) -> bool:
    ends = [bounds.get("min"), bounds.get("max")]
    return all(type(end) is int and 0 <= end <= most for end in ends) and bounds["min"] <= bounds["max"]
