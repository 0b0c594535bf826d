"""Whether the usage page costs the same at a million rows as at a thousand, and whether its files are exact.

    uv run python -m tests.benchmarks.usage [--rows 1000000] [--database postgres]

Two accounts in one database, one with a thousand ended jobs and one with a million (or as many as are asked for), in
the same 60 days: paid, previews, previews that were kept, failed, cancelled, refunded; of twelve variants, by the pages
and three API keys. They are written by SQL, with holds, transfers and balances, so that the audit finds nothing.

Each page is timed for both in turn, in one process: what counts is the ratio. The median of some tries, beside the number
of queries. Each filter has an index of its own and must cost the same at any size; several together walk along one of
those, past what the others leave out, so that they may cost more, but never more than a second. Then all rows of the large account as CSV and as JSON: how many, what they add up to against the ledger, rows
a second, and how much memory the process took for them. On SQLite and on PostgreSQL, with the product's own settings.
"""

import argparse
import csv
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import django
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "playground.settings")
django.setup()

from django.db.models import F, Sum  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts import ledger  # noqa: E402
from accounts.models import ApiKey, Transfer, User, Wallet  # noqa: E402
from playground import jobs, orders, startup, tally, upkeep, urls  # noqa: E402, F401 - imported once, before the forks
from playground.ids import new_id  # noqa: E402
from playground.models import Job, Picture, UsageDay, Variant  # noqa: E402
from tests import racing  # noqa: E402
from tests.making import give, job_for, leased, load_catalogue, picture_for  # noqa: E402
from tests.racing import Track, track_on  # noqa: E402

racing.PATIENCE_S = 1800
POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
HOST = "localhost"
FEW, MANY = 1000, 1_000_000
TRIES = 9
SPAN = timedelta(days=60)
MOST_RATIO = 2.0
MOST_TOGETHER_MS = 1000
VARIANTS = 12
# What the i-th of ten jobs is.
_KINDS = "CASE WHEN i % 10 = 0 THEN 'failed' WHEN i % 10 = 1 THEN 'cancelled' WHEN i % 10 IN (2, 3) THEN 'preview' ELSE 'paid' END"
_DIALECT = {
    "sqlite": {
        "uuid": "printf('%s%020x', '{prefix}', i)",
        "at": "strftime('%Y-%m-%d %H:%M:%S', {since} + {step} * i, 'unixepoch') || printf('.%06d', 1 + i % 999983)",
        "dashed": "substr({0}, 1, 8) || '-' || substr({0}, 9, 4) || '-' || substr({0}, 13, 4) || '-' || substr({0}, 17, 4) || '-' || substr({0}, 21)",
        "null": "NULL",
    },
    "postgresql": {
        "uuid": "('{prefix}' || lpad(to_hex(i), 20, '0'))::uuid",
        "at": "date_trunc('second', to_timestamp({since} + {step} * i)) + make_interval(secs => (1 + i % 999983) / 1000000.0)",
        "dashed": "{0}::text",
        "null": "NULL::bigint",
    },
}


# --- Rows by the million ------------------------------------------------------------------------------
@dataclass
class Templates:
    """One row of each kind, made by the product itself, whose columns the others copy where they do not differ."""

    paid: Job
    failed: Job
    cancelled: Job
    preview: Job
    picture: Picture


def templates(user: User) -> Templates:
    give(user)
    paid = picture_for(user)
    preview = picture_for(user, pay="preview")
    failed = leased(job_for(user))
    jobs.fail(failed, "moderated")
    cancelled = job_for(user)
    jobs.cancel(cancelled, by=user)
    return Templates(paid.job, failed, cancelled, preview.job, paid)


