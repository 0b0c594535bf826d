"""What becomes of a picture that somebody gives: the same to the eye, in our own encoding, and nothing else."""

import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageCms, ImageOps, ImageStat, JpegImagePlugin

from playground import images
from playground.images import ImageError, inputs
from tests.hostile import png
from tests.pictures import encoded, metadata_in, opened, scene


def difference(one: Image.Image, other: Image.Image) -> float:
    return max(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean)


def wide_gamut() -> bytes:
    """A profile whose red is far outside of sRGB: green and red change places."""
    profile = bytearray(
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
        .tobytes()
        .replace(b"s\0R\0G\0B", b"x\0X\0X\0X")
    )
    tags = {
        bytes(profile[at : at + 4]): at + 4
        for at in range(132, 132 + 12 * struct.unpack(">I", profile[128:132])[0], 12)
    }
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    profile[red : red + 8], profile[green : green + 8] = profile[green : green + 8], profile[red : red + 8]
    return bytes(profile)


@pytest.mark.parametrize(
    ("format", "options", "mode", "kept"),
    [
        ("JPEG", {}, "RGB", "jpeg"),
        ("JPEG", {"progressive": True, "quality": 60}, "L", "jpeg"),
        ("PNG", {"compress_level": 1}, "RGB", "png"),
        ("PNG", {"compress_level": 1}, "RGBA", "png"),
        ("PNG", {"compress_level": 1}, "P", "png"),
        ("WEBP", {}, "RGB", "jpeg"),
        ("WEBP", {"lossless": True}, "RGB", "png"),
        ("WEBP", {}, "RGBA", "webp"),
    ],
)
def test_it_looks_the_same_and_is_encoded_anew(format: str, options: Any, mode: str, kept: str) -> None:
    picture = scene(640, 480).convert(mode)
    if mode == "RGBA":
        picture.putalpha(Image.linear_gradient("L").resize((640, 480)))
    came = encoded(picture, format, **options)
    made = images.normalise(came)
    ours = opened(made.original)
    assert (made.format, made.width, made.height) == (kept, 640, 480)
    assert made.original != came and metadata_in(made.original) == set()
    assert difference(ours, opened(came)) < 8  # of what is mostly noise
    assert (ours.mode == "RGBA") is (mode == "RGBA")
    assert (opened(made.preview).size, opened(made.thumb).size) == ((640, 480), (512, 384))


def test_what_is_lossless_stays_exact() -> None:
    picture = scene(300, 200)
    for came in (encoded(picture, "PNG"), encoded(picture, "WEBP", lossless=True)):
        assert difference(opened(images.normalise(came).original), picture) == 0


@pytest.mark.parametrize(("came", "kept"), [("4:4:4", 0), ("4:2:0", 2)])
def test_a_jpeg_keeps_its_colours_as_fine_as_they_were(came: str, kept: int) -> None:
    made = images.normalise(encoded(scene(), "JPEG", subsampling=came))
    assert JpegImagePlugin.get_sampling(opened(made.original)) == kept


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_it_stands_upright(format: str, turn: int) -> None:
    """As Pillow itself turns it."""
    corner = Image.new("RGB", (300, 200), "black")
    corner.paste("white", (0, 0, 100, 50))
    exif = Image.Exif()
    exif[0x0112] = turn
    came = encoded(corner, format, exif=exif)
    made = images.normalise(came)
    upright = ImageOps.exif_transpose(opened(came))
    assert (made.width, made.height) == upright.size
    assert difference(opened(made.original), upright) < 3
    assert difference(opened(made.thumb), upright) < 6


def test_a_wide_gamut_becomes_srgb() -> None:
    green = Image.new("RGB", (64, 64), (0, 200, 0))
    for format in ("JPEG", "PNG", "WEBP"):
        red, seen, _ = (
            opened(images.normalise(encoded(green, format, icc_profile=wide_gamut())).original)
            .convert("RGB")
            .getpixel((9, 9))
        )
        assert red > 150 > 60 > seen, format


@pytest.mark.parametrize("profile", [b"no profile", b"p" * 900_000])
def test_a_profile_that_makes_no_sense_is_as_good_as_none(profile: bytes) -> None:
    made = images.normalise(encoded(Image.new("RGB", (64, 64), (0, 200, 0)), "PNG", icc_profile=profile))
    assert opened(made.original).getpixel((9, 9)) == (0, 200, 0)


def test_strange_pixels_come_out_right() -> None:
    cases = {
        "16-bit grey": (encoded(Image.new("I;16", (64, 64), 32768), "PNG"), (128, 128, 128)),
        "16-bit colour": (
            png(2, 2, zlib.compress((b"\0" + b"\xc0\0\x40\0\x20\0" * 2) * 2), depth=16),
            (192, 64, 32),
        ),
        "CMYK": (encoded(Image.new("RGB", (64, 64), (10, 200, 10)).convert("CMYK"), "JPEG"), (10, 200, 10)),
        "black and white": (encoded(Image.new("1", (64, 64), 1), "PNG"), (255, 255, 255)),
    }
    for name, (data, expected) in cases.items():
        pixel = opened(images.normalise(data).original).convert("RGB").getpixel((1, 1))
        assert all(abs(a - b) <= 12 for a, b in zip(pixel, expected, strict=True)), (name, pixel)


