"""Profile, notifications and sessions: what people set about their own account."""

from allauth.mfa.base.views import IndexView
from allauth.usersessions.internal.flows.sessions import end_other_sessions, end_sessions
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.db.models import F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import mails, visits, zones
from accounts.forms import NotificationsForm, ProfileForm
from accounts.models import User
from accounts.views.account import Request

_page_or_form = require_http_methods(["GET", "HEAD", "POST"])


@_page_or_form
@login_required
def profile(request: Request) -> HttpResponse:
    # A form of its own copy: what is refused must not show as the person's name on the page that refuses it.
    form = ProfileForm(request.POST or None, instance=User.objects.get(pk=request.user.pk))
    if request.method == "POST" and form.is_valid():
        form.save()
        messages.success(request, "Your profile is saved.")
        return redirect("profile")
    context = {"form": form, "zones": sorted(zones.known()), "now": timezone.now()}
    return render(request, "settings/profile.html", context, status=422 if form.errors else 200)


@_page_or_form
@login_required
def notifications(request: Request) -> HttpResponse:
    form = NotificationsForm(request.POST if request.method == "POST" else None, user=request.user)
    if form.is_valid():
        form.save()
        messages.success(request, "Your choice is saved.")
        return redirect("notifications")
    always = [kind for kind in mails.KINDS if not kind.is_optional]
    return render(request, "settings/notifications.html", {"form": form, "always": always})


# Passwords, second factors and passkeys are allauth's; this is the page that leads to them.
security = never_cache(login_required(IndexView.as_view()))


# --- Sessions -------------------------------------------------------------------------------------------
@require_safe
@login_required
@never_cache
def sessions(request: Request) -> HttpResponse:
    return render(request, "settings/sessions.html", {"visits": visits.visits(request)})


@require_POST
@login_required
def session_end(request: Request, session_id: int) -> HttpResponse:
    session = get_object_or_404(UserSession, pk=session_id, user=request.user)
    end_sessions(request, [session])
    messages.success(request, f"The session of {visits.device(session.user_agent)} is ended.")
    return redirect("sessions" if request.user.is_authenticated else "account_login")


@require_POST
@login_required
def sessions_end_others(request: Request) -> HttpResponse:
    """All but this one, also those that the list does not know: they carry another number of sign-outs from now on."""
    end_other_sessions(request, request.user)
    User.objects.filter(pk=request.user.pk).update(sign_outs=F("sign_outs") + 1)
    request.user.refresh_from_db(fields=["sign_outs"])
    before = request.session.session_key
    update_session_auth_hash(request, request.user)  # which gives this one a new name
    UserSession.objects.filter(session_key=before).update(session_key=request.session.session_key)
    messages.success(request, "All other sessions are ended.")
    return redirect("sessions")
