"""The way into the admin: the site's log-in page with its limits, and no password alone where a second factor is set up."""

import time
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from django.conf import settings as django_settings
from django.core.cache import cache
from django.test import Client

from accounts.models import User

PASSWORD = "charlies-password"
SESSION_OF = "_auth_user_id"


@pytest.fixture(autouse=True)
def _no_attempts_yet() -> None:
    cache.clear()


@pytest.fixture
def staff(charlie: User) -> User:
    charlie.set_password(PASSWORD)
    charlie.save()
    return charlie


def with_totp(user: User) -> str:
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(user, secret)
    return secret


def code_of(secret: str) -> str:
    return totp.format_hotp_value(totp.hotp_value(secret, int(time.time()) // 30))


def log_in(client: Client, user: User, password: str = PASSWORD, at: str = "/accounts/login/") -> Any:
    return client.post(at, {"login": user.email, "password": password, "next": "/admin/"})


def test_staff_come_in_by_the_sites_own_page(staff: User) -> None:
    client = Client()
    assert client.get("/admin/")["Location"] == "/admin/login/?next=/admin/"
    assert client.get("/admin/login/?next=/admin/")["Location"] == "/accounts/login/?next=%2Fadmin%2F"
    log_in(client, staff)
    assert client.get("/admin/").status_code == 200
    assert client.get("/admin/login/?next=/admin/accounts/user/")["Location"] == "/admin/accounts/user/"


def test_the_admins_own_log_in_takes_no_password_from_anybody(staff: User, bob: User) -> None:
    """Not even from staff who are in already: there, nobody would count the attempts, nor ask for the second factor."""
    with_totp(staff)
    form = {"username": staff.email, "password": PASSWORD, "next": "/admin/"}
    visitor = Client()
    assert visitor.post("/admin/login/", form)["Location"].startswith("/accounts/login/")
    assert SESSION_OF not in visitor.session
    bob.is_staff = True
    bob.save()
    other = Client()
    other.force_login(bob)
    assert other.post("/admin/login/", form)["Location"] == "/admin/"
    assert other.session[SESSION_OF] == str(bob.pk)


def test_the_admin_has_no_page_of_its_own_for_passwords_where_nobody_counts_the_guesses(staff: User) -> None:
    client = Client()
    client.force_login(staff)
    new = {
        "old_password": PASSWORD,
        "new_password1": "another-password-1",
        "new_password2": "another-password-1",
    }
    assert client.get("/admin/password_change/")["Location"] == "/accounts/password/change/"
    assert client.post("/admin/password_change/", new).status_code == 302
    staff.refresh_from_db()
    assert staff.check_password(PASSWORD)


def test_the_admin_sends_nobody_to_another_site(staff: User) -> None:
    client = Client()
    client.force_login(staff)
    assert client.get("/admin/login/?next=https://evil.example/")["Location"] == "/admin/"


def test_failed_attempts_are_counted_whichever_door_was_tried_first(staff: User) -> None:
    client = Client()
    client.get("/admin/login/?next=/admin/")
    for _ in range(6):
        log_in(client, staff, "wrong")
    answer = log_in(client, staff)
    assert b"Too many failed login attempts" in answer.content
    assert client.get("/admin/").status_code == 302


def test_a_password_alone_does_not_open_the_admin_where_a_second_factor_is_set_up(staff: User) -> None:
    secret = with_totp(staff)
    client = Client()
    assert log_in(client, staff)["Location"].startswith("/accounts/2fa/authenticate/")
    assert client.get("/admin/")["Location"].startswith("/admin/login/")
    assert client.get("/admin/login/?next=/admin/")["Location"].startswith("/accounts/login/")
    assert client.post("/accounts/2fa/authenticate/", {"code": code_of(secret)})["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


@pytest.mark.parametrize("path", ["/admin/", "/admin/accounts/user/", "/admin/mails/"])
def test_a_session_without_the_second_factor_is_asked_for_it(staff: User, path: str) -> None:
    """One from before it was set up, or from any door that may come: by the factor's page it goes on to the admin."""
    client = Client()
    client.force_login(staff)
    assert client.get(path).status_code == 200
    secret = with_totp(staff)
    assert client.get(path).status_code == 302
    asked = client.get(f"/admin/login/?next={path}")["Location"]
    assert asked.startswith("/accounts/2fa/reauthenticate/?next=%2Fadmin%2F")
    assert client.get(asked).status_code == 200
    client.post(asked, {"code": "000000"})
    assert client.get(path).status_code == 302
    assert client.post(asked, {"code": code_of(secret)})["Location"] == path
    assert client.get(path).status_code == 200


def test_a_second_factor_given_by_somebody_else_in_this_browser_does_not_count(
    staff: User, alice: User
) -> None:
    client = Client()
    client.force_login(staff)
    with_totp(staff)
    session = client.session
    session["account_authentication_methods"] = [{"method": "mfa", "at": time.time()}]
    session["account_authentication_methods_user"] = str(alice.pk)
    session.save()
    assert client.get("/admin/").status_code == 302


def test_without_the_setting_staff_need_no_second_factor(staff: User) -> None:
    assert django_settings.ADMIN_REQUIRES_2FA is False
    client = Client()
    client.force_login(staff)
    assert client.get("/admin/").status_code == 200


def test_with_the_setting_staff_set_one_up_first(staff: User, settings: Any) -> None:
    settings.ADMIN_REQUIRES_2FA = True
    client = Client()
    log_in(client, staff)
    to = client.get("/admin/login/?next=/admin/")["Location"]
    assert to == "/accounts/2fa/totp/activate/?next=%2Fadmin%2F"
    assert b"wants a second factor" in client.get(to, follow=True).content
    secret = with_totp(staff)
    again = client.get("/admin/login/?next=/admin/")["Location"]
    assert client.post(again, {"code": code_of(secret)})["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_with_the_setting_a_factor_that_was_removed_does_not_count_any_more(
    staff: User, settings: Any
) -> None:
    settings.ADMIN_REQUIRES_2FA = True
    secret = with_totp(staff)
    client = Client()
    log_in(client, staff)
    client.post("/accounts/2fa/authenticate/", {"code": code_of(secret)})
    assert client.get("/admin/").status_code == 200
    Authenticator.objects.all().delete()
    assert client.get("/admin/").status_code == 302


def test_people_who_are_no_staff_stay_out_with_or_without_a_factor(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    assert client.get("/admin/", follow=True).status_code == 403
