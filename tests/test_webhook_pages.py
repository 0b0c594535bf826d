"""The pages of webhooks: what their owner can do there, and that nobody else can."""

import re
import threading
import uuid
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from playground import endpoints, net, outbox, posting
from playground.models import Delivery, DeliveryAttempt, WebhookEndpoint
from tests.receiving import endpoint_of

pytestmark = pytest.mark.django_db

URL = "https://hooks.example.com/flux"
PAGE = "/settings/webhooks/"
SENT = f"{PAGE}deliveries/"


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "resolve", lambda host, port: ["93.184.215.14"])


@pytest.fixture
def hers(alice: User) -> Client:
    return logged_in(alice)


@pytest.fixture
def his(bob: User) -> Client:
    return logged_in(bob)


@pytest.fixture
def endpoint(alice: User) -> WebhookEndpoint:
    return endpoint_of(alice, URL, note="orders")


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def text(response: Any) -> str:
    return str(response.content.decode())


def do(client: Client, endpoint: WebhookEndpoint, deed: str, **data: str) -> Any:
    return client.post(f"{PAGE}{endpoint.pk}/{deed}/", data, follow=True)


def delivery(endpoint: WebhookEndpoint, **changes: Any) -> Delivery:
    made: dict[str, Any] = {"user": endpoint.user, "endpoint": endpoint, "url": endpoint.url, "event": "x"}
    return Delivery.objects.create(**made | changes)


def failed(endpoint: WebhookEndpoint, **changes: Any) -> Delivery:
    return delivery(endpoint, state="failed", ended=timezone.now(), gave_up="10 attempts failed.", **changes)


# --- Endpoints ----------------------------------------------------------------------------------------
def test_she_adds_an_endpoint(hers: Client, alice: User) -> None:
    answer = hers.post(PAGE, {"url": URL, "note": "orders"})
    made = WebhookEndpoint.objects.get(user=alice)
    assert answer.status_code == 303 and answer["Location"] == f"{PAGE}{made.pk}/"
    assert (made.url, made.note, made.is_on) == (URL, "orders", True) and made.secret.startswith("whsec_")
    assert URL in text(hers.get(PAGE))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "required"),
        ("hooks.example.com", "whole web address"),
        ("https://user:pass@example.com/", "user name"),
        ("http://example.com/", "https://"),
        ("https://127.0.0.1/", "public"),
        ("https://127.1/", "public"),
        ("https://[::1]/", "public"),
        ("https://169.254.169.254/latest", "public"),
        ("https://localhost/", "public"),
        ("https://db.internal/", "public"),
        ("https://example.com:25/", "another protocol"),
        ("https://example.com/" + "a" * 2_000, "at most"),
        ("javascript:alert(1)", "whole web address"),
    ],
)
def test_an_address_that_cannot_be_is_said_so(hers: Client, url: str, why: str) -> None:
    answer = hers.post(PAGE, {"url": url})
    assert answer.status_code == 422 and why in text(answer)
    assert not WebhookEndpoint.objects.exists()


def test_a_name_is_looked_up_when_it_is_saved(hers: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "resolve", lambda host, port: ["93.184.215.14", "10.0.0.7"])
    assert "private address" in text(hers.post(PAGE, {"url": URL}))

    def unknown(host: str, port: int) -> list[str]:
        raise OSError

    monkeypatch.setattr(net, "resolve", unknown)
    assert "no host of this name" in text(hers.post(PAGE, {"url": URL}))


