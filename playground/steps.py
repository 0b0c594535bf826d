"""What is done for one job, from whatever state it is in: sent, watched, fetched.

Every decision that money hangs on is a compare-and-set in `playground.jobs`; here it is decided what to ask next, when,
and of whom. A step that finds the drive ending lets go of its job, unless it is in the middle of a paid call.
"""

import asyncio
import contextlib
import logging
import math
import os
import random
import uuid
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from accounts import ledger
from playground import catalog, images, jobs, net, sources, uploads, upstreams
from playground.commits import Commits
from playground.ids import new_id
from playground.models import Job, Picture
from playground.pace import Pace
from playground.providers.base import (
    Failure,
    Input,
    Order,
    OutcomeUnknown,
    Provider,
    ProviderError,
    Rejected,
    Report,
    Started,
    State,
    TryLater,
)
from playground.room import Room

logger = logging.getLogger(__name__)

SENDING_AT_ONCE = 128
HELD_INPUT_BYTES = 200_000_000  # of input pictures in memory, which all at once could be 10 GB
FETCHING_AT_ONCE = 12
# Input pictures come from strangers' servers, which may hang: apart from results, and no account takes all places.
COLLECTING_AT_ONCE = 24
COLLECTING_OF_ACCOUNT = 4
FETCH_ATTEMPTS = 6
TRIES_BEFORE_NEXT = 3  # of an upstream that cannot be reached, where there is another one for the job
BUSY_S = 2.0  # to wait where an upstream says that it is busy, and not for how long
LONGEST_PAUSE_S = 20.0  # that a job waits out where there is another upstream for it
LONGEST_LOOK_AWAY_S = (
    60.0  # even where an upstream asks for more: the picture may be ready and its address die
)
GONE_S = 30.0
LOOKS_IN_VAIN = 10  # in a row, over all jobs: then the upstream is not well
DELIVERED = "delivered:"  # the address of a picture that came with the answer to its create


class LetGo(Exception):
    """The drive is ending and this job waits: give its lease back, to be looked at again at `at`."""

    def __init__(self, at: datetime) -> None:
        self.at = at


