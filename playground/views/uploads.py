"""Input pictures over HTTP: taking them, showing them to their owner, and to upstreams by signed addresses."""

import logging
import time
import uuid

from django.contrib.auth.decorators import login_required
from django.core.cache import cache
from django.core.exceptions import ValidationError
from django.http import FileResponse, Http404, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST, require_safe

from playground import images
from playground import uploads as inputs
from playground.http import Request
from playground.models import Picture, Upload
from playground.views import files

logger = logging.getLogger(__name__)

UPLOADS_A_MINUTE = 60
MOST_BODY_BYTES = images.MAX_INPUT_BYTES + 65_536
# Of a body that is too large, this much is still read: a browser shows no answer that comes while it is sending.
MOST_IGNORED_BYTES = 40_000_000
TOO_LARGE = f"The file is larger than {images.MAX_INPUT_BYTES // 1_000_000} MB, which is the most."


# --- Taking and removing ------------------------------------------------------------------------------
@csrf_exempt  # `_take` has the check: it reads the whole body, so how long that is must be known before
@require_POST
def uploads(request: Request) -> HttpResponse:
    """One input picture: a `file`, or the id of a `picture` from the gallery. 201, or {"error": in plain words}."""
    said = request.META.get("CONTENT_LENGTH") or ""
    length = int(said) if said.isdecimal() else 0  # where it says none, Django reads nothing
    if length > MOST_BODY_BYTES:
        _ignore(request, length)
        return _no(TOO_LARGE, 413)
    if not request.user.is_authenticated:
        return _no("Log in to add a picture.", 401)
    return _take(request)


def _ignore(request: Request, length: int) -> None:
    if length <= MOST_IGNORED_BYTES:
        while request.read(65_536):
            pass


@csrf_protect
def _take(request: Request) -> HttpResponse:
    if _is_too_often(request):
        return _no("That is a lot of pictures at once. Wait a minute, then go on.", 429)
    try:
        taken = _taken(request)
    except images.ImageError as no:
        return _no(str(no), 422)
    except inputs.QuotaReached as no:
        return _no(str(no), 409)
    except (OSError, MemoryError):
        logger.exception("an input picture could not be stored")
        return _no("The picture could not be stored at the moment. Try again later.", 503)
    return JsonResponse(_shown(taken), status=201)


def _taken(request: Request) -> Upload:
    if file := request.FILES.get("file"):
        return inputs.take(request.user, file.read())
    if "picture" in request.POST:
        return inputs.take_picture(request.user, _own_picture(request, request.POST["picture"]))
    raise images.ImageError("No picture came with the request. Choose a file.")


def _own_picture(request: Request, pk: str) -> Picture:
    try:
        return get_object_or_404(Picture.objects.visible_to(request.user).kept(), pk=pk)
    except ValidationError as no_id:
        raise Http404 from no_id


def _shown(upload: Upload) -> dict[str, str | int]:
    """What a page needs to show it."""
    return {
        "id": str(upload.pk),
        "width": upload.width,
        "height": upload.height,
        "thumb": reverse("upload_image", args=[upload.pk, "thumb"]),
    }


def _is_too_often(request: Request) -> bool:
    """Good files and bad ones count alike: what costs us is the looking."""
    key = f"uploads:{request.user.pk}:{int(time.time() // 60)}"
    cache.add(key, 0, timeout=120)
    try:
        return cache.incr(key) > UPLOADS_A_MINUTE
    except ValueError:  # dropped from a full cache at this very moment
        return False


def _no(why: str, status: int) -> JsonResponse:
    return JsonResponse({"error": why}, status=status)


@require_POST
@login_required
def upload_delete(request: Request, upload_id: uuid.UUID) -> HttpResponse:
    try:
        inputs.remove(_own(request, upload_id))
    except inputs.InUse:
        return _no("A picture is being made from it at this moment. Remove it when that is done.", 409)
    return HttpResponse(status=204)


# --- Bytes --------------------------------------------------------------------------------------------
@require_safe
@login_required
def upload_image(request: Request, upload_id: uuid.UUID, size: str) -> HttpResponseBase:
    """`thumb`, or `preview`, which what was made from a locked preview has not: it would lack the mark."""
    upload = _own(request, upload_id)
    if size == "thumb":
        return _send(request, upload, "thumb", files.ASKED_ONCE)
    if size == "preview" and not upload.is_preview:
        return _send(request, upload, "preview", files.ASKED_EACH_TIME)
    raise Http404


def _own(request: Request, upload_id: uuid.UUID) -> Upload:
    return get_object_or_404(Upload.objects.visible_to(request.user).stored(), pk=upload_id)


@require_safe
def upload_signed(request: Request, signed: str) -> HttpResponseBase:
    """For an upstream that fetches its inputs: without log-in, for an hour."""
    upload = inputs.by_signed(signed)
    if upload is None:
        raise Http404
    response = _send(request, upload, "original", "private, no-store")
    response["X-Robots-Tag"] = "noindex, nofollow"
    return response


def _send(request: Request, upload: Upload, size: images.Size, cache_control: str) -> HttpResponseBase:
    etag = f'"{upload.sha256}-{size}"'
    response = get_conditional_response(request, etag=etag) or _file(upload, size)
    response["ETag"] = etag
    response["Cache-Control"] = cache_control
    return response


def _file(upload: Upload, size: images.Size) -> HttpResponseBase:
    try:
        file = images.path(upload.key, size, upload.format).open("rb")
    except FileNotFoundError as gone:
        raise Http404 from gone
    content_type = images.content_type(size, upload.format)
    suffix = images.SUFFIXES[upload.format if size == "original" else "webp"]
    return FileResponse(file, filename=f"input{suffix}", content_type=content_type)
