"""Tasks: createTask, recordInfo, cancel and the list, in the shape that clients of kie.ai know."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from ninja import Query, Router, Schema
from pydantic import ConfigDict, Field

from playground import callbacks, catalog, jobs, records
from playground.api import envelopes, idempotency, ordering
from playground.api.auth import Caller, caller
from playground.api.bodies import CreateTask, TaskInput, from_json
from playground.api.errors import Problem
from playground.api.inputs import inputs_of
from playground.api.schemas import CreatedReply, RecordReply, RecordsReply
from playground.models import Job, Upload
from playground.models.work import JobQuerySet

router = Router(tags=["Tasks"])

MOST_A_PAGE = 100


def base(request: HttpRequest) -> str:
    """What the world puts before our paths."""
    return settings.BASE_URL or request.build_absolute_uri("/")[:-1]


def own(request: Caller) -> JobQuerySet:
    """The caller's tasks. Those of test keys are for test keys, and the others for the others."""
    mine: JobQuerySet = Job.objects.visible_to(request.user).filter(is_test=request.auth.is_test)
    return mine.select_related("variant", "picture")


def find(request: Caller, text: str) -> Job:
    """Raises Problem where there is none of theirs."""
    pk = _id(text)
    return _found(own(request).filter(pk=pk).first() if pk else None)


def look_at(request: Caller, text: str) -> Job:
    """As `find`, with no more than a record needs."""
    pk = _id(text)
    return _found(records.find(pk, request.user.pk, is_test=request.auth.is_test) if pk else None)


def _id(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def _found(job: Job | None) -> Job:
    if job is None:
        raise Problem("not_found", "Task not found", param="taskId")
    return job


def check_callback(url: str, param: str = "callBackUrl") -> None:
    if url and (why := callbacks.check_url(url)):
        raise Problem("invalid_parameter", why, param=param)


@router.post("/jobs/createTask", response={200: CreatedReply}, operation_id="createTask")
def create_task(request: HttpRequest, body: CreateTask) -> JsonResponse:
    """Starts one picture. Answers at once; the picture is asked for with recordInfo, or told to `callBackUrl`."""
    asked = caller(request)
    call = idempotency.key_of(request, body.task_id), "createTask", asked_for(request)
    made, headers = idempotency.admitted(asked, *call, has_inputs=bool(body.input.input_urls))
    if made is None:
        pictures = inputs_of(asked, body.input.input_urls, "input.input_urls")
        made = idempotency.once(asked.user.pk, *call, lambda ids: _create(asked, ids, body, *pictures))
    return envelopes.success({"taskId": made.job_ids[0]}, headers=headers | made.headers)


def asked_for(request: Any) -> dict[str, Any]:
    """The body as it came, which the first parser has left on the request; `input` as the object that its text meant."""
    body: dict[str, Any] = request.asked
    return {**body, "input": from_json(body["input"])} if isinstance(body.get("input"), str) else body


def _create(
    request: Caller,
    ids: Sequence[uuid.UUID],
    body: CreateTask,
    inputs: Sequence[Upload],
    sources: tuple[str, ...],
) -> None:
    check_callback(body.call_back_url)
    wanted = body.input
    variant = ordering.variant_of(body.model, wanted.resolution, has_inputs=bool(wanted.input_urls))
    ordering.submit(
        request,
        ids,
        variant=variant,
        prompt=wanted.prompt,
        asked=asked_for(request),
        aspect_ratio=_ratio(wanted),
        seed=wanted.seed,
        output_format=wanted.output_format,
        inputs=inputs,
        sources=sources,
        callback_url=body.call_back_url,
    )


def _ratio(wanted: TaskInput) -> str:
    """`auto` without a picture to follow, which some of kie.ai's pages list, is the usual."""
    return "" if wanted.aspect_ratio == catalog.AUTO and not wanted.input_urls else wanted.aspect_ratio


@router.get("/jobs/recordInfo", response={200: RecordReply}, operation_id="recordInfo")
def record_info(
    request: HttpRequest, taskId: str = Query("", description="As createTask gave it.")
) -> JsonResponse:
    """Where a task is, and its result once it has one. Ask every 2 to 3 seconds."""
    if not taskId:
        raise Problem("missing_parameter", "taskId parameter is required", param="taskId")
    job = look_at(caller(request), taskId)
    return envelopes.success(records.record(job, base(request)), headers=charged_headers(job))


def charged_headers(job: Job) -> dict[str, str]:
    """What moved, once it has moved."""
    return {"X-AI-Credits-Charged": f"{records.charged(job):.2f}"} if job.state == Job.State.SUCCEEDED else {}


class CancelTask(Schema):
    # The route itself says that it is missing, in kie.ai's words.
    model_config = ConfigDict(extra="forbid", json_schema_extra={"required": ["taskId"]})

    task_id: str = Field("", alias="taskId")


@router.post("/jobs/cancel", response={200: RecordReply}, operation_id="cancelTask")
def cancel(request: HttpRequest, body: CancelTask) -> JsonResponse:
    """Ends a task that has not been sent yet. Its price is given back."""
    asked = caller(request)
    if not body.task_id:
        raise Problem("missing_parameter", "taskId parameter is required", param="taskId")
    job = find(asked, body.task_id)
    if not jobs.cancel(job, by=asked.user):
        words = "It has ended." if job.is_final else "It has been sent, so it can be stopped no more."
        raise Problem("not_cancellable", words, param="taskId")
    job.refresh_from_db()
    return envelopes.success(records.record(job, base(request)))


@router.get("/jobs", response={200: RecordsReply}, operation_id="listTasks")
def list_tasks(
    request: HttpRequest,
    limit: int = Query(20, ge=1, le=MOST_A_PAGE),
    cursor: str = Query("", max_length=64, description="`nextCursor` of the page before."),
    state: str = Query("", description="waiting, queuing, generating, success or fail."),
) -> JsonResponse:
    """Tasks, newest first."""
    rows = own(caller(request))
    if state:
        rows = rows.filter(state__in=_states(state))
    found = list(rows.newest_first(_cursor(cursor))[: limit + 1])
    page = found[:limit]
    data = {
        "items": [records.record(job, base(request)) for job in page],
        "nextCursor": page[-1].pk.hex if len(found) > limit else None,
    }
    return envelopes.success(data)


def _states(name: str) -> list[str]:
    if states := [state.value for state, called in records.STATES.items() if called == name]:
        return states
    raise Problem(
        "invalid_parameter", "state is waiting, queuing, generating, success or fail.", param="state"
    )


def _cursor(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text) if text else None
    except ValueError:
        raise Problem(
            "invalid_parameter", "This is no cursor: send the nextCursor of a page.", param="cursor"
        ) from None


def iso(at: datetime | None) -> str | None:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z") if at else None
