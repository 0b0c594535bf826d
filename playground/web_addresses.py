"""Addresses that somebody chose, as they are written and as they go over the wire. Nothing is sent or looked up here."""

import re
from urllib.parse import quote

from yarl import URL

DEFAULT_PORTS = {"http": 80, "https": 443}
# Names and numbers as they are on the wire.
HOST = re.compile(r"[0-9a-z._-]+|[0-9a-f:.]+")


class NetError(Exception):
    """Why there are no bytes."""


class Forbidden(NetError):
    pass


def parsed(url: str | URL) -> URL:
    """The address, with its path and query as they came: a signature may cover every byte of them."""
    try:
        place = url if isinstance(url, URL) else spelt(url)
        host, port, has_user = place.raw_host or "", place.port, place.raw_user or place.raw_password
    except (TypeError, ValueError, AttributeError):
        raise Forbidden("what was given is not an address") from None  # their text quotes the URL
    is_port = port is not None and 0 < port < 65536
    if not (place.scheme in DEFAULT_PORTS and HOST.fullmatch(host) and len(host) < 256 and is_port):
        raise Forbidden("the address is not a web address")
    if has_user is not None:
        raise Forbidden(f"the address of {name_of(place)} holds a user name")
    return place


def spelt(url: str) -> URL:
    """Only what may not stand in a request's first line is escaped; a name of other letters is put into its ASCII form."""
    escaped = quote(url, safe="".join(map(chr, range(0x21, 0x7F))))
    try:
        place = URL(escaped, encoded=True)
    except IndexError:  # yarl's, of "https://[::1]@/"
        raise ValueError("what stands before the @ is no user name") from None
    host = place.raw_host if url.isascii() else URL(url).raw_host
    return place.with_host(host.lower()) if host else place


def name_of(place: URL) -> str:
    """The host for an error's text, as it is on the wire."""
    return (place.raw_host or "")[:100]


def host_and_port(place: URL) -> str:
    """As the operator's exceptions are spelt."""
    host = place.raw_host or ""
    return f"[{host}]:{place.port}" if ":" in host else f"{host}:{place.port}"


def place_of(url: str) -> str:
    """Host and port of an address that somebody chose, for people and for counting; "" where it has none."""
    try:
        place = parsed(url)
    except Forbidden:
        return ""
    return host_and_port(place).removesuffix(f":{DEFAULT_PORTS[place.scheme]}")
