"""The account's own data: everything of it as a ZIP, and the way out."""

from typing import Any

from allauth.account.decorators import reauthentication_required
from allauth.core.exceptions import ReauthenticationRequired
from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from accounts import erasure, ledger
from accounts.forms import DeletionForm
from playground import deletion, export, turns
from playground.http import Request
from playground.models import Job, Picture


@require_safe
@login_required
@never_cache
def your_data(request: Request) -> HttpResponse:
    return _page(request)


def _page(request: Request, *, is_ready: bool = False, problem: str = "", status: int = 200) -> HttpResponse:
    count = Picture.objects.visible_to(request.user).kept().exclude(key="").count()
    context = {"pictures": count, "is_ready": is_ready, "problem": problem}
    return render(request, "settings/data.html", context, status=status)


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@never_cache
def export_data(request: Request) -> HttpResponseBase:
    """Whoever is asked for a password first comes back to the button. A download leaves the page that began it as it
    is, and the one that asks would look as if nothing had happened."""
    if request.method != "POST":
        return _ready(request)
    try:
        return _download(request)
    except ReauthenticationRequired:
        return redirect("export")


@reauthentication_required
def _ready(request: Request) -> HttpResponse:
    return _page(request, is_ready=True)


@reauthentication_required
def _download(request: Request) -> HttpResponseBase:
    """Streamed: a thread of ours is busy for as long as it takes, so there are only so many at once."""
    try:
        turn = turns.taken(request.user)
    except turns.Busy as busy:
        return _page(request, problem=str(busy), status=429)
    pieces = turns.Turn(turn, export.stream(request.user))
    response = StreamingHttpResponse(pieces, content_type="application/zip")
    name = f"flux-playground-{timezone.now():%Y-%m-%d}.zip"
    response["Content-Disposition"] = f'attachment; filename="{name}"'
    response["X-Accel-Buffering"] = "no"
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@never_cache
@reauthentication_required
def delete_account(request: Request) -> HttpResponse:
    """Says what goes and what stays; asks for the address; and then it is done."""
    form = DeletionForm(request.POST if request.method == "POST" else None, user=request.user)
    if not form.is_valid():
        return render(
            request, "settings/delete.html", _standing(request, form), status=422 if form.errors else 200
        )
    try:
        deletion.begin(request.user)
    except erasure.LastSuperuser:
        form.add_error(None, "You are the last superuser. Make somebody else one first.")
        return render(request, "settings/delete.html", _standing(request, form), status=422)
    logout(request)
    return redirect("deleted")


def _standing(request: Request, form: DeletionForm) -> dict[str, Any]:
    wallet = ledger.wallet_of(request.user)
    return {
        "form": form,
        "wallet": wallet,
        "open_jobs": Job.objects.visible_to(request.user).open().count(),
        "pictures": Picture.objects.visible_to(request.user).kept().exclude(key="").count(),
    }


@require_safe
def deleted(request: Request) -> HttpResponse:
    return render(request, "settings/deleted.html")
