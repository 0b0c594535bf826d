"""Counts what was made and paid, by account, UTC day, variant and API key, in the transaction that makes it so.

One statement that adds, whoever else adds at the same moment. Its row belongs to one account and is locked before the
caps' and the wallet's, always in this order. The audit counts everything afresh and compares.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from django.db import connection

from accounts.audit import Problem, problem

_ADD = """
    INSERT INTO playground_usageday AS d
           (user_id, day, variant_id, by_key, pictures, pictures_micros, previews, kept, kept_micros,
            cost_micros, preview_cost_micros)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (user_id, day, variant_id, by_key) DO UPDATE SET
           pictures = d.pictures + excluded.pictures, pictures_micros = d.pictures_micros + excluded.pictures_micros,
           previews = d.previews + excluded.previews,
           kept = d.kept + excluded.kept, kept_micros = d.kept_micros + excluded.kept_micros,
           cost_micros = d.cost_micros + excluded.cost_micros,
           preview_cost_micros = d.preview_cost_micros + excluded.preview_cost_micros
"""
# From the ledger where money moved; from the job where a preview arrived, which costs its owner nothing, and what the
# upstream took: as it said itself, or else as it was listed.
_AFRESH = """
    SELECT user_id, day, variant_id, by_key, SUM(pictures) AS pictures, SUM(pictures_micros) AS pictures_micros,
           SUM(previews) AS previews, SUM(kept) AS kept, SUM(kept_micros) AS kept_micros,
           SUM(cost_micros) AS cost_micros, SUM(preview_cost_micros) AS preview_cost_micros
      FROM (
        SELECT j.user_id, {of_transfer} AS day, j.variant_id, COALESCE(j.key_id, 0) AS by_key, 1 AS pictures, t.amount AS pictures_micros,
               0 AS previews, 0 AS kept, 0 AS kept_micros,
               COALESCE(j.reported_cost_micros, j.cost_micros) AS cost_micros, 0 AS preview_cost_micros
          FROM accounts_transfer t JOIN playground_job j ON j.hold_id = t.hold_id
         WHERE t.kind = 'charge' AND j.state = 'succeeded'
        UNION ALL
        SELECT j.user_id, {of_job}, j.variant_id, COALESCE(j.key_id, 0), 0, 0, 1, 0, 0, 0,
               COALESCE(j.reported_cost_micros, j.cost_micros)
          FROM playground_job j WHERE j.state = 'succeeded' AND j.is_preview AND NOT j.is_test
        UNION ALL
        SELECT p.user_id, {of_transfer}, p.variant_id, 0, 0, 0, 0, 1, t.amount, 0, 0
          FROM accounts_transfer t JOIN playground_picture p ON t.business_id = {keep_id} WHERE t.kind = 'keep'
      ) AS made GROUP BY user_id, day, variant_id, by_key
"""
_COLUMNS = "pictures, pictures_micros, previews, kept, kept_micros, cost_micros, preview_cost_micros"
# SQLite keeps times as text in UTC and ids as 32 digits.
_DIALECT = {
    "sqlite": {
        "of_transfer": "date(t.created)",
        "of_job": "date(j.finished)",
        "keep_id": "'keep:' || substr(p.id, 1, 8) || '-' || substr(p.id, 9, 4) || '-' || substr(p.id, 13, 4)"
        " || '-' || substr(p.id, 17, 4) || '-' || substr(p.id, 21)",
    },
    "postgresql": {
        "of_transfer": "(t.created AT TIME ZONE 'UTC')::date",
        "of_job": "(j.finished AT TIME ZONE 'UTC')::date",
        "keep_id": "'keep:' || p.id",
    },
}


def count_picture(
    *, user_id: int, variant_id: int, at: datetime, micros: int, cost: int = 0, key_id: int | None = None
) -> None:
    """A picture arrived and was paid. `key_id`: the API key that ordered it. `cost`: what the upstream takes for it."""
    _add(user_id, at, variant_id, key_id or 0, 1, micros, 0, 0, 0, cost, 0)


def count_preview(*, user_id: int, variant_id: int, at: datetime, cost: int = 0) -> None:
    """A free preview arrived."""
    _add(user_id, at, variant_id, 0, 0, 0, 1, 0, 0, 0, cost)


def count_kept(*, user_id: int, variant_id: int, at: datetime, micros: int) -> None:
    """A preview was paid and unlocked."""
    _add(user_id, at, variant_id, 0, 0, 0, 0, 1, micros, 0, 0)


def _add(user_id: int, at: datetime, variant_id: int, key_id: int, *counts: int) -> None:
    day = connection.ops.adapt_datefield_value(at.astimezone(UTC).date())
    with connection.cursor() as cursor:
        cursor.execute(_ADD, [user_id, day, variant_id, key_id, *counts])


def afresh(vendor: str) -> str:
    """The query that counts everything from the ledger and the jobs."""
    return _AFRESH.format(**_DIALECT[vendor])


def audit() -> Iterator[Problem]:
    """Every day of an account, variant and key whose counts are not those of the ledger and the jobs."""
    real, kept = (
        f"SELECT user_id, day, variant_id, by_key, {_COLUMNS}",
        f"({afresh(connection.vendor)}) AS afresh",
    )
    missing = f"{real} FROM {kept} EXCEPT {real} FROM playground_usageday"
    wrong = f"{real} FROM playground_usageday EXCEPT {real} FROM {kept}"
    with connection.cursor() as cursor:
        for query, is_expected in ((missing, True), (wrong, False)):
            cursor.execute(query)
            for user_id, day, variant_id, key_id, *counts in cursor.fetchall():
                found = ", ".join(f"{int(count)}" for count in counts)
                subject = f"user {user_id}, {day}, variant {variant_id}, key {key_id} ({_COLUMNS})"
                expected = (found, "not counted so") if is_expected else ("counted from the ledger", found)
                yield problem("usage of a day = its ledger", subject, *expected)