def test_slow_name_servers_leave_no_queue_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes after them waits for those that are being asked at most, and not for all that gave up."""
    released, asked = threading.Event(), []

    def slow(host: str, port: int) -> list[str]:
        asked.append(host)
        released.wait(10)
        return ["93.184.215.14"]

    monkeypatch.setattr(net, "resolve", slow)
    monkeypatch.setattr(posting, "LOOKUP_S", 0.02)
    said = [posting.check_lookup(f"https://slow{number}.example.com/", []) for number in range(8)]
    released.set()
    monkeypatch.setattr(posting, "LOOKUP_S", 10)
    assert posting.check_lookup("https://well.example.com/", []) == "" and all(
        "in time" in why for why in said
    )
    assert len(asked) == 5


def test_what_the_operator_exempted_may_be_anything(hers: Client, settings: Any) -> None:
    settings.NET_ALLOWED_HOSTS = ["127.0.0.1:9000"]
    assert posting.check_url("http://127.0.0.1:9000/x", settings.NET_ALLOWED_HOSTS) == ""
    assert posting.check_url("http://127.0.0.1:9001/x", settings.NET_ALLOWED_HOSTS) != ""
    assert hers.post(PAGE, {"url": "http://127.0.0.1:9000/x"}).status_code == 303


def test_ten_are_the_most_and_each_address_is_there_once(hers: Client, alice: User) -> None:
    for number in range(10):
        endpoint_of(alice, f"https://{number}.example.com/")
    assert "which is the most" in text(hers.post(PAGE, {"url": URL}))
    assert not WebhookEndpoint.objects.filter(url=URL).exists()
    endpoints_left = WebhookEndpoint.objects.filter(url="https://0.example.com/")
    endpoints_left.update(removed=timezone.now())
    assert "already" in text(hers.post(PAGE, {"url": "https://1.example.com/"}))
    assert hers.post(PAGE, {"url": URL}).status_code == 303


def test_the_secret_is_shown_when_it_is_asked_for(hers: Client, endpoint: WebhookEndpoint) -> None:
    assert endpoint.secret not in text(hers.get(PAGE)) + text(hers.get(f"{PAGE}{endpoint.pk}/"))
    answer = hers.post(f"{PAGE}{endpoint.pk}/secret/")
    assert endpoint.secret in text(answer) and "no-store" in answer["Cache-Control"]
    assert hers.get(f"{PAGE}{endpoint.pk}/secret/").status_code == 405


def test_rotating_shows_that_both_sign_and_a_double_click_rotates_once(
    hers: Client, endpoint: WebhookEndpoint
) -> None:
    old = endpoint.secret
    assert "both" not in text(hers.get(f"{PAGE}{endpoint.pk}/"))
    page = text(do(hers, endpoint, "rotate", seen=""))
    assert "signs beside it" in page
    do(hers, endpoint, "rotate", seen="")
    endpoint.refresh_from_db()
    assert endpoint.old_secret == old != endpoint.secret
    do(hers, endpoint, "forget")
    endpoint.refresh_from_db()
    assert endpoint.old_secret == "" and "signs beside it until" not in text(
        hers.get(f"{PAGE}{endpoint.pk}/")
    )


def test_off_stops_what_waits_and_on_starts_afresh(hers: Client, endpoint: WebhookEndpoint) -> None:
    waiting = delivery(endpoint)
    assert "1 waiting" in text(do(hers, endpoint, "off"))
    endpoint.refresh_from_db()
    waiting.refresh_from_db()
    assert not endpoint.is_on and waiting.state == "failed"
    WebhookEndpoint.objects.update(off_because="Nothing got through.", failing_since=timezone.now())
    assert "Nothing got through." in text(hers.get(PAGE))
    do(hers, endpoint, "on")
    endpoint.refresh_from_db()
    assert endpoint.is_on and not endpoint.off_because and endpoint.failing_since is None


def test_a_test_is_sent_and_its_delivery_watched(hers: Client, endpoint: WebhookEndpoint) -> None:
    page = text(do(hers, endpoint, "test"))
    assert "on its way" in page and 'hx-trigger="every 1s"' in page
    do(hers, endpoint, "test")
    assert Delivery.objects.get().event == outbox.TEST


def test_a_removed_one_is_gone_from_the_list_but_not_its_deliveries(
    hers: Client, endpoint: WebhookEndpoint
) -> None:
    failed(endpoint)
    page = do(hers, endpoint, "remove")
    assert page.redirect_chain[-1][0] == PAGE and f"{endpoint.pk}" not in text(page)
    assert hers.get(f"{PAGE}{endpoint.pk}/").status_code == 404
    assert "hooks.example.com/flux" in text(hers.get(SENT)) and "Send again" not in text(hers.get(SENT))


def test_the_note_can_be_changed(hers: Client, endpoint: WebhookEndpoint) -> None:
    assert hers.post(f"{PAGE}{endpoint.pk}/", {"note": "staging"}).status_code == 303
    assert hers.post(f"{PAGE}{endpoint.pk}/", {"note": "x" * 101}).status_code == 422
    assert hers.post(f"{PAGE}{endpoint.pk}/", {"note": "\u202egnigats"}).status_code == 422
    endpoint.refresh_from_db()
    assert endpoint.note == "staging"


def test_the_secret_of_single_calls_can_be_made_seen_and_rotated_and_nothing_else(
    hers: Client, alice: User
) -> None:
    page = hers.post(f"{PAGE}calls/", follow=True)
    calls = WebhookEndpoint.objects.get(user=alice, url="")
    assert "callBackUrl" in text(page) and calls.secret in text(hers.post(f"{PAGE}{calls.pk}/secret/"))
    do(hers, calls, "rotate")
    calls.refresh_from_db()
    assert calls.old_secret
    for deed in ("off", "on", "test", "resend", "remove", "fly"):
        assert do(hers, calls, deed).status_code == 404
    assert hers.post(f"{PAGE}calls/", follow=True).status_code == 200
    assert WebhookEndpoint.objects.count() == 1 and endpoints.of(alice) == []


# --- Deliveries ---------------------------------------------------------------------------------------
def test_each_delivery_tells_status_latency_and_answer(hers: Client, endpoint: WebhookEndpoint) -> None:
    made = failed(endpoint)
    tries = {"delivery": made, "milliseconds": 123}
    DeliveryAttempt.objects.create(**tries, problem="hooks.example.com: no answer within 15 s")
    DeliveryAttempt.objects.create(**tries, status=502, answer="<b>bad gateway</b>")
    page = text(hers.get(SENT))
    assert all(
        word in page
        for word in ("502", "123 ms", "no answer within 15 s", "10 attempts failed.", str(made.pk))
    )
    assert "&lt;b&gt;bad gateway" in page and "<b>bad" not in page and "hx-trigger" not in page


def test_the_list_is_narrowed_by_its_address_and_paged(
    hers: Client, endpoint: WebhookEndpoint, alice: User
) -> None:
    other, now = endpoint_of(alice, "https://two.example.com/"), timezone.now()
    for number in range(35):
        delivery(
            endpoint,
            url=f"{URL}?n={number:02}",
            created=now - timedelta(minutes=number),
            next_try=now + timedelta(hours=1),
        )
    failed(other)

    def shown(query: str) -> list[str]:
        return re.findall(r"<dd>https://([^<]+)</dd>", text(hers.get(f"{SENT}?{query}")))

    assert shown(f"endpoint={other.pk}") == ["two.example.com/"] == shown("state=failed")
    first = text(hers.get(f"{SENT}?endpoint={endpoint.pk}&state=waiting"))
    [older] = re.findall(r'href="\?([^"]+before=[^"]+)"', first)
    rest = shown(older.replace("&amp;", "&"))
    assert len(rest) == 5 and rest[-1].endswith("n=34")
    assert len(shown("endpoint=rubbish&state=rubbish&before=rubbish")) == 30
    assert shown(f"endpoint={uuid.uuid4()}") == []


def test_the_list_costs_the_same_however_long_it_is(hers: Client, endpoint: WebhookEndpoint) -> None:
    DeliveryAttempt.objects.create(delivery=failed(endpoint), milliseconds=1)
    hers.get(SENT)
    with CaptureQueriesContext(connection) as short:
        hers.get(SENT)
    for _ in range(20):
        DeliveryAttempt.objects.create(delivery=failed(endpoint), milliseconds=1)
    with CaptureQueriesContext(connection) as long:
        hers.get(SENT)
    assert len(long) == len(short)


def test_one_is_resent_once(hers: Client, endpoint: WebhookEndpoint) -> None:
    made = failed(endpoint, attempts=10)
    assert "sent again" in text(hers.post(f"{SENT}{made.pk}/resend/", follow=True))
    assert "on its way already" in text(hers.post(f"{SENT}{made.pk}/resend/", follow=True))
    made.refresh_from_db()
    assert (made.state, made.attempts) == ("waiting", 0)


def test_all_failed_ones_are_resent_and_twice_is_no_more(hers: Client, endpoint: WebhookEndpoint) -> None:
    failed(endpoint), failed(endpoint)
    assert "2 failed deliveries" in text(do(hers, endpoint, "resend"))
    assert "No delivery has failed" in text(do(hers, endpoint, "resend"))


def test_nothing_is_resent_to_what_is_off(hers: Client, endpoint: WebhookEndpoint) -> None:
    made = failed(endpoint)
    WebhookEndpoint.objects.update(is_on=False)
    assert "Switch it on" in text(hers.post(f"{SENT}{made.pk}/resend/", follow=True))
    assert "Switch it on" in text(do(hers, endpoint, "resend"))
    made.refresh_from_db()
    assert made.state == "failed"


# --- Others -------------------------------------------------------------------------------------------
def test_a_stranger_finds_nothing(his: Client, endpoint: WebhookEndpoint) -> None:
    made = failed(endpoint)
    assert URL not in text(his.get(PAGE)) + text(his.get(SENT)) + text(
        his.get(f"{SENT}?endpoint={endpoint.pk}")
    )
    assert his.get(f"{PAGE}{endpoint.pk}/").status_code == 404
    assert his.post(f"{PAGE}{endpoint.pk}/", {"note": "x"}).status_code == 404
    for deed in ("secret", "rotate", "forget", "on", "off", "test", "resend", "remove"):
        assert his.post(f"{PAGE}{endpoint.pk}/{deed}/").status_code == 404
    assert his.post(f"{SENT}{made.pk}/resend/").status_code == 404
    endpoint.refresh_from_db()
    assert endpoint.is_on and not endpoint.old_secret and Delivery.objects.count() == 1


def test_a_visitor_is_asked_to_log_in(endpoint: WebhookEndpoint) -> None:
    for path in (PAGE, SENT, f"{PAGE}{endpoint.pk}/"):
        answer = Client().get(path)
        assert answer.status_code == 302 and "/accounts/login/" in answer["Location"]
    assert Client().post(f"{PAGE}{endpoint.pk}/remove/").status_code == 302
    assert WebhookEndpoint.objects.get().removed is None


def test_deeds_are_posts(hers: Client, endpoint: WebhookEndpoint) -> None:
    for deed in ("rotate", "off", "test", "remove"):
        assert hers.get(f"{PAGE}{endpoint.pk}/{deed}/").status_code == 405