def test_an_alpha_channel_without_holes_is_left_out() -> None:
    made = images.normalise(encoded(scene(64, 64, "RGBA"), "PNG"))
    assert opened(made.original).mode == "RGB"


def test_of_an_animation_it_is_the_first_frame() -> None:
    frames = [Image.new("RGB", (100, 100), colour) for colour in ("red", "blue")]
    for format in ("WEBP", "PNG"):
        made = images.normalise(encoded(frames[0], format, save_all=True, append_images=frames[1:]))
        assert opened(made.original).convert("RGB").getpixel((50, 50))[0] > 240
        assert metadata_in(made.original) == set()


def test_a_smaller_copy_has_no_preview() -> None:
    made = images.normalise(encoded(scene(1600, 800), "PNG"), longest_side=768)
    assert (made.width, made.height, made.preview) == (768, 384, b"")
    assert images.normalise(encoded(scene(100, 50), "PNG"), longest_side=768).width == 100


def test_a_png_with_a_book_beside_its_pixels_says_so() -> None:
    with pytest.raises(ImageError, match="carries too much data beside its pixels"):
        images.normalise(encoded(scene(64, 64), "PNG", icc_profile=b"p" * 3_000_000))


# --- Bounds -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_what_would_be_too_large_is_packed_tighter(mode: str, monkeypatch: Any) -> None:
    picture = scene(640, 480).convert(mode)
    if mode == "RGBA":
        picture.putalpha(100)
    came = encoded(picture, "PNG")
    monkeypatch.setattr(inputs, "MAX_INPUT_BYTES", len(came) // 4)
    made = images.normalise(came)
    assert len(made.original) <= len(came) // 4
    assert made.format == ("webp" if mode == "RGBA" else "jpeg")
    assert difference(opened(made.original), picture) < 12
    monkeypatch.setattr(inputs, "MAX_INPUT_BYTES", 500)
    with pytest.raises(ImageError, match="does not fit"):
        images.normalise(came)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_large_picture_is_not_encoded_over_and_over(mode: str, monkeypatch: Any) -> None:
    """It fits in the end, close to the bound, and all that was encoded is hardly more than two whole pictures."""
    picture = scene(1600, 1200).convert(mode)
    if mode == "RGBA":
        picture.putalpha(100)
    came = encoded(picture, "WEBP", quality=90)
    most = len(came) * 4 // 5
    monkeypatch.setattr(inputs, "MAX_INPUT_BYTES", most)
    tried: list[tuple[str, int]] = []
    save = inputs._encoded

    def watched(image: Image.Image, format: str, *args: Any, **options: Any) -> bytes:
        tried.append((format, image.width * image.height))
        return save(image, format, *args, **options)

    monkeypatch.setattr(inputs, "_encoded", watched)
    made = images.normalise(came)
    assert most // 2 < len(made.original) <= most
    assert {format for format, _ in tried} == {"WEBP" if mode == "RGBA" else "JPEG"}
    assert [pixels for _, pixels in tried].count(1600 * 1200) <= 2


def test_an_encoding_ends_where_it_is_too_large(monkeypatch: Any) -> None:
    monkeypatch.setattr(inputs, "MAX_INPUT_BYTES", 100_000)
    with pytest.raises(inputs._TooLarge):
        inputs._encoded(scene(1600, 1200), "PNG", sink := inputs._Sink(), compress_level=1)
    assert sink.tell() <= 100_000


def test_whoever_waits_too_long_for_their_turn_is_told_so(monkeypatch: Any) -> None:
    monkeypatch.setattr(inputs, "BUSY_AFTER_S", 0.05)
    came = encoded(scene(64, 64), "PNG")
    with inputs._one_at_a_time, pytest.raises(images.Busy, match="Try again in a moment"):
        images.normalise(came)
    assert images.normalise(came).width == 64


def test_ten_megabytes_and_no_more() -> None:
    data = encoded(scene(64, 64), "JPEG")
    images.normalise(data + bytes(10_000_000 - len(data)))
    with pytest.raises(ImageError, match=r"The file has 10\.0 MB; 10 MB is the most\."):
        images.normalise(data + bytes(10_000_001 - len(data)))
    images.normalise(data + bytes(12_000_000), limit_bytes=images.MAX_BYTES)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"GIF89a", "a GIF"), (b"\0\0\0\x18ftypheic", "a HEIC photo"), (b"\0\0\0\x1cftypavif", "an AVIF"),
        (b"\0\0\0\x18ftypisom", "a video"), (b"%PDF-1.7", "a PDF"), (b"<!DOCTYPE html>", "a web page"),
        (b"<svg xmlns='x'>", "an SVG drawing"), (b"<?xml version='1.0'?>\n<svg>", "an SVG drawing"), (b"BM1234", "a BMP"),
        (b"II*\0", "a TIFF or a camera's raw file"), (b"PK\x03\x04", "a ZIP archive or an office document"),
    ],
)  # fmt: skip
def test_another_kind_of_file_is_called_by_its_name(head: bytes, kind: str) -> None:
    with pytest.raises(ImageError) as no:
        images.normalise(head + bytes(100))
    assert str(no.value) == f"The file is {kind}, not a JPEG, PNG or WebP picture."
    with pytest.raises(ImageError, match=r"^The file is not a JPEG, PNG or WebP picture\.$"):
        images.normalise(b"something else")