@dataclass
class Filling:
    """`count` rows of `user`, evenly from `since` on. Numbers and ids of two fillings do not meet."""

    user: User
    count: int
    since: datetime
    span: timedelta
    keys: list[ApiKey]

    def __post_init__(self) -> None:
        self.say = _DIALECT[connection.vendor]
        self.prefix = new_id().hex[:12]
        self.hold = _next("accounts_hold")
        self.variants = list(Variant.objects.order_by("pk").values_list("pk", flat=True)[:VARIANTS])
        step = self.span.total_seconds() / self.count
        self.at = self.say["at"].format(since=int(self.since.timestamp()), step=f"{step:.6f}")
        self.uuid = self.say["uuid"].format(prefix=self.prefix)
        self.price = "(5000 + 1000 * (i % 12))"
        self.business = "'job:' || " + self.say["dashed"].format(f"({self.uuid})")

    def write(self, made: Templates) -> None:
        house = {name: ledger.house(name).pk for name in Wallet.House}
        wallet = ledger.wallet_of(self.user)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(self._numbers())
            self._holds(cursor, wallet.pk, house[Wallet.House.PREVIEW])
            for kind in ("paid", "failed", "cancelled", "preview"):
                self._jobs(cursor, getattr(made, kind), kind)
                if kind in ("paid", "preview"):
                    self._pictures(cursor, made.picture, kind)
            spent = self._charges(cursor, wallet, house[Wallet.House.REVENUE])
            cursor.execute("DROP TABLE bench_n")
            _go_on_after(cursor, "accounts_hold", "accounts_transfer")
            Wallet.objects.filter(pk=wallet.pk).update(posted=F("posted") - spent)
            Wallet.objects.filter(name=Wallet.House.REVENUE).update(posted=F("posted") + spent)

    def _numbers(self) -> str:
        return f"""CREATE TEMPORARY TABLE bench_n AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {self.count})
            SELECT i, {_KINDS} AS kind FROM n"""

    def _holds(self, cursor: Any, wallet: int, preview: int) -> None:
        """A preview's hold is for nothing here: what it costs upstream is no row of this page."""
        cursor.execute(
            f"""INSERT INTO accounts_hold (id, wallet_id, business_id, memo, amount, captured, refunded, state, created, closed)
            SELECT {self.hold} + i, CASE kind WHEN 'preview' THEN {preview} ELSE {wallet} END, {self.business}, 'Picture',
                   CASE kind WHEN 'preview' THEN 0 ELSE {self.price} END, CASE kind WHEN 'paid' THEN {self.price} ELSE 0 END, 0,
                   CASE WHEN kind IN ('paid', 'preview') THEN 'captured' ELSE 'released' END, {self.at}, {self.at} FROM bench_n"""
        )

    def _jobs(self, cursor: Any, like: Job, kind: str) -> None:
        variants = "CASE i % 12 " + " ".join(
            f"WHEN {n} THEN {pk}" for n, pk in enumerate(self.variants)
        ) + f" ELSE {self.variants[0]} END"  # fmt: skip
        keys = self.say["null"]
        if self.keys and kind != "preview":
            keys = "CASE i % 8 " + " ".join(f"WHEN {n} THEN {k.pk}" for n, k in enumerate(self.keys)) + " END"
        self._copies(
            cursor,
            like,
            kind,
            id=self.uuid,
            hold_id=f"{self.hold} + i",
            variant_id=variants,
            price_micros=self.price,
            key_id=keys,
            upstream_id=f"'{self.prefix}' || i",
            callback_token=f"'{self.prefix}' || i",
            retry_of_id="NULL" if connection.vendor == "sqlite" else "NULL::uuid",
            created=self.at,
            finished=self.at,
        )

    def _pictures(self, cursor: Any, like: Picture, kind: str) -> None:
        variants = f"(SELECT variant_id FROM playground_job j WHERE j.id = {self.uuid})"
        locked = "TRUE" if kind == "preview" else "FALSE"
        self._copies(cursor, like, kind, id=self.uuid, job_id=self.uuid, user_id=str(self.user.pk), variant_id=variants,
                     is_locked=locked, created=self.at)  # fmt: skip

    def _copies(self, cursor: Any, like: Any, kind: str, **changed: str) -> None:
        table = like._meta.db_table
        columns = [field.column for field in like._meta.concrete_fields]
        values = ", ".join(changed.get(column, f'like_it."{column}"') for column in columns)
        names = ", ".join(f'"{column}"' for column in columns)
        pk = like.pk.hex
        # No parameters: with some, Django would read the % of the dialect as a place for one.
        cursor.execute(
            f"INSERT INTO {table} ({names}) SELECT {values} FROM bench_n, {table} AS like_it WHERE like_it.id = '{pk}' AND kind = '{kind}'"
        )

    def _charges(self, cursor: Any, wallet: Wallet, revenue: int) -> int:
        wallet.refresh_from_db()
        first = _next("accounts_transfer")
        cursor.execute(
            f"""INSERT INTO accounts_transfer (id, business_id, kind, debit_id, credit_id, amount, user_balance, hold_id, memo, created)
            SELECT {first} + i, {self.business}, 'charge', {wallet.pk}, {revenue}, {self.price},
                   {wallet.posted} - SUM({self.price}) OVER (ORDER BY i), {self.hold} + i, 'Picture', {self.at}
              FROM bench_n WHERE kind = 'paid'"""
        )
        cursor.execute(f"SELECT COALESCE(SUM({self.price}), 0) FROM bench_n WHERE kind = 'paid'")
        return int(cursor.fetchone()[0])


