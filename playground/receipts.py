"""What a job's owner reads of it once it is over: what became of it, told in plain words.

Events are written for the operator: they hold people's addresses, our limits, and what upstreams say about our account
with them. So none is printed as it stands. What is known of them is told here; the rest stays at the desk.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime

from playground import jobs
from playground.models import Job, JobEvent

_HEADINGS = {"moderated": "Refused", "rejected": "Not accepted"}
# Failures that are about what was asked for: there a detail helps. The others are about us and our upstream.
_THEIR_WORDS = {"moderated", "rejected", "upstream_failed"}
_OUR_FINDINGS = {"no_picture", "bad_picture"}
_OF_MONEY = re.compile(
    r"credit|balance|billing|payment|quota|insufficient|cost|usd|[$€]|\bapi.?key", re.IGNORECASE
)
# How the reasons begin that the engine and `playground.upstreams` write down.
_REASONS = [
    (r"Not reached", "it could not be reached"),
    (r"it asked us to wait|HTTP (425|429)\b|HTTP 200, code (425|429)\b", "it asked us to wait"),
    (r"it is busy|\d+ jobs are running there", "it had no room"),
    (r"it failed \d+ times", "it was not well"),
    (r"its dollar limit", "our limit for it was used up for the day"),
    (r".{1,60} is not set up any more", "it is not in use here any more"),
    (r"The upload of", "it could not take the input pictures"),
]


@dataclass(frozen=True)
class Step:
    """Something that happened, `times` times over; `at` is the first of them."""

    at: datetime
    words: str
    times: int = 1


def heading(job: Job) -> str:
    """What a job without a picture is called, in a word or two."""
    if job.state == Job.State.CANCELLED:
        return "Cancelled"
    return _HEADINGS.get(job.failure, "Failed")


def is_refusal(job: Job) -> bool:
    """Whether it was turned down for what it asked for, so that asking for the same again may be in vain."""
    return job.failure in _HEADINGS


def detail(job: Job) -> tuple[str, str]:
    """What was found or what the upstream said, under a title; empty where that is about our account with it."""
    said = job.failure_detail
    if job.failure not in _THEIR_WORDS | _OUR_FINDINGS or _OF_MONEY.search(said):
        return "", ""
    return ("In the upstream’s words" if job.failure in _THEIR_WORDS else "In detail"), said


def asked(job: Job) -> list[str]:
    """The upstreams that the job went to, in order."""
    return [*job.tried, job.provider] if job.submit_attempts else list(job.tried)


def timeline(job: Job) -> list[Step]:
    """What happened to it, in order: one query."""
    told: list[Step] = []
    rest = [*job.tried, job.provider]
    for event in job.events.all():
        words = _words(job, event, rest)
        if _is_left(event, rest):
            rest.pop(0)
        again = next(
            (at for at, step in enumerate(told) if at >= len(told) - 2 and step.words == words), None
        )
        if again is not None:
            told[again] = replace(told[again], times=told[again].times + 1)
        elif words:
            told.append(Step(event.at, words))
    return told


def _is_left(event: JobEvent, rest: list[str]) -> bool:
    """Whether this is where the job went on to the next upstream."""
    return len(rest) > 1 and event.note.startswith(f"{rest[0]} did not start it (")


def _words(job: Job, event: JobEvent, rest: list[str]) -> str:
    match event.state:
        case Job.State.QUEUED:
            return _waiting(event, rest)
        case Job.State.SUBMITTING if event.note == "a callback lied":
            return ""
        case Job.State.SUBMITTING if event.note:
            return "The connection broke before an answer came. It is not sent twice; we wait."
        case Job.State.SUBMITTING:
            return f"Sent to {rest[0]}."
        case Job.State.RUNNING:
            return "Started there."
        case Job.State.FETCHING:
            return "Ready there; we fetch it."
        case Job.State.SUCCEEDED:
            return "The picture arrived and is stored."
        case Job.State.CANCELLED:
            return "You cancelled it." if event.note == f"by {job.user}" else "The operator cancelled it."
        case _ if event.note.startswith(job.failure):
            return f"{heading(job)}. {jobs.why(job)}"
    return "The upstream was heard of after the end. Nothing is charged."


def _waiting(event: JobEvent, rest: list[str]) -> str:
    if not event.note:
        return "Ordered."
    if event.note.startswith("sent again"):
        return "The sending broke off; it is sent again."
    if _is_left(event, rest):
        why = _reason(event.note.removeprefix(f"{rest[0]} did not start it ("))
        return f"Not started by {rest[0]}: {why}. It goes to {rest[1]}."
    return f"Not started by {rest[0]}: {_reason(event.note)}. It is asked again."


def _reason(note: str) -> str:
    return next(
        (words for begins, words in _REASONS if re.match(begins, note)), "it would not take it at that moment"
    )
