"""The ledger's invariants, each one query. Reads only; money that does not add up is named, never mended here."""

from decimal import Decimal

from django.db import connection

Problem = dict[str, object]

# Each names the rows that break it: subject, what was expected, what was found. Running sums come from the transfers
# and holds alone, in one pass over them, so that this stays possible with millions of rows.
INVARIANTS = {
    "wallet = sum of its transfers": """
        SELECT name, COALESCE(moved, 0), posted FROM accounts_wallet w LEFT JOIN (
            SELECT wallet, SUM(change) AS moved FROM (
                SELECT credit_id AS wallet, amount AS change FROM accounts_transfer
                UNION ALL SELECT debit_id, -amount FROM accounts_transfer
            ) AS sides GROUP BY wallet
        ) AS moves ON moves.wallet = w.id WHERE posted <> COALESCE(moved, 0)
    """,
    "held = sum of open holds": """
        SELECT name, COALESCE(opened, 0), held FROM accounts_wallet w LEFT JOIN (
            SELECT wallet_id, SUM(amount) AS opened FROM accounts_hold WHERE state = 'open' GROUP BY wallet_id
        ) AS holds ON holds.wallet_id = w.id WHERE held <> COALESCE(opened, 0)
    """,
    "posted - held >= 0": """
        SELECT name, 0, posted - held FROM accounts_wallet
         WHERE held < 0 OR (user_id IS NOT NULL AND posted < held)
    """,
    "sum over all wallets = 0": """
        SELECT 'all wallets', 0, SUM(posted) FROM accounts_wallet HAVING SUM(posted) <> 0
    """,
    "cap window = its holds and captures": """
        SELECT subject || ' ' || w."window" || ' ' || CAST(starts AS TEXT),
               'reserved ' || COALESCE(was_reserved, 0) || ', spent ' || COALESCE(was_spent, 0),
               'reserved ' || reserved || ', spent ' || spent
          FROM accounts_capwindow w LEFT JOIN (
            SELECT window_id, SUM(CASE state WHEN 'open' THEN reserved ELSE 0 END) AS was_reserved,
                   SUM(CASE state WHEN 'captured' THEN spent ELSE 0 END) AS was_spent
              FROM accounts_capuse u JOIN accounts_hold h ON h.id = u.hold_id GROUP BY window_id
        ) AS uses ON uses.window_id = w.id
         WHERE reserved <> COALESCE(was_reserved, 0) OR spent <> COALESCE(was_spent, 0)
    """,
    # A captured hold moved what it captured, in one transfer out of its own wallet; no other hold moved anything. What
    # was given back of it afterwards is the next invariant's.
    "capture = one transfer": """
        SELECT business_id, captured, moved FROM (
            SELECT h.business_id, h.captured, COUNT(t.id) AS times,
                   COALESCE(SUM(CASE WHEN t.debit_id = h.wallet_id THEN t.amount ELSE 0 END), 0) AS moved
              FROM accounts_hold h LEFT JOIN accounts_transfer t
                ON t.hold_id = h.id AND t.kind <> 'refund'
             GROUP BY h.id, h.business_id, h.captured
        ) AS captures WHERE moved <> captured OR times <> CASE captured WHEN 0 THEN 0 ELSE 1 END
    """,
    "refunded = its refunds": """
        SELECT h.business_id, COALESCE(given, 0), h.refunded FROM accounts_hold h LEFT JOIN (
            SELECT t.hold_id, t.credit_id, SUM(t.amount) AS given FROM accounts_transfer t
             WHERE t.kind = 'refund' GROUP BY t.hold_id, t.credit_id
        ) AS refunds ON refunds.hold_id = h.id AND refunds.credit_id = h.wallet_id
         WHERE h.refunded <> COALESCE(given, 0) OR h.refunded > h.captured
        UNION ALL
        SELECT t.business_id, t.amount, 0 FROM accounts_transfer t LEFT JOIN accounts_hold h ON h.id = t.hold_id
         WHERE t.kind = 'refund' AND (h.id IS NULL OR h.wallet_id <> t.credit_id)
    """,
    "balance after each statement line": """
        SELECT business_id, running, user_balance FROM (
            SELECT business_id, user_balance, SUM(change) OVER (PARTITION BY wallet ORDER BY id) AS running FROM (
                SELECT t.id, t.business_id, t.user_balance, t.credit_id AS wallet, t.amount AS change
                  FROM accounts_transfer t JOIN accounts_wallet w ON w.id = t.credit_id WHERE w.user_id IS NOT NULL
                UNION ALL
                SELECT t.id, t.business_id, t.user_balance, t.debit_id AS wallet, -t.amount AS change
                  FROM accounts_transfer t JOIN accounts_wallet w ON w.id = t.debit_id WHERE w.user_id IS NOT NULL
            ) AS moves
        ) AS balances WHERE user_balance IS NULL OR user_balance <> running
    """,
    "paid top-up <=> one purchase of its micros": """
        SELECT subject, SUM(due), SUM(booked) FROM (
            SELECT 'purchase:' || REPLACE(CAST(id AS TEXT), '-', '') || ' of user ' || CAST(user_id AS TEXT) AS subject,
                   micros AS due, 0 AS booked
              FROM accounts_topup WHERE state = 'paid'
            UNION ALL
            SELECT t.business_id || ' of user ' || CAST(w.user_id AS TEXT), 0, t.amount
              FROM accounts_transfer t JOIN accounts_wallet w ON w.id = t.credit_id WHERE t.kind = 'purchase'
        ) AS sides GROUP BY subject HAVING SUM(due) <> SUM(booked)
    """,
    # What went back, by which of the two ways, against what the person and the house gave for it.
    "gone back of a top-up = its transfers": """
        SELECT subject, SUM(due), SUM(booked) FROM (
            SELECT 'payback:' || REPLACE(CAST(id AS TEXT), '-', '') AS subject,
                   micros * paid_back_cents / cents AS due, 0 AS booked
              FROM accounts_topup WHERE paid_back_cents > 0
            UNION ALL
            SELECT 'dispute:' || REPLACE(CAST(id AS TEXT), '-', ''), micros * disputed_cents / cents, 0
              FROM accounts_topup WHERE disputed_cents > 0
            UNION ALL
            SELECT SUBSTR(business_id, 1, 40), 0,
                   CASE WHEN kind IN ('dispute_won', 'payback_failed') THEN -amount ELSE amount END
              FROM accounts_transfer WHERE kind IN ('payback', 'payback_failed', 'dispute', 'dispute_won', 'loss')
        ) AS sides GROUP BY subject HAVING SUM(due) <> SUM(booked)
    """,
    "gone back <= paid": """
        SELECT REPLACE(CAST(id AS TEXT), '-', ''), cents, paid_back_cents + disputed_cents
          FROM accounts_topup WHERE paid_back_cents + disputed_cents > cents
            OR (state <> 'paid' AND paid_back_cents + disputed_cents > 0)
    """,
}


def audit() -> list[Problem]:
    """Every broken invariant of the ledger: `invariant`, `subject`, `expected`, `found`. Empty means sound."""
    return [found for invariant in INVARIANTS for found in broken(invariant)]


def broken(invariant: str) -> list[Problem]:
    """What breaks one of them."""
    with connection.cursor() as cursor:
        cursor.execute(INVARIANTS[invariant])
        return [problem(invariant, *row) for row in cursor.fetchall()]


def problem(invariant: str, subject: str, expected: object, found: object) -> Problem:
    """One finding, in the words that `manage.py audit` prints."""
    return {
        "invariant": invariant,
        "subject": subject,
        "expected": _plain(expected),
        "found": _plain(found),
    }


def _plain(value: object) -> object:
    """PostgreSQL's sums of BIGINTs are decimals, which JSON does not know."""
    return int(value) if isinstance(value, Decimal) else value
