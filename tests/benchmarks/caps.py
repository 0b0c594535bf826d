"""Whether a cap can be crossed: 50 processes x 40 requests against one account with a cap, and three keys with theirs.

    uv run python -m tests.benchmarks.caps [--processes 50] [--requests 40] [--database postgres]

Each request is a real one through the whole stack, paid, of a random variant: `POST /runs/` of one picture or two, or
createTask with one of three API keys. The account has a cap a day, each key one a day and one for ever, which are
other ones for each key, so that now this and now that is the first to refuse. Between them every process cancels its own jobs over HTTP, and takes jobs as the engine does and lets them succeed or fail, so
that room comes back while others ask for it. On SQLite and PostgreSQL, with the product's own settings.

What is proved, and how. A trigger writes down every state of the rows of all seven caps, in the order in which each
row's lock put them, so nothing in between goes unseen.

1. Never over: in no state is spent + reserved more than the cap, and what was charged in the end is what is spent.
2. No refusal while there is room. "Room" needs a moment: a state is in force from its commit to the next one's, and a
   refusal is right if, somewhere between its request's start and its answer, a state was (or may have been) in force
   that left less than this request's own price. Other requests' holds count as used until they are cancelled, fail or
   are rolled back, which is what a hold is. This is stricter than "for the cheapest job": it holds for every price.
   A refusal is held against the very cap that it names. Once the race is over, one process alone buys the cheapest
   picture with each key and then on the page until it is refused: what is left of the cap that refused it must be less
   than that picture costs, to the micro-dollar.
3. No answer of 500 or more, and the audit finds nothing.

SQLite has one writer at a time, and the product waits 20 seconds for its turn: plenty for the handful of processes of
its own server, not always for 50 that write without a pause on two cores. Here they wait for up to five minutes.

The control run is the same race with a naive cap: it looks before the transaction whether there is room, and then
holds without a condition. It must overspend, the account's cap and a key's, or this race proves nothing. It needs a
quarter of the requests for it.
"""

import argparse
import importlib
import logging
import math
import os
import random
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import django
from django.db import connection

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "playground.settings")
os.environ |= {
    "API_RATE_LIMIT": "1000000/10",
    "API_RATE_LIMIT_ACCOUNT": "1000000/10",
}  # caps are to refuse, not these
django.setup()

from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts import credits, keys, ledger  # noqa: E402
from accounts.ledger import windows  # noqa: E402
from accounts.models import ApiKey, Cap, CapWindow, Transfer, User  # noqa: E402
from playground import catalog, images, jobs, orders, startup, upkeep, urls  # noqa: E402, F401 - imported once, before the forks
from playground.api import idempotency, ordering  # noqa: E402
from playground.api import limits as rates  # noqa: E402
from playground.ids import new_id  # noqa: E402
from playground.models import Job  # noqa: E402
from tests import racing  # noqa: E402
from tests.making import FLEX_2K, PRO, load_catalogue, rendered  # noqa: E402
from tests.racing import Track, track_on  # noqa: E402

racing.PATIENCE_S = 900  # for one runner, which here does 40 requests and not one
POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"
CAP = 5_000_000
KEYS = (
    {"day": 600_000, "total": 900_000},
    {"day": 900_000, "total": 500_000},
    {"day": 300_000, "total": 2_000_000},
)
SQLITE_PATIENCE_S = 300
HOST = "localhost"
_COLUMNS = 'subject TEXT, "window" TEXT, used BIGINT, at DOUBLE PRECISION, pid BIGINT'
_INTO = 'INSERT INTO cap_log (subject, "window", used, at, pid) VALUES (NEW.subject, NEW."window", NEW.spent + NEW.reserved,'
_LOG = {
    "sqlite": [
        f"CREATE TABLE cap_log (id INTEGER PRIMARY KEY, {_COLUMNS})",
        f"""CREATE TRIGGER cap_logged AFTER UPDATE ON accounts_capwindow
        BEGIN {_INTO} (julianday('now') - 2440587.5) * 86400, 0); END""",
    ],
    "postgresql": [
        "DROP TABLE IF EXISTS cap_log",
        f"CREATE TABLE cap_log (id BIGSERIAL PRIMARY KEY, {_COLUMNS})",
        f"""CREATE OR REPLACE FUNCTION cap_logged() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        {_INTO} EXTRACT(EPOCH FROM clock_timestamp()), pg_backend_pid()); RETURN NULL; END $$""",
        """CREATE OR REPLACE TRIGGER cap_logged AFTER UPDATE ON accounts_capwindow
        FOR EACH ROW EXECUTE FUNCTION cap_logged()""",
    ],
}
Name = tuple[str, str]  # of a cap: the subject and the window of its row


