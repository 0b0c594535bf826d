"""Money back to somebody's balance, of what a picture took: whole or in parts, and never more than was captured.

How much is left is the condition of one UPDATE on the hold, so that any number of people who refund at once stay within
it. A refund gives no room back in a cap: see docs/decisions/0010.
"""

from django.db import transaction

from accounts import credits, ledger
from accounts.models import Hold, Transfer, User, Wallet


class NothingToRefund(ledger.Refusal):
    """Nobody paid for it, or who did has closed the account."""

    code = "nothing_to_refund"


class MoreThanCaptured(ledger.Refusal):
    """`left` is what can still be given back, in micro-dollars."""

    code = "more_than_captured"

    def __init__(self, *, asked: int, left: int) -> None:
        self.asked, self.left = asked, left
        still = (
            f"only {credits.both(left)} of this charge can"
            if left
            else "all of this charge has been given back, and nothing more can"
        )
        super().__init__(f"{credits.both(asked)} cannot be refunded: {still} be given back.")


def left_of(held: Hold) -> int:
    """What can still be given back: nothing of what the house paid itself."""
    is_paid = held.state == Hold.State.CAPTURED and held.wallet.user_id is not None
    return held.captured - held.refunded if is_paid else 0


def refund(held: Hold, micros: int, *, business_id: str, memo: str, actor: User | None) -> bool:
    """Gives `micros` of what the hold took back to whom it took it from. False where this business id has happened.

    `memo` is what they read on their statement. Raises a ledger.Refusal, and then nothing has moved.
    """
    if micros <= 0:
        raise ValueError("A refund must be more than 0 micro-dollars.")
    person = held.wallet.user
    if person is None or person.deleted:
        raise NothingToRefund("Nobody is there to be given this back.")
    if _has_happened(business_id):
        return False
    with transaction.atomic():
        if ledger.count_refund(held.pk, micros):
            return _moved(held, micros, business_id, memo, actor)
    if _has_happened(business_id):  # by whoever had the hold's row while we waited for it
        return False
    held.refresh_from_db(fields=["state", "captured", "refunded"])
    if held.state != Hold.State.CAPTURED or not held.captured:
        raise NothingToRefund("Nothing was charged here, so nothing can be given back.")
    raise MoreThanCaptured(asked=micros, left=left_of(held))


def _moved(held: Hold, micros: int, business_id: str, memo: str, actor: User | None) -> bool:
    """The money follows the count, or the count is undone."""
    done = ledger.move(
        business_id,
        Transfer.Kind.REFUND,
        debit=ledger.house(Wallet.House.REVENUE),
        credit=held.wallet,
        micros=micros,
        memo=memo,
        hold=held,
        actor=actor,
    )
    if not done:
        transaction.set_rollback(True)
    return done


def _has_happened(business_id: str) -> bool:
    return Transfer.objects.filter(business_id=business_id).exists()
