import json
import secrets
from argparse import ArgumentParser
from typing import Any

from allauth.account.models import EmailAddress
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.core.validators import validate_email
from django.db import transaction

from accounts import caps, credits, keys, ledger, names, trail, welcome
from accounts.addresses import canonical
from accounts.models import ApiKey, Cap, User

CAPS = {"cap_day": Cap.Window.DAY, "cap_month": Cap.Window.MONTH, "cap_job": Cap.Window.JOB}
KEY_CAPS = {f"key_cap_{window}": Cap.Window(window) for window in Cap.OF_KEY}


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
        parser.add_argument(
            "--reason", default="Granted by the operator", help="Why; on their statement and in the trail."
        )
        parser.add_argument("--staff", action="store_true", help="May use the admin, and everything in it.")
        _add_key_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        email = _email(options["email"])
        micros = _micros("--grant", options["grant"] or "0")
        stops, key_stops = _stops(options, CAPS), _stops(options, KEY_CAPS)
        _check_key(options, key_stops)
        if options["password"] == "":
            raise CommandError("--password must not be empty.")
        with transaction.atomic():
            user = _find_or_make(email, options["password"], is_staff=options["staff"])
            self._welcome(user)
            if micros:
                business_id = f"command:{secrets.token_hex(16)}"
                ledger.grant(user, micros, business_id=business_id, memo=options["reason"])
            caps.put_stops(user, stops)
            _log(user, micros, stops, options)
            text = _make_key(user, options, key_stops)
        self.stdout.write(json.dumps(_described(user) | ({"apiKey": text} if text else {})))

    def _welcome(self, user: User) -> None:
        """As at sign-up: within the day's budget, and later by the sweep where that is used up."""
        welcome.make_due(user)
        try:
            welcome.give(user)
        except ledger.CapReached as reached:
            self.stderr.write(f"{reached}")


def _add_key_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--api-key", metavar="NAME", help="Make a new API key each time; it is printed as apiKey."
    )
    parser.add_argument(
        "--test", action="store_true", help="Of the API key: a test key, which costs nothing."
    )
    for name, what in (
        ("day", "a UTC day"),
        ("month", "a UTC month"),
        ("total", "ever"),
        ("job", "a picture"),
    ):
        parser.add_argument(f"--key-cap-{name}", metavar="USD", help=f"Stop the API key at this much {what}.")


def _log(user: User, micros: int, stops: dict[str, int | None], options: dict[str, Any]) -> None:
    """What an operator did by hand belongs in the trail, also where there is no page. An account that is made does not."""
    done = [f"Granted {credits.both(micros)}"] if micros else []
    done += [
        f"cap of {name}: {'none' if stop is None else credits.usd(stop)}" for name, stop in stops.items()
    ]
    done += ["made an API key"] if options["api_key"] else []
    done += ["made a superuser of the staff"] if options["staff"] else []
    if done:
        told = f"{'; '.join(done)}: {options['reason']} ({trail.at_console('account')})"
        trail.log(trail.console(), user, told)


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


def _stops(options: dict[str, Any], caps_of: dict[str, Cap.Window]) -> dict[str, int | None]:
    """The caps that were given, in micro-dollars; None removes one."""
    given = {name: options[name] for name in caps_of if options[name] is not None}
    return {
        caps_of[name].value: None if usd == "none" else _micros(f"--{name.replace('_', '-')}", usd)
        for name, usd in given.items()
    }


def _check_key(options: dict[str, Any], stops: dict[str, int | None]) -> None:
    name, most = options["api_key"], ApiKey._meta.get_field("name").max_length or 0
    if name is None and (options["test"] or stops):
        raise CommandError("--test and --key-cap-... are about the key that --api-key NAME makes.")
    if name is not None and not 0 < len(name.strip()) <= most:
        raise CommandError(f"--api-key must be a name of 1 to {most} characters.")
    try:
        names.check(name or "")
    except ValidationError as error:
        raise CommandError(f"--api-key: {error.message}") from error
    if options["test"] and stops:
        raise CommandError("A test key costs nothing, so it has no caps.")


def _make_key(user: User, options: dict[str, Any], stops: dict[str, int | None]) -> str:
    """The text of a new key; empty where none is asked for."""
    if options["api_key"] is None:
        return ""
    try:
        return keys.make(user, options["api_key"].strip(), is_test=options["test"], stops=stops)[1]
    except keys.TooMany as no:
        raise CommandError(str(no)) from no


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
        "capsUsdMicros": dict(user.caps.filter(key=None).exclude(limit=None).values_list("window", "limit")),
    }
