"""The fake upstream keeps the contract, and breaks it only where it is told to."""

import io
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.fake_upstream import FakeUpstream


@pytest.fixture(scope="module")
def server() -> Iterator[FakeUpstream]:
    with FakeUpstream() as up:
        yield up


@pytest.fixture
def up(server: FakeUpstream) -> FakeUpstream:
    server.forget()
    server.behave(submit_s=0, poll_s=0, ready_s=0, rate_limit=0, errors_in_envelope=0, callbacks=0)
    return server


@pytest.fixture(scope="module")
def http(server: FakeUpstream) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {server.api_key}"}
    with httpx.Client(base_url=server.base_url, headers=headers, timeout=2) as client:
        yield client


def create(http: httpx.Client, prompt: str = "a fox", **more: Any) -> httpx.Response:
    inputs = {"prompt": prompt, **more.pop("input", {})}
    return http.post("/jobs/createTask", json={"model": "flux-2-pro-1k", "input": inputs, **more})


def look(http: httpx.Client, task_id: str) -> httpx.Response:
    return http.get("/jobs/recordInfo", params={"taskId": task_id})


def started(http: httpx.Client, prompt: str = "a fox", **more: Any) -> str:
    return create(http, prompt, **more).json()["data"]["taskId"]


def download(up: FakeUpstream, task_id: str) -> httpx.Response:
    return httpx.get(f"http://{up.host}/files/{task_id}.jpg")


def test_a_task_goes_from_waiting_to_a_picture(up: FakeUpstream, http: httpx.Client) -> None:
    up.behave(ready_s=0.3)
    task_id = started(http)
    assert look(http, task_id).json()["data"]["state"] == "waiting"
    time.sleep(0.2)
    assert look(http, task_id).json()["data"]["state"] == "generating"
    time.sleep(0.15)
    data = look(http, task_id).json()["data"]
    assert data["state"] == "success"
    assert json.loads(data["param"])["input"] == {"prompt": "a fox"}
    [url] = json.loads(data["resultJson"])["resultUrls"]
    picture = httpx.get(url)
    assert picture.headers["content-type"] == "image/jpeg"
    image = Image.open(io.BytesIO(picture.content))
    image.load()
    assert image.size == (1024, 1024)
    assert 200_000 < len(picture.content) < 310_000


def test_the_picture_has_the_size_that_was_asked_for_and_is_unlike_every_other(
    up: FakeUpstream, http: httpx.Client
) -> None:
    wide = download(up, started(http, input={"aspect_ratio": "16:9"})).content
    assert Image.open(io.BytesIO(wide)).size == (1360, 768)
    big = download(up, started(http, input={"resolution": "2K"})).content
    assert Image.open(io.BytesIO(big)).size == (2048, 2048)
    assert download(up, started(http)).content != download(up, started(http)).content


def test_a_wrong_key_is_refused_and_counted(up: FakeUpstream) -> None:
    reply = httpx.get(f"{up.base_url}/jobs/recordInfo", headers={"Authorization": "Bearer nonsense"})
    assert (reply.status_code, reply.json()["code"]) == (401, 401)
    assert up.stats()["unauthorized"] == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"model": "m", "input": "prompt"}',
        b'{"model": "m", "input": {"prompt": "ab"}}',
        b'{"model": "m", "input": {"prompt": "a fox", "aspect_ratio": "5:1"}}',
        b'{"model": 3, "input": {"prompt": "a fox"}}',
    ],
)
def test_an_order_that_breaks_the_contract_is_refused(
    up: FakeUpstream, http: httpx.Client, body: bytes
) -> None:
    assert http.post("/jobs/createTask", content=body).status_code == 422
    assert up.stats()["tasks"] == []


def test_errors_can_come_inside_http_200(up: FakeUpstream, http: httpx.Client) -> None:
    assert look(http, "nobody").status_code == 404
    up.behave(errors_in_envelope=1)
    reply = look(http, "nobody")
    assert (reply.status_code, reply.json()["code"]) == (200, 404)


def test_more_tasks_than_the_rate_limit_are_429(up: FakeUpstream, http: httpx.Client) -> None:
    up.behave(rate_limit=2)
    assert [create(http).status_code for _ in range(3)] == [200, 200, 429]
    assert len(up.stats()["tasks"]) == 2


def test_stats_tell_how_often_each_job_was_created(up: FakeUpstream, http: httpx.Client) -> None:
    first = started(http, callBackUrl="https://example.org/token-1")
    create(http, callBackUrl="https://example.org/token-1")
    create(http, "a hare")
    look(http, first)
    download(up, first)
    stats = up.stats()
    assert stats["started"] == {"https://example.org/token-1": 2, "a hare": 1}
    assert (stats["polls"], stats["downloads"]) == (1, 1)
    assert stats["tasks"][0]["prompt"] == "a fox"
    assert abs(stats["tasks"][0]["arrived"] - time.time()) < 5


def test_a_callback_comes_when_the_task_is_done(up: FakeUpstream, http: httpx.Client) -> None:
    got: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None:
            pass

    receiver = HTTPServer(("127.0.0.1", 0), Receiver)
    serving = threading.Thread(target=lambda: [receiver.handle_request() for _ in range(2)])
    serving.start()
    up.behave(callbacks=2)
    task_id = started(http, callBackUrl=f"http://127.0.0.1:{receiver.server_port}/hook/token")
    serving.join(timeout=5)
    receiver.server_close()
    assert [body["taskId"] for body in got] == [task_id, task_id]
    assert got[0]["data"]["state"] == "success"


