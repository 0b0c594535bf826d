"""How fast the engine is, against a fake upstream on this machine. By hand: uv run python -m tests.benchmarks.engine

    slow       100 and 300 jobs on an upstream that takes 0.3 s to submit, 0.1 s to poll and 8 s to make a picture,
               beside one job alone in the same run, and beside what the upstream itself takes
    click      from the press of the button to the upstream's door
    instant    an upstream that answers at once: finished jobs a second, beside Pillow alone on the same pictures

One worker process and SQLite, as they come; DATABASE_URL chooses another database (its tables are made and kept).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tests.fake_upstream import FakeUpstream

ROOT = Path(__file__).resolve().parents[2]
SLOW = {"submit_s": 0.3, "poll_s": 0.1, "ready_s": 8.0, "picture_kb": 300}
IDEAL_S = SLOW["submit_s"] + SLOW["ready_s"] + SLOW["poll_s"]
TEXT_TO_IMAGE = "black-forest-labs-black-forest-labs-flux-2-pro-text-to-image-1-0s-1k"


@contextmanager
def house(up: FakeUpstream, folder: str) -> Iterator[psutil.Process]:
    """The worker, as production runs it, on the upstream `up`."""
    os.environ |= {"AIGENERATE_API_KEY": up.api_key, "AIGENERATE_BASE_URL": up.base_url}
    os.environ |= {
        "NET_ALLOWED_HOSTS": up.host,
        "DATA_DIR": folder,
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "ERROR"),
    }
    worker = psutil.Popen([sys.executable, "manage.py", "worker"], cwd=ROOT)
    try:
        yield worker
    finally:
        worker.terminate()
        worker.wait(15)


def peak_memory(worker: psutil.Process) -> str:
    """The most that each of the worker's processes had in memory, added up. What they share is counted in each."""
    peaks = 0
    for process in [worker, *worker.children(recursive=True)]:
        status = Path(f"/proc/{process.pid}/status").read_text()
        peaks += int(status.split("VmHWM:")[1].split()[0])
    return f"peak memory {peaks / 1000:.0f} MB in {1 + len(worker.children(recursive=True))} processes"


