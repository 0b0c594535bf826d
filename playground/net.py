"""The one HTTP client: for upstreams that the operator named, and for addresses that a user or an upstream chose.

`Client.ask` speaks with an upstream's API. The operator chose the address, so it may be anywhere; what counts is
whether a request that costs money can have arrived:

    NotSent             nothing reached the server: no name, no connection, no TLS
    NoAnswer            it was sent, wholly or in part, and no whole answer came back

`download` fetches from an address that somebody else chose, which may point inside: at this machine, its neighbours
or the cloud's metadata. So each address that a name resolves to is judged by `playground.internet` at the moment of
connecting, and exactly that address is connected to; a name server that answers differently the second time is never
asked a second time. TLS still verifies the name.

    NetError
    |-- Forbidden      we do not go there: a private address, a strange URL, a redirect into the dark; asking again is vain
    |-- Gone           the server answered, but not with the file: 4xx, a redirect loop; a fresh address may help
    |-- TooLarge       more bytes than asked for
    `-- Unreachable    no answer, half an answer, too slow, 429 or 5xx; ask again, after `retry_after_s` if it was said

No text of a NetError holds more of an address than the host: a signed address is a secret.
"""

import asyncio
import re
import socket
import ssl
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self

import aiohttp
import certifi
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from playground.internet import is_public
from playground.web_addresses import DEFAULT_PORTS, Forbidden, NetError, host_and_port, name_of, parsed, spelt
from playground.web_addresses import place_of as place_of

MAX_BYTES = 40_000_000
TOTAL_S = 60.0
MAX_REDIRECTS = 3
MAX_RETRY_AFTER_S = 3600
LOOKUP_S = 5.0
CONNECT_S = 8.0
READ_S = 20.0
# A picture that comes more slowly than this would hardly be here within TOTAL_S, and others wait for its turn to end.
SLOWEST_BYTES_PER_S = 5_000
SLOW_AFTER_S = 10.0
LOOKUPS_AT_ONCE = 16
ADDRESSES_TRIED = 3
# A server may hang up on an idle connection at the moment at which we write to it, and then nobody knows whether a
# create arrived. So those take connections that were busy just now, or fresh ones.
IDLE_BEFORE_POST_S = 2.0
IDLE_BEFORE_GET_S = 15.0

REDIRECTS = {301, 302, 303, 307, 308}
# Said by servers that may do better later; every other 4xx is final.
LATER = {408, 425, 429}


class NotSent(Exception):
    """Nothing reached the server: asking again cannot do a thing twice."""


class NoAnswer(Exception):
    """The request may have arrived, and nobody knows what came of it."""


class Gone(NetError):
    pass


class TooLarge(NetError):
    pass


class Unreachable(NetError):
    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class Refused(Exception):
    """An address that we do not connect to; raised from inside aiohttp, which passes on what is no OSError."""


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, best first. Blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class _Resolver(AbstractResolver):
    """Looks a name up once, in threads of its own: asyncio's are few, and a dead name server holds each for long.

    With `is_guarded` one bad answer refuses the name: a name with a public and a private address is a trap or a mistake.
    """

    def __init__(self, *, is_guarded: bool) -> None:
        self._is_guarded = is_guarded
        self._threads = ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        lookup = asyncio.get_running_loop().run_in_executor(self._threads, resolve, host, port)
        try:
            addresses = await asyncio.wait_for(lookup, LOOKUP_S)
        except TimeoutError:
            raise OSError(None, "the name server did not answer") from None
        except UnicodeError:
            raise OSError(None, "the name could not be resolved") from None
        if not addresses:
            raise OSError(None, "the name has no address")
        if self._is_guarded and not all(map(is_public, addresses)):
            raise Refused("not a public address")
        return [_dialled(host, port, address) for address in addresses[:ADDRESSES_TRIED]]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _dialled(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
    )


def _public_socket(address: tuple[Any, ...]) -> socket.socket:
    """The last look before connecting; also that at an address which came as numbers and was never looked up."""
    family, kind, protocol, _, place = address
    if not is_public(str(place[0])):
        raise Refused("not a public address")
    return socket.socket(family, kind, protocol)


