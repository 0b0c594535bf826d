"""A provider's side of a conversation: what it makes of one answer, in words that a payload file can hold."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from playground import net
from playground.providers.base import Input, Order, Provider, ProviderError, Report, Started
from tests.canned import Canned, reply

ORDER = Order(
    job_id="018f3e2a-7c1b-7c3d-9e4f-a0b1c2d3e4f5",
    model="flux-2-pro",
    prompt="a fox in the snow",
    aspect_ratio="16:9",
    resolution="1K",
    width=1360,
    height=768,
    seed=7,
)


def asked(ask: Callable[[net.Client], Awaitable[Any]], client: net.Client | None = None) -> Any:
    """What `ask` gives, or the ProviderError that it raises."""

    async def conversation() -> Any:
        async with client or net.client(allowed_hosts=[]) as http:
            return await ask(http)

    try:
        return asyncio.run(conversation())
    except ProviderError as error:
        return error


def create(provider: Provider, order: Order = ORDER, client: net.Client | None = None) -> Any:
    return asked(lambda http: provider.create(http, order), client)


def look(
    provider: Provider, upstream_id: str = "task_1", memo: str = "", client: net.Client | None = None
) -> Any:
    return asked(lambda http: provider.look(http, upstream_id, memo), client)


def balance(provider: Provider, client: net.Client | None = None) -> Any:
    return asked(provider.balance, client)


def picture(name: str = "fox.jpg", data: bytes = b"\xff\xd8\xff a fox", **more: Any) -> Input:
    return Input(name=name, content_type="image/jpeg", width=640, height=480, data=data, **more)


# --- Payload files ------------------------------------------------------------------------------------
def payloads(provider: str) -> list[Path]:
    return sorted((Path(__file__).parent / "payloads" / provider).glob("*.json"))


def understood(provider: Provider, payload: dict[str, Any]) -> dict[str, Any]:
    """What `provider` makes of a payload's answer."""
    body = payload["body"] if isinstance(payload["body"], str) else json.dumps(payload["body"])
    canned = Canned(lambda _: reply(payload["status"], headers=payload["headers"], text=body))
    match payload["asks"]:
        case "create":
            return summary(create(provider, replace(ORDER, **payload.get("order", {})), canned))
        case "look":
            return summary(look(provider, memo=payload.get("memo", ""), client=canned))
        case "balance":
            return summary(balance(provider, canned))
        case "upload":
            uploads: Any = provider
            return summary(asked(lambda http: uploads._uploads.address(http, picture(), within_s=5), canned))
    raise AssertionError(f"nobody asks for {payload['asks']}")


def summary(got: Any) -> dict[str, Any]:
    """An outcome in the words of the payload files."""
    match got:
        case Started():
            known = {"memo": got.memo, "cost_micros": got.cost_micros}
            return {
                "id": got.upstream_id,
                **known,
                "picture_bytes": len(got.picture) if got.picture else None,
            }
        case ProviderError():
            return {"raises": type(got).__name__, **vars(got)}
        case Report():
            return {**vars(got), "urls": list(got.urls)}
    return {"balance": got, "url": got}
