"""So many requests are worked on at once, and no more; those that wait for a picture step aside and let others pass.

The web server has a thread for each request, hundreds if need be: a thread that waits costs next to nothing. But on
SQLite more than a few writers starve one another, and on PostgreSQL each would want a connection.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from django.conf import settings
from django.db import connections
from django.http import HttpRequest
from django.http.response import HttpResponseBase

_turns = threading.BoundedSemaphore(settings.WEB_THREADS)
_here = threading.local()


def turnstile(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    def answer(request: HttpRequest) -> HttpResponseBase:
        with _turns:
            _here.has_turn = True
            try:
                return get_response(request)
            finally:
                _here.has_turn = False

    return answer


@contextmanager
def stepped_aside() -> Iterator[None]:
    """Gives up this request's turn and its database connection while it waits. Not inside a transaction."""
    if not getattr(_here, "has_turn", False):
        yield
        return
    connections.close_all()
    _turns.release()
    try:
        yield
    finally:
        _turns.acquire()
