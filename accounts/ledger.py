"""The only writer of money.

Everything is a whole number of micro-dollars. A `Hold` promises money and is captured or released exactly once;
a `Transfer` moves it and is never changed. Whatever two requests at once could cross (a balance, a cap) is enforced
by the condition of an UPDATE, never by a look before it. Rows are locked in one order everywhere: cap windows by
name, then the person's wallet, then the house's wallet, which all share and which is therefore held the shortest.
So a transaction may make several holds, but captures, releases or grants of one person only: those of two people
in one transaction would lock in two orders. One that closes several holds takes their windows first: `accounts.locks`.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import QuerySet
from django.utils import timezone

from accounts import credits, rows
from accounts.models import ApiKey, Cap, CapWindow, Hold, Transfer, User, Wallet

SIGNUP_BUDGET = "house:signup/usd"
PREVIEW_BUDGET = "house:preview/usd"
# The most that one promise or grant can be for: $1,000,000,000. Sums of many stay far inside a BIGINT, which matters,
# because SQLite turns a sum that does not fit into a float, without a word.
MOST_MICROS = 10**15
EVER = date(2000, 1, 1)  # the first day of the window that never ends
_COUNTED = (Cap.Window.DAY.value, Cap.Window.MONTH.value, Cap.Window.TOTAL.value)
_BIGINT_MAX = 2**63 - 1

# The statements that decide races, word for word. Rows are locked while they run: as SQL they take a twentieth of
# the time that the ORM needs to spell them anew for every call.
_RESERVE = """
    UPDATE accounts_capwindow SET reserved = reserved + %(amount)s
     WHERE id = %(id)s AND spent + reserved + %(amount)s <= %(limit)s
"""
_UNRESERVE = """
    UPDATE accounts_capwindow SET reserved = reserved - %(reserved)s, spent = spent + %(spent)s WHERE id = %(id)s
"""
_HOLD = """
    UPDATE accounts_wallet SET held = held + %(amount)s
     WHERE id = %(id)s AND (user_id IS NULL OR posted - held >= %(amount)s)
"""
_CLOSE = """
    UPDATE accounts_hold SET state = %(state)s, closed = %(closed)s, captured = COALESCE(%(captured)s, amount)
     WHERE id = %(id)s AND state = 'open'
"""
_CLOSED = """
    SELECT h.id, h.business_id, h.memo, h.amount, h.captured, w.id, w.name, w.user_id
      FROM accounts_hold h JOIN accounts_wallet w ON w.id = h.wallet_id WHERE h.id = %(id)s
"""
_USES = """
    SELECT u.window_id, u.reserved FROM accounts_capuse u JOIN accounts_capwindow w ON w.id = u.window_id
     WHERE u.hold_id = %(id)s ORDER BY w.subject, w."window"
"""
_SPEND = """
    UPDATE accounts_capuse SET spent = CASE WHEN reserved < %(most)s THEN reserved ELSE %(most)s END
     WHERE hold_id = %(id)s
"""
_GIVE_BACK = """
    UPDATE accounts_hold SET refunded = refunded + %(amount)s
     WHERE id = %(id)s AND state = 'captured' AND refunded + %(amount)s <= captured
"""
_CAPS = """
    SELECT key_id, "window", "limit", warn_at FROM accounts_cap
     WHERE user_id = %(user)s AND (key_id IS NULL OR key_id = %(key)s)
"""
_OF_USER = "SELECT id, name, posted, held FROM accounts_wallet WHERE user_id = %(user)s"
_HOUSE = "SELECT id, posted, held FROM accounts_wallet WHERE name = %(name)s"
_ADD = """
    UPDATE accounts_wallet SET posted = posted + %(posted)s, held = held + %(held)s WHERE id = %(id)s RETURNING posted
