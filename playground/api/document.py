"""The OpenAPI document, completed with what every route has in common, and the list of routes made from it."""

from dataclasses import dataclass
from typing import Any

from playground.api import envelopes, idempotency, ordering
from playground.api.errors import KINDS, Kind
from playground.api.schemas import Failure, OpenAIFailure

_HEADERS = {"X-Request-Id": {"description": "Names this call to us.", "schema": {"type": "string"}}}
# Of the routes that make pictures.
_MAKING = {"createTask", "kontextGenerate"} | {
    f"{prefix}_images_{path}" for prefix in ("openai", "api") for path in ("generations", "edits")
}
_MAKING_TAKES = [
    {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "Your own name for this call: a repeat gets its reply, and makes nothing.",
        "schema": {"type": "string", "maxLength": idempotency.MOST},
    },
    {
        "name": "X-Test-Outcome",
        "in": "header",
        "description": "How the call is to end. For test keys only.",
        "schema": {"type": "string", "enum": list(ordering.OUTCOMES)},
    },
]
_MAKING_SAYS = {
    "X-AI-Task-Id": {"description": "The tasks, with commas between.", "schema": {"type": "string"}},
    "Idempotent-Replayed": {"description": "Where it is the reply of before.", "schema": {"const": "true"}},
    "RateLimit": {"description": "What is left for this key.", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "What there is for a key.", "schema": {"type": "string"}},
}
# What can go wrong, as codes of the table of errors: with any call, and beside that by what its path ends with.
_ANY = "bad_request missing_api_key invalid_api_key too_large rate_limit_exceeded unavailable internal_error"
_FORM = "missing_parameter invalid_parameter unknown_parameter unsupported_media_type"
_JSON = f"invalid_json {_FORM}"
_PICTURES = "input_refused quota_reached"
_ORDER = f"""
    model_not_found insufficient_credits spend_cap_reached idempotency_in_flight idempotency_conflict {_PICTURES}
"""
_WAIT = "not_found moderated generation_failed still_running"
_FAILURES = {
    "/jobs/createTask": f"{_JSON} {_ORDER}",
    "/jobs/recordInfo": "missing_parameter not_found",
    "/jobs/cancel": f"{_JSON} not_found not_cancellable",
    "/jobs": "invalid_parameter",
    "/kontext/generate": f"{_JSON} {_ORDER}",
    "/kontext/record-info": "missing_parameter not_found",
    "/images/generations": f"{_JSON} {_ORDER} {_WAIT}",
    "/images/edits": f"{_FORM} {_ORDER} {_WAIT}",
    "/images/variations": "not_found",
    "/chat/credit": "",
    "/common/download-url": f"{_JSON} not_found",
    "/models": "",
    "/models/{model_id}": "model_not_found invalid_parameter",
    "/file-stream-upload": f"{_FORM} {_PICTURES}",
    "/file-base64-upload": f"{_JSON} {_PICTURES}",
    "/file-url-upload": f"{_JSON} {_PICTURES}",
}


@dataclass(frozen=True)
class Row:
    """One route, as the page lists it."""

    method: str
    path: str
    says: str
    tag: str


@dataclass(frozen=True)
class Parameter:
    """One field of a body, as the page lists it. `is_used`: whether it changes anything."""

    name: str
    says: str
    is_required: bool
    is_used: bool


def complete(schema: dict[str, Any]) -> dict[str, Any]:
    """Adds the errors of each route's family, and the headers that calls take and replies have."""
    known = schema["components"]["schemas"]
    for model in (Failure, OpenAIFailure):
        described = model.model_json_schema(ref_template="#/components/schemas/{model}")
        known |= described.pop("$defs", {})
        known[model.__name__] = described
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            _complete(operation, path)
    return schema


def _complete(operation: dict[str, Any], path: str) -> None:
    responses = operation["responses"]
    if operation["tags"] == ["Models"]:
        responses[304] = {"description": "It is what your If-None-Match names."}
    responses |= _failures(path)
    for parameter in operation["parameters"]:
        if parameter["name"] == "taskId":  # the routes themselves say that it is missing, in kie.ai's words
            parameter["required"] = True
            del parameter["schema"]["default"]
    for response in responses.values():
        response["headers"] = {**_HEADERS, **response.get("headers", {})}
    if operation["operationId"] in _MAKING:
        operation["parameters"] = [*operation["parameters"], *_MAKING_TAKES]
        responses[200]["headers"] |= _MAKING_SAYS


def _failures(path: str) -> dict[int, Any]:
    """Every status that a call may fail with, and which errors have it there."""
    is_openai = envelopes.is_openai(path)
    failure = (OpenAIFailure if is_openai else Failure).__name__
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{failure}"}}}
    [codes] = [codes for end, codes in _FAILURES.items() if path.endswith(end)]
    found: dict[int, list[Kind]] = {}
    for kind in (KINDS[code] for code in f"{_ANY} {codes}".split()):
        found.setdefault((kind.openai_status if is_openai else 0) or kind.status, []).append(kind)
    return {
        status: {
            "description": " ".join(f"`{kind.code}`: {kind.meaning}" for kind in kinds),
            "content": content,
        }
        for status, kinds in sorted(found.items())
    }


def routes(schema: dict[str, Any]) -> list[Row]:
    """What the document has, in its order."""
    return [
        Row(method.upper(), path, _first_line(operation), operation["tags"][0])
        for path, operations in schema["paths"].items()
        for method, operation in operations.items()
    ]


def parameters(schema: dict[str, Any], body: str) -> list[Parameter]:
    """The fields of a body of the document, in its order."""
    described = schema["components"]["schemas"][body]
    return [
        Parameter(
            name, said, name in described.get("required", []), not said.startswith("Taken and not used")
        )
        for name, said in (
            (name, one.get("description", "")) for name, one in described["properties"].items()
        )
    ]


def _first_line(operation: dict[str, Any]) -> str:
    return str(operation.get("description", "")).partition("\n")[0]
