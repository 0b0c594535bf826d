"""The OpenAPI document, completed with what every route has in common, and the list of routes made from it."""

from dataclasses import dataclass
from typing import Any

from playground.api import envelopes, idempotency, ordering
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
        failure = OpenAIFailure if envelopes.is_openai(path) else Failure
        for operation in operations.values():
            _complete(operation, failure.__name__)
    return schema


def _complete(operation: dict[str, Any], failure: str) -> None:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{failure}"}}}
    responses = operation["responses"]
    responses["4XX"] = {"description": "Nothing was made; see the table of errors.", "content": content}
    responses["5XX"] = {"description": "The trouble is ours, or the upstream's.", "content": content}
    for response in responses.values():
        response["headers"] = {**_HEADERS, **response.get("headers", {})}
    if operation["operationId"] in _MAKING:
        operation["parameters"] = [*operation["parameters"], *_MAKING_TAKES]
        responses[200]["headers"] |= _MAKING_SAYS


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
