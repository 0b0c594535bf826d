"""What a paid top-up does to the books: the purchase, and what went back to the card of it.

Events come late, twice and in any order. So none of them moves money by itself: `settle` adds up everything that is
known of a payment and books what is missing. Whatever came first, the books end the same.

Of what goes back, the person gives what is neither spent nor held; the rest is the house's loss. What was lost is not
taken from credits that come later.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.db import transaction

from accounts import credits, ledger, mails
from accounts.models import StripeEvent, TopUp, Transfer, Wallet

TAKES = ("charge.dispute.created", "charge.dispute.funds_withdrawn")
RETURNS = ("charge.dispute.funds_reinstated", "charge.dispute.closed")
REFUNDED = "charge.refunded"
MOST_ID = 50  # characters of a dispute's id that fit into a business id

Kind = Transfer.Kind


# --- What is known ------------------------------------------------------------------------------------
@dataclass
class Dispute:
    cents: int = 0
    is_taken: bool = False
    is_returned: bool = False


@dataclass
class Known:
    """All that was said of one payment, whatever the order in which it came."""

    paid_back: int = 0  # cents, ever
    disputes: dict[str, Dispute] = field(default_factory=dict)


def known_of(events: Iterable[StripeEvent]) -> Known:
    known = Known()
    for event in events:
        said: dict[str, Any] = event.payload["object"]
        if event.kind == REFUNDED:
            known.paid_back = max(known.paid_back, said["amount_refunded"])
        elif event.kind in TAKES + RETURNS:
            _dispute_says(known.disputes.setdefault(said["id"], Dispute()), event.kind, said)
    return known


def _dispute_says(dispute: Dispute, kind: str, said: dict[str, Any]) -> None:
    """A warning is a bank's question: no money has moved, unless it says so."""
    is_question = str(said.get("status", "")).startswith("warning_")
    dispute.cents = max(dispute.cents, said["amount"])
    if kind == "charge.dispute.funds_withdrawn" or (kind in TAKES and not is_question):
        dispute.is_taken = True
    if kind == "charge.dispute.funds_reinstated" or said.get("status") in ("won", "warning_closed"):
        dispute.is_returned = True


# --- Booking it ---------------------------------------------------------------------------------------
@dataclass
class Books:
    """The wallets of one purchase, ours until the transaction ends, and what can still be taken from its buyer."""

    top_up: TopUp
    buyer: Wallet
    losses: Wallet
    purchases: Wallet
    available: int
    lost: int = 0

    def give(self, business_id: str, kind: Kind, micros: int, memo: str) -> None:
        if micros and self._move(business_id, kind, self.purchases, self.buyer, micros, memo):
            self.available += micros

    def take(self, business_id: str, kind: Kind, micros: int, memo: str) -> None:
        """From the buyer as far as it goes, and the rest from the house."""
        theirs = min(micros, self.available)
        if theirs and self._move(business_id, kind, self.buyer, self.purchases, theirs, memo):
            self.available -= theirs
        if micros > theirs:
            self._move(f"{business_id}:loss", Kind.LOSS, self.losses, self.purchases, micros - theirs, memo)
            self.lost += micros - theirs

    def give_back(self, taken: str) -> None:
        """Undoes a take, each to where it came from."""
        memo = f"Receipt {self.top_up.number}"
        for business_id, to in ((taken, self.buyer), (f"{taken}:loss", self.losses)):
            row = Transfer.objects.filter(business_id=business_id).first()
            if row:
                self._move(f"{business_id}:won", Kind.DISPUTE_WON, self.purchases, to, row.amount, memo)
                self.available += row.amount if to is self.buyer else 0

    def _move(
        self, business_id: str, kind: Kind, debit: Wallet, credit: Wallet, micros: int, memo: str
    ) -> bool:
        return ledger.move(business_id, kind, debit=debit, credit=credit, micros=micros, memo=memo)


