"""Any server with OpenAI's image routes, such as one that serves open weights on the operator's own machine.

`base_url` is what the `openai` client takes, so it ends in /v1 where the server's does. An image without inputs is
asked for at /images/generations, in JSON; one with inputs at /images/edits, as a form. There is nothing to look at
later: the answer holds the picture, or its address.

A route's `fixed` adds, replaces or (with null) drops a field: {"response_format": null} for servers that refuse it,
{"size": "auto"}, {"quality": "high"}. A seed is sent, which OpenAI itself refuses and open servers take: a route to
the former has "seed" among what it `ignores`.
"""

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, Literal

from playground import net
from playground.net import Client, Part, Reply, retry_after_s
from playground.providers.base import (
    Failure,
    Order,
    OutcomeUnknown,
    Rejected,
    Report,
    Started,
    State,
    TryLater,
)
from playground.providers.line import (
    LOST,
    MODERATED,
    Line,
    identifier,
    number,
    parse,
    web_address,
    with_fixed,
    wording,
)

# --- Their words to ours ------------------------------------------------------------------------------
# These are about the operator's key, balance, address or route. Which of the rest is moderation, its words tell.
OPERATORS = {301, 307, 308, 401, 402, 403, 404, 405}
OPERATORS_WORDS = {
    "access_terminated",
    "account_deactivated",
    "billing_hard_limit_reached",
    "billing_not_active",
    "insufficient_quota",
    "invalid_api_key",
    "model_not_found",
    "unknown_parameter",
    "unsupported_parameter",
}
BUSY = {425, 429}
BUSY_WORDS = {"rate_limit_exceeded", "rate_limit_error", "requests", "tokens"}
THEIR_FAULT_WORDS = {"server_error", "internal_error", "internal_server_error"}

CREATE_S = 110.0
LEAST_DOWNLOAD_S = 5.0
MOST_BYTES = 60_000_000
_LONGEST_MEMO = 500
_LONGEST_PREFIX = 120


