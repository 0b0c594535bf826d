"""Promises of money: held within every cap or not at all, then captured or released, exactly once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from django.db import connection, transaction
from django.utils import timezone

from accounts import rows
from accounts.ledger import transfers, wallets, windows
from accounts.ledger.limits import Limit
from accounts.ledger.refusals import CapReached, NotEnoughCredit
from accounts.ledger.windows import Begun, Seen
from accounts.models import Cap, CapWindow, Hold, Transfer, Wallet

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


@dataclass(frozen=True)
class Promise:
    """One hold to be written. `business_id` can happen once, ever; `memo` is what the statement says."""

    business_id: str
    amount: int
    memo: str


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
    known: Mapping[Begun, Seen] | None = None,
) -> list[Hold]:
    """As `hold`, without a savepoint: for a transaction that ends with whatever this raises.

    Holds, caps and wallet are written in one round trip, and looked at afterwards: so they stay locked the shortest.
    `known`: the windows whose rows the caller knows, as `Account` has them.
    """
    if not promises:
        return []
    now = timezone.now()
    wallets.check([promise.amount for promise in promises] + [limit.each for limit in limits])
    _check_jobs(limits, now)
    counted = sorted(
        (limit for limit in limits if limit.window != Cap.Window.JOB),
        key=lambda cap: (cap.subject, cap.window),
    )
    holds = [
        Hold(wallet=wallet, business_id=p.business_id, amount=p.amount, memo=p.memo, created=now)
        for p in promises
    ]
    ids = windows.ids([limit.begun(now) for limit in counted], known or {})
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
    ids: Sequence[int],
    amounts: Sequence[int],
    now: datetime,
) -> None:
    for count, limit, window, amount in zip(counts, counted, ids, amounts, strict=False):
        if not count:
            seen = CapWindow.objects.get(pk=window)
            raise CapReached(limit, used=seen.spent + seen.reserved, asked=amount, now=now)


def _check_jobs(limits: Sequence[Limit], now: datetime) -> None:
    for limit in limits:
        if limit.window == Cap.Window.JOB and limit.limit is not None and limit.each > limit.limit:
            raise CapReached(limit, used=0, asked=limit.each, now=now)


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
    rows.run(_SPEND, id=held.pk, most=most)
    for window_id, reserved in _uses(held):
        _unreserve(window_id, reserved, spent=min(reserved, most))
    if held.captured:
        transfers.post(held.business_id, kind, held.wallet, to, held.captured, memo=held.memo, hold=held)
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
    if not rows.run(_CLOSE, id=hold_id, state=state.value, closed=closed, captured=captured):
        return None
    [(pk, business_id, memo, amount, taken, wallet_id, name, user_id)] = rows.fetch(_CLOSED, id=hold_id)
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
        wallets.add(held.wallet, 0, -held.amount)


def count_refund(hold_id: int, micros: int) -> bool:
    """Counts it against what a captured hold took: False where more would be given back than was taken.

    Moves nothing: `accounts.refunds` does, in the same transaction.
    """
    wallets.check([micros])
    return bool(rows.run(_GIVE_BACK, id=hold_id, amount=micros))


def _uses(held: Hold) -> list[tuple[int, int]]:
    """The windows and what they have reserved, in the order in which `hold` locks them."""
    return rows.fetch(_USES, id=held.pk)


def _unreserve(window_id: int, reserved: int, *, spent: int) -> None:
    """In the window of the hold, even where another has begun since."""
    rows.run(_UNRESERVE, id=window_id, reserved=reserved, spent=spent)