"""

_LOCK = "UPDATE accounts_wallet SET held = held WHERE id = %(id)s RETURNING posted - held"


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

    def begun(self, now: datetime) -> "Begun":
        """The window of this moment."""
        return self.subject, self.window, window_start(self.window, now)


Begun = tuple[str, str, date]  # whose window, which, and its first day


class Seen(NamedTuple):
    """The row of a window, and what is spent and held in it together."""

    pk: int
    used: int


@dataclass(frozen=True)
class Promise:
    """One hold to be written. `business_id` can happen once, ever; `memo` is what the statement says."""

    business_id: str
    amount: int
    memo: str


class Refusal(Exception):
    """Money said no. `code` is for programs, the text for people; nothing was held and nothing charged."""

    code = "refused"


class NotEnoughCredit(Refusal):
    code = "insufficient_credits"

    def __init__(self, *, needed: int, available: int) -> None:
        self.needed, self.available = needed, available
        super().__init__(
            f"This needs {credits.both(needed)}, and you have {credits.both(max(available, 0))} left."
        )


class CapReached(Refusal):
    """`used` is spent and held together, `asked` what did not fit; both in the cap's own unit."""

    code = "cap_reached"

    def __init__(self, cap: Limit, *, used: int, asked: int, now: datetime) -> None:
        self.subject, self.window, self.limit = cap.subject, cap.window, cap.limit or 0
        self.used, self.asked = used, asked
        self.resets = (
            window_end(cap.window, now) if cap.window in (Cap.Window.DAY, Cap.Window.MONTH) else None
        )
        # Whether the person themselves can change it.
        self.is_own = cap.subject.startswith(("user:", "key:")) and cap.subject.endswith("/usd")
        self.is_of_key = cap.subject.startswith("key:")
        super().__init__(_in_words(self))


def _in_words(reached: CapReached) -> str:
    if reached.subject == PREVIEW_BUDGET:
        return "The house's budget for free previews is used up for today. You can pay with credits instead."
    if reached.subject == SIGNUP_BUDGET:
        return "Today's welcome credits are all given out. Yours arrive as soon as there are new ones."
    if reached.subject.endswith("/previews"):
        left = max(reached.limit - reached.used, 0)
        return f"You have {left} of {reached.limit} free previews left today (UTC), and this needs {reached.asked}."
    limit, used = credits.usd(reached.limit), credits.usd(reached.used)
    if reached.window == Cap.Window.JOB:
        return f"Your cap is {limit} for one picture, and this one costs {credits.usd(reached.asked)}."
    asked = credits.usd(reached.asked)
    whose = f"This key's {reached.window}" if reached.is_of_key else f"Your {reached.window}"
    return f"{whose} cap of {limit} would be crossed: {used} is spent or held, and this needs {asked}."


# --- Wallets, caps and their windows ------------------------------------------------------------------
def wallet_of(user: User) -> Wallet:
    return _wallet(user, _fetch(_OF_USER, user=user.pk))


def _wallet(user: User, found: Sequence[tuple[Any, ...]]) -> Wallet:
    for pk, name, posted, held in found:
        return Wallet(id=pk, name=name, user_id=user.pk, posted=posted, held=held)
    return Wallet.objects.get_or_create(user=user, defaults={"name": f"user:{user.pk}"})[0]


def house(name: Wallet.House) -> Wallet:
    for pk, posted, held in _fetch(_HOUSE, name=name.value):
        return Wallet(id=pk, name=name.value, posted=posted, held=held)
    return Wallet.objects.get_or_create(name=name.value)[0]


def lock(wallet: Wallet) -> int:
    """What is available in it. Until our transaction ends nobody else can change that: the row is ours.

    For who takes as much as there is. A person's wallet first, then the house's by name, as everywhere.
    """
    [(available,)] = _fetch(_LOCK, id=wallet.pk)
    return int(available)


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


def _used(limit: Limit, windows: Mapping[Begun, Seen], now: datetime) -> int:
    seen = windows.get(limit.begun(now))
    return seen.used if seen else 0


