"""Input pictures that a caller of the API named by their addresses: fetched before the job is sent, and kept as uploads.

The addresses are a stranger's, so they are fetched by `net.download`, and what lies there is decoded and encoded anew
like any upload. A job whose pictures cannot be had fails before anything is asked of an upstream, and costs nothing.
"""

import asyncio
import hashlib
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass

from django.db import transaction

from playground import catalog, images, jobs, net, orders, uploads
from playground.commits import Commits
from playground.ids import new_id
from playground.models import Job, RunInput, Upload

TOTAL_S = 30.0
TOTAL_OF_JOB_S = 90.0  # of fetching, over all its pictures
TRIES = 3
PAUSE_S = 1.0
BUSY_TRIES = 5  # each waits for 2 s
OURS = "upload:"  # before the id of an upload, among addresses of others


class Unusable(Exception):
    """One of them is no use: `failure` is a key of jobs.EXPLAINED, str() says which and why."""

    def __init__(self, failure: str, detail: str) -> None:
        self.failure = failure
        super().__init__(detail)


@dataclass(frozen=True)
class Collector:
    """What fetching needs of the drive."""

    http: net.Client
    commit: Commits
    threads: Executor

    async def collect(self, job: Job) -> bool:
        """Fetches all that the job names, in order; True where it can be sent now. Raises Unusable, images.Busy.

        What was known already is not stored twice, and an address that is named twice is asked once.
        """
        until, known = time.monotonic() + TOTAL_OF_JOB_S, dict[str, Upload]()
        urls: list[str] = job.params["sources"]
        for number, url in enumerate(urls, 1):
            if url not in known:
                known[url] = await self._one(job, f"Input picture {number}", url, until)
        return await self.commit(collected, job, [known[url] for url in urls])

    async def _one(self, job: Job, which: str, url: str, until: float) -> Upload:
        if url.startswith(OURS):
            return await self._own(job, url.removeprefix(OURS), which)
        data = await self._fetched(url, which, until)
        try:
            return await self._stored(job, data)
        except (images.ImageError, uploads.QuotaReached) as no:
            raise Unusable("input_refused", f"{which}: {no}") from no

    async def _fetched(self, url: str, which: str, until: float) -> bytes:
        """A server that hangs has its 30 s, and all of them together have 90: others wait for the job's place."""
        for left in reversed(range(TRIES)):
            total_s = min(TOTAL_S, until - time.monotonic())
            if total_s <= 0:
                raise Unusable("input_unreachable", f"{which}: its turn came too late, after slower ones")
            try:
                return await net.download(self.http, url, limit_bytes=images.MAX_INPUT_BYTES, total_s=total_s)
            except net.Unreachable as trouble:
                if not left:
                    raise Unusable("input_unreachable", f"{which}: {trouble}") from trouble
                await asyncio.sleep(PAUSE_S)
            except net.TooLarge as refused:
                most = f"it has more than {images.MAX_INPUT_BYTES // 1_000_000} MB"
                raise Unusable("input_refused", f"{which}: {most}") from refused
            except net.NetError as refused:
                raise Unusable("input_unreachable", f"{which}: {refused}") from refused
        raise AssertionError("the last try returns or raises")

    async def _own(self, job: Job, pk: str, which: str) -> Upload:
        if known := await self.commit(uploads.touched, job.user_id, pk=pk):
            return known
        raise Unusable("input_gone", f"{which} has been removed.")

    async def _stored(self, job: Job, data: bytes) -> Upload:
        sha256 = hashlib.sha256(data).hexdigest()
        if known := await self.commit(uploads.touched, job.user_id, content_sha256=sha256):
            return known
        in_thread = asyncio.get_running_loop().run_in_executor
        rendered, key = await self._normalised(data), images.new_key(new_id())
        await in_thread(self.threads, images.store, key, rendered)
        try:
            kept = await self.commit(uploads.added, job.user_id, sha256, key, rendered)
        except BaseException:
            await in_thread(self.threads, images.remove, key)
            raise
        if kept.key != key:
            await in_thread(self.threads, images.remove, key)
        return kept

    async def _normalised(self, data: bytes) -> images.Rendered:
        """The large pictures of others take seconds each, and that is no fault of this one."""
        for _ in range(BUSY_TRIES):
            with suppress(images.Busy):
                return await asyncio.get_running_loop().run_in_executor(self.threads, images.normalise, data)
        raise images.Busy


def collected(job: Job, found: Sequence[Upload]) -> bool:
    """The job goes on with these; False where it is not ours any more."""
    ids = list(dict.fromkeys(upload.pk for upload in found))
    params = {name: value for name, value in job.params.items() if name not in ("sources", "follows_input")}
    params["inputs"] = [*job.params.get("inputs", []), *(str(upload.pk) for upload in found)]
    if job.params.get("follows_input"):
        params |= orders.shape(job.variant, catalog.AUTO, found)
    with transaction.atomic():
        if not jobs.collected(job, params):
            return False
        RunInput.objects.bulk_create(
            (RunInput(run_id=job.run_id, upload_id=pk, position=place) for place, pk in enumerate(ids)),
            ignore_conflicts=True,
        )
    return True
