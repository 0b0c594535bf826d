"""Whatever address a user or an upstream names, we reach only the public internet, and never wait or read for ever."""

import asyncio
import contextlib
import datetime
import gzip
import logging
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from yarl import URL

from playground import internet, net

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def reply(
    body: bytes = b"picture", *, status: str = "200 OK", length: int | None = None, **headers: str
) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length is None else length}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return reply(b"", status=status, Location=location)


class Server:
    """A real server on loopback; `answers` by path, `seen` what was asked."""

    def __init__(self, answers: dict[str, Answer]) -> None:
        self.answers, self.seen, self.port = answers, [], 0  # type: tuple[dict[str, Answer], list[bytes], int]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while request := await reader.readuntil(b"\r\n\r\n"):
                self.seen.append(request)
                answer = self.answers.get(
                    request.split()[1].decode().partition("?")[0], reply(status="404 Not Found")
                )
                if isinstance(answer, bytes):
                    writer.write(answer.replace(b"PORT", str(self.port).encode()))
                    await writer.drain()
                else:
                    await answer(writer)
                    break
        writer.close()

    @contextlib.asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator["Server"]:
        server = await asyncio.start_server(self.handle, "127.0.0.1", 0, **options)
        self.port = server.sockets[0].getsockname()[1]
        yield self
        server.close()


def fetch(
    url: str,
    answers: dict[str, Answer] | None = None,
    *,
    allow: tuple[str, ...] = ("127.0.0.1:PORT",),
    server: Server | None = None,
    **limits: Any,
) -> bytes:
    async def run() -> bytes:
        async with (server or Server(answers or {"/a": reply()})).running() as upstream:
            port = str(upstream.port)
            async with net.client(allowed_hosts=[entry.replace("PORT", port) for entry in allow]) as http:
                return await net.download(http, url.replace("PORT", port), **limits)

    return asyncio.run(run())


# --- Which addresses ----------------------------------------------------------------------------------
PUBLIC = """
    1.1.1.1 8.8.8.8 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 168.63.129.15
    169.253.255.255 172.15.255.255 172.32.0.0 192.0.1.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0
    223.255.255.255 2001:200::1 2001:4860:4860::8888 2606:4700:4700::1111 2a00:1450:4001::1 2003::1 3ffe::1
"""
PRIVATE = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254
    168.63.129.16 169.254.169.254 169.254.170.2 172.16.0.1 172.31.255.255 192.0.0.1 192.0.0.192 192.0.2.1 192.31.196.1
    192.52.193.1 192.88.99.1 192.168.0.1 192.175.48.1 198.18.0.1 198.19.255.255 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.255 240.0.0.1 255.255.255.255
    :: ::1 ::7f00:1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 ::ffff:0:127.0.0.1
    64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1 100::1 100:0:0:1::1 2001::1 2001:0:4136:e378::1 2001:2::1 2001:10::1
    2001:20::1 2001:1ff::1 2001:db8::1 2002:7f00:1::1 2002:a9fe:a9fe::1 2620:4f:8000::1 3fff::1 4000::1 5f00::1 fc00::1
    fd00:ec2::254 fd20:ce::254 fe80::1 fe80::1%eth0 fec0::1 ff02::1
    localhost 127.1 2130706433 0x7f000001 017700000001 127.0.0.01 [::1] 8.8.8 ::ffff:8.8.8.8.8
