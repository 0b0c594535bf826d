"""Room for so much and no more, shared by the jobs of one loop."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Room:
    """`size` units, to be had in any amount. Asked for in a queue, so that a large amount is not passed for ever."""

    def __init__(self, size: int) -> None:
        self._size = self._free = size
        self._turn = asyncio.Lock()
        self._grown = asyncio.Event()

    @asynccontextmanager
    async def hold(self, amount: int) -> AsyncIterator[None]:
        """Waits until there is room. What is larger than all of it has it alone."""
        if not amount:
            yield  # whoever wants nothing need not stand in the queue
            return
        amount = min(amount, self._size)
        async with self._turn:
            while self._free < amount:
                self._grown.clear()
                await self._grown.wait()
            self._free -= amount
        try:
            yield
        finally:
            self._free += amount
            self._grown.set()
