"""The only writer of money.

Everything is a whole number of micro-dollars. A `Hold` promises money and is captured or released exactly once;
a `Transfer` moves it and is never changed. Whatever two requests at once could cross (a balance, a cap) is enforced
by the condition of an UPDATE, never by a look before it. Rows are locked in one order everywhere: cap windows by
name, then the person's wallet, then the house's wallet, which all share and which is therefore held the shortest.
So a transaction may make several holds, but captures, releases or grants of one person only: those of two people
in one transaction would lock in two orders. One that closes several holds takes their windows first: `accounts.locks`.
"""

from accounts.ledger.grants import book_suspected_cost, grant, grant_signup
from accounts.ledger.holds import Promise, capture, count_refund, hold, hold_inside, release
from accounts.ledger.limits import (
    PREVIEW_BUDGET,
    SIGNUP_BUDGET,
    Account,
    Limit,
    account,
    account_limits,
    preview_limits,
    spending_by,
    spending_of,
    used,
)
from accounts.ledger.refusals import CapReached, NotEnoughCredit, Refusal
from accounts.ledger.transfers import move
from accounts.ledger.wallets import MOST_MICROS, house, lock, wallet_of
from accounts.ledger.windows import Begun, Seen, usage, window_end, window_start

__all__ = [
    "MOST_MICROS",
    "PREVIEW_BUDGET",
    "SIGNUP_BUDGET",
    "Account",
    "Begun",
    "CapReached",
    "Limit",
    "NotEnoughCredit",
    "Promise",
    "Refusal",
    "Seen",
    "account",
    "account_limits",
    "book_suspected_cost",
    "capture",
    "count_refund",
    "grant",
    "grant_signup",
    "hold",
    "hold_inside",
    "house",
    "lock",
    "move",
    "preview_limits",
    "release",
    "spending_by",
    "spending_of",
    "usage",
    "used",
    "wallet_of",
    "window_end",
    "window_start",
]
