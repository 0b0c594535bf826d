"""API keys: made, shown once, found again by their digest, rotated and revoked.

`sk-aig-` (or `sk-aig-test-`), 32 characters of base 62, which are 190 random bits, and six more: the CRC-32 of all
before them, so that a typo is refused without a query.
"""

import hashlib
import re
import secrets
import string
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Count, Model
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts import caps
from accounts.models import ApiKey, Cap, User

MOST = 20
PREFIX, TEST_PREFIX = "sk-aig-", "sk-aig-test-"
SUGGESTED_MONTH_MICROS = 20_000_000
USED_EVERY = timedelta(minutes=1)
_ALPHABET = string.digits + string.ascii_letters
_SHAPE = re.compile(r"(sk-aig-(?:test-)?[0-9A-Za-z]{32})([0-9A-Za-z]{6})")
_SHOWN = 4  # characters after the prefix
# At every call of the API: as SQL it takes a tenth of the time that the ORM needs to spell it.
_THAT_WORKS = """
      FROM accounts_apikey k JOIN accounts_user u ON u.id = k.user_id
     WHERE k.revoked IS NULL AND (k.expires IS NULL OR k.expires > %s) AND u.is_active
"""
_FIND = f"SELECT k.id, k.is_test, k.origin_id, k.last_used, u.id, u.email {_THAT_WORKS} AND k.digest = %s"
_STILL = f"SELECT 1 {_THAT_WORKS} AND k.id = %s"

Amounts = Mapping[str, int | None]  # micro-dollars by window (day, month, total, job)


class TooMany(Exception):
    """The account has as many keys as it may have; str() says so in plain words."""

    def __init__(self) -> None:
        super().__init__(f"You have {MOST} working keys, which is the most. Revoke one that is not used.")


class AlreadyMade(Exception):
    """What was asked for has been done: `key` was made then, and its text is not to be had again."""

    def __init__(self, key: ApiKey) -> None:
        self.key = key
        super().__init__(f"{key} was made already, and shown then.")


class CannotRotate(Exception):
    """str() says why, in plain words."""


# --- Their text ---------------------------------------------------------------------------------------
def new_text(*, is_test: bool) -> str:
    start = TEST_PREFIX if is_test else PREFIX
    body = start + "".join(secrets.choice(_ALPHABET) for _ in range(32))
    return body + _checksum(body)


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = _ALPHABET[digit] + digits
    return digits


def is_well_formed(text: str) -> bool:
    """Whether it can be one of ours at all: the shape and the checksum, without a query."""
    found = _SHAPE.fullmatch(text)
    return found is not None and _checksum(found[1]) == found[2]


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def find(text: str, now: datetime | None = None) -> ApiKey | None:
    """The working key of that text, with its `user`, who may come in; None for any other text. One query, or none."""
    if not is_well_formed(text):
        return None
    found = _first(_FIND, digest(text), now or timezone.now())
    return _as_key(*found) if found else None


def still_works(key: ApiKey) -> bool:
    """For a call that has waited since its key was found: whether it opens the API now, too. One query."""
    return _first(_STILL, key.pk, timezone.now()) is not None


def _first(query: str, of: str | int, now: datetime) -> tuple[Any, ...] | None:
    moment = ApiKey._meta.get_field("expires").get_db_prep_value(now, connection)
    with connection.cursor() as cursor:
        cursor.execute(query, [moment, of])
        found: tuple[Any, ...] | None = cursor.fetchone()
    return found


def _as_key(
    pk: int, is_test: bool, origin_id: int | None, last_used: datetime | None, user_id: int, email: str
) -> ApiKey:
    """With what a call needs of the two; the rest of their columns is read where it is asked for."""
    if last_used and timezone.is_naive(last_used):  # as SQLite gives it
        last_used = last_used.replace(tzinfo=UTC)
    key: ApiKey = _partly(
        ApiKey, id=pk, is_test=bool(is_test), origin_id=origin_id, last_used=last_used, user_id=user_id
    )
    key.user = _partly(User, id=user_id, email=email, is_active=True)
    return key


def _partly(model: type[Model], **values: Any) -> Any:
    """A row of which only these columns are known."""
    names = [field.attname for field in model._meta.concrete_fields if field.attname in values]
    return model.from_db("default", names, [values[name] for name in names])


def used(key: ApiKey, now: datetime) -> None:
    """Remembers when, to the minute, so that a busy key is not written at every call."""
    if key.last_used is None or now - key.last_used >= USED_EVERY:
        ApiKey.objects.filter(pk=key.pk).update(last_used=now)