def used(limits: Sequence[Limit], now: datetime) -> list[int]:
    """As `Account.used` for each of these limits, in one query."""
    [found] = rows.together([_looking_for([limit.begun(now) for limit in limits])])
    windows = _begun(found)
    return [_used(limit, windows, now) for limit in limits]


def account(user: User, key: ApiKey | None = None) -> Account:
    """The wallet, the caps and their windows, in one round trip."""
    asked = {"user": user.pk, "key": key.pk if key else None}
    subjects = [spending_of(user), *([spending_by(key)] if key else [])]
    now = timezone.now()
    begun = [(subject, window, window_start(window, now)) for subject in subjects for window in _COUNTED]
    found, caps, windows = rows.together([(_OF_USER, asked), (_CAPS, asked), _looking_for(begun)])
    by_window = {(key_id, window): (limit, warn_at) for key_id, window, limit, warn_at in caps.rows}
    return Account(user, key, _wallet(user, found.rows), by_window, _begun(windows))


def _limit(subject: str, window: str, cap: tuple[int | None, int | None] | None, each: int) -> Limit:
    limit, warn_at = cap or (None, None)
    return Limit(subject, window, limit, each, warn_at)


def preview_limits(user: User, cost_each: int) -> list[Limit]:
    """What bounds a free preview that costs the house `cost_each` micro-dollars upstream."""
    return [
        Limit(PREVIEW_BUDGET, Cap.Window.DAY, settings.PREVIEW_BUDGET_MICROS_PER_DAY, cost_each),
        Limit(f"user:{user.pk}/previews", Cap.Window.DAY, settings.PREVIEWS_PER_DAY, 1),
    ]


# --- Holds --------------------------------------------------------------------------------------------
@transaction.atomic
def hold(wallet: Wallet, promises: Sequence[Promise], limits: Sequence[Limit] = ()) -> list[Hold]:
    """Holds all of the promises, each within every limit, or none of them.

    Raises NotEnoughCredit or CapReached (nothing is left behind), IntegrityError where a business id has happened.
    """
    return hold_inside(wallet, promises, limits)


def hold_inside(
    wallet: Wallet,
    promises: Sequence[Promise],
    limits: Sequence[Limit] = (),
    windows: Mapping[Begun, Seen] | None = None,
) -> list[Hold]:
    """As `hold`, without a savepoint: for a transaction that ends with whatever this raises.

    Holds, caps and wallet are written in one round trip, and looked at afterwards: so they stay locked the shortest.
    `windows`: those whose rows the caller knows, as `Account` has them.
    """
    if not promises:
        return []
    now = timezone.now()
    _check_amounts([promise.amount for promise in promises] + [limit.each for limit in limits])
    _check_jobs(limits, now)
    counted = sorted(
        (limit for limit in limits if limit.window != Cap.Window.JOB),
        key=lambda cap: (cap.subject, cap.window),
    )
    holds = [
        Hold(wallet=wallet, business_id=p.business_id, amount=p.amount, memo=p.memo, created=now)
        for p in promises
    ]
    ids = _window_ids(counted, windows or {}, now)
    total = sum(promise.amount for promise in promises)
    amounts = [limit.each * len(promises) for limit in counted]
    added, *taken = rows.together(
        [
            rows.inserting(holds),
            *map(_reserving, counted, ids, amounts),
            *([(_HOLD, {"id": wallet.pk, "amount": total})] if total else []),
            *([_using(holds, counted, ids)] if counted else []),
        ]
    )
    rows.take_ids(holds, added)
    counts = [result.count for result in taken]
    _check_reserved(counts, counted, ids, amounts, now)
    if total and not counts[len(counted)]:
        wallet.refresh_from_db()
        raise NotEnoughCredit(needed=total, available=wallet.available)
    return holds


def _check_reserved(
    counts: Sequence[int],
    counted: Sequence[Limit],
    windows: Sequence[int],
    amounts: Sequence[int],
    now: datetime,
) -> None:
    for count, limit, window, amount in zip(counts, counted, windows, amounts, strict=False):
        if not count:
            seen = CapWindow.objects.get(pk=window)
            raise CapReached(limit, used=seen.spent + seen.reserved, asked=amount, now=now)


