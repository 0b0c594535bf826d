"""Who came by, from where and with what: the list of sessions, and the mail about a device that nobody knew.

A browser that somebody has logged in with keeps a signed cookie that says so. It opens nothing; without it the next
log-in is one from a new device, which the account's owner is told of.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from allauth.account.adapter import get_adapter
from allauth.usersessions.models import UserSession
from django.contrib.auth.signals import user_logged_in
from django.core import signing
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from accounts import mails
from accounts.models import User

KNOWN = "known"
KNOWN_FOR_S = 2 * 365 * 86_400
SEEN_EVERY_S = 600
_SEEN = "seen"
_MOST_KNOWN = 10  # people who share a browser


# --- Devices --------------------------------------------------------------------------------------------
def greet(request: HttpRequest, response: HttpResponse, user: User, *, is_first: bool) -> None:
    """Knows this browser again from now on; tells the account's owner where it was not known."""
    known = _known(request)
    if user.pk not in known and not is_first:
        mails.tell("new_device", user, arrival(request))
    people = [user.pk, *(pk for pk in known if pk != user.pk)][:_MOST_KNOWN]
    response.set_signed_cookie(
        KNOWN,
        ".".join(map(str, people)),
        max_age=KNOWN_FOR_S,
        httponly=True,
        samesite="Lax",
        secure=request.is_secure(),
    )


def arrival(request: HttpRequest) -> dict[str, Any]:
    """What a mail says of a visit."""
    agent = request.META.get("HTTP_USER_AGENT", "")
    return {"device": device(agent), "ip": get_adapter().get_client_ip(request), "at": timezone.now()}


def _known(request: HttpRequest) -> list[int]:
    try:
        text = request.get_signed_cookie(KNOWN, default="", max_age=KNOWN_FOR_S) or ""
    except signing.BadSignature:
        return []
    return [int(pk) for pk in text.split(".") if pk.isdecimal()]


_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("Linux", "Linux"),
)
_BROWSERS = (  # the first that fits: most of them say that they are all of those after them, too
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("Firefox", "Firefox"),
    ("FxiOS", "Firefox"),
    ("CriOS", "Chrome"),
    ("Chrome", "Chrome"),
    ("Safari", "Safari"),
    ("curl", "curl"),
    ("python", "a Python program"),
)


def device(agent: str) -> str:
    """`Firefox on Windows`: a browser's own words for itself in words that people know."""
    browser = next((name for sign, name in _BROWSERS if sign.lower() in agent.lower()), "")
    system = next((name for sign, name in _SYSTEMS if sign in agent), "")
    return " on ".join(filter(None, (browser, system))) or "An unknown device"


# --- Sessions -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Visit:
    """One session as its owner reads it."""

    id: int
    device: str
    ip: str
    since: datetime
    seen: datetime
    is_here: bool


def visits(request: HttpRequest) -> list[Visit]:
    """Every session that is open: this one first, then the one seen last."""
    assert isinstance(request.user, User)
    here = request.session.session_key
    rows = [
        Visit(
            row.pk, device(row.user_agent), row.ip, row.created_at, row.last_seen_at, row.session_key == here
        )
        for row in UserSession.objects.purge_and_list(request.user)
    ]
    return sorted(rows, key=lambda visit: (visit.is_here, visit.seen), reverse=True)


@receiver(user_logged_in)
def _begin(request: HttpRequest, **_: Any) -> None:
    request.session[_SEEN] = int(time.time())


def middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Notes every ten minutes that a session is alive, and from where; costs nothing in between."""

    def answer(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.session.accessed and request.session.session_key and request.user.is_authenticated:
            _note(request)
        return response

    return answer


def _note(request: HttpRequest) -> None:
    now, seen = int(time.time()), request.session.get(_SEEN)
    if seen is None or now - seen < SEEN_EVERY_S:
        return
    request.session[_SEEN] = now
    UserSession.objects.create_from_request(request)
