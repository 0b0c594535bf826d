import re
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, format_hotp_value, hotp_value, yield_hotp_counters_from_time
from django.core import mail
from django.test import Client

from accounts.models import User

pytestmark = pytest.mark.django_db

SECRET = "JBSWY3DPEHPK3PXP"
NEW = "another-long-one-7"


def code(secret: str = SECRET) -> str:
    return format_hotp_value(hotp_value(secret, next(iter(yield_hotp_counters_from_time()))))


def login(client: Client, user: User, **more: str) -> Any:
    password = f"{user.email.split('@')[0]}-password"
    return client.post("/accounts/login/", {"login": user.email, "password": password, **more})


def reauthenticated(client: Client, user: User) -> Client:
    client.force_login(user)
    password = f"{user.email.split('@')[0]}-password"
    assert client.post("/accounts/reauthenticate/", {"password": password}).status_code == 302
    return client


def page(response: Any) -> str:
    assert response.status_code == 200, response
    html: str = response.content.decode()
    assert 'class="site-head"' in html and "<style" not in html and ' style="' not in html
    return html


def test_alice_sets_up_an_app_and_gets_recovery_codes(client: Client, alice: User) -> None:
    reauthenticated(client, alice)
    html = page(client.get("/accounts/2fa/totp/activate/"))
    secret = re.search(r'id="secret">(\w+)<', html)
    assert secret
    wrong = client.post("/accounts/2fa/totp/activate/", {"code": "000000"})
    assert "Try again, with a fresh code" in page(wrong)
    done = client.post("/accounts/2fa/totp/activate/", {"code": code(secret[1])}, follow=True)
    assert page(done).count("<li>") >= 10 and done.request["PATH_INFO"] == "/accounts/2fa/recovery-codes/"
    html = page(client.get("/settings/security/"))
    assert "10 left" in html and "Switch off" in html


def test_a_password_that_was_given_long_ago_is_asked_for_again(client: Client, alice: User) -> None:
    client.force_login(alice)
    response = client.get("/accounts/2fa/totp/activate/")
    assert response["Location"].startswith("/accounts/reauthenticate/?next=")
    assert "Is it you?" in page(client.get(response["Location"]))


def test_with_an_app_the_password_alone_lets_nobody_in(client: Client, alice: User) -> None:
    TOTP.activate(alice, SECRET)
    assert login(client, alice)["Location"].startswith("/accounts/2fa/authenticate/")
    assert client.get("/account/").status_code == 302
    assert "Second step" in page(client.get("/accounts/2fa/authenticate/"))
    assert "Try again" in page(client.post("/accounts/2fa/authenticate/", {"code": "000000"}))
    assert client.get("/account/").status_code == 302
    client.post("/accounts/2fa/authenticate/", {"code": code()})
    assert client.get("/account/").status_code == 200


def test_a_recovery_code_lets_in_once(alice: User) -> None:
    TOTP.activate(alice, SECRET)
    [first, *_] = RecoveryCodes.activate(alice).get_unused_codes()
    for answer in (302, 200):
        client = Client()
        login(client, alice)
        assert client.post("/accounts/2fa/authenticate/", {"code": first}).status_code == answer
        assert client.get("/account/").status_code == (200 if answer == 302 else 302)


def test_switching_the_app_off_takes_the_codes_along(client: Client, alice: User) -> None:
    reauthenticated(client, alice)
    TOTP.activate(alice, SECRET)
    RecoveryCodes.activate(alice)
    assert "Keep it" in page(client.get("/accounts/2fa/totp/deactivate/"))
    client.post("/accounts/2fa/totp/deactivate/")
    assert not Authenticator.objects.exists()


@pytest.mark.parametrize(
    "path",
    [
        "recovery-codes/",
        "recovery-codes/generate/",
        "webauthn/",
        "webauthn/add/",
        "totp/deactivate/",
        "reauthenticate/",
    ],
)
def test_every_page_of_it_is_in_our_clothes(client: Client, alice: User, path: str) -> None:
    reauthenticated(client, alice)
    TOTP.activate(alice, SECRET)
    RecoveryCodes.activate(alice)
    page(client.get(f"/accounts/2fa/{path}"))


def test_passkeys_say_where_they_cannot_work(client: Client, alice: User, settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    reauthenticated(client, alice)
    for host, words in (
        ("192.168.0.7", "by a number"),
        ("flux.example", "need https"),
        ("localhost:8000", ""),
    ):
        html = page(client.get("/settings/security/", headers={"host": host}))
        assert (words in html) if words else "Add one" in html
    settings.BASE_URL = "https://flux.example"
    html = page(client.get("/settings/security/", headers={"host": "other.example"}, secure=True))
    assert "Passkeys belong to flux.example" in html
    assert "Add one" in page(client.get("/settings/security/", headers={"host": "flux.example"}, secure=True))


def test_every_change_is_told_by_mail_in_text_and_html(client: Client, alice: User, settings: Any) -> None:
    settings.HAS_MAIL, settings.BASE_URL = True, "https://flux.example"
    reauthenticated(client, alice)
    TOTP.activate(alice, SECRET)
    client.post("/accounts/2fa/totp/deactivate/")
    client.post(
        "/accounts/password/change/", {"oldpassword": "alice-password", "password1": NEW, "password2": NEW}
    )
    assert [sent.subject for sent in mail.outbox] == [
        "Authenticator app removed",
        "Your password was changed",
    ]
    for sent in mail.outbox:
        assert sent.to == ["alice@example.org"] and "127.0.0.1" in sent.body
        assert "https://flux.example/settings/security/" in sent.alternatives[0].content


# --- The admin ------------------------------------------------------------------------------------------
def test_with_an_app_nobody_enters_the_admin_without_its_code(client: Client, charlie: User) -> None:
    TOTP.activate(charlie, SECRET)
    form = {"username": charlie.email, "password": "charlie-password", "next": "/admin/"}
    for path in ("/admin/login/", "/admin/login/?next=/admin/"):
        assert client.post(path, form)["Location"].startswith("/accounts/login/")
        assert client.get("/admin/").status_code == 302
    login(client, charlie, next="/admin/")
    assert client.get("/admin/").status_code == 302
    assert client.post("/accounts/2fa/authenticate/", {"code": code()})["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_who_is_in_the_admin_becomes_nobody_else_by_its_log_in_form(client: Client, charlie: User) -> None:
    """Staff who know a colleague's password still lack the second factor."""
    dora = User.objects.create_superuser("dora@example.org", "dora-password")
    TOTP.activate(dora, SECRET)
    client.force_login(charlie)
    client.post("/admin/login/", {"username": dora.email, "password": "dora-password", "next": "/admin/"})
    assert client.session["_auth_user_id"] == str(charlie.pk)


def test_guessing_at_the_admin_s_door_is_counted_with_the_others(client: Client, charlie: User) -> None:
    for _ in range(12):
        client.post("/accounts/login/", {"login": charlie.email, "password": "wrong", "next": "/admin/"})
    login(client, charlie, next="/admin/")
    assert client.get("/admin/").status_code == 302
