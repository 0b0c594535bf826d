"""Is this really a picture? Judged by its bytes alone, and by its header before any of it is decoded."""

import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import islice

from PIL import Image, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

MAX_BYTES = 40_000_000
MAX_PIXELS = 40_000_000
MAX_SIDE = 8192

# A progressive JPEG is decoded once over per scan, so a small file may ask for days of work; real ones have about 10.
MAX_JPEG_SCANS = 200
MAX_SCANNED_PIXELS = 1_200_000_000
# Pillow keeps every marker and chunk it meets as objects: 40 MB of empty ones would become gigabytes.
JPEG_SEGMENT = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
MAX_JPEG_SEGMENTS = 10_000
# Between segments Pillow reads these one by one, for seconds; inside of one there is not room for so many.
JPEG_FILLING = b"\xff" * 65_536
MAX_PNG_CHUNKS = 20_000

PLUGINS: dict[str, type[ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}
# What people send instead of a picture that we take: where its mark is, the mark, its name.
OTHER_KINDS = [
    (0, b"GIF8", "a GIF"),
    (4, b"ftyphe", "a HEIC photo"),
    (4, b"ftypmif1", "a HEIC photo"),
    (4, b"ftypavi", "an AVIF"),
    (4, b"ftyp", "a video"),
    (0, b"%PDF", "a PDF"),
    (0, b"II*\0", "a TIFF or a camera's raw file"),
    (0, b"MM\0*", "a TIFF or a camera's raw file"),
    (0, b"BM", "a BMP"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"PK\x03\x04", "a ZIP archive or an office document"),
    (0, b"\0\0\1\0", "an icon"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (4, b"JXL ", "a JPEG XL"),
    (4, b"jP  ", "a JPEG 2000"),
]
# What the EXIF orientation asks for; from 5 on, width and height change places.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class ImageError(Exception):
    """The file is not a picture that we take; str() says why in plain words."""


@contextmanager
def in_plain_words() -> Iterator[None]:
    """Pillow raises OSError, SyntaxError, ValueError, struct.error and more for bytes that it does not like."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        if "MAX_TEXT" in str(error):  # Pillow's own bound on what a PNG may unpack to
            raise ImageError("The picture carries too much data beside its pixels.") from error
        raise ImageError("The picture is damaged or incomplete.") from error


def opened(data: bytes) -> tuple[ImageFile, str]:
    """The picture with its header read and nothing decoded.

    By the plugin and not by Image.open, whose guard against huge pictures is a warning in process-wide state.
    """
    if len(data) > MAX_BYTES:
        raise ImageError(f"The file is larger than {MAX_BYTES // 1_000_000} MB.")
    format, scans = _format(data), 1
    if format == "jpeg":
        scans = _jpeg_scans(data)
    elif format == "png":
        _check_png(data)
    else:
        _check_size(_webp_size(data))
    image = PLUGINS[format](BytesIO(data))
    _check_size(image.size)
    if scans > MAX_JPEG_SCANS or scans * image.width * image.height > MAX_SCANNED_PIXELS:
        raise ImageError("The JPEG has too many scans.")
    return image, format


def _format(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    raise ImageError(
        f"The file is {_kind(data)}not a JPEG, PNG or WebP picture." if data else "The file is empty."
    )


def _kind(data: bytes) -> str:
    """What it is instead, where that can be told: "a GIF, "."""
    start = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml")) and b"<svg" in start:
        return "an SVG drawing, "
    if start.startswith((b"<!doctype html", b"<html")):
        return "a web page, "
    known = (kind for at, mark, kind in OTHER_KINDS if data.startswith(mark, at))
    return next((f"{kind}, " for kind in known), "")


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if max(size) > MAX_SIDE:
        raise ImageError(f"The picture is {width} x {height} pixels; {MAX_SIDE} a side is the most.")
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"The picture has {width * height / 1e6:.0f} megapixels; {MAX_PIXELS // 1_000_000} is the most."
        )
    if min(size) < 1:
        raise ImageError("The picture has no pixels.")


def _jpeg_scans(data: bytes) -> int:
    """Inside compressed data 0xFF is always followed by 0 or a restart mark: whatever else follows is a segment."""
    kinds = [found[1] for found in islice(JPEG_SEGMENT.finditer(data), MAX_JPEG_SEGMENTS + 1)]
    if len(kinds) > MAX_JPEG_SEGMENTS:
        raise ImageError("The JPEG has too many segments.")
    if JPEG_FILLING in data:
        raise ImageError("The JPEG is damaged or incomplete.")
    return kinds.count(b"\xda")


def _check_png(data: bytes) -> None:
    """Walks the chunks to IEND and checks each sum: Pillow skips those of the pixels and does not miss the end."""
    position = 8
    for _ in range(MAX_PNG_CHUNKS):
        length = int.from_bytes(data[position : position + 4], "big")
        kind = data[position + 4 : position + 8]
        body = memoryview(data)[position + 4 : position + 8 + length]
        position += 12 + length
        if position > len(data) or zlib.crc32(body) != int.from_bytes(data[position - 4 : position], "big"):
            raise ImageError("The PNG is damaged or incomplete.")
        if kind == b"IEND":
            return
    raise ImageError("The PNG has too many chunks.")


def _webp_size(data: bytes) -> tuple[int, int]:
    """The canvas, because Pillow's decoder allocates it, twice, as soon as the file is opened."""
    kind, head = data[12:16], data[20:30]
    if kind == b"VP8X":
        return int.from_bytes(head[4:7], "little") + 1, int.from_bytes(head[7:10], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(head[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(head[6:8], "little") & 0x3FFF, int.from_bytes(head[8:10], "little") & 0x3FFF
    raise ImageError("The WebP is damaged or incomplete.")


def orientation(image: ImageFile) -> int:
    """1 to 8. A picture with unreadable EXIF is still a picture."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def upright(image: Image.Image, turn: int) -> Image.Image:
    return image.transpose(TURNS[turn]) if turn in TURNS else image


def decode(image: ImageFile, *, at_least: tuple[int, int]) -> Image.Image:
    """All of it, as RGB or RGBA. A JPEG is decoded at a half, a quarter or an eighth where that is still large enough."""
    image.draft(None, at_least)
    image.load()
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip to white
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    wanted = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == wanted else image.convert(wanted)
