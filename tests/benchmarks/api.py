"""createTask and recordInfo beside a plain Django view, by hand: uv run python -m tests.benchmarks.api [--help]

The server is the one of `manage.py up`, with REDIS_URL and two processes; DATABASE_URL chooses the database, whose
tables are made and kept, and without it SQLite is used in a new folder. The clients are one process beside it. At 1,
16 and 64 clients each kind of call has the server for a moment in turn, several times over, so that whatever else the
machine does hits all of them alike:

    plain      a Django view through the site's middleware: one key look-up, one conditional UPDATE, one INSERT
    plain api  the same view at an address of the API's
    once       createTask with an Idempotency-Key
    create     createTask without one
    waiting    recordInfo of a task that waits
    done       recordInfo of one that has its picture

Calls are told in rates and, because a busy machine falsifies those, in processor time a call, of the web server and
of PostgreSQL. Limits count every call, but are set so high that they refuse none.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.benchmarks import load
from tests.benchmarks.load import ONCE, Heard

ROOT = Path(__file__).resolve().parents[2]
ASKED = {"model": "flux-2/pro-text-to-image", "input": {"prompt": "A red fox in the snow, early light"}}
BOUNDS = {"once": 0.7, "create": 0.7, "waiting": 1.5, "done": 1.5}
REFERENCE = "plain"


@dataclass(frozen=True)
class Slice:
    """One kind of call, measured once: what came back, and the processor time of web server and database."""

    heard: Heard
    web_s: float
    database_s: float

    @property
    def rate(self) -> float:
        return len(self.heard.took) / self.heard.seconds

    @property
    def each_ms(self) -> tuple[float, float]:
        calls = len(self.heard.took)
        return 1000 * self.web_s / calls, 1000 * self.database_s / calls


# --- The house ----------------------------------------------------------------------------------------
def settle(folder: str, given: argparse.Namespace) -> None:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.api_site",
        "DATA_DIR": folder,
        "API_RATE_LIMIT": "1000000/10",
        "API_RATE_LIMIT_ACCOUNT": "1000000/10",
        "JOB_DEADLINE_S": "86400",
        "LOG_LEVEL": "WARNING",
    }
    if not given.alone:
        os.environ |= {"REDIS_URL": given.redis, "WEB_PROCESSES": "2"}
    if given.threads:
        os.environ["WEB_THREADS"] = str(given.threads)
    for command in ("migrate", "load_catalog"):
        subprocess.run(
            [sys.executable, "manage.py", command, "-v0"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
        )
    import django

    django.setup()


def people(accounts: int) -> list[tuple[str, str]]:
    """For each account: the text of a key, and the id of a task that has its picture."""
    from django.db import connection

    from accounts import keys, ledger
    from accounts.models import User
    from playground import orders, startup
    from tests.benchmarks import api_urls
    from tests.making import picture_for

    startup.collect_static()
    made = []
    for _ in range(accounts):
        user = User.objects.create_user(f"{uuid.uuid4().hex[:12]}@example.org")
        ledger.grant(user, 10**12, business_id=f"benchmark:{uuid.uuid4()}", memo="benchmark")
        key, text = keys.make(user, "benchmark")
        made.append((text, str(picture_for(user, call=orders.Call(key=key, asked=ASKED)).job_id)))
    api_urls.prepare()
    connection.close()
    return made


@contextmanager
def house(port: int, with_worker: bool) -> Iterator[psutil.Process]:
    """The web server as `manage.py up` starts it."""
    from playground.management.commands import up

    children = [up.web_server("127.0.0.1", port)] + [up.worker(None)] * with_worker
    for child in children:
        child.keep()
    try:
        until(lambda: up.answers("127.0.0.1", port), 60)
        yield psutil.Process(children[0].pid)
    finally:
        for child in children:
            asked = psutil.Process(child.pid)
            asked.terminate()
            asked.wait(20)


def until(is_so: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.1)


# --- Processor time -----------------------------------------------------------------------------------
def spent(processes: list[psutil.Process]) -> float:
    total = 0.0
    for process in processes:
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.NoSuchProcess:
            continue
    return total


def web(server: psutil.Process) -> list[psutil.Process]:
    return [server, *server.children(recursive=True)]


def backends() -> list[psutil.Process]:
    """PostgreSQL's, of our database."""
    from django.db import connection

    name = str(connection.settings_dict["NAME"])
    found = [process for process in psutil.process_iter(["name", "cmdline"])
             if process.info["name"] == "postgres" and name in " ".join(process.info["cmdline"] or ()).split()]  # fmt: skip
    return found if connection.vendor == "postgresql" else []


