"""Mails about caps: at half, at four fifths and at the end of "stop at", and at "warn at". Once per window and level,
for the caps of an account and for those of each API key; a key and those that it replaces are told of as one.

What counts is what was spent: what is only held may come back. A `CapNotice` is added and committed before its mail
is sent (or not, for somebody who wants none: switching them on again tells nothing old), so that of any number of sweeps one sends it. Where the mail server did not take it the row goes again, and
the next sweep tries once more; a process that is killed between the two has lost that one mail, and sends none twice.
A window that has just ended is looked at, too: for its last minute, and for pictures that arrived after its end.
"""

import logging
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.conf import settings
from django.db.models import (
    BigIntegerField,
    CharField,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Subquery,
    Value,
)
from django.db.models.functions import Cast, Coalesce, Concat
from django.utils import timezone

from accounts import caps, credits, ledger, mails
from accounts.models import Cap, CapNotice, CapWindow

logger = logging.getLogger(__name__)

Level = CapNotice.Level
AT_ONCE = 100


@dataclass(frozen=True)
class Notice:
    """The levels that one sweep was the first to note; one mail speaks of the highest, and names the others' sums."""

    cap: Cap
    starts: date
    spent: int
    levels: tuple[str, ...]
    is_over: bool

    @property
    def when(self) -> str:
        window = self.cap.window
        return caps.then_in_words(window, self.starts) if self.is_over else caps.now_in_words(window)


def send_due(least: int, now: datetime | None = None) -> int:
    """Sends what is due, where there is a mail server; returns how many mails. `least`: the cheapest picture's price.

    The first mail that the server does not take ends it: the others wait for the next sweep.
    """
    if not settings.HAS_MAIL:
        return 0
    now, sent = now or timezone.now(), 0
    for cap, starts in _all_due(least, now):
        notice = _noted(cap, starts, least, now)
        if not notice.levels or not mails.wants(cap.user, "cap"):
            continue
        if not _send(notice, now):
            return sent
        sent += 1
    return sent


# --- What is due --------------------------------------------------------------------------------------
def _all_due(least: int, now: datetime) -> Iterator[tuple[Cap, date]]:
    """With the first day of the window that it is about."""
    for window in Cap.COUNTED:
        for starts in dict.fromkeys(ledger.window_start(window, at) for at in (now - caps.LATE, now)):
            for cap in _due(_of_accounts(), Q(key=None), window, starts, least)[:AT_ONCE]:
                yield cap, starts
            for cap in _due(_of_keys(now), Q(key=OuterRef("line")), window, starts, least)[:AT_ONCE]:
                yield cap, starts


def _of_accounts() -> QuerySet[Cap]:
    return Cap.objects.filter(key=None).annotate(subject=_subject("user", "user_id"))


def _of_keys(now: datetime) -> QuerySet[Cap]:
    rows = Cap.objects.filter(caps.in_force(now), key__isnull=False).select_related("key")
    return rows.annotate(line=Coalesce("key__origin_id", "key_id")).annotate(subject=_subject("key", "line"))


def _subject(what: str, field: str) -> Concat:
    """As `ledger.spending_of` and `ledger.spending_by` name it."""
    return Concat(Value(f"{what}:"), Cast(field, CharField()), Value("/usd"))


def _due(rows: QuerySet[Cap], told_whom: Q, window: str, starts: date, least: int) -> QuerySet[Cap]:
    """Caps past a level that nobody has been told of: one look-up by index a cap."""
    seen = CapWindow.objects.filter(subject=OuterRef("subject"), window=window, starts=starts)
    told = CapNotice.objects.filter(told_whom, user=OuterRef("user"), window=window, starts=starts)
    untold: Any = Q()
    for level, passed in _passed(least).items():
        untold |= passed & ~Exists(told.filter(level=level))
    spent = Subquery(seen.values("spent")[:1], output_field=BigIntegerField())
    rows = rows.filter(window=window, user__is_active=True).annotate(spent=spent)
    return rows.filter(untold, spent__gt=0).select_related("user").order_by("pk")


def _passed(least: int) -> dict[str, Q]:
    """The condition of each level. Beyond the last one nothing fits any more, or prices would hardly ever hit it."""
    return {
        Level.HALF: Q(limit__lte=_whole(F("spent") * 2)),
        Level.MOST: Q(limit__lte=_whole(F("spent") * 5 / 4)),
        Level.WARN: Q(warn_at__lte=F("spent")),
        Level.STOP: Q(limit__lt=_whole(F("spent") + least)),
    }


def _whole(expression: object) -> ExpressionWrapper:
    return ExpressionWrapper(expression, output_field=BigIntegerField())