def _next(table: str) -> int:
    """A number that all of the table's are below."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT COALESCE(MAX(id), 0) FROM {table}")
        return int(cursor.fetchone()[0]) + 1000


def _go_on_after(cursor: Any, *tables: str) -> None:
    """PostgreSQL gives the next row the next number of its own, whatever numbers were written."""
    if connection.vendor == "postgresql":
        for table in tables:
            cursor.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT MAX(id) FROM {table}))"
            )


def count_afresh() -> None:
    """The days, after rows that nobody counted."""
    with transaction.atomic(), connection.cursor() as cursor:
        UsageDay.objects.all().delete()
        columns = f"user_id, day, variant_id, by_key, {tally._COLUMNS}"
        cursor.execute(
            f"INSERT INTO playground_usageday ({columns}) SELECT {columns} FROM ({tally.afresh(connection.vendor)}) AS afresh"
        )


# --- What is measured ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class Cost:
    milliseconds: float
    queries: int


@dataclass(frozen=True)
class File:
    rows: int
    charged: int
    different: int
    seconds: float
    megabytes: float
    grown_mb: float


def prepare(rows: int) -> float:
    """Both accounts; returns how many seconds that took."""
    load_catalogue()
    startup.collect_static()
    began = time.perf_counter()
    since = timezone.now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - SPAN
    for address, count in (("few@example.org", FEW), ("many@example.org", rows)):
        user = User.objects.create_user(address)
        ledger.grant(user, 10**12, business_id=f"grant:{user.pk}", memo="For the benchmark")
        made = templates(user)
        keys = [ApiKey.objects.create(user=user, name=f"Key {n}", digest=f"{user.pk}-{n}") for n in range(3)]
        Filling(user, count, since, SPAN, keys).write(made)
        for picture in Picture.objects.filter(user=user, is_locked=True)[:20]:
            orders.keep(picture)
    count_afresh()
    if connection.vendor == "postgresql":  # which does it by itself, but not at once; SQLite never does
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")
    return time.perf_counter() - began


def client_of(address: str) -> Client:
    client = Client(SERVER_NAME=HOST)
    client.force_login(User.objects.get(email=address))
    return client


def addresses(address: str) -> dict[str, str]:
    """What is asked for, in words and as a query: the first page, a deep one, and each filter alone and together."""
    user = User.objects.get(email=address)
    jobs = Job.objects.filter(user=user)
    variant, key = jobs.order_by("-finished").first().variant, ApiKey.objects.filter(user=user).latest("pk")  # type: ignore[union-attr]
    deep = jobs.order_by("finished").values_list("finished", "pk")[50]
    whole = f"period=custom&from={timezone.now() - timedelta(days=90):%Y-%m-%d}"
    before = f"before={deep[0].astimezone(UTC).replace(tzinfo=None).isoformat()}_{deep[1]}"
    return {
        "30 days": "period=30d",
        "90 days": whole,
        "last page": f"{whole}&{before}",
        "a variant": f"{whole}&variant={variant.slug}",
        "a key": f"{whole}&key={key.pk}",
        "the pages": f"{whole}&key=pages",
        "failed": f"{whole}&status=failed",
        "kept": f"{whole}&status=kept",
        "none: test": f"{whole}&status=test",
        "none: refunded": f"{whole}&status=refunded",
        "together: variant, key, failed": f"{whole}&variant={variant.slug}&key={key.pk}&status=failed",
        "together: variant, test": f"{whole}&variant={variant.slug}&status=test",
    }


def pages() -> dict[str, tuple[Cost, Cost]]:
    """Of the small and of the large account, in turn."""
    accounts = [(client_of(who), addresses(who)) for who in ("few@example.org", "many@example.org")]
    found = {}
    for name in accounts[0][1]:
        took: tuple[list[Cost], list[Cost]] = ([], [])
        for _ in range(TRIES):
            for costs, (client, asked) in zip(took, accounts, strict=True):
                costs.append(_timed(client, asked[name]))
        found[name] = (_median(took[0]), _median(took[1]))
    return found


def _timed(client: Client, query: str) -> Cost:
    with CaptureQueriesContext(connection) as queries:
        began = time.perf_counter()
        assert client.get(f"/usage/?{query}").status_code == 200
        took = time.perf_counter() - began
    return Cost(took * 1000, len(queries))


def _median(costs: list[Cost]) -> Cost:
    return Cost(statistics.median(cost.milliseconds for cost in costs), costs[-1].queries)


def export(form: str) -> File:
    """All the rows of the large account, read as they come, against the ledger."""
    client = client_of("many@example.org")
    lines = client.get(f"/usage/{form}/?period=custom&from=2000-01-01").streaming_content  # type: ignore[attr-defined]
    sizes: list[int] = []
    base, began = _peak_mb(), time.perf_counter()
    rows, charged, seen, last = 0, 0, 0, None
    for row in _read(form, _counted(lines, sizes)):
        rows += 1
        charged += int(row["charged_micro_usd"])
        this = (row["time_utc"], row["job"], row["status"])
        seen += this != last
        last = this
    took = time.perf_counter() - began
    return File(rows, charged, seen, took, sum(sizes) / 1e6, _peak_mb() - base)


def _counted(lines: Iterator[bytes], sizes: list[int]) -> Iterator[str]:
    for line in lines:
        sizes.append(len(line))
        yield line.decode()


def _read(form: str, lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """A row at a time, also of the JSON, which comes as one row a line."""
    if form == "csv":
        yield from csv.DictReader(lines)
        return
    for line in lines:
        text = line.strip().lstrip(",").strip()
        if text.startswith("{") and text.endswith("}"):
            yield json.loads(text)


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def truth() -> dict[str, Any]:
    user = User.objects.get(email="many@example.org")
    own = Job.objects.filter(user=user)
    charged = Transfer.objects.filter(debit=user.wallet).aggregate(of=Sum("amount"))["of"]
    kept = Picture.objects.filter(user=user, kept__isnull=False).count()
    return {
        "rows": own.count() + kept,
        "charged": int(charged),
        "problems": upkeep.audit(with_files=False),
    }


# --- The verdict --------------------------------------------------------------------------------------
def run(track: Track, name: str, rows: int) -> bool:
    """Prints what was found; True where it is as it must be."""
    track.clear()
    print(
        f"{name}: {FEW:,} and {rows:,} ended jobs, written in {track.alone(prepare, rows):.0f} s", flush=True
    )
    is_sound = True
    for what, (few, many) in track.alone(pages).items():
        ratio = many.milliseconds / few.milliseconds
        is_flat = ratio < MOST_RATIO and many.queries <= few.queries + 1  # for one more kind of row
        is_sound &= is_flat or (what.startswith("together") and many.milliseconds < MOST_TOGETHER_MS)
        print(f"  {what:30} {few.milliseconds:7.1f} ms, {few.queries:2} queries | {many.milliseconds:7.1f} ms, {many.queries:2} queries"
              f" | x {ratio:.2f}{'' if is_flat else '  not flat'}", flush=True)  # fmt: skip
    real = track.alone(truth)
    print(
        f"  the ledger: {real['rows']:,} rows, {real['charged']:,} micro-dollars; audit: {len(real['problems'])} problems {real['problems'][:2] or ''}"
    )
    is_sound &= not real["problems"]
    for form in ("csv", "json"):
        file = track.alone(export, form)
        is_exact = (file.rows, file.charged, file.different) == (real["rows"], real["charged"], real["rows"])
        is_sound &= is_exact
        print(f"  {form}: {file.rows:,} rows, {file.charged:,} micro-dollars, {'exact' if is_exact else 'WRONG'};"
              f" {file.rows / file.seconds:,.0f} rows/s, {file.megabytes:.0f} MB sent, memory grew by {file.grown_mb:.0f} MB", flush=True)  # fmt: skip
    return is_sound


def main(asked: argparse.Namespace) -> bool:
    is_sound = True
    for vendor in ("sqlite", "postgres") if asked.database == "both" else (asked.database,):
        with (
            tempfile.TemporaryDirectory() as folder,
            track_on(vendor, Path(folder), postgres=asked.postgres) as track,
        ):
            is_sound &= run(track, vendor, asked.rows)
    print("Flat and exact." if is_sound else "NOT flat or NOT exact.")
    return is_sound


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=MANY, help="of the large account")
    parser.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--postgres", default=POSTGRES, help="the address of a server")
    return parser.parse_args()


if __name__ == "__main__":
    module = importlib.import_module("tests.benchmarks.usage")  # runners must find its functions by this name
    sys.exit(0 if module.main(options()) else 1)
