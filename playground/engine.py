"""The loop that sees jobs through: one asyncio loop per worker process, hundreds of jobs at a time.

A drive claims due jobs by lease, keeps the leases while it lives, and lets go of what waits when it ends, so that
the next drive goes on. What is done for each job is in `playground.steps`; beside them, `playground.deliveries` tells
customers how their jobs ended. Database work runs on one thread, image work on as many as there are cores, HTTP on one
client. If the process is killed at any line, the leases run out and another drive finds each job in the state that
was written down before the line was reached.
"""

import asyncio
import logging
import os
import random
import sys
import time
import uuid
from datetime import datetime, timedelta

import uvloop
from django.conf import settings
from django.utils import timezone

from playground import drives, jobs, upkeep
from playground.commits import Commits
from playground.deliveries import Deliveries
from playground.models import Job
from playground.steps import LetGo, Steps

logger = logging.getLogger(__name__)

# An upstream that answers a create with the picture takes up to two minutes, which a drive that ends waits for; and it
# lives longer than that, so that a worker is free again before its successor hands over.
LIFETIME_S = 130.0
DRAIN_S = 125.0
TICK_S = 0.1
SWEEP_S = 15.0


def drive() -> None:
    """What the queue calls: drives jobs until the next drive takes over. Safe to call twice, and at the same time."""
    owner = f"{drives.HOST[:30]}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
    # Or image threads wait 5 ms for the interpreter at every step, with their core idle.
    sys.setswitchinterval(0.001)
    if drives.join(owner):
        uvloop.run(Drive(owner).run())


class Drive:
    """One run of the loop, under the name `owner`, which is also the name on its leases."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.commit = Commits()
        self.ending = asyncio.Event()
        self.steps = Steps(self.commit, self.ending)
        self.deliveries = Deliveries(self.commit, self.ending)
        self.tasks: dict[uuid.UUID, asyncio.Task[None]] = {}

    async def run(self) -> None:
        async with self.steps.open():
            beats = asyncio.create_task(self._beat())
            messages = asyncio.create_task(self.deliveries.run())
            try:
                await self._claim_until_ending()
                await self._drain()
            finally:
                beats.cancel()
                self.ending.set()
                await messages
                await self.commit(drives.leave, self.owner)
                await self.commit.close()

    async def _claim_until_ending(self) -> None:
        while not self.ending.is_set():
            try:
                for job in await self.commit(
                    jobs.claim, self.owner, settings.ENGINE_IN_FLIGHT - len(self.tasks)
                ):
                    self._take(job)
            except Exception:
                logger.exception("claiming failed; trying again")
                await asyncio.sleep(1)
            await asyncio.sleep(TICK_S)

    def _take(self, job: Job) -> None:
        """Starts on a job; one that we have already was hinted at by its upstream, and is looked at now."""
        if job.pk in self.tasks:
            self.steps.wakes[job.pk].set()
        else:
            self.tasks[job.pk] = asyncio.create_task(self._see_through(job))
            self.steps.in_flight = len(self.tasks)

    async def _beat(self) -> None:
        """Beats, keeps the leases and sweeps; sets `ending` when the time is over or the watchdog asks."""
        born = swept = time.monotonic()
        while True:
            try:
                await self.steps.know_upstreams()
                stop = await self.commit(drives.beat, self.owner, len(self.tasks))
                await self.commit(jobs.renew, self.owner, list(self.tasks))
                if stop:
                    self.ending.set()
                elif time.monotonic() > born + LIFETIME_S and not self.ending.is_set():
                    await self.commit(drives.hand_over, self.owner)
                    self.ending.set()
                if time.monotonic() > swept + SWEEP_S:
                    swept = time.monotonic()
                    await self.commit(upkeep.sweep)
                    # Beside it, for an upstream that is slow must not hold up a beat.
                    self.asking = asyncio.create_task(self.steps.ask_balances())
            except Exception:
                logger.exception("a beat failed; trying again")
            await asyncio.sleep(drives.BEAT_S)

    async def _drain(self) -> None:
        """What waits is let go of at once; what is in the middle of a paid call or a fetch may finish it."""
        self.steps.wake_all()
        if self.tasks:
            await asyncio.wait(list(self.tasks.values()), timeout=DRAIN_S)
        for task in self.tasks.values():
            task.cancel()

    async def _see_through(self, job: Job) -> None:
        try:
            await self.steps.see_through(job)
        except LetGo as later:
            await self.commit(jobs.let_go, job, later.at)
        except Exception:
            logger.exception("job %s: unexpected; it is looked at again", job.pk)
            await self.commit(jobs.let_go, job, _from_now(10 + 10 * random.random()))
        finally:
            self.tasks.pop(job.pk, None)
            self.steps.in_flight = len(self.tasks)
            self.steps.forget(job.pk)
            if job.key_id is not None:
                self.deliveries.wake.set()


def _from_now(seconds: float) -> datetime:
    return timezone.now() + timedelta(seconds=seconds)