# --- The client ---------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Reply:
    """An upstream's whole answer. `headers` by name in any case; `body` is empty where it was longer than asked for."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Part:
    """One part of a multipart form: a text, or a file where it has a name."""

    name: str
    value: str | bytes
    filename: str = ""
    content_type: str = ""


class Client:
    """No proxies, no cookies, no redirects by itself. `async with` opens and closes it; make it with `client`."""

    def __init__(self, allowed_hosts: Collection[str], context: ssl.SSLContext) -> None:
        self._allowed = {entry.lower() for entry in allowed_hosts}
        self._context = context

    async def __aenter__(self) -> Self:
        self._posts = self._session(keepalive_timeout=IDLE_BEFORE_POST_S)
        self._gets = self._session(keepalive_timeout=IDLE_BEFORE_GET_S)
        guarded: Any = {"is_guarded": True, "socket_factory": _public_socket}
        self._public = self._session(keepalive_timeout=IDLE_BEFORE_GET_S, **guarded)
        self._public_posts = self._session(keepalive_timeout=IDLE_BEFORE_POST_S, **guarded)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        for session in (self._posts, self._gets, self._public, self._public_posts):
            await session.close()

    def _session(self, *, is_guarded: bool = False, **connecting: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            ssl=self._context,
            resolver=_Resolver(is_guarded=is_guarded),
            use_dns_cache=not is_guarded,
            limit=0,
            **connecting,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_S, sock_read=READ_S),
            headers={"Accept-Encoding": "identity", "User-Agent": "flux-playground"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def ask(
        self,
        method: str,
        url: str,
        *,
        within_s: float,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        json: Any = None,
        form: Sequence[Part] = (),
        limit_bytes: int = 1_000_000,
    ) -> Reply:
        """The answer of an upstream at an address that the operator chose. Raises NotSent and NoAnswer."""
        session = self._posts if method == "POST" else self._gets
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_S)
        try:
            async with (
                asyncio.timeout(within_s),
                session.request(
                    method,
                    url,
                    headers=headers,
                    params=params,
                    json=json,
                    data=_multipart(form) if form else None,
                    timeout=timeout,
                    allow_redirects=False,
                ) as reply,
            ):
                return Reply(reply.status, reply.headers, await _bounded(reply, limit_bytes) or b"")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            raise NotSent(f"{type(error).__name__} {error}") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswer(f"{type(error).__name__} {error}") from None

    def is_allowed(self, place: URL) -> bool:
        """Whether the operator has exempted this host and port."""
        return host_and_port(place) in self._allowed

    def chosen_elsewhere(self, place: URL, *, is_post: bool = False) -> aiohttp.ClientSession:
        """The session for an address that somebody else chose: the guarded one, or the open one where it is allowed."""
        if self.is_allowed(place):
            return self._posts if is_post else self._gets
        if (place.port or 0) < 1024 and place.port not in DEFAULT_PORTS.values():
            raise Refused("a port that belongs to another protocol")
        return self._public_posts if is_post else self._public


def client(*, allowed_hosts: Collection[str], context: ssl.SSLContext | None = None) -> Client:
    """A client whose downloads reach public addresses, and those "host:port" pairs.

    Hosts are compared as URLs spell them: allowing "localhost:9000" does not allow "127.0.0.1:9000".
    """
    return Client(allowed_hosts, context or _tls())


def _tls() -> ssl.SSLContext:
    """The machine's certificates and certifi's, because a bare machine has none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _multipart(parts: Sequence[Part]) -> aiohttp.FormData:
    form = aiohttp.FormData(default_to_multipart=True)
    for part in parts:
        form.add_field(
            part.name, part.value, filename=part.filename or None, content_type=part.content_type or None
        )
    return form


