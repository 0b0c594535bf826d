"""Picture files for tests: good ones, and what a file must not carry once it is ours."""

from io import BytesIO
from random import Random
from typing import Any

from PIL import Image
from PIL.ImageFile import ImageFile


def scene(width: int = 640, height: int = 480, mode: str = "RGB") -> Image.Image:
    """Not flat, so that half of the file really is half of the picture; and the same in every run."""
    small = (width // 4 + 1, height // 4 + 1)
    noise = Image.frombytes("L", small, Random(1).randbytes(small[0] * small[1])).resize((width, height))
    return Image.merge("RGB", (noise, noise.transpose(Image.Transpose.FLIP_LEFT_RIGHT), noise)).convert(mode)


def encoded(picture: Image.Image, format: str, **options: Any) -> bytes:
    out = BytesIO()
    picture.save(out, format, **options)
    return out.getvalue()


def photo(colour: str = "red", size: tuple[int, int] = (640, 480), **options: Any) -> bytes:
    """A JPEG; each colour is a file of its own."""
    return encoded(Image.new("RGB", size, colour), "JPEG", **options)


def opened(data: bytes) -> ImageFile:
    picture = Image.open(BytesIO(data))
    picture.load()
    return picture


# What Pillow says of a file that has nothing in it but pixels.
PLAIN = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "loop", "background", "duration", "timestamp"}
WORDS = [b"Exif", b"http://ns.adobe.com", b"ICC_PROFILE", b"Photoshop", b"EXIF", b"XMP ", b"ICCP", b"ANIM"]
PNG_CHUNKS = {b"IHDR", b"IDAT", b"IEND"}


def metadata_in(data: bytes) -> set[str]:
    """Everything in the file that is neither pixels nor needed to show them; empty is what we want."""
    image = opened(data)
    found = {str(name) for name in image.info} - PLAIN
    found |= {str(tag) for tag in image.getexif()}
    if image.format == "PNG":
        found |= {kind.decode("latin1") for kind in _png_chunks(data) - PNG_CHUNKS}
    else:
        found |= {word.decode() for word in WORDS if word in data}
    if image.format == "JPEG":
        found |= {name for name, _ in getattr(image, "applist", []) if name != "APP0"}
    return found | ({"frames"} if getattr(image, "n_frames", 1) > 1 else set())


def _png_chunks(data: bytes) -> set[bytes]:
    kinds, at = set(), 8
    while at < len(data):
        kinds.add(data[at + 4 : at + 8])
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return kinds
