"""Input pictures that are sent ahead: as a file, as base64, or as an address that is fetched now.

What comes is decoded and encoded anew like every upload, and its address may be named in calls as long as it is there.
`uploadPath` and `fileName` are labels that are said back, and no places on a disk.
"""

import asyncio
import base64
import binascii
import re
from typing import Any

from django.conf import settings
from django.http import HttpRequest, JsonResponse
from django.utils import timezone
from ninja import Router, Schema
from pydantic import ConfigDict, Field

from playground import images, net, turnstile, uploads
from playground.api import inputs, reading, tasks
from playground.api.auth import Caller, caller
from playground.api.errors import Problem
from playground.api.places import Places
from playground.models import Upload

MOST_BODY_BYTES = images.MAX_INPUT_BYTES + 65_536
FETCHED_WITHIN_S = 30.0
MOST_LABEL = 200
DONE = "File uploaded successfully"
TOO_OFTEN = f"An account may send {uploads.A_MINUTE} pictures in a minute. Wait a little, then go on."
_LABELS = {"uploadPath", "fileName"}
_fetches = Places(
    16, each=2, words="Too many addresses are being fetched at the moment. Try again in a few seconds."
)


class Base64Upload(Schema):
    model_config = ConfigDict(extra="forbid")

    base64_data: str = Field(
        alias="base64Data", description="The picture, at most 10 MB: bare base64, or a data: URL."
    )
    upload_path: str | None = Field(None, alias="uploadPath", description="A label.")
    file_name: str | None = Field(None, alias="fileName", description="A label.")


class UrlUpload(Schema):
    model_config = ConfigDict(extra="forbid")

    file_url: str = Field(
        alias="fileUrl", description="A public address with a picture of at most 10 MB; it has 30 seconds."
    )
    upload_path: str | None = Field(None, alias="uploadPath", description="A label.")
    file_name: str | None = Field(None, alias="fileName", description="A label.")


class File(Schema):
    """`downloadUrl` may be named as an input picture; it needs no key, and goes three days after its last use."""

    fileId: str
    fileName: str
    filePath: str
    downloadUrl: str
    fileUrl: str = Field(description="The same as downloadUrl.")
    fileSize: int = Field(description="Bytes, as we encoded it.")
    mimeType: str
    uploadedAt: str
    expiresAt: str


class FileReply(Schema):
    success: bool = True
    code: int = Field(200, examples=[200])
    msg: str = DONE
    data: File


_FORM = {
    "type": "object",
    "required": ["file"],
    "additionalProperties": False,
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The picture, at most 10 MB."},
        "uploadPath": {"type": "string", "description": "A label."},
        "fileName": {"type": "string", "description": "A label."},
    },
}
_MULTIPART = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}


def new_router(prefix: str = "") -> Router:
    """One for each place that the routes are at. `prefix` tells their operations apart."""
    router = Router(tags=["Files"])
    told: dict[str, Any] = {"response": {200: FileReply}}
    router.post("/file-stream-upload", operation_id=f"{prefix}uploadFile", openapi_extra=_MULTIPART, **told)(
        stream
    )
    router.post("/file-base64-upload", operation_id=f"{prefix}uploadBase64", **told)(from_base64)
    router.post("/file-url-upload", operation_id=f"{prefix}uploadFromUrl", **told)(from_url)
    return router


def stream(request: HttpRequest) -> JsonResponse:
    """Takes a picture as a file of a multipart form."""
    asked = caller(request)
    if not reading.is_multipart(request):
        raise Problem("unsupported_media_type", "Send multipart/form-data, with the picture as `file`.")
    reading.check_length(request, MOST_BODY_BYTES)
    file = request.FILES.get("file")
    if strange := sorted({*request.FILES, *request.POST} - _LABELS - {"file"}):
        name = strange[0][:60]
        raise Problem("unknown_parameter", f"This call has no parameter {name}.", param=name)
    if file is None:
        raise Problem("missing_parameter", "file is missing: send the picture as a file.", param="file")
    _count(asked)
    upload = inputs.taken(asked, file.read(), "file")
    return _done(asked, upload, request.POST.get("uploadPath"), request.POST.get("fileName"), file.name)