def settle(top_up: TopUp) -> str:
    """Books what is missing, inside the caller's transaction, which has locked the row of the top-up.

    Returns what an operator should know; empty where all is well.
    """
    if not top_up.is_paid:
        return ""
    books = _open(top_up)
    memo = f"Receipt {top_up.number}"
    if arrived := _unbooked(top_up):
        books.give(f"purchase:{top_up.pk.hex}", Kind.PURCHASE, arrived, memo)
        transaction.on_commit(partial(_tell, top_up))
    known = known_of(StripeEvent.objects.filter(payment_id=top_up.payment_id).order_by("pk"))
    for dispute_id, dispute in sorted(known.disputes.items()):
        _book_dispute(books, dispute_id, dispute)
    missing = known.paid_back - top_up.paid_back_cents
    cents = min(missing, _left(top_up))
    if cents > 0:
        _pay_back(books, cents)
    top_up.save(update_fields=["paid_back_cents", "disputed_cents"])
    return _note(books, is_too_much=missing > max(cents, 0))


def _tell(top_up: TopUp) -> None:
    if top_up.user.is_active:
        paid, arrived = credits.usd(top_up.cents * 10_000), credits.both(top_up.micros)
        told = {"number": top_up.number, "paid": paid, "arrived": arrived}
        mails.tell("receipt", top_up.user, {**told, "url": mails.link("receipt", top_up.pk)})


def _open(top_up: TopUp) -> Books:
    """Locks the three wallets, in the ledger's order, and so knows how much there is to take."""
    buyer = ledger.wallet_of(top_up.user)
    losses, purchases = ledger.house(Wallet.House.LOSSES), ledger.house(Wallet.House.PURCHASES)
    available = ledger.lock(buyer)
    ledger.lock(losses)
    ledger.lock(purchases)
    return Books(top_up, buyer, losses, purchases, available)


def _unbooked(top_up: TopUp) -> int:
    is_booked = Transfer.objects.filter(business_id=f"purchase:{top_up.pk.hex}").exists()
    return 0 if is_booked else top_up.micros


def _left(top_up: TopUp) -> int:
    """The cents of it that have not gone back: no more than was paid is ever taken."""
    return top_up.cents - top_up.paid_back_cents - top_up.disputed_cents


def _book_dispute(books: Books, dispute_id: str, dispute: Dispute) -> None:
    top_up, taken = books.top_up, f"dispute:{books.top_up.pk.hex}:{dispute_id}"
    cents = min(dispute.cents, _left(top_up))
    if dispute.is_taken and cents > 0 and not _has_moved(taken):
        books.take(taken, Kind.DISPUTE, top_up.micros_of(cents), f"Receipt {top_up.number}")
        top_up.disputed_cents += cents
    if dispute.is_returned and _has_moved(taken) and not _has_moved(f"{taken}:won", f"{taken}:loss:won"):
        top_up.disputed_cents -= _cents(top_up, taken)
        books.give_back(taken)


def _has_moved(business_id: str, *others: str) -> bool:
    ids = [business_id, *others] if others else [business_id, f"{business_id}:loss"]
    return Transfer.objects.filter(business_id__in=ids).exists()


def _cents(top_up: TopUp, taken: str) -> int:
    """What a dispute took, in cents of the payment."""
    rows = Transfer.objects.filter(business_id__in=[taken, f"{taken}:loss"])
    return sum(row.amount for row in rows) * top_up.cents // top_up.micros


def _pay_back(books: Books, cents: int) -> None:
    """Up to what Stripe says in all, so that parts may come as one."""
    top_up = books.top_up
    before, after = (
        top_up.micros_of(each) for each in (top_up.paid_back_cents, top_up.paid_back_cents + cents)
    )
    top_up.paid_back_cents += cents
    business_id = f"payback:{top_up.pk.hex}:{top_up.paid_back_cents}"
    books.take(business_id, Kind.PAYBACK, after - before, f"Receipt {top_up.number}")


def _note(books: Books, *, is_too_much: bool) -> str:
    notes = []
    if books.lost:
        notes.append(f"{credits.usd(books.lost)} of it was spent already: booked as a loss.")
    if is_too_much:
        notes.append("More went back to the card than was paid: look at the payment in Stripe.")
    return " ".join(notes)
