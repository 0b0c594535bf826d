"""The days and months that caps count in, in UTC, and what each has seen."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from django.db import connection
from django.utils import timezone

from accounts import rows
from accounts.models import Cap, CapWindow

EVER = date(2000, 1, 1)  # the first day of the window that never ends
Begun = tuple[str, str, date]  # whose window, which, and its first day


class Seen(NamedTuple):
    """The row of a window, and what is spent and held in it together."""

    pk: int
    used: int


def window_start(window: str, now: datetime) -> date:
    """The first UTC day of the window that `now` is in."""
    if window == Cap.Window.TOTAL:
        return EVER
    today = now.astimezone(UTC).date()
    return today.replace(day=1) if window == Cap.Window.MONTH else today


def window_end(window: str, now: datetime) -> datetime:
    """When that day or month is over and its cap starts afresh."""
    start = window_start(window, now)
    if window == Cap.Window.MONTH:
        start = (start + timedelta(days=32)).replace(day=1)
    else:
        start += timedelta(days=1)
    return datetime(start.year, start.month, start.day, tzinfo=UTC)


def usage(subject: str, window: str, now: datetime | None = None) -> CapWindow:
    """What the window has seen so far; an unsaved, empty one where it has seen nothing."""
    starts = window_start(window, now or timezone.now())
    known = CapWindow.objects.filter(subject=subject, window=window, starts=starts).first()
    return known or CapWindow(subject=subject, window=window, starts=starts)


def ids(wanted: Sequence[Begun], known: Mapping[Begun, Seen]) -> list[int]:
    """The ids of these windows' rows, in the same order, made where a window has only just begun."""
    if unknown := [begun for begun in wanted if begun not in known]:
        [found] = rows.together([looking_for(unknown)])
        known = {**known, **read(found)}
    return [known[begun].pk if begun in known else _new_window(*begun) for begun in wanted]


def looking_for(wanted: Sequence[Begun]) -> rows.Statement:
    """A look at these rows, and perhaps at some others of the same subjects."""
    subjects = sorted({subject for subject, _, _ in wanted})
    firsts = [connection.ops.adapt_datefield_value(day) for day in sorted({starts for *_, starts in wanted})]
    return _windows_query(len(subjects), len(firsts)), [*subjects, *firsts]


def read(found: rows.Result) -> dict[Begun, Seen]:
    return {(subject, window, starts): Seen(pk, used) for pk, subject, window, starts, used in found.rows}


@lru_cache(maxsize=20)
def _windows_query(subjects: int, firsts: int) -> str:
    some, days = ", ".join(["%s"] * subjects), ", ".join(["%s"] * firsts)
    columns = 'id, subject, "window", starts, spent + reserved'
    return f"SELECT {columns} FROM accounts_capwindow WHERE subject IN ({some}) AND starts IN ({days})"  # noqa: S608


def _new_window(subject: str, window: str, starts: date) -> int:
    return CapWindow.objects.get_or_create(subject=subject, window=window, starts=starts)[0].pk
