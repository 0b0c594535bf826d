"""OpenAI's image routes: the call waits for the picture, and its errors are in OpenAI's words.

A client that gives up and comes back with the same Idempotency-Key waits for the same tasks. Without a key a repeat
orders others, and OpenAI's clients repeat by themselves what timed out: so what they are not to repeat says so, in
`x-should-retry`.
"""

import base64
import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, JsonResponse
from ninja import Router
from pydantic import ValidationError

from playground import catalog, images, jobs, records, result_links
from playground.api import auth, idempotency, inputs, ordering, reading, tasks, waiting
from playground.api.auth import Caller, caller
from playground.api.bodies import ImageBody, ImageEdit, ImageGeneration
from playground.api.errors import Problem
from playground.api.problems import of_body
from playground.api.schemas import ImagesReply, OpenAIFailure
from playground.models import Job, Upload, Variant

logger = logging.getLogger(__name__)

TEXT_MODEL, EDIT_MODEL = "flux-2/pro-text-to-image", "flux-2/pro-image-to-image"
PIXELS_OF_2K = 2_200_000  # more than 1K's usual shapes have, less than 2K's
MOST_BODY_BYTES = inputs.MOST_INPUTS * images.MAX_INPUT_BYTES + 1_000_000
RESTART_S = 10.0  # after which a server that was stopped is there again
PARAMS = {
    "variants": "model",
    "prompt": "prompt",
    "aspect_ratio": "size",
    "inputs": "image",
    "seed": "seed",
    "count": "n",
    "output_format": "output_format",
}
_FAILURES = {
    "moderated": "moderated",
    "rejected": "invalid_parameter",
    "input_gone": "input_refused",
    "input_unreachable": "input_refused",
    "input_refused": "input_refused",
}


def new_router(prefix: str) -> Router:
    """One for each place that the routes are at."""
    router = Router(tags=["OpenAI"])
    multipart = {"requestBody": ImageEdit.request_body()}
    for path, view, extra in (("generations", generations, {}), ("edits", edits, multipart)):
        name = f"{prefix}_images_{path}"
        router.post(f"/images/{path}", response={200: ImagesReply}, operation_id=name, openapi_extra=extra)(
            view
        )
    router.post(
        "/images/variations", response={404: OpenAIFailure}, operation_id=f"{prefix}_images_variations"
    )(variations)
    return router


@dataclass(frozen=True)
class Wanted:
    """An order: what the call says, as it is meant and as it is kept, and its input pictures."""

    body: ImageBody
    asked: dict[str, Any]
    inputs: Sequence[Upload] = ()
    sources: tuple[str, ...] = ()

    @property
    def has_inputs(self) -> bool:
        return bool(self.inputs or self.sources)

    @property
    def model(self) -> str:
        return self.body.model or (EDIT_MODEL if self.has_inputs else TEXT_MODEL)


def generations(request: HttpRequest, body: ImageGeneration) -> JsonResponse:
    """Makes pictures and waits for them."""
    asked, said = caller(request), tasks.asked_for(request)

    def read() -> Wanted:
        return Wanted(body, said, *inputs.inputs_of(asked, body.input_urls, "input_urls"))

    return _answer(asked, body, said, read, has_inputs=bool(body.input_urls))


def edits(request: HttpRequest) -> JsonResponse:
    """Makes pictures from one to eight others, sent as `image` or `image[]`, and waits for them."""
    asked = caller(request)
    body, files = _multipart(asked)
    fields = body.model_dump(exclude_unset=True, by_alias=True)
    # Of a repeat the pictures are not stored again, and those of before may be gone: it is told by their bytes.
    said = {**fields, "image": [hashlib.sha256(file.read()).hexdigest() for file in files]}

    def read() -> Wanted:
        found = _taken(asked, files)
        return Wanted(body, {**fields, "image": [str(one.pk) for one in found]}, found)

    return _answer(asked, body, said, read, has_inputs=True)


def variations(request: HttpRequest) -> JsonResponse:
    """Not supported: send the picture to `/v1/images/edits`, and say in the prompt what is to change."""
    words = "Variations are not supported. Send the picture to /v1/images/edits, with a prompt that says what to change."
    raise Problem("not_found", words)


