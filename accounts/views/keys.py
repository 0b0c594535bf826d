"""The pages of API keys. A key's text is in one answer only, and that one is stored nowhere."""

import secrets
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import caps, keyring, statement
from accounts import keys as api_keys
from accounts.caps import Standing
from accounts.key_forms import KeyForm, NewKeyForm, RotateForm, of_key
from accounts.models import ApiKey, User


class Request(HttpRequest):
    """Of somebody who is logged in."""

    user: User


# --- The list -----------------------------------------------------------------------------------------
@require_safe
@login_required
@cache_control(private=True, no_cache=True)
def keys(request: Request) -> HttpResponse:
    before = statement.cursor(request.GET.get("before", ""))
    ended, older = keyring.ended(request.user, before)
    context = {
        "working": keyring.working(request.user),
        "ended": ended,
        "older": older,
        "is_first_page": before is None,
        "has_room": api_keys.has_room(request.user),
        "most": api_keys.MOST,
    }
    return render(request, "keys.html", context)


# --- A new one ----------------------------------------------------------------------------------------
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@cache_control(private=True, no_store=True)
def key_make(request: Request) -> HttpResponse:
    """The form, and the one answer with the key's text."""
    if request.method != "POST":
        return _new(request, NewKeyForm.blank(secrets.token_urlsafe(16)))
    form = NewKeyForm(request.POST)
    if not form.is_valid():
        return _new(request, form, status=422)
    try:
        key, text = api_keys.make(
            request.user,
            form.cleaned_data["name"],
            is_test=form.is_test,
            expires=form.expires,
            **_caps_asked(form, is_test=form.is_test),
            once=form.cleaned_data["once"],
        )
    except api_keys.AlreadyMade as made:
        return _shown_already(request, made.key)
    except api_keys.TooMany as no:
        form.add_error(None, str(no))
        return _new(request, form, status=422)
    return _shown(request, key, text)


def _caps_asked(form: KeyForm, *, is_test: bool) -> dict[str, Any]:
    """Of a test key there are none: it costs nothing."""
    return {"stops": {}, "warns": {}} if is_test else {"stops": form.stops, "warns": form.warns}


def _new(request: Request, form: NewKeyForm, *, status: int = 200) -> HttpResponse:
    context = {"form": form, "has_room": api_keys.has_room(request.user), "most": api_keys.MOST}
    return render(request, "keys_new.html", context, status=status)


def _shown(request: Request, key: ApiKey, text: str, **about: Any) -> HttpResponse:
    base = settings.BASE_URL or f"{request.scheme}://{request.get_host()}"
    return render(request, "keys_shown.html", {"key": key, "text": text, "base": base, **about})


def _shown_already(request: Request, key: ApiKey) -> HttpResponse:
    return render(request, "keys_again.html", {"key": key}, status=409)


# --- One of them --------------------------------------------------------------------------------------
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@cache_control(private=True, no_cache=True)
def key(request: Request, key_id: int) -> HttpResponse:
    """Its page; a POST changes its name, caps and end, and asks first where a cap would stop it at once."""
    mine = _mine(request, key_id)
    if request.method != "POST":
        return _page(request, mine, _form_of(mine))
    form = KeyForm(request.POST)
    if not form.is_valid():
        return _page(request, mine, form, status=422)
    if not mine.is_test and form.is_behind(api_keys.stops_of(mine), api_keys.warns_of(mine)):
        messages.error(
            request, "Nothing was saved: its caps were changed meanwhile. Here they are as they are now."
        )
        return _see_other("key", mine.pk)
    stopping = _stopping(mine, form.stops)
    if stopping and "sure" not in request.POST:
        return render(request, "keys_sure.html", {"key": mine, "form": form, "stopping": stopping})
    name, asked = form.cleaned_data["name"], _caps_asked(form, is_test=mine.is_test)
    if api_keys.change(mine, name=name, expires=form.expires, **asked):
        messages.success(request, f"“{name}” is saved.")
        return _see_other("keys")
    messages.error(request, f"“{mine.name}” has ended or has been rotated, so nothing was changed.")
    return _see_other("key", mine.pk)


def _form_of(mine: ApiKey) -> KeyForm:
    return of_key(mine, api_keys.stops_of(mine), api_keys.warns_of(mine))


def _mine(request: Request, key_id: int) -> ApiKey:
    rows = ApiKey.objects.visible_to(request.user).select_related("replaced_by", "replaces")
    return get_object_or_404(rows, pk=key_id)


def _page(request: Request, mine: ApiKey, form: KeyForm, **more: Any) -> HttpResponse:
    now = timezone.now()
    [entry] = keyring.entries([mine], now)
    context = {
        "key": mine,
        "entry": entry,
        "form": form,
        "rotating": more.get("rotating") or RotateForm(),
        "works": mine.works(now),
        "waits_for": mine.replaces if mine.replaces and mine.replaces.works(now) else None,
    }
    return render(request, "keys_edit.html", context, status=more.get("status", 200))


def _stopping(mine: ApiKey, stops: dict[str, int | None]) -> list[tuple[Standing, int]]:
    """The caps that would be below what is used already, and were not before."""
    if mine.is_test:
        return []
    standings = caps.key_standings([mine])[mine.pk]
    asked = [(standing, stops[standing.window]) for standing in standings]
    return [
        (standing, stop)
        for standing, stop in asked
        if stop is not None and stop < standing.used and (standing.stop is None or stop < standing.stop)
    ]


@require_POST
@login_required
@cache_control(private=True, no_store=True)
def key_rotate(request: Request, key_id: int) -> HttpResponse:
    """A new key in its place; the one answer with its text, and when the old one ends."""
    mine = _mine(request, key_id)
    form = RotateForm(request.POST)
    if not form.is_valid():
        return _page(request, mine, _form_of(mine), rotating=form, status=422)
    now = timezone.now()  # before it, so that a day is said to be a day
    try:
        new, text = api_keys.rotate(mine, overlap=timedelta(hours=form.cleaned_data["overlap"]))
    except api_keys.AlreadyMade as made:
        return _shown_already(request, made.key)
    except api_keys.CannotRotate as no:
        messages.error(request, str(no))
        return _see_other("key", mine.pk)
    old = _mine(request, key_id)
    ends = keyring.ends_in_words(old, now) if old.works(timezone.now()) else ""
    return _shown(request, new, text, old=old, old_ends=ends)


@require_POST
@login_required
@cache_control(private=True, no_cache=True)
def key_revoke(request: Request, key_id: int) -> HttpResponse:
    """Asks, and ends it at once."""
    mine = _mine(request, key_id)
    now = timezone.now()
    if mine.works(now) and "sure" not in request.POST:
        used = keyring.used_in_words(mine, now)
        return render(request, "keys_revoke.html", {"key": mine, "used": used})
    if api_keys.revoke(mine):
        messages.success(request, f"“{mine.name}” is revoked: it opens nothing any more.")
    else:
        messages.info(request, f"“{mine.name}” had ended already.")
    return _see_other("keys")


def _see_other(name: str, *arguments: int) -> HttpResponse:
    answer = HttpResponseRedirect(reverse(name, args=arguments))
    answer.status_code = 303
    return answer
