"""How many holds and captures a second, beside a bare INSERT of one row, which is what the database can do at best.

    uv run python -m tests.benchmarks.ledger [seconds] [address of a PostgreSQL server]

Each cycle is two transactions, as for a picture: hold within a day and a month cap, then capture to the house.
`hot`: all processes spend from one account; `cold`: each has its own (the house's wallet is shared all the same).
"""

import importlib
import math
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import django
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "playground.settings")
django.setup()

from accounts import ledger  # noqa: E402
from accounts.audit import audit  # noqa: E402
from accounts.models import Cap, CapWindow, Transfer, User, Wallet  # noqa: E402
from tests.racing import Track, track_on  # noqa: E402

PRICE = 35_000
POSTGRES = "postgresql://postgres@127.0.0.1:5432/postgres"


def sign_up(address: str) -> None:
    user = User.objects.create_user(address)
    ledger.grant(user, 10**12, business_id=f"grant:{user.pk}", memo="For the benchmark")
    for window in (Cap.Window.DAY, Cap.Window.MONTH):
        Cap.objects.create(user=user, window=window, limit=10**12)


def pictures(address: str, seconds: float) -> list[float]:
    """Buys pictures for so long; returns how many seconds each one's hold and capture took together."""
    user = User.objects.get(email=address)
    return _repeat(lambda: _picture(user), seconds)


def _picture(user: User) -> None:
    with transaction.atomic():
        wallet, limits = ledger.wallet_of(user), ledger.account_limits(user, PRICE)
        [held] = ledger.hold(wallet, [ledger.Promise(uuid.uuid4().hex, PRICE, "Picture")], limits)
    with transaction.atomic():
        ledger.capture(held.pk, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)


def inserts(_: str, seconds: float) -> list[float]:
    today = ledger.window_start(Cap.Window.DAY, timezone.now())
    return _repeat(
        lambda: CapWindow.objects.create(subject=uuid.uuid4().hex, window="bare", starts=today), seconds
    )


def _repeat(work: Callable[[], object], seconds: float) -> list[float]:
    took, end = [], time.perf_counter() + seconds
    while (began := time.perf_counter()) < end:
        work()
        took.append(time.perf_counter() - began)
    return took


def statements(address: str) -> tuple[int, int]:
    """Of a hold and of a capture, savepoints and look-ups of the caller included, once the windows exist."""
    user = User.objects.get(email=address)
    _picture(user)
    with CaptureQueriesContext(connection) as holding, transaction.atomic():
        wallet, limits = ledger.wallet_of(user), ledger.account_limits(user, PRICE)
        [held] = ledger.hold(wallet, [ledger.Promise(uuid.uuid4().hex, PRICE, "Picture")], limits)
    with CaptureQueriesContext(connection) as capturing, transaction.atomic():
        ledger.capture(held.pk, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)
    return len(holding), len(capturing)


def measure(track: Track, vendor: str, seconds: float) -> None:
    track.clear()
    addresses = [f"p{number}@example.org" for number in range(8)]
    for address in addresses:
        track.alone(sign_up, address)
    held, captured = track.alone(statements, addresses[0])
    print(
        f"{vendor}: {held} statements for a hold, {captured} for a capture (BEGIN, COMMIT, savepoints included)"
    )
    for name, work, people in [
        ("bare INSERT", inserts, addresses),
        ("hold + capture, hot", pictures, addresses[:1] * 8),
        ("hold + capture, cold", pictures, addresses),
    ]:
        for processes in (1, 8):
            _report(track, f"{vendor:9} {name:21} {processes} processes", work, people[:processes], seconds)
    assert track.alone(audit) == []


def _report(
    track: Track, name: str, work: Callable[..., list[float]], people: list[str], seconds: float
) -> None:
    outcomes = track.race(work, [(address, seconds) for address in people])
    assert not any(outcome.error for outcome in outcomes), outcomes
    took = sorted(lap for outcome in outcomes for lap in outcome.value)
    p50, p99 = (took[math.ceil(len(took) * share) - 1] * 1000 for share in (0.5, 0.99))
    print(f"{name}  {len(took) / seconds:7.0f}/s   p50 {p50:7.1f} ms   p99 {p99:7.1f} ms", flush=True)


def main(seconds: float = 3, postgres: str = POSTGRES) -> None:
    for vendor in ("sqlite", "postgres"):
        with (
            tempfile.TemporaryDirectory() as folder,
            track_on(vendor, Path(folder), postgres=postgres) as track,
        ):
            measure(track, vendor, seconds)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    module = importlib.import_module(
        "tests.benchmarks.ledger"
    )  # runners must find its functions by this name
    module.main(*([float(arguments[0]), *arguments[1:]] if arguments else []))