def prepare(folder: str) -> Any:
    """Tables, catalogue and a rich Alice, in this process too."""
    os.environ |= {
        "DATA_DIR": folder,
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "ERROR"),
        "AIGENERATE_API_KEY": "set",
    }
    for command in ("migrate", "load_catalog"):
        subprocess.run(
            [sys.executable, "manage.py", command, "-v0"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "playground.settings")
    import django

    django.setup()
    from accounts import ledger
    from accounts.models import User

    alice = User.objects.create_user(f"alice-{uuid.uuid4().hex[:8]}@example.org")
    ledger.grant(alice, 10**9, business_id=f"benchmark:{uuid.uuid4()}", memo="benchmark")
    return alice


def submit(alice: Any, jobs: int, *, pay: str = "credits") -> None:
    from playground import catalog, orders

    [variant] = catalog.by_slugs([TEXT_TO_IMAGE])
    for left in range(jobs, 0, -4):
        orders.submit_run(
            alice,
            prompt=f"a fox in the snow {uuid.uuid4()}",
            variants=[variant],
            aspect_ratio="1:1",
            count=min(4, left),
            seed=None,
            pay=pay,
            nonce=uuid.uuid4().hex,
        )


def wait_for_drive() -> None:
    from playground import drives

    until(lambda: drives.alive().exists(), 30)
    time.sleep(0.5)


def wait_for_all() -> None:
    from playground.models import Job

    until(lambda: not Job.objects.open().exists(), 300)


def until(is_so: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.1)


def outcome() -> str:
    from django.db.models import Count

    from playground.models import Job

    return str(dict(Job.objects.values_list("state").annotate(Count("pk")).order_by()))


def slow(alice: Any, folder: str, jobs: int, bound: float) -> None:
    with FakeUpstream(**SLOW) as up, house(up, folder) as worker:
        wait_for_drive()
        alone = timed(alice, 1)
        took = timed(alice, jobs)
        memory = peak_memory(worker)
    print(
        f"slow     {jobs} jobs: {took:.1f} s; one job alone {alone:.1f} s, ratio {took / alone:.2f} (bound {bound});"
        f" upstream's own time {IDEAL_S:.1f} s, ratio {took / IDEAL_S:.2f}; {memory}"
    )


def timed(alice: Any, jobs: int) -> float:
    """Seconds from the first press of the button until the last picture is there."""
    started = time.monotonic()
    submit(alice, jobs)
    wait_for_all()
    return time.monotonic() - started


def click(alice: Any, folder: str, times: int = 25) -> None:
    from playground.models import Job

    with FakeUpstream(**SLOW | {"ready_s": 0.2}) as up, house(up, folder):
        wait_for_drive()
        known = set(Job.objects.values_list("pk", flat=True))
        for _ in range(times):
            submit(alice, 1)
            time.sleep(0.37)
        wait_for_all()
        clicked = {job.params["prompt"]: job.created.timestamp() for job in Job.objects.exclude(pk__in=known)}
        arrivals = {task["prompt"]: task["arrived"] for task in up.stats()["tasks"]}
    waits = sorted(1000 * (arrivals[prompt] - at) for prompt, at in clicked.items())
    print(
        f"click    to upstream: p50 {statistics.median(waits):.0f} ms, max {waits[-1]:.0f} ms (bound: p50 200 ms)"
    )


def instant(alice: Any, folder: str, jobs: int = 600) -> None:
    from playground.jobs import DISPATCH
    from playground.models import Switch

    with FakeUpstream(picture_kb=300) as up, house(up, folder) as worker:
        wait_for_drive()
        alone = pillow_alone(up, jobs // 3)
        switch = Switch.objects.create(name=DISPATCH, is_on=False)
        submit(alice, jobs)  # before the clock starts: it is the engine that is measured
        started = time.monotonic()
        switch.delete()
        wait_for_all()
        rate = jobs / (time.monotonic() - started)
        memory = peak_memory(worker)
    print(
        f"instant  {rate:.1f} finished jobs a second; Pillow alone {alone:.1f} on the same cores: ratio"
        f" {rate / alone:.2f} (bound 0.5); {memory}"
    )


def pillow_alone(up: FakeUpstream, pictures: int) -> float:
    """The same picture work with nothing around it: pictures a second on all cores."""
    from playground import images

    data = sample(up)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        started = time.monotonic()
        list(threads.map(lambda _: images.render(data, with_preview=False), range(pictures)))
        return pictures / (time.monotonic() - started)


def sample(up: FakeUpstream) -> bytes:
    """A picture such as the upstream gives."""
    import asyncio

    from playground import net
    from playground.providers.aigenerate import AIGenerate
    from playground.providers.base import Order

    async def one() -> str:
        async with net.client(allowed_hosts=[]) as http:
            provider = AIGenerate(base_url=up.base_url, api_key=up.api_key)
            order = Order(
                job_id="1",
                model=TEXT_TO_IMAGE,
                prompt="sample",
                aspect_ratio="1:1",
                resolution="1K",
                width=1024,
                height=1024,
            )
            upstream_id = (await provider.create(http, order)).upstream_id
            while not (report := await provider.look(http, upstream_id)).urls:
                await asyncio.sleep(0.05)
            return report.urls[0]

    with urllib.request.urlopen(asyncio.run(one()), timeout=10) as reply:
        return reply.read()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["click", "instant", "slow"], help="click, instant, slow")
    what = parser.parse_args().what
    with tempfile.TemporaryDirectory() as folder:
        alice = prepare(folder)
        if "click" in what:
            click(alice, folder)
        if "instant" in what:
            instant(alice, folder)
        if "slow" in what:
            slow(alice, folder, 100, 1.2)
            slow(alice, folder, 300, 1.6)
        print(f"outcome  {outcome()}; audit: {audit() or 'clean'}")


def audit() -> list[Any]:
    from playground import upkeep

    return upkeep.audit()


if __name__ == "__main__":
    main()
