"""Bodies that come slowly, or never: whoever sends one keeps nobody else waiting."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from queue import Queue
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from accounts import keys, ledger
from accounts.models import ApiKey, User
from playground import turnstile
from playground.api import waiting
from playground.models import Job
from tests.calling import Api
from tests.making import give, load_catalogue

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

SHORT, LONG = 500, 500_000
BODY = json.dumps({"model": "flux-2/pro-text-to-image", "input": {"prompt": "a fox in the snow"}})


def test_whoever_came_first_goes_first() -> None:
    """Also before one who comes in the moment in which a turn is over."""
    turns, order = turnstile.Turns(1), []
    turns.acquire()

    def go(name: str) -> None:
        turns.acquire()
        order.append(name)
        turns.release()

    threads = [threading.Thread(target=go, args=(name,)) for name in "abc"]
    for number, thread in enumerate(threads):
        thread.start()
        while len(turns._waiting) <= number:
            time.sleep(0.001)
    turns.release()
    go("late")
    for thread in threads:
        thread.join()
    assert order == ["a", "b", "c", "late"]
    turns.acquire()  # and there is still one, and no more
    assert turns._free == 0


class Line:
    """A connection, for calls that no client would make."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self.host = place.netloc
        self.socket = socket.create_connection((place.hostname, place.port), timeout=10)

    def send(self, path: str, *headers: str, body: str = "") -> None:
        lines = [f"POST {path} HTTP/1.1", f"Host: {self.host}", "Connection: close", *headers]
        self.socket.sendall("\r\n".join([*lines, "", body]).encode())

    def hear(self) -> str:
        return b"".join(iter(lambda: self.socket.recv(65_536), b"")).decode()


@pytest.fixture
def lines(live_server: Any, settings: Any) -> Iterator[list[Line]]:
    """Three for each request that may be worked on at once."""
    with ExitStack() as open_ones:
        made = [Line(live_server.url) for _ in range(3 * settings.WEB_THREADS)]
        for line in made:
            open_ones.enter_context(line.socket)
        yield made


def test_signals_are_heard_for_as_long_as_the_process_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python goes on writing to that number: a socket closed after the first would leave it to somebody's file."""
    ends: Queue[int] = Queue()
    monkeypatch.setattr(waiting, "_watch", SimpleNamespace(end=lambda: ends.put(1)))
    hears, told = socket.socketpair()
    threading.Thread(target=waiting._hear, args=(hears, told), daemon=True).start()
    with told:
        told.send(bytes([signal.SIGCHLD]))
        for number in (signal.SIGTERM, signal.SIGINT):
            told.send(bytes([number]))
            assert ends.get(timeout=20)
    assert ends.empty()


@pytest.mark.parametrize("length", [SHORT, LONG])
def test_bodies_that_stop_half_way_stop_nobody(lines: list[Line], live_server: Any, length: int) -> None:
    form = "multipart/form-data; boundary=x"
    for line in lines:
        line.send("/hooks/nobody/", f"Content-Type: {form}", f"Content-Length: {length}", body="--x\r\n")
    assert httpx.get(f"{live_server.url}/docs/errors/", timeout=5).status_code == 200


def test_callers_with_a_key_stop_nobody_either(lines: list[Line], live_server: Any, alice: User) -> None:
    key = Api(alice).text
    for line in lines:
        line.send(
            "/api/v1/jobs/createTask", f"Authorization: Bearer {key}", f"Content-Length: {LONG}", body="{"
        )
    assert httpx.get(f"{live_server.url}/docs/errors/", timeout=5).status_code == 200


def test_whether_we_are_well_is_told_before_all_who_wait(live_server: Any, settings: Any) -> None:
    with ExitStack() as held:
        for _ in range(settings.WEB_THREADS):
            turnstile._turns.acquire()
            held.callback(turnstile._turns.release)
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{live_server.url}/docs/errors/", timeout=0.5)
        assert httpx.get(f"{live_server.url}/healthz", timeout=5).text.startswith("ok")


def test_a_body_in_two_pieces_is_read_whole(lines: list[Line], alice: User) -> None:
    load_catalogue()
    give(alice)
    line, padding = lines[0], " " * 100_000
    said = f"Content-Length: {len(BODY + padding)}"
    line.send("/api/v1/jobs/createTask", f"Authorization: Bearer {Api(alice).text}", said, body=BODY[:20])
    line.socket.sendall((BODY[20:] + padding).encode())
    assert '"code": 200' in line.hear()


def test_a_key_that_is_revoked_while_the_body_comes_orders_nothing(lines: list[Line], alice: User) -> None:
    load_catalogue()
    give(alice)
    api, line, padding = Api(alice), lines[0], " " * 100_000
    said = f"Content-Length: {len(BODY + padding)}"
    line.send("/api/v1/jobs/createTask", f"Authorization: Bearer {api.text}", said, body=BODY[:20])
    while ApiKey.objects.get().last_used is None:  # until it has come in
        time.sleep(0.01)
    assert api.key and keys.revoke(api.key)
    line.socket.sendall((BODY[20:] + padding).encode())
    assert " 401 " in line.hear().partition("\r\n")[0]
    assert not Job.objects.exists() and ledger.wallet_of(alice).held == 0


@pytest.mark.parametrize("length", [len(BODY) + 1, LONG])
def test_a_body_that_breaks_off_is_no_call(lines: list[Line], alice: User, length: int) -> None:
    """Even where what came of it could be read as one."""
    load_catalogue()
    give(alice)
    line = lines[0]
    line.send(
        "/api/v1/jobs/createTask",
        f"Authorization: Bearer {Api(alice).text}",
        f"Content-Length: {length}",
        body=BODY,
    )
    line.socket.shutdown(socket.SHUT_WR)
    assert " 400 " in line.hear().partition("\r\n")[0]