"""


@pytest.mark.parametrize("address", PUBLIC.split())
def test_ordinary_addresses_are_public(address: str) -> None:
    assert internet.is_public(address)


@pytest.mark.parametrize("address", [*PRIVATE.split(), "", " 8.8.8.8", "8.8.8.8\n"])
def test_everything_else_is_not(address: str) -> None:
    assert not internet.is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:PORT/a",
        "http://localhost:PORT/a",
        "http://LOCALHOST:PORT/a",
        "http://localhost.:PORT/a",
        "http://127.1:PORT/a",
        "http://0:PORT/a",
        "http://2130706433:PORT/a",
        "http://0x7f.1:PORT/a",
        "http://0x7f000001:PORT/a",
        "http://017700000001:PORT/a",
        "http://0177.0.0.1:PORT/a",
        "http://127.0.0.1.:PORT/a",
        "http://[::1]:PORT/a",
        "http://[::ffff:127.0.0.1]:PORT/a",
        "http://[::ffff:7f00:1]:PORT/a",
        "http://[::127.0.0.1]:PORT/a",
        "http://[64:ff9b::7f00:1]:PORT/a",
        "http://[fe80::1%25lo]:PORT/a",
        "http://１２７.０.０.１:PORT/a",
        "http://127。0。0。1:PORT/a",
        "http://①②⑦.⓪.⓪.①:PORT/a",
        "http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:PORT/a",
        "http://0.0.0.0:PORT/a",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fd00:ec2::254]/latest/meta-data/",
        "http://100.100.100.200/latest/meta-data/",
        "http://168.63.129.16/metadata",
        "http://10.0.0.1/",
        "https://192.168.1.1/",
    ],
)
def test_an_address_inside_is_not_reached_however_it_is_spelt(url: str) -> None:
    server = Server({"/a": reply()})
    # A spelling that no resolver understands is as good as refused; whatever happens, nobody is asked.
    with pytest.raises((net.Forbidden, net.Unreachable)):
        fetch(url, server=server, allow=("example.org:PORT",))
    assert server.seen == []


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:PORT/a",
        "http://localhost:PORT/a",
        "http://2130706433:PORT/a",
        "http://[::ffff:127.0.0.1]:PORT/a",
        "http://[::1]:PORT/a",
        "http://169.254.169.254/",
    ],
)
def test_the_refusal_says_that_it_is_final(url: str) -> None:
    with pytest.raises(net.Forbidden, match=r"not an? (public )?address"):
        fetch(url, allow=())


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "gopher://127.0.0.1:PORT/_GET",
        "ftp://example.org/a",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "unix:///var/run/docker.sock",
        "//example.org/a",
        "/a",
        "",
        "http://",
        "http:///a",
        "http://user@127.0.0.1:PORT/a",
        "http://user:secret@127.0.0.1:PORT/a",
        "http://127.0.0.1:PORT@example.org/a",
        "http://127.0.0.1:99999/a",
        "http://93.184.215.14:65558/a",
        "http://127.0.0.1:0/a",
        "http://127.0.0.1:PORT\x00/a",
        "http://exa mple.org/a",
        "http://example.org\\@127.0.0.1:PORT/a",
        "http://[::1/a",
        "http://[::1]@/a",
        "http://" + "a" * 70_000,
        "http://xn--\N{SNOWMAN}.org/",
    ],
)
def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    server = Server({"/a": reply()})
    with pytest.raises(net.Forbidden, match=r"^(what|the) "):
        fetch(url, server=server)
    assert server.seen == []


@pytest.mark.parametrize(
    "host", ["xn--zzzzzzzzz", "xn--", "a" * 64 + ".org", "a..org", "-", "_", "%41", "example.invalid"]
)
def test_a_name_that_cannot_be_is_an_answer_not_a_crash(host: str) -> None:
    with pytest.raises((net.Forbidden, net.Unreachable)):
        fetch(f"http://{host}:PORT/a")


@pytest.mark.parametrize("port", [22, 25, 110, 993])
def test_ports_of_other_protocols_are_not_spoken_to(port: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(net, "resolve", lambda host, port: ["93.184.215.14"])
    with pytest.raises(net.Forbidden, match="another protocol"):
        fetch(f"http://example.org:{port}/a")


# --- The allow-list -----------------------------------------------------------------------------------
def test_an_allowed_host_is_reached() -> None:
    assert fetch("http://127.0.0.1:PORT/a") == b"picture"
    assert fetch("http://LocalHost:PORT/a", allow=("LOCALHOST:PORT",)) == b"picture"


@pytest.mark.parametrize(
    "allowed", ["127.0.0.1:1", "127.0.0.1", "localhost:PORT", "*:PORT", "[::1]:PORT", ":PORT", ""]
)
def test_an_allowance_is_for_that_host_and_that_port_only(allowed: str) -> None:
    with pytest.raises(net.Forbidden):
        fetch("http://127.0.0.1:PORT/a", allow=(allowed,))


def test_an_allowance_names_the_port_that_the_scheme_implies() -> None:
    async def is_open(place: str) -> bool:
        async with net.client(allowed_hosts=["10.0.0.1:80", "[fd00::1]:443"]) as http:
            return http.chosen_elsewhere(URL(place)) is not http._public

    assert asyncio.run(is_open("http://10.0.0.1/")) and asyncio.run(is_open("https://[fd00::1]/"))
    assert not asyncio.run(is_open("https://10.0.0.1/")) and not asyncio.run(is_open("http://[fd00::1]/"))


# --- Names --------------------------------------------------------------------------------------------
def dialled(monkeypatch: Any, *answers: list[str]) -> tuple[list[str], list[str]]:
    """Which addresses are connected to when the name server gives these answers in turn; and the names asked for."""
    asked: list[str] = []
    connected: list[str] = []
    turns = iter(answers)

    def resolve(host: str, port: int) -> list[str]:
        asked.append(host)
        return next(turns)

    async def connect(addr_infos: list[Any], **kwargs: Any) -> Any:
        connected.extend(place[0] for *_, place in addr_infos)
        raise OSError("no network in this test")

    monkeypatch.setattr(net, "resolve", resolve)
    monkeypatch.setattr(aiohttp.connector.aiohappyeyeballs, "start_connection", connect)
    return connected, asked


def test_a_name_is_looked_up_once_and_the_judged_address_is_dialled(monkeypatch: Any) -> None:
    connected, asked = dialled(monkeypatch, ["93.184.215.14"], ["127.0.0.1"], ["127.0.0.1"])
    with pytest.raises(net.Unreachable):
        fetch("http://rebinding.example:PORT/a")
    assert (connected, asked) == (["93.184.215.14"], ["rebinding.example"])


@pytest.mark.parametrize("others", [["127.0.0.1"], ["::1"], ["fe80::1%eth0"], ["nonsense"]])
def test_one_private_address_refuses_the_whole_name(others: list[str], monkeypatch: Any) -> None:
    for answer in (["93.184.215.14", *others], [*others, "93.184.215.14"]):
        connected, _ = dialled(monkeypatch, answer)
        with pytest.raises(net.Forbidden, match="not a public address"):
            fetch("http://half.example:PORT/a")
        assert connected == []


def test_the_next_address_is_tried_when_one_does_not_answer(monkeypatch: Any) -> None:
    connected, _ = dialled(monkeypatch, ["2606:4700::1", "93.184.215.14"])
    with pytest.raises(net.Unreachable):
        fetch("http://two.example:PORT/a")
    assert connected == ["2606:4700::1", "93.184.215.14"]
    connected, _ = dialled(monkeypatch, [])
    with pytest.raises(net.Unreachable):
        fetch("http://none.example:PORT/a")


def test_a_dead_name_server_is_not_waited_for(monkeypatch: Any) -> None:
    monkeypatch.setattr(net, "resolve", lambda host, port: time.sleep(1) or ["127.0.0.1"])
    monkeypatch.setattr(net, "LOOKUP_S", 0.1)
    start = time.monotonic()

    async def run() -> None:
        async with net.client(allowed_hosts=[]) as http:
            with pytest.raises(net.Unreachable, match="could not be reached"):
                await net.download(http, "http://slow.example/a")
            assert time.monotonic() - start < 0.7

    asyncio.run(run())


def test_tls_verifies_the_name_and_not_the_address(monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setattr(net, "resolve", lambda host, port: ["127.0.0.1"])
    certificate = certified("pictures.example", tmp_path)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(certificate)
    theirs = ssl.create_default_context(cafile=str(certificate))

    async def run(host: str, context: ssl.SSLContext | None) -> bytes:
        async with Server({"/a": reply()}).running(ssl=ours) as upstream:
            place = f"{host}:{upstream.port}"
            async with net.client(allowed_hosts=[place], context=context) as http:
                return await net.download(http, f"https://{place}/a")

    assert asyncio.run(run("pictures.example", theirs)) == b"picture"
    for host, context in (("other.example", theirs), ("127.0.0.1", theirs), ("pictures.example", None)):
        with pytest.raises(net.Unreachable):
            asyncio.run(run(host, context))


def certified(host: str, folder: Path) -> Path:
    """A PEM file with a new key and a certificate for `host` that nobody signed."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    made = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + datetime.timedelta(1)
    )
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "certificate.pem"
    file.write_bytes(private + made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return file


# --- Redirects ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"]
)
def test_redirects_are_followed(status: str) -> None:
    answers: dict[str, Answer] = {
        "/1": redirect("/2", status),
        "/2": redirect("//127.0.0.1:PORT/3"),
        "/3": redirect("http://127.0.0.1:PORT/4?x=1#y"),
        "/4": reply(b"the end"),
    }
    assert fetch("http://127.0.0.1:PORT/1", answers) == b"the end"


