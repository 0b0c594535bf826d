"""Hostile addresses as results: none leads inside, none crashes anything, and none is repeated to anybody.

Those in the file, or in the files of the folder, that the environment variable HOSTILE_URLS names are fed too, one a line.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from accounts import ledger
from accounts.models import User
from playground import drives, internet, jobs, net, upkeep
from playground.models import Job, Picture
from tests.driving import drive_until_final, stored
from tests.fake_upstream import FakeUpstream
from tests.making import USD, give, run_for
from tests.test_net import PRIVATE

INSIDE_HOSTS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "0",
    "0.0.0.0",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "017700000001",
    "0177.0.0.1",
    "0177.0.1",
    "127.0.0.1.",
    "127.000.000.001",
    "4294967297",
    "0x17f000001",
    "1.0x7f000001",
    "2852039166",
    "0xa9fea9fe",
    "0251.0376.0251.0376",
    "169.254.43518",
    "3232235521",
    "0xc0.0xa8.0.1",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "localhost.localdomain",
    "ip6-localhost",
    "localtest.me",
    "127.0.0.1.nip.io",
    "10.0.0.1.sslip.io",
    "metadata",
    "metadata.google.internal",
    "instance-data.ec2.internal",
    "kubernetes.default.svc",
    "host.docker.internal",
    "[::]",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::ffff:a9fe:a9fe]",
    "[0:0:0:0:0:ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b::a9fe:a9fe]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::1]",
    "[2001::1]",
    "[fe80::1%25lo]",
    "[fe80::1%25eth0]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[ff02::1]",
    "[::ffff:0:127.0.0.1]",
    "[100::1]",
    "[fec0::1]",
    "１２７.０.０.１",
    "127。0。0。1",
    "①②⑦.⓪.⓪.①",
    "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
    "ｌｏｃａｌｈｏｓｔ",
    "loc\xadalhost",
    "127.0.0.1\u200b",
    "user@127.0.0.1",
    "example.org@127.0.0.1",
    "127.0.0.1%2eexample.org",
    "127.0.0.1%00.example.org",
    "%31%32%37.0.0.1",
    "127.0.0.1%09",
]
ODD = [
    "http://127.0.0.1:PORT#@example.org/", "http://example.org#@127.0.0.1:PORT/", "http://example.org?@127.0.0.1:PORT/",
    "http://127.0.0.1:PORT\\@example.org/", "http://example.org\\@127.0.0.1:PORT/", "http:\\\\127.0.0.1:PORT\\",
    "http:///127.0.0.1:PORT/", "http:127.0.0.1:PORT/", "http:/127.0.0.1:PORT/", "//127.0.0.1:PORT/", "127.0.0.1:PORT",
    "http://127.0.0.1:PORT:80/", "http://127.0.0.1:0/", "http://127.0.0.1:65536/", "http://127.0.0.1:-1/", "http://127.0.0.1:８０/",
    "http://127.0.0.1:22/", "http://127.0.0.1:25/", "http://127.0.0.1:6379/", "https://127.0.0.1:PORT/", "http://0:6379/",
    "http://[127.0.0.1]:PORT/", "http://[::1/", "http://::1:PORT/", "http://[::1]]/", "http://[v1.127.0.0.1]:PORT/", "http://[]/",
    "http://\t127.0.0.1:PORT/", "http://127.0.0.1\t:PORT/", "ht\ntp://127.0.0.1:PORT/", "http://127.0.0.1:PORT/\r\nHost: x\r\n\r\n",
    "http://127.0.0.1:PORT/ HTTP/1.1\r\nX: y", " http://127.0.0.1:PORT/", "http://127.0.0.1:PORT/\x00", "\ufeffhttp://127.0.0.1:PORT/",
    "file:///etc/passwd", "FILE:///etc/passwd", "file://127.0.0.1/etc/passwd", "netdoc:///etc/passwd", "jar:http://127.0.0.1!/",
    "gopher://127.0.0.1:PORT/_x", "dict://127.0.0.1:6379/info", "ldap://127.0.0.1/", "ftp://127.0.0.1/", "sftp://127.0.0.1/",
    "ws://127.0.0.1:PORT/", "unix:/var/run/docker.sock", "http+unix://%2Fvar%2Frun%2Fdocker.sock/info", "data:image/png;base64,AAAA",
    "javascript:alert(1)", "blob:http://127.0.0.1/x", "about:blank", "view-source:http://127.0.0.1/", "delivered:somebody-elses",
    "sandbox:x", "http://", "http://.", "http://..", "http://-", "http://%", "http://[", "http://]", "http://@", "http://:80", "?", "",
    "http://" + "a" * 64 + ".org/", "http://" + "a." * 130 + "org/", "http://" + "9" * 5000 + "/", "http://127.0.0.1:PORT/" + "a" * 100_000,
    "http://\ud800/", "http://xn--/", "http://xn--\u2603.org/", "http://\u202e127.0.0.1:PORT/", "http://ex\u2044ample.org/",
]  # fmt: skip
CANARY = "canary"


def given() -> list[str]:
    """Of whoever has a better collection."""
    place = os.environ.get("HOSTILE_URLS", "")
    files = (
        sorted(path for path in Path(place).rglob("*") if path.is_file())
        if place and Path(place).is_dir()
        else [Path(place)]
    )
    lines = [
        line for file in files if place for line in file.read_text(errors="surrogateescape").splitlines()
    ]
    return [line for line in lines if line.strip()]


def hostile(port: int) -> list[str]:
    hosts = [*INSIDE_HOSTS, *(f"[{address}]" if ":" in address else address for address in PRIVATE.split())]
    inside = [f"http://{host}:{port}/{CANARY}?sig={CANARY}" for host in hosts]
    tls = [f"https://{host}/{CANARY}?sig={CANARY}" for host in hosts[::5]]
    return [*inside, *tls, *(url.replace("PORT", str(port)) for url in ODD), *given()]


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Every place for which a socket is made. Nobody outside is reached, and a name that is looked up leads inside."""
    places: list[tuple[Any, ...]] = []
    start_connection = aiohttp.connector.aiohappyeyeballs.start_connection

    async def connect(addr_infos: list[Any], socket_factory: Any = None, **more: Any) -> Any:
        def recorded(info: Any) -> socket.socket:
            made = socket_factory(info) if socket_factory else socket.socket(*info[:3])
            places.append(info[4])
            if internet.is_public(info[4][0]):
                made.close()
                raise OSError("no network in this test")
            return made

        return await start_connection(addr_infos, socket_factory=recorded, **more)

    monkeypatch.setattr(net, "resolve", lambda host, port: ["127.0.0.1"])
    monkeypatch.setattr(aiohttp.connector.aiohappyeyeballs, "start_connection", connect)
    return places


