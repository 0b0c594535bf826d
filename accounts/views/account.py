"""The account page, and the one page of allauth's that needs a guard."""

from allauth.account.views import email as allauth_email
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from accounts import ledger, statement
from accounts.adapter import AccountAdapter
from accounts.models import Cap, User


class Request(HttpRequest):
    """Of somebody who is logged in."""

    user: User


@require_safe
@login_required
def account(request: Request) -> HttpResponse:
    """What you have, what is held, and where every credit went."""
    before = statement.cursor(request.GET.get("before", ""))
    wallet = ledger.wallet_of(request.user)
    lines, older = statement.page(wallet, before)
    context = {
        "wallet": wallet,
        "holds": statement.held(wallet),
        "lines": lines,
        "older": older,
        "is_first_page": before is None,
        "previews_left": previews_left(request.user),
        "previews_a_day": settings.PREVIEWS_PER_DAY,
        "welcome_micros": settings.SIGNUP_GRANT_MICROS,
    }
    return render(request, "account_money.html", context)


def previews_left(user: User) -> int:
    """How many free previews the person can still ask for today (UTC)."""
    used = ledger.usage(f"user:{user.pk}/previews", Cap.Window.DAY)
    return max(settings.PREVIEWS_PER_DAY - used.spent - used.reserved, 0)


def email(request: HttpRequest) -> HttpResponse:
    """allauth's page, for the day when an address that was free when it was added belongs to somebody by now."""
    if "action_primary" not in request.POST:
        return allauth_email(request)
    try:
        with transaction.atomic():
            return allauth_email(request)
    except IntegrityError:
        messages.error(request, AccountAdapter.error_messages["email_taken"])
        return redirect("account_email")
