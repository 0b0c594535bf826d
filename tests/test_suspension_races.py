"""Staff keep somebody out at the very moment when they close their account; on SQLite and on PostgreSQL."""

import pytest
from django.db import transaction

from accounts import erasure, suspension, trail
from accounts.models import User
from tests.racing import Track

pytestmark = [pytest.mark.kills, pytest.mark.races]
PEOPLE = 20


def people() -> None:
    User.objects.create_superuser("boss@example.org")
    for number in range(PEOPLE):
        User.objects.create_user(f"alice{number}@example.org")


def shut(what: str, number: int) -> str:
    user = User.objects.get(email=f"alice{number}@example.org")
    if what == "close":
        erasure.close(user)
        return what
    with transaction.atomic():  # as the desk does it
        suspension.suspend(user, "spam")
        trail.log(User.objects.get(is_superuser=True), user, "Suspended: spam")
    return what


def closed() -> int:
    return User.objects.filter(is_active=False, deleted__isnull=False).count()


def test_who_suspends_and_who_leaves_wait_in_no_circle(track: Track) -> None:
    track.alone(people)
    both = [(what, number) for number in range(PEOPLE) for what in ("close", "suspend")]
    outcomes = track.race(shut, both)
    assert not [outcome for outcome in outcomes if outcome.error]
    assert track.alone(closed) == PEOPLE