def test_a_fault_strikes_only_its_prompt_and_only_so_often(up: FakeUpstream, http: httpx.Client) -> None:
    up.fault(where="create", kind="status", status=429, retry_after="7", prompt="fox", times=1)
    assert create(http, "a hare").status_code == 200
    refused = create(http, "a fox")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    assert create(http, "a fox").status_code == 200
    assert up.stats()["started"] == {"a hare": 1, "a fox": 1}
    assert up.stats()["calls"] == {"a hare": 1, "a fox": 2}


def test_a_fault_can_strike_a_fraction_of_the_tasks_and_keeps_to_them(
    up: FakeUpstream, http: httpx.Client
) -> None:
    up.fault(where="look", kind="fail", fraction=0.3)
    ids = [started(http) for _ in range(100)]
    states = [look(http, task_id).json()["data"]["state"] for task_id in ids]
    assert 15 <= states.count("fail") <= 45
    assert [look(http, task_id).json()["data"]["state"] for task_id in ids] == states


@pytest.mark.parametrize("runs", [True, False])
def test_a_lost_answer_may_or_may_not_have_started_the_task(
    up: FakeUpstream, http: httpx.Client, runs: bool
) -> None:
    up.fault(where="create", kind="reset", started=runs)
    with pytest.raises(httpx.TransportError):
        create(http)
    assert len(up.stats()["tasks"]) == runs
    assert up.stats()["calls"] == {"a fox": 1}


def test_answers_that_are_not_what_they_should_be(up: FakeUpstream, http: httpx.Client) -> None:
    task_id = started(http)

    def spoilt(kind: str, **more: Any) -> httpx.Response:
        up.clear()
        up.fault(where="look", kind=kind, **more)
        return look(http, task_id)

    assert spoilt("status", status=503).status_code == 503
    assert spoilt("envelope", code=501).json()["code"] == 501
    disguised = spoilt("disguised", status=500)
    assert (disguised.status_code, disguised.json()["data"]["state"]) == (500, "success")
    assert spoilt("html").text.startswith("<!doctype html>")
    assert spoilt("empty").content == b""
    assert b"\xff" in spoilt("garbage").content
    assert len({spoilt("wrong_types").text} | {look(http, task_id).text for _ in range(6)}) == 6
    assert spoilt("redirect", url="http://10.0.0.1/").headers["location"] == "http://10.0.0.1/"
    assert spoilt("unknown_state").json()["data"]["state"] == "pondering"
    assert spoilt("fail").json()["data"]["state"] == "fail"
    assert "sensitive" in spoilt("moderated").json()["data"]["failMsg"]
    assert json.loads(spoilt("no_url").json()["data"]["resultJson"])["resultUrls"] == []
    assert "http://[::1]/" in spoilt("url", url="http://[::1]/").text
    assert len(spoilt("huge", mb=3).content) > 3_000_000


@pytest.mark.parametrize("kind", ["silent", "never_ending", "slow_drip", "truncate"])
def test_answers_that_do_not_arrive(up: FakeUpstream, http: httpx.Client, kind: str) -> None:
    task_id = started(http)
    up.fault(where="look", kind=kind, seconds=0.01 if kind == "never_ending" else 5)
    begun, got = time.monotonic(), 0
    with (
        pytest.raises((httpx.TransportError, TimeoutError)),
        http.stream("GET", f"/jobs/recordInfo?taskId={task_id}") as reply,
    ):
        for piece in reply.iter_bytes():
            got += len(piece)
            if time.monotonic() - begun > 0.3 and got > 10_000:
                raise TimeoutError
    assert kind in ("silent", "slow_drip", "truncate") or got > 10_000


def test_pictures_can_be_spoilt(up: FakeUpstream, http: httpx.Client) -> None:
    def spoilt(kind: str) -> bytes:
        up.clear()
        up.fault(where="file", kind=kind)
        return download(up, started(http)).content

    for kind in ("corrupt_picture", "truncated_picture"):
        image = Image.open(io.BytesIO(spoilt(kind)))
        with pytest.raises(OSError):
            image.load()
    assert spoilt("wrong_type").startswith(b"<svg")
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(spoilt("bomb")))
    up.clear()
    up.fault(where="file", kind="gone")
    assert download(up, started(http)).status_code == 410


def test_magic_words_in_the_prompt_work_without_any_rule(up: FakeUpstream, http: httpx.Client) -> None:
    assert look(http, started(http, "a fox [[fail]]")).json()["data"]["state"] == "fail"
    assert look(http, started(http, "a fox [[slow]]")).json()["data"]["state"] == "waiting"
    assert create(http, "a fox [[rejected]]").json()["code"] == 422
    assert [create(http, "a fox [[busy]]").status_code for _ in range(3)] == [429, 429, 200]


def test_a_misspelt_fault_is_an_error_rather_than_no_fault(up: FakeUpstream) -> None:
    with pytest.raises(ValueError, match="no fault 'rest'"):
        up.fault(where="create", kind="rest")
    with pytest.raises(ValueError, match="unexpected keyword"):
        up.fault(where="create", kind="reset", strated=True)


def test_it_keeps_a_connection_for_many_requests(up: FakeUpstream) -> None:
    raw = urllib.request.urlopen(f"http://{up.host}/control/stats").read()
    assert json.loads(raw)["tasks"] == []
    with httpx.Client() as client:
        ports = {
            client.get(f"http://{up.host}/control/stats")
            .extensions["network_stream"]
            .get_extra_info("client_addr")
            for _ in range(5)
        }
    assert len(ports) == 1