# --- Reading a multipart body -------------------------------------------------------------------------
def _multipart(request: Caller) -> tuple[ImageEdit, list[UploadedFile]]:
    """The fields and the pictures. How long the body is must be known before it is read."""
    reading.take_files(request, MOST_BODY_BYTES)
    fields = {_plain(name): request.POST[name] for name in request.POST if _plain(name) != "image"}
    if "mask" in fields or "mask" in request.FILES:
        words = "Masks are not supported: say in the prompt what is to change and what is to stay."
        raise Problem("invalid_parameter", words, param="mask")
    return _checked(fields), _files(request)


def _files(request: Caller) -> list[UploadedFile]:
    if strange := next((name for name in request.FILES if _plain(name) != "image"), None):
        raise Problem("unknown_parameter", f"This call takes no file {strange[:60]}.", param=strange[:60])
    files = [*request.FILES.getlist("image"), *request.FILES.getlist("image[]")]
    if not files:
        raise Problem("missing_parameter", "image is missing: send the picture as a file.", param="image")
    if len(files) > inputs.MOST_INPUTS:
        raise Problem("invalid_parameter", f"{inputs.MOST_INPUTS} pictures are the most.", param="image")
    return files


def _taken(request: Caller, files: Sequence[UploadedFile]) -> list[Upload]:
    """The same picture twice is one."""
    found = []
    for number, file in enumerate(files):
        file.seek(0)
        name = "image" if len(files) == 1 else f"image[{number}]"
        found.append(inputs.taken(request, file.read(), name))
    return list(dict.fromkeys(found))


def _plain(name: str) -> str:
    return name.removesuffix("[]")


def _checked(fields: dict[str, str]) -> ImageEdit:
    """As the JSON bodies are checked."""
    if bad := next((name for name, text in fields.items() if "\x00" in text), None):
        raise Problem("invalid_parameter", "It has a character in it that cannot be sent.", param=bad[:60])
    try:
        return ImageEdit.model_validate(fields)
    except ValidationError as error:
        raise of_body(error.errors()[0]) from error


# --- Ordering -----------------------------------------------------------------------------------------
def _submit(request: Caller, ids: Sequence[uuid.UUID], wanted: Wanted) -> None:
    body = wanted.body
    tasks.check_callback(body.call_back_url)
    variant = _variant(wanted)
    ordering.submit(
        request,
        ids,
        variant=variant,
        prompt=body.prompt,
        asked={**wanted.asked, "model": wanted.model},
        aspect_ratio=_ratio(wanted, variant),
        seed=body.seed,
        inputs=wanted.inputs,
        sources=wanted.sources,
        callback_url=body.call_back_url,
        output_format=body.output_format,
        params=PARAMS,
    )


def _variant(wanted: Wanted) -> Variant:
    """2K where the size asks for more than 1K has, and the model's name leaves it open."""
    size, resolution = wanted.body.pixels, wanted.body.resolution
    is_open = not resolution and all(variant.slug != wanted.model for variant in catalog.on_offer())
    if is_open and size and size[0] * size[1] > PIXELS_OF_2K and ordering.has_2k(wanted.model):
        resolution = "2K"
    return ordering.variant_of(wanted.model, resolution, has_inputs=wanted.has_inputs, param="resolution")


def _ratio(wanted: Wanted, variant: Variant) -> str:
    if wanted.body.aspect_ratio:
        return wanted.body.aspect_ratio
    if wanted.body.pixels and variant.aspect_ratios:
        return catalog.nearest_ratio(variant, *wanted.body.pixels)
    return catalog.AUTO if wanted.has_inputs else ordering.usual_ratio(variant)


# --- Waiting and answering ----------------------------------------------------------------------------
def _answer(
    request: Caller,
    body: ImageBody,
    said: dict[str, Any],
    read: Callable[[], Wanted],
    *,
    has_inputs: bool,
) -> JsonResponse:
    """Orders, waits, and answers with the pictures; or with why there are none. `read` looks at the input pictures,
    which is done once for a call and its repeats."""
    call = idempotency.key_of(request), "images", said
    known, headers = idempotency.admitted(request, *call, has_inputs=has_inputs)
    wanted = known or read()  # before there is a place to wait: looking at pictures has turns of its own
    begun = time.monotonic()
    with waiting.room(request.user.pk):
        made = wanted if isinstance(wanted, idempotency.Made) else _order(request, call, wanted)
        ids = [uuid.UUID(job_id) for job_id in made.job_ids]
        with _ordered(made, has_key=bool(call[0])):
            if not waiting.until_ended(ids, settings.API_WAIT_S - (time.monotonic() - begun)):
                raise _still_running()
            auth.check_again(request, made.job_ids)
            return _pictures(request, body, _in_order(request, ids), headers | made.headers)


