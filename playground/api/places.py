"""Work that may take long, a few at a time: so many in a process, and fewer of one account."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from playground.api.errors import Problem


class Places:
    """`words` are said to whoever finds none free."""

    def __init__(self, at_once: int, *, each: int, words: str) -> None:
        self._at_once, self._each, self._words = at_once, each, words
        self._lock = threading.Lock()
        self._taken: Counter[int] = Counter()

    @contextmanager
    def one(self, user_id: int) -> Iterator[None]:
        """A place for the account. Raises Problem at once where there is none."""
        with self._lock:
            if self._taken[user_id] >= self._each or self._taken.total() >= self._at_once:
                raise Problem("unavailable", self._words, retry_after_s=5)
            self._taken[user_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._taken[user_id] -= 1
                self._taken += Counter()  # forgets accounts that have none