class OpenAI:
    resend_is_safe = False
    longest_create_s: float = 120
    inputs_by: Literal["upload", "base64", "url"] = "base64"
    # Each answer holds a picture, and the whole drive waits for it. The operator may set another bound.
    most_at_once: Mapping[str, int] = {"": 16}

    def __init__(
        self, *, base_url: str, api_key: str, name: str = "openai", result_hosts: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.result_hosts = tuple(result_hosts)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._line = Line(name=name, base_url=base_url, api_key=api_key, headers=headers)

    async def create(self, http: Client, order: Order) -> Started:
        ends = asyncio.get_running_loop().time() + CREATE_S
        asked = fields(order)
        sent: dict[str, Any] = {"form": form(asked, order)} if order.inputs else {"json": asked}
        path = "/images/edits" if order.inputs else "/images/generations"
        reply = await self._line.ask(http, "POST", path, within_s=CREATE_S, limit_bytes=MOST_BYTES, **sent)
        said = parse(reply.body)
        upstream_id = f"{order.job_id}{self._their_id(reply, said)}"
        picture, url = results(said)
        if picture:
            return Started(upstream_id=upstream_id, picture=picture)
        if url and len(url) <= _LONGEST_MEMO:
            return Started(upstream_id=upstream_id, memo=url)
        if url:
            left_s = max(ends - asyncio.get_running_loop().time(), LEAST_DOWNLOAD_S)
            return Started(upstream_id=upstream_id, picture=await self._download(http, url, left_s))
        self._raise_refusal(reply, said)
        return Started(upstream_id=upstream_id)  # a success without a picture; `look` says so

    async def look(self, http: Client, upstream_id: str, memo: str = "") -> Report:
        if url := web_address(memo):
            return Report(state=State.SUCCEEDED, urls=(url,))
        return NO_PICTURE

    async def is_ours(self, http: Client, upstream_id: str, callback_url: str) -> bool:
        return False  # it calls nobody back

    async def draw(self, url: str) -> bytes | None:
        return None

    async def balance(self, http: Client) -> str:
        return ""  # these routes know none

    async def _download(self, http: Client, url: str, total_s: float) -> bytes:
        """A picture whose address is too long to be kept: now or never."""
        try:
            return await net.download(http, url, total_s=total_s, only_hosts=self.result_hosts)
        except net.NetError as error:
            raise OutcomeUnknown(self._line.clean(f"made, and not fetched: {error}")) from None

    def _raise_refusal(self, reply: Reply, said: Mapping[str, Any]) -> None:
        """Every error that an answer without a picture is; none for a success that merely lacks it."""
        error = error_in(said)
        words = wording(error.get("message")) or ("no JSON" if not said else "")
        code = " ".join(str(error[name]) for name in ("type", "code") if error.get(name))
        detail = self._line.clean(": ".join(filter(None, [f"HTTP {reply.status}", code, words])))
        is_success = 200 <= reply.status < 300
        # An error that comes with HTTP 200 may have its status inside.
        status = (number(error.get("code")) or reply.status) if is_success else reply.status
        labels = {str(error.get(name)).lower() for name in ("type", "code")}
        if failure := refusal(status, labels, words, is_said=bool(error) and is_success):
            raise Rejected(failure, detail)
        if status in BUSY or labels & BUSY_WORDS:
            raise TryLater(detail, retry_after_s=retry_after_s(reply.headers), is_well=True)
        if not is_success or "data" not in said:
            raise OutcomeUnknown(detail)

    def _their_id(self, reply: Reply, said: Mapping[str, Any]) -> str:
        """What they call it, for questions to them. It may not be unique, so it only follows our own id."""
        found = identifier(said.get("id")) or identifier(reply.headers.get("x-request-id", ""))
        return f".{self._line.clean(found)[:_LONGEST_PREFIX]}" if found else ""


NO_PICTURE = Report(state=State.FAILED, failure=Failure.NO_PICTURE, detail="the answer held no picture")


# --- What is sent -------------------------------------------------------------------------------------
def fields(order: Order) -> dict[str, Any]:
    asked = {
        "model": order.model,
        "prompt": order.prompt,
        "n": 1,
        "size": f"{order.width}x{order.height}",
        "response_format": "b64_json",
        "seed": order.seed,
    }
    return with_fixed(asked, order.fixed, keep={"model", "prompt", "n"})


def form(asked: Mapping[str, Any], order: Order) -> list[Part]:
    """The same fields as texts, with one picture as `image` and several as `image[]`, as OpenAI's own client does."""
    texts = [
        Part(name, value if isinstance(value, str) else json.dumps(value)) for name, value in asked.items()
    ]
    name = "image" if len(order.inputs) == 1 else "image[]"
    return texts + [
        Part(name, picture.data, filename=picture.name, content_type=picture.content_type)
        for picture in order.inputs
    ]


# --- What an answer says ------------------------------------------------------------------------------
def results(said: Mapping[str, Any]) -> tuple[bytes, str]:
    """The picture, or its address; b"" and "" where there is neither. We ask for one, and take the first."""
    data = said.get("data")
    first = data[0] if isinstance(data, list) and data else None
    if not isinstance(first, dict):
        return b"", ""
    if isinstance(text := first.get("b64_json"), str):
        text = re.sub(r"^data:image/[\w.+-]+;base64,", "", text[:64], count=1) + text[64:]
        try:
            return base64.b64decode(text, validate=True), web_address(first.get("url"))
        except (binascii.Error, ValueError):
            pass
    return b"", web_address(first.get("url"))


def error_in(said: Mapping[str, Any]) -> dict[str, Any]:
    """What the answer says went wrong, in OpenAI's words: {} where it says nothing. Open servers have other shapes."""
    match said.get("error"):
        case dict() as error:
            return error
        case str() as words if words:
            return {"message": words}
    if "detail" in said and "data" not in said:  # FastAPI's
        return {"message": said["detail"]}
    if (number(said.get("code")) or 200) >= 400:  # createTask's
        return {"message": said.get("msg") or said.get("message"), "code": said["code"]}
    # vLLM's older shape
    return {**said, "message": said.get("message")} if said.get("object") == "error" else {}


def refusal(status: int, labels: set[str], words: str, *, is_said: bool) -> Failure | None:
    """Why nothing was started; None where the answer does not say that. `is_said`: it is an error within HTTP 200."""
    if labels & OPERATORS_WORDS or status in OPERATORS:
        return Failure.UPSTREAM_UNAVAILABLE
    if status in BUSY or labels & BUSY_WORDS:
        return None
    is_refused = is_said or (400 <= status < 500 and status not in LOST)
    if is_refused and MODERATED.search(" ".join([*labels, words])):
        return Failure.MODERATED
    if is_refused and (status >= 500 or labels & THEIR_FAULT_WORDS):
        return Failure.UPSTREAM_FAILED
    return Failure.REJECTED if is_refused else None
