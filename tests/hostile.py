"""Files that mean harm, or that look as if they did: made here, so that nobody has to store them."""

import io
import struct
import zipfile
import zlib
from collections.abc import Iterator
from random import Random

from PIL import Image, ImageCms

from tests.pictures import encoded, scene

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
Files = Iterator[tuple[str, bytes]]


def write_all(folder: str) -> None:
    for name, data in all_files():
        with open(f"{folder}/{name}", "xb") as file:
            file.write(data)


def all_files() -> Files:
    for kind in (
        other_kinds,
        cut_short,
        png_bombs,
        png_lies,
        jpeg_bombs,
        exif,
        profiles,
        webps,
        odd_but_good,
        flipped,
    ):
        for name, data in kind():
            yield f"{kind.__name__}-{name}", data


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def png(width: int, height: int, pixels: bytes, *extra: bytes, depth: int = 8, colour: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return PNG_MAGIC + b"".join(parts)


def zeros(megabytes: int) -> bytes:
    """So many megabytes of nothing, compressed."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(1_000_000)) for _ in range(megabytes)) + packer.flush()


GOOD = {
    "jpeg": encoded(scene(320, 240), "JPEG"),
    "progressive": encoded(scene(320, 240), "JPEG", progressive=True),
    "png": encoded(scene(320, 240), "PNG"),
    "webp": encoded(scene(320, 240), "WEBP"),
    "lossless-webp": encoded(scene(320, 240), "WEBP", lossless=True),
}
JPEG = GOOD["jpeg"]


# --- No picture at all, or none of ours ---------------------------------------------------------------
def other_kinds() -> Files:
    heads = {
        "empty": b"", "nul": b"\0", "zeros": bytes(5000), "text": b"hello\n" * 100, "ff": b"\xff" * 5000,
        "svg": b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>',
        "svg-xml": b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "aaaa">]><svg>&a;</svg>',
        "html": b"<!doctype html><script>alert(1)</script>", "html-bom": b"\xef\xbb\xbf <HTML><body>",
        "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200), "avif": b"\0\0\0\x1cftypavif" + bytes(200),
        "mp4": b"\0\0\0\x18ftypisom" + bytes(200), "pdf": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj", "psd": b"8BPS\0\1" + bytes(99),
        "jxl": b"\xff\x0a" + bytes(99), "jp2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "ico": b"\0\0\1\0\1\0" + bytes(99),
        "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "elf": b"\x7fELF" + bytes(99),
        "riff-avi": b"RIFF\x10\0\0\0AVI LIST", "mpo-head": b"\xff\xd8\xff\xe2", "magic-png": PNG_MAGIC,
        "magic-jpeg": b"\xff\xd8\xff", "magic-webp": b"RIFF\0\0\0\0WEBP",
    }  # fmt: skip
    yield from heads.items()
    for format in ("GIF", "TIFF", "BMP", "PPM", "TGA", "PCX"):
        yield format.lower(), encoded(scene(64, 64), format)
    box = io.BytesIO()
    with zipfile.ZipFile(box, "w") as archive:
        archive.writestr("x.jpg", JPEG)
    yield "zip", box.getvalue()
    yield "png-magic-jpeg-body", PNG_MAGIC + JPEG
    yield "jpeg-magic-png-body", b"\xff\xd8\xff\xe0" + GOOD["png"]
    yield "webp-magic-jpeg-body", b"RIFF" + len(JPEG).to_bytes(4, "little") + b"WEBP" + JPEG
    for kind, data in GOOD.items():  # these are pictures, and something else as well
        yield f"{kind}-and-zip", data + box.getvalue()
        yield f"{kind}-and-script", data + b"<script>alert(document.cookie)</script>"
    yield (
        "html-in-comment",
        encoded(scene(64, 64), "JPEG", comment=b"*/<script>alert(1)</script><?php system(1) ?>"),
    )


def cut_short() -> Files:
    for kind, data in GOOD.items():
        for part in (4, 12, 20, 30, 40, 200, len(data) // 2, len(data) - 500, len(data) - 13, len(data) - 1):
            yield f"{kind}-{part}", data[:part]
        yield f"{kind}-hole", data[: len(data) // 2] + bytes(500) + data[len(data) // 2 + 500 :]
        yield f"{kind}-noise", data[:60] + Random(5).randbytes(len(data))


# --- PNG ----------------------------------------------------------------------------------------------
def png_bombs() -> Files:
    yield "30000-squared", png(30_000, 30_000, zeros(113), depth=1, colour=0)
    yield "billions", png(2**31 - 1, 2**31 - 1, zeros(1))
    yield "40-megapixels", png(8000, 5000, zeros(121))
    yield "40-megapixels-64-bit", png(8000, 5000, zeros(321), depth=16, colour=6)
    yield "41-megapixels", png(8192, 5005, zeros(1))
    yield "8193-wide", png(8193, 1, zlib.compress(bytes(8193 * 3 + 1)))
    yield "far-too-much-data", png(8, 8, zeros(200))
    for kind, prefix in ((b"zTXt", b"k\0\0"), (b"iTXt", b"k\0\1\0\0\0"), (b"iCCP", b"k\0\0")):
        yield f"{kind.decode()}-bomb", png(8, 8, zeros(1), chunk(kind, prefix + zeros(100)))
    yield "many-text-bombs", png(8, 8, zeros(1), *[chunk(b"zTXt", b"k\0\0" + zeros(1))] * 300)
    yield "many-chunks", png(8, 8, zeros(1), chunk(b"abCd", b"") * 100_000)
    yield (
        "interlaced",
        PNG_MAGIC
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8000, 5000, 8, 6, 0, 0, 1))
        + chunk(b"IDAT", zeros(170))
        + chunk(b"IEND", b""),
    )


def png_lies() -> Files:
    good = GOOD["png"]
    yield "wrong-sum", good[:-20] + bytes([good[-20] ^ 1]) + good[-19:]
    yield "no-pixels", png(8, 8, b"")
    yield "zero-wide", png(0, 8, zlib.compress(b""))
    yield "negative", png(2**32 - 1, 2**32 - 1, zlib.compress(b""))
    yield "unknown-colour", png(8, 8, zlib.compress(bytes(500)), colour=5)
    yield "depth-77", png(8, 8, zlib.compress(bytes(500)), depth=77)
    yield "no-header", PNG_MAGIC + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    yield "short-header", PNG_MAGIC + chunk(b"IHDR", b"\0\0\0\1") + chunk(b"IEND", b"")
    yield (
        "two-headers",
        good[:33] + chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 8, 6, 0, 0, 0)) + good[33:],
    )
    yield "endless-chunk", good[:33] + b"\xff\xff\xff\xffIDAT" + good[41:]
    yield "palette-without-colours", png(8, 8, zlib.compress(bytes(72)), colour=3)
    yield (
        "colour-beyond-palette",
        png(8, 8, zlib.compress(b"\0\xff\xff" * 40), chunk(b"PLTE", b"abc"), colour=3),
    )
    yield "not-zlib", png(8, 8, b"not zlib at all" * 20)
    yield "filter-99", png(8, 8, zlib.compress(b"\x63" * 500))
    yield "strange-transparency", png(8, 8, zlib.compress(bytes(500)), chunk(b"tRNS", b"\1" * 300))
    frames = chunk(b"acTL", struct.pack(">II", 2**31, 0)) + chunk(
        b"fcTL", struct.pack(">IIIIIHHBB", 0, 30_000, 30_000, 2**30, 0, 0, 0, 0, 0)
    )
    yield "frame-larger-than-canvas", png(8, 8, zlib.compress(bytes(500)), frames)


# --- JPEG ---------------------------------------------------------------------------------------------
def sized(data: bytes, width: int, height: int) -> bytes:
    marker = b"\xff\xc2" if b"\xff\xc2" in data else b"\xff\xc0"
    at = data.index(marker) + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def jpeg_bombs() -> Files:
    yield "65500-squared", sized(JPEG, 65_500, 65_500)
    yield "says-40-megapixels", sized(JPEG, 8000, 5000)
    yield "says-40-megapixels-progressive", sized(GOOD["progressive"], 8000, 5000)
    yield "no-height", sized(JPEG, 320, 0)
    for name, size, repeats in (
        ("1000-scans", (64, 64), 1000),
        ("60-scans-of-40-megapixels", (8000, 5000), 60),
    ):
        whole = encoded(Image.new("RGB", size, "red"), "JPEG", progressive=True)
        last = whole[whole.rindex(b"\xff\xda") : -2]
        yield name, whole[:-2] + last * repeats + b"\xff\xd9"
    yield "many-segments", JPEG[:2] + b"\xff\xe5\x00\x02" * 200_000 + JPEG[2:]
    yield "many-comments", JPEG[:2] + (b"\xff\xfe\x20\x00" + bytes(8190)) * 900 + JPEG[2:]
    yield "segment-of-no-length", JPEG[:2] + b"\xff\xe5\x00\x00" + JPEG[2:]
    yield "segment-beyond-the-end", JPEG[:2] + b"\xff\xe5\xff\xff" + JPEG[2:]
    yield "no-tables", b"\xff\xd8" + JPEG[JPEG.index(b"\xff\xc0") :]
    yield "no-end", JPEG[:-2]
    yield "two-pictures", JPEG + JPEG
    yield "fill-bytes", JPEG[:2] + b"\xff" * 5_000_000 + JPEG[2:]
    at = JPEG.index(b"\xff\xc0")
    yield "twelve-bits", JPEG[: at + 4] + b"\x0c" + JPEG[at + 5 :]
    yield "two-hundred-components", JPEG[: at + 9] + b"\xc8" + JPEG[at + 10 :]
    yield "lossless", JPEG.replace(b"\xff\xc0", b"\xff\xc3", 1)
    yield "arithmetic", JPEG.replace(b"\xff\xc0", b"\xff\xc9", 1)
    yield "mpo", encoded(scene(64, 64), "MPO", save_all=True, append_images=[scene(64, 64)] * 5)


# --- What lies beside the pixels ----------------------------------------------------------------------
def tiff(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """EXIF with one directory: tag, type, count, value or offset."""
    body = b"".join(struct.pack(">HHII", *entry) for entry in entries)
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", len(entries)) + body + struct.pack(">I", following)


def exif() -> Files:
    blocks = {
        "next-is-itself": tiff((0x0112, 3, 1, 6 << 16), following=8),
        "sub-is-itself": tiff((0x8769, 4, 1, 8), (0x8825, 4, 1, 8), (0xA005, 4, 1, 8)),
        "four-billion-values": tiff((0x0112, 3, 2**32 - 1, 8), (0x010F, 2, 2**32 - 1, 8)),
        "beyond-the-end": tiff((0x0112, 3, 4, 2**31), (0x8769, 4, 1, 2**32 - 1)),
        "unknown-types": tiff((0x0112, 99, 1, 6), (0x0112, 0, 1, 6)),
        "turn-is-text": tiff((0x0112, 2, 4, 0x36363636)),
        "turn-99": tiff((0x0112, 3, 1, 99 << 16)),
        "65535-entries": b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(65_000),
        "not-tiff": b"Exif\0\0garbage" * 50,
        "only-a-head": b"Exif\0\0",
    }
    for name, block in blocks.items():
        for format in ("JPEG", "PNG", "WEBP"):
            yield f"{name}-{format.lower()}", encoded(scene(64, 64), format, exif=block)
    told = Image.Exif()
    told[0x010F], told[0x0112] = "secret camera", 8
    told.get_ifd(0x8825).update({1: "N", 2: (52.0, 30.0, 0.0)})
    for format in ("JPEG", "PNG", "WEBP"):
        yield (
            f"told-{format.lower()}",
            encoded(scene(64, 32), format, exif=told, xmp=b"<x:xmpmeta>secret</x:xmpmeta>"),
        )


def profiles() -> Files:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    broken = bytearray(srgb.replace(b"sRGB", b"evil"))
    broken[128:132] = b"\xff\xff\xff\xff"
    noisy = bytearray(srgb.replace(b"sRGB", b"evil"))
    for at in Random(8).sample(range(128, len(noisy)), 60):
        noisy[at] ^= 0x55
    blocks = {
        "srgb": srgb, "lab": lab, "cut": srgb[:200], "noise": Random(6).randbytes(3000), "noisy": bytes(noisy),
        "four-billion-tags": bytes(broken), "two-megabytes": srgb + bytes(2_000_000), "eight": srgb + bytes(8_000_000),
    }  # fmt: skip
    for name, block in blocks.items():
        yield f"{name}-webp", encoded(scene(64, 64), "WEBP", icc_profile=block)
        yield f"{name}-png", encoded(scene(64, 64), "PNG", icc_profile=block)
        yield f"{name}-png-see-through", encoded(scene(64, 64, "RGBA"), "PNG", icc_profile=block)
        if len(block) < 5_000_000:
            yield f"{name}-jpeg", encoded(scene(64, 64), "JPEG", icc_profile=block)
            yield f"{name}-cmyk", encoded(scene(64, 64, "CMYK"), "JPEG", icc_profile=block)
            yield f"{name}-grey", encoded(scene(64, 64, "L"), "JPEG", icc_profile=block)


# --- WebP ---------------------------------------------------------------------------------------------
def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(
        kind + len(data).to_bytes(4, "little") + data + bytes(len(data) % 2) for kind, data in chunks
    )
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def webps() -> Files:
    def canvas(width: int, height: int, flags: int = 0x02) -> tuple[bytes, bytes]:
        sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
        return b"VP8X", bytes([flags, 0, 0, 0]) + sides

    pixels = (b"VP8 ", GOOD["webp"][20:])
    yield "canvas-of-16-million-squared", riff(canvas(2**24, 2**24), pixels)
    yield "canvas-other-than-the-picture", riff(canvas(8000, 5000, 0), pixels)
    yield "lossless-16383-squared", riff((b"VP8L", b"\x2f\xff\xff\xff\x0f" + bytes(99)))
    yield (
        "lossy-16383-squared",
        riff((b"VP8 ", GOOD["webp"][20:26] + b"\xff\x3f\xff\x3f" + GOOD["webp"][30:])),
    )
    yield "no-picture", riff(canvas(64, 64, 0))
    yield "many-chunks", riff(canvas(320, 240, 0), *[(b"abcd", b"")] * 200_000, pixels)
    yield "says-four-gigabytes", b"RIFF\xff\xff\xff\xff" + GOOD["webp"][8:]
    yield (
        "frames-beyond-the-canvas",
        riff(
            canvas(8, 8),
            (b"ANIM", bytes(6)),
            (b"ANMF", b"\xff" * 16 + b"VP8 " + len(pixels[1]).to_bytes(4, "little") + pixels[1]),
        ),
    )
    frames = [Image.new("RGB", (400, 400), (n, 0, 0)) for n in range(200)]
    yield "200-frames", encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], method=0)
    yield "large-and-moving", encoded(
        Image.new("RGB", (8000, 5000)), "WEBP", save_all=True, append_images=[Image.new("RGB", (8000, 5000), "red")],
        method=0, lossless=True, quality=0,
    )  # fmt: skip


# --- Strange, and pictures all the same ---------------------------------------------------------------
def odd_but_good() -> Files:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = Image.new("I;16", (60, 40), 32768) if mode == "I;16" else scene(60, 40).convert(mode)
        yield f"png-{mode.replace(';', '-')}", encoded(image, "PNG")
    yield "png-see-through-palette", encoded(scene(60, 40).convert("P"), "PNG", transparency=1)
    yield "png-see-through-colour", encoded(scene(60, 40), "PNG", transparency=(1, 2, 3))
    yield "png-16-bit", png(2, 2, zlib.compress((b"\0" + bytes(range(12))) * 2), depth=16)
    frames = [Image.new("RGB", (100, 100), colour) for colour in ("red", "blue", "lime")]
    yield "apng", encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    yield "webp-moving", encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    for mode in ("L", "CMYK", "RGB"):
        yield f"jpeg-{mode}", encoded(scene(60, 40).convert(mode), "JPEG")
    for size in ((1, 1), (1, 8192), (8192, 1)):
        for format in ("JPEG", "PNG", "WEBP"):
            yield f"{format.lower()}-{size[0]}x{size[1]}", encoded(Image.new("RGB", size, "red"), format)
    yield "jpeg-from-a-phone", encoded(scene(4032, 3024), "JPEG", quality=85)
    yield "webp-see-through", encoded(scene(400, 300, "RGBA"), "WEBP")


def flipped() -> Files:
    """Good files with a few bits turned: most are damaged, some only look different."""
    random = Random(4)
    for kind, data in GOOD.items():
        for number in range(25):
            turned = bytearray(data)
            for _ in range(random.choice([1, 3, 30])):
                turned[random.randrange(min(len(data), random.choice([60, 700, len(data)])))] ^= (
                    1 << random.randrange(8)
                )
            yield f"{kind}-{number}", bytes(turned)
