"""Kontext's own two routes, for clients that were written for them: a flat body, and another record.

Their tasks are tasks like all others: createTask's can be asked for here, and these with recordInfo.
"""

import uuid
from collections.abc import Sequence
from typing import Any, Literal

from django.http import HttpRequest, JsonResponse
from ninja import Query, Router, Schema
from pydantic import AliasChoices, ConfigDict, Field

from playground import catalog, records
from playground.api import envelopes, idempotency, inputs, ordering, tasks
from playground.api.auth import Caller, caller
from playground.api.bodies import MOST_WORD, Unused, Whole
from playground.api.errors import Problem
from playground.api.schemas import CreatedReply
from playground.models import Job, Upload

router = Router(tags=["Kontext"])

ROUTE = "kontext"  # in what was asked, for the message that tells of the end
USUAL_RATIO = "16:9"
USUAL_FORMAT = "jpeg"
MOST_TOLERANT, MOST_TOLERANT_OF_EDITS = 6, 2
PARAMS = {
    "variants": "model",
    "prompt": "prompt",
    "aspect_ratio": "aspectRatio",
    "inputs": "inputImage",
    "output_format": "outputFormat",
}
WORKING, SUCCESS, NOT_BEGUN, FAILED = 0, 1, 2, 3
_POLICY, _ERROR, _GENERATION = 400, 500, 501


