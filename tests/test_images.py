"""A picture is refused or stored whole. Files are judged by their bytes, and a full disk is never a success."""

import hashlib
import itertools
import os
import subprocess
import sys
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest
from PIL import Image

from playground import images
from playground.images import ImageError, Rendered
from tests.pictures import encoded, opened, scene


def rendered(**options: Any) -> Rendered:
    return images.render(encoded(scene(), "JPEG"), with_preview=True, **options)


def new_key() -> str:
    return images.new_key(uuid.uuid4())


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png_of_size(width: int, height: int, *, extra: bytes = b"") -> bytes:
    """A tiny file that says it is huge."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    pixels = zlib.compress(b"\0" * 1000)
    parts = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 4 :]


# --- What is made of a good picture -------------------------------------------------------------------
@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_a_picture_keeps_its_bytes_and_gets_two_renditions(format: str) -> None:
    data = encoded(scene(1344, 768), format)
    made = images.render(data, with_preview=True)
    assert made.original == data
    assert (made.format, made.width, made.height) == (format, 1344, 768)
    assert made.sha256 == hashlib.sha256(data).hexdigest()
    assert (opened(made.preview).size, opened(made.preview).format) == ((768, 439), "WEBP")
    assert (opened(made.thumb).size, opened(made.thumb).format) == ((512, 293), "WEBP")
    assert (made.thumb_width, made.thumb_height) == (512, 293)


def test_a_paid_picture_needs_no_preview() -> None:
    assert images.render(encoded(scene(), "JPEG"), with_preview=False).preview == b""


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 900), (8192, 1), (8192, 4), (300, 200), (1023, 2047), (2049, 513)]
)
def test_renditions_have_the_same_shape_and_are_never_larger(size: tuple[int, int]) -> None:
    for format in ("JPEG", "PNG", "WEBP"):
        made = images.render(encoded(scene(*size), format), with_preview=True)
        for data, side in ((made.preview, 768), (made.thumb, 512)):
            scale = min(1, side / max(size))
            assert opened(data).size == tuple(max(1, round(n * scale)) for n in size)


def test_renditions_look_like_the_picture() -> None:
    quarters = Image.new("RGB", (1024, 1024), "red")
    quarters.paste("blue", (512, 0, 1024, 512))
    for format in ("JPEG", "PNG", "WEBP"):
        made = images.render(encoded(quarters, format), with_preview=True)
        for data in (made.preview, made.thumb):
            small = opened(data).convert("RGB")
            red, blue = small.getpixel((9, 9)), small.getpixel((small.width - 9, 9))
            assert red[0] > 240 > 20 > red[2], format
            assert blue[2] > 240 > 20 > blue[0], format


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("colour", ["white", "black"])
def test_only_the_preview_is_marked_and_only_in_its_corner(mode: str, colour: str) -> None:
    made = images.render(encoded(Image.new(mode, (1024, 1024), colour), "PNG"), with_preview=True)
    grey = opened(made.preview).convert("L")
    darkest, lightest = grey.crop((620, 700, 768, 768)).getextrema()
    assert lightest - darkest > 100, "the mark cannot be read"
    rest = grey.crop((0, 0, 768, 690)).getextrema()
    assert rest[1] - rest[0] < 8
    thumb = opened(made.thumb).convert("L").getextrema()
    assert thumb[1] - thumb[0] < 8


def test_a_turned_photo_is_upright_in_its_renditions_and_untouched_in_the_original() -> None:
    lying = Image.new("RGB", (1200, 800), "black")
    lying.paste("white", (0, 0, 1200, 100))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the top of the file is the right of the scene
    for format in ("JPEG", "PNG", "WEBP"):
        data = encoded(lying, format, exif=exif)
        made = images.render(data, with_preview=True)
        assert made.original == data
        assert (made.width, made.height) == (800, 1200)
        assert (made.thumb_width, made.thumb_height) == (341, 512) == opened(made.thumb).size
        assert opened(made.preview).convert("L").getpixel((510, 100)) > 200, format
        assert opened(made.thumb).convert("L").getpixel((5, 250)) < 50, format
        assert "exif" not in opened(made.thumb).info


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_unreadable_exif_is_no_reason_to_refuse_a_picture() -> None:
    data = encoded(scene(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff garbage")
    assert images.render(data, with_preview=False).width == 640


def test_unusual_pixels_come_out_right() -> None:
    grey16 = Image.new("I;16", (600, 600), 32768)
    palette = Image.new("P", (600, 600), 1)
    palette.putpalette([255, 255, 255, 200, 30, 30])
    cases = {
        "16-bit grey": (encoded(grey16, "PNG"), (128, 128, 128, 255)),
        "CMYK": (
            encoded(Image.new("RGB", (600, 600), (10, 200, 10)).convert("CMYK"), "JPEG"),
            (10, 200, 10, 255),
        ),
        "see-through palette": (encoded(palette, "PNG", transparency=1), (200, 30, 30, 0)),
        "grey with alpha": (encoded(Image.new("LA", (600, 600), (90, 128)), "PNG"), (90, 90, 90, 128)),
        "black and white": (encoded(Image.new("1", (600, 600), 1), "PNG"), (255, 255, 255, 255)),
        "grey JPEG": (encoded(Image.new("L", (600, 600), 77), "JPEG"), (77, 77, 77, 255)),
    }
    for name, (data, expected) in cases.items():
        pixel = opened(images.render(data, with_preview=False).thumb).convert("RGBA").getpixel((300, 300))
        visible = 4 if expected[3] else 0
        assert all(abs(a - b) <= 12 for a, b in zip(pixel[:visible], expected[:visible], strict=True)), (
            name,
            pixel,
        )
        assert abs(pixel[3] - expected[3]) <= 4, (name, pixel)


def test_sixteen_bit_colour_is_accepted() -> None:
    header = (2).to_bytes(4, "big") * 2 + b"\x10\x02\x00\x00\x00"
    pixels = zlib.compress(b"\0" + b"\xc0\x00\x40\x00\x20\x00" * 2 + b"\0" + b"\xc0\x00\x40\x00\x20\x00" * 2)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    made = images.render(b"\x89PNG\r\n\x1a\n" + chunks, with_preview=False)
    red, green, blue = opened(made.thumb).convert("RGB").getpixel((0, 0))
    assert red > green > blue


def test_the_colour_profile_is_carried_on_unless_it_is_enormous() -> None:
    for size, carried in ((600, True), (100_000, False)):
        data = encoded(scene(), "PNG", icc_profile=b"p" * size)
        thumb = opened(images.render(data, with_preview=False).thumb)
        assert bool(thumb.info.get("icc_profile")) is carried


def test_the_first_frame_of_an_animation_is_the_picture() -> None:
    frames = [Image.new("RGB", (100, 100), colour) for colour in ("red", "blue")]
    for format in ("WEBP", "PNG"):
        data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
        assert (
            opened(images.render(data, with_preview=False).thumb).convert("RGB").getpixel((50, 50))[0] > 240
        )


def test_two_threads_at_once_make_what_one_makes() -> None:
    files = [
        encoded(scene(700 + 10 * n, 500), format) for n, format in enumerate(["JPEG", "PNG", "WEBP"] * 4)
    ]
    alone = [images.render(data, with_preview=True) for data in files]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(lambda data: images.render(data, with_preview=True), files))
    assert together == alone


# --- What is refused ----------------------------------------------------------------------------------
WHOLE = {
    "JPEG": encoded(scene(1024, 1024), "JPEG"),
    "progressive JPEG": encoded(scene(1024, 1024), "JPEG", progressive=True),
    "PNG": encoded(scene(1024, 1024), "PNG"),
    "WebP": encoded(scene(1024, 1024), "WEBP", method=0),
    "lossless WebP": encoded(scene(1024, 1024), "WEBP", lossless=True, method=0, quality=0),
}


@pytest.mark.parametrize("with_preview", [False, True])  # the JPEG is decoded at a half, and in full
@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_was_cut_short_is_refused(kind: str, with_preview: bool) -> None:
    data = WHOLE[kind]
    images.render(data, with_preview=with_preview)
    for missing in (len(data) // 2, len(data) // 10, 500, 20, 2, 1):
        with pytest.raises(ImageError):
            images.render(data[:-missing], with_preview=with_preview)


def test_a_flipped_bit_in_a_png_is_found() -> None:
    data = bytearray(encoded(scene(), "PNG"))
    for at in (20, len(data) // 2, len(data) - 14):
        broken = bytes(data[:at]) + bytes([data[at] ^ 1]) + bytes(data[at + 1 :])
        with pytest.raises(ImageError, match="damaged"):
            images.render(broken, with_preview=False)


JPEG, PNG, WEBP = (encoded(scene(64, 64), format) for format in ("JPEG", "PNG", "WEBP"))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"<!doctype html><title>404</title>", "not a JPEG, PNG or WebP"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not a JPEG, PNG or WebP"),
        (encoded(scene(64, 64), "GIF"), "not a JPEG, PNG or WebP"),
        (encoded(scene(64, 64), "TIFF"), "not a JPEG, PNG or WebP"),
        (b"\xff\xd8\xff", "damaged"),
        (JPEG[:20], "damaged"),
        (JPEG[:400] + Random(2).randbytes(400), "damaged"),
        (b"\x89PNG\r\n\x1a\n", "damaged"),
        (PNG[:30], "damaged"),
        (PNG[:8] + b"\xff" * 100, "damaged"),
        (b"RIFF\x00\x00\x00\x00WEBP", "damaged"),
        (WEBP[:25], "no pixels"),
        (b"RIFF" + WEBP[4:20] + Random(3).randbytes(200), "damaged|pixels"),
        (b"\xff\xd8\xff" + bytes(40_000_000), "larger than 40 MB"),
    ],
    ids=itertools.count(),
)
def test_what_is_no_picture_is_refused_in_plain_words(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        images.render(data, with_preview=True)


@pytest.mark.parametrize(
    ("width", "height", "says"),
    [
        (65_000, 65_000, "8192 a side"),
        (8193, 1, "8192 a side"),
        (1, 8193, "8192 a side"),
        (8192, 8192, "67 megapixels"),
    ],
)
def test_a_bomb_is_refused_by_its_header(width: int, height: int, says: str) -> None:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    webp = b"RIFF\x30\x00\x00\x00WEBPVP8X\x0a\x00\x00\x00\x00\x00\x00\x00" + canvas + bytes(30)
    for bomb in (png_of_size(width, height), with_jpeg_size(JPEG, width, height), webp):
        with pytest.raises(ImageError, match=says):
            images.render(bomb, with_preview=False)


def test_the_largest_allowed_side_is_allowed() -> None:
    made = images.render(encoded(scene(8192, 64), "JPEG"), with_preview=False)
    assert (made.width, made.thumb_width, made.thumb_height) == (8192, 512, 4)


def test_a_small_file_cannot_ask_for_days_of_decoding() -> None:
    progressive = encoded(scene(64, 64), "JPEG", progressive=True)
    last_scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    with pytest.raises(ImageError, match="too many scans"):
        images.render(progressive[:-2] + last_scan * 1000 + b"\xff\xd9", with_preview=False)
    with pytest.raises(ImageError, match="too many segments"):
        images.render(JPEG[:2] + b"\xff\xe5\x00\x02" * 20_000 + JPEG[2:], with_preview=False)
    with pytest.raises(ImageError, match="too many chunks"):
        images.render(png_of_size(9, 9, extra=png_chunk(b"abCd", b"") * 30_000), with_preview=False)


# --- Social pictures ----------------------------------------------------------------------------------
@pytest.mark.parametrize("count", [1, 2, 3, 4, 6])
def test_a_social_picture_shows_up_to_four_pictures(count: int, tmp_path: Path) -> None:
    files = [tmp_path / str(n) for n in range(count)]
    colours = ["red", "lime", "blue", "yellow", "white", "white"]
    for n, file in enumerate(files):
        file.write_bytes(
            encoded(Image.new("RGB", (400 + 300 * n, 700), colours[n]), ["JPEG", "PNG", "WEBP"][n % 3])
        )
    picture = opened(images.social(files))
    assert (picture.format, picture.size) == ("JPEG", (1200, 630))
    seen = {
        picture.getpixel(at) for at in ((20, 20), (1180, 20), (600, 300), (20, 610), (1180, 610), (420, 20))
    }
    for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0))[:count]:
        assert any(all(abs(a - b) < 12 for a, b in zip(pixel, colour, strict=True)) for pixel in seen), colour
    assert not any(min(pixel) > 240 for pixel in seen)


def test_a_social_picture_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = Image.new("RGB", (1600, 3200), "black")
    lying.paste("white", (0, 0, 800, 3200))  # the left of the file is the top of the scene
    (tmp_path / "turned").write_bytes(encoded(lying, "JPEG", exif=exif))
    picture = opened(images.social([tmp_path / "turned"])).convert("L")
    assert picture.getpixel((100, 50)) > 200 and picture.getpixel((1100, 50)) > 200
    assert picture.getpixel((100, 600)) < 50 and picture.getpixel((1100, 600)) < 50


def test_a_social_picture_of_a_damaged_file_is_an_image_error(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(JPEG[: len(JPEG) // 2])
    with pytest.raises(ImageError):
        images.social([tmp_path / "bad"])
    with pytest.raises(FileNotFoundError):
        images.social([tmp_path / "none"])


# --- Files --------------------------------------------------------------------------------------------
def files_under(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_stored_picture_is_read_back_as_it_was(settings: Any) -> None:
    made, key = rendered(), new_key()
    images.store(key, made)
    assert images.path(key, "original", "jpeg").read_bytes() == made.original
    assert images.path(key, "preview", "jpeg").read_bytes() == made.preview
    assert images.path(key, "thumb", "jpeg").read_bytes() == made.thumb
    assert images.stored_sha256(key, "jpeg") == made.sha256
    assert len(files_under(Path(settings.MEDIA_ROOT))) == 3
    images.path(key, "original", "jpeg").write_bytes(b"rotten")
    assert images.stored_sha256(key, "jpeg") != made.sha256


def test_a_removed_picture_is_gone_and_removing_it_again_is_fine(settings: Any) -> None:
    key, other = new_key(), new_key()
    images.store(key, rendered())
    images.store(other, rendered())
    images.remove(key)
    images.remove(key)
    assert images.stored_sha256(key, "jpeg") is None
    assert images.stored_sha256(other, "jpeg")


def test_a_key_is_spread_by_the_end_of_the_id_and_used_once() -> None:
    picture = uuid.UUID("0198c0de-0000-7000-8000-00000000ab12")
    key = images.new_key(picture)
    assert key == "12/ab/0198c0de000070008000" + "00000000ab12"
    first = rendered()
    images.store(key, first)
    with pytest.raises(OSError):
        images.store(key, images.render(PNG, with_preview=False))
    assert images.stored_sha256(key, "jpeg") == first.sha256


@pytest.mark.parametrize(
    "key", ["", "/", "..", "aa/bb", "../../../etc", "aa/bb/" + "c" * 31 + "/", "/aa/bb/" + "c" * 32]
)
def test_what_is_no_key_reaches_no_file(key: str) -> None:
    for reach in (
        images.remove,
        lambda k: images.path(k, "thumb", "png"),
        lambda k: images.store(k, rendered()),
    ):
        with pytest.raises(ValueError, match="key"):
            reach(key)
    with pytest.raises(ValueError, match="size"):
        images.path(new_key(), "../../secret", "png")  # type: ignore[arg-type]


def test_the_answer_says_what_kind_of_file_it_is() -> None:
    assert images.content_type("original", "jpeg") == "image/jpeg"
    assert images.content_type("thumb", "jpeg") == "image/webp"


def test_a_disk_that_lies_is_caught_and_nothing_stays(monkeypatch: Any, settings: Any) -> None:
    monkeypatch.setattr(images.files, "_write", lambda file, data: file.write_bytes(data[:-1] + b"?"))
    with pytest.raises(ImageError, match="other bytes"):
        images.store(new_key(), rendered())
    assert files_under(Path(settings.MEDIA_ROOT)) == []


@pytest.mark.parametrize("fails_at", range(1, 8))
def test_a_disk_error_at_any_point_leaves_nothing(fails_at: int, monkeypatch: Any, settings: Any) -> None:
    images.store(images.new_key(uuid.UUID(int=0)), rendered())
    before, calls, sync = files_under(Path(settings.MEDIA_ROOT)), 0, os.fsync
    key = images.new_key(uuid.UUID(int=0x1234))

    def fsync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(5, "Input/output error")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output"):
        images.store(key, rendered())
    assert files_under(Path(settings.MEDIA_ROOT)) == before
    assert not images.path(key, "thumb", "jpeg").parent.exists()


FULL_DISK = """
import resource, signal, sys, uuid
from django.conf import settings
settings.configure(MEDIA_ROOT=sys.argv[1])
from playground import images
made = images.render(open(sys.argv[2], "rb").read(), with_preview=False)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    images.store(images.new_key(uuid.uuid4()), made)
except OSError as error:
    print("refused", error.errno)
