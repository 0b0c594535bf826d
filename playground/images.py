"""Pictures: is this really one, its renditions, and files that are still there after a power cut.

Everything here is CPU and disk work for a thread: no database, no network, no state that threads share.
A picture is judged by its bytes alone, and its size is read from the header before any of it is decoded.
"""

import hashlib
import os
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Literal

from django.conf import settings
from PIL import Image, ImageDraw, ImageFont, ImageOps, JpegImagePlugin, PngImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

Size = Literal["original", "preview", "thumb"]

MAX_BYTES = 40_000_000
MAX_PIXELS = 40_000_000
MAX_SIDE = 8192
PREVIEW_SIDE = 768
THUMB_SIDE = 512
SOCIAL_SIZE = (1200, 630)

# A progressive JPEG is decoded once over per scan, so a small file may ask for days of work; real ones have about 10.
MAX_JPEG_SCANS = 200
# Pillow keeps every marker and chunk it meets as objects: 40 MB of empty ones would become gigabytes.
JPEG_SEGMENT = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")
MAX_JPEG_SEGMENTS = 10_000
MAX_PNG_CHUNKS = 20_000
MAX_PROFILE_BYTES = 65_536

# WebP method 1 takes 10 ms for 512 px where the default takes 26, and the files are no larger.
WEBP = {"quality": 80, "method": 1}
# As good as bicubic when shrinking, in two thirds of the time.
SHRINK = Image.Resampling.HAMMING

SIZES: tuple[Size, ...] = ("original", "preview", "thumb")
CONTENT_TYPES = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
SUFFIXES = {"jpeg": ".jpg", "png": ".png", "webp": ".webp"}