def _levels(cap: Cap, spent: int, least: int) -> list[str]:
    """Those that are passed, lowest first, in the order of the amounts."""
    stop, at = cap.limit, []
    if stop is not None:
        at = [(-(-stop // 2), Level.HALF), (-(-stop * 4 // 5), Level.MOST)]
    if cap.warn_at is not None:
        at.append((cap.warn_at, Level.WARN))
    passed: list[str] = [level for amount, level in sorted(at) if spent >= amount]
    return [*passed, Level.STOP] if stop is not None and stop - spent < least else passed


def _noted(cap: Cap, starts: date, least: int, now: datetime) -> Notice:
    spent: int = cap.spent  # type: ignore[attr-defined]  # annotated
    added = [level for level in _levels(cap, spent, least) if _note(cap, starts, level)]
    is_over = starts != ledger.window_start(cap.window, now)
    return Notice(cap, starts, spent, tuple(added), is_over)


def _note(cap: Cap, starts: date, level: str) -> bool:
    """True for the one who was first."""
    return CapNotice.objects.get_or_create(
        user=cap.user, key_id=_line_of(cap), window=cap.window, starts=starts, level=level
    )[1]


def _line_of(cap: Cap) -> int | None:
    """The key that the notices of a key's cap are kept for: the first of its line, so that rotating it tells nothing twice."""
    return (cap.key.origin_id or cap.key.pk) if cap.key else None


def _forget(notice: Notice) -> None:
    mine = CapNotice.objects.filter(
        user=notice.cap.user, window=notice.cap.window, starts=notice.starts, level__in=notice.levels
    )
    mine.filter(key=_line_of(notice.cap)).delete()


# --- Sending ------------------------------------------------------------------------------------------
def _send(notice: Notice, now: datetime) -> bool:
    """False where the mail server is not to be had, and then it is as if nothing had been noted."""
    try:
        mails.send("cap", notice.cap.user, _said(notice, now))
    except smtplib.SMTPRecipientsRefused as refused:
        logger.warning(
            "A mail about a cap was refused for good or for now, and is not sent again: %s", refused
        )
    except OSError as error:  # smtplib's own are OSErrors
        _forget(notice)
        logger.warning("A mail about a cap has to wait: %r", error)
        return False
    return True


def _said(notice: Notice, now: datetime) -> dict[str, str]:
    cap = notice.cap
    return {
        "subject": _headline(notice),
        "said": " ".join(_sums(notice)),
        "consequence": _consequence(notice),
        "resets": _resets(notice, now),
        "page": "API keys" if cap.key else "Spend caps",
        "url": mails.link("key", cap.key.pk) if cap.key else mails.link("caps"),
    }


def _sums(notice: Notice) -> Iterator[str]:
    cap = notice.cap
    yield f"{_has_spent(notice, notice.spent)}."
    if cap.limit is not None:
        share = notice.spent * 100 // cap.limit if cap.limit else 100
        which = f"{'Its' if cap.key else 'Your'} {caps.name_of(cap.window)}"
        yield f"{which} stops at {credits.usd(cap.limit)}: {share} % of it {_is(notice)} spent."
    if cap.warn_at is not None:
        yield f"You asked to be told at {credits.usd(cap.warn_at)}."


def _has_spent(notice: Notice, micros: int) -> str:
    """`You have spent $3.00 today`, `Your API key “Shop” spent $3.00 on 30 November (UTC)`."""
    key = notice.cap.key
    who, has = (f"Your API key “{key.name}”", "has ") if key else ("You", "have ")
    return f"{who} {'' if notice.is_over else has}spent {credits.usd(micros)} {notice.when}"


def _is(notice: Notice) -> str:
    return "was" if notice.is_over else "is"


def _headline(notice: Notice) -> str:
    level, cap = notice.levels[-1], notice.cap
    if level == Level.WARN:
        return _has_spent(notice, cap.warn_at or 0)
    which = f"{caps.name_of(cap.window)} of {credits.usd(cap.limit or 0)}"
    which = f"the {which} of your API key “{cap.key.name}”" if cap.key else f"your {which}"
    said = (
        f"{which} {_is(notice)} reached"
        if level == Level.STOP
        else f"{level} % of {which} {_is(notice)} spent"
    )
    return said[0].upper() + said[1:] + (f" {notice.when}" if notice.is_over else "")


def _consequence(notice: Notice) -> str:
    if notice.is_over:
        return f"That {notice.cap.window} is over, and the cap has started afresh since."
    if notice.levels[-1] != Level.STOP:
        return "Nothing has stopped. Running pictures already hold their price, so a cap cannot be crossed."
    what = "what this key asks for is refused" if notice.cap.key else "nothing is made for credits"
    until = "you raise it" if notice.cap.window == Cap.Window.TOTAL else "then"
    return (
        f"Not even the cheapest picture fits any more, so {what} until {until}."
        " Pictures on their way are not affected."
    )


def _resets(notice: Notice, now: datetime) -> str:
    """Empty where it has, and for a key's cap over all time, which never does."""
    window = notice.cap.window
    if notice.is_over or window == Cap.Window.TOTAL:
        return ""
    return f"It starts afresh {caps.resets_in_words(window, now)}."
