"""AI Generate, and every host of its shape: createTask starts a task, recordInfo says where it is.

An answer has two opinions of itself, the HTTP status and the envelope's `code`, and servers of this shape give errors
with HTTP 200 as well as successes with an error status. Where there is an envelope, it is believed. A task id in an
answer that does not say no means that the task runs, whatever else the answer says.

A seed is not sent: this API documents none.
"""

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

from playground.net import Client, NoAnswer, NotSent, Reply, retry_after_s
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

# --- Their words to ours ------------------------------------------------------------------------------
STATES = {
    "waiting": State.RUNNING,
    "queuing": State.RUNNING,
    "generating": State.RUNNING,
    "success": State.SUCCEEDED,
    "fail": State.FAILED,
}
# createTask. These were not started and may be asked again: too many requests, maintenance.
NOT_STARTED = {425, 429, 455}
# These are about the operator's key, balance or address, whatever the message says.
OPERATORS = {301, 307, 308, 401, 402, 404, 405, 433, 505}
# These are about what was asked, or (501) about a generation that is already over. So is every other 4xx but `LOST`.
REFUSED = {400: Failure.REJECTED, 403: Failure.UPSTREAM_UNAVAILABLE, 501: Failure.UPSTREAM_FAILED}
LOST = {408, 409, 499}
# recordInfo, in the envelope only: over and failed. (An HTTP 408 without an envelope is some proxy's.)
OVER = {408, 501}
MODERATED = re.compile(
    r"nsfw|moderat(ed|ion)|(?<!case[ -])sensitive|flagged|inappropriate|sexual|prohibited content|敏感"
    r"|content[ _-](policy|filter)|safety (system|filter|check)|(violat|against).{0,40}(polic|guideline|terms)",
    re.IGNORECASE,
)

CREATE_S, LOOK_S = 30, 15
_LONGEST_ID = 200

logger = logging.getLogger(__name__)


class AIGenerate:
    resend_is_safe = False
    longest_create_s: float = CREATE_S
    inputs_by: Literal["upload", "base64", "url"] = "url"
    result_hosts: tuple[str, ...] = ()
    most_at_once: Mapping[str, int] = {}

    def __init__(self, *, base_url: str, api_key: str, name: str = "aigenerate") -> None:
        if not api_key.isascii() or not api_key.isprintable():
            raise ValueError(f"The API key of {name} has characters that cannot be sent.")
        self.name = name
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key

    async def create(self, http: Client, order: Order) -> Started:
        inputs = {**order.fixed, "prompt": order.prompt, "aspect_ratio": order.aspect_ratio}
        body = {"model": order.model, "input": inputs}
        if order.callback_url:
            body["callBackUrl"] = order.callback_url
        answer = await self._ask(http, "POST", "/jobs/createTask", within_s=CREATE_S, json=body)
        if answer.verdict in NOT_STARTED:
            raise TryLater(answer.detail, retry_after_s=answer.retry_after_s)
        if failure := refusal(answer):
            raise Rejected(failure, answer.detail)
        if task_id := answer.task_id:
            return Started(upstream_id=task_id)
        raise OutcomeUnknown(answer.detail)

    async def look(self, http: Client, upstream_id: str, memo: str = "") -> Report:
        answer = await self._record(http, upstream_id)
        if answer.code in OVER:
            return failed(answer.msg, answer.detail)
        word = answer.data.get("state")
        if answer.verdict != 200 or not isinstance(word, str):
            # 404 and 422 too: for some seconds after createTask they mean "not yet".
            raise TryLater(answer.detail, retry_after_s=answer.retry_after_s)
        return self._report(word.strip().lower(), answer.data)

    async def is_ours(self, http: Client, upstream_id: str, callback_url: str) -> bool:
        answer = await self._record(http, upstream_id)
        if answer.verdict != 200 or not answer.data:
            raise TryLater(answer.detail, retry_after_s=answer.retry_after_s)
        order = answer.data.get("param")
        order = parse(order) if isinstance(order, str) else order
        return bool(callback_url) and isinstance(order, dict) and order.get("callBackUrl") == callback_url

    async def draw(self, url: str) -> bytes | None:
        return None

    async def _record(self, http: Client, upstream_id: str) -> "Answer":
        try:
            query = {"taskId": upstream_id}
            return await self._ask(http, "GET", "/jobs/recordInfo", within_s=LOOK_S, params=query)
        except OutcomeUnknown as lost:
            raise TryLater(lost.detail) from None

    def _report(self, word: str, data: Mapping[str, Any]) -> Report:
        match STATES.get(word):
            case State.SUCCEEDED:
                urls = result_urls(data.get("resultJson"))
                return Report(state=State.SUCCEEDED, urls=urls) if urls else NO_PICTURE
            case State.FAILED:
                said = " ".join(str(data[name]) for name in ("failCode", "failMsg") if data.get(name))
                return failed(said, self._clean(said))
            case None:
                log_unknown_state(self.name, self._clean(word)[:40])
        return Report(state=State.RUNNING, progress=percent(data.get("progress")))

    async def balance(self, http: Client) -> str:
        return ""

    async def _ask(self, http: Client, method: str, path: str, *, within_s: float, **more: Any) -> "Answer":
        """TryLater where nothing was sent, OutcomeUnknown where no whole answer came back."""
        headers = {"Authorization": f"Bearer {self._api_key}"}
        try:
            reply = await http.ask(method, self._base_url + path, headers=headers, within_s=within_s, **more)
        except NotSent as error:
            raise TryLater(self._clean(f"Not reached: {error}")) from None
        except NoAnswer as error:
            raise OutcomeUnknown(self._clean(f"No answer: {error}")) from None
        return self._answer(reply, parse(reply.body))

    def _answer(self, reply: Reply, envelope: Mapping[str, Any]) -> "Answer":
        code, data = number(envelope.get("code")), envelope.get("data")
        msg = next((envelope[name] for name in ("msg", "message") if isinstance(envelope.get(name), str)), "")
        said = f"code {code}: {msg}" if envelope else "no JSON"
        return Answer(
            status=reply.status,
            code=code,
            msg=msg,
            data=data if isinstance(data, dict) else {},
            detail=self._clean(f"HTTP {reply.status}, {said}"),
            retry_after_s=retry_after_s(reply.headers),
        )

    def _clean(self, text: str) -> str:
        """At most 300 printable characters, without our key, should an upstream repeat it to us."""
        text = text.replace(self._api_key, "[key]") if self._api_key else text
        return " ".join("".join(c if c.isprintable() else " " for c in text[:5000]).split())[:300]


