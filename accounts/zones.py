"""In which time zone somebody sees times: the account's own, or else the browser's, or else UTC.

Only what pages print is moved. Days, months, caps, exports, the API and the admin are UTC.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from functools import cached_property, lru_cache
from urllib.parse import unquote
from zoneinfo import ZoneInfo, available_timezones

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone

COOKIE = "zone"  # set by static/js/site.js


@lru_cache(maxsize=1)
def known() -> frozenset[str]:
    """The names that people may choose, which is also all that a cookie may say."""
    return frozenset(available_timezones() - {"Factory", "localtime"})


def named(name: str) -> ZoneInfo | None:
    return ZoneInfo(name) if name in known() else None


def of(request: HttpRequest) -> tzinfo:
    """The zone for whoever is looking."""
    user = getattr(request, "user", None)
    chosen = named(user.time_zone) if user is not None and user.is_authenticated else None
    return chosen or named(unquote(request.COOKIES.get(COOKIE, ""))) or UTC


class _Asked(tzinfo):
    """The zone of a request, found out when the first time is printed: most answers print none and need not know who asks."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request

    @cached_property
    def zone(self) -> tzinfo:
        return of(self.request)

    def utcoffset(self, at: datetime | None) -> timedelta | None:
        return self.zone.utcoffset(at)

    def dst(self, at: datetime | None) -> timedelta | None:
        return self.zone.dst(at)

    def tzname(self, at: datetime | None) -> str | None:
        return self.zone.tzname(at)

    def fromutc(self, at: datetime) -> datetime:
        return self.zone.fromutc(at.replace(tzinfo=self.zone)).replace(tzinfo=self)

    def __str__(self) -> str:
        return str(self.zone)


def middleware(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """After the one that knows the user."""

    def answer(request: HttpRequest) -> HttpResponse:
        is_desk = request.path.startswith(reverse("admin:index"))
        with timezone.override(UTC if is_desk else _Asked(request)):
            return get_response(request)

    return answer


# --- In words -----------------------------------------------------------------------------------------
def name() -> str:
    """Of the zone that is in force: `UTC`, `Europe/Berlin`."""
    return str(timezone.get_current_timezone())


def short(at: datetime) -> str:
    """`CET`, or `UTC-03:00` for a zone that has only numbers."""
    local = timezone.localtime(at)
    spelt, offset = local.tzname() or "", f"{local:%z}"
    return spelt if spelt.isalpha() else f"UTC{offset[:3]}:{offset[3:5]}"


def when(at: datetime | None, *, seconds: bool = False) -> str:
    """`12 Nov 2026, 14:05 CET`; empty for None."""
    if at is None:
        return ""
    local = timezone.localtime(at)
    clock = f"{local:%H:%M:%S}" if seconds else f"{local:%H:%M}"
    return f"{local.day} {local:%b %Y}, {clock} {short(at)}"
