"""The wire of the fake upstreams: HTTP/1.1 by hand, so that it is fast and can be broken at any byte."""

import asyncio
import re
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus

Answer = Callable[[str, str, dict[str, str], bytes], "Reply"]


@dataclass(frozen=True)
class Reply:
    """`manner` is how it is sent: whole, reset, silent, truncate, huge, never_ending or slow_drip."""

    body: bytes = b""
    status: int = 200
    kind: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()
    manner: str = "whole"
    delay: float = 0.0
    pace: float = 1.0  # seconds between two pieces, where the manner sends pieces
    mb: int = 50

    def head(self, length: int | None = None) -> bytes:
        status = HTTPStatus(self.status)
        lines = [f"HTTP/1.1 {status.value} {status.phrase}", f"Content-Type: {self.kind}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Wire:
    """Serves `answer` on loopback, keeping connections alive."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.open = self.most_open = 0

    async def listen(self, port: int) -> asyncio.Server:
        return await asyncio.start_server(self.serve, "127.0.0.1", port, backlog=1024, limit=1 << 20)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left, which some faults provoke
        finally:
            writer.close()

    async def exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its reply. False when the connection ends with it."""
        method, target, headers = parse(await reader.readuntil(b"\r\n\r\n"))
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            reply = self.answer(method, target, headers, body)
            if reply.delay:
                await asyncio.sleep(reply.delay)
            return await MANNERS[reply.manner](writer, reply)
        finally:
            self.open -= 1


def parse(head: bytes) -> tuple[str, str, dict[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines if line)
    return method, target, {name.lower(): value.strip() for name, _, value in pairs}


# --- Forms --------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Part:
    name: str
    data: bytes
    filename: str = ""
    content_type: str = ""

    @property
    def text(self) -> str:
        return self.data.decode()


def multipart(headers: Mapping[str, str], body: bytes) -> list[Part]:
    """The parts of a form, strictly as RFC 7578 has them. Raises ValueError."""
    kind = re.fullmatch(
        r"multipart/form-data; boundary=\"?([\w'()+,./:=?-]{1,70})\"?", headers.get("content-type", "")
    )
    if not kind:
        raise ValueError("no boundary")
    mark = b"--" + kind[1].encode()
    before, *parts, end = (b"\r\n" + body).split(b"\r\n" + mark)
    if before or end not in (b"--\r\n", b"--"):
        raise ValueError("the form does not begin and end as it must")
    return [_part(part) for part in parts]


def _part(raw: bytes) -> Part:
    head, gap, data = raw.partition(b"\r\n\r\n")
    if not gap or not head.startswith(b"\r\n"):
        raise ValueError("a part without an end of its headers")
    headers = dict(line.split(": ", 1) for line in head[2:].decode("ascii").lower().split("\r\n"))
    disposition = head[2:].decode("ascii").split("\r\n")[list(headers).index("content-disposition")]
    said = re.fullmatch(
        r'content-disposition: form-data; name="([^"\r\n%]+)"(?:; filename="([^"\r\n%]+)")?',
        disposition,
        re.I,
    )
    if not said or set(headers) - {"content-disposition", "content-type", "content-length"}:
        raise ValueError(f"a part with strange headers: {head!r}")
    return Part(said[1], data, said[2] or "", headers.get("content-type", ""))


# --- Manners: True where the connection is still good afterwards --------------------------------------
async def whole(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    writer.write(reply.head(len(reply.body)) + reply.body)
    await writer.drain()
    return True


async def reset(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    """Hangs up with RST, as a crashed server or a broken middle box does."""
    linger_none = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
    writer.transport.abort()
    return False


async def silent(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    await asyncio.sleep(3600)
    return False


async def truncate(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    writer.write(reply.head(len(reply.body)) + reply.body[: len(reply.body) // 2])
    await writer.drain()
    return False


async def huge(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    """The reply, followed by spaces up to `mb` megabytes: JSON still, if anyone reads that far."""
    writer.write(reply.head(len(reply.body) + reply.mb * 1_000_000) + reply.body)
    for _ in range(reply.mb):
        writer.write(b" " * 1_000_000)
        await writer.drain()
    return True


async def never_ending(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    writer.write(reply.head() + chunk(b'{"code": 200, "msg": "'))
    while True:
        writer.write(chunk(b"and so on " * 100))
        await writer.drain()
        await asyncio.sleep(reply.pace)


def chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def slow_drip(writer: asyncio.StreamWriter, reply: Reply) -> bool:
    writer.write(reply.head(len(reply.body)))
    for byte in reply.body:
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(reply.pace)
    return True


MANNERS = {
    manner.__name__: manner for manner in (whole, reset, silent, truncate, huge, never_ending, slow_drip)
}
