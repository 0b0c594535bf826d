"""Buying credits: the amounts, the way to the card and back, and Stripe's webhook."""

import logging
import uuid
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import ledger, stripe_api, stripe_events, topups
from accounts.models import TopUp, User
from accounts.topup_forms import BuyForm
from accounts.views.account import Request

logger = logging.getLogger(__name__)

MOST_BYTES = 256 * 1024
PURCHASES_SHOWN = 50
LOOK_EVERY_S = 5  # at most, at Stripe, while somebody waits on the page
_STOP_POLLING = 286


# --- Buying -------------------------------------------------------------------------------------------
@require_http_methods(["GET", "HEAD", "POST"])
@login_required
@never_cache
def buy(request: Request) -> HttpResponse:
    """The amounts; or, where nothing is sold, whom to ask."""
    if request.method != "POST":
        return _shop(request, BuyForm())
    form = BuyForm(request.POST)
    if not _may_buy(request.user) or not form.is_valid():
        return _shop(request, form, status=422)
    if topups.has_too_many_open(request.user):
        form.add_error(None, "You have begun many purchases without paying. Please wait an hour.")
        return _shop(request, form, status=429)
    top_up = topups.order(request.user, form.cleaned_data["cents"], form.cleaned_data["once"])
    return (
        _to_the_card(request, top_up, form) if top_up.is_open else _see(reverse("top_up", args=[top_up.pk]))
    )


def _to_the_card(request: Request, top_up: TopUp, form: BuyForm) -> HttpResponse:
    """A page that goes on to Stripe by itself: a redirect of this form's answer is what our own policy forbids."""
    try:
        url = topups.checkout(top_up, _absolute(request, reverse("top_up", args=[top_up.pk])))
    except stripe_api.Unavailable:
        form.add_error(
            None, "The payment page cannot be reached right now. Nothing was paid. Please try again."
        )
        return _shop(request, form, status=503)
    if not url:
        return _see(reverse("top_up", args=[top_up.pk]))
    return render(request, "topups/leave.html", {"top_up": top_up, "url": url})


def _shop(request: Request, form: BuyForm, status: int = 200) -> HttpResponse:
    bought = TopUp.objects.visible_to(request.user).filter(state=TopUp.State.PAID).order_by("-created")
    chosen = form["cents"].value()
    context = {
        "form": form,
        "is_on": _may_buy(request.user),
        "wallet": ledger.wallet_of(request.user),
        "amounts": [(cents, cents * topups.MICROS_PER_CENT) for cents in topups.offered()],
        "chosen": int(chosen) if str(chosen).isdecimal() else _middle(topups.offered()),
        "bought": bought[:PURCHASES_SHOWN],
        "operator": settings.OPERATOR_EMAIL,
    }
    return render(request, "topups/buy.html", context, status=status)


def _may_buy(user: User) -> bool:
    return stripe_api.is_on() and not user.suspended


def _middle(amounts: list[int]) -> int:
    return amounts[len(amounts) // 2]


# --- Coming back --------------------------------------------------------------------------------------
@require_safe
@login_required
@never_cache
def top_up(request: Request, top_up_id: uuid.UUID) -> HttpResponse:
    """What became of one purchase; while that is open, it asks Stripe itself."""
    return render(request, "topups/top_up.html", _purchase(request, top_up_id))


@require_safe
@login_required
@never_cache
def top_up_progress(request: Request, top_up_id: uuid.UUID) -> HttpResponse:
    context = _purchase(request, top_up_id) | {"is_fragment": True}
    status = 200 if context["top_up"].is_open else _STOP_POLLING
    return render(request, "topups/top_up.html#progress", context, status=status)


def _purchase(request: Request, top_up_id: uuid.UUID) -> dict[str, Any]:
    found = get_object_or_404(TopUp.objects.visible_to(request.user), pk=top_up_id)
    if found.is_open and stripe_api.is_on() and cache.add(f"top-up-look:{found.pk}", 1, LOOK_EVERY_S):
        with suppress(stripe_api.Unavailable):  # the webhook or the sweep will tell
            topups.refresh(found)
    return {
        "top_up": found,
        "came_back": request.GET.get("back", ""),
        "wallet": ledger.wallet_of(request.user),
        "once": uuid.uuid4(),
        "operator": settings.OPERATOR_EMAIL,
    }


@require_safe
@login_required
@never_cache
def receipt(request: Request, top_up_id: uuid.UUID) -> HttpResponse:
    """One purchase, to be printed."""
    paid = TopUp.objects.visible_to(request.user).filter(state=TopUp.State.PAID)
    found = get_object_or_404(paid, pk=top_up_id)
    context = {
        "top_up": found,
        "back": found.micros_of(found.paid_back_cents),
        "disputed": found.micros_of(found.disputed_cents),
        "seller": settings.OPERATOR_NAME,
        "seller_email": settings.OPERATOR_EMAIL,
        "seller_url": settings.BASE_URL,
    }
    return render(request, "topups/receipt.html", context)


# --- Stripe's webhook ---------------------------------------------------------------------------------
@csrf_exempt
@require_POST
def stripe_hook(request: HttpRequest) -> HttpResponse:
    """Stored and handled before we answer. 500 makes Stripe send it again; what only a person can mend is 200."""
    if not stripe_api.is_on():
        raise Http404
    body = request.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        return JsonResponse({"error": "too large"}, status=413)
    try:
        said = stripe_api.verified(body, request.headers.get("Stripe-Signature", ""))
    except stripe_api.Forged as forged:
        logger.warning("A webhook that is not Stripe's: %s", forged)
        return JsonResponse({"error": "not signed by Stripe"}, status=400)
    try:
        stripe_events.receive(said)
    except Exception:
        logger.exception("Stripe event %s could not be handled", said["id"])
        return JsonResponse({"error": "send it again"}, status=500)
    return JsonResponse({"received": True})


def _absolute(request: HttpRequest, path: str) -> str:
    return f"{settings.BASE_URL}{path}" if settings.BASE_URL else request.build_absolute_uri(path)


def _see(url: str) -> HttpResponseRedirect:
    answer = HttpResponseRedirect(url)
    answer.status_code = 303
    return answer