def test_the_fourth_redirect_and_a_circle_are_the_end() -> None:
    longer: dict[str, Answer] = {f"/{n}": redirect(f"/{n + 1}") for n in range(4)} | {"/4": reply()}
    server = Server({"/a": redirect("/a")})
    for run in (
        lambda: fetch("http://127.0.0.1:PORT/0", longer),
        lambda: fetch("http://127.0.0.1:PORT/a", server=server),
    ):
        with pytest.raises(net.Gone, match="circles"):
            run()
    assert len(server.seen) == 4


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost:PORT/b",
        "http://[::ffff:127.0.0.1]:PORT/b",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://user:secret@127.0.0.1:PORT/b",
        "file:///etc/passwd",
        "gopher://127.0.0.1:PORT/b",
    ],
)
def test_a_redirect_to_a_forbidden_place_is_refused(location: str) -> None:
    server = Server({"/a": redirect(location), "/b": reply()})
    with pytest.raises(net.Forbidden):
        fetch("http://127.0.0.1:PORT/a", server=server)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://[",
        "http://x:y/",
        "http://xn--zzzzzzzzz/",
        "http://a b/",
        "\\\\x",
        "http://\x7f/",
        "http://[::1]@/",
    ],
)
def test_a_redirect_to_nonsense_is_an_answer_not_a_crash(location: str) -> None:
    with pytest.raises(net.NetError):
        fetch("http://127.0.0.1:PORT/a", {"/a": redirect(location)})


