"""The second thing that a drive does: it sends the messages of the outbox, beside the jobs and without touching them.

What is slow has turns, connections and name look-ups of its own. A lane (one account's messages to one host) has one
message on its way until it has answered soon, then four; one that lets us wait shares a part of the turns with others
like it. So hundreds of dead addresses wait for one another, and for nobody else.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator

from django.conf import settings
from django.utils import timezone

from playground import callbacks, net, outbox, posting
from playground.commits import Commits
from playground.models import Delivery

logger = logging.getLogger(__name__)

TIMEOUT_S = 15.0
KEPT_BYTES = 1024
AT_ONCE = 160
SLOW_AT_ONCE = 80
TAKEN_AT_ONCE = 32  # in one look, so that the database thread has time for the jobs
POLL_S = 0.5  # what other processes write is found so late; what this one writes wakes it
BETWEEN_LOOKS_S = 0.05
SOON_S = 3.0
REMEMBERED = 500
DRAIN_S = TIMEOUT_S + 5


class Lanes:
    """What is known of the places that messages go to: how many are on their way, and whether they answer soon."""

    def __init__(self) -> None:
        self.busy: Counter[str] = Counter()
        self.slow_busy = 0
        self._answers_soon: OrderedDict[str, bool] = OrderedDict()

    def room(self) -> outbox.Room:
        known = self._answers_soon.items()
        return outbox.Room(
            free=min(TAKEN_AT_ONCE, AT_ONCE - self.busy.total()),
            slow_free=SLOW_AT_ONCE - self.slow_busy,
            busy=dict(self.busy),
            quick=frozenset(lane for lane, is_quick in known if is_quick),
            slow=frozenset(lane for lane, is_quick in known if not is_quick),
        )

    @contextlib.contextmanager
    def turn(self, lane: str, *, is_slow: bool) -> Iterator[None]:
        self.busy[lane] += 1
        self.slow_busy += is_slow
        began = time.monotonic()
        try:
            yield
        finally:
            self.slow_busy -= is_slow
            self.busy[lane] -= 1
            if not self.busy[lane]:
                del self.busy[lane]
            self._learn(lane, is_quick=time.monotonic() - began < SOON_S)

    def _learn(self, lane: str, *, is_quick: bool) -> None:
        self._answers_soon[lane] = is_quick
        self._answers_soon.move_to_end(lane)
        if len(self._answers_soon) > REMEMBERED:
            self._answers_soon.popitem(last=False)


class Deliveries:
    """One run beside one drive. `wake` it when a job has ended, in a loop of its own: `run`, until `ending` is set."""

    def __init__(self, commit: Commits, ending: asyncio.Event) -> None:
        self.commit = commit
        self.ending = ending
        self.wake = asyncio.Event()
        self.lanes = Lanes()
        self.tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Never raises: what goes wrong here is no reason to stop driving jobs."""
        allowed = settings.NET_ALLOWED_HOSTS
        try:
            async with (
                net.client(allowed_hosts=allowed) as self.http,
                net.client(allowed_hosts=allowed) as self.slow,
            ):
                await self._send_until_ending()
                await self._drain()
        except Exception:
            logger.exception("messages are not sent any more by this drive")

    async def _send_until_ending(self) -> None:
        while not self.ending.is_set():
            self.wake.clear()
            began = time.monotonic()
            try:
                await self._send_due()
            except Exception:
                logger.exception("looking for messages failed; trying again")
                await asyncio.sleep(1)
            await asyncio.sleep(max(BETWEEN_LOOKS_S, 4 * (time.monotonic() - began)))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.wake.wait(), POLL_S - BETWEEN_LOOKS_S)

    async def _send_due(self) -> None:
        room = self.lanes.room()
        for delivery in await self.commit(outbox.claim, room):
            is_slow = room.is_slow(delivery.lane, is_failing=_is_failing(delivery))
            task = asyncio.create_task(self._deliver(delivery, is_slow=is_slow))
            self.tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        """There is a turn more."""
        self.tasks.discard(task)
        self.wake.set()

    async def _drain(self) -> None:
        """What is on its way may arrive; what does not in time is sent again when its lease has run out."""
        if self.tasks:
            await asyncio.wait(self.tasks, timeout=DRAIN_S)
        for task in self.tasks:
            task.cancel()

    async def _deliver(self, delivery: Delivery, *, is_slow: bool) -> None:
        try:
            with self.lanes.turn(delivery.lane, is_slow=is_slow):
                answer = await self._try(delivery, self.slow if is_slow else self.http)
            await self.commit(outbox.book, delivery, answer)
        except Exception:
            logger.exception("message %s: unexpected; it is sent again", delivery.pk)

    async def _try(self, delivery: Delivery, http: net.Client) -> outbox.Answer:
        began = time.monotonic()
        if callbacks.is_to_fail(delivery):
            return outbox.Answer(
                None, 0, problem="Not sent: a test key asked for a webhook that fails at first."
            )
        try:
            heard = await self._post(delivery, http)
        except net.NetError as error:
            return outbox.Answer(None, _milliseconds(began), problem=str(error))
        except Exception:
            logger.exception("message %s could not be made", delivery.pk)
            return outbox.Answer(None, _milliseconds(began), problem="A mistake of ours.")
        after = net.retry_after_s(heard.headers)
        return outbox.Answer(
            heard.status, _milliseconds(began), text=printable(heard.start), retry_after_s=after
        )

    async def _post(self, delivery: Delivery, http: net.Client) -> posting.Heard:
        task_id, body = callbacks.message(delivery)
        headers = callbacks.headers(delivery, task_id, body, timezone.now())
        return await posting.post(
            http, delivery.url, body=body, headers=headers, within_s=TIMEOUT_S, keep_bytes=KEPT_BYTES
        )


def _is_failing(delivery: Delivery) -> bool:
    endpoint = delivery.endpoint
    return bool(delivery.attempts or (endpoint is not None and endpoint.failing_since))


def printable(start: bytes) -> str:
    """An answer as a page may show it, at most as many characters as bytes: what is no text is a dot."""
    text = start.decode("utf-8", errors="replace")
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "·" for letter in text)[
        :KEPT_BYTES
    ]


def _milliseconds(began: float) -> int:
    return round((time.monotonic() - began) * 1000)
