"""Whether a cap can be crossed: 50 processes x 40 requests against one account and one cap.

    uv run python -m tests.benchmarks.caps [processes] [requests] [address of a PostgreSQL server]

Each request is a real one (`POST /runs/` through the whole stack, paid, of a random variant and number). Between
them every process cancels its own jobs over HTTP, and takes jobs as the engine does and lets them succeed or fail, so
that room comes back while others ask for it. On SQLite and PostgreSQL, with the product's own settings.

What is proved, and how. A trigger writes down every state of the cap's row, in the order in which the row's lock put
them, so nothing in between goes unseen.

1. Never over: in no state is spent + reserved more than the cap, and what was charged in the end is what is spent.
2. No refusal while there is room. "Room" needs a moment: a state is in force from its commit to the next one's, and a
   refusal is right if, somewhere between its request's start and its answer, a state was (or may have been) in force
   that left less than this request's own price. Other requests' holds count as used until they are cancelled, fail or
   are rolled back, which is what a hold is. This is stricter than "for the cheapest job": it holds for every price.
   Once the race is over, one process alone buys the cheapest picture until it is refused: what is left then must be
   less than the cheapest picture costs, to the micro-dollar.
3. No answer of 500 or more, and the audit finds nothing.

SQLite has one writer at a time, and the product waits 20 seconds for its turn: plenty for the handful of processes of
its own server, not always for 50 that write without a pause on two cores. Here they wait for up to five minutes.

The control run is the same race with a naive cap: it looks before the transaction whether there is room, and then
holds without a condition. It must overspend, or this race proves nothing. It needs a quarter of the requests for it.
"""

import importlib
import logging
import os
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import django
from django.db import connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "playground.settings")
django.setup()

from django.test import Client  # noqa: E402

from accounts import credits, ledger  # noqa: E402
from accounts.models import Cap, CapWindow, Transfer, User  # noqa: E402
from playground import catalog, images, jobs, orders, startup, upkeep, urls  # noqa: E402, F401 - imported once, before the forks
from playground.ids import new_id  # noqa: E402
from playground.models import Job  # noqa: E402
from tests import racing  # noqa: E402
from tests.making import FLEX_2K, PRO, load_catalogue, rendered  # noqa: E402
from tests.racing import Track, track_on  # noqa: E402

racing.PATIENCE_S = 900  # for one runner, which here does 40 requests and not one
POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
CAP = 5_000_000
SQLITE_PATIENCE_MS = 300_000
HOST = "localhost"
_LOG = {
    "sqlite": [
        "CREATE TABLE cap_log (id INTEGER PRIMARY KEY, used BIGINT, at DOUBLE PRECISION, pid BIGINT)",
        """CREATE TRIGGER cap_logged AFTER UPDATE ON accounts_capwindow WHEN NEW."window" = 'day' AND NEW.subject LIKE 'user:%/usd'
        BEGIN INSERT INTO cap_log (used, at, pid)
        VALUES (NEW.spent + NEW.reserved, (julianday('now') - 2440587.5) * 86400, 0); END""",
    ],
    "postgresql": [
        "DROP TABLE IF EXISTS cap_log",
        "CREATE TABLE cap_log (id BIGSERIAL PRIMARY KEY, used BIGINT, at DOUBLE PRECISION, pid BIGINT)",
        """CREATE OR REPLACE FUNCTION cap_logged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF NEW."window" = 'day' AND NEW.subject LIKE 'user:%/usd' THEN
        INSERT INTO cap_log (used, at, pid)
        VALUES (NEW.spent + NEW.reserved, EXTRACT(EPOCH FROM clock_timestamp()), pg_backend_pid());
        END IF; RETURN NULL; END $$""",
        """CREATE OR REPLACE TRIGGER cap_logged AFTER UPDATE ON accounts_capwindow
        FOR EACH ROW EXECUTE FUNCTION cap_logged()""",
    ],
}


@dataclass
class Diary:
    """What one process did. Times are seconds since 1970, by the clock that the trigger reads, too."""

    pid: int
    answers: Counter[int] = field(default_factory=Counter)
    deeds: Counter[str] = field(default_factory=Counter)
    refusals: list[tuple[float, float, int]] = field(
        default_factory=list
    )  # began, ended, price of what was asked
    writes: list[float] = field(
        default_factory=list
    )  # when something of ours that touched the cap was committed
    slowest: float = 0.0
    odd: list[str] = field(default_factory=list)


# --- In the processes ---------------------------------------------------------------------------------
def prepare() -> None:
    load_catalogue()
    startup.collect_static()
    user = User.objects.create_user("alice@example.org")
    ledger.grant(user, 10**12, business_id="grant", memo="For the benchmark")
    Cap.objects.create(user=user, window=Cap.Window.DAY, limit=CAP)
    ledger._new_window(
        ledger.spending_of(user), Cap.Window.DAY, ledger.window_start("day", ledger.timezone.now())
    )
    with connection.cursor() as cursor:
        for statement in _LOG[connection.vendor]:
            cursor.execute(statement)


