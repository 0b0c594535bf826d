"""Movements of money from one wallet to another: added, never changed, each business id once."""

from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import rows
from accounts.ledger import wallets
from accounts.models import Hold, Transfer, User, Wallet


def post(
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
    balance = wallets.add(*first)
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
    wallets.add(*last)


def _house_last(side: tuple[Wallet, int, int]) -> tuple[bool, str]:
    return side[0].user_id is None, side[0].name


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
    wallets.check([micros])
    try:
        with transaction.atomic():
            post(business_id, kind, debit, credit, micros, memo=memo, about=hold, actor=actor)
    except IntegrityError:
        if Transfer.objects.filter(business_id=business_id).exists():
            return False
        raise
    return True
