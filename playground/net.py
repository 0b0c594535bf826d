"""The one HTTP client for addresses that a user or an upstream chose.

Such an address may point inside: at this machine, its neighbours or the cloud's metadata. So each address that a
name resolves to is judged by the table below at the moment of connecting, and exactly that address is connected to;
a name server that answers differently the second time is never asked a second time. TLS still verifies the name.

    NetError
    |-- Forbidden      we do not go there: a private address, a strange URL, a redirect into the dark; asking again is vain
    |-- Gone           the server answered, but not with the file: 4xx, a redirect loop; a fresh address may help
    |-- TooLarge       more bytes than asked for
    `-- Unreachable    no answer, half an answer, too slow, 429 or 5xx; ask again, after `retry_after_s` if it was said

No text of an error holds more of an address than the host: a signed address is a secret.
"""

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, NoReturn

import httpcore
import httpx

MAX_BYTES = 40_000_000
TOTAL_S = 60.0
MAX_REDIRECTS = 3
MAX_RETRY_AFTER_S = 3600
LOOKUP_S = 5.0
CONNECT_S = 10.0
READ_S = 20.0
KEPT_OPEN = 2  # each idle one is asked at every request whether it still lives
CONNECTIONS = 400
LOOKUPS_AT_ONCE = 16
ADDRESSES_TRIED = 3

DEFAULT_PORTS = {"http": 80, "https": 443}
# Names and numbers as they are on the wire; httpx would pass on "exa%20mple.org".
HOST = re.compile(rb"[0-9a-z._-]+|[0-9a-f:.]+")
REDIRECTS = {301, 302, 303, 307, 308}
# Said by servers that may do better later; every other 4xx is final.
LATER = {408, 425, 429}

# Not the standard library's is_global: it changes between Python versions and lets tunnels to private hosts through.
# Everything of IPv4 but these, from the IANA registry of special-purpose addresses:
FORBIDDEN_IPV4 = [
    ipaddress.IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # carrier-grade NAT, and Alibaba's metadata at 100.100.100.200
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host agent, on a public address
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments, and Oracle's metadata at 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # AMT
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]
# Nothing of IPv6 but global unicast, which leaves out loopback, embedded IPv4 (::ffff:0:0/96, 64:ff9b::/96,
# 64:ff9b:1::/48), unique local (with AWS's metadata at fd00:ec2::254), link-local, site-local, 5f00::/16, multicast ...
GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
# ... and of that not these:
FORBIDDEN_IPV6 = [
    ipaddress.IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, ORCHID, benchmarks
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which embeds any IPv4 address
        "2620:4f:8000::/48",  # AS112
        "3fff::/20",  # documentation
    )
]


class NetError(Exception):
    """Why there are no bytes."""


class Forbidden(NetError):
    pass


class Gone(NetError):
    pass


class TooLarge(NetError):
    pass


class Unreachable(NetError):
    def __init__(self, detail: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


# --- Which addresses ----------------------------------------------------------------------------------
def is_public(address: str) -> bool:
    """Whether an IP address, as numbers, is an ordinary one out on the internet."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in network for network in FORBIDDEN_IPV4)
    return ip in GLOBAL_IPV6 and not any(ip in network for network in FORBIDDEN_IPV6)


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, best first. Blocks."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


class _Refused(httpcore.ConnectError):
    """So that other users of the client see an ordinary httpx.ConnectError."""


class _GuardedBackend(httpcore.AsyncNetworkBackend):
    """Looks a name up once, judges the answers, and connects to those and to nothing else.

    One bad answer refuses the name: a name with a public and a private address is a trap or a mistake.
    """

    def __init__(self, allowed_hosts: Collection[str]) -> None:
        self._allowed = {entry.lower() for entry in allowed_hosts}
        self._inner = httpcore.AnyIOBackend()
        # Threads of its own: asyncio's are few, and a dead name server holds each for as long as it likes.
        self._lookups = ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="lookup")

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        is_allowed = _host_and_port(host, port) in self._allowed
        if not is_allowed and port < 1024 and port not in DEFAULT_PORTS.values():
            raise _Refused("a port that belongs to another protocol")
        addresses = await self._look_up(host, port)
        if not is_allowed and not all(map(is_public, addresses)):
            raise _Refused("not a public address")
        each_s = (CONNECT_S if timeout is None else timeout) / ADDRESSES_TRIED
        trouble: Exception = httpcore.ConnectError("the name has no address")
        for address in addresses[:ADDRESSES_TRIED]:
            try:
                return await self._inner.connect_tcp(address, port, each_s, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
        raise trouble

    async def _look_up(self, host: str, port: int) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(LOOKUP_S):
                return await loop.run_in_executor(self._lookups, resolve, host, port)
        except TimeoutError as error:
            raise httpcore.ConnectTimeout("the name server did not answer") from error
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the name could not be resolved") from error

    async def connect_unix_socket(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise _Refused("not a network address")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def close(self) -> None:
        self._lookups.shutdown(wait=False, cancel_futures=True)


def _host_and_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# --- The client ---------------------------------------------------------------------------------------
class _GuardedTransport(httpx.AsyncHTTPTransport):
    """httpx's transport takes no backend, so the pool, which is all that it has, is built here."""

    def __init__(self, backend: _GuardedBackend, context: ssl.SSLContext) -> None:
        self._backend = backend
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context,
            max_connections=CONNECTIONS,
            max_keepalive_connections=KEPT_OPEN,
            keepalive_expiry=15.0,
            network_backend=backend,
        )

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await super().__aexit__(exc_type, exc_value, traceback)
        self._backend.close()

    async def aclose(self) -> None:
        await super().aclose()
        self._backend.close()