def customer(number: int, requests: int, is_naive: bool) -> Diary:
    """One process: orders, and between the orders cancels and settles."""
    chance = random.Random(number)
    logging.getLogger("django.request").setLevel(logging.CRITICAL)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA busy_timeout = {SQLITE_PATIENCE_MS}")
    user, client = User.objects.get(), Client(SERVER_NAME=HOST, raise_request_exception=False)
    client.force_login(user)
    diary = Diary(_backend_pid())
    picture = rendered((64, 64))
    with _naive() if is_naive else nullcontext():
        for _ in range(requests):
            _order(client, diary, chance)
            _timed(diary, chance.choice((_cancel, _settle, _settle, _nothing)), client, chance, picture)
    return diary


def _backend_pid() -> int:
    if connection.vendor == "sqlite":
        return 0
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _order(client: Client, diary: Diary, chance: random.Random) -> None:
    slug, count = chance.choice((PRO, PRO, FLEX_2K)), chance.choice((1, 1, 2))
    price = catalog.price_of(catalog.by_slugs([slug])[0]) * count
    asked = {
        "prompt": "a fox",
        "variants": slug,
        "aspect_ratio": "1:1",
        "count": count,
        "pay": "credits",
        "nonce": uuid.uuid4().hex,
    }
    began = time.time()
    response = client.post("/runs/", asked)
    ended = time.time()
    diary.answers[response.status_code] += 1
    diary.slowest = max(diary.slowest, ended - began)
    if response.status_code == 303:
        diary.writes.append(ended)
        diary.deeds["held"] += 1
    elif response.status_code == 422 and b"would be crossed" in response.content:
        diary.refusals.append((began, ended, price))
    else:
        diary.odd.append(f"{response.status_code}: {response.content[-300:]!r}")


def _timed(diary: Diary, deed: Callable[..., str], *arguments: Any) -> None:
    try:
        diary.deeds[deed(*arguments)] += 1
    except Exception as error:
        diary.odd.append(f"{deed.__name__}: {error!r}")
    diary.writes.append(time.time())


def _cancel(client: Client, chance: random.Random, _: Any) -> str:
    queued = list(Job.objects.filter(state=Job.State.QUEUED).values_list("pk", flat=True)[:20])
    if not queued:
        return "nothing to cancel"
    response = client.post(f"/jobs/{chance.choice(queued)}/cancel/")
    if response.status_code >= 500:
        raise RuntimeError(f"cancelling answered {response.status_code}")
    return "cancelled"


def _settle(_: Client, chance: random.Random, picture: Any) -> str:
    """What the engine does, for one job: it is sent, and comes back or fails."""
    mine = jobs.claim(uuid.uuid4().hex, 1)
    if not mine or jobs.sending(mine[0]) is not True or not jobs.started(mine[0], f"up-{mine[0].pk}"):
        return "nothing to settle"
    if chance.random() < 0.7:
        return "failed" if jobs.fail(mine[0], "upstream_error") else "too late"
    jobs.ready(mine[0], ["https://up.example/1.jpg"])
    return "charged" if jobs.succeed(mine[0], images.new_key(new_id()), picture) else "too late"


def _nothing(*_: Any) -> str:
    return "waited"


def _naive() -> Any:
    """A cap as one would write it at first: look, then hold."""
    submit, limits = orders.submit_run, ledger.account_limits

    def look_then_hold(user: User, **asked: Any) -> Any:
        total = sum(catalog.price_of(variant) for variant in asked["variants"]) * asked["count"]
        seen = ledger.usage(ledger.spending_of(user), Cap.Window.DAY)
        if seen.spent + seen.reserved + total > CAP:
            cap = ledger.Limit(seen.subject, seen.window, CAP, total)
            raise ledger.CapReached(
                cap, used=seen.spent + seen.reserved, asked=total, now=ledger.timezone.now()
            )
        with patch.object(ledger, "account_limits", unlimited):
            return submit(user, **asked)

    def unlimited(user: User, each: int) -> list[ledger.Limit]:
        return [ledger.Limit(limit.subject, limit.window, None, each) for limit in limits(user, each)]

    return patch.object(orders, "submit_run", look_then_hold)


def fill() -> tuple[int, int]:
    """Buys the cheapest picture alone until it is refused: how many it got, and what is left then."""
    user, bought = User.objects.get(), 0
    client = Client(SERVER_NAME=HOST)
    client.force_login(user)
    cheapest = catalog.by_slugs([PRO])[0]
    asked = {
        "prompt": "a fox",
        "variants": cheapest.slug,
        "aspect_ratio": "1:1",
        "count": 1,
        "pay": "credits",
    }
    while client.post("/runs/", {**asked, "nonce": uuid.uuid4().hex}).status_code == 303:
        bought += 1
    return bought, CAP - sum(_window(user))


def _window(user: User) -> tuple[int, int]:
    seen = ledger.usage(ledger.spending_of(user), Cap.Window.DAY)
    return seen.spent, seen.reserved


