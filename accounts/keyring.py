"""An account's API keys as their owner reads them: what each has spent, when it was used, how long it works. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import QuerySet
from django.utils import timezone

from accounts import caps
from accounts.caps import Standing
from accounts.key_forms import last_day
from accounts.models import ApiKey, Cap, User

PAGE = 20


@dataclass(frozen=True)
class Entry:
    """One key in words, and where its caps stand."""

    key: ApiKey
    standings: Sequence[Standing]
    last_use: str
    used: str
    ends: str

    @property
    def caps(self) -> list[Standing]:
        """Those that stop or warn, the month first."""
        return sorted((cap for cap in self.standings if cap.is_set), key=_month_first)

    @property
    def month(self) -> Standing:
        return self._of(Cap.Window.MONTH)

    @property
    def total(self) -> Standing:
        return self._of(Cap.Window.TOTAL)

    def _of(self, window: str) -> Standing:
        return next(standing for standing in self.standings if standing.window == window)


def _month_first(cap: Standing) -> int:
    return [Cap.Window.MONTH, Cap.Window.DAY, Cap.Window.TOTAL, Cap.Window.JOB].index(Cap.Window(cap.window))


# --- Reading ------------------------------------------------------------------------------------------
def working(user: User, now: datetime | None = None) -> list[Entry]:
    """Newest first, one that has been rotated behind the one that replaced it. Three queries."""
    now = now or timezone.now()
    found = _whole(ApiKey.objects.visible_to(user).working(now))
    found.sort(key=lambda key: (-(key.replaced_by.pk if key.is_replaced else key.pk), key.is_replaced))
    return entries(found, now)


def ended(
    user: User, before: int | None = None, now: datetime | None = None
) -> tuple[list[Entry], int | None]:
    """The newest that do not work any more, older than the id `before`, and the id to go on from."""
    now = now or timezone.now()
    rows = ApiKey.objects.visible_to(user).ended(now)
    found = _whole((rows.filter(pk__lt=before) if before else rows).order_by("-pk")[: PAGE + 1])
    return [entry(key, (), now) for key in found[:PAGE]], found[PAGE - 1].pk if len(found) > PAGE else None


def entries(found: list[ApiKey], now: datetime) -> list[Entry]:
    standings = caps.key_standings(found, now)
    return [entry(key, standings[key.pk], now) for key in found]


def entry(key: ApiKey, standings: Sequence[Standing], now: datetime) -> Entry:
    return Entry(key, standings, last_use(key, now), used_in_words(key, now), ends_in_words(key, now))


def _whole(found: QuerySet[ApiKey]) -> list[ApiKey]:
    return list(found.select_related("replaced_by", "replaces"))


# --- In words -----------------------------------------------------------------------------------------
def last_use(key: ApiKey, now: datetime) -> str:
    return "never" if key.last_used is None else f"{caps.span_in_words(now - key.last_used)} ago"


def used_in_words(key: ApiKey, now: datetime) -> str:
    return "never used" if key.last_used is None else f"last used {last_use(key, now)}"


def ends_in_words(key: ApiKey, now: datetime) -> str:
    """How long it works, or why it does not."""
    if key.revoked:
        return f"revoked {caps.span_in_words(now - key.revoked)} ago"
    if key.expires is None:
        return "never expires"
    if key.works(now):
        left = f"in {caps.span_in_words(key.expires - now)}"
        return f"ends {left}" if key.is_replaced else f"expires {left}, after {_day(key.expires)}"
    gone = f"{caps.span_in_words(now - key.expires)} ago"
    return f"replaced, ended {gone}" if key.is_replaced else f"expired {gone}"


def _day(expires: datetime) -> str:
    last = last_day(expires)
    return f"{last.day} {last:%B %Y}"