class Generate(Schema):
    """A picture from words, or with `inputImage` a picture changed by words."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"prompt": "A red fox in the snow", "aspectRatio": "16:9"}]},
    )

    prompt: str = Field(description="What to show, or what to change: 3 to 5,000 characters.")
    model: Literal["flux-kontext-pro", "flux-kontext-max"] | None = Field(
        None, description="flux-kontext-pro where it is left out."
    )
    input_image: str | None = Field(
        None,
        alias="inputImage",
        description="The picture to change: a public address, a data: URL, or an address of our own.",
    )
    aspect_ratio: str | None = Field(
        None,
        alias="aspectRatio",
        max_length=MOST_WORD,
        description="21:9, 16:9, 4:3, 1:1, 3:4 or 9:16. Left out it is 16:9, and for an edit the picture's own.",
    )
    output_format: str | None = Field(None, alias="outputFormat", description="jpeg, the usual, or png.")
    call_back_url: str | None = Field(
        None,
        description="A public https address that is told of the end.",
        validation_alias=AliasChoices("callBackUrl", "callbackUrl"),
    )
    safety_tolerance: Whole = Field(
        None,
        alias="safetyTolerance",
        description="0 to 6, and 0 to 2 for an edit. Checked, and not used: the model's own filter is always on.",
    )
    watermark: str | None = Field(None, description="Not supported: leave it out.")
    # Known clients send these, and here they change nothing.
    enable_translation: Unused = Field(None, alias="enableTranslation", description="Taken and not used.")
    upload_cn: Unused = Field(None, alias="uploadCn", description="Taken and not used.")
    prompt_upsampling: Unused = Field(None, alias="promptUpsampling", description="Taken and not used.")


@router.post("/flux/kontext/generate", response={200: CreatedReply}, operation_id="kontextGenerate")
def generate(request: HttpRequest, body: Generate) -> JsonResponse:
    """Starts one picture of FLUX.1 Kontext. Ask for it with record-info, or be told at `callBackUrl`."""
    asked = caller(request)
    call = idempotency.key_of(request), ROUTE, tasks.asked_for(request)
    made, headers = idempotency.admitted(asked, *call, has_inputs=bool(body.input_image))
    if made is None:
        _check(body)
        pictures = inputs.input_of(asked, body.input_image or "", "inputImage")
        made = idempotency.once(asked.user.pk, *call, lambda ids: _create(asked, ids, body, *pictures))
    return envelopes.success({"taskId": made.job_ids[0]}, headers=headers | made.headers)


def _check(body: Generate) -> None:
    tasks.check_callback(body.call_back_url or "")
    if body.watermark:
        words = "Watermarks are not supported: leave watermark out, or empty."
        raise Problem("invalid_parameter", words, param="watermark")
    most = MOST_TOLERANT_OF_EDITS if body.input_image else MOST_TOLERANT
    if body.safety_tolerance is not None and not 0 <= body.safety_tolerance <= most:
        of_edits = " where there is an inputImage" if body.input_image else ""
        words = f"safetyTolerance is a whole number from 0 to {most}{of_edits}."
        raise Problem("invalid_parameter", words, param="safetyTolerance")
    if body.output_format not in (None, "", "jpeg", "png"):
        raise Problem("invalid_parameter", "outputFormat is jpeg or png.", param="outputFormat")


def _create(
    request: Caller,
    ids: Sequence[uuid.UUID],
    body: Generate,
    found: Sequence[Upload],
    sources: tuple[str, ...],
) -> None:
    variant = ordering.variant_of(body.model or "flux-kontext-pro", "", has_inputs=bool(body.input_image))
    ordering.submit(
        request,
        ids,
        variant=variant,
        prompt=body.prompt,
        asked={**tasks.asked_for(request), "_route": ROUTE},
        aspect_ratio=body.aspect_ratio or (catalog.AUTO if body.input_image else USUAL_RATIO),
        inputs=found,
        sources=sources,
        callback_url=body.call_back_url or "",
        output_format=body.output_format or USUAL_FORMAT,
        params=PARAMS,
    )


# --- The record ---------------------------------------------------------------------------------------
class KontextResult(Schema):
    originImageUrl: str = Field(description="The picture that was to be changed.")
    resultImageUrl: str = Field(description="Good for 24 hours, without a key; ask again for a fresh one.")


class KontextRecord(Schema):
    """Times are ISO 8601; `paramJson` is JSON in a string."""

    taskId: str
    paramJson: str
    createTime: str
    completeTime: str | None
    response: KontextResult
    successFlag: int = Field(description="0 working, 1 success, 2 failed before it was begun, 3 failed.")
    errorCode: int | None = Field(description="400 the safety filter, 500 not begun, 501 not made.")
    errorMessage: str


class KontextRecordReply(Schema):
    code: int = Field(200, examples=[200])
    msg: str = "success"
    data: KontextRecord


@router.get("/flux/kontext/record-info", response={200: KontextRecordReply}, operation_id="kontextRecordInfo")
def record_info(
    request: HttpRequest, taskId: str = Query("", description="As generate gave it.")
) -> JsonResponse:
    """Where a task is, and its result once it has one. Ask every 2 to 3 seconds."""
    if not taskId:
        raise Problem("missing_parameter", "taskId parameter is required", param="taskId")
    job = tasks.find(caller(request), taskId)
    return envelopes.success(record(job, tasks.base(request)), headers=tasks.charged_headers(job))


def record(job: Job, base: str) -> dict[str, Any]:
    """Complete at every moment, like `records.record`."""
    told = records.record(job, base)
    flag = flag_of(job)
    results = records.result_urls(job, base) if flag == SUCCESS else []
    return {
        "taskId": told["taskId"],
        "paramJson": told["param"],
        "createTime": tasks.iso(job.created),
        "completeTime": tasks.iso(job.finished),
        "response": {
            "originImageUrl": records.origin_url(job, base),
            "resultImageUrl": results[0] if results else "",
        },
        "successFlag": flag,
        "errorCode": _error_code(job, flag),
        "errorMessage": told["failMsg"],
    }


def flag_of(job: Job) -> int:
    if not job.is_final:
        return WORKING
    if job.state == Job.State.SUCCEEDED:
        return SUCCESS
    return FAILED if job.submitted else NOT_BEGUN


def _error_code(job: Job, flag: int) -> int | None:
    if flag in (WORKING, SUCCESS):
        return None
    if job.failure == "moderated":
        return _POLICY
    return _GENERATION if flag == FAILED else _ERROR
