"""The same file from many requests at once, the last place in a quota, and removal against use; on both databases."""

import io
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command
from django.utils import timezone

from accounts import ledger
from accounts.models import User
from playground import catalog, jobs, orders, upkeep, uploads
from playground.models import Run, Upload
from tests.making import EDIT
from tests.pictures import photo
from tests.racing import Outcome, Track

RUNNERS = 12
ALICE = "alice@example.org"

pytestmark = [pytest.mark.kills, pytest.mark.races]


@pytest.fixture
def track(warm_track: Track) -> Iterator[Track]:
    warm_track.clear()
    warm_track.alone(sign_up)
    yield warm_track
    assert warm_track.alone(unsound) == []


def ends(outcomes: list[Outcome]) -> Counter[object]:
    return Counter(outcome.error or outcome.value for outcome in outcomes)


# --- What the runners do (in their own processes) -----------------------------------------------------
def sign_up() -> None:
    alice = User.objects.create_user(ALICE)
    ledger.grant(alice, 50_000_000, business_id="race", memo="")
    call_command("load_catalog", verbosity=0, stdout=io.StringIO())


def alice() -> User:
    return User.objects.get(email=ALICE)


def unsound() -> list[Any]:
    """What the audit finds, and files that no row knows of."""
    keys = set(Upload.objects.stored().values_list("key", flat=True))
    root = Path(settings.MEDIA_ROOT)
    folders = {str(file.parent.relative_to(root)) for file in root.rglob("original.*")}
    lost = [f"no row for {folder}" for folder in folders - keys]
    for folder in folders:  # the next race starts with an empty database
        for file in (root / folder).iterdir():
            file.unlink()
        (root / folder).rmdir()
    missing = [f"no file for {key}" for key in keys - folders]
    return [*lost, *missing, *upkeep.audit(with_files=False)]


def take(colour: str) -> str:
    """Without the turns that an account's uploads take: they are in the cache, which may be lost, and rows decide."""
    uploads._alone = lambda user: nullcontext()  # type: ignore[assignment]
    return str(uploads.take(alice(), photo(colour)).pk)


def take_one_of(colour: str, most: int) -> str:
    settings.UPLOADS_PER_ACCOUNT = most
    take(colour)
    return "taken"


def age() -> None:
    Upload.objects.update(last_used=timezone.now() - uploads.UNUSED_FOR - timedelta(hours=1))


def sweep() -> str:
    return f"swept {uploads.remove_unused()}"


def remove(pk: str) -> str:
    uploads.remove(Upload(pk=pk))
    return "removed"


def order(pk: str) -> str:
    orders.submit_run(
        alice(), prompt="a fox in the snow", variants=catalog.by_slugs([EDIT]), aspect_ratio="auto", count=1, seed=None,
        pay="credits", nonce=os.urandom(8).hex(), inputs=[Upload.objects.get(pk=pk)],
    )  # fmt: skip
    return "ordered"


def run_and_count(call: str, *arguments: str) -> str:
    return {"order": order, "sweep": sweep, "remove": remove, "take": take}[call](*arguments)


def state() -> tuple[int, int, int]:
    return Upload.objects.count(), Upload.objects.stored().count(), Run.objects.count()


# --- Races --------------------------------------------------------------------------------------------
def test_one_file_from_many_requests_is_one_upload(track: Track) -> None:
    outcomes = track.race(take, [("red",)] * RUNNERS)
    assert len(ends(outcomes)) == 1 and not any(outcome.error for outcome in outcomes), ends(outcomes)
    assert track.alone(state) == (1, 1, 0)


def test_many_files_get_no_more_places_than_there_are(track: Track) -> None:
    outcomes = track.race(take_one_of, [(f"rgb({n * 20},0,90)", 5) for n in range(RUNNERS)])
    assert ends(outcomes) == {"taken": 5, "QuotaReached": RUNNERS - 5}
    assert track.alone(state) == (5, 5, 0)


@pytest.mark.parametrize("rival", ["sweep", "remove"])
def test_whoever_removes_and_whoever_uses_do_not_cross(track: Track, rival: str) -> None:
    """Either the run has its input, file and all, or it was refused; never a run without one."""
    for _ in range(4):
        pk = track.alone(take, "blue")
        track.alone(age)
        calls = [("order", pk)] * 3 + [(rival, *([pk] if rival == "remove" else []))] * 3
        found = ends(track.race(run_and_count, calls))
        assert set(found) <= {
            "ordered",
            "NotPossible",
            "DoesNotExist",
            "removed",
            "InUse",
            "swept 0",
            "swept 1",
        }
        assert (
            found["ordered"] in (0, 3) or found["ordered"] + found["NotPossible"] + found["DoesNotExist"] == 3
        )
        kept = track.alone(state)[1]
        assert kept == (1 if found["ordered"] else 0), found
        track.alone(finish)


def finish() -> None:
    """Makes room for another race with the same file."""
    for run in Run.objects.all():
        for job in run.jobs.all():
            jobs.cancel(job, by=alice())
    for upload in Upload.objects.stored():
        uploads.remove(upload)


def test_a_file_that_comes_while_it_is_swept_is_there_afterwards(track: Track) -> None:
    for _ in range(4):
        track.alone(take, "lime")
        track.alone(age)
        outcomes = track.race(run_and_count, [("take", "lime")] * 3 + [("sweep",)] * 3)
        assert not any(outcome.error for outcome in outcomes), ends(outcomes)
        assert track.alone(state)[:2] == (1, 1)