# --- What an answer says ------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    code: int | None
    msg: str
    data: Mapping[str, Any] = field(default_factory=dict)
    detail: str = ""
    retry_after_s: float | None = None

    @property
    def verdict(self) -> int:
        return self.status if self.code is None else self.code

    @property
    def task_id(self) -> str | None:
        found = self.data.get("taskId")
        if not isinstance(found, str) or not found.isprintable():
            return None
        found = found.strip()
        return found if 0 < len(found) <= _LONGEST_ID else None


NO_PICTURE = Report(
    state=State.FAILED, failure=Failure.NO_PICTURE, detail="success without a picture address"
)


def refusal(answer: Answer) -> Failure | None:
    """Why createTask said no and started nothing; None where it did not say that."""
    verdict = answer.verdict
    if verdict in OPERATORS:
        return Failure.UPSTREAM_UNAVAILABLE
    if verdict >= 400 and MODERATED.search(answer.msg):
        return Failure.MODERATED
    if verdict in REFUSED:
        return REFUSED[verdict]
    return Failure.REJECTED if 400 <= verdict < 500 and verdict not in LOST else None


def failed(said: str, detail: str) -> Report:
    failure = Failure.MODERATED if MODERATED.search(said) else Failure.UPSTREAM_FAILED
    return Report(state=State.FAILED, failure=failure, detail=detail)


def result_urls(result: Any) -> tuple[str, ...]:
    """The addresses in `resultJson`, which is JSON in a string, but for some servers already an object."""
    if isinstance(result, str):
        result = parse(result)
    urls = result.get("resultUrls") if isinstance(result, dict) else None
    urls = urls if isinstance(urls, list) else [urls]
    return tuple(url for url in urls[:16] if isinstance(url, str) and re.match(r"https?://\S{1,2000}$", url))


@lru_cache(maxsize=100)
def log_unknown_state(provider: str, word: str) -> None:
    """Once for each word, or a new word upstream would fill the log at every look."""
    logger.warning("%s: state %r is not known here; read as still running", provider, word)


def percent(value: Any) -> int | None:
    found = number(value)
    return found if found is not None and 0 <= found <= 100 else None


def number(value: Any) -> int | None:
    """A whole number that may have come as text."""
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse(text: str | bytes) -> dict[str, Any]:
    """The JSON object in `text`; an empty one where there is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
