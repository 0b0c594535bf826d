"""Input pictures over HTTP: taking them, showing them to their owner, and to upstreams by signed addresses."""

import logging
import math
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.http import FileResponse, Http404, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.views.decorators.cache import cache_control
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh

from playground import images
from playground import uploads as inputs
from playground.http import Request, back
from playground.models import Picture, Upload
from playground.views import files
from playground.views.gallery import as_id

logger = logging.getLogger(__name__)

PAGE = 48
MOST_BODY_BYTES = images.MAX_INPUT_BYTES + 65_536
# Of a body that is too large, this much is still read: a browser shows no answer that comes while it is sending.
MOST_IGNORED_BYTES = 40_000_000
IN_USE = "A picture is being made from it at this moment. Remove it when that is done."
TOO_LARGE = f"The file is larger than {images.MAX_INPUT_BYTES // 1_000_000} MB, which is the most."


@csrf_exempt  # `_take` has the check: it reads the whole body, so how long that is must be known before
@require_http_methods(["GET", "HEAD", "POST"])
def uploads(request: Request) -> HttpResponse:
    """GET: the page of those that are stored. POST: one more of them."""
    return _received(request) if request.method == "POST" else stored(request)


# --- The page -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Row:
    """An input picture and what its owner should know of it."""

    upload: Upload

    @property
    def goes(self) -> str:
        """When it goes by itself; empty for one that a run was made from."""
        if self.upload.runs:
            return ""
        left = self.upload.last_used + inputs.UNUSED_FOR - timezone.now()
        days = math.ceil(left / timedelta(days=1))
        return f"goes in {days} days" if days > 1 else "goes within a day"


@require_safe
@login_required
@cache_control(private=True, no_cache=True)
def stored(request: Request) -> HttpResponse:
    """The owner's, newest first, and how much of their room they take; for htmx those that come after the last one."""
    before = as_id(request.GET.get("before", ""))
    own = Upload.objects.visible_to(request.user).stored()
    found = list(own.with_uses().newest_first(before)[: PAGE + 1])
    context = {
        "rows": [Row(upload) for upload in found[:PAGE]],
        "older": found[PAGE - 1].pk if len(found) > PAGE else None,
        "is_first_page": before is None,
    }
    if request.htmx.target == "more":
        return render(request, "uploads.html#tiles", context)
    return render(request, "uploads.html", context | _room(request))


def _room(request: Request) -> dict[str, Any]:
    count, used = inputs.usage(request.user)
    return {
        "count": count,
        "most": settings.UPLOADS_PER_ACCOUNT,
        "megabytes": used / 1e6,
        "most_megabytes": settings.UPLOADS_BYTES_PER_ACCOUNT / 1e6,
        "unused_days": inputs.UNUSED_FOR.days,
    }


# --- Taking and removing ------------------------------------------------------------------------------
def _received(request: Request) -> HttpResponse:
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
    try:
        taken = take(request, lambda: _taken(request))
    except Refused as no:
        return _no(str(no), no.status)
    return JsonResponse(_shown(taken), status=201)


class Refused(Exception):
    """An input picture was not taken; str() says why in plain words."""

    def __init__(self, why: object, status: int) -> None:
        super().__init__(str(why))
        self.status = status


def take(request: Request, taking: Callable[[], Upload]) -> Upload:
    """What `taking` takes, for every page that takes one: not too often, and with an answer to all that can go wrong."""
    if inputs.is_too_often(request.user.pk):
        raise Refused("That is a lot of pictures at once. Wait a minute, then go on.", 429)
    try:
        return taking()
    except images.ImageError as no:
        raise Refused(no, 422) from no
    except inputs.QuotaReached as no:
        raise Refused(no, 409) from no
    except (images.Busy, inputs.NoSpace) as no:
        raise Refused(no, 503) from no
    except (OSError, MemoryError) as error:
        logger.exception("an input picture could not be stored")
        raise Refused("The picture could not be stored at the moment. Try again later.", 503) from error


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


def _no(why: str, status: int) -> JsonResponse:
    return JsonResponse({"error": why}, status=status)


@require_POST
@login_required
def upload_delete(request: Request, upload_id: uuid.UUID) -> HttpResponse:
    """204, or 409 while a picture is being made from it. A page's form names with `next` where it goes back to.

    For htmx: nothing in the place of the tile, and the room that is left; or the page anew where more than that changed.
    """
    is_form = "next" in request.POST
    is_gone = True
    try:
        inputs.remove(_own(request, upload_id))
    except inputs.InUse:
        if not is_form:
            return _no(IN_USE, 409)
        messages.error(request, IN_USE)
        is_gone = False
    if request.htmx and is_form:
        return _without_it(request) if is_gone else HttpResponseClientRefresh()
    return back(request, reverse("uploads")) if is_form else HttpResponse(status=204)


def _without_it(request: Request) -> HttpResponse:
    room = _room(request)
    return render(request, "uploads.html#room", room) if room["count"] else HttpResponseClientRefresh()


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


@require_safe
def upload_link(request: Request, signed: str, name: str) -> HttpResponseBase:
    """What the API's upload routes gave as its address: without log-in, for as long as it stays unused."""
    upload = inputs.by_link(signed)
    if upload is None:
        raise Http404
    response = _send(request, upload, "original", "private, no-cache")
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
