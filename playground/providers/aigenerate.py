"""AI Generate, and every host of its shape: createTask starts a task, recordInfo says where it is.

An answer has two opinions of itself, the HTTP status and the envelope's `code`, and servers of this shape give errors
with HTTP 200 as well as successes with an error status. Where there is an envelope, it is believed. A task id in an
answer that does not say no means that the task runs, whatever else the answer says.

A seed is not sent: this API documents none.
"""

import asyncio
import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any

import httpx

from playground.providers.base import Failure, Order, OutcomeUnknown, Rejected, Report, State, TryLater

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

NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)

CREATE_S, LOOK_S = 30, 15
_REACH_S = 8
_MOST_BYTES = 1_000_000
_LONGEST_RETRY_AFTER_S = 3600.0
_LONGEST_ID = 200

logger = logging.getLogger(__name__)


class AIGenerate:
    resend_is_safe = False

    def __init__(self, *, base_url: str, api_key: str, name: str = "aigenerate") -> None:
        if not api_key.isascii() or not api_key.isprintable():
            raise ValueError(f"The API key of {name} has characters that cannot be sent.")
        self.name = name
        self._base_url = base_url.rstrip("/")
        self._api_key = api_key

    async def create(self, http: httpx.AsyncClient, order: Order) -> str:
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
            return task_id
        raise OutcomeUnknown(answer.detail)

    async def look(self, http: httpx.AsyncClient, upstream_id: str) -> Report:
        answer = await self._record(http, upstream_id)
        if answer.code in OVER:
            return failed(answer.msg, answer.detail)
        word = answer.data.get("state")
        if answer.verdict != 200 or not isinstance(word, str):
            # 404 and 422 too: for some seconds after createTask they mean "not yet".
            raise TryLater(answer.detail, retry_after_s=answer.retry_after_s)
        return self._report(word.strip().lower(), answer.data)

    async def is_ours(self, http: httpx.AsyncClient, upstream_id: str, callback_url: str) -> bool:
        answer = await self._record(http, upstream_id)
        if answer.verdict != 200 or not answer.data:
            raise TryLater(answer.detail, retry_after_s=answer.retry_after_s)
        order = answer.data.get("param")
        order = parse(order) if isinstance(order, str) else order
        return bool(callback_url) and isinstance(order, dict) and order.get("callBackUrl") == callback_url

    async def draw(self, url: str) -> bytes | None:
        return None

    async def _record(self, http: httpx.AsyncClient, upstream_id: str) -> "Answer":
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

    async def _ask(
        self, http: httpx.AsyncClient, method: str, path: str, *, within_s: float, **more: Any
    ) -> "Answer":
        """TryLater where nothing was sent, OutcomeUnknown where no whole answer came back."""
        headers = {"Authorization": f"Bearer {self._api_key}", "Accept-Encoding": "identity"}
        timeout = httpx.Timeout(within_s, connect=_REACH_S, pool=_REACH_S)
        try:
            request = http.build_request(
                method, self._base_url + path, headers=headers, timeout=timeout, **more
            )
            async with asyncio.timeout(within_s):
                reply = await http.send(request, stream=True, follow_redirects=False)
                try:
                    body = await read(reply)
                finally:
                    await reply.aclose()
        except NOT_SENT as error:
            raise TryLater(self._clean(f"Not reached: {type(error).__name__} {error}")) from None
        except (httpx.HTTPError, httpx.StreamError, TimeoutError) as error:
            raise OutcomeUnknown(self._clean(f"No answer: {type(error).__name__} {error}")) from None
        return self._answer(reply, parse(body))

    def _answer(self, reply: httpx.Response, envelope: Mapping[str, Any]) -> "Answer":
        code, data = number(envelope.get("code")), envelope.get("data")
        msg = next((envelope[name] for name in ("msg", "message") if isinstance(envelope.get(name), str)), "")
        said = f"code {code}: {msg}" if envelope else "no JSON"
        return Answer(
            status=reply.status_code,
            code=code,
            msg=msg,
            data=data if isinstance(data, dict) else {},
            detail=self._clean(f"HTTP {reply.status_code}, {said}"),
            retry_after_s=retry_after(reply.headers.get("retry-after")),
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


async def read(reply: httpx.Response) -> bytes:
    """The body, or nothing where it is larger than any true answer."""
    body = bytearray()
    async for piece in reply.aiter_bytes():
        body += piece
        if len(body) > _MOST_BYTES:
            return b""
    return bytes(body)


def retry_after(value: str | None) -> float | None:
    """Seconds from now, from either form of the header; never more than an hour."""
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        seconds = _until(value)
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) else None


def _until(date: str) -> float:
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return math.nan
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