def test_encryption_is_not_given_up_on_the_way() -> None:
    with pytest.raises(net.Forbidden, match="without encryption"):
        net._redirected(URL("https://example.org/a"), "http://example.org/a")
    assert net._redirected(URL("https://example.org/a"), "/b") == URL("https://example.org/b")


# --- Answers ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "status",
    [
        "204 No Content",
        "206 Partial",
        "304 Not Modified",
        "400 Bad",
        "403 No",
        "404 No",
        "410 Gone",
        "451 No",
    ],
)
def test_a_server_that_has_no_file_is_told_apart_from_one_in_trouble(status: str) -> None:
    with pytest.raises(net.Gone, match=status[:3]):
        fetch("http://127.0.0.1:PORT/a", {"/a": reply(b"", status=status)})


@pytest.mark.parametrize(
    "status", ["408 Slow", "425 Early", "429 Many", "500 Oops", "502 Bad", "503 Busy", "504 Late", "599 ?"]
)
def test_a_server_in_trouble_may_be_asked_again(status: str) -> None:
    with pytest.raises(net.Unreachable, match=status[:3]) as caught:
        fetch("http://127.0.0.1:PORT/a", {"/a": reply(b"", status=status, Retry_After="7")})
    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("0", 0), ("120", 120), ("0.5", 0.5), ("1.", None), ("99999999999999999999999", 3600), ("", None), ("-5", None), ("soon", None), ("1e9", None),
     ("nan", None), ("²", None), ("Wed, 21 Oct 2015 07:28:00 GMT", 0), ("Fri, 31 Dec 9999 23:59:59 GMT", 3600),
     ("Fri, 99 Dec 9999 23:59:59 GMT", None)],
)  # fmt: skip
def test_retry_after_is_read_with_suspicion(said: str, seconds: float | None) -> None:
    assert net.retry_after_s({"Retry-After": said}) == seconds