"""


def test_a_file_that_does_not_fit_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    picture = tmp_path / "picture.jpg"
    picture.write_bytes(encoded(scene(), "JPEG"))
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "media"), str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.split()[:1], done.stderr) == (["refused"], "")
    assert files_under(tmp_path / "media") == []


def test_a_full_disk_and_a_read_only_disk_are_errors_and_leave_nothing(tmp_path: Path, settings: Any) -> None:
    """On a real file system of 64 kB, where one may be mounted."""
    mounted = tmp_path / "disk"
    mounted.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(mounted)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small file system: run as root")
    try:
        settings.MEDIA_ROOT = mounted / "pictures"
        small, large = images.render(JPEG, with_preview=False), rendered()
        images.store(new_key(), small)
        before = files_under(mounted)
        with pytest.raises(OSError, match="No space"):
            images.store(new_key(), large)
        assert files_under(mounted) == before
        subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True)
        with pytest.raises(OSError, match="Read-only"):
            images.store(new_key(), small)
        assert files_under(mounted) == before
    finally:
        subprocess.run(["umount", str(mounted)], check=True)


def test_what_a_killed_process_left_half_written_is_swept(settings: Any) -> None:
    assert images.clear_incoming() == 0
    images.store(new_key(), rendered())
    for name, age_s in (("old", 7200), ("new", 0)):
        folder = Path(settings.MEDIA_ROOT) / ".incoming" / name
        folder.mkdir()
        (folder / "original.jpg").write_bytes(b"half")
        stamp = folder.stat().st_mtime - age_s
        os.utime(folder, (stamp, stamp))
    assert images.clear_incoming() == 1
    assert len(files_under(Path(settings.MEDIA_ROOT))) == 4
