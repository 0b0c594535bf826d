"""The typed request, and what every page knows."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from django.conf import settings
from django.core.exceptions import SuspiciousOperation
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.http import url_has_allowed_host_and_scheme
from django_htmx.middleware import HtmxDetails

from accounts import caps, ledger
from accounts.models import User
from playground import catalog

MOST_OF_KEYS = 3  # lines of the banner; the page of keys tells more of them apart


class Request(HttpRequest):
    """A request after the middleware: htmx details, and a user who is logged in where the view says so."""

    htmx: HtmxDetails
    user: User


class CapHit(NamedTuple):
    """A line of the banner: what lets nothing through, and where that is changed."""

    said: str
    url: str
    link: str


class SeeOther(HttpResponseRedirect):
    """After a POST: go and GET that."""

    status_code = 303


def back(request: HttpRequest, otherwise: str) -> SeeOther:
    """Where the form's `next` says, if that is one of our own pages."""
    url = request.POST.get("next", "")
    ours = url_has_allowed_host_and_scheme(url, {request.get_host()}, require_https=request.is_secure())
    return SeeOther(url if url and ours else otherwise)


def absolute(request: HttpRequest, path: str) -> str:
    """An address of ours as the world writes it."""
    return f"{settings.BASE_URL}{path}" if settings.BASE_URL else request.build_absolute_uri(path)


def site(request: HttpRequest) -> dict[str, Any]:
    """Template context of every page. What costs a query is asked for only where a template prints it.

    `balance` and `least_price` are in micro-dollars, `caps_hit` the caps that let nothing through.
    """
    least_price = cache(catalog.least_price)
    return {
        "is_sandbox": catalog.is_sandbox(),
        "balance": _balance_of(request),
        "least_price": least_price,
        "caps_hit": _caps_hit(request, least_price),
        "login_next": _login_next(request),
        "has_mail": settings.HAS_MAIL,
        "welcome_micros": settings.SIGNUP_GRANT_MICROS,
    }


def _balance_of(request: HttpRequest) -> Callable[[], int]:
    user = getattr(request, "user", None)
    return lambda: ledger.wallet_of(user).available if user is not None and user.is_authenticated else 0


def _caps_hit(request: HttpRequest, least_price: Callable[[], int]) -> Callable[[], list[CapHit]]:
    """No query for people without caps, which `User.has_caps` says."""
    user = getattr(request, "user", None)
    if user is None or not user.is_authenticated or not user.has_caps:
        return list
    return lambda: _hit(user, least_price())


def _hit(user: User, least: int) -> list[CapHit]:
    found = caps.hit(user, least)
    lines = [CapHit(caps.hit_in_words(cap, least), _place_of(cap), "Change this cap") for cap in found]
    of_keys = sum(cap.key is not None for cap in found)
    if of_keys <= MOST_OF_KEYS:
        return lines
    said = f"{of_keys} caps of your API keys are reached: not even the cheapest picture fits under them any more."
    return [*lines[:-of_keys], CapHit(said, reverse("keys"), "Look at your keys")]


def _place_of(cap: caps.Standing) -> str:
    return reverse("key", args=[cap.key.pk]) if cap.key else f"{reverse('caps')}#{cap.window}"


def refusal(no: Exception) -> str:
    """What a page says to a refusal: its words, and the way to more credits, or to change a cap of one's own."""
    if isinstance(no, ledger.NotEnoughCredit):
        return format_html('{} <a href="{}">Get more credits</a>', str(no), reverse("buy"))
    if not isinstance(no, ledger.CapReached) or not no.is_own:
        return str(no)
    return format_html('{} <a href="{}#{}">Change this cap</a>', str(no), reverse("caps"), no.window)


def _login_next(request: HttpRequest) -> str:
    """Where a visitor goes back to after logging in: here, or where the log-in page was asked to send them."""
    if not request.path.startswith("/accounts/"):
        return request.get_full_path()
    try:
        return request.GET.get("next", "")
    except SuspiciousOperation:  # too many fields: the page that says so must still be drawn
        return ""