def _check_amounts(amounts: Sequence[int]) -> None:
    for amount in amounts:
        if not 0 <= amount <= MOST_MICROS:
            raise ValueError(f"{amount} is not between 0 and {MOST_MICROS} micro-dollars.")


def _check_jobs(limits: Sequence[Limit], now: datetime) -> None:
    for limit in limits:
        if limit.window == Cap.Window.JOB and limit.limit is not None and limit.each > limit.limit:
            raise CapReached(limit, used=0, asked=limit.each, now=now)


def _window_ids(counted: Sequence[Limit], known: Mapping[Begun, Seen], now: datetime) -> list[int]:
    """The ids of these caps' rows, in the same order, made where a window has only just begun."""
    wanted = [limit.begun(now) for limit in counted]
    if unknown := [begun for begun in wanted if begun not in known]:
        [found] = rows.together([_looking_for(unknown)])
        known = {**known, **_begun(found)}
    return [known[begun].pk if begun in known else _new_window(*begun) for begun in wanted]


def _looking_for(wanted: Sequence[Begun]) -> rows.Statement:
    """A look at these rows, and perhaps at some others of the same subjects."""
    subjects = sorted({subject for subject, _, _ in wanted})
    firsts = [connection.ops.adapt_datefield_value(day) for day in sorted({starts for *_, starts in wanted})]
    return _windows_query(len(subjects), len(firsts)), [*subjects, *firsts]


def _begun(found: rows.Result) -> dict[Begun, Seen]:
    return {(subject, window, starts): Seen(pk, used) for pk, subject, window, starts, used in found.rows}


@lru_cache(maxsize=20)
def _windows_query(subjects: int, firsts: int) -> str:
    some, days = ", ".join(["%s"] * subjects), ", ".join(["%s"] * firsts)
    columns = 'id, subject, "window", starts, spent + reserved'
    return f"SELECT {columns} FROM accounts_capwindow WHERE subject IN ({some}) AND starts IN ({days})"  # noqa: S608


def _new_window(subject: str, window: str, starts: date) -> int:
    return CapWindow.objects.get_or_create(subject=subject, window=window, starts=starts)[0].pk


def _reserving(limit: Limit, window_id: int, amount: int) -> rows.Statement:
    most = _BIGINT_MAX if limit.limit is None else min(limit.limit, _BIGINT_MAX)
    return _RESERVE, {"id": window_id, "amount": amount, "limit": most}


def _using(holds: Sequence[Hold], counted: Sequence[Limit], ids: Sequence[int]) -> rows.Statement:
    """Writes what each hold takes of each window. Holds that the same batch adds are found by their business ids."""
    values = [value for window, limit in zip(ids, counted, strict=True) for value in (window, limit.each)]
    return _uses_of(len(holds), len(ids)), [*values, *(held.business_id for held in holds)]


@lru_cache(maxsize=50)
def _uses_of(holds: int, windows: int) -> str:
    each, names = ", ".join(["(%s, %s)"] * windows), ", ".join(["%s"] * holds)
    return f"""
        INSERT INTO accounts_capuse (hold_id, window_id, reserved, spent)
        SELECT h.id, taken.column1, taken.column2, 0
          FROM accounts_hold h CROSS JOIN (VALUES {each}) AS taken WHERE h.business_id IN ({names})
    """  # noqa: S608


