"""A thousand jobs, every fault at once, and processes killed all the while. By hand: uv run python -m tests.benchmarks.faults

Two lying upstreams, which call back twice, do each of `FAULTS` to a share of the jobs, while every few seconds a
process of the worker (the driving or an idle worker of the queue, its sentinel, its parent) gets SIGKILL. Then: nothing
lost, nothing stuck, nobody charged twice or for nothing, nothing made twice upstream, and clean books; or exit status 1.

    --jobs 1000       how many, over about two minutes
    --share 0.05      of the jobs, for each fault
    --every 6         seconds between two kills, on average
    --database both   sqlite, postgres (a database of its own on TEST_POSTGRES_URL, dropped at the end), or both
"""

import argparse
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import psutil

from tests.fake_upstream import FakeUpstream
from tests.racing import execute

ROOT = Path(__file__).resolve().parents[2]
POSTGRES = os.environ.get("TEST_POSTGRES_URL", "postgresql://postgres@127.0.0.1:5432/postgres")
DEADLINE_S = 75
SUBMITTING_S = 110
# A job that no drive has ended is ended by the sweep, which comes round within a minute or two.
STUCK_S = 150
GRANTED = 10**9
VARIANTS = ["flux-2-pro-text-to-image-1-0s-1k", "flux-2-flex-text-to-image-1-0s-1k", "flux1-kontext-text-to-image-pro"]  # fmt: skip
VICTIMS = ["driving", "driving", "idle", "sentinel", "parent"]
FAULTS: list[dict[str, Any]] = [
    *({"where": "create", "kind": kind} for kind in ("silent", "reset", "html", "empty", "truncate", "wrong_types")),
    *({"where": "create", "kind": kind} for kind in ("huge", "never_ending", "moderated")),
    {"where": "create", "kind": "status", "status": 500, "started": True},
    {"where": "create", "kind": "status", "status": 503},
    {"where": "create", "kind": "status", "status": 429, "retry_after": "1"},
    {"where": "create", "kind": "envelope", "code": 455},
    {"where": "create", "kind": "envelope", "code": 422},
    {"where": "create", "kind": "disguised", "status": 500},
    {"where": "create", "kind": "latency", "seconds": 3},
    *({"where": "look", "kind": kind} for kind in ("fail", "moderated", "no_url", "unknown_state")),
    *({"where": "look", "kind": kind, "times": 2} for kind in ("html", "empty", "truncate", "reset", "wrong_types")),
    *({"where": "look", "kind": kind, "times": 1} for kind in ("huge", "never_ending", "silent")),
    {"where": "look", "kind": "status", "status": 404, "times": 2},
    {"where": "look", "kind": "envelope", "code": 500, "times": 2},
    {"where": "look", "kind": "url", "url": "http://169.254.169.254/latest/meta-data/"},
    *({"where": "file", "kind": kind} for kind in ("gone", "corrupt_picture", "truncated_picture", "wrong_type", "bomb")),
    *({"where": "file", "kind": kind} for kind in ("slow_drip", "redirect")),
    *({"where": "file", "kind": kind, "times": 1} for kind in ("reset", "truncate", "silent")),
    {"where": "file", "kind": "huge", "mb": 100},
    {"where": "file", "kind": "status", "status": 403, "times": 1},
]  # fmt: skip