class Steps:
    """The steps, and what the jobs of one drive share while they take them: the client, the threads, the upstreams.

    `ending`: set when the drive is to end. `in_flight`: how many jobs it has, which its pace depends on.
    """

    def __init__(self, commit: Commits, ending: asyncio.Event) -> None:
        self.commit = commit
        self.ending = ending
        self.in_flight = 0
        self.image_threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="images")
        self.disk_threads = ThreadPoolExecutor(FETCHING_AT_ONCE, thread_name_prefix="disk")
        self.pace = Pace()
        self.held_inputs = Room(HELD_INPUT_BYTES)
        self.sending: dict[str, asyncio.Semaphore] = defaultdict(partial(asyncio.Semaphore, SENDING_AT_ONCE))
        self.fetching = asyncio.Semaphore(FETCHING_AT_ONCE)
        self.all_collecting = asyncio.Semaphore(COLLECTING_AT_ONCE)
        self.collecting: dict[int, asyncio.Semaphore] = defaultdict(
            partial(asyncio.Semaphore, COLLECTING_OF_ACCOUNT)
        )
        self.wakes: dict[uuid.UUID, asyncio.Event] = defaultdict(asyncio.Event)
        self.delivered: dict[uuid.UUID, bytes] = {}
        self.looks_in_vain: Counter[str] = Counter()
        self.configs: dict[str, upstreams.Config] = {}
        self.providers: dict[str, Provider] = {upstreams.SANDBOX: upstreams.sandbox(read=uploads.read)}

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator["Steps"]:
        async with net.client(allowed_hosts=settings.NET_ALLOWED_HOSTS) as self.http:
            await self.know_upstreams()
            try:
                yield self
            finally:
                self.image_threads.shutdown(wait=False)
                self.disk_threads.shutdown(wait=False)

    async def know_upstreams(self) -> None:
        """Upstreams are set up and changed while drives run."""
        configs = await self.commit(upstreams.known)
        if configs == self.configs:
            return
        for name in self.configs:
            self.providers.pop(name, None)
        for name, config in configs.items():
            try:
                self.providers[name] = config.provider()
            except ValueError as error:
                upstreams.log_left_out(name, str(error))
        self.configs = configs

    async def _provider(self, name: str) -> Provider | None:
        if name not in self.providers:
            await self.commit(upstreams.forget)  # it may have been set up a moment ago
            await self.know_upstreams()
        return self.providers.get(name)

    def wake_all(self) -> None:
        for wake in self.wakes.values():
            wake.set()

    def forget(self, job_id: uuid.UUID) -> None:
        """The job has left this drive."""
        self.wakes.pop(job_id, None)
        self.delivered.pop(job_id, None)

    async def ask_balances(self) -> None:
        """Now and then, for the operator's page of the upstreams' health."""
        for name in await self.commit(upstreams.to_ask_for_balance):
            if provider := self.providers.get(name):
                with contextlib.suppress(ProviderError):
                    if left := await provider.balance(self.http):
                        await self.commit(upstreams.balance_is, name, left)

    async def see_through(self, job: Job) -> None:
        """From whatever state the job is in, as far as it goes. Each step returns whether the job is still ours."""
        provider = await self._provider(job.provider)
        if timezone.now() >= job.deadline:
            await self._fail(job, Failure.OUTCOME_UNKNOWN if job.outcome_unknown else Failure.TIMED_OUT)
            return
        if provider is None:
            await self._gone(job)
            return
        if job.state == Job.State.SUBMITTING and not await self._take_up(job, provider):
            return
        if job.state == Job.State.QUEUED and not await self._collect(job):
            return
        if job.state == Job.State.QUEUED and not await self._send(job, provider):
            return
        if job.state == Job.State.RUNNING and not await self._watch(job, provider):
            return
        if job.state == Job.State.FETCHING:
            await self._fetch(job, provider)

    # --- Sending --------------------------------------------------------------------------------------
    async def _take_up(self, job: Job, provider: Provider) -> bool:
        """A job whose sender died in the middle of the call."""
        if provider.resend_is_safe:
            return await self.commit(jobs.resending, job)
        if not job.outcome_unknown:
            await self.commit(jobs.lost, job, "the process that sent it died before the answer came")
            return False
        if not job.claimed_id:
            raise LetGo(job.deadline)
        try:
            is_ours = await provider.is_ours(self.http, job.claimed_id, callback_url(job) or "")
        except TryLater:
            raise LetGo(_from_now(2 + 2 * random.random())) from None
        return await self.commit(jobs.started, job, job.claimed_id) if is_ours else await self._disown(job)

    async def _disown(self, job: Job) -> bool:
        await self.commit(jobs.disowned, job)
        return False

    async def _collect(self, job: Job) -> bool:
        """Its input pictures, where the caller gave addresses."""
        if not job.params.get("sources"):
            return True
        if not await self.commit(jobs.is_dispatching):
            raise LetGo(timezone.now())
        own_places = self.collecting[job.user_id]
        if own_places.locked() or self.all_collecting.locked():
            raise LetGo(_from_now(BUSY_S * (1 + random.random())))
        try:
            async with own_places, self.all_collecting:
                return await sources.Collector(self.http, self.commit, self.image_threads).collect(job)
        except images.Busy:
            raise LetGo(_from_now(BUSY_S)) from None
        except sources.Unusable as unusable:
            await self.commit(jobs.fail, job, unusable.failure, str(unusable), may_have_cost=False)
            return False

    async def _send(self, job: Job, provider: Provider) -> bool:
        stored = await self.commit(uploads.of_job, job) if job.params.get("inputs") else []
        async with self.held_inputs.hold(sum(upload.size for upload in stored)):
            try:
                in_thread = asyncio.get_running_loop().run_in_executor
                inputs = await in_thread(self.disk_threads, uploads.as_inputs, stored) if stored else ()
            except uploads.Gone:
                await self.commit(jobs.fail, job, "input_gone", may_have_cost=False)
                return False
            return await self._send_with(job, provider, inputs)

    async def _send_with(self, job: Job, provider: Provider, inputs: tuple[Input, ...]) -> bool:
        async with self.sending[provider.name]:
            if self.ending.is_set() or timezone.now() >= job.deadline:
                raise LetGo(timezone.now())
            may_send = await self.commit(jobs.sending, job)
            if isinstance(may_send, upstreams.NotNow):
                await self._put_off(job, may_send)
            elif may_send:
                return await self._create(job, provider, order_of(job, inputs))
        return False

    async def _create(self, job: Job, provider: Provider, order: Order) -> bool:
        try:
            started = await provider.create(self.http, order)
        except TryLater as busy:
            await self._not_started(job, busy)
        except Rejected as refused:
            await self._rejected(job, refused)
        except OutcomeUnknown as unknown:
            await self.commit(upstreams.failed, job.provider, unknown.detail)
            await self.commit(jobs.lost, job, unknown.detail)
        except Exception as unexpected:  # a provider that breaks its promise; what it asked may have arrived
            logger.exception("job %s: %s made of an answer what it should not", job.pk, job.provider)
            await self.commit(jobs.lost, job, f"the answer could not be read ({type(unexpected).__name__})")
        else:
            return await self._started(job, started)
        return False

    async def _started(self, job: Job, started: Started) -> bool:
        told = {"memo": started.memo, "cost_micros": started.cost_micros}
        try:
            is_ours = await self.commit(jobs.started, job, started.upstream_id, **told)
        except Exception:
            logger.error("job %s runs at %s as %s: not stored", job.pk, job.provider, started.upstream_id)
            raise
        if is_ours and started.picture is not None:
            self.delivered[job.pk] = started.picture
            return await self.commit(jobs.ready, job, [f"{DELIVERED}{started.upstream_id}"])
        return is_ours

    async def _put_off(self, job: Job, not_now: upstreams.NotNow) -> None:
        """The upstream takes no job now: another one is asked where waiting would be long, or the job waits."""
        left_s = (not_now.until - timezone.now()).total_seconds() if not_now.until else math.inf
        if left_s > LONGEST_PAUSE_S and await self._ask_another(job, not_now.detail):
            return
        if not_now.until is None:
            await self.commit(jobs.fail, job, not_now.failure.value, not_now.detail, may_have_cost=False)
        else:
            raise LetGo(not_now.until + timedelta(seconds=random.random()))

    async def _not_started(self, job: Job, busy: TryLater) -> None:
        """Not reached, or told to wait, which then holds for all of the upstream's jobs. Sent again later, with jitter."""
        wait_s = BUSY_S if busy.retry_after_s is None and busy.is_well else busy.retry_after_s
        if wait_s is not None:
            if busy.is_well:
                await self.commit(upstreams.well, job.provider)
            if not busy.is_about_job:
                await self.commit(upstreams.paused, job.provider, wait_s)
            look_at = _from_now(wait_s + random.random())
        else:
            if not busy.is_about_job:
                await self.commit(upstreams.failed, job.provider, busy.detail)
            look_at = _from_now(min(2 ** min(job.submit_attempts, 6), 30) * (0.5 + random.random()))
        is_enough = wait_s > LONGEST_PAUSE_S if wait_s else job.submit_attempts >= TRIES_BEFORE_NEXT
        if not is_enough or not await self._ask_another(job, busy.detail):
            await self.commit(jobs.not_started, job, look_at, busy.detail)

    async def _rejected(self, job: Job, refused: Rejected) -> None:
        """A no to what was asked is final; a no to the operator (the key, the balance) sends the job elsewhere."""
        if refused.failure is not Failure.UPSTREAM_UNAVAILABLE:
            await self.commit(upstreams.well, job.provider)
        elif not refused.is_about_job:
            await self.commit(upstreams.failed, job.provider, refused.detail)
        if refused.failure is Failure.UPSTREAM_UNAVAILABLE and await self._ask_another(job, refused.detail):
            return
        await self.commit(jobs.fail, job, refused.failure.value, refused.detail, may_have_cost=False)

    async def _gone(self, job: Job) -> None:
        """Its upstream is not set up any more. A job that was not sent yet goes elsewhere; one that was is paid for, and
        has until its deadline for the operator to mend what he broke."""
        if job.state != Job.State.QUEUED:
            raise LetGo(_from_now(GONE_S))
        detail = f"{job.provider} is not set up any more"
        if not await self._ask_another(job, detail):
            await self._fail(job, Failure.UPSTREAM_UNAVAILABLE, detail)

    async def _ask_another(self, job: Job, why: str) -> bool:
        """Hands a job that is known not to have been started to the next upstream that makes its variant, if any."""
        try:
            route = await self.commit(catalog.next_route, job)
            return route is not None and await self.commit(jobs.reroute, job, route, why)
        except ledger.Refusal as no:  # the house's budget does not allow that one's cost
            logger.info("job %s: %s", job.pk, no)
            return False

    # --- Watching -------------------------------------------------------------------------------------
    async def _watch(self, job: Job, provider: Provider) -> bool:
        """Looks until the upstream is done. True: there is something to fetch."""
        misses, asked_again = 0, False
        while True:
            if timezone.now() >= job.deadline:
                await self._fail(job, Failure.TIMED_OUT)
                return False
            try:
                report = await provider.look(self.http, job.upstream_id or "", job.upstream_memo)
            except TryLater as nothing:
                misses += 1
                pause = min(nothing.retry_after_s or 0, LONGEST_LOOK_AWAY_S)
                pause = pause or min(2**misses, 20) * (0.5 + random.random())
                if nothing.retry_after_s is not None:
                    self.pace.too_often(job.provider)
                await self._count_look(job, is_well=nothing.is_well or nothing.retry_after_s is not None)
            else:
                misses = 0
                await self._count_look(job, is_well=report.is_known)
                is_without = report.failure is Failure.NO_PICTURE and not asked_again
                if report.state != State.RUNNING and not is_without:
                    return await self._looked(job, report)
                asked_again = asked_again or is_without
                await self._show_progress(job, report)
                pause = report.look_after_s if report.look_after_s is not None else self._pace(job)
            await self._wait(job, pause)

    async def _count_look(self, job: Job, *, is_well: bool) -> None:
        """A run of looks that learn nothing opens the upstream's circuit: what is sent there would not be seen again."""
        if is_well:
            self.looks_in_vain[job.provider] = 0
            return
        self.looks_in_vain[job.provider] += 1
        if self.looks_in_vain[job.provider] % LOOKS_IN_VAIN == 0:
            detail = f"{LOOKS_IN_VAIN} looks in a row taught us nothing"
            await self.commit(upstreams.failed, job.provider, detail, times=upstreams.FAILURES_TO_OPEN)

    def _pace(self, job: Job) -> float:
        return self.pace.pause(job.provider, job.upstream_model, age=_age(job), in_flight=self.in_flight)

    async def _looked(self, job: Job, report: Report) -> bool:
        if report.state == State.SUCCEEDED and report.urls:
            self.pace.done(job.provider, job.upstream_model, age=_age(job))
            return await self.commit(jobs.ready, job, report.urls, cost_micros=report.cost_micros)
        await self._fail(job, report.failure or Failure.NO_PICTURE, report.detail)
        return False

    async def _show_progress(self, job: Job, report: Report) -> None:
        if report.progress is not None and report.progress >= (job.progress or 0) + 5:
            job.progress = report.progress
            await self.commit(jobs.progressed, job, report.progress)

    async def _wait(self, job: Job, seconds: float) -> None:
        """Sleeps, or less if the upstream hints. When the drive ends the job is let go of, due when it would wake."""
        until, wake = _from_now(seconds), self.wakes[job.pk]
        left = (job.deadline - timezone.now()).total_seconds()
        if not self.ending.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(wake.wait(), timeout=max(min(seconds, left), 0))
            wake.clear()
        if self.ending.is_set():
            raise LetGo(until)

    # --- Fetching -------------------------------------------------------------------------------------
    async def _fetch(self, job: Job, provider: Provider) -> None:
        urls, asked_again, misses, left = list(job.result_urls), False, 0, FETCH_ATTEMPTS
        while left and timezone.now() < job.deadline:
            try:
                async with self._turn_to_fetch(job):
                    await self._fetch_once(job, provider, urls[0])
                return
            except uploads.Gone:
                await self.commit(jobs.fail, job, "input_gone")
                return
            except images.ImageError as broken:
                await self._fail(job, Failure.BAD_PICTURE, str(broken))
                return
            except (net.Forbidden, net.TooLarge) as refused:
                await self._fail(job, Failure.BAD_PICTURE, str(refused))
                return
            except net.Gone as gone:
                fresh = None if asked_again else await self._ask_again(job, provider)
                if not fresh:
                    await self._fail(job, Failure.NO_PICTURE, str(gone))
                    return
                urls, asked_again = fresh, True
            except (net.Unreachable, OSError) as trouble:
                misses += 1
                left -= isinstance(trouble, net.Unreachable)  # our own disk has until the deadline
                logger.warning("job %s: fetching failed (%s), attempt %d", job.pk, trouble, misses)
                await self._wait(job, min(2**misses, 40) / 2 * (0.5 + random.random()))
        await self._fail(job, Failure.NO_PICTURE, "the picture could not be fetched")

    @contextlib.asynccontextmanager
    async def _turn_to_fetch(self, job: Job) -> AsyncIterator[None]:
        """One of the few at once. Raises TimeoutError when the deadline comes first."""
        async with asyncio.timeout((job.deadline - timezone.now()).total_seconds()):
            await self.fetching.acquire()
        try:
            yield
        finally:
            self.fetching.release()

    async def _ask_again(self, job: Job, provider: Provider) -> list[str]:
        """A result's address can die: the upstream is asked once for a new one."""
        try:
            return list((await provider.look(self.http, job.upstream_id or "", job.upstream_memo)).urls)
        except TryLater:
            return []

    async def _fetch_once(self, job: Job, provider: Provider, url: str) -> None:
        data = self.delivered.get(job.pk) or await provider.draw(url)
        if data is None and url.startswith(DELIVERED):
            raise net.Gone("the picture came with the answer, and the process that had it died")
        if data is None:
            total_s = min(net.TOTAL_S, (job.deadline - timezone.now()).total_seconds())
            data = await net.download(self.http, url, total_s=total_s, only_hosts=provider.result_hosts)
        in_thread = asyncio.get_running_loop().run_in_executor
        rendered = await in_thread(
            self.image_threads, partial(images.render, data, with_preview=job.is_preview)
        )
        key = images.new_key(new_id())
        await in_thread(self.disk_threads, images.store, key, rendered)
        if not await self.commit(jobs.succeed, job, key, rendered) and not await self.commit(_is_stored, key):
            await in_thread(self.disk_threads, images.remove, key)
            await self.commit(jobs.came_too_late, job)

    async def _fail(self, job: Job, failure: Failure, detail: str = "") -> None:
        await self.commit(jobs.fail, job, failure.value, detail)


def order_of(job: Job, inputs: tuple[Input, ...] = ()) -> Order:
    """The job in the words that providers know."""
    return Order(
        job_id=str(job.pk),
        model=job.upstream_model,
        prompt=job.params["prompt"],
        aspect_ratio=job.params["aspect_ratio"],
        resolution=job.params["resolution"],
        width=job.params["width"],
        height=job.params["height"],
        seed=job.params.get("seed"),
        fixed=job.upstream_fixed,
        callback_url=callback_url(job),
        inputs=inputs,
    )


def callback_url(job: Job) -> str | None:
    """Where the upstream may call us about this job, if we are reachable at all."""
    return (
        f"{settings.BASE_URL}{reverse('upstream_hook', args=[job.callback_token])}"
        if settings.BASE_URL
        else None
    )


def _is_stored(key: str) -> bool:
    return Picture.objects.filter(key=key).exists()


def _age(job: Job) -> float:
    """Seconds since it was sent; 0 where the clock has been put back since then."""
    return max((timezone.now() - (job.submitted or job.created)).total_seconds(), 0.0)


def _from_now(seconds: float) -> datetime:
    return timezone.now() + timedelta(seconds=seconds)
