"""What allauth asks us: who counts as somebody already known, and what happens once an address is proven."""

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib import messages
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse

from accounts import credits, ledger, welcome
from accounts.addresses import canonical
from accounts.models import User


class AccountAdapter(DefaultAccountAdapter):
    error_messages = DefaultAccountAdapter.error_messages | {
        "email_taken": "There is already an account for this address. Log in, or reset its password.",
    }

    def save_user(self, request: HttpRequest, user: User, form: BaseForm, commit: bool = True) -> User:
        """Without a mail server there is nothing to wait for: the welcome is due with the account."""
        user.awaits_welcome = not settings.HAS_MAIL
        return super().save_user(request, user, form, commit)

    def is_safe_url(self, url: str | None) -> bool:
        """allauth's own trips over a `next` such as `http://[`."""
        try:
            return bool(super().is_safe_url(url))
        except ValueError:
            return False

    def confirm_email(self, request: HttpRequest, email_address: EmailAddress) -> bool:
        confirmed = super().confirm_email(request, email_address)
        if confirmed:
            welcome.make_due(email_address.user)
            _welcome(request, email_address.user)
        return confirmed

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        if user.awaits_welcome:
            _welcome(request, user)
        return super().post_login(request, user, **kwargs)


def is_taken(email: str, *, but_by: User | None = None) -> bool:
    """Whether a person (other than `but_by`) is known under this address, however it is spelt."""
    known = User.objects.filter(canonical_email=canonical(email))
    return (known.exclude(pk=but_by.pk) if but_by else known).exists()


def _welcome(request: HttpRequest, user: User) -> None:
    """Gives the welcome credits if it can, and says what came of it. An account never fails because of them."""
    try:
        if welcome.give(user):
            gift = credits.both(settings.SIGNUP_GRANT_MICROS)
            messages.success(request, f"Welcome! {gift} are yours to try things out.")
    except ledger.CapReached as reached:
        messages.info(request, f"Your account is ready. {reached}")
