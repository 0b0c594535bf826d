"""What the envelopes of this shape mean.

An answer has two opinions of itself, the HTTP status and the envelope's `code`, and servers of this shape give errors
with HTTP 200 as well as successes with an error status. Where there is an envelope, it is believed. A task id in an
answer that does not say no means that the task runs, whatever else the answer says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from playground.net import Reply, retry_after_s
from playground.providers.base import Failure
from playground.providers.line import LOST, MODERATED, Line, identifier, number, parse

# --- Their codes to ours ------------------------------------------------------------------------------
# At a create. These were not started and may be asked again: too many requests, maintenance.
NOT_STARTED = {425, 429, 455}
# These are about the operator's key, balance or address, whatever the message says.
OPERATORS = {301, 307, 308, 401, 402, 404, 405, 433, 505}
# These are about what was asked, or (501) about a generation that is already over. So is every other 4xx but `LOST`.
REFUSED = {400: Failure.REJECTED, 403: Failure.UPSTREAM_UNAVAILABLE, 501: Failure.UPSTREAM_FAILED}
# At a look, in the envelope only: over and failed. (An HTTP 408 without an envelope is some proxy's.)
OVER = {408, 501}
# At a look, for some seconds after the create: not yet. Later: nobody knows that task.
UNKNOWN_TASK = {404, 422}


@dataclass(frozen=True, kw_only=True)
class Answer:
    status: int
    code: int | None
    msg: str
    envelope: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""

    @property
    def verdict(self) -> int:
        return self.status if self.code is None else self.code

    @property
    def data(self) -> Mapping[str, Any]:
        found = self.envelope.get("data")
        return found if isinstance(found, dict) else {}

    @property
    def task_id(self) -> str:
        return identifier(self.data.get("taskId"))

    @property
    def retry_after_s(self) -> float | None:
        return retry_after_s(self.headers)


def answer_of(reply: Reply, line: Line) -> Answer:
    envelope = parse(reply.body)
    code = number(envelope.get("code"))
    msg = next((envelope[name] for name in ("msg", "message") if isinstance(envelope.get(name), str)), "")
    said = f"code {code}: {msg}" if envelope else "no JSON"
    detail = line.clean(f"HTTP {reply.status}, {said}")
    return Answer(
        status=reply.status, code=code, msg=msg, envelope=envelope, headers=reply.headers, detail=detail
    )


def refusal(answer: Answer) -> Failure | None:
    """Why a create was refused, with nothing started; None where the answer does not say that."""
    verdict = answer.verdict
    if verdict in OPERATORS:
        return Failure.UPSTREAM_UNAVAILABLE
    if verdict >= 400 and MODERATED.search(answer.msg):
        return Failure.MODERATED
    if verdict in REFUSED:
        return REFUSED[verdict]
    return Failure.REJECTED if 400 <= verdict < 500 and verdict not in LOST else None
