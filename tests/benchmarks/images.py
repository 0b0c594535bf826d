"""What the picture work costs: `uv run python -m tests.benchmarks.images`.

Each kind of picture is rendered as the engine does it, with and without a preview, beside the naive way (full decode,
Lanczos, default WebP) in the same run, so that the ratio holds on any machine. Then in two threads, and to the disk.
"""

import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from random import Random

from django.conf import settings
from PIL import Image

from playground import images
from playground.images.renditions import fit

REPEATS = 15


def picture(width: int, height: int) -> Image.Image:
    """Soft shapes with some grain: about as many bytes as a photograph of that size."""
    random, channels = Random(7), []
    for _ in range(3):
        shapes = Image.frombytes("L", (24, 24), random.randbytes(576)).resize((width, height))
        grain = Image.frombytes("L", (width // 2, height // 2), random.randbytes(width * height // 4))
        channels.append(Image.blend(shapes, grain.resize((width, height)), 0.1))
    return Image.merge("RGB", channels)


def encoded(image: Image.Image, format: str, **options: int) -> bytes:
    out = BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def naive(data: bytes) -> bytes:
    image = Image.open(BytesIO(data)).convert("RGB")
    return encoded(image.resize(fit(image.size, 512), Image.Resampling.LANCZOS), "WEBP")


def median_ms(work: Callable[[], object], clock: Callable[[], float] = time.process_time) -> float:
    """Of one core's time, so that busy neighbours do not count; of the wall's for what waits for a disk."""
    work()
    spent = []
    for _ in range(REPEATS):
        start = clock()
        work()
        spent.append(clock() - start)
    return statistics.median(spent) * 1000


def per_second(work: Callable[[], object], *, threads: int) -> float:
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        list(pool.map(lambda _: work(), range(REPEATS * threads)))
        return REPEATS * threads / (time.perf_counter() - start)


def report(name: str, data: bytes) -> None:
    control = median_ms(partial(naive, data))
    print(f"\n{name}, {len(data) / 1000:.0f} kB; naive thumbnail {control:.1f} ms")
    for label, with_preview in (("thumbnail", False), ("thumbnail + preview", True)):
        work = partial(images.render, data, with_preview=with_preview)
        made, one, two = median_ms(work), per_second(work, threads=1), per_second(work, threads=2)
        ratio = f"{made / control:.2f} of naive"
        print(f"  {label:20} {made:6.1f} ms  {ratio}  {one:5.1f}/s one thread  {two:5.1f}/s two threads")
    rendered = images.render(data, with_preview=False)
    stored = median_ms(lambda: images.store(images.new_key(uuid.uuid4()), rendered), time.perf_counter)
    print(f"  {'store, synced':20} {stored:6.1f} ms of wall time")


def main() -> None:
    with tempfile.TemporaryDirectory(dir=os.environ.get("DATA_DIR")) as folder:
        settings.configure(MEDIA_ROOT=Path(folder))
        print(f"{os.cpu_count()} cores, median of {REPEATS}, milliseconds of one core")
        one, four = picture(1024, 1024), picture(2048, 2048)
        report("1-megapixel JPEG", encoded(one, "JPEG", quality=90))
        report("4-megapixel JPEG", encoded(four, "JPEG", quality=90))
        report("1-megapixel PNG", encoded(one, "PNG"))


if __name__ == "__main__":
    main()
