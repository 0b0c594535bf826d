"""What pydantic finds wrong with a body, as a Problem that names the field."""

from collections.abc import Mapping
from typing import Any

from playground.api.errors import Problem


def of_body(found: Mapping[str, Any]) -> Problem:
    """`found` is one of pydantic's errors, or of ninja's, whose place begins with where the value was read from."""
    param = _param(found["loc"])
    if found["type"] == "missing":
        return Problem("missing_parameter", f"{param} is missing.", param=param)
    if found["type"] == "extra_forbidden":
        return Problem("unknown_parameter", f"This call has no parameter {param}.", param=param)
    said = str(found["msg"]).removeprefix("Value error, ")
    return Problem("invalid_parameter", f"{param}: {said[:1].lower()}{said[1:]}.", param=param)


def _param(loc: tuple[Any, ...]) -> str:
    """`input.input_urls[0]`, without ninja's words for the whole body."""
    place = list(loc)
    if place and place[0] in ("body", "query", "form", "file", "path", "header"):
        place = place[2:] if place[0] == "body" and len(place) > 1 and place[1] == "body" else place[1:]
    said = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    return said.strip(".")[:100] or "body"