# --- What is asked ------------------------------------------------------------------------------------
def calls(port: int, made: list[tuple[str, str]]) -> dict[str, list[bytes]]:
    """Each kind with one request for every account."""
    host = f"127.0.0.1:{port}"
    body = json.dumps(ASKED).encode()
    kinds: dict[str, list[bytes]] = defaultdict(list)
    for text, done in made:
        who = {"Authorization": f"Bearer {text}"}
        kinds["plain"].append(load.request("POST", "/bench/plain/", host, who, body))
        kinds["plain api"].append(load.request("POST", "/api/bench/plain", host, who, body))
        create, record = "/api/v1/jobs/createTask", "/api/v1/jobs/recordInfo?taskId="
        once = {**who, "Idempotency-Key": ONCE.decode()}
        kinds["once"].append(load.request("POST", create, host, once, body))
        kinds["create"].append(load.request("POST", create, host, who, body))
        heard = load.ask(port, kinds["create"][-1:], 1, 0.01)
        waiting = json.loads(heard.bodies[0])["data"]["taskId"]
        kinds["waiting"].append(load.request("GET", record + waiting, host, who))
        kinds["done"].append(load.request("GET", record + done, host, who))
    return kinds


def measured(server: psutil.Process, pool: Any, *asked: Any) -> Slice:
    before = spent(web(server)), spent(backends())
    heard = pool.submit(load.ask, *asked).result()
    after = spent(web(server)), spent(backends())
    return Slice(heard, after[0] - before[0], after[1] - before[1])


def round_about(
    server: psutil.Process, pool: Any, port: int, kinds: dict[str, list[bytes]], clients: int, given: Any
) -> dict[str, list[Slice]]:
    slices: dict[str, list[Slice]] = defaultdict(list)
    for requests in kinds.values():  # warm-up
        pool.submit(load.ask, port, requests, clients, 0.5).result()
    for _ in range(given.rounds):
        for kind, requests in kinds.items():
            asked = (port, requests, clients, given.seconds / given.rounds)
            slices[kind].append(measured(server, pool, *asked))
    return slices


# --- The table ----------------------------------------------------------------------------------------
def told(clients: int, slices: dict[str, list[Slice]]) -> None:
    print(f"{clients} client{'s' if clients > 1 else ''}   calls/s  of plain     p50     p99     max  errors"
          "   CPU web  database  of plain")  # fmt: skip
    plain = slices[REFERENCE]
    for kind, parts in slices.items():
        heard = sum((part.heard for part in parts), Heard())
        took = sorted(1000 * one for one in heard.took)
        ratio = statistics.median(mine.rate / its.rate for mine, its in zip(parts, plain, strict=True))
        (web_ms, database_ms), costs = cost(parts), sum(cost(plain)) / sum(cost(parts))
        bound = f"  (aim {BOUNDS[kind]})" if kind in BOUNDS else ""
        print(f"  {kind:9} {len(took) / heard.seconds:8.0f} {ratio:8.2f}x {took[len(took) // 2]:7.1f}"
              f" {took[int(len(took) * 0.99)]:7.1f} {took[-1]:7.1f} {heard.errors:6}  {web_ms:6.2f} ms"
              f" {database_ms:6.2f} ms {costs:6.2f}x{bound}", flush=True)  # fmt: skip
        if heard.errors:
            print(f"            {dict(heard.statuses)} {heard.bodies[-1][:300]!r}")


def cost(parts: list[Slice]) -> tuple[float, float]:
    """Milliseconds of processor time a call, web server and database."""
    number = sum(len(part.heard.took) for part in parts)
    return (
        1000 * sum(part.web_s for part in parts) / number,
        1000 * sum(part.database_s for part in parts) / number,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 16, 64])
    parser.add_argument("--kinds", nargs="*", default=[], help="only these, beside plain")
    parser.add_argument("--accounts", type=int, default=8, help="with a key each (8); 1: all at one wallet")
    parser.add_argument("--seconds", type=float, default=6, help="for each kind and number of clients")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, help="WEB_THREADS")
    parser.add_argument("--alone", action="store_true", help="one web process without Redis")
    parser.add_argument("--worker", action="store_true", help="with a worker that makes the pictures")
    parser.add_argument("--redis", default="redis://127.0.0.1:6379/9")
    parser.add_argument("--port", type=int, default=8200)
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool,
    ):
        settle(folder, given)
        made = people(given.accounts)
        with house(given.port, given.worker) as server:
            kinds = calls(given.port, made)
            wanted = {kind: kinds[kind] for kind in kinds if kind in ("plain", *(given.kinds or kinds))}
            for clients in given.clients:
                told(clients, round_about(server, pool, given.port, wanted, clients, given))
        from playground import upkeep

        print(
            f"audit: {upkeep.audit(with_files=False) or 'clean'}; load of the machine {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    main()
