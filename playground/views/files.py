"""Sends the bytes of a picture to somebody who may see it. Who may is for the caller to know."""

from django.http import FileResponse, Http404
from django.http.response import HttpResponseBase
from django.utils.cache import get_conditional_response
from django.utils.text import slugify

from playground import images
from playground.http import Request
from playground.models import Picture

# A thumbnail never changes, and it is what a gallery is full of. Anything larger is asked about again each time, so
# that what was deleted is gone. Cookies are part of the cache's key, so after a log-out nothing is left.
ASKED_ONCE = "private, max-age=86400, immutable"
ASKED_EACH_TIME = "private, no-cache"


def sizes_of(picture: Picture) -> set[images.Size]:
    """What there is to see: the original of a preview only once it has been kept."""
    return {"preview", "thumb"} if picture.is_locked else {"original", "thumb"}


def shown_size(picture: Picture) -> images.Size:
    """The largest that may be seen."""
    return "preview" if picture.is_locked else "original"


def shown_pixels(picture: Picture) -> tuple[int, int]:
    """Width and height of that largest one: a page must know them before the picture is there."""
    longer = max(picture.width, picture.height)
    scale = min(1.0, images.PREVIEW_SIDE / longer) if picture.is_locked else 1.0
    return round(picture.width * scale), round(picture.height * scale)


def send(
    request: Request,
    picture: Picture,
    size: str,
    *,
    cache: str = ASKED_EACH_TIME,
    as_attachment: bool = False,
    shows_prompt: bool = True,
) -> HttpResponseBase:
    """The untouched file, or 304; 404 for a size that may not be seen, and for a file that is gone.

    `shows_prompt`: whether its name may tell the prompt.
    """
    known = next((known for known in sizes_of(picture) if known == size), None)
    if known is None or not picture.key:
        raise Http404
    etag = f'"{picture.sha256}-{size}"'
    response = get_conditional_response(request, etag=etag) or _file(
        picture, known, as_attachment, file_name(picture, shows_prompt=shows_prompt)
    )
    response["ETag"] = etag
    response["Cache-Control"] = cache
    return response


def _file(picture: Picture, size: images.Size, as_attachment: bool, name: str) -> HttpResponseBase:
    try:
        file = images.path(picture.key, size, picture.format).open("rb")
    except FileNotFoundError as gone:
        raise Http404 from gone
    return FileResponse(
        file,
        as_attachment=as_attachment,
        filename=name if size == "original" else f"{size}.webp",
        content_type=images.content_type(size, picture.format),
    )


def file_name(picture: Picture, *, shows_prompt: bool = True) -> str:
    """`a-fox-in-the-snow-flux2-pro-1k-3f9a1c.jpg`: what it shows, what made it, and six letters to tell it from others."""
    words = slugify(picture.job.params.get("prompt", ""))[:60].strip("-") if shows_prompt else ""
    parts = [words, slugify(picture.variant.label), picture.pk.hex[-6:]]
    return "-".join(part for part in parts if part) + images.SUFFIXES[picture.format]
