"""The way into the admin: the site's own log-in page with its limits, and a second factor wherever there is one."""

from typing import Any
from urllib.parse import urlencode

from allauth.account.authentication import get_authentication_records
from allauth.account.utils import get_next_redirect_url
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import resolve_url
from django.urls import reverse
from django.views.decorators.cache import never_cache

ASK, SET_UP = "mfa_reauthenticate", "mfa_activate_totp"
FACTORS = [Authenticator.Type.TOTP, Authenticator.Type.WEBAUTHN]


def has_permission(request: HttpRequest) -> bool:
    """For `admin.site`: staff, and nobody's password alone where a second factor is set up."""
    return _is_staff(request) and not missing(request)


def login(request: HttpRequest, extra_context: Any = None) -> HttpResponse:
    """For `admin.site`: never asks for a password itself, for here nobody would count the attempts."""
    if not request.user.is_authenticated:
        return _to(resolve_url(settings.LOGIN_URL), request)
    if not _is_staff(request):
        raise PermissionDenied
    page = missing(request)
    if not page:
        return HttpResponseRedirect(_next(request))
    if page == SET_UP:
        messages.info(request, "The operator's desk wants a second factor: set one up, then go on.")
    return _to(reverse(page), request)


login = never_cache(login)


def password_change(request: HttpRequest, extra_context: Any = None) -> HttpResponse:
    """For `admin.site`: the site's own page, which counts the guesses at the old one and tells the owner by mail."""
    return HttpResponseRedirect(reverse("account_change_password"))


def missing(request: HttpRequest) -> str:
    """The page where the second factor that this session lacks is given or set up; empty where it lacks none.

    Asked for once a request; sessions that have given theirs cost no query, unless everybody must have one.
    """
    found: str | None = getattr(request, "_second_factor_missing", None)
    if found is None:
        found = _missing(request)
        request._second_factor_missing = found  # type: ignore[attr-defined]
    return found


def _missing(request: HttpRequest) -> str:
    records = get_authentication_records(request, request.user)
    has_given = any(record.get("method") == "mfa" for record in records)
    if has_given and not settings.ADMIN_REQUIRES_2FA:
        return ""
    if is_mfa_enabled(request.user, types=FACTORS):
        return "" if has_given else ASK
    return SET_UP if settings.ADMIN_REQUIRES_2FA else ""


def _is_staff(request: HttpRequest) -> bool:
    return bool(request.user.is_active and getattr(request.user, "is_staff", False))


def _next(request: HttpRequest) -> str:
    return get_next_redirect_url(request) or reverse("admin:index")


def _to(page: str, request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect(f"{page}?{urlencode({'next': _next(request)})}")