async def _bounded(reply: aiohttp.ClientResponse, limit_bytes: int, *, slowest: float = 0.0) -> bytes | None:
    """The body; None where it is longer. Counts as it goes, for the announced length may be missing or a lie.

    TimeoutError where it comes at fewer than `slowest` bytes a second.
    """
    begun = time.monotonic()
    if (reply.content_length or 0) > limit_bytes:
        reply.close()
        return None
    body = bytearray()
    async for part in reply.content.iter_any():
        body += part
        if len(body) > limit_bytes:
            reply.close()
            return None
        if (took := time.monotonic() - begun) > SLOW_AFTER_S and len(body) < slowest * took:
            reply.close()
            raise TimeoutError
    return bytes(body)


# --- Downloads ----------------------------------------------------------------------------------------
async def download(
    http: Client,
    url: str,
    *,
    limit_bytes: int = MAX_BYTES,
    total_s: float = TOTAL_S,
    only_hosts: Collection[str] = (),
) -> bytes:
    """The bytes at `url`, after at most three redirects. Raises any NetError, after `total_s` at the latest.

    `only_hosts`: where they may come from besides the exempted hosts, a name standing for its subdomains too; empty for
    anywhere.
    """
    place = parsed(url)
    try:
        async with asyncio.timeout(total_s):
            for _ in range(MAX_REDIRECTS + 1):
                _check_host(http, place, only_hosts)
                answer = await _fetch(http, place, limit_bytes)
                if isinstance(answer, bytes):
                    return answer
                place = answer
    except TimeoutError as error:
        raise Unreachable(f"{name_of(place)} took longer than {total_s:g} s") from error
    raise Gone(f"{name_of(place)} redirects in circles")


def _check_host(http: Client, place: URL, only_hosts: Collection[str]) -> None:
    if not only_hosts or http.is_allowed(place):
        return
    host = f".{(place.raw_host or '').rstrip('.')}"
    if not any(host.endswith(f".{allowed.lower()}") for allowed in only_hosts):
        raise Forbidden(f"{name_of(place)} is not a host that this upstream's pictures come from")


async def _fetch(http: Client, place: URL, limit_bytes: int) -> bytes | URL:
    """The bytes, or where they are said to be instead."""
    try:
        async with http.chosen_elsewhere(place).get(
            place, allow_redirects=False, timeout=aiohttp.ClientTimeout(connect=CONNECT_S, sock_read=READ_S)
        ) as reply:
            if reply.status in REDIRECTS:
                return _redirected(place, reply.headers.get("Location", ""))
            _check_answer(place, reply)
            if (body := await _bounded(reply, limit_bytes, slowest=SLOWEST_BYTES_PER_S)) is None:
                raise TooLarge(f"{name_of(place)} sends more than {limit_bytes} bytes")
            return body
    except Refused as refused:
        raise Forbidden(f"{name_of(place)} is refused: {refused}") from None
    except (aiohttp.InvalidURL, UnicodeError):
        raise Forbidden("what was given is not an address") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unreachable(f"{name_of(place)} could not be reached ({type(error).__name__})") from None


def _redirected(place: URL, location: str) -> URL:
    if not location:
        raise Gone(f"{name_of(place)} redirects to nowhere")
    try:
        target = parsed(place.join(spelt(location)))
    except ValueError:
        raise Forbidden(f"{name_of(place)} redirects to what is not an address") from None
    if place.scheme == "https" and target.scheme == "http":
        raise Forbidden(f"{name_of(place)} redirects to an address without encryption")
    return target


def _check_answer(place: URL, reply: aiohttp.ClientResponse) -> None:
    if reply.status >= 500 or reply.status in LATER:
        after_s = retry_after_s(reply.headers)
        raise Unreachable(f"{name_of(place)} answered {reply.status}", retry_after_s=after_s)
    if reply.status != 200:
        raise Gone(f"{name_of(place)} answered {reply.status}")
    # Asked for as it is; packed, a small answer could unfold into gigabytes.
    if reply.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise Gone(f"{name_of(place)} sends the file packed")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Retry-After as seconds from now, at most an hour; it may be a number or a date. None when it says nothing."""
    said = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", said):
        return float(min(float(said[:20]), MAX_RETRY_AFTER_S))
    with suppress(ValueError, OverflowError):
        moment = parsedate_to_datetime(said)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max((aware - datetime.now(UTC)).total_seconds(), 0.0), MAX_RETRY_AFTER_S)
    return None
