"""A part of a file, for whoever goes on with a download that broke off."""

import re
from collections.abc import Iterator
from io import BytesIO

from django.http import FileResponse, HttpResponse
from django.http.response import HttpResponseBase

from playground.http import Request

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_BLOCK = 65_536


def ranged(request: Request, response: HttpResponseBase) -> HttpResponseBase:
    """The part of a whole file that is asked for, as 206, or 416 where there is no such part.

    The whole, as RFC 9110 lets us, where none is asked for, or several, or one of what the file was before.
    """
    if not isinstance(response, FileResponse) or response.status_code != 200:
        return response
    response["Accept-Ranges"] = "bytes"
    asked = _RANGE.fullmatch(request.headers.get("Range", "").strip())
    since = request.headers.get("If-Range", response["ETag"])
    if request.method != "GET" or not asked or asked.group() == "bytes=-" or since != response["ETag"]:
        return response
    return _part(response, *asked.groups())


def _part(response: FileResponse, first: str, last: str) -> HttpResponseBase:
    size, file = int(response["Content-Length"]), response.file_to_stream
    start = int(first) if first else max(size - int(last), 0)
    end = min(int(last), size - 1) if first and last else size - 1
    if file is None or (first and last and int(last) < start):  # the latter is none, and so not asked for
        return response
    if start > end:
        response.close()
        return HttpResponse(status=416, headers={"Content-Range": f"bytes */{size}"})
    response.status_code = 206
    response["Content-Range"] = f"bytes {start}-{end}/{size}"
    response["Content-Length"] = str(end - start + 1)
    response.streaming_content = _blocks(file, start, end - start + 1)
    return response


def _blocks(file: BytesIO, start: int, left: int) -> Iterator[bytes]:
    file.seek(start)
    while left and (block := file.read(min(left, _BLOCK))):
        left -= len(block)
        yield block
