"""So many requests are worked on at once, and no more; those that wait step aside, and let others pass.

What they wait for is a picture, or the rest of their own body, which comes as slowly as its sender likes.

The web server has a thread for each request, hundreds if need be: a thread that waits costs next to nothing. But on
SQLite more than a few writers starve one another, and on PostgreSQL each would want a connection.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader, BytesIO, RawIOBase
from typing import Any

from django.conf import settings
from django.core.handlers.wsgi import LimitedStream
from django.db import connections
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.http.response import HttpResponseBase

# Whoever asks for this wants to know whether we can answer at all, not whether there is much to do.
HEALTH = "/healthz"
# A body up to here is read before the turn begins; a longer one in pieces like it, each of them out of the way.
PIECE_BYTES = 65_536


class Turns:
    """A semaphore at which whoever came first goes first: `threading`'s lets who has just come push in."""

    def __init__(self, count: int) -> None:
        self._lock, self._free = threading.Lock(), count
        self._waiting: deque[threading.Lock] = deque()

    def acquire(self) -> None:
        with self._lock:
            if self._free:
                self._free -= 1
                return
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        mine.acquire()  # whoever releases their turn hands it on to this thread

    def release(self) -> None:
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1


_turns = Turns(settings.WEB_THREADS)
_looks_at_health = Turns(1)  # one at a time, so that they need one database connection more and no others
_here = threading.local()


def turnstile(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    def answer(request: HttpRequest) -> HttpResponseBase:
        if not _receive(request):
            return HttpResponse(status=400)  # to somebody who has gone
        turns = _looks_at_health if request.path_info == HEALTH else _turns
        turns.acquire()
        _here.turns, _here.has_waited = turns, False
        try:
            return get_response(request)
        finally:
            _here.turns = None
            turns.release()

    return answer


@contextmanager
def stepped_aside() -> Iterator[None]:
    """Gives up this request's turn and its database connection while it waits. Not inside a transaction."""
    turns: Turns | None = getattr(_here, "turns", None)
    if turns is None:
        yield
        return
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()
    turns.release()
    try:
        yield
    finally:
        turns.acquire()
        _here.has_waited = True


def has_waited() -> bool:
    """Whether this request has stepped aside: what it looked up before may have changed meanwhile."""
    return getattr(_here, "has_waited", False)


# --- Bodies -------------------------------------------------------------------------------------------
def _receive(request: Any) -> bool:
    """Lets whoever reads the body never wait for it in their turn. False where a short one breaks off."""
    said, stream = request.META.get("CONTENT_LENGTH") or "", request.environ["wsgi.input"]
    length = int(said) if said.isdecimal() else None
    if length is None and "HTTP_TRANSFER_ENCODING" not in request.META:
        return True
    if length is not None and length <= PIECE_BYTES:
        body = stream.read(length) if length else b""
        arrived: Any = BytesIO(body)
        is_whole = len(body) == length
    else:
        arrived, is_whole = BufferedReader(_Arriving(stream, length), PIECE_BYTES), True
    request.environ["wsgi.input"] = arrived
    request._stream = LimitedStream(arrived, length or 0)
    return is_whole


class _Arriving(RawIOBase):
    """A body of so many bytes, or of nobody knows how many. Raises UnreadablePostError where it breaks off."""

    def __init__(self, stream: Any, length: int | None) -> None:
        self._stream, self._left = stream, length

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        wanted = len(into) if self._left is None else min(len(into), self._left)
        if not wanted:
            return 0
        with stepped_aside():
            data = self._stream.read(wanted)
        if self._left is not None:
            self._left -= len(data)
            if not data:
                raise UnreadablePostError("the body broke off")
        into[: len(data)] = data
        return len(data)
