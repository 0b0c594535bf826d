"""Messages on the wire: what they say, how they are signed, where they go, and whom a dead address keeps waiting."""

import asyncio
import base64
import hashlib
import hmac
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.utils import timezone
from standardwebhooks import Webhook, WebhookVerificationError

from accounts.models import User
from playground import callbacks, deliveries, drives, endpoints, net, outbox, posting
from playground.models import Delivery, DeliveryAttempt, Job, WebhookEndpoint
from tests.driving import drive_until_final
from tests.making import give
from tests.receiving import Receiver, api_job, ended, endpoint_of, reply, send, silence, succeeded

pytestmark = pytest.mark.django_db(transaction=True)

ROOT = Path(__file__).resolve().parents[1]
SECRET = "whsec_" + "A" * 43 + "="


@pytest.fixture
def there(settings: Any) -> Iterator[Receiver]:
    """A customer's server, which the operator has exempted."""
    with Receiver(
        gone=reply(status="410 Gone"),
        moved=reply(status="301 Moved Permanently", Location="/hook"),
        busy=reply(b"later", status="503 Service Unavailable", Retry_After="900"),
        long=reply(b"x" * 5_000_000),
        binary=reply(b"\x00\xff\x1b[31mred\n"),
        dead=silence,
        loris=slowly,
    ) as receiver:
        settings.NET_ALLOWED_HOSTS = [receiver.host]
        settings.BASE_URL = "https://flux.example.com"
        yield receiver


