"""Black Forest Labs' own API: the model is the route, POST starts a task, get_result says where it is.

Every answer to a create names the address at which to ask for that task; it is kept, because only the region that
took a task knows it, and believed only where it leads back to this upstream: our key goes nowhere else. The answer to
a create with a webhook has none, so the global host, which may send a task to any region, gets no webhook.
"""

import base64
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from yarl import URL

from playground.net import Client, Reply, retry_after_s
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
    amount,
    credits_left,
    identifier,
    log_unknown_state,
    micros,
    parse,
    web_address,
    with_fixed,
    wording,
)

# --- Their words to ours ------------------------------------------------------------------------------
STATES = {
    "pending": State.RUNNING,
    "ready": State.SUCCEEDED,
    "error": State.FAILED,
    "request moderated": State.FAILED,
    "content moderated": State.FAILED,
}
# For some seconds after a create, and at once in another region than the one that took it: ask again.
NOT_YET = "task not found"
# These are about the operator's key, balance or address, whatever the message says.
OPERATORS = {301, 307, 308, 401, 402, 403, 404, 405}

GLOBAL_HOST = "api.bfl.ai"
CREDIT_MICROS = 10_000
CREATE_S, CREATE_WITH_INPUTS_S, LOOK_S = 30, 90, 15
_LONGEST_MEMO = 500
# Sizes: FLUX.2 makes at most 4 megapixels in steps of 16, FLUX.1 sides of 256 to 1440 in steps of 32.
FLUX_2_PIXELS, FLUX_2_STEP, FLUX_2_SHORTEST = 4 * 1024 * 1024, 16, 64
FLUX_1_LONGEST, FLUX_1_STEP, FLUX_1_SHORTEST = 1440, 32, 256


class BFL:
    resend_is_safe = False
    longest_create_s: float = CREATE_WITH_INPUTS_S
    inputs_by: Literal["upload", "base64", "url"] = "base64"
    most_at_once: Mapping[str, int] = {"": 24, "flux-kontext-max": 6}

    def __init__(
        self, *, base_url: str, api_key: str, name: str = "bfl", result_hosts: tuple[str, ...] = ("bfl.ai",)
    ) -> None:
        self.name = name
        self.result_hosts = tuple(result_hosts)
        base_url = base_url.rstrip("/").removesuffix("/v1")
        self._knows_region = f"//{GLOBAL_HOST}" not in base_url
        self._line = Line(name=name, base_url=base_url, api_key=api_key, headers={"x-key": api_key})

    async def create(self, http: Client, order: Order) -> Started:
        if not re.fullmatch(r"[\w.-]+", order.model, re.ASCII):
            detail = "the route's model name cannot be part of an address"
            raise Rejected(Failure.UPSTREAM_UNAVAILABLE, detail, is_about_job=True)
        within_s = CREATE_WITH_INPUTS_S if order.inputs else CREATE_S
        reply = await self._line.ask(
            http, "POST", f"/v1/{order.model}", within_s=within_s, json=self._body(order)
        )
        said = parse(reply.body)
        detail = self._detail(reply, said)
        if reply.status in (425, 429):
            raise TryLater(detail, retry_after_s=retry_after_s(reply.headers), is_well=True)
        if failure := refusal(reply.status, said):
            raise Rejected(failure, detail)
        if not (task_id := identifier(said.get("id"))):
            raise OutcomeUnknown(detail)
        polling_url, cost = said.get("polling_url"), micros(said.get("cost"), micros_each=CREDIT_MICROS)
        memo = polling_url if isinstance(polling_url, str) and self._is_theirs(polling_url) else ""
        return Started(upstream_id=task_id, memo=memo, cost_micros=cost)

    def _body(self, order: Order) -> dict[str, Any]:
        return body(order if self._knows_region else replace(order, callback_url=None))

    async def look(self, http: Client, upstream_id: str, memo: str = "") -> Report:
        if memo and self._is_theirs(memo):
            reply = await self._line.read(http, memo, within_s=LOOK_S)
        else:
            query = {"id": upstream_id}
            reply = await self._line.read(http, "/v1/get_result", within_s=LOOK_S, params=query)
        said = parse(reply.body)
        word = said.get("status")
        if not isinstance(word, str) or word.strip().lower() == NOT_YET:
            after_s = retry_after_s(reply.headers)
            raise TryLater(self._detail(reply, said), retry_after_s=after_s, is_well=isinstance(word, str))
        return self._report(word.strip().lower(), said)

    async def is_ours(self, http: Client, upstream_id: str, callback_url: str) -> bool:
        # get_result repeats no callback address, and the prompt, which it may repeat, proves nothing: anybody's task
        # may have the same one. So no id that somebody sends us is taken for ours.
        return False

    async def draw(self, url: str) -> bytes | None:
        return None

    async def balance(self, http: Client) -> str:
        reply = await self._line.read(http, "/v1/credits", within_s=LOOK_S)
        said = parse(reply.body)
        left = credits_left(said.get("credits"))
        if reply.status != 200 or not left:
            raise TryLater(self._detail(reply, said))
        return left

    def _report(self, word: str, said: Mapping[str, Any]) -> Report:
        state = STATES.get(word)
        if state is State.SUCCEEDED:
            result = said.get("result")
            url = web_address(result.get("sample")) if isinstance(result, dict) else ""
            return Report(state=State.SUCCEEDED, urls=(url,)) if url else NO_PICTURE
        if state is State.FAILED:
            detail = self._line.clean(f"{word}: {wording(said.get('details'))}".removesuffix(": "))
            return Report(state=State.FAILED, failure=_failure(word, detail), detail=detail)
        if state is None:
            log_unknown_state(self.name, self._line.clean(word)[:40])
        return Report(
            state=State.RUNNING, progress=progress(said.get("progress")), is_known=state is not None
        )

    def _detail(self, reply: Reply, said: Mapping[str, Any]) -> str:
        words = [wording(said.get(name)) for name in ("detail", "message", "error", "status")]
        words = [word for word in words if word] if said else ["no JSON"]
        return self._line.clean(": ".join([f"HTTP {reply.status}", *words[:2]]))

    def _is_theirs(self, address: str) -> bool:
        """Whether this leads to the upstream itself, so that it may see our key."""
        if len(address) > _LONGEST_MEMO or not re.fullmatch(
            r"https?://[\w.-]+(:\d{1,5})?/[!-~]*", address, re.ASCII
        ):
            return False
        try:
            place, home = URL(address), URL(self._line.base_url)
        except ValueError:
            return False
        if place.origin() == home.origin():
            return True
        return place.scheme == "https" and place.port == 443 and (place.host or "").endswith(".bfl.ai")


