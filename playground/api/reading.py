"""Bodies that are larger than Django takes by itself: how long one is must be known before any of it is read."""

from io import BytesIO
from typing import Any

from django.conf import settings
from django.core.files.uploadhandler import MemoryFileUploadHandler
from django.http import HttpRequest

from playground.api.errors import Problem

# A picture of 10 MB is 13.4 MB as base64.
MOST_JSON_BYTES = 15_000_000
# Of a body that is too large, this much is still read: many clients see no answer that comes while they are sending.
MOST_IGNORED_BYTES = 40_000_000


def is_multipart(request: HttpRequest) -> bool:
    return (request.content_type or "").startswith("multipart/")


def take(request: Any) -> None:
    """Lets `request.body` have up to 15 MB. For callers who are known; forms are left to who parses them.

    Raises Problem for a longer one.
    """
    if is_multipart(request) or hasattr(request, "_body"):
        return
    if _is_chunked(request):
        request._body = _in_pieces(request.environ["wsgi.input"], MOST_JSON_BYTES)
        return
    length = check_length(request, MOST_JSON_BYTES)
    if length > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
        request._body = request.read(length)
        request._stream = BytesIO(request._body)


def _is_chunked(request: HttpRequest) -> bool:
    """Whether the body says nowhere how long it is; Django takes such a one for empty."""
    return "chunked" in request.headers.get("Transfer-Encoding", "").lower() and not request.META.get(
        "CONTENT_LENGTH"
    )


def _in_pieces(stream: Any, most: int) -> bytes:
    body = b""
    while piece := stream.read(most + 1 - len(body)):
        body += piece
        if len(body) > most:
            raise Problem("too_large", f"The body may have {most / 1e6:.0f} MB.")
    return body


def check_length(request: Any, most: int) -> int:
    """How long the body is; one that does not say so is read for that. Raises Problem where it is more than `most`."""
    if _is_chunked(request):
        body = _in_pieces(request.environ["wsgi.input"], most)
        request._stream = BytesIO(body)
        request.META["CONTENT_LENGTH"] = str(len(body))
        return len(body)
    said = request.META.get("CONTENT_LENGTH") or ""
    length = int(said) if said.isdecimal() else 0  # where it says none, Django reads nothing
    if length > most:
        _ignore(request, length)
        raise Problem("too_large", f"The body may have {most / 1e6:.0f} MB, not {length / 1e6:.1f}.")
    return length


class _Files(MemoryFileUploadHandler):
    """Files in memory, whatever they come to together: `check_length` has said yes to that."""

    def handle_raw_input(self, *args: Any, **options: Any) -> None:
        self.activated = True


def take_files(request: HttpRequest, most: int) -> None:
    """Lets `request.FILES` have so many bytes in all. Before the form is read. Raises Problem for more."""
    if request.content_type != "multipart/form-data":
        words = "Send multipart/form-data, with the picture as a file."
        raise Problem("unsupported_media_type", words)
    check_length(request, most)
    request.upload_handlers = [_Files(request)]


def _ignore(request: HttpRequest, length: int) -> None:
    if length <= MOST_IGNORED_BYTES:
        while request.read(65_536):
            pass
