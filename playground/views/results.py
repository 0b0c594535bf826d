"""Results by signed addresses: what the API's answers and messages name, for programs without a session."""

from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_safe

from playground import images, result_links
from playground.http import Request
from playground.models import Picture
from playground.views import files, ranges

OVER = (
    "This address was good for 24 hours, and they are over. Ask for the task's record: it has a fresh one.\n"
)
DOWNLOAD_OVER = "This address was good for 20 minutes, and they are over. Ask for another one.\n"
BUSY = "Too many pictures are being converted at the moment. Try again in a few seconds.\n"


@require_safe
def result_file(request: Request, signed: str, name: str = "") -> HttpResponseBase:
    """The untouched original, or what its name ends like; a preview's is what its owner may see.

    410 after a day, 404 where there is nothing.
    """
    try:
        picture = result_links.picture_for(signed)
    except result_links.Expired:
        return _plain(OVER, 410)
    return _sent(request, picture, name)


@require_safe
def result_download(request: Request, signed: str, name: str) -> HttpResponseBase:
    """The same for a browser to save, from an address that is good for 20 minutes."""
    try:
        picture = result_links.picture_for(signed, good_for=result_links.DOWNLOAD_GOOD_FOR, is_download=True)
    except result_links.Expired:
        return _plain(DOWNLOAD_OVER, 410)
    return _sent(request, picture, name, as_attachment=True)


def _sent(
    request: Request, picture: Picture | None, name: str, *, as_attachment: bool = False
) -> HttpResponseBase:
    if picture is None:
        raise Http404
    wanted = result_links.format_of(name)
    size = files.shown_size(picture)
    if wanted in ("", result_links.shown_format(picture)):
        whole = files.send(request, picture, size, as_attachment=as_attachment, shows_prompt=False)
        response = ranges.ranged(request, whole)
    else:
        response = _converted(request, picture, size, wanted)
        if as_attachment:
            response["Content-Disposition"] = f'attachment; filename="{_name(picture, wanted)}"'
    response["X-Robots-Tag"] = "noindex, nofollow"
    return response


def _converted(request: Request, picture: Picture, size: images.Size, format: str) -> HttpResponseBase:
    """In another format than it is stored in. HEAD is answered without the work, and so without the length."""
    etag = f'"{picture.sha256}-{size}-{format}"'
    response = get_conditional_response(request, etag=etag) or _made(request, picture, size, format)
    if response.status_code < 400:
        response["ETag"] = etag
        response["Cache-Control"] = files.ASKED_EACH_TIME
    return response


def _made(request: Request, picture: Picture, size: images.Size, format: str) -> HttpResponseBase:
    file = images.path(picture.key, size, picture.format)
    if not file.exists():
        raise Http404
    headers = {"Content-Disposition": f'inline; filename="{_name(picture, format)}"'}
    if request.method == "HEAD":
        return StreamingHttpResponse(content_type=images.CONTENT_TYPES[format], headers=headers)
    try:
        data = images.converted(file.read_bytes(), format)
    except FileNotFoundError as gone:
        raise Http404 from gone
    except images.Busy:
        return _plain(BUSY, 503, {"Retry-After": "2"})
    return HttpResponse(data, content_type=images.CONTENT_TYPES[format], headers=headers)


def _name(picture: Picture, format: str) -> str:
    stem = files.file_name(picture, shows_prompt=False).rpartition(".")[0]
    return stem + images.SUFFIXES[format]


def _plain(words: str, status: int, headers: dict[str, str] | None = None) -> HttpResponse:
    return HttpResponse(words, status=status, content_type="text/plain; charset=utf-8", headers=headers)