# --- The house ----------------------------------------------------------------------------------------
class Threading(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def process_request_thread(self, *args: Any) -> None:
        from django.db import connections

        super().process_request_thread(*args)
        connections.close_all()  # of this thread, which ends here


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None: ...


@contextmanager
def web() -> Iterator[str]:
    """Where upstreams call us, served by this process."""
    from django.core.wsgi import get_wsgi_application

    port = int(os.environ["BASE_URL"].rpartition(":")[2])
    server = make_server("127.0.0.1", port, get_wsgi_application(), Threading, Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield os.environ["BASE_URL"]
    server.shutdown()


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def prepare(folder: str, database: str, ups: list[FakeUpstream]) -> None:
    """The environment of this process and of the worker, tables and the catalogue."""
    os.environ |= {
        "DATA_DIR": folder,
        "DATABASE_URL": database,
        "BASE_URL": f"http://127.0.0.1:{free_port()}",
        "AIGENERATE_API_KEY": ups[0].api_key,
        "AIGENERATE_BASE_URL": ups[0].base_url,
        "KIE_API_KEY": ups[1].api_key,
        "KIE_BASE_URL": ups[1].base_url,
        "NET_ALLOWED_HOSTS": ",".join(up.host for up in ups),
        "JOB_DEADLINE_S": str(DEADLINE_S),
        "PREVIEWS_PER_DAY": "100000",
        "PREVIEW_BUDGET_USD_PER_DAY": "100000",
        "LOG_LEVEL": os.environ.get("LOG_LEVEL", "ERROR"),
        "DJANGO_SETTINGS_MODULE": "playground.settings",
    }
    for command in ("migrate", "load_catalog"):
        subprocess.run([sys.executable, "manage.py", command, "-v0"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    import django

    django.setup()


@contextmanager
def worker(log: Path) -> Iterator[psutil.Popen]:
    with log.open("wb") as stream:
        process = psutil.Popen(
            [sys.executable, "manage.py", "worker"], cwd=ROOT, stderr=stream, stdout=stream
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def people(count: int = 6) -> list[Any]:
    from accounts import ledger
    from accounts.models import User

    made = [User.objects.create_user(f"person-{n}@example.org") for n in range(count)]
    for user in made:
        ledger.grant(user, GRANTED, business_id=f"benchmark:{user.pk}", memo="benchmark")
    return made


def submit(users: list[Any], jobs: int, choose: random.Random) -> None:
    """Runs of one to four pictures, paid and previews, spread over `SUBMITTING_S`."""
    from django.db import connection

    from playground import catalog, orders

    variants = catalog.by_slugs([f"black-forest-labs-black-forest-labs-{slug}" for slug in VARIANTS])
    assert len(variants) == len(VARIANTS)
    begun, left = time.monotonic(), jobs
    while left:
        count = min(left, choose.randint(1, 4))
        orders.submit_run(
            choose.choice(users), prompt=f"a fox in the snow {uuid.uuid4()}", variants=[choose.choice(variants)],
            aspect_ratio="1:1", count=count, seed=None, pay=choose.choice(["credits", "credits", "preview"]),
            nonce=uuid.uuid4().hex,
        )  # fmt: skip
        left -= count
        due = begun + SUBMITTING_S * (1 - left / jobs)
        time.sleep(max(due - time.monotonic(), 0))
    connection.close()


# --- Kills, and how long each of them is felt ---------------------------------------------------------
@dataclass
class Watch:
    """Every tenth of a second: the newest thing that a drive did to a job, and the newest beat."""

    samples: list[tuple[float, int, Any]] = field(default_factory=list)
    kills: list[tuple[float, str]] = field(default_factory=list)

    def look_until(self, over: threading.Event) -> None:
        from django.db import DatabaseError, connection

        while not over.wait(0.1):
            with suppress(DatabaseError):
                self.samples.append((time.monotonic(), *newest()))
        connection.close()

    def recovery(self) -> dict[str, list[float]]:
        """Seconds from each kill until a job went on, and until a drive was alive that had not been before."""
        found: dict[str, list[float]] = defaultdict(list)
        for at, who in self.kills:
            before = [event for seen, event, _ in self.samples if seen <= at]
            known = before[-1] if before else 0
            later = [seen - at for seen, event, _ in self.samples if seen > at + 0.1 and event > known]
            alive = [
                seen - at for seen, _, beat in self.samples if beat and seen > at + 0.1 and beat > seen - 1.5
            ]
            found[f"{who}: next job that went on"] += later[:1]
            found[f"{who}: next live drive"] += alive[:1]
        return found


def newest() -> tuple[int, float | None]:
    from django.db.models import Max
    from django.utils import timezone

    from playground.models import DriveBeat, JobEvent

    event = JobEvent.objects.exclude(state="queued", note="").aggregate(newest=Max("pk"))["newest"] or 0
    beat = DriveBeat.objects.filter(is_ending=False).aggregate(newest=Max("at"))["newest"]
    # As this process's monotonic clock has it.
    return event, None if beat is None else time.monotonic() - (timezone.now() - beat).total_seconds()


def kill_until(
    over: threading.Event, process: psutil.Popen, watch: Watch, every: float, choose: random.Random
) -> None:
    from django.db import DatabaseError, connection

    from tests.test_kills import kill_one

    while not over.wait(choose.uniform(0.5 * every, 1.5 * every)):
        who = choose.choice(VICTIMS)
        with suppress(psutil.Error, DatabaseError, ValueError):
            at = time.monotonic()
            if kill_one(process, who, choose):
                watch.kills.append((at, who))
    connection.close()


# --- What became of it --------------------------------------------------------------------------------
def all_final(seconds: float) -> bool:
    from playground.models import Job

    end = time.monotonic() + seconds
    while Job.objects.open().exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def broken(users: list[Any], ups: list[FakeUpstream]) -> dict[str, int]:
    """How often each thing that must not happen has happened."""
    from accounts import ledger
    from accounts.models import Transfer
    from playground import upkeep
    from playground.models import Job

    charges = Counter(
        business_id.removeprefix("job:")[:36]
        for business_id in Transfer.objects.filter(
            business_id__startswith="job:", kind__in=[Transfer.Kind.CHARGE, Transfer.Kind.PREVIEW_COST]
        ).values_list("business_id", flat=True)
    )
    delivered = {str(pk) for pk in Job.objects.filter(state="succeeded").values_list("pk", flat=True)}
    started = sum((Counter(up.stats()["started"]) for up in ups), Counter[str]())
    paid = Counter[Any]()
    for user, price in Job.objects.filter(state="succeeded", is_preview=False).values_list(
        "user_id", "price_micros"
    ):
        paid[user] += price
    wallets = [(ledger.wallet_of(user), paid[user.pk]) for user in users]
    problems = upkeep.audit()
    for found in problems[:5]:
        print(f"  audit: {found}")
    return {
        "lost (not final)": Job.objects.open().count(),
        "stuck past the deadline": sum(late > STUCK_S for late in lateness()),
        "charged twice": sum(times > 1 for times in charges.values()),
        "charged for nothing": len(set(charges) - delivered),
        "delivered and not charged": len(delivered - set(charges)),
        "wallets that do not add up": sum((w.posted, w.held) != (GRANTED - spent, 0) for w, spent in wallets),
        "started twice upstream": sum(times > 1 for times in started.values()),
        "broken invariants in the audit": len(problems),
    }


def lateness() -> list[float]:
    """Seconds from each job's deadline to its end."""
    from playground.models import Job

    spans = Job.objects.exclude(finished=None).values_list("deadline", "finished")
    return [(finished - deadline) / timedelta(seconds=1) for deadline, finished in spans]


def tell(watch: Watch, log: Path) -> None:
    from django.db.models import Count

    from playground.models import Job

    ends = Job.objects.values_list("state", "failure").annotate(Count("pk")).order_by("-pk__count")
    print("  ends       " + ", ".join(f"{failure or state} {n}" for state, failure, n in ends))
    print(f"  kills      {len(watch.kills)}: {dict(Counter(who for _, who in watch.kills))}")
    for what, times in sorted(watch.recovery().items()):
        if times:
            print(f"  recovery   {what}: p50 {statistics.median(times):.1f} s, max {max(times):.1f} s")
    called = Job.objects.exclude(claimed_id="")
    found = called.exclude(upstream_id=None).count()
    print(
        f"  callbacks  found {found} jobs whose answer was lost, and came too late for {called.count() - found}"
    )
    print(f"  worst end  {max(lateness()):.1f} s past the deadline")
    print(f"  errors     {log.read_text(errors='replace').count('Traceback')} tracebacks in the worker's log")


def run(database: str, asked: argparse.Namespace) -> bool:
    choose, over = random.Random(asked.seed), threading.Event()
    begun = time.monotonic()
    behaviour = {"submit_s": 0.1, "ready_s": 2.0, "picture_kb": 60, "callbacks": 2}
    with (
        tempfile.TemporaryDirectory() as folder,
        FakeUpstream(**behaviour) as first,
        FakeUpstream(**behaviour) as second,
    ):
        ups, log = [first, second], Path(folder) / "worker.log"
        prepare(folder, database or f"sqlite:///{folder}/db.sqlite3", ups)
        for up in ups:
            for fault in FAULTS:
                up.fault(**fault, fraction=asked.share)
        users, watch = people(), Watch()
        with web(), worker(log) as process:
            kill = threading.Thread(target=kill_until, args=(over, process, watch, asked.every, choose))
            look = threading.Thread(target=watch.look_until, args=(over,))
            for thread in (look, kill):
                thread.start()
            submit(users, asked.jobs, choose)
            all_final(DEADLINE_S + STUCK_S)
            over.set()
            kill.join()
            look.join()
            tell(watch, log)
            found = broken(users, ups)
        if asked.keep_log:
            Path(asked.keep_log).write_bytes(log.read_bytes())
    for what, times in found.items():
        print(f"  {times:6d}     {what}")
    bound = f"below {3 / asked.jobs:.2%} a job with 95 % confidence (rule of three)"
    print(f"  bound      {bound if not any(found.values()) else 'none: it has happened'}")
    print(f"  took       {time.monotonic() - begun:.0f} s", flush=True)
    return not any(found.values())


# --- As a program: a process for each database, because settings are read once ------------------------
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--every", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--keep-log", default="", help="where to copy the worker's log to")
    asked = parser.parse_args()
    if asked.database == "both":
        sys.exit(any([again_on("sqlite"), again_on("postgres")]))
    print(f"{asked.database}: {asked.jobs} jobs, {len(FAULTS)} faults at {asked.share:.0%} each", flush=True)
    sys.exit(not (run("", asked) if asked.database == "sqlite" else on_postgres(asked)))


def again_on(database: str) -> int:
    words = [word for word in sys.argv[1:] if word != "both" and not word.startswith("--database")]
    return subprocess.run([sys.executable, "-m", "tests.benchmarks.faults", *words, "--database", database], cwd=ROOT, check=False).returncode  # fmt: skip


def on_postgres(asked: argparse.Namespace) -> bool:
    own = f"faults_{uuid.uuid4().hex}"
    execute(POSTGRES, f"CREATE DATABASE {own}")
    try:
        return run(urlunsplit(urlsplit(POSTGRES)._replace(path=f"/{own}")), asked)
    finally:
        execute(POSTGRES, f"DROP DATABASE {own} WITH (FORCE)")


if __name__ == "__main__":
    main()
