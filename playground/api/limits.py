"""How often: a moving window for each key, each account and each address that has no key.

Counted in Redis where there is one, so that several web processes count as one, or else in this process, which a
system check then wants to be the only one.
"""

import math
import threading
from functools import lru_cache

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from limits import RateLimitItem, RateLimitItemPerSecond
from limits.errors import StorageError

from accounts.models import ApiKey
from playground.api.errors import Problem
from playground.api.windows import Asked, Counted, Counter, RedisWindows, Windows

_lock = threading.Lock()
_made: list[Counter] = []


def _counter() -> Counter:
    """One for the process, whichever threads ask first."""
    with _lock:
        if not _made:
            _made.append(RedisWindows(settings.REDIS_URL) if settings.REDIS_URL else Windows())
        return _made[0]


@lru_cache(maxsize=8)
def _item(limit: tuple[int, int], namespace: str) -> RateLimitItem:
    calls, seconds = limit
    return RateLimitItemPerSecond(calls, seconds, namespace=namespace)


def forget() -> None:
    """Starts counting afresh, for tests."""
    _made.clear()


def count_create(key: ApiKey) -> dict[str, str]:
    """Counts one create against the key and the account; returns the headers that say what is left. Raises Problem."""
    asked = [
        (_item(settings.API_RATE_LIMIT, "key"), str(key.pk)),
        (_item(settings.API_RATE_LIMIT_ACCOUNT, "account"), str(key.user_id)),
    ]
    counted = _count(asked)
    if counted is None:
        return {}
    if counted.full is not None:
        item, _ = asked[counted.full]
        rule = (
            f"This {item.namespace} may make {item.amount} calls for pictures in {item.get_expiry()} seconds"
        )
        raise _too_many(item, counted.stats[counted.full], rule)
    return _headers(asked[0][0], *counted.stats[0])


def count_stranger(request: HttpRequest) -> None:
    """Counts a call without a working key against its address. Raises Problem."""
    item = _item(settings.API_RATE_LIMIT_ANONYMOUS, "address")
    counted = _count([(item, _address(request))])
    if counted is not None and counted.full is not None:
        calls = f"{item.amount} calls without a working key in {item.get_expiry()} seconds"
        raise _too_many(item, counted.stats[0], f"An address may make {calls}")


def _address(request: HttpRequest) -> str:
    """Those whose address cannot be told, behind a proxy that names none for instance, count as one."""
    try:
        return str(get_adapter().get_client_ip(request)) or "unknown"
    except PermissionDenied:
        return "unknown"


def _count(asked: list[Asked]) -> Counted | None:
    """None where the store is away, which stops nobody: what guards the money is the ledger."""
    try:
        return _counter().count(asked)
    except StorageError:
        return None


def _too_many(item: RateLimitItem, stats: tuple[int, float], rule: str) -> Problem:
    left, reset_s = stats
    wait = max(reset_s, 0.1)
    return Problem(
        "rate_limit_exceeded",
        f"{rule}. Wait {math.ceil(wait)} s.",
        retry_after_s=wait,
        headers=_headers(item, left, reset_s),
    )


def _headers(item: RateLimitItem, left: int, reset_s: float) -> dict[str, str]:
    """As the IETF's draft for `RateLimit` fields writes them."""
    name, wait = item.namespace, max(math.ceil(reset_s), 0)
    return {
        "RateLimit-Policy": f'"{name}";q={item.amount};w={item.get_expiry()}',
        "RateLimit": f'"{name}";r={max(left, 0)};t={wait}',
    }
