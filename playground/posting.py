"""Posting a message to an address that a customer chose, which may point anywhere and answer anything.

It goes through the guard of `playground.net`: https, and only to public addresses, judged when connecting. No redirect
is followed. Of the answer the status counts; of its body the first bytes are kept, and no more is read.
"""

import asyncio
import socket
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LookupTimeout
from dataclasses import dataclass

import aiohttp
from yarl import URL

from playground import net
from playground.internet import is_public

LONGEST_URL = 2000
LOOKUP_S = 3.0
_OURS_ALONE = (
    ".localhost",
    ".local",
    ".internal",
    ".lan",
    ".home.arpa",
    ".test",
    ".example",
    ".invalid",
    ".onion",
)

_lookups = ThreadPoolExecutor(4, thread_name_prefix="webhook-lookup")


@dataclass(frozen=True)
class Heard:
    """The answer: its status, its headers, and how its body begins."""

    status: int
    headers: Mapping[str, str]
    start: bytes


# --- Where to -----------------------------------------------------------------------------------------
def check_url(text: str, allowed_hosts: Collection[str]) -> str:
    """Why nothing can be sent there, in a sentence; "" where it may be tried. Asks no name server.

    `allowed_hosts`: the "host:port" pairs that the operator exempted, which may be anything.
    """
    if len(text) > LONGEST_URL:
        return f"An address has at most {LONGEST_URL:,} characters."
    try:
        place = net.parsed(text)
    except net.Forbidden:
        return "Give a whole web address without a user name, such as https://example.com/hook."
    if is_exempt(place, allowed_hosts):
        return ""
    if place.scheme != "https":
        return "The address must begin with https://."
    if (place.port or 0) < 1024 and place.port != net.DEFAULT_PORTS["https"]:
        return "That port belongs to another protocol."
    return "" if _may_be_public(place) else "The address must lead to a public host, and this one does not."


def is_exempt(place: URL, allowed_hosts: Collection[str]) -> bool:
    return net.host_and_port(place) in {entry.lower() for entry in allowed_hosts}


def _may_be_public(place: URL) -> bool:
    """False for numbers that lead inside, and for names that mean nothing out on the internet."""
    host = (place.raw_host or "").rstrip(".")
    if ":" in host or host.rpartition(".")[2][:1].isdigit():
        return is_public(host)
    return "." in host and not f".{host}".endswith(_OURS_ALONE)


def check_lookup(text: str, allowed_hosts: Collection[str]) -> str:
    """As `check_url`, and the name is looked up too. Blocks for three seconds at most."""
    if why := check_url(text, allowed_hosts):
        return why
    place = net.parsed(text)
    if is_exempt(place, allowed_hosts):
        return ""
    lookup = _lookups.submit(net.resolve, place.raw_host or "", place.port or 443)
    try:
        found = lookup.result(LOOKUP_S)
    except LookupTimeout:
        lookup.cancel()  # or who comes next would wait for what nobody waits for any more
        return "The name of this host could not be looked up in time. Try again."
    except (OSError, UnicodeError):
        return "There is no host of this name."
    return "" if found and all(map(is_public, found)) else "This host's name leads to a private address."


# --- Sending ------------------------------------------------------------------------------------------
async def post(
    http: net.Client,
    url: str,
    *,
    body: bytes,
    headers: Mapping[str, str],
    within_s: float,
    keep_bytes: int,
) -> Heard:
    """What was answered, within `within_s`. Raises net.Forbidden and net.Unreachable."""
    place = net.parsed(url)
    if place.scheme != "https" and not http.is_allowed(place):
        raise net.Forbidden("only https is spoken")
    heard: list[Heard] = []
    try:
        async with asyncio.timeout(within_s):
            await _exchange(http, place, body, headers, keep_bytes, heard)
    except net.Refused as refused:
        raise net.Forbidden(f"{net.name_of(place)} is refused: {refused}") from None
    except (aiohttp.InvalidURL, UnicodeError):
        raise net.Forbidden("what was given is not an address") from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if not heard:
            raise net.Unreachable(_why(place, error, within_s)) from None
    return heard[-1]


async def _exchange(
    http: net.Client, place: URL, body: bytes, headers: Mapping[str, str], keep_bytes: int, heard: list[Heard]
) -> None:
    """Puts into `heard` what is known of the answer as soon as it is known: its status stands, whatever comes after."""
    session = http.chosen_elsewhere(place, is_post=True)
    timeout = aiohttp.ClientTimeout(total=None, connect=net.CONNECT_S)
    async with session.post(
        place, data=body, headers=headers, timeout=timeout, allow_redirects=False
    ) as reply:
        start = b""
        heard.append(Heard(reply.status, reply.headers, start))
        async for part in reply.content.iter_any():
            start = (start + part)[:keep_bytes]
            heard.append(Heard(reply.status, reply.headers, start))
            if len(start) == keep_bytes:
                reply.close()
                return


def _why(place: URL, error: BaseException, within_s: float) -> str:
    host = net.name_of(place)
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return f"{host}: its certificate could not be verified"
    if isinstance(error, aiohttp.ClientConnectorDNSError | socket.gaierror):
        return f"{host}: the name could not be looked up"
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return f"{host}: no connection within {net.CONNECT_S:g} s"
    if isinstance(error, TimeoutError):
        return f"{host}: no answer within {within_s:g} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{host}: the connection was refused"
    if isinstance(error, aiohttp.ClientResponseError):
        return f"{host}: its answer is not HTTP, or has too long a head"
    return f"{host}: the connection broke before an answer came"