class Client(httpx.AsyncClient):
    """One that `client` made. A type of its own, so that an unguarded one cannot be handed to `download` by mistake."""


def client(*, allowed_hosts: Collection[str], context: ssl.SSLContext | None = None) -> Client:
    """A client that reaches public addresses, and those "host:port" pairs; no proxies, no cookies, no redirects.

    Hosts are compared as URLs spell them: allowing "localhost:9000" does not allow "127.0.0.1:9000".
    """
    backend = _GuardedBackend(allowed_hosts)
    return Client(
        transport=_GuardedTransport(backend, context or httpx.create_ssl_context(trust_env=False)),
        timeout=httpx.Timeout(READ_S, connect=CONNECT_S, pool=TOTAL_S),
        headers={"Accept-Encoding": "identity", "User-Agent": "flux-playground"},
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        follow_redirects=False,
        trust_env=False,
    )


async def download(
    http: Client, url: str, *, limit_bytes: int = MAX_BYTES, total_s: float = TOTAL_S
) -> bytes:
    """The bytes at `url`, after at most three redirects. Raises any NetError, after `total_s` at the latest."""
    place = _parsed(url)
    try:
        async with asyncio.timeout(total_s):
            for _ in range(MAX_REDIRECTS + 1):
                answer = await _fetch(http, place, limit_bytes)
                if isinstance(answer, bytes):
                    return answer
                place = answer
    except TimeoutError as error:
        raise Unreachable(f"{_name(place)} took longer than {total_s:g} s") from error
    raise Gone(f"{_name(place)} redirects in circles")


async def _fetch(http: Client, place: httpx.URL, limit_bytes: int) -> bytes | httpx.URL:
    """The bytes, or where they are said to be instead."""
    try:
        async with http.stream("GET", place) as response:
            if response.status_code in REDIRECTS:
                return _redirected(place, response.headers.get("Location", ""))
            _check_answer(place, response)
            return await _read(place, response, limit_bytes)
    except UnicodeError:  # httpx decodes the name in a Location by itself
        raise Forbidden(f"{_name(place)} redirects to what is not an address") from None
    except httpx.TransportError as error:
        if isinstance(error.__cause__, _Refused):
            raise Forbidden(f"{_name(place)} is refused: {error}") from error
        raise Unreachable(f"{_name(place)} could not be reached ({type(error).__name__})") from error


def _parsed(url: str | httpx.URL) -> httpx.URL:
    try:
        place = httpx.URL(url)
        is_host = bool(place.host and HOST.fullmatch(place.raw_host))
    except (httpx.InvalidURL, TypeError, ValueError):
        raise Forbidden("what was given is not an address") from None  # their text quotes the URL
    # httpx passes on any number as a port, and a resolver may take 65558 for 22.
    is_port = place.port is None or 0 < place.port < 65536
    if not (is_host and is_port and place.scheme in DEFAULT_PORTS):
        raise Forbidden("the address is not a web address")
    if place.userinfo:
        raise Forbidden(f"the address of {_name(place)} holds a user name")
    return place


def _name(place: httpx.URL) -> str:
    """The host for an error's text, as it is on the wire: decoding a made-up name can fail."""
    return place.raw_host.decode("ascii")[:100]


def _redirected(place: httpx.URL, location: str) -> httpx.URL:
    if not location:
        raise Gone(f"{_name(place)} redirects to nowhere")
    try:
        target = _parsed(place.join(location))
    except (httpx.InvalidURL, ValueError):
        raise Forbidden(f"{_name(place)} redirects to what is not an address") from None
    if place.scheme == "https" and target.scheme == "http":
        raise Forbidden(f"{_name(place)} redirects to an address without encryption")
    return target


def _check_answer(place: httpx.URL, response: httpx.Response) -> None:
    status = response.status_code
    if status >= 500 or status in LATER:
        after_s = retry_after_s(response.headers)
        raise Unreachable(f"{_name(place)} answered {status}", retry_after_s=after_s)
    if status != 200:
        raise Gone(f"{_name(place)} answered {status}")
    # Asked for as it is; packed, a small answer could unfold into gigabytes.
    if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise Gone(f"{_name(place)} sends the file packed")


async def _read(place: httpx.URL, response: httpx.Response, limit_bytes: int) -> bytes:
    """Counts as it goes, for the announced length may be missing or a lie."""
    announced = response.headers.get("Content-Length", "")
    if announced.isdecimal() and int(announced) > limit_bytes:
        raise TooLarge(f"{_name(place)} sends more than {limit_bytes} bytes")
    body = bytearray()
    async for part in response.aiter_raw():
        body += part
        if len(body) > limit_bytes:
            raise TooLarge(f"{_name(place)} sends more than {limit_bytes} bytes")
    return bytes(body)


def retry_after_s(headers: httpx.Headers) -> float | None:
    """Retry-After as seconds from now, at most an hour; it may be a number or a date. None when it says nothing."""
    said = headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdecimal():
        return float(min(int(said[:10]), MAX_RETRY_AFTER_S))
    with suppress(ValueError, OverflowError):
        moment = parsedate_to_datetime(said)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return min(max((aware - datetime.now(UTC)).total_seconds(), 0.0), MAX_RETRY_AFTER_S)
    return None
