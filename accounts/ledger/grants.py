"""What the house gives and what it may have lost: credits of goodwill, the welcome, suspected costs."""

import hashlib

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet

from accounts.ledger import transfers, wallets
from accounts.ledger.holds import Promise, capture, hold
from accounts.ledger.limits import PREVIEW_BUDGET, SIGNUP_BUDGET, Limit
from accounts.models import Cap, Hold, Transfer, User, Wallet


def grant(user: User, micros: int, *, business_id: str, memo: str, actor: User | None = None) -> bool:
    """Gives credits out of goodwill. False where this business id has happened."""
    if micros <= 0:
        raise ValueError("A grant must be more than 0 micro-dollars.")
    source = wallets.house(Wallet.House.GOODWILL)
    return transfers.move(
        business_id,
        Transfer.Kind.GRANT,
        debit=source,
        credit=wallets.wallet_of(user),
        micros=micros,
        memo=memo,
        actor=actor,
    )


def grant_signup(user: User) -> bool:
    """The welcome credits: once per person, within the house's daily budget, which raises CapReached.

    Neither an account that comes back under a canonical address nor one that changes its address gets them twice.
    """
    micros = settings.SIGNUP_GRANT_MICROS
    business_id = "signup:" + hashlib.sha256(user.canonical_email.encode()).hexdigest()[:40]
    wallet, promo = wallets.wallet_of(user), wallets.house(Wallet.House.PROMO)
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


def book_suspected_cost(micros: int, *, business_id: str, memo: str, is_preview: bool = False) -> bool:
    """Books what an upstream may have charged for a job whose outcome nobody knows. False where that is nothing.

    That of a preview counts against the day's preview budget, or failures could cost the house more than it set.
    """
    wallets.check([micros])
    if not micros:
        return False
    upstream = wallets.house(Wallet.House.UPSTREAM)
    if not is_preview:
        kind = Transfer.Kind.SUSPECTED_COST
        source = wallets.house(Wallet.House.SUSPENSE)
        return transfers.move(business_id, kind, debit=source, credit=upstream, micros=micros, memo=memo)
    counted = Limit(PREVIEW_BUDGET, Cap.Window.DAY, None, micros)
    [held] = hold(wallets.house(Wallet.House.SUSPENSE), [Promise(business_id, micros, memo)], [counted])
    return capture(held.pk, to=upstream, kind=Transfer.Kind.SUSPECTED_COST)
