"""What is made of a verified picture: the renditions that pages show, and the one that messengers show."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps
from PIL.ImageFile import ImageFile

from playground.images.decoding import decode, in_plain_words, opened, orientation, upright

PREVIEW_SIDE = 768
THUMB_SIDE = 512
SOCIAL_SIZE = (1200, 630)
MAX_PROFILE_BYTES = 65_536

# WebP method 1 takes 10 ms for 512 px where the default takes 26, and the files are no larger.
WEBP = {"quality": 80, "method": 1}
# As good as bicubic when shrinking, in two thirds of the time.
SHRINK = Image.Resampling.HAMMING


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


def render(data: bytes, *, with_preview: bool) -> Rendered:
    """Decodes the whole picture once and makes the WebP renditions. Raises ImageError."""
    with in_plain_words():
        image, format = opened(data)
        turn = orientation(image)
        size = image.size
        profile = _profile(image)
        decoded = decode(image, at_least=fit(size, PREVIEW_SIDE if with_preview else THUMB_SIDE))
        preview = b""
        if with_preview:
            preview = webp(_marked(shrunk(decoded, fit(size, PREVIEW_SIDE), turn)), profile)
        thumb = shrunk(decoded, fit(size, THUMB_SIDE), turn)
        width, height = size[::-1] if turn >= 5 else size
        return Rendered(
            original=data,
            format=format,
            width=width,
            height=height,
            sha256=hashlib.sha256(data).hexdigest(),
            preview=preview,
            thumb=webp(thumb, profile),
            thumb_width=thumb.width,
            thumb_height=thumb.height,
        )


def _profile(image: ImageFile) -> bytes | None:
    """The colour profile, where the renditions can carry it on: without it a wide-gamut picture looks pale."""
    profile = image.info.get("icc_profile")
    fits = image.mode in ("RGB", "RGBA") and isinstance(profile, bytes) and len(profile) <= MAX_PROFILE_BYTES
    return profile if fits else None


def fit(size: tuple[int, int], side: int) -> tuple[int, int]:
    """`size` with its longer side at most `side`."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def shrunk(image: Image.Image, size: tuple[int, int], turn: int) -> Image.Image:
    return upright(image.resize(size, SHRINK, reducing_gap=1.0), turn)


def webp(image: Image.Image, profile: bytes | None) -> bytes:
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
        with in_plain_words():
            picture = _covering(data, cell)
            canvas.paste(picture, (left, top), picture if picture.mode == "RGBA" else None)
    out = BytesIO()
    canvas.save(out, "JPEG", quality=85)
    return out.getvalue()


def _covering(data: bytes, cell: tuple[int, int]) -> Image.Image:
    image, _ = opened(data)
    turn = orientation(image)
    decoded = decode(image, at_least=cell[::-1] if turn >= 5 else cell)
    return ImageOps.fit(upright(decoded, turn), cell, SHRINK)


def _cells(count: int) -> list[tuple[int, int, int, int]]:
    """Boxes on the social picture: up to three columns, or two by two, a thin gap between them."""
    columns, rows = (2, 2) if count >= 4 else (max(1, count), 1)
    gap, (width, height) = 6, SOCIAL_SIZE
    xs = [round(i * (width + gap) / columns) for i in range(columns + 1)]
    ys = [round(i * (height + gap) / rows) for i in range(rows + 1)]
    return [(xs[x], ys[y], xs[x + 1] - gap, ys[y + 1] - gap) for y in range(rows) for x in range(columns)]
