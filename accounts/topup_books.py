"""What a paid top-up does to the books: the purchase, and what went back to the card of it.

Events come late, twice and in any order. So none of them moves money by itself: `settle` adds up everything that is
known of a payment and books what is missing. Whatever came first, the books end the same.

Of what goes back, the person gives what is neither spent nor held; the rest is the house's loss. What was lost is not
taken from credits that come later.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

from django.db import transaction
from django.db.models import Sum

from accounts import credits, ledger, mails
from accounts.models import StripeEvent, TopUp, Transfer, Wallet

TAKES = ("charge.dispute.created", "charge.dispute.funds_withdrawn")
RETURNS = ("charge.dispute.funds_reinstated", "charge.dispute.closed")
REFUNDED, REFUND_FAILED = "charge.refunded", "refund.failed"
MOST_ID = 46  # characters of a dispute's id that fit into a business id

Kind = Transfer.Kind


# --- What is known ------------------------------------------------------------------------------------
@dataclass
class Dispute:
    """How often it took the money and how often it gave it back: what was won can be lost after all."""

    cents: int = 0
    taken: int = 0
    returned: int = 0

    def hear(self, kind: str, said: dict[str, Any]) -> None:
        """What it says next, in the order in which it happened."""
        self.cents = max(self.cents, said["amount"])
        if _gives_back(kind, said):
            self.returned = self.taken
        elif _takes(kind, said) and self.taken == self.returned:
            self.taken += 1


@dataclass
class Known:
    """All that was said of one payment, whatever the order in which it came."""

    paid_back: int = 0  # cents, less what did not arrive
    disputes: dict[str, Dispute] = field(default_factory=dict)


def known_of(events: Iterable[StripeEvent]) -> Known:
    known, in_order = Known(), sorted(events, key=_when)
    refunds = [event for event in in_order if event.kind in (REFUNDED, REFUND_FAILED)]
    for kind, of_kind in groupby(refunds, key=attrgetter("kind")):
        objects = [event.payload["object"] for event in of_kind]
        if kind == REFUNDED:  # in all, less what had failed before
            known.paid_back = max(said["amount_refunded"] for said in objects)
        else:
            failed = {said["id"]: said["amount"] for said in objects}
            known.paid_back = max(known.paid_back - sum(failed.values()), 0)
    for event in in_order:
        said: dict[str, Any] = event.payload["object"]
        if event.kind in TAKES + RETURNS:
            known.disputes.setdefault(said["id"], Dispute()).hear(event.kind, said)
    return known


def _when(event: StripeEvent) -> tuple[datetime, bool]:
    """Stripe counts in seconds. Of one second, what undoes comes last."""
    undoes = event.kind == REFUND_FAILED or _gives_back(event.kind, event.payload["object"])
    return event.happened, undoes


def _takes(kind: str, said: dict[str, Any]) -> bool:
    """A warning is a bank's question: no money has moved, unless it says so."""
    is_question = str(said.get("status", "")).startswith("warning_")
    is_lost = kind == "charge.dispute.closed" and said.get("status") == "lost"
    return kind == "charge.dispute.funds_withdrawn" or (kind in TAKES and not is_question) or is_lost


def _gives_back(kind: str, said: dict[str, Any]) -> bool:
    is_over = kind == "charge.dispute.closed" and said.get("status") in ("won", "warning_closed")
    return kind == "charge.dispute.funds_reinstated" or is_over


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

    def return_failed(self, business_id: str, micros: int) -> None:
        """Of what was taken for a refund that did not arrive. First to the house, which gave what the person had not."""
        memo = f"Receipt {self.top_up.number}"
        to_house = min(micros, _lost_by_paybacks(self))
        if to_house:
            kind, losses = Kind.PAYBACK_FAILED, self.losses
            self._move(f"{business_id}:loss", kind, self.purchases, losses, to_house, memo)
        self.give(business_id, Kind.PAYBACK_FAILED, micros - to_house, memo)

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
    elif missing < 0:
        _undo_pay_back(books, -missing)
    top_up.save(update_fields=["paid_back_cents", "failed_cents", "disputed_cents"])
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
    top_up = books.top_up
    for time in range(1, dispute.taken + 1):
        taken = f"dispute:{top_up.pk.hex}:{dispute_id}{f':{time}' if time > 1 else ''}"
        cents = min(dispute.cents, _left(top_up))
        if cents > 0 and not _has_moved(taken):
            books.take(taken, Kind.DISPUTE, top_up.micros_of(cents), f"Receipt {top_up.number}")
            top_up.disputed_cents += cents
        is_returned = time <= dispute.returned
        if is_returned and _has_moved(taken) and not _has_moved(f"{taken}:won", f"{taken}:loss:won"):
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
    if top_up.failed_cents:  # it may come to the same sum again
        business_id += f":{top_up.failed_cents}"
    books.take(business_id, Kind.PAYBACK, after - before, f"Receipt {top_up.number}")


def _undo_pay_back(books: Books, cents: int) -> None:
    """Refunds that did not arrive: the money is with the house, so the credits are the buyer's again."""
    top_up = books.top_up
    before, after = (
        top_up.micros_of(each) for each in (top_up.paid_back_cents, top_up.paid_back_cents - cents)
    )
    top_up.paid_back_cents -= cents
    top_up.failed_cents += cents
    books.return_failed(f"payback:{top_up.pk.hex}:failed:{top_up.failed_cents}", before - after)


def _lost_by_paybacks(books: Books) -> int:
    """What the house still bears of what went back of this top-up, not counting disputes."""
    mine = Transfer.objects.filter(business_id__startswith=f"payback:{books.top_up.pk.hex}:")
    lost = mine.filter(debit=books.losses).aggregate(sum=Sum("amount"))["sum"] or 0
    returned = mine.filter(credit=books.losses).aggregate(sum=Sum("amount"))["sum"] or 0
    return int(lost - returned)


def _note(books: Books, *, is_too_much: bool) -> str:
    notes = []
    if books.lost:
        notes.append(f"{credits.usd(books.lost)} of it was spent already: booked as a loss.")
    if is_too_much:
        notes.append("More went back to the card than was paid: look at the payment in Stripe.")
    return " ".join(notes)
