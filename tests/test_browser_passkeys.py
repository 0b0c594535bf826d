"""A passkey in a real browser, with an authenticator that the browser pretends to have: made, logged in with, removed."""

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django.conf import LazySettings

from accounts.models import User

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a-long-password-9"


@pytest.fixture
def authenticator(page: Any) -> str:
    """One that is built into the device, and says yes to everything."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("WebAuthn.enable")
    kind = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    return devtools.send("WebAuthn.addVirtualAuthenticator", {"options": kind})["authenticatorId"]


@pytest.fixture
def complaints(page: Any) -> Any:
    heard: list[str] = []
    page.on("console", lambda said: heard.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    yield heard
    assert heard == []


@pytest.mark.usefixtures("authenticator", "complaints")
def test_dora_adds_a_passkey_and_logs_in_with_nothing_else(
    page: Any, live_server: Any, settings: LazySettings
) -> None:
    dora = User.objects.create_user("dora@example.org", PASSWORD)
    site = live_server.url
    page.goto(f"{site}/accounts/login/?next=/settings/security/")
    page.get_by_label("E-mail address").fill(dora.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()

    page.get_by_role("link", name="Add one").click()
    page.get_by_label("Your password").fill(PASSWORD)
    page.get_by_role("button", name="Go on").click()
    page.get_by_label("Name").fill("my laptop")
    page.get_by_label("Log in with it alone").check()
    page.get_by_role("button", name="Add").click()
    page.wait_for_url(f"{site}/accounts/2fa/recovery-codes/")
    assert Authenticator.objects.filter(user=dora, type="webauthn").count() == 1

    page.get_by_label("Your account, dora@example.org").click()
    page.get_by_role("button", name="Log out").click()
    page.goto(f"{site}/accounts/login/?next=/settings/security/")
    page.get_by_role("button", name="Log in with a passkey").click()
    page.wait_for_url(f"{site}/settings/security/")
    assert page.get_by_role("heading", name="Passkeys and security keys 1").is_visible()

    # After the password, too: a second factor is set up, and this is it.
    page.get_by_label("Your account, dora@example.org").click()
    page.get_by_role("button", name="Log out").click()
    page.goto(f"{site}/accounts/login/?next=/settings/security/")
    page.get_by_label("E-mail address").fill(dora.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.get_by_role("button", name="Use a passkey or security key").click()
    page.wait_for_url(f"{site}/settings/security/")


@pytest.mark.usefixtures("complaints")
def test_a_browser_that_refuses_is_explained(page: Any, live_server: Any) -> None:
    page.add_init_script(
        "navigator.credentials.get = () => Promise.reject(new DOMException('no', 'NotAllowedError'))"
    )
    page.goto(f"{live_server.url}/accounts/login/")
    page.get_by_role("button", name="Log in with a passkey").click()
    page.get_by_text("That was cancelled, or took too long.").wait_for()
