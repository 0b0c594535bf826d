"""A disk that is nearly full takes no new jobs; what runs already has room to end."""

import os
from types import SimpleNamespace
from typing import Any

import pytest
from django.test import Client

from accounts import ledger
from accounts.models import User
from playground import images, jobs, orders
from playground.images import files
from playground.models import Job, Run
from tests.making import PRO, USD, give, job_for, leased, load_catalogue

FULL = "disk is nearly full; nothing was made and nothing charged"


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch, settings: Any) -> SimpleNamespace:
    """A disk of blocks of 1 MB, of which 499 are free for us, asked anew each time."""
    disk = SimpleNamespace(f_bavail=499, f_bfree=10_000, f_frsize=1_000_000, f_bsize=4_096, asked=0)

    def statvfs(path: object) -> SimpleNamespace:
        disk.asked += 1
        return disk

    monkeypatch.setattr(os, "statvfs", statvfs)
    monkeypatch.setattr(files, "SPACE_KNOWN_FOR_S", 0.0)
    settings.MIN_FREE_BYTES = 500_000_000
    return disk


def order(user: User) -> Any:
    load_catalogue()
    client = Client()
    client.force_login(user)
    asked = {"prompt": "a fox", "variants": PRO, "aspect_ratio": "1:1", "count": 1, "pay": "credits"}
    return client.post("/runs/", asked | {"nonce": "n" * 32})


def test_alice_orders_nothing_from_a_full_disk_and_is_told_so(alice: User, disk: SimpleNamespace) -> None:
    give(alice)
    page = order(alice)
    assert page.status_code == 422 and FULL in page.content.decode().replace("&#x27;", "'")
    assert not Run.objects.exists() and ledger.wallet_of(alice).available == 10 * USD


def test_she_can_as_soon_as_there_is_room(alice: User, disk: SimpleNamespace) -> None:
    give(alice)
    disk.f_bavail = 500
    assert order(alice).status_code == 303
    assert Job.objects.count() == 1


def test_a_failed_job_is_not_tried_again_on_a_full_disk(alice: User, disk: SimpleNamespace) -> None:
    give(alice)
    disk.f_bavail = 500
    job = leased(job_for(alice))
    assert jobs.fail(job, "no_picture", may_have_cost=False)
    job.refresh_from_db()
    disk.f_bavail = 0
    with pytest.raises(orders.NotPossible, match=FULL):
        orders.retry(job)
    assert ledger.wallet_of(alice).available == 10 * USD


def test_the_disk_is_asked_once_in_two_seconds(
    disk: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "SPACE_KNOWN_FOR_S", 2.0)
    assert [images.has_space() for _ in range(100)] == [False] * 100
    assert disk.asked == 1


def test_a_disk_that_does_not_answer_takes_nothing(disk: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "statvfs", fails)
    assert not images.has_space()


def test_the_server_stays_up_and_says_what_is_wrong(db: None, disk: SimpleNamespace) -> None:
    answer = Client().get("/healthz")
    assert (answer.status_code, answer.content) == (
        200,
        b"ok, but the disk is nearly full: new jobs are refused\n",
    )
    disk.f_bavail = 500
    assert Client().get("/healthz").content == b"ok\n"