def _rows(statement: str, **values: Any) -> int:
    """How many rows an UPDATE changed."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.rowcount


def _fetch(statement: str, **values: Any) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchall()


@transaction.atomic
def capture(
    hold_id: int,
    *,
    to: Wallet,
    kind: Transfer.Kind,
    amount: int | None = None,
    at: datetime | None = None,
) -> bool:
    """Takes the money of an open hold (all of it, or `amount` of it) into the wallet `to`.

    `at` (now, if not given) is when, to the microsecond: so reports by day agree with the statement at midnight too.

    False where the hold was closed already: whoever closed it first has won, and nothing happens here.
    IntegrityError where `amount` is more than is held.
    """
    held = _close(hold_id, Hold.State.CAPTURED, captured=amount, at=at)
    if held is None:
        return False
    # The whole spends all that was reserved, which in a cap of another unit is another number; a part spends itself.
    most = _BIGINT_MAX if held.captured == held.amount else held.captured
    _rows(_SPEND, id=held.pk, most=most)
    for window_id, reserved in _uses(held):
        _unreserve(window_id, reserved, spent=min(reserved, most))
    if held.captured:
        _post(held.business_id, kind, held.wallet, to, held.captured, memo=held.memo, hold=held)
    else:
        _let_go(held)
    return True


@transaction.atomic
def release(hold_id: int) -> bool:
    """Gives the money of an open hold back to its wallet. False where the hold was closed already."""
    held = _close(hold_id, Hold.State.RELEASED, captured=0)
    if held is None:
        return False
    for window_id, reserved in _uses(held):
        _unreserve(window_id, reserved, spent=0)
    _let_go(held)
    return True


def _close(
    hold_id: int, state: Hold.State, *, captured: int | None, at: datetime | None = None
) -> Hold | None:
    """The hold, closed by us, `captured` None for all of it; None where somebody else closed it."""
    at = at or timezone.now()
    closed = Hold._meta.get_field("closed").get_db_prep_save(at, connection)
    if not _rows(_CLOSE, id=hold_id, state=state.value, closed=closed, captured=captured):
        return None
    [(pk, business_id, memo, amount, taken, wallet_id, name, user_id)] = _fetch(_CLOSED, id=hold_id)
    wallet = Wallet(id=wallet_id, name=name, user_id=user_id)
    return Hold(
        id=pk,
        business_id=business_id,
        memo=memo,
        amount=amount,
        captured=taken,
        wallet=wallet,
        state=state,
        closed=at,
    )


def _let_go(held: Hold) -> None:
    if held.amount:
        _add(held.wallet, 0, -held.amount)


def count_refund(hold_id: int, micros: int) -> bool:
    """Counts it against what a captured hold took: False where more would be given back than was taken.

    Moves nothing: `accounts.refunds` does, in the same transaction.
    """
    _check_amounts([micros])
    return bool(_rows(_GIVE_BACK, id=hold_id, amount=micros))


def _uses(held: Hold) -> list[tuple[int, int]]:
    """The windows and what they have reserved, in the order in which `hold` locks them."""
    return _fetch(_USES, id=held.pk)


def _unreserve(window_id: int, reserved: int, *, spent: int) -> None:
    """In the window of the hold, even where another has begun since."""
    _rows(_UNRESERVE, id=window_id, reserved=reserved, spent=spent)


# --- Transfers ----------------------------------------------------------------------------------------
def _post(
    business_id: str,
    kind: Transfer.Kind,
    debit: Wallet,
    credit: Wallet,
    amount: int,
    *,
    memo: str,
    hold: Hold | None = None,
    about: Hold | None = None,
    actor: User | None = None,
) -> None:
    """Moves money: the person's side first, whose new balance the row remembers, the house's side last.

    A transfer out of a `hold` ends what was held, too; one that is only `about` a hold does not.
    """
    ends_held = hold.amount if hold else 0
    first, last = sorted([(debit, -amount, -ends_held), (credit, amount, 0)], key=_house_last)
    balance = _add(*first)
    transfer = Transfer(
        business_id=business_id,
        kind=kind,
        debit=debit,
        credit=credit,
        amount=amount,
        user_balance=None if first[0].user_id is None else balance,
        hold=hold or about,
        memo=memo,
        actor=actor,
        created=(hold and hold.closed) or timezone.now(),
    )
    rows.insert(transfer)
    _add(*last)


def _house_last(side: tuple[Wallet, int, int]) -> tuple[bool, str]:
    return side[0].user_id is None, side[0].name


def _add(wallet: Wallet, posted: int, held: int) -> int:
    """Changes a wallet; returns its new balance, which nobody else can change before we commit."""
    [(balance,)] = _fetch(_ADD, id=wallet.pk, posted=posted, held=held)
    return int(balance)


def grant(user: User, micros: int, *, business_id: str, memo: str, actor: User | None = None) -> bool:
    """Gives credits out of goodwill. False where this business id has happened."""
    if micros <= 0:
        raise ValueError("A grant must be more than 0 micro-dollars.")
    source = house(Wallet.House.GOODWILL)
    return move(
        business_id,
        Transfer.Kind.GRANT,
        debit=source,
        credit=wallet_of(user),
        micros=micros,
        memo=memo,
        actor=actor,
    )


def book_suspected_cost(micros: int, *, business_id: str, memo: str, is_preview: bool = False) -> bool:
    """Books what an upstream may have charged for a job whose outcome nobody knows. False where that is nothing.

    That of a preview counts against the day's preview budget, or failures could cost the house more than it set.
    """
    _check_amounts([micros])
    if not micros:
        return False
    upstream = house(Wallet.House.UPSTREAM)
    if not is_preview:
        kind = Transfer.Kind.SUSPECTED_COST
        source = house(Wallet.House.SUSPENSE)
        return move(business_id, kind, debit=source, credit=upstream, micros=micros, memo=memo)
    counted = Limit(PREVIEW_BUDGET, Cap.Window.DAY, None, micros)
    [held] = hold(house(Wallet.House.SUSPENSE), [Promise(business_id, micros, memo)], [counted])
    return capture(held.pk, to=upstream, kind=Transfer.Kind.SUSPECTED_COST)


def move(
    business_id: str,
    kind: Transfer.Kind,
    *,
    debit: Wallet,
    credit: Wallet,
    micros: int,
    memo: str,
    hold: Hold | None = None,
    actor: User | None = None,
) -> bool:
    """Moves money that no hold has promised. False where this business id has happened, and then nothing moves.

    IntegrityError where a person's wallet would have less than is held in it. `hold`: the closed one it is about.
    """
    _check_amounts([micros])
    try:
        with transaction.atomic():
            _post(business_id, kind, debit, credit, micros, memo=memo, about=hold, actor=actor)
    except IntegrityError:
        if Transfer.objects.filter(business_id=business_id).exists():
            return False
        raise
    return True


def grant_signup(user: User) -> bool:
    """The welcome credits: once per person, within the house's daily budget, which raises CapReached.

    Neither an account that comes back under a canonical address nor one that changes its address gets them twice.
    """
    micros = settings.SIGNUP_GRANT_MICROS
    business_id = "signup:" + hashlib.sha256(user.canonical_email.encode()).hexdigest()[:40]
    wallet, promo = wallet_of(user), house(Wallet.House.PROMO)
    if not micros or _is_welcomed(wallet, business_id):
        return False
    budget = Limit(SIGNUP_BUDGET, Cap.Window.DAY, settings.SIGNUP_BUDGET_MICROS_PER_DAY, micros)
    try:
        with transaction.atomic():
            [held] = hold(promo, [Promise(business_id, micros, "Welcome credits")], [budget])
            capture(held.pk, to=wallet, kind=Transfer.Kind.SIGNUP)
            if _welcomes(wallet).count() > 1:  # asked only now: since the capture the wallet's row is ours
                raise IntegrityError("This account has been welcomed under another address.")
    except IntegrityError:
        if _is_welcomed(wallet, business_id):
            return False
        raise
    return True


def _is_welcomed(wallet: Wallet, business_id: str) -> bool:
    return Hold.objects.filter(business_id=business_id).exists() or _welcomes(wallet).exists()


def _welcomes(wallet: Wallet) -> QuerySet[Transfer]:
    return wallet.credits.filter(kind=Transfer.Kind.SIGNUP)
