from collections.abc import Iterable
from typing import Any

from allauth.account import app_settings
from allauth.account.adapter import get_adapter
from allauth.account.forms import AddEmailForm as AllauthAddEmailForm
from allauth.account.forms import LoginForm as AllauthLoginForm
from allauth.account.forms import SignupForm as AllauthSignupForm
from django import forms
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from accounts import credits, mails, names, zones
from accounts.adapter import is_taken
from accounts.addresses import canonical
from accounts.caps import Standing
from accounts.models import User


def check_length(email: str) -> None:
    """An address of rare letters can be several times as long in the form under which it is counted."""
    if len(canonical(email)) > (User._meta.get_field("canonical_email").max_length or 0):
        raise ValidationError("This address is too long.")


class SignupForm(AllauthSignupForm):
    """One account a person, however they spell their address."""

    def validate_unique_email(self, value: str) -> str:
        check_length(value)
        email: str = super().validate_unique_email(value)
        if not self.account_already_exists and is_taken(email):
            self._say_taken()
        return email

    def _say_taken(self) -> None:
        """With a mail server the page says nothing and the owner gets a mail: strangers cannot ask who has an account."""
        if app_settings.EMAIL_VERIFICATION != app_settings.EmailVerificationMethod.MANDATORY:
            raise get_adapter().validation_error("email_taken")
        self.account_already_exists = True

    def try_save(self, request: HttpRequest) -> tuple[User | None, HttpResponse | None]:
        """Two sign-ups for one address at the same moment: both found it free, and only one can have it."""
        try:
            with transaction.atomic():
                return super().try_save(request)
        except IntegrityError:
            if not is_taken(self.cleaned_data["email"]):
                raise
        self.add_error("email", get_adapter().validation_error("email_taken"))
        return None, render(request, "account/signup.html", {"form": self}, status=422)


class LoginForm(AllauthLoginForm):
    """Takes any spelling of the address, and goes on with the one that the account has."""

    def clean_login(self) -> str:
        typed: str = super().clean_login()
        known = User.objects.filter(canonical_email=canonical(typed)).values_list("email", flat=True)
        return known.first() or typed


class AddEmailForm(AllauthAddEmailForm):
    """Another address for the same person: nobody else's, in no spelling."""

    def clean_email(self) -> str:
        email: str = super().clean_email()
        check_length(email)
        if is_taken(email, but_by=self.user):
            raise get_adapter().validation_error("email_taken")
        return email


class UsdField(forms.CharField):
    """Dollars as people type them; cleaned to whole micro-dollars, None where it is empty."""

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, max_length=20, **options)
        self.widget.attrs |= {"inputmode": "decimal", "placeholder": "none", "autocomplete": "off"}

    def clean(self, value: Any) -> Any:
        typed = super().clean(value)
        try:
            return credits.micros_of(typed) if typed else None
        except ValueError as error:
            raise ValidationError(f"This must be {error}.") from error


def seen(amounts: Iterable[int | None]) -> str:
    """The caps that a page shows, for the form to say what it was made from."""
    return ":".join("" if micros is None else str(micros) for micros in amounts) or "none"


def check_warning(form: forms.Form, warn: str, stop: str) -> None:
    """Says beside the field `warn` that it must be less than the field `stop`, where it is not."""
    at, end = form.cleaned_data.get(warn), form.cleaned_data.get(stop)
    if at is not None and end is not None and at >= end:
        form.add_error(warn, "A warning must come before the stop: choose less than “stop at”.")


class CapForm(forms.Form):
    """Where one cap warns and where it stops. `seen` is what they were when the page was shown: one that lay open in
    another tab undoes nothing unseen."""

    warn = UsdField(label="Warn at, USD")
    stop = UsdField(label="Stop at, USD")
    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    @classmethod
    def of(cls, standing: Standing) -> "CapForm":
        shown = {"warn": standing.warn, "stop": standing.stop}
        typed = {
            name: credits.usd(micros).lstrip("$") for name, micros in shown.items() if micros is not None
        }
        initial = {name: text.replace(",", "") for name, text in typed.items()}
        return cls(initial={**initial, "seen": seen([standing.warn, standing.stop])}, prefix=standing.window)

    def is_behind(self, standing: Standing) -> bool:
        """Whether the cap is neither what was shown nor what is asked for."""
        now = seen([standing.warn, standing.stop])
        asked = seen([self.cleaned_data["warn"], self.cleaned_data["stop"]])
        return self.cleaned_data["seen"] not in ("", now) and asked != now

    def clean(self) -> dict[str, Any]:
        super().clean()
        check_warning(self, "warn", "stop")
        return self.cleaned_data


# --- The account's own desk -----------------------------------------------------------------------------
class ProfileForm(forms.ModelForm):
    class Meta:
        model = User
        fields = ["name", "time_zone"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["name"].validators.append(names.check)
        self.fields["name"].widget.attrs["autocomplete"] = "name"
        self.fields["time_zone"].widget.attrs |= {
            "list": "zones",
            "autocomplete": "off",
            "spellcheck": "false",
        }

    def clean_time_zone(self) -> str:
        """Spelt in any case, and with blanks for underscores: `new york` alone is not one, `america/new york` is."""
        typed = self.cleaned_data["time_zone"].strip()
        spelt = typed.replace(" ", "_").casefold()
        found = next((name for name in zones.known() if name.casefold() == spelt), None)
        if typed and found is None:
            raise ValidationError(
                "This is no time zone that we know. Choose one of the list, such as Europe/Berlin."
            )
        return found or ""

    def save(self, commit: bool = True) -> User:
        """Its own columns, and no other of the row as it was when the page was asked for."""
        self.instance.save(update_fields=self._meta.fields)
        return self.instance


class NotificationsForm(forms.Form):
    """One box a kind of mail that may be switched off; ticked means wanted."""

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        for kind in mails.optional():
            self.fields[kind.name] = forms.BooleanField(
                label=kind.title, help_text=kind.says, required=False, initial=mails.wants(user, kind.name)
            )

    def save(self) -> None:
        self.user.muted = [name for name, is_wanted in self.cleaned_data.items() if not is_wanted]
        self.user.save(update_fields=["muted"])


class DeletionForm(forms.Form):
    """Typing the address is the last question."""

    address = forms.CharField(label="Your e-mail address", max_length=254)

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        self.fields["address"].widget.attrs |= {
            "autocomplete": "off",
            "spellcheck": "false",
            "inputmode": "email",
        }

    def clean_address(self) -> str:
        typed: str = self.cleaned_data["address"]
        if canonical(typed) != self.user.canonical_email:
            raise ValidationError("This is not the address of your account.")
        return typed
