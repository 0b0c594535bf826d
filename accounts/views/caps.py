"""The page of spend caps: one form a cap, and the question before a cap is set below what is used already."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST, require_safe

from accounts import caps, credits
from accounts.caps import Standing
from accounts.forms import CapForm
from accounts.models import Cap, User


class Request(HttpRequest):
    """Of somebody who is logged in."""

    user: User


@require_safe
@login_required
@cache_control(private=True, no_cache=True)
def spend_caps(request: Request) -> HttpResponse:
    return _page(request)


@require_POST
@login_required
def spend_cap(request: Request, window: str) -> HttpResponse:
    """Sets one cap at once; asks first where that stops what was not stopped before."""
    if window not in Cap.OF_ACCOUNT:
        raise Http404
    form = CapForm(request.POST, prefix=window)
    if not form.is_valid():
        return _page(request, {window: form}, status=422)
    stop, warn = form.cleaned_data["stop"], form.cleaned_data["warn"]
    standing = next(known for known in caps.standings(request.user) if known.window == window)
    if form.is_behind(standing):
        known = _done(window, standing.stop, standing.warn)
        messages.error(request, f"Nothing was saved: it was changed meanwhile. {known}")
        return _see_other(window)
    if _asks_first(standing, stop) and "sure" not in request.POST:
        return render(request, "caps_sure.html", _question(form, standing, stop))
    caps.put(request.user, window, stop=stop, warn=warn)
    messages.success(request, _done(window, stop, warn))
    return _see_other(window)


def _see_other(window: str) -> HttpResponse:
    answer = HttpResponseRedirect(f"{reverse('caps')}#{window}")
    answer.status_code = 303
    return answer


def _asks_first(standing: Standing, stop: int | None) -> bool:
    is_lower = stop is not None and (standing.stop is None or stop < standing.stop)
    return is_lower and stop is not None and stop < standing.used


def _question(form: CapForm, standing: Standing, stop: int | None) -> dict[str, Any]:
    return {"form": form, "standing": standing, "stop": stop, "name": caps.name_of(standing.window)}


def _done(window: str, stop: int | None, warn: int | None) -> str:
    name = caps.name_of(window)
    if stop is None and warn is None:
        return f"Your {name} is removed."
    says = [f"stops at {credits.usd(stop)}"] if stop is not None else ["stops nothing"]
    says += [f"warns at {credits.usd(warn)}"] if warn is not None else []
    return f"Your {name} now {' and '.join(says)}."


def _page(request: Request, bound: dict[str, CapForm] | None = None, *, status: int = 200) -> HttpResponse:
    shown = [
        (standing, (bound or {}).get(standing.window) or CapForm.of(standing))
        for standing in caps.standings(request.user)
    ]
    return render(request, "caps.html", {"caps": shown}, status=status)
