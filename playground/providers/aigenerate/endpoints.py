"""The two ways in which these hosts take an order: createTask, for every model, and the older one of Kontext.

They differ in their addresses, in the shape of the order and in the words for where a task is. A job's memo says by
which one it was started.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from playground.providers.base import Failure, Order, Report, State, TryLater
from playground.providers.line import (
    MODERATED,
    log_unknown_state,
    number,
    opened,
    percent,
    web_address,
    with_fixed,
)

# --- Their words to ours ------------------------------------------------------------------------------
STATES = {
    "waiting": State.RUNNING,
    "queuing": State.RUNNING,
    "generating": State.RUNNING,
    "success": State.SUCCEEDED,
    "fail": State.FAILED,
}
# Kontext: generating, success, could not be created, could not be generated.
FLAGS = {0: State.RUNNING, 1: State.SUCCEEDED, 2: State.FAILED, 3: State.FAILED}
# Kontext's errorCode for a prompt or picture that its policy refuses.
POLICY = 400

NO_PICTURE = Report(
    state=State.FAILED, failure=Failure.NO_PICTURE, detail="success without a picture address"
)
Clean = Callable[[str], str]


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """`body` makes an order of ours theirs, with the addresses of its inputs; `report` reads a task's record.

    `asked` is the record's name for the order that the task was created with, as JSON in a string.
    """

    name: str
    create: str
    look: str
    body: Callable[[Order, Sequence[str]], dict[str, Any]]
    report: Callable[[str, Mapping[str, Any], Clean], Report]
    asked: str


def endpoint_for(order: Order) -> Endpoint:
    """By the model's name, unless the route's fixed {"endpoint": "jobs" or "kontext"} says otherwise.

    Our own verbose names for Kontext, which start with their maker, are createTask's.
    """
    named = ENDPOINTS.get(str(order.fixed.get("endpoint")))
    return named or (KONTEXT if order.model.startswith("flux-kontext-") else JOBS)


def failed(said: str, detail: str) -> Report:
    failure = Failure.MODERATED if MODERATED.search(said) else Failure.UPSTREAM_FAILED
    return Report(state=State.FAILED, failure=failure, detail=detail)


# --- createTask ---------------------------------------------------------------------------------------
def _jobs_body(order: Order, urls: Sequence[str]) -> dict[str, Any]:
    asked: dict[str, Any] = {"prompt": order.prompt, "aspect_ratio": order.aspect_ratio}
    if order.model.startswith("flux-2/") and order.resolution:
        asked["resolution"] = order.resolution  # which is part of the name with those that have none
    if urls:
        asked["input_urls"] = list(urls)
    asked = with_fixed({**asked, "endpoint": None}, order.fixed, keep={"endpoint", "prompt", "aspect_ratio"})
    body: dict[str, Any] = {"model": order.model, "input": asked}
    return body | ({"callBackUrl": order.callback_url} if order.callback_url else {})


def _jobs_report(provider: str, data: Mapping[str, Any], clean: Clean) -> Report:
    word = data.get("state")
    if not isinstance(word, str):
        raise TryLater("the record has no state")
    word = word.strip().lower()
    match STATES.get(word):
        case State.SUCCEEDED:
            urls = result_urls(data.get("resultJson"))
            return Report(state=State.SUCCEEDED, urls=urls) if urls else NO_PICTURE
        case State.FAILED:
            said = " ".join(str(data[name]) for name in ("failCode", "failMsg") if data.get(name))
            return failed(said, clean(said))
        case None:
            log_unknown_state(provider, clean(word)[:40])
    return Report(state=State.RUNNING, progress=percent(data.get("progress")), is_known=word in STATES)


def result_urls(result: Any) -> tuple[str, ...]:
    """The addresses in `resultJson`, which is JSON in a string, but for some servers already an object."""
    urls = opened(result).get("resultUrls")
    urls = urls if isinstance(urls, list) else [urls]
    return tuple(url for url in urls[:16] if web_address(url))


# --- Kontext ------------------------------------------------------------------------------------------
def _kontext_body(order: Order, urls: Sequence[str]) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "model": order.model,
        "prompt": order.prompt,
        "aspectRatio": order.aspect_ratio,
        "outputFormat": "jpeg",
        "inputImage": urls[0] if urls else None,
        "callBackUrl": order.callback_url or None,
        "endpoint": None,
    }
    keep = {"endpoint", "model", "prompt", "aspectRatio", "inputImage", "callBackUrl"}
    return with_fixed(asked, order.fixed, keep=keep)


def _kontext_report(provider: str, data: Mapping[str, Any], clean: Clean) -> Report:
    flag = number(data.get("successFlag"))
    if flag is None:
        raise TryLater("the record has no successFlag")
    match FLAGS.get(flag):
        case State.SUCCEEDED:
            url = web_address(opened(data.get("response")).get("resultImageUrl"))
            return Report(state=State.SUCCEEDED, urls=(url,)) if url else NO_PICTURE
        case State.FAILED:
            said = " ".join(str(data[name]) for name in ("errorCode", "errorMessage") if data.get(name))
            if number(data.get("errorCode")) == POLICY:
                return Report(state=State.FAILED, failure=Failure.MODERATED, detail=clean(said))
            return failed(said, clean(said))
        case None:
            log_unknown_state(provider, f"successFlag {flag}")
    return Report(state=State.RUNNING, is_known=flag in FLAGS)


JOBS = Endpoint(
    name="jobs",
    create="/jobs/createTask",
    look="/jobs/recordInfo",
    body=_jobs_body,
    report=_jobs_report,
    asked="param",
)
KONTEXT = Endpoint(
    name="kontext",
    create="/flux/kontext/generate",
    look="/flux/kontext/record-info",
    body=_kontext_body,
    report=_kontext_report,
    asked="paramJson",
)
ENDPOINTS = {endpoint.name: endpoint for endpoint in (JOBS, KONTEXT)}
