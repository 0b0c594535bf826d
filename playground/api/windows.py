"""Moving windows, exact whoever asks at once: in this process, or in Redis for several.

`limits` has strategies of its own, which need two round trips for each window, where one is enough for all of them,
and which start a thread at each call to forget what is old in memory.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from limits import RateLimitItem
from limits.errors import StorageError
from limits.storage import RedisStorage

MOST_KEYS = 10_000
REDIS_S = 1.0
Asked = tuple[RateLimitItem, str]


@dataclass(frozen=True)
class Counted:
    """`full` is the place of the first window that takes no more, and then none has counted anything.

    `stats` has for each how many it still takes, and the seconds until its oldest call leaves it.
    """

    full: int | None
    stats: list[tuple[int, float]]


class Counter(Protocol):
    def count(self, asked: Sequence[Asked]) -> Counted:
        """Counts one in each of the windows, or nothing where one is full. Raises StorageError."""


class Windows:
    """In this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hits: dict[str, deque[float]] = defaultdict(deque)
        self._most = MOST_KEYS
        self._over: dict[str, float] = {}  # when the newest of a window's calls has left it

    def count(self, asked: Sequence[Asked]) -> Counted:
        now = time.time()
        with self._lock:
            windows = [self._recent(item, who, now) for item, who in asked]
            taking = zip(asked, windows, strict=True)
            full = next((n for n, ((item, _), hits) in enumerate(taking) if len(hits) >= item.amount), None)
            if full is None:
                for (item, who), hits in zip(asked, windows, strict=True):
                    hits.append(now)
                    self._over[item.key_for(who)] = now + item.get_expiry()
            if len(self._hits) > self._most:
                self._forget_old(now)
            return Counted(
                full, [_stats(item, hits, now) for (item, _), hits in zip(asked, windows, strict=True)]
            )

    def _recent(self, item: RateLimitItem, who: str, now: float) -> deque[float]:
        hits = self._hits[item.key_for(who)]
        while hits and hits[0] <= now - item.get_expiry():
            hits.popleft()
        return hits

    def _forget_old(self, now: float) -> None:
        """Looks at all of them, so not again before there are twice as many as are left."""
        for key in [key for key in self._hits if self._over.get(key, 0) <= now]:
            del self._hits[key]
            self._over.pop(key, None)
        self._most = max(MOST_KEYS, 2 * len(self._hits))


def _stats(item: RateLimitItem, hits: deque[float], now: float) -> tuple[int, float]:
    return item.amount - len(hits), (hits[0] if hits else now) + item.get_expiry() - now


# A list for each window, newest call first, by Redis' own clock.
_COUNT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local full, stats = 0, {}
for i, key in ipairs(KEYS) do
    local oldest = redis.call('LINDEX', key, -1)
    while oldest and tonumber(oldest) <= now - ARGV[2 * i] do
        redis.call('RPOP', key)
        oldest = redis.call('LINDEX', key, -1)
    end
    if full == 0 and redis.call('LLEN', key) >= tonumber(ARGV[2 * i - 1]) then full = i end
end
for i, key in ipairs(KEYS) do
    if full == 0 then
        redis.call('LPUSH', key, string.format('%.6f', now))
        redis.call('EXPIRE', key, ARGV[2 * i])
    end
    local oldest = redis.call('LINDEX', key, -1) or now
    stats[2 * i - 1] = ARGV[2 * i - 1] - redis.call('LLEN', key)
    stats[2 * i] = string.format('%.6f', oldest + ARGV[2 * i] - now)
end
return {full, stats}
"""


class RedisWindows:
    """In Redis, one round trip for all windows of a call."""

    def __init__(self, url: str) -> None:
        storage = RedisStorage(url, socket_timeout=REDIS_S, socket_connect_timeout=REDIS_S)
        self._away = storage.base_exceptions
        self._count = storage.storage.register_script(_COUNT)

    def count(self, asked: Sequence[Asked]) -> Counted:
        numbers = [number for item, _ in asked for number in (item.amount, item.get_expiry())]
        try:
            full, stats = self._count([item.key_for(who) for item, who in asked], numbers)
        except self._away as error:
            raise StorageError(error) from error
        return Counted(
            full - 1 if full else None,
            [(left, float(s)) for left, s in zip(stats[::2], stats[1::2], strict=True)],
        )
