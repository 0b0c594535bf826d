"""Settings from environment variables: read once, every mistake collected and shown by `manage.py check`.

A wrong value never stops the import of the settings, because then no check could say what is wrong with it:
the default is used, the mistake is kept in `problems`, and the check `playground.E001` refuses to start.
"""

import os
import secrets
from decimal import Decimal, InvalidOperation
from pathlib import Path

MICROS_PER_USD = 1_000_000

problems: list[tuple[str, str]] = []


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def words(name: str) -> list[str]:
    """A comma-separated list."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def whole(name: str, default: int, *, least: int = 0) -> int:
    value = text(name, str(default))
    try:
        number = int(value)
    except ValueError:
        return _wrong(name, f"must be a whole number, not {value!r}", default)
    if number < least:
        return _wrong(name, f"must be at least {least}, not {number}", default)
    return number


def seconds(name: str, default: str) -> Decimal:
    value = text(name, default)
    try:
        number = Decimal(value)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or number < 0:
        return _wrong(name, f"must be a number of seconds such as 2.5, not {value!r}", Decimal(default))
    return number


def usd(name: str, default: str) -> int:
    """An amount in US dollars, as whole micro-dollars."""
    value = text(name, default).removeprefix("$")
    try:
        micros = Decimal(value) * MICROS_PER_USD
    except InvalidOperation:
        micros = Decimal("NaN")
    if not micros.is_finite() or micros < 0 or micros != micros.to_integral_value():
        message = (
            f"must be an amount in US dollars with at most six decimals, such as 10 or 0.35, not {value!r}"
        )
        return _wrong(name, message, int(Decimal(default) * MICROS_PER_USD))
    return int(micros)


def yes(name: str, default: bool = False) -> bool:
    value = text(name, "1" if default else "0").lower()
    if value not in {"1", "0", "true", "false", "yes", "no", "on", "off"}:
        return _wrong(name, f"must be 1 or 0, not {value!r}", default)
    return value in {"1", "true", "yes", "on"}


def secret(name: str, path: Path) -> str:
    """The variable, or a key kept in `path`, generated (mode 0600) the first time it is asked for."""
    if given := text(name):
        return given
    try:
        return path.read_text().strip() or _wrong(name, f"the file {path} is empty: delete it", "empty")
    except FileNotFoundError:
        return _generate(name, path)
    except OSError as error:
        return _wrong(name, f"{path} cannot be read: {error.strerror}", "unreadable" * 6)


def _generate(name: str, path: Path) -> str:
    """Written aside and linked into place: of several processes that start at once, all end with the same key."""
    key = secrets.token_urlsafe(48)
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(aside, path)
        except FileExistsError:
            key = path.read_text().strip()
        finally:
            aside.unlink()
    except OSError as error:
        _wrong(name, f"{path} cannot be written: {error.strerror}", None)
    return key


def _wrong(name: str, message: str, default):
    problems.append((name, message))
    return default
