"""Many small writes of an asyncio loop: together where that is cheaper, and nobody pays for a neighbour."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from django.db import IntegrityError, InterfaceError, OperationalError, connection

from playground import commits
from playground.commits import Commits
from playground.models import DriveBeat

pytestmark = pytest.mark.django_db(transaction=True)


class Clock:
    """Time that only passes while somebody sleeps."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(commits, "time", clock)
    return clock


def on_a_loop(work: Callable[[Commits], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        commit = Commits(**options)
        try:
            return await asyncio.wait_for(work(commit), 20)
        finally:
            await commit.close()

    return asyncio.run(main())


def write(name: str) -> str:
    DriveBeat.objects.create(owner=name)
    return f"{name}, in a transaction: {connection.in_atomic_block}"


def written() -> set[str]:
    return set(DriveBeat.objects.values_list("owner", flat=True))


class Fails:
    """A write that the database refuses so many times."""

    def __init__(self, times: int, error: Exception) -> None:
        self.left, self.calls, self.error = times, 0, error

    def __call__(self) -> str:
        self.calls += 1
        if self.left:
            self.left -= 1
            raise self.error
        return write("at last")


def count_begins() -> list[str]:
    """Runs on the database thread: from now on every BEGIN there is noted."""
    begun: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("BEGIN"):
            begun.append(sql)
        return execute(sql, params, many, context)

    connection.execute_wrappers.append(note)
    return begun


# --- Together -----------------------------------------------------------------------------------------
def test_each_call_gets_its_own_result() -> None:
    async def work(commit: Commits) -> list[str]:
        return await asyncio.gather(*[commit(write, f"drive {n}") for n in range(100)])

    together = connection.vendor == "sqlite"
    assert on_a_loop(work) == [f"drive {n}, in a transaction: {together}" for n in range(100)]
    assert written() == {f"drive {n}" for n in range(100)}


def test_on_sqlite_forty_calls_share_a_transaction() -> None:
    async def work(commit: Commits) -> list[str]:
        begun = await commit(count_begins)
        await asyncio.gather(*[commit(write, f"drive {n}") for n in range(100)])
        return begun

    begun = on_a_loop(work)
    assert len(begun) == (3 if connection.vendor == "sqlite" else 0)  # 40, 40 and 20


def test_calls_that_come_while_others_are_committed_form_the_next_batch() -> None:
    entered, go_on = threading.Event(), threading.Event()

    def hold() -> str:
        entered.set()
        assert go_on.wait(10)
        return write("first")

    async def work(commit: Commits) -> list[str]:
        first = asyncio.create_task(commit(hold))
        while not entered.is_set():
            await asyncio.sleep(0.01)
        others = [asyncio.create_task(commit(write, f"drive {n}")) for n in range(5)]
        await asyncio.sleep(0.05)
        assert not any(each.done() for each in (first, *others))  # and the loop was free meanwhile
        go_on.set()
        return [await each for each in (first, *others)]

    together = connection.vendor == "sqlite"
    alone, *others = on_a_loop(work)
    assert alone == "first, in a transaction: False"
    assert others == [f"drive {n}, in a transaction: {together}" for n in range(5)]


def test_arguments_arrive_as_they_were_given() -> None:
    async def work(commit: Commits) -> dict[str, int]:
        return await commit(dict, a=1, b=2)

    assert on_a_loop(work) == {"a": 1, "b": 2}


# --- One that fails -----------------------------------------------------------------------------------
def test_one_that_raises_does_not_spoil_the_others() -> None:
    def half(name: str) -> None:
        DriveBeat.objects.create(owner="seven")  # it is there already
        write(name)

    async def work(commit: Commits) -> list[Any]:
        await commit(write, "seven")
        calls = [commit(half if n == 7 else write, f"drive {n}") for n in range(20)]
        return await asyncio.gather(*calls, return_exceptions=True)

    results = on_a_loop(work)
    assert isinstance(results.pop(7), IntegrityError)
    names = [f"drive {n}" for n in range(20) if n != 7]
    assert [result.partition(",")[0] for result in results] == names
    assert written() == {"seven", *names}


def test_what_the_function_raises_is_what_its_caller_sees() -> None:
    def fails() -> None:
        raise KeyError("no such thing")

    async def work(commit: Commits) -> str:
        with pytest.raises(KeyError, match="no such thing"):
            await commit(fails)
        return await commit(write, "afterwards")

    assert on_a_loop(work).startswith("afterwards")


def test_one_that_nobody_waits_for_any_more_does_not_spoil_the_others() -> None:
    async def work(commit: Commits) -> list[str]:
        gone, *others = [asyncio.create_task(commit(write, f"drive {n}")) for n in range(3)]
        await asyncio.sleep(0)
        gone.cancel()
        return [await each for each in others]

    assert [result[:7] for result in on_a_loop(work)] == ["drive 1", "drive 2"]


# --- A database that is away --------------------------------------------------------------------------
@pytest.mark.parametrize("error", [OperationalError("locked"), InterfaceError("closed")])
@pytest.mark.parametrize("neighbours", [0, 3])
def test_a_call_is_repeated_until_the_database_is_back(
    clock: Clock, error: Exception, neighbours: int
) -> None:
    fails = Fails(2, error)

    async def work(commit: Commits) -> list[str]:
        return await asyncio.gather(commit(fails), *[commit(write, f"drive {n}") for n in range(neighbours)])

    assert on_a_loop(work)[0].startswith("at last")
    assert written() == {"at last", *[f"drive {n}" for n in range(neighbours)]}
    assert fails.calls == 3 and clock.now <= 1


def test_a_repeated_call_gets_a_new_connection(clock: Clock) -> None:
    seen: list[Any] = []

    def look() -> None:
        connection.ensure_connection()
        seen.append(connection.connection)
        if len(seen) == 1:
            raise OperationalError("the server closed the connection")

    on_a_loop(lambda commit: commit(look))
    assert len(seen) == 2 and seen[0] is not seen[1]


def test_patience_ends_and_the_next_call_is_tried_again(clock: Clock) -> None:
    fails = Fails(1000, OperationalError("the server is gone"))

    async def work(commit: Commits) -> str:
        with pytest.raises(OperationalError, match="the server is gone"):
            await commit(fails)
        return await commit(write, "afterwards")

    assert on_a_loop(work, patience_s=3).startswith("afterwards")
    assert 3 < clock.now <= 4 and fails.calls == clock.now / 0.5 + 1


# --- The end ------------------------------------------------------------------------------------------
def test_close_waits_for_what_is_being_written_and_leaves_no_thread() -> None:
    def slowly(name: str) -> str:
        time.sleep(0.1)
        return write(name)

    async def main() -> list[asyncio.Task[str]]:
        commit = Commits(at_once=1)
        calls = [asyncio.create_task(commit(slowly, f"drive {n}")) for n in range(3)]
        await asyncio.sleep(0)
        await commit.close()
        await asyncio.sleep(0)
        assert all(call.done() for call in calls)
        return calls

    assert len(asyncio.run(main())) == 3 and len(written()) == 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("database")]


def test_close_without_a_single_call() -> None:
    asyncio.run(Commits().close())
