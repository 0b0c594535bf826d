"""The one vocabulary in which the engine speaks with every upstream.

A provider turns an `Order` into an upstream's id, and that id into a `Report`. It keeps no state, knows neither
Django nor our tables, and says of every error the one fact that its caller must decide on:

    ProviderError
    |-- Rejected         the upstream said no, for good, and started nothing; `failure` says why
    |-- TryLater         nothing was started (create) or nothing was learnt (look); ask again, after `retry_after_s`
    `-- OutcomeUnknown   the create was sent and its answer lost: it may run and it may cost; never send it again
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import httpx


class Failure(StrEnum):
    """Why no picture came, in the words that `playground.jobs` explains to customers."""

    MODERATED = "moderated"
    REJECTED = "rejected"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    NO_PICTURE = "no_picture"
    BAD_PICTURE = "bad_picture"
    TIMED_OUT = "timed_out"
    OUTCOME_UNKNOWN = "outcome_unknown"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What one job asks of an upstream. Sizes are pixels; `aspect_ratio` is "16:9"; `resolution` is "1K", "2K" or ""."""

    job_id: str
    model: str
    prompt: str
    aspect_ratio: str
    resolution: str
    width: int
    height: int
    seed: int | None = None
    fixed: Mapping[str, Any] = field(default_factory=dict)
    callback_url: str | None = None


class State(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a look at a running job found. `look_after_s`: when the upstream itself knows that looking is worth it."""

    state: State
    urls: tuple[str, ...] = ()
    progress: int | None = None
    failure: Failure | None = None
    detail: str = ""
    look_after_s: float | None = None


class ProviderError(Exception):
    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail


class Rejected(ProviderError):
    def __init__(self, failure: Failure, detail: str = "") -> None:
        super().__init__(detail)
        self.failure = failure


class TryLater(ProviderError):
    def __init__(self, detail: str = "", *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class OutcomeUnknown(ProviderError):
    pass


class Provider(Protocol):
    """`http` is the engine's one client. `resend_is_safe`: two creates for one job make one picture and one cost."""

    name: str
    resend_is_safe: bool

    async def create(self, http: httpx.AsyncClient, order: Order) -> str:
        """Starts the job, returns the upstream's id for it. Raises any ProviderError."""
        ...

    async def look(self, http: httpx.AsyncClient, upstream_id: str) -> Report:
        """Where the job is. Raises TryLater when nothing could be learnt."""
        ...

    async def is_ours(self, http: httpx.AsyncClient, upstream_id: str, callback_url: str) -> bool:
        """Whether the upstream itself says that this id was created with this callback address of ours.

        Finds a job whose create was answered into the void. Raises TryLater when nothing could be learnt.
        """
        ...

    async def draw(self, url: str) -> bytes | None:
        """The picture itself, for a provider that makes it here; None where `url` is to be downloaded."""
        ...
