"""Pictures that people give: decoded whole and encoded anew, so that nothing of their file is kept but its pixels."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import product
from threading import Lock
from typing import Any

from PIL import Image, ImageCms, JpegImagePlugin
from PIL.ImageFile import ImageFile

from playground.images.decoding import ImageError, decode, in_plain_words, opened, orientation, upright
from playground.images.renditions import PREVIEW_SIDE, THUMB_SIDE, Rendered, fit, shrunk, webp

MAX_INPUT_BYTES = 10_000_000
# Profiles of printing inks have 0.5 to 2 MB.
MAX_CONVERTED_PROFILE_BYTES = 2_500_000
JPEG_QUALITIES = (93, 88, 82, 75, 65, 50, 35)
WEBP_QUALITIES = (90, 82, 75, 65, 50)
# Whole encodings of one picture: 40 megapixels of WebP take 5 s each.
MOST_TRIES = 3
# A guess is made from so many pieces across and down, each with that many pixels a side.
PIECES, PIECE_SIDE = 5, 128
# For the other picture's turn. Whoever waits holds one of the process's few web threads.
BUSY_AFTER_S = 2.0

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
# One picture of 40 megapixels takes 400 MB while it is turned: two at once in one process are one too many.
_one_at_a_time = Lock()


class Busy(Exception):
    """Another picture has its turn, and this one has waited long enough; str() says so in plain words."""

    def __init__(self) -> None:
        super().__init__("We are busy with another picture. Try again in a moment.")


class _TooLarge(Exception):
    pass


class _Sink(BytesIO):
    """Ends the encoding as soon as it is larger than may be."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > MAX_INPUT_BYTES:
            raise _TooLarge
        return super().write(data)


def normalise(
    data: bytes, *, limit_bytes: int = MAX_INPUT_BYTES, longest_side: int | None = None
) -> Rendered:
    """The same picture in our own encoding: upright, sRGB, 8 bits, without metadata, at most 10 MB.

    A JPEG stays one. A PNG stays one and a lossless WebP becomes one, as long as that fits; a lossy WebP becomes a
    JPEG, or stays a WebP where it is see-through. Of an animation it is the first frame. `longest_side` makes it
    smaller, and then there is no preview, which would be no smaller. Raises ImageError, Busy.
    """
    if len(data) > limit_bytes:
        raise ImageError(f"The file has {len(data) / 1e6:.1f} MB; {limit_bytes // 1_000_000} MB is the most.")
    with _turn(), in_plain_words():
        image, format = opened(data)
        has_coarse_colours = format == "webp" or JpegImagePlugin.get_sampling(image) == 2
        is_lossy = format == "jpeg" or (format == "webp" and b"VP8L" not in data)
        pixels = _pixels(image, longest_side)
        encoded, kind = _fitting(pixels, is_lossy=is_lossy, subsampling=2 if has_coarse_colours else 0)
        return _rendered(encoded, kind, pixels, with_preview=longest_side is None)


@contextmanager
def _turn() -> Iterator[None]:
    if not _one_at_a_time.acquire(timeout=BUSY_AFTER_S):
        raise Busy
    try:
        yield
    finally:
        _one_at_a_time.release()


def _pixels(image: ImageFile, longest_side: int | None) -> Image.Image:
    """Decoded, upright and in sRGB, with nothing of the file's left on it."""
    turn, size = orientation(image), image.size
    wanted = fit(size, longest_side) if longest_side else size
    profile = image.info.get("icc_profile")
    image.draft(None, wanted)
    image.load()
    plain = _in_srgb(image, profile)
    if wanted != plain.size:
        plain = shrunk(plain, wanted, 1)
    plain = upright(plain, turn)
    plain.info = {}
    if plain.mode == "RGBA" and plain.getchannel("A").getextrema() == (255, 255):
        return plain.convert("RGB")
    return plain


