from datetime import UTC, datetime
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts import ledger, zones
from accounts.models import Transfer, User

pytestmark = pytest.mark.django_db

AT = datetime(2026, 11, 12, 23, 30, tzinfo=UTC)


@pytest.fixture
def statement(client: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Alice's statement as she reads it: one line, at half past eleven in the evening of 12 November, UTC."""
    with monkeypatch.context() as patch:
        patch.setattr(timezone, "now", lambda: AT)
        ledger.grant(alice, 1_000_000, business_id="grant", memo="for a test")
    assert Transfer.objects.get().created == AT
    client.force_login(alice)
    return lambda: client.get("/account/").content.decode()


def test_alice_reads_times_in_the_zone_that_she_chose(statement: Any, client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(time_zone="Asia/Tokyo")
    client.cookies["zone"] = "America%2FNew_York"
    html = statement()
    assert "13 Nov 2026, 08:30" in html and "Times are Asia/Tokyo" in html


def test_without_a_choice_her_browser_says(statement: Any, client: Client) -> None:
    client.cookies["zone"] = "America%2FNew_York"
    html = statement()
    assert "12 Nov 2026, 18:30" in html and "Times are America/New_York" in html


@pytest.mark.parametrize("said", ["", "Moon/Sea", "../../etc/passwd", "%00", "Factory", "'; DROP"])
def test_what_a_cookie_says_is_believed_only_where_we_know_it(
    statement: Any, client: Client, said: str
) -> None:
    client.cookies["zone"] = said
    html = statement()
    assert "12 Nov 2026, 23:30" in html and "Times are UTC" in html


def test_one_request_s_zone_is_gone_for_the_next(statement: Any, client: Client) -> None:
    client.cookies["zone"] = "Asia%2FTokyo"
    statement()
    assert timezone.get_current_timezone_name() == "UTC"
    del client.cookies["zone"]
    assert "Times are UTC" in statement()


@pytest.mark.parametrize(("path", "zone"), [("/admin/accounts/user/", "UTC"), ("/account/", "Asia/Tokyo")])
def test_the_admin_stays_utc(rf: Any, charlie: User, path: str, zone: str) -> None:
    charlie.time_zone = "Asia/Tokyo"
    request = rf.get(path)
    request.user = charlie
    assert zones.middleware(lambda request: zones.name())(request) == zone


@pytest.mark.parametrize(
    ("zone", "words"),
    [
        ("UTC", "12 Nov 2026, 23:30 UTC"),
        ("Europe/Berlin", "13 Nov 2026, 00:30 CET"),
        ("America/Sao_Paulo", "12 Nov 2026, 20:30 UTC-03:00"),
        ("Asia/Kathmandu", "13 Nov 2026, 05:15 UTC+05:45"),
    ],
)
@pytest.mark.once
def test_every_time_says_its_zone(zone: str, words: str) -> None:
    with timezone.override(zones.named(zone)):
        assert zones.when(AT) == words


@pytest.mark.once
def test_an_hour_that_happens_twice_is_told_apart() -> None:
    with timezone.override(zones.named("Europe/Berlin")):
        assert zones.when(datetime(2026, 10, 25, 0, 30, tzinfo=UTC)) == "25 Oct 2026, 02:30 CEST"
        assert zones.when(datetime(2026, 10, 25, 1, 30, tzinfo=UTC)) == "25 Oct 2026, 02:30 CET"


def test_who_looks_is_asked_only_where_a_time_is_printed(rf: Any) -> None:
    class Stranger:
        @property
        def is_authenticated(self) -> bool:
            raise AssertionError("nobody needs to know")

    def answer(request: Any) -> Any:
        request.user = Stranger()
        return timezone.get_current_timezone()

    asked = zones.middleware(answer)(rf.get("/"))
    with pytest.raises(AssertionError, match="nobody needs"):
        AT.astimezone(asked)