def test_nobody_at_home_and_half_an_answer_may_be_asked_again() -> None:
    with pytest.raises(net.Unreachable):
        fetch("http://127.0.0.1:9/a", allow=("127.0.0.1:9",))
    for answer in (reply(b"half", length=9), b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"SSH-2.0-OpenSSH_9\r\n"):

        async def write(writer: asyncio.StreamWriter, answer: bytes = answer) -> None:
            writer.write(answer)

        with pytest.raises(net.Unreachable):
            fetch("http://127.0.0.1:PORT/a", {"/a": write})


def test_an_announced_hundred_megabytes_are_not_read() -> None:
    with pytest.raises(net.TooLarge):
        fetch("http://127.0.0.1:PORT/a", {"/a": reply(b"x", length=100_000_000)}, total_s=2)


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"]
)
def test_a_body_that_never_ends_is_cut_off_at_the_limit(head: bytes) -> None:
    sent = 0

    async def for_ever(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(head)
        piece = b"8000\r\n" + b"x" * 32768 + b"\r\n" if b"chunked" in head else b"x" * 32768
        while not writer.is_closing():
            writer.write(piece)
            sent += 1
            await writer.drain()

    with pytest.raises(net.TooLarge):
        fetch("http://127.0.0.1:PORT/a", {"/a": for_ever}, limit_bytes=1_000_000)
    assert sent < 1000


def test_exactly_the_limit_is_fine() -> None:
    assert len(fetch("http://127.0.0.1:PORT/a", {"/a": reply(b"x" * 5000)}, limit_bytes=5000)) == 5000
    with pytest.raises(net.TooLarge):
        fetch("http://127.0.0.1:PORT/a", {"/a": reply(b"x" * 5001)}, limit_bytes=5000)


@pytest.mark.parametrize("drip", [b"x", b"HTTP/1.1 100 Continue\r\n\r\n", None])
def test_a_server_that_drips_is_cut_off_in_time(drip: bytes | None) -> None:
    """A byte now and then resets every timeout but the one for the whole."""

    async def slowly(writer: asyncio.StreamWriter) -> None:
        if drip == b"x":
            writer.write(reply(b"", length=1000))
        while not writer.is_closing():
            writer.write(drip or b"")
            await writer.drain()
            await asyncio.sleep(0.05)

    start = time.monotonic()
    with pytest.raises(net.Unreachable, match=r"longer than 0\.4 s"):
        fetch("http://127.0.0.1:PORT/a", {"/a": slowly}, total_s=0.4)
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip"])
def test_a_packed_answer_is_refused_unopened(encoding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    with pytest.raises(net.Gone, match="packed"):
        fetch("http://127.0.0.1:PORT/a", {"/a": reply(bomb, Content_Encoding=encoding)})


def test_identity_is_asked_for_and_taken() -> None:
    server = Server({"/a": reply(Content_Encoding="identity")})
    assert fetch("http://127.0.0.1:PORT/a", server=server) == b"picture"
    assert b"accept-encoding: identity\r\n" in server.seen[0].lower()


def test_cookies_are_neither_kept_nor_sent() -> None:
    server = Server(
        {"/a": reply(b"", status="302 Found", Location="/b", Set_Cookie="a=1"), "/b": reply(Set_Cookie="b=2")}
    )

    async def run() -> None:
        async with (
            server.running() as upstream,
            net.client(allowed_hosts=[f"127.0.0.1:{upstream.port}"]) as http,
        ):
            for _ in range(2):
                await net.download(http, f"http://127.0.0.1:{upstream.port}/a")

    asyncio.run(run())
    assert len(server.seen) == 4
    assert not any(b"cookie" in request.lower() for request in server.seen)


def test_a_proxy_in_the_environment_is_not_used(monkeypatch: Any) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert fetch("http://127.0.0.1:PORT/a") == b"picture"


def test_a_signed_address_stays_a_secret(caplog: Any) -> None:
    answers: dict[str, Answer] = {
        "/404": reply(status="404 Not Found"),
        "/500": reply(status="500 Oops"),
        "/large": reply(b"xx"),
        "/packed": reply(Content_Encoding="gzip"),
        "/half": reply(b"", status="302 Found", Location="http://[canary"),
        "/inside": redirect("http://10.0.0.1/path-canary?sig=canary"),
        "/loop": redirect("/loop?sig=canary"),
    }
    caplog.set_level(logging.INFO, "playground")
    for path in answers:
        with pytest.raises(net.NetError) as caught:
            fetch(f"http://127.0.0.1:PORT{path}?sig=canary", answers, limit_bytes=1)
        assert "canary" not in str(caught.value)
        assert path not in str(caught.value)
    with pytest.raises(net.Forbidden) as refused:
        fetch("http://user:canary@example.org:notaport/canary?sig=canary")
    assert "canary" not in repr(refused.value) and refused.value.__suppress_context__
    assert "canary" not in caplog.text


# --- Asking an upstream ------------------------------------------------------------------------------
def asked(answer: Answer | None, method: str = "POST", **more: Any) -> net.Reply:
    """What an upstream with this one answer gives; None: nobody is at home."""

    async def run() -> net.Reply:
        async with Server({"/a": answer or b""}).running() as upstream, net.client(allowed_hosts=[]) as http:
            port = upstream.port if answer is not None else 9
            return await http.ask(method, f"http://127.0.0.1:{port}/a", **{"within_s": 5} | more)

    return asyncio.run(run())


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_an_upstream_is_asked_wherever_the_operator_put_it(method: str) -> None:
    got = asked(reply(b"no", status="402 Pay", Retry_After="7"), method)
    assert (got.status, got.body, got.headers["retry-after"]) == (402, b"no", "7")


def test_whether_a_request_can_have_arrived_is_told_apart() -> None:
    with pytest.raises(net.NotSent):
        asked(None)
    for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"SSH-2.0-OpenSSH_9\r\n", reply(b"half", length=9)):
        with pytest.raises(net.NoAnswer):
            asked(answer)


def test_a_name_that_is_not_known_was_not_asked(monkeypatch: Any) -> None:
    def unknown(host: str, port: int) -> list[str]:
        raise OSError("no such name")

    async def run() -> None:
        async with net.client(allowed_hosts=[]) as http:
            await http.ask("POST", "http://upstream.invalid/", within_s=5)

    monkeypatch.setattr(net, "resolve", unknown)
    with pytest.raises(net.NotSent):
        asyncio.run(run())


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(5)


def test_silence_ends_in_time_and_a_long_answer_is_not_kept() -> None:
    with pytest.raises(net.NoAnswer):
        asked(silence, within_s=0.2)
    assert asked(reply(b"x" * 11), limit_bytes=10).body == b""
    assert asked(reply(b"x" * 10), limit_bytes=10).body == b"x" * 10


def test_a_redirect_is_an_answer_and_not_followed() -> None:
    assert asked(redirect("http://127.0.0.1:9/")).status == 302


def test_four_hundred_at_once_are_fine() -> None:
    async def run() -> list[bytes]:
        async with Server({"/a": reply(b"x" * 1000)}).running(backlog=500) as upstream:
            place = f"127.0.0.1:{upstream.port}"
            async with net.client(allowed_hosts=[place]) as http:
                return await asyncio.gather(*(net.download(http, f"http://{place}/a") for _ in range(400)))

    assert asyncio.run(run()) == [b"x" * 1000] * 400