def _in_srgb(image: ImageFile, profile: Any) -> Image.Image:
    """RGB or RGBA. A profile that makes no sense, or not for these pixels, is as good as none."""
    pixels = image if image.mode in ("CMYK", "L") else decode(image, at_least=image.size)
    if isinstance(profile, bytes) and 0 < len(profile) <= MAX_CONVERTED_PROFILE_BYTES:
        try:
            source = ImageCms.ImageCmsProfile(BytesIO(profile))
            if "sRGB" not in (source.profile.profile_description or ""):
                mode = "RGBA" if pixels.mode == "RGBA" else "RGB"
                return ImageCms.profileToProfile(pixels, source, _SRGB, outputMode=mode) or pixels
        except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
            pass
    return decode(image, at_least=image.size)


def _fitting(image: Image.Image, *, is_lossy: bool, subsampling: int) -> tuple[bytes, str]:
    """The picture encoded as well as fits, and in what."""
    if not is_lossy:
        try:
            return _encoded(image, "PNG", _Sink(), compress_level=6), "png"
        except _TooLarge:
            pass
    if image.mode == "RGBA":
        return _lossy(image, "WEBP", WEBP_QUALITIES, method=1), "webp"
    return _lossy(image, "JPEG", JPEG_QUALITIES, subsampling=subsampling), "jpeg"


def _lossy(image: Image.Image, format: str, qualities: Sequence[int], **options: Any) -> bytes:
    """In the best quality that fits. Pieces of the picture say which that will be; what a try ends with corrects them."""
    pieces = _pieces(image)
    share = (pieces.width * pieces.height) / (image.width * image.height)
    left = list(qualities)
    for _ in range(MOST_TRIES):
        quality, guess = _first_fitting(pieces, format, left, MAX_INPUT_BYTES * share, options)
        encoded = _encoded(image, format, BytesIO(), quality=quality, **options)
        if len(encoded) <= MAX_INPUT_BYTES:
            return encoded
        share = guess / len(encoded)
        left = left[left.index(quality) + 1 :]
        if not left:
            break
    raise ImageError(f"The picture does not fit into {MAX_INPUT_BYTES // 1_000_000} MB; make it smaller.")


def _encoded(image: Image.Image, format: str, out: BytesIO, **options: Any) -> bytes:
    image.save(out, format, **options)
    return out.getvalue()


def _pieces(image: Image.Image) -> Image.Image:
    """Pieces from all over a large picture, side by side; a small picture as it is."""
    across, down = min(PIECE_SIDE, image.width), min(PIECE_SIDE, image.height)
    if image.width * image.height <= (PIECES * PIECE_SIDE) ** 2:
        return image
    pieces = Image.new(image.mode, (across * PIECES, down * PIECES))
    for column, row in product(range(PIECES), repeat=2):
        x = (image.width - across) * column // (PIECES - 1)
        y = (image.height - down) * row // (PIECES - 1)
        pieces.paste(image.crop((x, y, x + across, y + down)), (column * across, row * down))
    return pieces


def _first_fitting(
    pieces: Image.Image, format: str, qualities: Sequence[int], room: float, options: dict[str, Any]
) -> tuple[int, int]:
    """The first quality that takes no more than that, else the last one, and what it takes."""
    quality = size = 0
    for quality in qualities:
        size = len(_encoded(pieces, format, BytesIO(), quality=quality, **options))
        if size <= room:
            break
    return quality, size


def _rendered(encoded: bytes, format: str, image: Image.Image, *, with_preview: bool) -> Rendered:
    thumb = shrunk(image, fit(image.size, THUMB_SIDE), 1)
    return Rendered(
        original=encoded,
        format=format,
        width=image.width,
        height=image.height,
        sha256=hashlib.sha256(encoded).hexdigest(),
        preview=webp(shrunk(image, fit(image.size, PREVIEW_SIDE), 1), None) if with_preview else b"",
        thumb=webp(thumb, None),
        thumb_width=thumb.width,
        thumb_height=thumb.height,
    )