@dataclass(frozen=True)
class Refused:
    """When the request began and ended, what it asked for, and the cap that it was told of."""

    began: float
    ended: float
    price: int
    cap: Name


@dataclass
class Diary:
    """What one process did. Times are seconds since 1970, by the clock that the trigger reads, too."""

    pid: int
    answers: Counter[int] = field(default_factory=Counter)
    deeds: Counter[str] = field(default_factory=Counter)
    refusals: list[Refused] = field(default_factory=list)
    writes: list[float] = field(
        default_factory=list
    )  # when something of ours that touched the cap was committed
    slowest: float = 0.0
    odd: list[str] = field(default_factory=list)


# --- In the processes ---------------------------------------------------------------------------------
def prepare(calls: int) -> list[str]:
    """The texts of the keys. In a smaller race caps are lower, so that they are reached all the same."""
    part = min(1, math.sqrt(calls / (50 * 40)))
    load_catalogue()
    startup.collect_static()
    user = User.objects.create_user("alice@example.org")
    ledger.grant(user, 10**12, business_id="grant", memo="For the benchmark")
    Cap.objects.create(user=user, window=Cap.Window.DAY, limit=int(CAP * part))
    scaled = [{window: int(stop * part) for window, stop in stops.items()} for stops in KEYS]
    texts = [keys.make(user, "Robot", stops=stops)[1] for stops in scaled]
    for subject, window in caps(user):
        windows.ids([(subject, window, ledger.window_start(window, timezone.now()))], {})
    with connection.cursor() as cursor:
        for statement in _LOG[connection.vendor]:
            cursor.execute(statement)
    return texts


def caps(user: User) -> dict[Name, int]:
    """Every cap that was set, by the subject and the window of its row."""
    return {
        (ledger.spending_by(cap.key) if cap.key else ledger.spending_of(user), cap.window): cap.limit or 0
        for cap in Cap.objects.filter(user=user).select_related("key")
    }


def customer(number: int, requests: int, texts: list[str], is_naive: bool) -> Diary:
    """One process: orders, and between the orders cancels and settles."""
    chance = random.Random(number)
    logging.getLogger("django.request").setLevel(logging.CRITICAL)
    if connection.vendor == "sqlite":
        connection.settings_dict["OPTIONS"]["timeout"] = SQLITE_PATIENCE_S
    user, client = User.objects.get(), Client(SERVER_NAME=HOST, raise_request_exception=False)
    client.force_login(user)
    diary = Diary(_backend_pid())
    picture = rendered((64, 64))
    with _naive() if is_naive else nullcontext():
        for _ in range(requests):
            if chance.random() < 0.5:
                _order(client, diary, chance)
            else:
                _call(client, chance.choice(texts), diary, chance)
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
        refused = Refused(began, ended, price, (ledger.spending_of(User.objects.get()), "day"))
        diary.refusals.append(refused)
    else:
        diary.odd.append(f"{response.status_code}: {response.content[-300:]!r}")


def _call(client: Client, text: str, diary: Diary, chance: random.Random) -> None:
    slug = chance.choice((PRO, PRO, FLEX_2K))
    price = catalog.price_of(catalog.by_slugs([slug])[0])
    once = {"Idempotency-Key": uuid.uuid4().hex} if chance.random() < 0.5 else {}
    began = time.time()
    response = _create(client, text, slug, once)
    ended = time.time()
    diary.answers[response.status_code] += 1
    diary.slowest = max(diary.slowest, ended - began)
    error = response.json().get("error") or {}
    if response.status_code == 200:
        diary.writes.append(ended)
        diary.deeds["held by a key"] += 1
    elif error.get("code") == "spend_cap_reached":
        diary.refusals.append(Refused(began, ended, price, _named(error["details"]["cap"], text)))
    else:
        diary.odd.append(f"{response.status_code}: {response.content[-300:]!r}")


def _create(client: Client, text: str, slug: str, more: dict[str, str] | None = None) -> Any:
    body = {"model": slug, "input": {"prompt": "a fox", "resolution": "2K" if slug == FLEX_2K else "1K"}}
    headers = {"Authorization": f"Bearer {text}", **(more or {})}
    return client.post("/api/v1/jobs/createTask", body, content_type="application/json", headers=headers)


