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
from typing import Any, Literal, Protocol

from playground.net import Client


class Failure(StrEnum):
    """Why no picture came, in the words that `playground.jobs` explains to customers."""

    MODERATED = "moderated"
    REJECTED = "rejected"
    UPSTREAM_FAILED = "upstream_failed"
    UPSTREAM_UNAVAILABLE = "upstream_unavailable"
    NO_PICTURE = "no_picture"
    BAD_PICTURE = "bad_picture"
    LIMIT_REACHED = "limit_reached"
    TIMED_OUT = "timed_out"
    OUTCOME_UNKNOWN = "outcome_unknown"


@dataclass(frozen=True, kw_only=True)
class Input:
    """An input picture, encoded by us. `name` cannot be guessed and is the same for the same bytes.

    `url` is an address of ours that serves it for an hour; "" where nobody outside can reach us.
    """

    name: str
    content_type: str
    width: int
    height: int
    data: bytes = field(repr=False)
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What one job asks of an upstream. Sizes are pixels; `aspect_ratio` is "16:9"; `resolution` is "1K", "2K" or "".

    With `inputs` it is an edit, and `aspect_ratio` and the size are those of the result that is wanted.
    """

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
    inputs: tuple[Input, ...] = ()


class State(StrEnum):
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a look at a running job found. `look_after_s`: when the upstream itself knows that looking is worth it.

    `cost_micros`: what the upstream says that it charges, in micro-dollars, where it says so. `is_known`: False where its
    word for the state is not one that we know, which is read as running.
    """

    state: State
    urls: tuple[str, ...] = ()
    cost_micros: int | None = None
    is_known: bool = True
    progress: int | None = None
    failure: Failure | None = None
    detail: str = ""
    look_after_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class Started:
    """A create that was accepted. `memo`: what `look` needs besides the id, at most 500 characters, kept with the job.

    `picture`: the picture itself, from an upstream that answers with it; nothing is looked at or downloaded then.
    """

    upstream_id: str
    memo: str = ""
    cost_micros: int | None = None
    picture: bytes | None = field(default=None, repr=False)


class ProviderError(Exception):
    """`is_about_job`: the trouble is this job's or ours, such as an input picture's; the upstream is not ill for it."""

    def __init__(self, detail: str = "", *, is_about_job: bool = False) -> None:
        super().__init__(detail)
        self.detail = detail
        self.is_about_job = is_about_job


class Rejected(ProviderError):
    def __init__(self, failure: Failure, detail: str = "", *, is_about_job: bool = False) -> None:
        super().__init__(detail, is_about_job=is_about_job)
        self.failure = failure


class TryLater(ProviderError):
    """`is_well`: the upstream answered as it should, it only has nothing to say yet; its circuit stays closed."""

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after_s: float | None = None,
        is_well: bool = False,
        is_about_job: bool = False,
    ) -> None:
        super().__init__(detail, is_about_job=is_about_job)
        self.retry_after_s = retry_after_s
        self.is_well = is_well


class OutcomeUnknown(ProviderError):
    pass


class Provider(Protocol):
    """`http` is the engine's one client, `playground.net.Client`.

    `resend_is_safe`: two creates for one job make one picture and one cost. `longest_create_s`: what a create may take,
    at most 120. `inputs_by`: how it takes input pictures; "url" needs `Input.url`. `result_hosts`: where its pictures
    may come from, "bfl.ai" standing for its subdomains too; empty for anywhere public. `most_at_once`: jobs that it
    lets run, by upstream model, "" standing for all of them together.
    """

    name: str
    resend_is_safe: bool
    longest_create_s: float
    inputs_by: Literal["upload", "base64", "url"]
    result_hosts: tuple[str, ...]
    most_at_once: Mapping[str, int]

    async def create(self, http: Client, order: Order) -> Started:
        """Starts the job. Raises any ProviderError."""
        ...

    async def look(self, http: Client, upstream_id: str, memo: str) -> Report:
        """Where the job is. Raises TryLater when nothing could be learnt."""
        ...

    async def is_ours(self, http: Client, upstream_id: str, callback_url: str) -> bool:
        """Whether the upstream itself says that this id was created with this callback address of ours.

        Finds a job whose create was answered into the void. Raises TryLater when nothing could be learnt.
        """
        ...

    async def draw(self, url: str) -> bytes | None:
        """The picture itself, for a provider that makes it here; None where `url` is to be downloaded."""
        ...

    async def balance(self, http: Client) -> str:
        """What is left there, in the upstream's own unit: "1,234.5 credits"; "" where it cannot say. Raises TryLater."""
        ...
