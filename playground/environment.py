"""Settings from environment variables: read once, every mistake collected and shown by `manage.py check`.

A wrong value never stops the import of the settings, because then no check could say what is wrong with it:
the default is used, the mistake is kept in `problems`, and the check `playground.E001` refuses to start.
"""

import errno
import os
import secrets
import tempfile
from decimal import Decimal, InvalidOperation
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

from accounts import credits

MICROS_PER_CENT = 10_000
MOST_USD = 1_000_000_000  # what the ledger can promise at once
MOST_SECONDS = MOST_WHOLE = 1_000_000_000
UNUSABLE = (
    Path(tempfile.gettempdir()) / "flux-playground-without-data-dir"
)  # so that the checks can still run
MOST_SHOWN = 60  # characters of a wrong value
SECRET_LEAST = 32  # characters
SQLITE = "playground.sqlite3"
DOCUMENTED = frozenset(
    {
        "DATA_DIR",
        "DATABASE_URL",
        "REDIS_URL",
        "SECRET_KEY",
        "ALLOWED_HOSTS",
        "BASE_URL",
        "EMAIL_URL",
        "EMAIL_FROM",
        "OPERATOR_EMAIL",
        "OPERATOR_NAME",
        "DEBUG",
        "LOG_LEVEL",
        "SIGNUP_GRANT_USD",
        "SIGNUP_BUDGET_USD_PER_DAY",
        "PREVIEWS_PER_DAY",
        "PREVIEW_BUDGET_USD_PER_DAY",
        "STRIPE_SECRET_KEY",
        "STRIPE_WEBHOOK_SECRET",
        "STRIPE_API_BASE",
        "TOPUP_USD",
        "AIGENERATE_API_KEY",
        "AIGENERATE_BASE_URL",
        "KIE_API_KEY",
        "KIE_BASE_URL",
        "KIE_UPLOAD_URL",
        "BFL_API_KEY",
        "BFL_BASE_URL",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "UPSTREAM_KEYS_SECRET",
        "MIN_FREE_MB",
        "SANDBOX_DELAY_S",
        "NET_ALLOWED_HOSTS",
        "API_RATE_LIMIT",
        "API_WAITING",
        "API_WAIT_S",
        "API_RATE_LIMIT_ACCOUNT",
        "API_RATE_LIMIT_ANONYMOUS",
        "TRUSTED_PROXIES",
        "ADMIN_REQUIRES_2FA",
        "UPLOADS_PER_ACCOUNT",
        "UPLOADS_MB_PER_ACCOUNT",
        "JOB_DEADLINE_S",
        "ENGINE_IN_FLIGHT",
        "ENGINE_WORKERS",
        "WEB_PROCESSES",
        "WEB_THREADS",
    }
)

T = TypeVar("T")
problems: list[tuple[str, str]] = []


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "").strip() or default


def key(name: str) -> str:
    """A key of another service, which goes into an HTTP header."""
    value = text(name)
    if value.isascii() and value.isprintable() and " " not in value:
        return value
    return _wrong(name, "has characters that no key has: copy it again", "")


def extra_key(name: str, package: str) -> str:
    """A key that is of use only with a package that is not installed with the rest."""
    if text(name) and not find_spec(package):
        return _wrong(name, f"needs a package that is not installed; run: uv sync --extra {package}", "")
    return key(name)


def address(name: str) -> str:
    """One e-mail address."""
    value = text(name)
    at = value.partition("@")
    if value and not (at[0] and at[2] and "@" not in at[2] and value.isprintable() and " " not in value):
        return _wrong(name, "must be one e-mail address, such as you@example.org", "")
    return value


def words(name: str) -> list[str]:
    """A comma-separated list."""
    return [word.strip() for word in text(name).split(",") if word.strip()]


def whole(name: str, default: int, *, least: int = 0) -> int:
    value = text(name, str(default))
    try:
        number = int(value)
    except ValueError:
        return _wrong(name, f"must be a whole number, not {_cut(value)}", default)
    if number < least:
        return _wrong(name, f"must be at least {least}, not {_cut(value)}", default)
    if number > MOST_WHOLE:
        return _wrong(name, f"must be at most {MOST_WHOLE:,}, not {_cut(value)}", default)
    return number