# --- To the client ------------------------------------------------------------------------------------
async def told_of(urls: list[str]) -> dict[str, BaseException | bytes]:
    """What comes of each."""
    async with net.client(allowed_hosts=[]) as http:
        return {url: await one(http, url) for url in urls}


async def one(http: net.Client, url: str) -> BaseException | bytes:
    try:
        return await net.download(http, url, total_s=2, limit_bytes=1000)
    except Exception as error:
        return error


def test_none_is_gone_to_and_each_is_answered_in_plain_words(dialled: list[Any], caplog: Any) -> None:
    caplog.set_level(logging.DEBUG)
    begun = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        urls = hostile(listening.getsockname()[1])
        answers = asyncio.run(told_of(urls))
        listening.settimeout(0)
        with pytest.raises(BlockingIOError):
            listening.accept()
    assert len(urls) > 200 and time.monotonic() - begun < 30
    wrong = {url: repr(answer) for url, answer in answers.items() if not isinstance(answer, net.NetError)}
    assert wrong == {}
    assert [place for place in dialled if not internet.is_public(place[0])] == []
    for url, answer in answers.items():
        assert CANARY not in f"{answer!s}" and len(str(answer)) < 250 and str(answer).isprintable(), url
    assert CANARY not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("playground")
    )


def test_a_redirect_to_one_is_no_way_in_either(dialled: list[Any]) -> None:
    for url in hostile(8000):
        try:
            target = net._redirected(URL("https://pictures.example/a"), url)
        except net.NetError as refused:
            assert CANARY not in str(refused)
        else:
            assert target.scheme == "https", url  # and is judged as every other address is


# --- Through the engine -------------------------------------------------------------------------------
@pytest.fixture
def up(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUpstream]:
    with FakeUpstream(ready_s=0.0, picture_kb=20) as up:
        settings.AIGENERATE_API_KEY, settings.AIGENERATE_BASE_URL = up.api_key, up.base_url
        settings.NET_ALLOWED_HOSTS = [up.host]
        settings.JOB_DEADLINE_S = 20
        monkeypatch.setattr(drives, "BEAT_S", 0.05)
        yield up


@pytest.mark.once
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("where", ["look", "file"])
def test_a_job_with_such_a_result_fails_and_costs_alice_nothing(
    where: str, up: FakeUpstream, alice: User, dialled: list[Any], caplog: Any
) -> None:
    """As the address of the result, and as the place to which the upstream's own host redirects."""
    give(alice, 100)
    kind = {"look": "url", "file": "redirect"}[where]
    for number, url in enumerate(sendable(up)):
        up.fault(where=where, kind=kind, url=url, prompt=f"<{number}>")
        run_for(alice, prompt=f"a fox <{number}>")
    asked = Job.objects.count()
    drive_until_final(60, then=lambda: run_for(alice, prompt="a fox at the end"))
    ends = dict(Job.objects.exclude(run__prompt="a fox at the end").values_list("run__prompt", "state"))
    assert set(ends.values()) == {"failed"} and len(ends) == asked > 60
    assert set(Job.objects.filter(state="failed").values_list("failure", flat=True)) <= {
        "bad_picture",
        "no_picture",
    }
    assert Job.objects.get(run__prompt="a fox at the end").state == "succeeded"
    assert (Picture.objects.count(), len(stored())) == (1, 1)
    assert ledger.wallet_of(alice).available == 100 * USD - 35_000 and upkeep.audit() == []
    assert {f"{place[0]}:{place[1]}" for place in dialled if not internet.is_public(place[0])} == {up.host}
    for job in Job.objects.filter(state="failed"):
        assert CANARY not in job.failure_detail and CANARY not in jobs.why(job)
    assert CANARY not in "".join(
        record.getMessage() for record in caplog.records if record.name.startswith("playground")
    )


def sendable(up: FakeUpstream) -> list[str]:
    """Every third: the jobs are many. Not the lying server's own, exempted address, nor what a header cannot hold."""
    own = f"//{up.host}/"
    urls = hostile(int(up.host.partition(":")[2]))[::3]
    return [
        url
        for url in urls
        if url and own not in url and url.isascii() and url.isprintable() and len(url) < 3000
    ]
