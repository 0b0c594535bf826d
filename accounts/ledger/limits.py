"""What bounds spending: the caps of an account and of a key, and the budgets of the house."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.conf import settings
from django.utils import timezone

from accounts import rows
from accounts.ledger import wallets, windows
from accounts.ledger.windows import Begun, Seen, window_start
from accounts.models import ApiKey, Cap, User, Wallet

SIGNUP_BUDGET = "house:signup/usd"
PREVIEW_BUDGET = "house:preview/usd"
_CAPS = """
    SELECT key_id, "window", "limit", warn_at FROM accounts_cap
     WHERE user_id = %(user)s AND (key_id IS NULL OR key_id = %(key)s)
"""


@dataclass(frozen=True)
class Limit:
    """A cap, and how much of it each promise takes. `limit` None: counted but not limited.

    Nothing is refused because of `warn_at`: pages speak of it.
    """

    subject: str
    window: str
    limit: int | None
    each: int
    warn_at: int | None = None

    def begun(self, now: datetime) -> Begun:
        """The window of this moment."""
        return self.subject, self.window, window_start(self.window, now)


@dataclass(frozen=True)
class Account:
    """Who pays, what was set for them and for the key, and the rows of their windows that have begun."""

    user: User
    key: ApiKey | None
    wallet: Wallet
    set: Mapping[tuple[int | None, str], tuple[int | None, int | None]]
    windows: Mapping[Begun, Seen]

    def limits(self, each: int) -> list[Limit]:
        """As `account_limits`."""
        user, key, caps = self.user, self.key, self.set
        limits = [
            _limit(spending_of(user), window, caps.get((None, window)), each) for window in Cap.OF_ACCOUNT
        ]
        if key is not None:
            limits += [
                _limit(spending_by(key), window, caps.get((key.pk, window)), each) for window in Cap.OF_KEY
            ]
        return limits

    def used(self, limit: Limit, now: datetime) -> int:
        """What is spent and held in the window of such a limit; 0 where it counts nothing."""
        return _used(limit, self.windows, now)


def spending_of(user: User) -> str:
    """The subject of the windows that count what an account pays."""
    return f"user:{user.pk}/usd"


def spending_by(key: ApiKey) -> str:
    """The subject of the windows that count what one API key ordered, and those before it that it replaces."""
    return f"key:{key.origin_id or key.pk}/usd"


def account_limits(user: User, each: int, key: ApiKey | None = None) -> list[Limit]:
    """What bounds a paid picture of `each` micro-dollars, ordered by `key` or on a page. All windows are counted even
    where no cap is set, so that a cap set in the middle of one knows what was spent before it."""
    return account(user, key).limits(each)


def account(user: User, key: ApiKey | None = None) -> Account:
    """The wallet, the caps and their windows, in one round trip."""
    asked = {"user": user.pk, "key": key.pk if key else None}
    subjects = [spending_of(user), *([spending_by(key)] if key else [])]
    now = timezone.now()
    begun = [(subject, window, window_start(window, now)) for subject in subjects for window in Cap.COUNTED]
    looks = [(wallets.OF_USER, asked), (_CAPS, asked), windows.looking_for(begun)]
    found, caps, seen = rows.together(looks)
    by_window = {(key_id, window): (limit, warn_at) for key_id, window, limit, warn_at in caps.rows}
    return Account(user, key, wallets.found(user, found.rows), by_window, windows.read(seen))


def _limit(subject: str, window: str, cap: tuple[int | None, int | None] | None, each: int) -> Limit:
    limit, warn_at = cap or (None, None)
    return Limit(subject, window, limit, each, warn_at)


def preview_limits(user: User, cost_each: int) -> list[Limit]:
    """What bounds a free preview that costs the house `cost_each` micro-dollars upstream."""
    return [
        Limit(PREVIEW_BUDGET, Cap.Window.DAY, settings.PREVIEW_BUDGET_MICROS_PER_DAY, cost_each),
        Limit(f"user:{user.pk}/previews", Cap.Window.DAY, settings.PREVIEWS_PER_DAY, 1),
    ]


def used(limits: Sequence[Limit], now: datetime) -> list[int]:
    """As `Account.used` for each of these limits, in one query."""
    [found] = rows.together([windows.looking_for([limit.begun(now) for limit in limits])])
    seen = windows.read(found)
    return [_used(limit, seen, now) for limit in limits]


def _used(limit: Limit, seen: Mapping[Begun, Seen], now: datetime) -> int:
    window = seen.get(limit.begun(now))
    return window.used if window else 0