def seconds(name: str, default: str) -> Decimal:
    value = text(name, default)
    try:
        number = Decimal(value)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not 0 <= number <= MOST_SECONDS:
        return _wrong(name, f"must be a number of seconds such as 2.5, not {_cut(value)}", Decimal(default))
    return number


def usd(name: str, default: str) -> int:
    """An amount in US dollars, as whole micro-dollars."""
    value = text(name, default)
    try:
        return credits.micros_of(value, most_usd=MOST_USD)
    except ValueError as wrong:
        return _wrong(name, f"must be {wrong}, not {_cut(value)}", credits.micros_of(default))


def cents(name: str, default: str) -> list[int]:
    """A comma-separated list of amounts in US dollars that a card can pay, as whole cents, smallest first."""
    found = set()
    for word in words(name) or default.split(","):
        try:
            amount, rest = divmod(credits.micros_of(word), MICROS_PER_CENT)
        except ValueError:
            amount, rest = 0, 0
        if rest or not 50 <= amount <= 99_999_900:
            message = f"must be amounts in US dollars from 0.50 to 999,999, with commas between, such as {default}, not {_cut(word)}"
            return _wrong(name, message, [int(each) * 100 for each in default.split(",")])
        found.add(amount)
    return sorted(found)


def yes(name: str, default: bool = False) -> bool:
    value = text(name, "1" if default else "0").lower()
    if value not in {"1", "0", "true", "false", "yes", "no", "on", "off"}:
        return _wrong(name, f"must be 1 or 0, not {value!r}", default)
    return value in {"1", "true", "yes", "on"}


def choice(name: str, default: str, options: list[str]) -> str:
    value = text(name, default).upper()
    return (
        value
        if value in options
        else _wrong(name, f"must be one of {', '.join(options)}, not {value!r}", default)
    )


def folder(name: str, default: Path) -> Path:
    """A folder that exists and can be written to; made where there is none."""
    value = text(name, str(default))
    try:
        path = Path(value).expanduser().resolve()
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK | os.X_OK):  # also false for root on a read-only file system
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        message = f"is {value}, which is no folder that can be written to: {reason}"
        return _wrong(
            name, message, Path(tempfile.mkdtemp(prefix="flux-playground-"))
        )  # so that the checks can run
    return path


# --- Addresses (never repeated in a message: they may hold a password) --------------------------------
def origin(name: str) -> SplitResult:
    """`https://example.com`: scheme, host and perhaps a port, no path. Empty where the variable is."""
    url = _split(text(name).rstrip("/"))
    if not text(name):
        return url
    if (
        url.scheme not in {"http", "https"}
        or not url.hostname
        or url.username
        or url.path
        or url.query
        or url.fragment
    ):
        message = "must be http:// or https:// and a host, without a path, such as https://flux.example.com"
        return _wrong(name, message, urlsplit(""))
    return url


def http_url(name: str, default: str) -> str:
    value = text(name, default).rstrip("/")
    url = _split(value)
    if url.scheme not in {"http", "https"} or not url.hostname:
        return _wrong(
            name, f"must be an address that begins with http:// or https://, such as {default}", default
        )
    return value


def is_web_server() -> bool:
    """Whether this process serves requests; `manage.py up` says so to its child."""
    return os.environ.get("FLUX_ROLE") == "web"


def listening_at() -> str:
    """Where the server that `up` started beside us answers; the links of the house begin so while BASE_URL is not set."""
    return os.environ.get("FLUX_AT", "http://127.0.0.1:8000")


def rate(name: str, default: tuple[int, int]) -> tuple[int, int]:
    """`20/10`: so many calls in so many seconds."""
    value = text(name)
    calls, _, seconds = value.partition("/")
    if not value:
        return default
    is_short = len(value) < 20
    if not (is_short and calls.isdecimal() and seconds.isdecimal() and int(calls) and int(seconds)):
        return _wrong(name, f"must be calls/seconds such as 20/10, not {_cut(value)}", default)
    return int(calls), int(seconds)