def _named(told: str, text: str) -> Name:
    """The cap of `key/day` or `account/day`."""
    whose, _, window = told.partition("/")
    key = ApiKey.objects.select_related("user").get(digest=keys.digest(text))
    return (ledger.spending_by(key) if whose == "key" else ledger.spending_of(key.user)), window


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
    """Caps as one would write them at first: look, then hold."""
    limits, run, once, count = (
        ledger.Account.limits,
        orders.submit_run,
        idempotency.once,
        rates.count_create,
    )
    called: list[ApiKey] = []

    def look(user: User, key: ApiKey | None, total: int) -> None:
        now = timezone.now()
        for limit in limits(ledger.account(user, key), total):
            seen = ledger.usage(limit.subject, limit.window, now)
            used = seen.spent + seen.reserved
            if limit.limit is not None and used + total > limit.limit:
                raise ledger.CapReached(limit, used=used, asked=total, now=now)

    def run_after_look(user: User, **asked: Any) -> Any:
        look(user, None, sum(map(catalog.price_of, asked["variants"])) * asked["count"])
        return run(user, **asked)

    def count_and_note(key: ApiKey) -> Any:
        called[:] = [key]
        return count(key)

    def once_after_look(user_id: int, text: str, route: str, asked: Any, make: Any) -> Any:
        try:
            look(called[0].user, called[0], catalog.price_of(catalog.by_slugs([asked["model"]])[0]))
        except ledger.CapReached as no:
            raise ordering._refused(no) from no
        return once(user_id, text, route, asked, make)

    def unlimited(account: ledger.Account, each: int) -> list[ledger.Limit]:
        return [ledger.Limit(one.subject, one.window, None, each) for one in limits(account, each)]

    stack = ExitStack()
    stack.enter_context(patch.object(ledger.Account, "limits", unlimited))
    stack.enter_context(patch.object(orders, "submit_run", run_after_look))
    stack.enter_context(patch.object(rates, "count_create", count_and_note))
    stack.enter_context(patch.object(idempotency, "once", once_after_look))
    return stack


def fill(texts: list[str]) -> tuple[int, list[int]]:
    """Buys the cheapest picture alone until it is refused, with each key and then on the page.

    How many it got, and what was left then of the caps that refused it.
    """
    user, bought = User.objects.get(), 0
    client, left = Client(SERVER_NAME=HOST), []
    for text in texts:
        while (answer := _create(client, text, PRO)).status_code == 200:
            bought += 1
        left.append(_left(user, _named(answer.json()["error"]["details"]["cap"], text)))
    client.force_login(user)
    asked = {"prompt": "a fox", "variants": PRO, "aspect_ratio": "1:1", "count": 1, "pay": "credits"}
    while client.post("/runs/", {**asked, "nonce": uuid.uuid4().hex}).status_code == 303:
        bought += 1
    return bought, [*left, _left(user, (ledger.spending_of(user), "day"))]


def _left(user: User, cap: Name) -> int:
    return caps(user)[cap] - sum(_window(cap))


def _window(cap: Name) -> tuple[int, int]:
    seen = ledger.usage(*cap)
    return seen.spent, seen.reserved


def books() -> dict[str, Any]:
    """What the database says in the end, and every state that the caps went through."""
    user = User.objects.get()
    with connection.cursor() as cursor:
        cursor.execute('SELECT subject, "window", used, at, pid FROM cap_log ORDER BY id')
        log = cursor.fetchall()
    limits, charged = (
        caps(user),
        {ledger.spending_of(user): _charged(Transfer.objects.filter(debit=user.wallet))},
    )
    for key in ApiKey.objects.all():
        by_key = Transfer.objects.filter(hold__in=Job.objects.filter(key=key).values("hold"))
        charged[ledger.spending_by(key)] = _charged(by_key)
    return {
        "caps": limits,
        "log": {
            cap: [tuple(state) for subject, window, *state in log if (subject, window) == cap]
            for cap in limits
        },
        "agree": all(_window((subject, window))[0] == charged[subject] for subject, window in limits),
        "windows": CapWindow.objects.filter(window="day", subject=ledger.spending_of(user)).count(),
        "problems": upkeep.audit(with_files=False),
        "cheapest": catalog.price_of(catalog.by_slugs([PRO])[0]),
    }


def _charged(transfers: Any) -> int:
    return sum(transfers.values_list("amount", flat=True))


# --- The verdict --------------------------------------------------------------------------------------
def unjust(diaries: list[Diary], cap: Name, limit: int, log: list[tuple[int, float, int]]) -> list[Refused]:
    """Refusals by that cap of requests during which no state was in force that left less than their price.

    A state begins to be in force after its row was logged, and ends before the next one's process had its answer.
    """
    spans = []
    ends = {diary.pid: sorted(diary.writes) for diary in diaries}
    every = sorted(at for diary in diaries for at in diary.writes)
    states = [(0, 0.0, 0), *log]  # before the first: a small cap refuses a dear picture from the start
    for (used, at, _), (_, next_at, next_pid) in zip(states, [*log, (0, float("inf"), -1)], strict=True):
        answers = ends.get(next_pid, every) if next_pid else every
        over = next((end for end in answers if end >= next_at - 0.002), float("inf"))
        spans.append((used, at - 0.002, over))
    return [
        one
        for diary in diaries
        for one in diary.refusals
        if one.cap == cap
        and not any(
            used + one.price > limit and at <= one.ended and one.began <= over for used, at, over in spans
        )
    ]


