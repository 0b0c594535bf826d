"""Pictures that people give: decoded whole and encoded anew, so that nothing of their file is kept but its pixels."""

import hashlib
from collections.abc import Iterator
from io import BytesIO
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
WEBP_QUALITIES = (90, 75, 50)

_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
# One picture of 40 megapixels takes 400 MB while it is turned: two at once in one process are one too many.
_one_at_a_time = Lock()


def normalise(
    data: bytes, *, limit_bytes: int = MAX_INPUT_BYTES, longest_side: int | None = None
) -> Rendered:
    """The same picture in our own encoding: upright, sRGB, 8 bits, without metadata, at most 10 MB.

    A JPEG stays one. A PNG stays one; so does a WebP that is lossless or see-through, any other becomes a JPEG.
    Of an animation it is the first frame. `longest_side` makes it smaller, and then there is no preview, which would
    be no smaller. Raises ImageError.
    """
    if len(data) > limit_bytes:
        raise ImageError(f"The file has {len(data) / 1e6:.1f} MB; {limit_bytes // 1_000_000} MB is the most.")
    with _one_at_a_time, in_plain_words():
        image, format = opened(data)
        has_coarse_colours = format == "webp" or JpegImagePlugin.get_sampling(image) == 2
        is_lossy = format == "jpeg" or (format == "webp" and b"VP8L" not in data)
        pixels = _pixels(image, longest_side)
        for encoded, kind in _encodings(
            pixels, is_lossy=is_lossy, subsampling=2 if has_coarse_colours else 0
        ):
            if len(encoded) <= MAX_INPUT_BYTES:
                return _rendered(encoded, kind, pixels, with_preview=longest_side is None)
        raise ImageError(f"The picture does not fit into {MAX_INPUT_BYTES // 1_000_000} MB; make it smaller.")


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


def _encodings(image: Image.Image, *, is_lossy: bool, subsampling: int) -> Iterator[tuple[bytes, str]]:
    """The picture encoded as well as can be, then ever smaller."""
    is_see_through = image.mode == "RGBA"
    if is_see_through or not is_lossy:
        yield _encoded(image, "PNG", compress_level=6), "png"
    if is_see_through:
        for quality in WEBP_QUALITIES:
            yield _encoded(image, "WEBP", quality=quality, method=2), "webp"
    else:
        for quality in JPEG_QUALITIES:
            yield _encoded(image, "JPEG", quality=quality, subsampling=subsampling), "jpeg"


def _encoded(image: Image.Image, format: str, **options: Any) -> bytes:
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


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
