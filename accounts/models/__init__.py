"""Who you are and what you may spend. Rows about money are written by `accounts.ledger` and by nothing else.

Every amount is a whole number of micro-dollars: $1 = 1,000,000, 1 credit = 7,000.
"""

from accounts.models.caps import Cap, CapNotice, CapUse, CapWindow
from accounts.models.desk import Deed
from accounts.models.keys import ApiKey
from accounts.models.money import Hold, Transfer, Wallet
from accounts.models.people import User, UserManager
from accounts.models.topups import StripeEvent, TopUp

__all__ = [
    "ApiKey",
    "Cap",
    "CapNotice",
    "CapUse",
    "CapWindow",
    "Deed",
    "Hold",
    "StripeEvent",
    "TopUp",
    "Transfer",
    "User",
    "UserManager",
    "Wallet",
]
