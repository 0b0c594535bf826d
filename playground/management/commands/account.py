import json
import secrets
from argparse import ArgumentParser
from typing import Any

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email
from django.db import transaction

from accounts import caps, credits, ledger, welcome
from accounts.addresses import canonical
from accounts.models import Cap, User

CAPS = {"cap_day": Cap.Window.DAY, "cap_month": Cap.Window.MONTH, "cap_job": Cap.Window.JOB}


class Command(BaseCommand):
    help = "Makes or finds an account, verified, and prints it as one JSON object."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("email")
        parser.add_argument(
            "--password", help="Set this password; without it the account keeps the one it has."
        )
        parser.add_argument(
            "--grant", metavar="USD", help="Give this much, beside the sign-up gift, each time."
        )
        for name, what in (("day", "a UTC day"), ("month", "a UTC month"), ("job", "one picture")):
            parser.add_argument(
                f"--cap-{name}", metavar="USD", help=f"Stop at this much for {what}; 'none' removes the cap."
            )
        parser.add_argument("--staff", action="store_true", help="May use the admin, and everything in it.")

    def handle(self, *args: Any, **options: Any) -> None:
        email = _email(options["email"])
        micros = _micros("--grant", options["grant"] or "0")
        stops = _stops(options)
        if options["password"] == "":
            raise CommandError("--password must not be empty.")
        with transaction.atomic():
            user = _find_or_make(email, options["password"], is_staff=options["staff"])
            self._welcome(user)
            if micros:
                business_id = f"command:{secrets.token_hex(16)}"
                ledger.grant(user, micros, business_id=business_id, memo="Granted by the operator")
            caps.put_stops(user, stops)
        self.stdout.write(json.dumps(_described(user)))

    def _welcome(self, user: User) -> None:
        """As at sign-up: within the day's budget, and later by the sweep where that is used up."""
        welcome.make_due(user)
        try:
            welcome.give(user)
        except ledger.CapReached as reached:
            self.stderr.write(f"{reached}")


def _email(text: str) -> str:
    try:
        validate_email(text.strip())
    except ValidationError as error:
        raise CommandError(f"{text!r} is not an e-mail address.") from error
    return text.strip().lower()


def _micros(option: str, usd: str) -> int:
    try:
        return credits.micros_of(usd)
    except ValueError as error:
        raise CommandError(f"{option} must be {error}, not {usd!r}.") from error


def _stops(options: dict[str, Any]) -> dict[str, int | None]:
    """The caps that were given, in micro-dollars; None removes one."""
    given = {name: options[name] for name in CAPS if options[name] is not None}
    return {
        CAPS[name].value: None if usd == "none" else _micros(f"--{name.replace('_', '-')}", usd)
        for name, usd in given.items()
    }


def _find_or_make(email: str, password: str | None, *, is_staff: bool) -> User:
    user, _ = User.objects.get_or_create(canonical_email=canonical(email), defaults={"email": email})
    if password is not None:
        user.set_password(password)
    elif not user.password:
        user.set_unusable_password()
    if is_staff:
        user.is_staff = user.is_superuser = True
    user.save()
    EmailAddress.objects.filter(user=user, primary=True).exclude(email=user.email).update(primary=False)
    EmailAddress.objects.update_or_create(
        user=user, email=user.email, defaults={"verified": True, "primary": True}
    )
    return user


def _described(user: User) -> dict[str, Any]:
    wallet = ledger.wallet_of(user)
    return {
        "id": user.pk,
        "email": user.email,
        "isStaff": user.is_staff,
        "balanceUsdMicros": wallet.posted,
        "availableUsdMicros": wallet.available,
        "capsUsdMicros": dict(user.caps.exclude(limit=None).values_list("window", "limit")),
    }