def host_ports(name: str) -> list[str]:
    """A comma-separated list of `host:port`, lower case."""
    found = []
    for word in words(name):
        url = _split(f"//{word}")
        if url.hostname and url.port and url.netloc == word and not url.username:
            found.append(word.lower())
        else:
            _wrong(
                name,
                f"must be host:port pairs such as 127.0.0.1:9000, separated by commas, not {word!r}",
                None,
            )
    return found


def redis_url(name: str) -> str:
    url = _split(text(name))
    if text(name) and (url.scheme not in {"redis", "rediss", "unix"} or not (url.hostname or url.path)):
        return _wrong(name, "must be redis://host:port/number, rediss:// or unix://", "")
    if text(name) and not find_spec("redis"):
        return _wrong(name, "needs a package that is not installed; run: uv sync --extra redis", "")
    return text(name)


def database(name: str, default: Path) -> dict[str, Any]:
    """Django's settings for one database: PostgreSQL, SQLite in a file, or SQLite at `default`."""
    fallback = {"ENGINE": SQLITE, "NAME": str(default)}
    url = text(name)
    if not url:
        return fallback
    if url.partition("://")[0] not in {"postgresql", "postgres", "sqlite"}:
        message = "must begin with postgresql:// or sqlite:///; no other database is supported"
        return _wrong(name, message, fallback)
    try:
        config = environ.Env.db_url_config(url)
    except (ValueError, LookupError, ImproperlyConfigured):
        return _wrong(name, "cannot be read; expected postgresql://user:password@host:5432/name", fallback)
    if config["NAME"] in {"", ":memory:"}:
        return _wrong(name, "must name a database; one in memory cannot be shared by processes", fallback)
    if config["ENGINE"].endswith("sqlite3"):
        config |= {"ENGINE": SQLITE, "NAME": str(Path(config["NAME"]).absolute())}
    elif not find_spec("psycopg"):
        return _wrong(name, "needs a package that is not installed; run: uv sync --extra postgres", fallback)
    return config


def mail(name: str) -> dict[str, Any]:
    """Django's settings for outgoing mail; the console where the variable is empty."""
    try:
        config = environ.Env.email_url_config(text(name, "consolemail://"))
    except (ValueError, LookupError, ImproperlyConfigured):
        config = {}
    if not config.get("EMAIL_BACKEND"):
        message = "must be such as smtp+tls://user:password@host:587, smtp://host:25 or consolemail://"
        return _wrong(name, message, environ.Env.email_url_config("consolemail://"))
    return config


def _split(url: str) -> SplitResult:
    """Parsed, or empty where it cannot be."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return urlsplit("")
    return parts


# --- The secret key -----------------------------------------------------------------------------------
def secret(name: str, path: Path) -> str:
    """The variable, or a key kept in `path`, generated (mode 0600) the first time it is asked for."""
    if given := text(name):
        if len(given) < SECRET_LEAST:
            _wrong(
                name,
                f"must have at least {SECRET_LEAST} characters; leave it out and one is made for you",
                None,
            )
        return given
    try:
        return path.read_text().strip() or _wrong(name, f"is empty in {path}: delete that file", "empty" * 10)
    except FileNotFoundError:
        return _generate(name, path)
    except OSError as error:
        return _wrong(name, f"cannot be read from {path}: {error.strerror}", "unreadable" * 6)


def passphrases(name: str) -> list[str]:
    """A comma-separated list of secrets; one that is too short is left out. Never repeated in a message."""
    given = words(name)
    if any(len(each) < SECRET_LEAST for each in given):
        message = f"must have at least {SECRET_LEAST} characters (each, where there are several with commas between)"
        _wrong(name, message, None)
    return [each for each in given if len(each) >= SECRET_LEAST]


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
        _wrong(name, f"cannot be written to {path}: {error.strerror}", None)
    return key


def _cut(value: str) -> str:
    """In quotes, and no longer than a line of a terminal."""
    return repr(value if len(value) <= MOST_SHOWN else f"{value[:MOST_SHOWN]}...")


def _wrong(name: str, message: str, default: T) -> T:
    problems.append((name, message))
    return default
