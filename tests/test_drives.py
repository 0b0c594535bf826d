"""Which drives are alive, and when another is asked for."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone
from django_q.models import OrmQ
from django_q.tasks import async_task

from accounts import ledger
from accounts.models import User
from playground import drives
from playground.models import DriveBeat, Job
from tests.making import job_for

pytestmark = pytest.mark.django_db


def beats(owner: str, ago: float = 0, **fields: Any) -> DriveBeat:
    return DriveBeat.objects.create(owner=owner, at=timezone.now() - timedelta(seconds=ago), **fields)


def owners() -> set[str]:
    return set(DriveBeat.objects.values_list("owner", flat=True))


def asked() -> list[str]:
    return [row.func() for row in OrmQ.objects.all()]


def take_all() -> None:
    """What the queue does when a worker takes a task."""
    OrmQ.objects.update(lock=timezone.now() + timedelta(seconds=600))


DRIVE = "playground.tasks.drive"


# --- Who is alive -------------------------------------------------------------------------------------
def test_alive_is_who_beat_within_four_seconds_and_means_to_go_on() -> None:
    beats("now"), beats("just", ago=3.5), beats("silent", ago=4.5), beats("ending", is_ending=True)
    assert {drive.owner for drive in drives.alive()} == {"now", "just"}


def test_a_beat_makes_a_silent_drive_alive_again_and_tells_its_load() -> None:
    beats("one", ago=60), beats("two", ago=60)
    assert not drives.beat("one", 7)
    assert [(drive.owner, drive.in_flight) for drive in drives.alive()] == [("one", 7)]


def test_a_drive_hears_that_it_should_stop_also_when_it_was_cleared_away() -> None:
    beats("asked", stop_asked=True), beats("other")
    assert drives.beat("asked", 0) and drives.beat("cleared away", 0)
    assert not drives.beat("other", 0)
    assert owners() == {"asked", "other"}


# --- Asking for one -----------------------------------------------------------------------------------
def test_where_no_drive_is_alive_one_is_asked_for() -> None:
    beats("silent", ago=5), beats("ending", is_ending=True)
    assert drives.ensure()
    assert asked() == [DRIVE]


def test_a_living_drive_is_enough() -> None:
    beats("one")
    assert not drives.ensure() and asked() == []


def test_as_many_are_asked_for_as_there_should_be(settings: Any) -> None:
    settings.ENGINE_WORKERS = 2
    beats("one")
    assert drives.ensure() and asked() == [DRIVE]
    take_all()
    beats("two")
    assert not drives.ensure()


def test_what_waits_in_the_queue_prevents_a_second() -> None:
    assert drives.ensure()
    assert [drives.ensure() for _ in range(10)] == [False] * 10
    assert asked() == [DRIVE]


def test_a_task_that_was_taken_and_came_to_nothing_prevents_none() -> None:
    assert drives.ensure()
    take_all()
    assert drives.ensure()
    assert asked() == [DRIVE, DRIVE]


def test_a_task_whose_worker_died_long_ago_is_on_its_way_again() -> None:
    async_task(DRIVE)
    OrmQ.objects.update(lock=timezone.now() - timedelta(seconds=1))
    assert not drives.ensure()


def test_asking_in_a_transaction_that_is_rolled_back_leaves_nothing_in_the_queue() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        assert drives.ensure() and asked() == [DRIVE]
        raise ZeroDivisionError
    assert asked() == []
    assert drives.ensure()


def test_a_run_asks_for_a_drive_and_a_refused_one_does_not(alice: User) -> None:
    with pytest.raises(ledger.NotEnoughCredit):
        job_for(alice)
    assert asked() == [] and not Job.objects.exists()
    job_for(alice, pay="preview")
    assert asked() == [DRIVE]


# --- Coming and going ---------------------------------------------------------------------------------
def test_one_too_many_does_not_join(settings: Any) -> None:
    settings.ENGINE_WORKERS = 2
    assert drives.join("one") and drives.join("two") and not drives.join("three")
    assert owners() == {"one", "two"}
    assert set(DriveBeat.objects.values_list("host", flat=True)) == {drives.HOST}


def test_the_place_of_a_silent_drive_is_free() -> None:
    beats("silent", ago=5)
    assert drives.join("new")


def test_a_drive_that_hands_over_makes_room_and_asks_for_its_successor() -> None:
    assert drives.join("old")
    drives.hand_over("old")
    assert asked() == [DRIVE] and not drives.alive().exists()
    assert drives.join("new")
    assert {drive.owner for drive in drives.alive()} == {"new"} and owners() == {"old", "new"}
    drives.leave("old")
    assert owners() == {"new"}


def test_handing_over_says_nothing_about_the_others(settings: Any) -> None:
    settings.ENGINE_WORKERS = 2
    assert drives.join("one") and drives.join("two")
    drives.hand_over("one")
    assert {drive.owner for drive in drives.alive()} == {"two"}


def test_only_the_drives_of_this_machine_are_asked_to_stop() -> None:
    (
        beats("here", host=drives.HOST),
        beats("silent here", ago=60, host=drives.HOST),
        beats("there", host="there"),
    )
    drives.ask_to_stop()
    assert set(DriveBeat.objects.filter(stop_asked=True).values_list("owner", flat=True)) == {
        "here",
        "silent here",
    }


def test_what_killed_drives_left_is_forgotten_after_two_minutes() -> None:
    beats("now"), beats("silent", ago=110), beats("dead", ago=130)
    drives.forget_dead()
    assert owners() == {"now", "silent"}