def books() -> dict[str, Any]:
    """What the database says in the end, and every state that the cap went through."""
    user = User.objects.get()
    with connection.cursor() as cursor:
        cursor.execute("SELECT used, at, pid FROM cap_log ORDER BY id")
        log = cursor.fetchall()
    charged = Transfer.objects.filter(debit=user.wallet).values_list("amount", flat=True)
    spent, held = _window(user)
    problems = upkeep.audit(with_files=False)
    return {"log": log, "charged": sum(charged), "spent": spent, "held": held, "problems": problems,
            "windows": CapWindow.objects.filter(window="day", subject=ledger.spending_of(user)).count(),
            "cheapest": catalog.price_of(catalog.by_slugs([PRO])[0])}  # fmt: skip


# --- The verdict --------------------------------------------------------------------------------------
def unjust(diaries: list[Diary], log: list[tuple[int, float, int]]) -> list[tuple[float, float, int]]:
    """Refusals of requests during which no state was in force that left less than their price.

    A state begins to be in force after its row was logged, and ends before the next one's process had its answer.
    """
    spans = []
    ends = {diary.pid: sorted(diary.writes) for diary in diaries}
    every = sorted(at for diary in diaries for at in diary.writes)
    for (used, at, _), (_, next_at, next_pid) in zip(log, [*log[1:], (0, float("inf"), -1)], strict=True):
        answers = ends.get(next_pid, every) if next_pid else every
        over = next((end for end in answers if end >= next_at - 0.002), float("inf"))
        spans.append((used, at - 0.002, over))
    return [
        (began, ended, price)
        for diary in diaries
        for began, ended, price in diary.refusals
        if not any(used + price > CAP and at <= ended and began <= over for used, at, over in spans)
    ]


def race(track: Track, name: str, processes: int, requests: int, *, is_naive: bool) -> bool:
    """Prints what happened; True where it is as it must be."""
    track.clear()
    track.alone(prepare)
    began = time.perf_counter()
    outcomes = track.race(customer, [(number, requests, is_naive) for number in range(processes)])
    took = time.perf_counter() - began
    died = [outcome for outcome in outcomes if outcome.error]
    diaries = [outcome.value for outcome in outcomes if not outcome.error]
    after = track.alone(books)
    most = max((used for used, _, _ in after["log"]), default=0)
    refused = sum(len(diary.refusals) for diary in diaries)
    wrong = [] if is_naive else unjust(diaries, after["log"])
    odd = [line for diary in diaries for line in diary.odd] + [f"{end.error}: {end.message}" for end in died]
    answers, deeds = sum((d.answers for d in diaries), Counter()), sum((d.deeds for d in diaries), Counter())
    server_errors = sum(number for status, number in answers.items() if status >= 500)
    slowest = max((diary.slowest for diary in diaries), default=0)
    print(
        f"{name}: {sum(answers.values())} requests of {processes} processes in {took:.1f} s, slowest {slowest:.1f} s"
    )
    print(f"  {dict(sorted(answers.items()))}, {refused} refused by the cap; {dict(sorted(deeds.items()))}")
    print(f"  cap {credits.usd(CAP)}; highest of {len(after['log'])} states {credits.usd(most)}, over by {max(most - CAP, 0):,} micro-dollars;"
          f" in the end spent {credits.usd(after['spent'])}, held {credits.usd(after['held'])}")  # fmt: skip
    for line in odd[:5]:
        print(f"  odd: {line[:400]}")
    if is_naive:
        print(
            f"  the naive cap was {'crossed, as it must be' if most > CAP else 'NOT crossed: this race is too tame'}",
            flush=True,
        )
        return most > CAP
    bought, left = track.alone(fill)
    print(f"  refused although there was room: {len(wrong)}; filled up alone: {bought} more, {credits.usd(left)} left,"
          f" cheapest {credits.usd(after['cheapest'])}; 5xx: {server_errors}; audit: {len(after['problems'])} problems", flush=True)  # fmt: skip
    return (
        most <= CAP
        and after["charged"] == after["spent"]
        and after["windows"] == 1
        and not (wrong or odd or server_errors or after["problems"])
        and refused > 0
        and 0 <= left < after["cheapest"]
        and sum(answers.values()) == processes * requests
    )


def main(processes: int = 50, requests: int = 40, postgres: str = POSTGRES) -> bool:
    is_sound = True
    for vendor in ("postgres", "sqlite"):
        with (
            tempfile.TemporaryDirectory() as folder,
            track_on(vendor, Path(folder), postgres=postgres) as track,
        ):
            is_sound &= race(track, vendor, processes, requests, is_naive=False)
            is_sound &= race(
                track, f"{vendor}, naive control", processes, max(requests // 4, 1), is_naive=True
            )
    print("Held." if is_sound else "VIOLATED.")
    return is_sound


if __name__ == "__main__":
    given = sys.argv[1:]
    module = importlib.import_module("tests.benchmarks.caps")  # runners must find its functions by this name
    sys.exit(0 if module.main(*(int(word) for word in given[:2]), *given[2:]) else 1)