# --- Made, changed, ended -----------------------------------------------------------------------------
def make(
    user: User,
    name: str,
    *,
    is_test: bool = False,
    expires: datetime | None = None,
    stops: Amounts | None = None,
    warns: Amounts | None = None,
    once: str | None = None,
) -> tuple[ApiKey, str]:
    """A new key and its text, which is nowhere else and never to be had again.

    `stops` and `warns`: where its caps stop and warn. `once`: names the form, which makes one key however often it is
    sent. Raises TooMany, and AlreadyMade.
    """
    with transaction.atomic():
        _take_turns(user.pk)
        made = ApiKey.objects.visible_to(user).filter(once=once).first() if once else None
        if made:
            raise AlreadyMade(made)
        if not has_room(user):
            raise TooMany
        return _new(user, name, stops or {}, warns or {}, is_test=is_test, expires=expires, once=once)


def has_room(user: User) -> bool:
    """Whether one more fits. A key and the one that replaced it count as one, for as long as either works."""
    working = ApiKey.objects.visible_to(user).working(timezone.now())
    return working.aggregate(lines=Count(Coalesce("origin", "pk"), distinct=True))["lines"] < MOST


def _take_turns(user_id: int) -> None:
    """Whoever counts or replaces an account's keys holds its row."""
    User.objects.select_for_update(no_key=True).get(pk=user_id)


def _new(
    user: User, name: str, stops: Amounts, warns: Amounts, *, is_test: bool, **fields: Any
) -> tuple[ApiKey, str]:
    text = new_text(is_test=is_test)
    start = len(TEST_PREFIX if is_test else PREFIX) + _SHOWN
    key = ApiKey.objects.create(
        user=user,
        name=name,
        start=text[:start],
        last_four=text[-4:],
        digest=digest(text),
        is_test=is_test,
        **fields,
    )
    _put_caps(key, stops, warns)
    return key, text


@transaction.atomic
def change(
    key: ApiKey, *, name: str, expires: datetime | None, stops: Amounts, warns: Amounts | None = None
) -> bool:
    """False where it has ended or has been rotated meanwhile, and then nothing changes.

    Caps change for those that it replaces, too: they spend from the same.
    """
    _take_turns(key.user_id)
    now = timezone.now()
    working = ApiKey.objects.line_of(key).working(now).select_related("user", "replaced_by")
    mine = next((known for known in working if known.pk == key.pk), None)
    if mine is None or mine.is_replaced:
        return False
    ApiKey.objects.filter(pk=key.pk).update(name=name, expires=expires)
    for each in working:
        for window in _put_caps(each, stops, warns or {}):
            caps.settle(each.user, window, each)
    return True


def _put_caps(key: ApiKey, stops: Amounts, warns: Amounts) -> list[str]:
    """Sets where the key's caps of these windows stop and warn, from this moment on; neither removes one.

    Returns the windows of those that were otherwise before.
    """
    known = {cap.window: (cap.limit, cap.warn_at) for cap in Cap.objects.filter(key=key)}
    asked = {window: (stops.get(window), warns.get(window)) for window in [*stops, *warns]}
    changed = [window for window in asked if asked[window] != known.get(window, (None, None))]
    for window in changed:
        stop, warn = asked[window]
        if stop is None and warn is None:
            Cap.objects.filter(key=key, window=window).delete()
        else:
            what = {"user": key.user, "limit": stop, "warn_at": warn}
            Cap.objects.update_or_create(key=key, window=Cap.Window(window), defaults=what)
    return changed


def stops_of(key: ApiKey) -> dict[str, int | None]:
    return dict(Cap.objects.filter(key=key, limit__isnull=False).values_list("window", "limit"))


def warns_of(key: ApiKey) -> dict[str, int | None]:
    return dict(Cap.objects.filter(key=key, warn_at__isnull=False).values_list("window", "warn_at"))


@transaction.atomic
def rotate(key: ApiKey, *, overlap: timedelta) -> tuple[ApiKey, str]:
    """A new key with the old one's name, caps and end. The old one works for `overlap` longer, and not beyond its own end.

    Raises AlreadyMade, with the new key, where it has been rotated, and CannotRotate.
    """
    _take_turns(key.user_id)
    now = timezone.now()
    old = ApiKey.objects.select_related("user", "replaces", "replaced_by").get(pk=key.pk)
    if old.is_replaced:
        raise AlreadyMade(old.replaced_by)
    if not old.works(now):
        raise CannotRotate("This key does not work any more, so there is nothing to rotate. Make a new one.")
    if old.replaces and old.replaces.works(now):
        raise CannotRotate("The key that this one replaced still works. Revoke that one first, or wait.")
    ends = now + overlap
    ApiKey.objects.filter(pk=old.pk).update(expires=min(ends, old.expires) if old.expires else ends)
    line = {"replaces": old, "origin": old.origin or old}
    stops, warns = stops_of(old), warns_of(old)
    return _new(old.user, old.name, stops, warns, is_test=old.is_test, expires=old.expires, **line)


def revoke(key: ApiKey) -> bool:
    """Ends it at once. False where it had ended."""
    now = timezone.now()
    return ApiKey.objects.working(now).filter(pk=key.pk).update(revoked=now) == 1