def from_base64(request: HttpRequest, body: Base64Upload) -> JsonResponse:
    """Takes a picture as base64 in JSON."""
    asked = caller(request)
    _count(asked)
    upload = inputs.taken(asked, _decoded(body.base64_data), "base64Data")
    return _done(asked, upload, body.upload_path, body.file_name)


def from_url(request: HttpRequest, body: UrlUpload) -> JsonResponse:
    """Fetches a picture from a public address, and answers when it is here."""
    asked = caller(request)
    _count(asked)
    if not body.file_url:
        raise Problem("missing_parameter", "fileUrl is missing.", param="fileUrl")
    here, _ = inputs.input_of(asked, body.file_url, "fileUrl")
    upload = here[0] if here else inputs.taken(asked, _fetched(asked, body.file_url), "fileUrl")
    return _done(asked, upload, body.upload_path, body.file_name)


def _count(request: Caller) -> None:
    if uploads.is_too_often(request.user.pk):
        raise Problem("rate_limit_exceeded", TOO_OFTEN, retry_after_s=60 - timezone.now().second)


def _decoded(text: str) -> bytes:
    """Bare, or behind `data:...;base64,`; broken into lines or not, padded or not."""
    head, comma, rest = text.partition(",")
    bare = "".join((rest if comma and head.startswith("data:") else text).split())
    try:
        return base64.b64decode(bare + "=" * (-len(bare) % 4), validate=True)
    except (ValueError, binascii.Error):
        words = "base64Data is not base64: send the bare text, or data:image/png;base64,..."
        raise Problem("invalid_parameter", words, param="base64Data") from None


# --- Fetching -----------------------------------------------------------------------------------------
def _fetched(request: Caller, url: str) -> bytes:
    """What lies at an address that a stranger chose, out of everybody's way. Raises Problem."""
    with _fetches.one(request.user.pk), turnstile.stepped_aside():
        try:
            return asyncio.run(_download(url))
        except net.Unreachable as no:
            raise _refused(no, should_retry=True) from no
        except net.TooLarge as no:
            most = f"A picture has at most {images.MAX_INPUT_BYTES // 1_000_000} MB."
            raise Problem("input_refused", most, param="fileUrl") from no
        except net.NetError as no:
            raise _refused(no, should_retry=False) from no


async def _download(url: str) -> bytes:
    async with net.client(allowed_hosts=settings.NET_ALLOWED_HOSTS) as http:
        return await net.download(http, url, limit_bytes=images.MAX_INPUT_BYTES, total_s=FETCHED_WITHIN_S)


def _refused(no: net.NetError, *, should_retry: bool) -> Problem:
    words = f"The picture could not be fetched: {no}."
    return Problem("input_refused", words, param="fileUrl", should_retry=should_retry)


# --- The answer ---------------------------------------------------------------------------------------
def _done(request: Caller, upload: Upload, path: str | None, *names: str | None) -> JsonResponse:
    """`names`: the first that says something is said back."""
    url, now = uploads.link(upload, tasks.base(request)), timezone.now()
    usual = upload.pk.hex[-12:] + images.SUFFIXES[upload.format]
    called = next(filter(None, map(label, names)), usual)
    folder = "/".join(filter(None, map(label, re.split(r"[/\\]", path or ""))))
    data = {
        "fileId": str(upload.pk),
        "fileName": called,
        "filePath": f"{folder}/{called}" if folder else called,
        "downloadUrl": url,
        "fileUrl": url,
        "fileSize": upload.size,
        "mimeType": images.CONTENT_TYPES[upload.format],
        "uploadedAt": tasks.iso(now),
        "expiresAt": tasks.iso(now + uploads.UNUSED_FOR),
    }
    return JsonResponse({"success": True, "code": 200, "msg": DONE, "data": data})


def label(text: str | None) -> str:
    """A name without folders and without anything that a path, a shell or a page could trip over.

    >>> label("../../etc/pass<wd>.png"), label("..")
    ('pass_wd_.png', '')
    """
    last = re.split(r"[/\\]", text or "")[-1]
    return re.sub(r"[^\w.\- ]", "_", last)[:MOST_LABEL].strip(". ")
