from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import User

pytestmark = pytest.mark.django_db

PAGES = ["profile", "security", "sessions", "notifications", "caps"]


def test_alice_sets_her_name_and_her_time_zone(client: Client, alice: User) -> None:
    client.force_login(alice)
    asked = {"name": "Alice Liddell", "time_zone": "europe/berlin"}
    assert client.post("/settings/profile/", asked)["Location"] == "/settings/profile/"
    alice.refresh_from_db()
    assert (alice.name, alice.time_zone) == ("Alice Liddell", "Europe/Berlin")
    html = client.get("/settings/profile/").content.decode()
    assert 'value="Europe/Berlin"' in html and ("CET" in html or "CEST" in html)


def test_what_is_said_to_call_her_by_her_name_does(client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(name="Alice Liddell")
    client.force_login(alice)
    assert "How receipts and statements call you." in client.get("/settings/profile/").content.decode()
    month = client.get(f"/account/statements/{timezone.now():%Y-%m}/").content.decode()
    assert "for Alice Liddell, alice@example.org" in month


def test_a_zone_may_be_typed_with_a_blank_and_be_taken_away_again(client: Client, alice: User) -> None:
    client.force_login(alice)
    for typed, kept in (("America/New York", "America/New_York"), ("", "")):
        client.post("/settings/profile/", {"name": "", "time_zone": typed})
        alice.refresh_from_db()
        assert alice.time_zone == kept


@pytest.mark.parametrize("typed", ["Berlin", "Moon/Sea", "../etc/passwd", "Factory"])
def test_what_is_no_zone_is_refused_with_the_form(client: Client, alice: User, typed: str) -> None:
    client.force_login(alice)
    response = client.post("/settings/profile/", {"name": "Mallory", "time_zone": typed})
    assert response.status_code == 422 and "no time zone that we know" in response.content.decode()
    alice.refresh_from_db()
    assert (alice.name, alice.time_zone) == ("", "")


def test_a_name_that_turns_the_text_around_it_is_refused(client: Client, alice: User) -> None:
    client.force_login(alice)
    response = client.post("/settings/profile/", {"name": "Alice \u202egpj", "time_zone": ""})
    assert response.status_code == 422 and "an invisible character (U+202E)" in response.content.decode()
    alice.refresh_from_db()
    assert alice.name == ""


def test_nothing_else_of_an_account_can_be_set_there(client: Client, alice: User) -> None:
    client.force_login(alice)
    client.post(
        "/settings/profile/", {"name": "x", "time_zone": "", "is_staff": "on", "email": "bob@example.org"}
    )
    alice.refresh_from_db()
    assert not alice.is_staff and alice.email == "alice@example.org"


@pytest.mark.parametrize("page", PAGES)
def test_every_settings_page_leads_to_the_others(client: Client, alice: User, page: str) -> None:
    assert client.get(f"/settings/{page}/").status_code == 302
    client.force_login(alice)
    html = client.get(f"/settings/{page}/").content.decode()
    assert all(f'href="/settings/{other}/"' in html for other in PAGES)
    assert html.count(f'href="/settings/{page}/" aria-current="page"') == 1
    nav = html.split('aria-label="Settings"')[1].split("</nav>")[0]
    assert nav.count("aria-current") == 1


def test_the_account_menu_leads_there(client: Client, alice: User) -> None:
    client.force_login(alice)
    assert '<a href="/settings/profile/">Settings</a>' in client.get("/pricing/").content.decode()


# --- allauth's own pages --------------------------------------------------------------------------------
OURS = [
    "/accounts/email/",
    "/accounts/password/change/",
    "/accounts/reauthenticate/",
    "/accounts/logout/",
]


@pytest.mark.parametrize("path", OURS)
def test_pages_for_those_who_are_logged_in_are_in_our_clothes(client: Client, alice: User, path: str) -> None:
    client.force_login(alice)
    check(client.get(path))


@pytest.mark.parametrize(
    "path",
    [
        "/accounts/login/",
        "/accounts/signup/",
        "/accounts/inactive/",
        "/accounts/password/reset/",
        "/accounts/password/reset/done/",
        "/accounts/password/reset/key/done/",
        "/accounts/password/reset/key/x-y/",
        "/accounts/confirm-email/",
        "/accounts/confirm-email/nonsense/",
    ],
)
def test_pages_for_visitors_are_in_our_clothes(client: Client, path: str) -> None:
    check(client.get(path))


def check(response: Any) -> None:
    """In our frame, and with nothing that our content security policy would stop."""
    html = response.content.decode()
    assert response.status_code == 200 and 'class="site-head"' in html
    assert "<style" not in html and ' style="' not in html and "onclick" not in html
    for script in html.split("<script")[1:]:
        opening = script.split(">")[0]
        assert "src=" in opening or 'type="application/json"' in opening


def test_a_suspended_person_is_told_so_in_plain_words(client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_active=False)
    response = client.post(
        "/accounts/login/", {"login": alice.email, "password": "alice-password"}, follow=True
    )
    assert "this account has been suspended or closed" in response.content.decode()
    assert "_auth_user_id" not in client.session
