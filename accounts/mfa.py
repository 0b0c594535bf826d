"""What allauth asks us about second factors: under which name passkeys are kept, and where they can work."""

import ipaddress
from urllib.parse import urlsplit

from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.http import HttpRequest

from accounts.models import User


class MFAAdapter(DefaultMFAAdapter):
    error_messages = DefaultMFAAdapter.error_messages | {
        "incorrect_code": "That was not right. Try again, with a fresh code.",
        "unverified_email": "Confirm your e-mail address first: then nobody else can lock you out of it.",
        "add_email_blocked": "An address cannot be added while two-factor log-in is on. Switch it off first.",
    }

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        return {"id": home(context.request), "name": "Flux Playground"}

    def generate_authenticator_name(self, user: User, type: Authenticator.Type) -> str:
        number = Authenticator.objects.filter(user=user, type=type).count() + 1
        return f"Passkey {number}"


def home(request: HttpRequest) -> str:
    """The name that passkeys belong to: the public one, however this request came."""
    return urlsplit(settings.BASE_URL).hostname or _host(request)


def why_no_passkeys(request: HttpRequest) -> str:
    """Why this page cannot make or take a passkey, in plain words; empty where it can."""
    host = _host(request)
    if _is_number(host):
        return f"Passkeys need a host name, and this page was opened by a number ({host}). On your own machine, open it as localhost."
    is_local = host == "localhost" or host.endswith(".localhost")
    if not request.is_secure() and not is_local:
        return "Passkeys need https, which this page was not opened with."
    name = home(request)
    if host != name and not host.endswith(f".{name}"):
        return f"Passkeys belong to {name}. Open this page there."
    return ""


def _host(request: HttpRequest) -> str:
    return urlsplit(f"//{request.get_host()}").hostname or ""


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
