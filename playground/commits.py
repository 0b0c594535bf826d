"""Database work for an asyncio loop: one thread, one connection, and on SQLite many small writes in one commit.

SQLite syncs the disk once a commit, and only one connection writes at a time; PostgreSQL gathers commits by itself,
and there a transaction over many jobs would only hold their wallets' locks for longer. Each call must be a
compare-and-set that is safe to repeat, because it is repeated when the database was locked or away.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection, connections, models, transaction

logger = logging.getLogger(__name__)

T = TypeVar("T")
Call = partial[Any]
_AWAY = (OperationalError, InterfaceError)


class Commits:
    """`await commits(function, *args)` runs it on the database thread and returns what it returns, or raises."""

    def __init__(self, *, at_once: int = 40, patience_s: float = 60.0) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="database")
        self._waiting: list[tuple[Call, asyncio.Future[Any]]] = []
        self._flush: asyncio.Task[None] | None = None
        self._at_once = at_once if connection.vendor == "sqlite" else 1
        self._patience_s = patience_s

    async def __call__(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        result: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append((partial(function, *args, **kwargs), result))
        if self._flush is None or self._flush.done():
            self._flush = asyncio.create_task(self._flush_all())
        return await result

    async def close(self) -> None:
        if self._flush is not None:
            await self._flush
        await asyncio.get_running_loop().run_in_executor(self._thread, connections.close_all)
        self._thread.shutdown()

    async def _flush_all(self) -> None:
        """While one batch is being committed the next one gathers."""
        loop = asyncio.get_running_loop()
        while self._waiting:
            batch, self._waiting = self._waiting[: self._at_once], self._waiting[self._at_once :]
            outcomes = await loop.run_in_executor(self._thread, self._run, [call for call, _ in batch])
            for (_, result), (value, error) in zip(batch, outcomes, strict=True):
                if result.cancelled():
                    continue
                if error is None:
                    result.set_result(value)
                else:
                    result.set_exception(error)

    def _run(self, calls: list[Call]) -> list[tuple[Any, Exception | None]]:
        if len(calls) > 1:
            try:
                with _undone_with_its_rows(calls), transaction.atomic():
                    return [(call(), None) for call in calls]
            except Exception:
                logger.debug("a batch of %d failed; each goes alone", len(calls), exc_info=True)
        return [self._alone(call) for call in calls]

    def _alone(self, call: Call) -> tuple[Any, Exception | None]:
        give_up = time.monotonic() + self._patience_s
        while True:
            try:
                with _undone_with_its_rows([call]):
                    return call(), None
            except _AWAY as error:
                if time.monotonic() > give_up:
                    return None, error
                logger.warning("the database is away: %s", error)
                connection.close()
                time.sleep(0.5)
            except Exception as error:
                return None, error


@contextmanager
def _undone_with_its_rows(calls: list[Call]) -> Iterator[None]:
    """Where the database rolls back, the rows in hand are put back too, for the repetition starts from them."""
    rows = [row for call in calls for row in call.args if isinstance(row, models.Model)]
    before = [dict(vars(row)) for row in rows]
    try:
        yield
    except Exception:
        for row, values in zip(rows, before, strict=True):
            vars(row).clear()
            vars(row).update(values)
        raise
