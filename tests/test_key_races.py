"""Many processes at once want a key, or spend through one; each race on SQLite and on PostgreSQL."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db import transaction
from django.utils import timezone

from accounts import keys, ledger
from accounts.models import ApiKey, CapWindow, User
from tests.racing import Outcome, Track

RUNNERS = 50
PRICE = 35_000

pytestmark = [pytest.mark.kills, pytest.mark.races]


def ends(outcomes: list[Outcome]) -> Counter[object]:
    return Counter(outcome.error or outcome.value for outcome in outcomes)


# --- What the runners do (in their own processes) -----------------------------------------------------
def sign_up(*stops: dict[str, int | None]) -> list[int]:
    """Alice, with a key for each of the caps."""
    alice = User.objects.create_user("alice@example.org")
    ledger.grant(alice, 1000 * PRICE, business_id="grant", memo="To race with")
    return [keys.make(alice, f"key {n}", stops=each)[0].pk for n, each in enumerate(stops)]


def make(once: str) -> str:
    keys.make(User.objects.get(), "Robot", once=once)
    return "made"


def rotate(key_id: int) -> str:
    keys.rotate(ApiKey.objects.get(pk=key_id), overlap=timedelta(days=1))
    return "rotated"


def hold(key_id: int, name: str) -> str:
    key = ApiKey.objects.select_related("user").get(pk=key_id)
    limits = ledger.account_limits(key.user, PRICE, key)
    try:
        with transaction.atomic():
            ledger.hold(ledger.wallet_of(key.user), [ledger.Promise(name, PRICE, "Picture")], limits)
    except ledger.CapReached as reached:
        return f"{reached.window} of key" if reached.is_of_key else reached.window
    return "held"


def working() -> int:
    return ApiKey.objects.working(timezone.now()).count()


def used_by(key_id: int) -> dict[str, int]:
    rows = CapWindow.objects.filter(subject=ledger.spending_by(ApiKey.objects.get(pk=key_id)))
    return {row.window: row.reserved + row.spent for row in rows}


# --- The races ----------------------------------------------------------------------------------------
def test_50_forms_make_20_keys(track: Track) -> None:
    track.alone(sign_up)
    assert ends(track.race(make, [(f"form {n}",) for n in range(RUNNERS)])) == {"made": 20, "TooMany": 30}
    assert track.alone(working) == 20


def test_50_clicks_on_one_form_make_one_key(track: Track) -> None:
    track.alone(sign_up)
    assert ends(track.race(make, [("form",)] * RUNNERS)) == {"made": 1, "AlreadyMade": 49}


def test_a_key_is_rotated_once_by_20_clicks(track: Track) -> None:
    [key_id] = track.alone(sign_up, {})
    assert ends(track.race(rotate, [(key_id,)] * 20)) == {"rotated": 1, "AlreadyMade": 19}
    assert track.alone(working) == 2


def test_50_holds_through_three_keys_stop_at_each_keys_day_and_total(track: Track) -> None:
    caps: list[dict[str, int | None]] = [{"day": 8 * PRICE - 1}, {"total": 5 * PRICE}, {"day": 9 * PRICE, "total": 3 * PRICE}]  # fmt: skip
    key_ids = track.alone(sign_up, *caps)
    calls = [(key_ids[n % 3], f"job:{n}") for n in range(RUNNERS)]
    outcomes = track.race(hold, calls)
    by_key = [ends(outcomes[first::3]) for first in range(3)]
    assert by_key == [
        {"held": 7, "day of key": 10},
        {"held": 5, "total of key": 12},
        {"held": 3, "total of key": 13},
    ]
    for key_id, most in zip(key_ids, (7, 5, 3), strict=True):
        assert track.alone(used_by, key_id) == dict.fromkeys(("day", "month", "total"), most * PRICE)
