from datetime import timedelta

import pytest
import time_machine
from allauth.usersessions.models import UserSession
from django.core import mail
from django.test import Client
from django.utils import timezone

from accounts import visits
from accounts.models import User

pytestmark = pytest.mark.django_db

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605 Version/19.0 Mobile Safari/604.1"
)


def logged_in(
    agent: str = FIREFOX, email: str = "alice@example.org", password: str = "alice-password"
) -> Client:
    client = Client(headers={"user-agent": agent})
    assert client.post("/accounts/login/", {"login": email, "password": password}).status_code == 302
    return client


def is_in(client: Client) -> bool:
    return client.get("/account/").status_code == 200


@pytest.fixture
def desk(alice: User) -> Client:
    return logged_in()


@pytest.fixture
def phone(alice: User) -> Client:
    return logged_in(IPHONE)


def test_alice_sees_where_she_is_logged_in(desk: Client, phone: Client) -> None:
    html = desk.get("/settings/sessions/").content.decode()
    assert "Firefox on Linux" in html and "Safari on iPhone" in html and "127.0.0.1" in html
    assert html.index("This one") < html.index("Safari on iPhone")


def test_she_ends_one_and_keeps_the_other(desk: Client, phone: Client) -> None:
    other = UserSession.objects.get(user_agent=IPHONE)
    assert desk.post(f"/settings/sessions/{other.pk}/end/").status_code == 302
    assert not is_in(phone) and is_in(desk)


def test_she_ends_all_others_also_those_that_no_list_knows(desk: Client, phone: Client, alice: User) -> None:
    unknown = Client()
    unknown.force_login(alice)
    UserSession.objects.exclude(user_agent=FIREFOX).filter(user_agent="").delete()
    assert desk.post("/settings/sessions/end-others/").status_code == 302
    assert (is_in(desk), is_in(phone), is_in(unknown)) == (True, False, False)
    assert UserSession.objects.count() == 1


def test_a_new_password_ends_all_others_and_the_page_says_so(desk: Client, phone: Client) -> None:
    assert "Changing it ends all your other sessions." in desk.get("/settings/security/").content.decode()
    new = {"password1": "another-of-alices", "password2": "another-of-alices"}
    assert (
        desk.post("/accounts/password/change/", {"oldpassword": "alice-password", **new}).status_code == 302
    )
    assert (is_in(desk), is_in(phone)) == (True, False)
    assert "iPhone" not in desk.get("/settings/sessions/").content.decode()


def test_bob_cannot_end_hers(desk: Client, bob: User) -> None:
    hers = UserSession.objects.get()
    stranger = logged_in(email="bob@example.org", password="bob-password")
    assert stranger.post(f"/settings/sessions/{hers.pk}/end/").status_code == 404
    assert "Firefox" in desk.get("/settings/sessions/").content.decode() and is_in(desk)


def test_one_more_sign_out_ends_every_session(desk: Client, phone: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(sign_outs=1)
    assert not is_in(desk) and not is_in(phone)


def test_when_it_was_seen_last_is_noted_every_ten_minutes(desk: Client) -> None:
    began = UserSession.objects.get().last_seen_at
    with time_machine.travel(timezone.now() + timedelta(minutes=5), tick=False):
        desk.get("/account/")
    assert UserSession.objects.get().last_seen_at == began
    later = timezone.now() + timedelta(minutes=11)
    with time_machine.travel(later, tick=False):
        desk.get("/account/", headers={"user-agent": IPHONE})
    seen = UserSession.objects.get()
    assert abs(seen.last_seen_at - later) < timedelta(seconds=1) and seen.user_agent == IPHONE


@pytest.mark.once
@pytest.mark.parametrize(
    ("agent", "words"),
    [
        (FIREFOX, "Firefox on Linux"),
        (IPHONE, "Safari on iPhone"),
        (
            "Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537 Chrome/140.0 Safari/537 Edg/140.0",
            "Edge on Windows",
        ),
        (
            "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537 Chrome/140.0 Mobile Safari/537",
            "Chrome on Android",
        ),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X) AppleWebKit/605 Version/19 Safari/605", "Safari on Mac"),
        ("python-requests/2.34", "a Python program"),
        ("", "An unknown device"),
    ],
)
def test_a_device_in_words(agent: str, words: str) -> None:
    assert visits.device(agent) == words


# --- A device that nobody knew --------------------------------------------------------------------------
@pytest.fixture
def _with_mail(settings: object, alice: User) -> None:
    settings.HAS_MAIL = True  # type: ignore[attr-defined]
    settings.ACCOUNT_EMAIL_VERIFICATION = "none"  # type: ignore[attr-defined]
    User.objects.update(last_login=timezone.now())


def subjects() -> list[str]:
    return [sent.subject for sent in mail.outbox]


@pytest.mark.usefixtures("_with_mail")
def test_alice_hears_of_a_log_in_from_a_new_device_and_of_the_same_one_no_more() -> None:
    client = logged_in(IPHONE)
    assert subjects() == ["New log-in to your account"]
    assert "Safari on iPhone" in mail.outbox[0].body and "127.0.0.1" in mail.outbox[0].body
    client.post("/accounts/logout/")
    client.post("/accounts/login/", {"login": "alice@example.org", "password": "alice-password"})
    assert len(mail.outbox) == 1


@pytest.mark.usefixtures("_with_mail")
def test_a_device_that_knows_bob_is_new_to_alice(bob: User) -> None:
    User.objects.update(last_login=timezone.now())
    client = logged_in(email="bob@example.org", password="bob-password")
    client.post("/accounts/logout/")
    client.post("/accounts/login/", {"login": "alice@example.org", "password": "alice-password"})
    assert [sent.to for sent in mail.outbox] == [["bob@example.org"], ["alice@example.org"]]


@pytest.mark.usefixtures("_with_mail")
def test_a_cookie_that_we_did_not_sign_makes_no_device_known(alice: User) -> None:
    client = Client()
    client.cookies["known"] = f"{alice.pk}:1abcde:forged"
    client.post("/accounts/login/", {"login": "alice@example.org", "password": "alice-password"})
    assert subjects() == ["New log-in to your account"]


@pytest.mark.usefixtures("_with_mail")
def test_the_very_first_log_in_is_no_news(alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(last_login=None)
    logged_in()
    assert subjects() == []


@pytest.mark.usefixtures("_with_mail")
def test_a_mail_server_that_is_away_keeps_nobody_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def send(self: object) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr("accounts.mails.EmailMultiAlternatives.send", send)
    assert is_in(logged_in())
