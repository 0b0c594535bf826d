"""What allauth asks us: who counts as somebody already known, and what happens once an address is proven."""

import logging
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib import messages
from django.core.mail import EmailMessage
from django.forms import BaseForm
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string

from accounts import credits, ledger, mails, visits, welcome
from accounts.addresses import canonical
from accounts.models import User

logger = logging.getLogger(__name__)


class AccountAdapter(DefaultAccountAdapter):
    is_first_login = False
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

    def set_password(self, user: User, password: str) -> None:
        """Nothing else: making the hash takes long enough for staff to change what this person may do."""
        user.set_password(password)
        user.save(update_fields=["password"])

    def login(self, request: HttpRequest, user: User) -> None:
        self.is_first_login = user.last_login is None
        super().login(request, user)

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        if user.awaits_welcome:
            _welcome(request, user)
        response = super().post_login(request, user, **kwargs)
        visits.greet(request, response, user, is_first=self.is_first_login or kwargs["signup"])
        return response

    # --- Mails ---
    def render_mail(
        self, template_prefix: str, email: str | list[str], context: dict[str, Any], headers: Any = None
    ) -> EmailMessage:
        """allauth's mails in our frame, and with a heading in HTML."""
        subject = " ".join(render_to_string(f"{template_prefix}_subject.txt", context).split())
        frame = {**mails.frame(), "subject": subject, "security_url": mails.link("security")}
        return super().render_mail(template_prefix, email, {**frame, **context}, headers)

    def send_notification_mail(
        self,
        template_prefix: str,
        user: User,
        context: dict[str, Any] | None = None,
        email: str | None = None,
    ) -> None:
        """Of something that has happened already, which a mail server that is away must not make look undone."""
        if not settings.HAS_MAIL:
            return
        told = {**visits.arrival(self.request), **(context or {})}
        try:
            super().send_notification_mail(template_prefix, user, told, email or user.email)
        except OSError as error:
            logger.warning("A mail (%s) to account %s was not taken: %r", template_prefix, user.pk, error)


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