NO_PICTURE = Report(
    state=State.FAILED, failure=Failure.NO_PICTURE, detail="ready, without a picture's address"
)


# --- What is sent -------------------------------------------------------------------------------------
def body(order: Order) -> dict[str, Any]:
    asked: dict[str, Any] = {"prompt": order.prompt, "output_format": "jpeg", "seed": order.seed}
    asked |= shape(order)
    asked["webhook_url"] = order.callback_url or None
    asked = with_fixed(asked, order.fixed, keep={"prompt"})
    if "kontext" in order.model and order.inputs and isinstance(asked.get("safety_tolerance"), int):
        asked["safety_tolerance"] = min(asked["safety_tolerance"], 2)  # more is for pictures from nothing
    names = ("input_image", *(f"input_image_{number}" for number in range(2, len(order.inputs) + 1)))
    pictures = (base64.b64encode(picture.data).decode() for picture in order.inputs)
    return asked | dict(zip(names, pictures, strict=False))


def shape(order: Order) -> dict[str, Any]:
    """The size in pixels, or the ratio where the model makes its own size of it."""
    if "kontext" in order.model or "ultra" in order.model:
        return {"aspect_ratio": order.aspect_ratio}
    width, height = order.width, order.height
    if order.model.startswith("flux-2"):
        less = min(1.0, math.sqrt(FLUX_2_PIXELS / (width * height)))
        step, shortest = FLUX_2_STEP, FLUX_2_SHORTEST
    else:
        less = min(1.0, FLUX_1_LONGEST / max(width, height))
        step, shortest = FLUX_1_STEP, FLUX_1_SHORTEST
    sides = (max(int(side * less + 1e-6) // step * step, shortest) for side in (width, height))
    return dict(zip(("width", "height"), sides, strict=True))


# --- What an answer says ------------------------------------------------------------------------------
def refusal(status: int, said: Mapping[str, Any]) -> Failure | None:
    """Why a create was refused, with nothing started; None where the answer does not say that."""
    if status in OPERATORS:
        return Failure.UPSTREAM_UNAVAILABLE
    if 400 <= status < 500 and status not in LOST:
        words = f"{wording(said.get('detail'))} {wording(said.get('message'))} {wording(said.get('status'))}"
        return Failure.MODERATED if MODERATED.search(words) else Failure.REJECTED
    is_nothing_started = 200 <= status < 300 and not identifier(said.get("id"))
    if is_nothing_started and str(said.get("status")).lower() in ("request moderated", "content moderated"):
        return Failure.MODERATED
    return None


def progress(value: Any) -> int | None:
    """Percent. Theirs goes from 0 to 1."""
    share = amount(value)
    return int(share * 100) if share is not None and 0 <= share <= 1 else None


def _failure(word: str, detail: str) -> Failure:
    return Failure.MODERATED if "moderated" in word or MODERATED.search(detail) else Failure.UPSTREAM_FAILED
