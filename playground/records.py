"""What the API says of a job: the `data` of `recordInfo`, and of the message that tells of its end."""

import json
import uuid
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import connection

from accounts import credits, rows
from playground import jobs, result_links, uploads
from playground.models import Job, Picture, Variant

State = Job.State
STATES = {
    State.QUEUED: "waiting",
    State.SUBMITTING: "queuing",
    State.RUNNING: "generating",
    State.FETCHING: "generating",
    State.SUCCEEDED: "success",
    State.FAILED: "fail",
    State.CANCELLED: "fail",
}
# In the numbers that clients of this shape know; 501, generation failed, is for all others.
FAIL_CODES = {
    "moderated": "400",
    "rejected": "422",
    "input_gone": "422",
    "input_unreachable": "422",
    "input_refused": "422",
    "timed_out": "408",
    "outcome_unknown": "408",
    "upstream_unavailable": "503",
    "limit_reached": "503",
}
OF_INPUTS = {"input_unreachable", "input_refused"}  # their detail is ours, not an upstream's
GENERATION_FAILED = "501"
CANCELLED = "499"


# What a record tells of: as SQL it takes a fifth of the time that the ORM needs to spell it at every look.
_OF_JOB = (
    "id", "is_preview", "price_micros", "state", "is_test", "asked", "progress", "failure", "failure_detail", "created",
    "submitted", "finished",
)  # fmt: skip
_OF_VARIANT = ("id", "slug")
_OF_PICTURE = ("id", "key", "format", "is_locked", "deleted")


@lru_cache(maxsize=1)
def _find() -> str:
    return f"""
        SELECT {rows.columns(Job, _OF_JOB, "j")}, {rows.columns(Variant, _OF_VARIANT, "v")},
               {rows.columns(Picture, _OF_PICTURE, "p")}
          FROM playground_job j JOIN playground_variant v ON v.id = j.variant_id
               LEFT JOIN playground_picture p ON p.job_id = j.id
         WHERE j.id = %s AND j.user_id = %s AND j.is_test = %s
    """  # noqa: S608


def find(pk: uuid.UUID, user_id: int, *, is_test: bool) -> Job | None:
    """A job of theirs, with what `record` needs of it, of its variant and its picture."""
    with connection.cursor() as cursor:
        cursor.execute(_find(), [Job._meta.pk.get_db_prep_value(pk, connection), user_id, is_test])
        found = cursor.fetchone()
    if found is None:
        return None
    variant, picture = found[len(_OF_JOB) : -len(_OF_PICTURE)], found[-len(_OF_PICTURE) :]
    job: Job = rows.partly(Job, _OF_JOB, found[: len(_OF_JOB)])
    job.variant = rows.partly(Variant, _OF_VARIANT, variant)
    if picture[0] is not None:
        job.picture = rows.partly(Picture, _OF_PICTURE, picture)
    return job


def task_id(job: Job) -> str:
    return str(job.pk)


def record(job: Job, base: str) -> dict[str, Any]:
    """Complete at every moment: what is not known yet is "" or null. Times are Unix milliseconds.

    `base` stands before our paths in the addresses of results, which are made anew each time and good for a day.
    """
    return {
        "taskId": task_id(job),
        "model": model(job),
        "state": STATES[State(job.state)],
        "param": json.dumps(_param(job)),
        "resultJson": json.dumps({"resultUrls": result_urls(job, base)}) if _is_success(job) else "",
        "failCode": fail_code(job),
        "failMsg": fail_message(job),
        "costTime": _milliseconds(job.finished) - _milliseconds(job.created) if job.finished else None,
        "completeTime": _milliseconds(job.finished) if job.finished else None,
        "createTime": _milliseconds(job.created),
        "updateTime": _milliseconds(job.finished or job.submitted or job.created),
        "progress": 100 if _is_success(job) else job.progress or 0,
        "creditsCharged": charged(job),
    }


def model(job: Job) -> str:
    """As the client asked for it."""
    asked = (job.asked or {}).get("model")
    return asked if isinstance(asked, str) and asked else job.variant.slug


def result_urls(job: Job, base: str) -> list[str]:
    """Of a job that succeeded; none once its picture has been deleted."""
    picture = job.picture
    wanted = (job.asked or {}).get("_format", "")
    is_there = picture.key and picture.deleted is None
    return [result_links.url(picture, base, format=wanted)] if is_there else []


def origin_url(job: Job, base: str) -> str:
    """Of the first input picture, as the call named it or else as an address of ours; "" where there is none."""
    named = (job.asked or {}).get("inputImage")
    if isinstance(named, str) and named.startswith(("http://", "https://")):
        return named
    first = next((upload for upload in uploads.of_job(job) if upload.key), None)
    return uploads.link(first, base) if first else ""


def fail_code(job: Job) -> str:
    if job.state == State.CANCELLED:
        return CANCELLED
    return FAIL_CODES.get(job.failure, GENERATION_FAILED) if job.state == State.FAILED else ""


def fail_message(job: Job) -> str:
    """In plain words, as the pages say it; of input pictures also which one and why, for whoever named it to mend."""
    if job.state == State.CANCELLED:
        return "It was cancelled."
    if job.state != State.FAILED:
        return ""
    found = job.failure_detail.rstrip(".") if job.failure in OF_INPUTS else ""
    return f"{jobs.why(job)} {found}." if found else jobs.why(job)


def charged(job: Job) -> float | int:
    """In credits. Nothing until it succeeded, and nothing for what the house paid or nobody did."""
    if not _is_success(job) or job.is_preview or job.is_test:
        return 0
    amount = job.price_micros / credits.MICROS_PER_CREDIT
    return int(amount) if amount.is_integer() else round(amount, 4)


def _param(job: Job) -> dict[str, Any]:
    """The body of the call, without what we noted in it ourselves; for what the pages ordered, its like."""
    if job.asked is None:
        return {"model": job.variant.slug, "input": job.params}
    return {name: value for name, value in job.asked.items() if not name.startswith("_")}


def _is_success(job: Job) -> bool:
    return job.state == State.SUCCEEDED


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)
