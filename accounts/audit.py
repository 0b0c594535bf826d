"""The ledger's invariants, each one query. Reads only; money that does not add up is named, never mended here."""

from collections.abc import Iterator

from django.db import connection
from django.db.models import BigIntegerField, Count, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import Coalesce

from accounts.models import CapUse, CapWindow, Hold, Transfer, Wallet

Problem = dict[str, object]


def audit() -> list[Problem]:
    """Every broken invariant of the ledger: `invariant`, `subject`, `expected`, `found`. Empty means sound."""
    return [
        *_wallets_match_transfers(),
        *_held_matches_holds(),
        *_people_are_not_below_zero(),
        *_sum_is_zero(),
        *_windows_match_uses(),
        *_captures_match_transfers(),
        *_statements_add_up(),
    ]


def _total(rows: QuerySet, column: str, value: str) -> Coalesce:
    """The sum of `value` over the rows whose `column` is the outer row."""
    summed = (
        rows.filter(**{column: OuterRef("pk")})
        .order_by()
        .values(column)
        .annotate(total=Sum(value))
        .values("total")
    )
    return Coalesce(Subquery(summed), 0, output_field=BigIntegerField())


def _wallets_match_transfers() -> Iterator[Problem]:
    moved = _total(Transfer.objects.all(), "credit", "amount") - _total(
        Transfer.objects.all(), "debit", "amount"
    )
    for wallet in Wallet.objects.annotate(moved=moved).exclude(posted=F("moved")):
        yield problem("wallet = sum of its transfers", wallet.name, wallet.moved, wallet.posted)


def _held_matches_holds() -> Iterator[Problem]:
    opened = _total(Hold.objects.filter(state=Hold.State.OPEN), "wallet", "amount")
    for wallet in Wallet.objects.annotate(opened=opened).exclude(held=F("opened")):
        yield problem("held = sum of open holds", wallet.name, wallet.opened, wallet.held)


def _people_are_not_below_zero() -> Iterator[Problem]:
    for wallet in Wallet.objects.filter(user__isnull=False).filter(Q(posted__lt=F("held")) | Q(held__lt=0)):
        yield problem("posted - held >= 0", wallet.name, ">= 0", wallet.available)


def _sum_is_zero() -> Iterator[Problem]:
    total = Wallet.objects.aggregate(total=Sum("posted"))["total"] or 0
    if total:
        yield problem("sum over all wallets = 0", "all wallets", 0, total)


def _windows_match_uses() -> Iterator[Problem]:
    reserved = _total(CapUse.objects.filter(hold__state=Hold.State.OPEN), "window", "reserved")
    spent = _total(CapUse.objects.filter(hold__state=Hold.State.CAPTURED), "window", "spent")
    windows = CapWindow.objects.annotate(was_reserved=reserved, was_spent=spent)
    for window in windows.exclude(reserved=F("was_reserved"), spent=F("was_spent")):
        expected = {"reserved": window.was_reserved, "spent": window.was_spent}
        found = {"reserved": window.reserved, "spent": window.spent}
        yield problem("cap window = its holds and captures", str(window), expected, found)


def _captures_match_transfers() -> Iterator[Problem]:
    """A captured hold moved what it captured, in one transfer out of its own wallet; no other hold moved anything."""
    moved = Coalesce(Sum("transfers__amount", filter=Q(transfers__debit=F("wallet"))), 0)
    holds = Hold.objects.annotate(moved=moved, times=Count("transfers"))
    wrong = holds.exclude(moved=F("captured"), times=0, captured=0).exclude(moved=F("captured"), times=1)
    for held in wrong:
        found = {"captured": held.captured, "moved": held.moved, "transfers": held.times}
        yield problem("capture = one transfer", held.business_id, "one transfer of what was captured", found)


_RUNNING_BALANCE = """
    SELECT business_id, user_balance, running FROM (
        SELECT business_id, user_balance, SUM(change) OVER (PARTITION BY wallet ORDER BY id) AS running FROM (
            SELECT t.id, t.business_id, t.user_balance, t.credit_id AS wallet, t.amount AS change
              FROM accounts_transfer t JOIN accounts_wallet w ON w.id = t.credit_id WHERE w.user_id IS NOT NULL
            UNION ALL
            SELECT t.id, t.business_id, t.user_balance, t.debit_id AS wallet, -t.amount AS change
              FROM accounts_transfer t JOIN accounts_wallet w ON w.id = t.debit_id WHERE w.user_id IS NOT NULL
        ) AS moves
    ) AS balances WHERE user_balance IS NULL OR user_balance <> running
"""


def _statements_add_up() -> Iterator[Problem]:
    with connection.cursor() as cursor:
        cursor.execute(_RUNNING_BALANCE)
        for business_id, found, running in cursor.fetchall():
            yield problem("balance after each statement line", business_id, int(running), found)


def problem(invariant: str, subject: str, expected: object, found: object) -> Problem:
    return {"invariant": invariant, "subject": subject, "expected": expected, "found": found}
