"""Clients that ask as fast as they are answered, over connections that stay open: one process, and no Django in it."""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

ONCE = b"<once>" + b"-" * 26  # stands for 32 characters that are new in each request
_LATE_S = 60.0


@dataclass
class Heard:
    """What came back: how long each answer took (in seconds), how many of which status, and the last answers' bodies."""

    took: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def errors(self) -> int:
        return sum(number for status, number in self.statuses.items() if status != 200)

    def __add__(self, other: "Heard") -> "Heard":
        took, statuses = self.took + other.took, self.statuses + other.statuses
        return Heard(took, statuses, other.bodies, self.seconds + other.seconds)


def request(
    method: str, path: str, host: str, headers: dict[str, str] | None = None, body: bytes = b""
) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *(f"{k}: {v}" for k, v in (headers or {}).items())]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def ask(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Heard:
    """Each client goes through the requests in turn, beginning with one of its own, until the time is over."""
    return asyncio.run(_all(port, requests, clients, seconds))


async def _all(port: int, requests: Sequence[bytes], clients: int, seconds: float) -> Heard:
    heard = Heard()
    began = time.perf_counter()
    await asyncio.gather(*(_client(port, requests, n, began + seconds, heard) for n in range(clients)))
    heard.seconds = time.perf_counter() - began
    return heard


async def _client(port: int, requests: Sequence[bytes], number: int, until: float, heard: Heard) -> None:
    turn, link = number, None
    while time.perf_counter() < until:
        began = time.perf_counter()
        try:
            link = link or await asyncio.open_connection("127.0.0.1", port)
            asked = requests[turn % len(requests)].replace(ONCE, secrets.token_hex(16).encode())
            status, body = await asyncio.wait_for(_exchange(*link, asked), _LATE_S)
        except (OSError, EOFError, TimeoutError):
            status, body, link = 0, b"", None
        heard.took.append(time.perf_counter() - began)
        heard.statuses[status] += 1
        if status != 200 or len(heard.bodies) < 500:
            heard.bodies.append(body)
        turn += 1


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: bytes
) -> tuple[int, bytes]:
    writer.write(asked)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, _, rest = head.partition(b"content-length: ")
    return int(head.split(b" ", 2)[1]), await reader.readexactly(int(rest.split(b"\r", 1)[0]))
