"""Every error of the API: one table, from which the replies are made and the published page, too.

A `Problem` is raised anywhere below a route and written by `playground.api.envelopes` in the words of that route's
family.
"""

from dataclasses import dataclass, field
from typing import Any

NOTHING = "Nothing: no job was made."
NOT_CHARGED = "Nothing: a job that does not deliver is not charged."


@dataclass(frozen=True)
class Kind:
    """`status` is the HTTP status and, in the createTask family, the envelope's `code`.

    `openai_status`: where OpenAI's clients expect another. `is_retryable`: whether the same call can succeed later; it
    is said in `x-should-retry`.
    """

    code: str
    status: int
    type: str
    meaning: str
    is_retryable: bool = False
    costs: str = NOTHING
    openai_status: int = 0


_INVALID, _AUTH, _MONEY = "invalid_request_error", "authentication_error", "billing_error"
_LIMIT, _MISSING, _OURS, _JOB = "rate_limit_error", "not_found_error", "server_error", "generation_error"

KINDS = {
    kind.code: kind
    for kind in (
        Kind("invalid_json", 400, _INVALID, "The body is not JSON, or not an object."),
        Kind("bad_request", 400, _INVALID, "The request itself is broken, its Host header for instance."),
        Kind(
            "missing_parameter",
            400,
            _INVALID,
            "Something that the call needs is not there; `param` names it.",
        ),
        Kind(
            "invalid_parameter",
            422,
            _INVALID,
            "A value cannot be used; `param` names it and the message says what can.",
            openai_status=400,
        ),
        Kind(
            "unknown_parameter",
            422,
            _INVALID,
            "The call has no parameter of that name; `param` names it.",
            openai_status=400,
        ),
        Kind(
            "model_not_found",
            422,
            _INVALID,
            "There is no model of that name, or it is not on offer; GET /api/v1/models lists them.",
            openai_status=404,
        ),
        Kind("input_refused", 422, _INVALID, "An input picture cannot be used.", openai_status=400),
        Kind("missing_api_key", 401, _AUTH, "There is no `Authorization: Bearer sk-aig-...` header."),
        Kind(
            "invalid_api_key",
            401,
            _AUTH,
            "The key is mistyped, unknown, expired or revoked, or its account is suspended.",
            costs=f"{NOTHING} Where the key ended while a call waited, `X-AI-Task-Id` names a task that goes on.",
        ),
        Kind("insufficient_credits", 402, _MONEY, "The balance that is not held does not cover the price."),
        Kind(
            "spend_cap_reached",
            402,
            "spend_cap_error",
            "A spend cap of the account or of the key would be crossed; `details` name the cap and its numbers.",
        ),
        Kind(
            "not_found", 404, _MISSING, "There is no such address, or no such task, file or picture of yours."
        ),
        Kind(
            "method_not_allowed", 405, _INVALID, "The address exists, but not for this method; see `Allow`."
        ),
        Kind(
            "not_cancellable",
            409,
            _INVALID,
            "The task has been sent or has ended, so it cannot be cancelled.",
        ),
        Kind(
            "idempotency_in_flight",
            409,
            "idempotency_error",
            "The same call with the same Idempotency-Key is being worked on at this moment.",
            is_retryable=True,
        ),
        Kind(
            "idempotency_conflict",
            422,
            "idempotency_error",
            "This Idempotency-Key was used for a call with another body.",
        ),
        Kind("too_large", 413, _INVALID, "The body or a file in it is larger than the call takes."),
        Kind("unsupported_media_type", 415, _INVALID, "The call takes another content type."),
        Kind(
            "rate_limit_exceeded",
            429,
            _LIMIT,
            "Too many calls; `Retry-After` says when there is room. Nothing is queued.",
            is_retryable=True,
        ),
        Kind("quota_reached", 409, _LIMIT, "The account has as many stored input pictures as it may have."),
        Kind(
            "moderated",
            400,
            _JOB,
            "The model's safety filter refused the prompt or the picture.",
            costs=NOT_CHARGED,
        ),
        Kind("generation_failed", 502, _JOB, "The upstream could not make the picture.", costs=NOT_CHARGED),
        Kind(
            "still_running",
            504,
            _JOB,
            "The picture takes longer than a call may wait, or the server is being started again. The task goes on:"
            " ask recordInfo, or send the same call with its Idempotency-Key again.",
            costs="The task's price, if it delivers.",
        ),
        Kind(
            "unavailable",
            503,
            _OURS,
            "Nothing can be made at the moment: no upstream, no space, or too many calls that wait.",
            is_retryable=True,
        ),
        Kind(
            "internal_error",
            500,
            _OURS,
            "We made a mistake; X-Request-Id helps us to find it.",
            is_retryable=True,
        ),
    )
}


@dataclass
class Problem(Exception):
    """Why there is no answer. `code` is a key of KINDS, `message` is for people, `details` for programs.

    `task_ids`: jobs that exist all the same.
    """

    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None
    details: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    task_ids: tuple[str, ...] = ()
    should_retry: bool | None = None

    def __str__(self) -> str:
        return self.message

    @property
    def kind(self) -> Kind:
        return KINDS[self.code]
