"""Balances: whose they are, what is in them, and how much fits."""

from collections.abc import Sequence
from typing import Any

from accounts import rows
from accounts.models import User, Wallet

# The most that one promise or grant can be for: $1,000,000,000. Sums of many stay far inside a BIGINT, which matters,
# because SQLite turns a sum that does not fit into a float, without a word.
MOST_MICROS = 10**15
OF_USER = "SELECT id, name, posted, held FROM accounts_wallet WHERE user_id = %(user)s"
_HOUSE = "SELECT id, posted, held FROM accounts_wallet WHERE name = %(name)s"
_ADD = """
    UPDATE accounts_wallet SET posted = posted + %(posted)s, held = held + %(held)s WHERE id = %(id)s RETURNING posted
"""
_LOCK = "UPDATE accounts_wallet SET held = held WHERE id = %(id)s RETURNING posted - held"


def wallet_of(user: User) -> Wallet:
    return found(user, rows.fetch(OF_USER, user=user.pk))


def found(user: User, seen: Sequence[tuple[Any, ...]]) -> Wallet:
    """Theirs, from what OF_USER gave; made where there is none yet."""
    for pk, name, posted, held in seen:
        return Wallet(id=pk, name=name, user_id=user.pk, posted=posted, held=held)
    return Wallet.objects.get_or_create(user=user, defaults={"name": f"user:{user.pk}"})[0]


def house(name: Wallet.House) -> Wallet:
    for pk, posted, held in rows.fetch(_HOUSE, name=name.value):
        return Wallet(id=pk, name=name.value, posted=posted, held=held)
    return Wallet.objects.get_or_create(name=name.value)[0]


def lock(wallet: Wallet) -> int:
    """What is available in it. Until our transaction ends nobody else can change that: the row is ours.

    For who takes as much as there is. A person's wallet first, then the house's by name, as everywhere.
    """
    [(available,)] = rows.fetch(_LOCK, id=wallet.pk)
    return int(available)


def add(wallet: Wallet, posted: int, held: int) -> int:
    """Changes a wallet; returns its new balance, which nobody else can change before we commit."""
    [(balance,)] = rows.fetch(_ADD, id=wallet.pk, posted=posted, held=held)
    return int(balance)


def check(amounts: Sequence[int]) -> None:
    """Raises ValueError where an amount is none that can be promised or moved."""
    for amount in amounts:
        if not 0 <= amount <= MOST_MICROS:
            raise ValueError(f"{amount} is not between 0 and {MOST_MICROS} micro-dollars.")
