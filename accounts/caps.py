"""The caps of an account as its owner meets them: what is used and left, since when, and for how long it may last.

Nothing here decides whether money moves: `accounts.ledger` does, by the condition of an UPDATE.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import credits, ledger
from accounts.models import ApiKey, Cap, CapNotice, CapWindow, User

BEFORE = 2  # periods shown beside the one that runs
_PACE_DAYS = 7
_LEAST_DAYS = 3  # of the last seven with something spent, before a month's forecast means anything
_LEAST_HOURS = 3  # of a day
_HOUR = timedelta(hours=1)
LATE = _HOUR  # after its end: so long a window is still looked at for mails
Seen = Mapping[tuple[str, date], CapWindow]


@dataclass(frozen=True)
class Period:
    """A day or month that is over, and what was spent in it."""

    name: str
    spent: int


@dataclass(frozen=True)
class Standing:
    """One cap at this moment, in micro-dollars. Of a cap for one picture nothing is used and nothing resets."""

    window: str
    stop: int | None
    warn: int | None
    spent: int = 0
    held: int = 0
    resets: str = ""
    before: tuple[Period, ...] = ()
    forecast: str = ""
    key: ApiKey | None = None

    @property
    def used(self) -> int:
        return self.spent + self.held

    @property
    def left(self) -> int | None:
        return None if self.stop is None else max(self.stop - self.used, 0)

    @property
    def is_set(self) -> bool:
        return self.stop is not None or self.warn is not None

    @property
    def is_warned(self) -> bool:
        """Whether what was spent has passed the owner's own warning."""
        return self.warn is not None and self.window != Cap.Window.JOB and 0 < self.spent >= self.warn

    @property
    def percent(self) -> int:
        return min(self.used * 100 // self.stop, 100) if self.stop else 100

    @property
    def bar(self) -> dict[str, int]:
        """Where the parts of the bar begin and how long they are, in thousandths of the whole."""
        whole = self.stop or max(self.used, self.warn or 0, 1)
        spent = min(self.spent * 1000 // whole, 1000)
        held = min(-(-self.held * 1000 // whole), 1000 - spent)
        warn = min((self.warn or 0) * 1000 // whole, 997)
        return {"spent": spent, "held": held, "warn": warn}

    def is_hit(self, least: int) -> bool:
        """Whether not even a picture of `least` micro-dollars fits any more."""
        return self.left is not None and self.left < least


# --- Reading ------------------------------------------------------------------------------------------
def standings(user: User, now: datetime | None = None) -> list[Standing]:
    """All three, set or not, with their history. Two queries."""
    now = now or timezone.now()
    set_by = {cap.window: cap for cap in Cap.objects.filter(user=user, key=None)}
    seen = _seen(user, now)
    return [
        _standing(window, set_by.get(window) or Cap(), seen, user.date_joined, now)
        for window in Cap.OF_ACCOUNT
    ]


def key_standings(keys: Collection[ApiKey], now: datetime | None = None) -> dict[int, list[Standing]]:
    """By key: a day, a month, all time and one picture, capped or not. Two queries, however many keys.

    A key and the one that it replaces have seen the same.
    """
    now = now or timezone.now()
    set_by = {(cap.key_id, cap.window): cap for cap in Cap.objects.filter(key__in=keys)} if keys else {}
    seen = _seen_now({ledger.spending_by(key) for key in keys}, Cap.OF_KEY, now)
    return {
        key.pk: [
            _bare(window, set_by.get((key.pk, window)) or Cap(), seen[ledger.spending_by(key)], now, key)
            for window in Cap.OF_KEY
        ]
        for key in keys
    }


def hit(user: User, least: int, now: datetime | None = None) -> list[Standing]:
    """The caps that let nothing more through, the account's first and then those of its keys.

    No query for somebody who has set none, two for the others, however many keys.
    """
    if not user.has_caps:
        return []
    now = now or timezone.now()
    own = Cap.objects.filter(in_force(now), user=user, limit__isnull=False)
    stops = list(own.select_related("key"))
    stops.sort(key=lambda cap: (cap.key_id or 0, cap.pk))
    subjects = [ledger.spending_by(cap.key) if cap.key else ledger.spending_of(user) for cap in stops]
    seen = _seen_now(set(subjects), {cap.window for cap in stops}, now)
    found = [_bare(cap.window, cap, seen[of], now, cap.key) for cap, of in zip(stops, subjects, strict=True)]
    return [standing for standing in found if standing.is_hit(least)]


def in_force(now: datetime) -> Q:
    """Caps of accounts, and of keys that work: of a line only the newest's, as those before it have the same."""
    works = Q(key__expires=None) | Q(key__expires__gt=now)
    newest = Q(key__replaced_by=None) | Q(key__replaced_by__revoked__isnull=False)
    return Q(key=None) | Q(works, newest, key__isnull=False, key__revoked=None)


def _seen_now(subjects: Collection[str], windows: Iterable[str], now: datetime) -> Mapping[str, Seen]:
    """By subject, the windows of this moment that have begun. One query, or none without a subject."""
    seen: dict[str, dict[tuple[str, date], CapWindow]] = {subject: {} for subject in subjects}
    starts = {ledger.window_start(window, now) for window in windows}
    for row in CapWindow.objects.filter(subject__in=subjects, starts__in=starts) if subjects else ():
        seen[row.subject][row.window, row.starts] = row
    return seen


def _seen(user: User, now: datetime) -> Seen:
    """The windows that the page speaks of: a few months and a week of days."""
    today = ledger.window_start(Cap.Window.DAY, now)
    days = {today - timedelta(days=back) for back in range(_PACE_DAYS)}
    wanted = days | set(_months(now))
    rows = CapWindow.objects.filter(subject=ledger.spending_of(user), starts__in=wanted)
    return {(row.window, row.starts): row for row in rows}


def _months(now: datetime) -> list[date]:
    """The first days of this month and of those before it, newest first."""
    firsts = [ledger.window_start(Cap.Window.MONTH, now)]
    while len(firsts) <= BEFORE:
        firsts.append((firsts[-1] - timedelta(days=1)).replace(day=1))
    return firsts


def _bare(window: str, cap: Cap, seen: Seen, now: datetime, key: ApiKey | None = None) -> Standing:
    if window == Cap.Window.JOB:
        return Standing(window, cap.limit, cap.warn_at, key=key)
    row = seen.get((window, ledger.window_start(window, now))) or CapWindow()
    resets = "" if window == Cap.Window.TOTAL else resets_in_words(window, now)
    return Standing(window, cap.limit, cap.warn_at, row.spent, row.reserved, resets, key=key)


def _standing(window: str, cap: Cap, seen: Seen, joined: datetime, now: datetime) -> Standing:
    bare = _bare(window, cap, seen, now)
    if window == Cap.Window.JOB:
        return bare
    return Standing(
        window,
        bare.stop,
        bare.warn,
        bare.spent,
        bare.held,
        bare.resets,
        tuple(_before(window, seen, now)),
        forecast(bare, _pace(window, seen, joined, now), now),
    )


def _before(window: str, seen: Seen, now: datetime) -> Iterable[Period]:
    if window == Cap.Window.MONTH:
        starts, name = _months(now)[1:], "%B %Y"
    else:
        today = ledger.window_start(window, now)
        starts, name = [today - timedelta(days=back) for back in range(1, BEFORE + 1)], "%A"
    for start in starts:
        row = seen.get((window, start))
        yield Period(start.strftime(name), row.spent if row else 0)


# --- In words -----------------------------------------------------------------------------------------
def resets_in_words(window: str, now: datetime) -> str:
    """`at midnight UTC, in 8 hours` or `on 1 December at midnight UTC, in 9 days`."""
    end = ledger.window_end(window, now)
    on = f"on {end.day} {end:%B} " if window == Cap.Window.MONTH else ""
    return f"{on}at midnight UTC, in {span_in_words(end - now)}"


def span_in_words(span: timedelta) -> str:
    """Rounded down, so that nobody comes back too late; the last hour in minutes."""
    minutes = max(int(span.total_seconds()) // 60, 1)
    for size, name in ((1440, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size:
            number = minutes // size
            return f"{number} {name}{'' if number == 1 else 's'}"
    return "a minute"


def _pace(window: str, seen: Seen, joined: datetime, now: datetime) -> float:
    """Micro-dollars a second; 0 where there is too little to say. For the day from today, for the month from a week.

    A month's needs three different days with something spent: one busy afternoon is no pace. A day's needs three
    hours that are over, and is only ever about today.
    """
    today = ledger.window_start(Cap.Window.DAY, now)
    gone = now - datetime(today.year, today.month, today.day, tzinfo=UTC)
    if window == Cap.Window.DAY:
        row = seen.get((window, today))
        return row.spent / gone.total_seconds() if row and gone >= _LEAST_HOURS * _HOUR else 0
    back = [today - timedelta(days=days) for days in range(_PACE_DAYS)]
    spent = {day: row.spent for day in back if (row := seen.get((Cap.Window.DAY.value, day))) and row.spent}
    if len(spent) < _LEAST_DAYS:
        return 0
    week = gone + timedelta(days=_PACE_DAYS - 1)
    span = max(gone + (today - min(spent)), min(week, now - joined))
    return sum(spent.values()) / span.total_seconds()


def forecast(standing: Standing, pace: float, now: datetime) -> str:
    """When the cap would be reached at that pace, in words; empty where it is not set, reached, or nobody can say."""
    if not pace or not standing.left:
        return ""
    seconds = standing.left / pace
    end = ledger.window_end(standing.window, now)
    if seconds >= (end - now).total_seconds():
        return "At this pace it lasts until it starts afresh."
    at = now.astimezone(UTC) + timedelta(seconds=round(seconds))
    if standing.window == Cap.Window.DAY:
        return f"At this pace it is reached today at about {at:%H:%M} UTC."
    today = now.astimezone(UTC).date()
    if at.date() == today:
        return "At this pace it is reached today."
    near = f"{at:%A}, {at.day} {at:%B}" if (at.date() - today).days < _PACE_DAYS else f"{at.day} {at:%B}"
    return f"At this pace it is reached on {near}."


def name_of(window: str) -> str:
    """`day cap`, `month cap`, `cap for one picture`, `cap for all time`."""
    if window == Cap.Window.TOTAL:
        return "cap for all time"
    return "cap for one picture" if window == Cap.Window.JOB else f"{window} cap"


def now_in_words(window: str) -> str:
    """`today`, `this month` or `in all`."""
    if window == Cap.Window.TOTAL:
        return "in all"
    return "today" if window == Cap.Window.DAY else f"this {window}"


def then_in_words(window: str, starts: date) -> str:
    """Of a day or month that is over: `on 30 November (UTC)` or `in November (UTC)`."""
    return f"in {starts:%B} (UTC)" if window == Cap.Window.MONTH else f"on {starts.day} {starts:%B} (UTC)"


def hit_in_words(standing: Standing, least: int) -> str:
    """Which cap, why nothing fits, and until when."""
    stop, cheapest = credits.usd(standing.stop or 0), credits.usd(least)
    is_job = standing.window == Cap.Window.JOB
    which = f"cap of {stop} for one picture" if is_job else f"{name_of(standing.window)} of {stop}"
    which = f"The {which} of your API key “{standing.key.name}”" if standing.key else f"Your {which}"
    if is_job:
        return f"{which} is below the cheapest picture, which costs {cheapest}."
    afresh = f" It starts afresh {standing.resets}." if standing.resets else ""
    used = credits.usd(standing.used)
    return f"{which} is reached: {used} is spent or held, and the cheapest picture costs {cheapest}.{afresh}"


# --- Setting ------------------------------------------------------------------------------------------
def put(user: User, window: str, *, stop: int | None, warn: int | None) -> None:
    """Sets one cap, from this moment on; both None removes it."""
    settle(user, window)
    if stop is None and warn is None:
        Cap.objects.filter(user=user, key=None, window=window).delete()
        return
    changes = {"limit": stop, "warn_at": warn}
    Cap.objects.update_or_create(user=user, key=None, window=Cap.Window(window), defaults=changes)


def settle(user: User, window: str, key: ApiKey | None = None) -> None:
    """For a cap that changes just after a window has ended: it was not so in that one, so nobody is told of it there."""
    now = timezone.now()
    starts = ledger.window_start(window, now - LATE)
    if window in Cap.COUNTED and starts != ledger.window_start(window, now):
        told = {"user": user, "key_id": key and (key.origin_id or key.pk), "window": window, "starts": starts}
        rows = [CapNotice(**told, level=level) for level in CapNotice.Level]
        CapNotice.objects.bulk_create(rows, ignore_conflicts=True)


@transaction.atomic
def put_stops(user: User, stops: Mapping[str, int | None]) -> None:
    """Sets where these caps stop; None removes one wholly. A warning that could never come any more goes, too."""
    for window, stop in stops.items():
        known = Cap.objects.filter(user=user, key=None, window=window).first() or Cap()
        warn = known.warn_at if stop is not None and (known.warn_at or 0) < stop else None
        put(user, window, stop=stop, warn=warn)