def _order(request: Caller, call: tuple[str, str, dict[str, Any]], wanted: Wanted) -> idempotency.Made:
    def make(ids: Sequence[uuid.UUID]) -> None:
        _submit(request, ids, wanted)

    return idempotency.once(request.user.pk, *call, make, count=wanted.body.n)


@contextmanager
def _ordered(made: idempotency.Made, *, has_key: bool) -> Iterator[None]:
    """What goes wrong from here on names the tasks that there are, and is tried again only by whom a repeat costs nothing.

    With a key it waits for these same tasks; without one it would order others.
    """
    try:
        yield
    except Problem as problem:
        problem.task_ids = made.job_ids
        if not has_key:
            problem.should_retry, problem.retry_after_s = False, None
        raise
    except Exception as error:
        logger.exception("answering a call whose tasks are %s", made.job_ids)
        words = "We cannot tell at the moment what became of the pictures. Their tasks go on: ask recordInfo."
        raise Problem(
            "unavailable",
            words,
            task_ids=made.job_ids,
            should_retry=has_key,
            retry_after_s=2 if has_key else None,
        ) from error


def _still_running() -> Problem:
    if waiting.is_ending():
        words = "The server is being started again. The tasks of this call go on."
        return Problem("still_running", words, should_retry=True, retry_after_s=RESTART_S)
    words = "The pictures take longer than a call may wait. Their tasks go on."
    return Problem("still_running", words, should_retry=True)


def _in_order(request: Caller, ids: Sequence[uuid.UUID]) -> list[Job]:
    known = {job.pk: job for job in tasks.own(request).filter(pk__in=ids)}
    return [known[pk] for pk in ids if pk in known]


def _pictures(request: Caller, body: ImageBody, made: Sequence[Job], headers: dict[str, str]) -> JsonResponse:
    """Those that were made; fewer than asked for where some failed, which were not charged."""
    good = [job for job in made if job.state == Job.State.SUCCEEDED and job.picture.key]
    if not good:
        raise _why_none(made)
    picture = good[0].picture
    answer = {
        "created": int(good[0].created.timestamp()),
        "data": [_datum(request, body, job) for job in good],
        "size": f"{picture.width}x{picture.height}",
        "output_format": body.output_format or picture.format,
    }
    charged = sum(records.charged(job) for job in good)
    return JsonResponse(answer, headers={**headers, "X-AI-Credits-Charged": f"{charged:.2f}"})


def _datum(request: Caller, body: ImageBody, job: Job) -> dict[str, Any]:
    """In the form that was asked for; in both where none was: OpenAI's older models answer so, the newer ones so."""
    url = {"url": result_links.url(job.picture, tasks.base(request), format=body.output_format)}
    if body.response_format == "url":
        return url
    try:
        coded = {"b64_json": _base64(job, body.output_format)}
    except images.Busy as busy:
        if not body.response_format:
            return url
        words = "The picture is there and is being converted for too many at once. Ask for it by its task."
        raise Problem("unavailable", words, retry_after_s=2) from busy
    return coded if body.response_format else url | coded


def _base64(job: Job, format: str) -> str:
    data = images.path(job.picture.key, "original", job.picture.format).read_bytes()
    return base64.b64encode(images.converted(data, format or job.picture.format)).decode()


def _why_none(made: Sequence[Job]) -> Problem:
    """How the first task ended, as an error; nothing was charged."""
    job = made[0] if made else None
    if job is None or job.state == Job.State.SUCCEEDED:
        return Problem("not_found", "The picture has been deleted.")
    if job.state == Job.State.CANCELLED:
        return Problem("generation_failed", "The task was cancelled.", should_retry=False)
    code = _FAILURES.get(job.failure, "generation_failed")
    words, param = f"{jobs.why(job)} Nothing was charged.", None
    if code == "input_refused":
        words, param = f"{words} {job.failure_detail}".strip(), "image"
    return Problem(code, words, param=param, should_retry=False)
