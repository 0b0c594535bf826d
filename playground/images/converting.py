"""The same picture in another format, for callers who asked for one. What is stored stays as it came."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from threading import BoundedSemaphore
from typing import Any

from PIL import Image
from PIL.ImageFile import ImageFile

from playground.images.decoding import decode, in_plain_words, opened, orientation, upright
from playground.images.inputs import Busy

AT_ONCE = 2  # in a process: each takes a core, and 2K pictures 50 MB
BUSY_AFTER_S = 5.0
QUALITY = 92
# PNG: 4 noisy megapixels take 0.3 s at level 2 where zlib's usual level takes 2.3 s, and no more bytes.
OPTIONS: dict[str, dict[str, Any]] = {
    "jpeg": {"quality": QUALITY, "subsampling": 0},
    "png": {"compress_level": 2},
    "webp": {"quality": QUALITY, "method": 1},
}

_places = BoundedSemaphore(AT_ONCE)


def converted(data: bytes, format: str) -> bytes:
    """The picture as png, jpeg or webp, in the same size and colours; a JPEG is on white where it was see-through.

    The same bytes where it is that already. Raises ImageError, Busy.
    """
    with in_plain_words():
        image, known = opened(data)
    if known == format:
        return data
    with _place(), in_plain_words():
        out = BytesIO()
        profile = _profile(image)
        pixels = upright(decode(image, at_least=image.size), orientation(image))
        if format == "jpeg" and pixels.mode == "RGBA":
            pixels = _on_white(pixels)
        pixels.info = {}
        pixels.save(out, format.upper(), icc_profile=profile, **OPTIONS[format])
        return out.getvalue()


@contextmanager
def _place() -> Iterator[None]:
    if not _places.acquire(timeout=BUSY_AFTER_S):
        raise Busy
    try:
        yield
    finally:
        _places.release()


def _profile(image: ImageFile) -> bytes | None:
    """A profile speaks of the pixels as they are stored: not of those that `decode` has to turn into RGB."""
    profile = image.info.get("icc_profile")
    return profile if image.mode in ("RGB", "RGBA") and isinstance(profile, bytes) else None


def _on_white(picture: Image.Image) -> Image.Image:
    ground = Image.new("RGB", picture.size, "white")
    ground.paste(picture, mask=picture.getchannel("A"))
    return ground
