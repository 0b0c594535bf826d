"""The catalogue: every model with its price and what it takes, in the shape of OpenAI's list.

For everybody, like the price page; but a key that is sent must be a good one.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Min
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response, patch_vary_headers
from ninja import Path, Router, Schema
from pydantic import Field

from accounts import credits
from playground import catalog
from playground.api import ordering
from playground.api.auth import Bearer
from playground.models import Price, Variant

CACHE = "public, max-age=60"
_bearer = Bearer()


class Pricing(Schema):
    usd: str = Field(description="US dollars a picture, exact.", examples=["0.0350"])
    credits: float = Field(description="Credits a picture; 1 credit is $0.007.")
    micro_usd: int = Field(description="Millionths of a US dollar a picture.")


class Bounds(Schema):
    min: int
    max: int


class Parameters(Schema):
    prompt: Bounds = Field(description="Characters.")
    input_images: Bounds
    aspect_ratios: list[str]
    resolutions: list[str] = Field(description="Empty where the model decides.")
    seed: bool = Field(description="Whether a seed reaches the model.")
    output_formats: list[str]


class Model(Schema):
    id: str
    object: str = "model"
    created: int = Field(description="Unix seconds.")
    owned_by: str
    name: str
    description: str
    kind: str = Field(description="text-to-image or image-to-image.")
    family: str
    resolution: str = Field(description="1K, 2K, or empty where the model decides.")
    aliases: list[str] = Field(
        description="Other names that mean it; `resolution` chooses among those of one name."
    )
    is_available: bool = Field(description="Whether it can be ordered at the moment.")
    pricing: Pricing
    parameters: Parameters


class ModelsReply(Schema):
    object: str = "list"
    data: list[Model]


@dataclass(frozen=True)
class Listing:
    """What is on offer, written out once for all who ask while it is the same."""

    variants: Sequence[Variant]
    entries: dict[str, dict[str, Any]]
    body: bytes


_listing = Listing([], {}, b"")


def new_router(prefix: str = "") -> Router:
    """One for each place that the routes are at. `prefix` tells their operations apart."""
    router = Router(tags=["Models"], auth=None)
    router.get("/models", response={200: ModelsReply}, operation_id=f"{prefix}listModels")(models)
    router.get("/models/{path:model_id}", response={200: Model}, operation_id=f"{prefix}getModel")(model)
    return router


def models(request: HttpRequest) -> HttpResponseBase:
    """Every model on offer, cheapest first. No key is needed."""
    _check_key(request)
    return _answer(request, listing().body)


def model(
    request: HttpRequest, model_id: str = Path(..., description="An id of the list, or one of its aliases.")
) -> HttpResponseBase:
    """One model. No key is needed."""
    _check_key(request)
    entries = listing().entries
    entry = entries.get(model_id) or entries[ordering.variant_of(model_id, "", has_inputs=False).slug]
    return _answer(request, _written(entry))


def _check_key(request: HttpRequest) -> None:
    """Raises Problem for a key that does not work: whoever sends one wants to know."""
    if request.headers.get("Authorization", "").strip():
        _bearer(request)


def _answer(request: HttpRequest, body: bytes) -> HttpResponseBase:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    response = get_conditional_response(request, etag=etag) or HttpResponse(
        body, content_type="application/json"
    )
    response["ETag"] = etag
    response["Cache-Control"] = CACHE
    patch_vary_headers(response, ["Authorization"])
    return response


# --- What is on offer ---------------------------------------------------------------------------------
def listing() -> Listing:
    """Made anew when `catalog` has read anew, which it does at most once a second."""
    global _listing
    variants = catalog.on_offer()
    if variants is not _listing.variants:
        since = {row["variant"]: row["since"] for row in _since()}
        entries = {
            variant.slug: _entry(variant, int(since[variant.pk].timestamp()))
            for variant in variants
            if variant.price_micros is not None
        }
        body = _written({"object": "list", "data": list(entries.values())})
        _listing = Listing(variants, entries, body)
    return _listing


def _since() -> Any:
    """When each variant was first for sale."""
    return Price.objects.order_by().values("variant").annotate(since=Min("starts"))


def _written(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _entry(variant: Variant, created: int) -> dict[str, Any]:
    micros = catalog.price_of(variant)
    return {
        "id": variant.slug,
        "object": "model",
        "created": created,
        "owned_by": variant.maker,
        "name": variant.label,
        "description": variant.blurb,
        "kind": variant.kind,
        "family": variant.family,
        "resolution": variant.resolution,
        "aliases": variant.aliases,
        "is_available": not catalog.why_not(variant, inputs=None),
        "pricing": {
            "usd": credits.price(micros).removeprefix("$").replace(",", ""),
            "credits": round(micros / credits.MICROS_PER_CREDIT, 4),
            "micro_usd": micros,
        },
        "parameters": _parameters(variant),
    }


def _parameters(variant: Variant) -> dict[str, Any]:
    bounds = variant.parameters.get("prompt", {})
    return {
        "prompt": {"min": bounds.get("min", 1), "max": bounds.get("max", 5000)},
        "input_images": {"min": variant.fewest_inputs, "max": variant.most_inputs},
        "aspect_ratios": [*variant.aspect_ratios, *([catalog.AUTO] if variant.most_inputs else [])],
        "resolutions": [variant.resolution] if variant.resolution else [],
        "seed": catalog.takes_seed(variant),
        "output_formats": list(dict.fromkeys(ordering.FORMATS.values())),
    }