def race(track: Track, name: str, processes: int, requests: int, *, is_naive: bool) -> bool:
    """Prints what happened; True where it is as it must be."""
    track.clear()
    texts = track.alone(prepare, processes * requests)
    began = time.perf_counter()
    outcomes = track.race(customer, [(number, requests, texts, is_naive) for number in range(processes)])
    took = time.perf_counter() - began
    died = [outcome for outcome in outcomes if outcome.error]
    diaries = [outcome.value for outcome in outcomes if not outcome.error]
    after = track.alone(books)
    over = {
        cap: max((used for used, *_ in states), default=0) - after["caps"][cap]
        for cap, states in after["log"].items()
    }
    odd = [line for diary in diaries for line in diary.odd] + [f"{end.error}: {end.message}" for end in died]
    answers, deeds = sum((d.answers for d in diaries), Counter()), sum((d.deeds for d in diaries), Counter())
    refused = Counter(one.cap for diary in diaries for one in diary.refusals)
    slowest = max((diary.slowest for diary in diaries), default=0)
    print(
        f"{name}: {answers.total()} requests of {processes} processes in {took:.1f} s, slowest {slowest:.1f} s"
    )
    print(f"  {dict(sorted(answers.items()))}; {dict(sorted(deeds.items()))}")
    for (subject, window), limit in after["caps"].items():
        cap = subject, window
        print(f"  {subject:12} {window:5} cap {credits.usd(limit):>6}: {refused[cap]} refused; highest of"
              f" {len(after['log'][cap])} states over by {max(over[cap], 0):,} micro-dollars")  # fmt: skip
    for line in odd[:5]:
        print(f"  odd: {line[:400]}")
    if is_naive:
        return _is_crossed(over, odd)
    wrong = [
        one for cap, limit in after["caps"].items() for one in unjust(diaries, cap, limit, after["log"][cap])
    ]
    return (
        _verdict(track, texts, after, wrong, odd, answers)
        and max(over.values()) <= 0
        and (answers.total() == processes * requests and bool(refused))
    )


def _is_crossed(over: dict[Name, int], odd: list[str]) -> bool:
    """Whether the control shows what it is for: the account's cap and a key's crossed, by requests that all worked."""
    worst = {whose: max(by for (subject, _), by in over.items() if subject.startswith(whose)) for whose in ("user", "key")}  # fmt: skip
    is_crossed = min(worst.values()) > 0 and not odd
    was = "crossed, as they must be" if is_crossed else "NOT all crossed, or something was odd: too tame"
    print(f"  the naive caps were {was}", flush=True)
    return is_crossed


def _verdict(
    track: Track,
    texts: list[str],
    after: dict[str, Any],
    wrong: list[Refused],
    odd: list[str],
    answers: Counter[int],
) -> bool:
    server_errors = sum(number for status, number in answers.items() if status >= 500)
    bought, left = track.alone(fill, texts)
    print(f"  refused although there was room: {len(wrong)}; filled up alone: {bought} more, left of the caps that refused"
          f" {', '.join(map(credits.usd, left))}, cheapest {credits.usd(after['cheapest'])}; 5xx: {server_errors};"
          f" audit: {len(after['problems'])} problems", flush=True)  # fmt: skip
    return (
        after["agree"]
        and after["windows"] == 1
        and not (wrong or odd or server_errors or after["problems"])
        and all(0 <= one < after["cheapest"] for one in left)
    )


def main(asked: argparse.Namespace) -> bool:
    is_sound = True
    few = min(asked.requests, max(asked.requests // 4, 10))
    for vendor in ("postgres", "sqlite") if asked.database == "both" else (asked.database,):
        with (
            tempfile.TemporaryDirectory() as folder,
            track_on(vendor, Path(folder), postgres=asked.postgres) as track,
        ):
            is_sound &= race(track, vendor, asked.processes, asked.requests, is_naive=False)
            is_sound &= race(track, f"{vendor}, naive control", asked.processes, few, is_naive=True)
    print("Held." if is_sound else "VIOLATED.")
    return is_sound


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=50)
    parser.add_argument("--requests", type=int, default=40, help="of each process")
    parser.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--postgres", default=POSTGRES, help="the address of a server")
    return parser.parse_args()


if __name__ == "__main__":
    module = importlib.import_module("tests.benchmarks.caps")  # runners must find its functions by this name
    sys.exit(0 if module.main(options()) else 1)