async def slowly(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
    while True:
        writer.write(b"z")
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.fixture
def rich(alice: User) -> User:
    give(alice)
    return alice


def tried() -> DeliveryAttempt:
    return DeliveryAttempt.objects.get()


# --- What they say ------------------------------------------------------------------------------------
def test_a_success_is_told_as_recordinfo_tells_it(there: Receiver, rich: User) -> None:
    job = succeeded(rich, there.url())
    send()
    [message] = there.seen
    said, data = message.json, message.json["data"]
    assert (said["code"], said["msg"], said["taskId"]) == (200, "success", str(job.pk))
    assert data["taskId"] == data["task_id"] == said["taskId"] and data["callbackType"] == "task_completed"
    assert data["state"] == "success" and data["creditsCharged"] == 5
    [address] = json.loads(data["resultJson"])["resultUrls"]
    assert address.startswith("https://flux.example.com/r/")
    assert message.headers["content-type"] == "application/json" and message.path == "/hook"
    made, attempt = Delivery.objects.get(), tried()
    assert made.state == "delivered" and message.headers["webhook-id"] == str(made.pk)
    assert (attempt.status, attempt.answer) == (200, "ok") and attempt.milliseconds < 5_000


def test_a_failure_is_told_too(there: Receiver, rich: User) -> None:
    ended(rich, there.url())
    send()
    said = there.seen[0].json
    assert (said["code"], said["data"]["state"], said["data"]["failCode"]) == (501, "fail", "400")
    assert said["msg"] == said["data"]["failMsg"] != "" and said["data"]["callbackType"] == "task_failed"


def test_results_are_at_the_address_where_the_server_answers(
    rich: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nobody has said under which name the world reaches us."""
    settings.BASE_URL = ""
    monkeypatch.setenv("FLUX_AT", "http://127.0.0.1:8123")
    told = callbacks.told(succeeded(rich, "https://there.example/hook"))
    [url] = json.loads(told["data"]["resultJson"])["resultUrls"]
    assert url.startswith("http://127.0.0.1:8123/r/")


def test_a_call_of_the_kontext_route_is_told_in_its_own_shape(there: Receiver, rich: User) -> None:
    asked = {"_route": "kontext", "inputImage": "https://in.example/1.png"}
    succeeded(rich, there.url(), **asked)
    ended(rich, there.url(), **asked)
    send()
    good, bad = sorted((message.json for message in there.seen), key=lambda said: said["code"])
    assert good["data"]["info"]["originImageUrl"] == "https://in.example/1.png"
    assert good["data"]["info"]["resultImageUrl"].startswith("https://flux.example.com/r/")
    assert (good["code"], bad["code"], bad["data"]["info"]["resultImageUrl"]) == (200, 400, "")
    assert good["taskId"] == good["data"]["taskId"] == good["data"]["task_id"]


def test_a_test_says_that_it_is_one(there: Receiver, rich: User) -> None:
    outbox.send_test(endpoint_of(rich, there.url()))
    send()
    said = there.seen[0].json
    assert said["data"]["callbackType"] == "test" and said["taskId"].startswith("test_")
    Webhook(SECRET).verify(there.seen[0].body, there.seen[0].headers)


# --- How they are signed ------------------------------------------------------------------------------
def older(secret: str, task_id: str, timestamp: str) -> str:
    """As a client of the older signature computes it."""
    covered = (task_id + "." + timestamp).encode()
    return base64.b64encode(hmac.new(secret.encode(), covered, hashlib.sha256).digest()).decode()


def test_both_signatures_hold(there: Receiver, rich: User) -> None:
    job = ended(rich, there.url())
    secret = WebhookEndpoint.objects.get(user=rich, url="").secret
    send()
    [message] = there.seen
    assert Webhook(secret).verify(message.body, message.headers) == message.json
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(message.body + b" ", message.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoints.new_secret()).verify(message.body, message.headers)
    timestamp = message.headers["x-webhook-timestamp"]
    assert message.headers["x-webhook-signature"] == older(secret, str(job.pk), timestamp)
    assert abs(int(timestamp) - time.time()) < 10 and timestamp == message.headers["webhook-timestamp"]


def test_while_a_secret_rotates_either_one_verifies(there: Receiver, rich: User) -> None:
    endpoint = endpoint_of(rich, there.url())
    endpoints.rotate(endpoint)
    endpoint.refresh_from_db()
    job = ended(rich)
    send()
    [message] = there.seen
    for secret in (SECRET, endpoint.secret):
        Webhook(secret).verify(message.body, message.headers)
    new = older(endpoint.secret, str(job.pk), message.headers["x-webhook-timestamp"])
    assert message.headers["x-webhook-signature"] == new


# --- What is answered ---------------------------------------------------------------------------------
def test_a_retry_has_the_same_id_and_a_fresh_time_and_links(there: Receiver, rich: User) -> None:
    there.answers["/hook"] = reply(status="500 Internal Server Error")
    succeeded(rich, there.url())
    send()
    there.answers["/hook"] = reply()
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        send()
    first, second = there.seen
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.headers["webhook-timestamp"] < second.headers["webhook-timestamp"]
    assert first.json["data"]["resultJson"] != second.json["data"]["resultJson"]
    assert list(DeliveryAttempt.objects.values_list("status", flat=True)) == [500, 200]


def test_a_test_key_can_have_the_first_try_fail(there: Receiver, rich: User) -> None:
    job = succeeded(rich, there.url())
    Job.objects.filter(pk=job.pk).update(is_test=True, asked={"_outcome": "webhook_failure"})
    send()
    assert tried().status is None and "test key" in tried().problem and not there.seen
    with time_machine.travel(timezone.now() + timedelta(minutes=1)):
        send()
    assert len(there.seen) == 1


def test_a_redirect_is_a_failure_and_is_not_followed(there: Receiver, rich: User) -> None:
    ended(rich, there.url("moved"))
    send()
    assert [message.path for message in there.seen] == ["/moved"]
    assert tried().status == 301 and Delivery.objects.get().state == "waiting"


def test_410_disables(there: Receiver, rich: User) -> None:
    endpoint = endpoint_of(rich, there.url("gone"))
    ended(rich)
    send()
    endpoint.refresh_from_db()
    assert not endpoint.is_on and Delivery.objects.get().state == "failed"


def test_retry_after_is_heard(there: Receiver, rich: User) -> None:
    ended(rich, there.url("busy"))
    send()
    assert Delivery.objects.get().next_try > timezone.now() + timedelta(minutes=14)
    assert tried().answer == "later"


@pytest.mark.parametrize(("path", "kept"), [("long", "x" * 1024), ("binary", "·\ufffd·[31mred\n")])
def test_of_an_answer_the_first_kilobyte_is_kept_as_text(
    there: Receiver, rich: User, path: str, kept: str
) -> None:
    ended(rich, there.url(path))
    send()
    assert tried().answer == kept and Delivery.objects.get().state == "delivered"


def test_a_body_that_drips_counts_by_its_status_and_ends_in_time(
    there: Receiver, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "TIMEOUT_S", 0.4)
    ended(rich, there.url("loris"))
    send()
    attempt = tried()
    assert attempt.status == 200 and set(attempt.answer) == {"z"} and 300 < attempt.milliseconds < 2_000
    assert Delivery.objects.get().state == "delivered"


def test_no_answer_is_a_failure_in_plain_words(
    there: Receiver, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "TIMEOUT_S", 0.3)
    ended(rich, there.url("dead"))
    send()
    assert tried().status is None and tried().problem == "127.0.0.1: no answer within 0.3 s"


def test_an_answer_that_is_not_http_is_told_apart_from_none(there: Receiver, rich: User) -> None:
    there.answers |= {"/nonsense": b"\x00\x01 hello\r\n\r\n", "/head": reply(X=64 * 1024 * "y")}
    ended(rich, there.url("nonsense"))
    ended(rich, there.url("head"))
    send()
    said = set(DeliveryAttempt.objects.values_list("status", "problem"))
    assert said == {(None, "127.0.0.1: its answer is not HTTP, or has too long a head")}


def test_a_message_that_cannot_be_made_is_tried_again_and_keeps_nobody_waiting(
    there: Receiver, rich: User, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    broken, well = ended(rich, there.url("one")), ended(rich, there.url("two"))
    told = callbacks.told
    monkeypatch.setattr(callbacks, "told", lambda job: 1 / 0 if job.pk == broken.pk else told(job))
    send()
    assert [message.json["taskId"] for message in there.seen] == [str(well.pk)]
    assert Delivery.objects.get(job=broken).attempts == 1 and "mistake" in str(tried_of(broken).problem)


def tried_of(job: Job) -> DeliveryAttempt:
    return DeliveryAttempt.objects.get(delivery__job=job)


# --- Where they go ------------------------------------------------------------------------------------
INSIDE = [
    "https://127.0.0.1/x",
    "https://169.254.169.254/latest",
    "https://[::1]/",
    "https://10.0.0.8:8443/",
    "https://0x7f.1/",
]


@pytest.mark.parametrize("url", [*INSIDE, "http://example.com/", "https://example.com:25/"])
def test_what_leads_inside_is_not_gone_to(
    rich: User, url: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it got into the row: the check at the time of saving is not the one that counts."""
    settings.NET_ALLOWED_HOSTS = []
    monkeypatch.setattr(asyncio.BaseEventLoop, "sock_connect", None)
    ended(rich, url)
    send()
    assert tried().status is None and ("refused" in tried().problem or "https" in tried().problem)


def test_a_name_that_leads_inside_is_not_gone_to_even_if_it_led_outside_before(
    there: Receiver, rich: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([["93.184.215.14"], ["127.0.0.1"]])
    monkeypatch.setattr(net, "resolve", lambda host, port: next(answers))
    url = f"https://rebinding.example.com:{there.port}/"
    assert posting.check_lookup(url, []) == ""
    ended(rich, url)
    send()
    assert there.seen == [] and "not a public address" in tried().problem


def test_a_redirect_to_the_inside_leads_nowhere(there: Receiver, rich: User) -> None:
    with Receiver() as inside:
        there.answers["/hook"] = reply(status="307 Temporary Redirect", Location=inside.url())
        ended(rich, there.url())
        send()
        assert inside.seen == [] and len(there.seen) == 1


# --- Who waits for whom -------------------------------------------------------------------------------
def test_dead_addresses_keep_nobody_else_waiting(
    there: Receiver, rich: User, bob: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixty messages to dead hosts are due before one to a host that is well."""
    monkeypatch.setattr(deliveries, "TIMEOUT_S", 1.5)
    monkeypatch.setattr(deliveries, "AT_ONCE", 20)
    monkeypatch.setattr(deliveries, "SLOW_AT_ONCE", 10)
    since = timezone.now() - timedelta(hours=1)
    for number in range(60):
        url = there.url("dead")
        dead = endpoint_of(rich, url + f"?{number}", failing_since=since)
        lane = f"{rich.pk}:dead{number}"
        Delivery.objects.create(user=rich, endpoint=dead, url=url, event="test", lane=lane, next_try=since)
    made = outbox.send_test(endpoint_of(bob, there.url("well")))
    assert made
    send(until=lambda: Delivery.objects.filter(pk=made.pk, state="delivered").exists(), seconds=8)
    [well] = there.at("well")
    assert sum(dead.at < well.at for dead in there.seen) <= 10, "each host's one turn, of the slow ones' ten"


def test_a_host_that_is_well_gets_its_messages_one_after_another_and_soon(
    there: Receiver, rich: User
) -> None:
    endpoint = endpoint_of(rich, there.url())
    lane = outbox.lane(rich.pk, endpoint.url)
    rows = [
        Delivery(user=rich, endpoint=endpoint, url=endpoint.url, event="test", lane=lane) for _ in range(30)
    ]
    made = Delivery.objects.bulk_create(rows)
    begun = time.monotonic()
    send()
    assert {message.headers["webhook-id"] for message in there.seen} == {
        str(delivery.pk) for delivery in made
    }
    assert len(there.seen) == 30 and time.monotonic() - begun < 6


# --- With the drive -----------------------------------------------------------------------------------
def test_a_drive_tells_at_once_and_goes_on_where_telling_fails(
    there: Receiver, rich: User, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.SANDBOX_DELAY_S = 0.0
    monkeypatch.setattr(drives, "BEAT_S", 0.05)
    job = api_job(rich, there.url())
    drive_until_final(then=lambda: time.sleep(1))
    job.refresh_from_db()
    assert job.state == "succeeded"
    [message] = there.seen
    delay = Delivery.objects.get().tries.get().at - job.finished
    assert message.json["data"]["state"] == "success" and delay < timedelta(seconds=0.9)


def test_jobs_go_on_where_no_message_can_be_sent(
    rich: User, settings: Any, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    settings.SANDBOX_DELAY_S = 0.0
    monkeypatch.setattr(drives, "BEAT_S", 0.05)
    monkeypatch.setattr(outbox, "claim", lambda room: 1 / 0)
    job = api_job(rich, "https://hooks.example.com/")
    drive_until_final()
    job.refresh_from_db()
    assert job.state == "succeeded" and Delivery.objects.get().state == "waiting"


# --- A process that dies ------------------------------------------------------------------------------
SENDER = """
import django; django.setup()
from tests.receiving import send
send(60)
"""


@pytest.mark.kills
def test_killed_between_sending_and_booking_it_is_sent_again(
    there: Receiver, rich: User, process_env: dict[str, str]
) -> None:
    arrived, killed = threading.Event(), threading.Event()

    async def answer_after_the_kill(writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.to_thread(killed.wait, 20)
        writer.write(reply())

    there.answers["/hook"] = answer_after_the_kill
    ended(rich, there.url())
    env = process_env | {"NET_ALLOWED_HOSTS": there.host}
    sender = subprocess.Popen([sys.executable, "-c", SENDER], cwd=ROOT, env=env)
    try:
        assert arrived.wait(20)
    finally:
        sender.send_signal(signal.SIGKILL)
        sender.wait()
        killed.set()
    made = Delivery.objects.get()
    assert made.state == "waiting" and made.lease_until and not made.tries.exists()
    there.answers["/hook"] = reply()
    send(1)
    assert len(there.seen) == 1, "the lease of the dead one holds"
    Delivery.objects.update(next_try=timezone.now())  # it has run out
    send(until=lambda: Delivery.objects.filter(state="delivered").exists())
    first, second = there.seen
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == str(made.pk)
    assert first.json["taskId"] == second.json["taskId"]