PLUGINS: dict[str, type[ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}
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


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A verified picture. Sizes are pixels as people see it, so after any EXIF turn. `preview` is b"" unless asked for."""

    original: bytes
    format: str
    width: int
    height: int
    sha256: str
    preview: bytes
    thumb: bytes
    thumb_width: int
    thumb_height: int


# --- Verify and render --------------------------------------------------------------------------------
def render(data: bytes, *, with_preview: bool) -> Rendered:
    """Decodes the whole picture once and makes the WebP renditions. Raises ImageError."""
    with _in_plain_words():
        image, format = _open(data)
        turn = _orientation(image)
        size = image.size
        profile = _profile(image)
        decoded = _decode(image, at_least=_fit(size, PREVIEW_SIDE if with_preview else THUMB_SIDE))
        preview = b""
        if with_preview:
            preview = _webp(_marked(_shrunk(decoded, _fit(size, PREVIEW_SIDE), turn)), profile)
        thumb = _shrunk(decoded, _fit(size, THUMB_SIDE), turn)
        width, height = size[::-1] if turn >= 5 else size
        return Rendered(
            original=data,
            format=format,
            width=width,
            height=height,
            sha256=hashlib.sha256(data).hexdigest(),
            preview=preview,
            thumb=_webp(thumb, profile),
            thumb_width=thumb.width,
            thumb_height=thumb.height,
        )


@contextmanager
def _in_plain_words() -> Iterator[None]:
    """Pillow raises OSError, SyntaxError, ValueError, struct.error and more for bytes that it does not like."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        raise ImageError("The picture is damaged or incomplete.") from error


def _open(data: bytes) -> tuple[ImageFile, str]:
    """The picture with its header read and nothing decoded.

    By the plugin and not by Image.open, whose guard against huge pictures is a warning in process-wide state.
    """
    if len(data) > MAX_BYTES:
        raise ImageError(f"The file is larger than {MAX_BYTES // 1_000_000} MB.")
    format = _format(data)
    if format == "jpeg":
        _check_jpeg(data)
    elif format == "png":
        _check_png(data)
    else:
        _check_size(_webp_size(data))
    image = PLUGINS[format](BytesIO(data))
    _check_size(image.size)
    return image, format


def _format(data: bytes) -> str:
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    raise ImageError("The file is not a JPEG, PNG or WebP picture." if data else "The file is empty.")


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


def _check_jpeg(data: bytes) -> None:
    """Inside compressed data 0xFF is always followed by 0 or a restart mark: whatever else follows is a segment."""
    kinds = [found[1] for found in islice(JPEG_SEGMENT.finditer(data), MAX_JPEG_SEGMENTS + 1)]
    if len(kinds) > MAX_JPEG_SEGMENTS:
        raise ImageError("The JPEG has too many segments.")
    if kinds.count(b"\xda") > MAX_JPEG_SCANS:
        raise ImageError("The JPEG has too many scans.")


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


def _orientation(image: ImageFile) -> int:
    """1 to 8. A picture with unreadable EXIF is still a picture."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _profile(image: ImageFile) -> bytes | None:
    """The colour profile, where the renditions can carry it on: without it a wide-gamut picture looks pale."""
    profile = image.info.get("icc_profile")
    fits = image.mode in ("RGB", "RGBA") and isinstance(profile, bytes) and len(profile) <= MAX_PROFILE_BYTES
    return profile if fits else None


def _decode(image: ImageFile, *, at_least: tuple[int, int]) -> Image.Image:
    """All of it, as RGB or RGBA. A JPEG is decoded at a half, a quarter or an eighth where that is still large enough."""
    image.draft(None, at_least)
    image.load()
    if image.mode.startswith("I"):  # 16 bits of grey, which convert() would clip to white
        return image.convert("I").point(lambda value: value / 256).convert("L").convert("RGB")
    wanted = "RGBA" if image.has_transparency_data else "RGB"
    return image if image.mode == wanted else image.convert(wanted)


def _fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    """`size` with its longer side at most `side`."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _shrunk(image: Image.Image, size: tuple[int, int], turn: int) -> Image.Image:
    small = image.resize(size, SHRINK, reducing_gap=1.0)
    return small.transpose(TURNS[turn]) if turn in TURNS else small


def _webp(image: Image.Image, profile: bytes | None) -> bytes:
    out = BytesIO()
    image.save(out, "WEBP", icc_profile=profile or b"", **WEBP)
    return out.getvalue()


def _marked(image: Image.Image) -> Image.Image:
    """With the word "preview" in the corner, unless the picture is hardly larger than the mark."""
    mark = _mark()
    if image.width < mark.width * 2 or image.height < mark.height * 2:
        return image
    corner = (image.width - mark.width - 12, image.height - mark.height - 12)
    if image.mode == "RGBA":
        image.alpha_composite(mark, corner)
    else:
        image.paste(mark, corner, mark)
    return image


@lru_cache(maxsize=1)
def _mark() -> Image.Image:
    """A dark pill with light letters, readable on any picture. Drawn at four times its size for smooth edges."""
    font = ImageFont.load_default(72)
    left, top, right, bottom = font.getbbox("preview")
    width, height = int(right - left) + 88, int(bottom - top) + 56
    pill = Image.new("RGBA", (width, height), (0, 0, 0, 0))
    draw = ImageDraw.Draw(pill)
    draw.rounded_rectangle((0, 0, width - 1, height - 1), radius=height // 2, fill=(15, 15, 20, 150))
    draw.text((width / 2, height / 2), "preview", font=font, fill=(255, 255, 255, 240), anchor="mm")
    return pill.resize((width // 4, height // 4), Image.Resampling.LANCZOS)


def social(paths: Sequence[Path]) -> bytes:
    """A 1200 x 630 JPEG for link previews: one picture, or the first four side by side. Raises ImageError, OSError."""
    canvas = Image.new("RGB", SOCIAL_SIZE, (16, 16, 20))
    for path, (left, top, right, bottom) in zip(paths, _cells(len(paths)), strict=False):
        cell = (right - left, bottom - top)
        data = path.read_bytes()
        with _in_plain_words():
            picture = _covering(data, cell)
            canvas.paste(picture, (left, top), picture if picture.mode == "RGBA" else None)
    out = BytesIO()
    canvas.save(out, "JPEG", quality=85)
    return out.getvalue()


def _covering(data: bytes, cell: tuple[int, int]) -> Image.Image:
    image, _ = _open(data)
    turn = _orientation(image)
    decoded = _decode(image, at_least=cell[::-1] if turn >= 5 else cell)
    upright = decoded.transpose(TURNS[turn]) if turn in TURNS else decoded
    return ImageOps.fit(upright, cell, SHRINK)


def _cells(count: int) -> list[tuple[int, int, int, int]]:
    """Boxes on the social picture: up to three columns, or two by two, a thin gap between them."""
    columns, rows = (2, 2) if count >= 4 else (max(1, count), 1)
    gap, (width, height) = 6, SOCIAL_SIZE
    xs = [round(i * (width + gap) / columns) for i in range(columns + 1)]
    ys = [round(i * (height + gap) / rows) for i in range(rows + 1)]
    return [(xs[x], ys[y], xs[x + 1] - gap, ys[y + 1] - gap) for y in range(rows) for x in range(columns)]


# --- Store --------------------------------------------------------------------------------------------
def new_key(picture_id: uuid.UUID) -> str:
    """The folder of a picture. Its id begins with the time, so the random tail chooses: 65,536 even folders."""
    name = picture_id.hex
    return f"{name[-2:]}/{name[-4:-2]}/{name}"


def path(key: str, size: Size, format: str) -> Path:
    """Where the file is, if it is there; `format` is the original's. Raises ValueError for what is no key or size."""
    return _folder(key) / _name(size, format)


def content_type(size: Size, format: str) -> str:
    """What to say when `size` of a picture whose original has that format is sent out."""
    return CONTENT_TYPES[format if size == "original" else "webp"]


def store(key: str, rendered: Rendered) -> None:
    """Writes all files so that they survive a power cut, or none. Never overwrites: a key is used once.

    The folder is filled and read back elsewhere and then renamed into place, so whoever sees it sees all of it.
    Raises OSError (disk full, read-only, key taken), ImageError when the disk gives back other bytes.
    """
    folder = _folder(key)
    place = _incoming() / uuid.uuid4().hex
    try:
        _make_folder(_incoming())
        place.mkdir()
        for size in SIZES:
            if data := getattr(rendered, size):
                _write(place / _name(size, rendered.format), data)
        _sync_folder(place)
        if _sha256(place / _name("original", rendered.format)) != rendered.sha256:
            raise ImageError("The disk gave back other bytes than were written.")
        _make_folder(folder.parent)
        place = place.rename(folder)
        _sync_folder(folder.parent)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise


def remove(key: str) -> None:
    """Deletes the picture's files; no error where there are none."""
    with suppress(FileNotFoundError):
        shutil.rmtree(_folder(key))


def stored_sha256(key: str, format: str) -> str | None:
    """Of the original as it is on the disk now; None when it is not there."""
    try:
        return _sha256(path(key, "original", format))
    except FileNotFoundError:
        return None


def clear_incoming(*, older_than_s: float = 3600) -> int:
    """Removes what killed processes left half written; returns how many pictures."""
    cleared = 0
    for folder in _incoming().glob("*"):
        with suppress(FileNotFoundError):  # its writer has just finished
            if time.time() - folder.stat().st_mtime > older_than_s:
                shutil.rmtree(folder)
                cleared += 1
    return cleared


def _folder(key: str) -> Path:
    if not re.fullmatch(r"[0-9a-f]{2}/[0-9a-f]{2}/[0-9a-f]{32}", key):
        raise ValueError(f"not a picture's key: {key!r}")
    return Path(settings.MEDIA_ROOT) / key


def _name(size: Size, format: str) -> str:
    if size not in SIZES:
        raise ValueError(f"not a size: {size!r}")
    return f"{size}{SUFFIXES[format] if size == 'original' else '.webp'}"


def _incoming() -> Path:
    """On the same disk as the pictures, so that a rename is one step."""
    return Path(settings.MEDIA_ROOT) / ".incoming"


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(file: Path, data: bytes) -> None:
    with file.open("xb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _make_folder(folder: Path) -> None:
    """mkdir -p that survives a power cut: a new folder is an entry in its parent, which must reach the disk too."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
