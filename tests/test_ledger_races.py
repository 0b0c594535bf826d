"""Fifty real processes at once want what is there for a few; each race on SQLite and on PostgreSQL."""

import random
import time
from collections import Counter

import pytest
from django.conf import settings
from django.db import transaction
from django.db.models import F

from accounts import ledger
from accounts.models import Cap, CapWindow, Hold, Transfer, User, Wallet
from tests.racing import Outcome, Track

RUNNERS = 50
PRICE = 35_000

pytestmark = [pytest.mark.kills, pytest.mark.races]


def ends(outcomes: list[Outcome]) -> Counter[object]:
    """How often each thing was returned or raised."""
    return Counter(outcome.error or outcome.value for outcome in outcomes)


# --- What the runners do (in their own processes) -----------------------------------------------------
def sign_up(address: str, micros: int = 0, cap: int | None = None) -> None:
    user = User.objects.create_user(address)
    ledger.wallet_of(user)
    if micros:
        ledger.grant(user, micros, business_id=f"grant:{user.pk}", memo="To race with")
    if cap is not None:
        Cap.objects.create(user=user, window=Cap.Window.DAY, limit=cap)


def hold(address: str, name: str) -> int:
    user = User.objects.get(email=address)
    with transaction.atomic():
        limits = ledger.account_limits(user, PRICE)
        [held] = ledger.hold(ledger.wallet_of(user), [ledger.Promise(name, PRICE, "Picture")], limits)
    return held.pk


def try_to_hold(address: str, name: str) -> str:
    try:
        hold(address, name)
    except ledger.Refusal as refusal:
        return refusal.code
    return "held"


def hold_after_a_look(address: str, name: str, cap: int) -> str:
    """How not to do it: looks whether the cap has room, does what a view does in between, and holds."""
    user = User.objects.get(email=address)
    seen_today = ledger.usage(f"user:{user.pk}/usd", Cap.Window.DAY)
    if seen_today.spent + seen_today.reserved + PRICE > cap:
        return "cap_reached"
    time.sleep(0.02)
    hold(address, name)
    return "held"


def capture(hold_id: int) -> str:
    done = ledger.capture(hold_id, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)
    return "captured" if done else "too late"


def release(hold_id: int) -> str:
    return "released" if ledger.release(hold_id) else "too late"


def close(hold_id: int, is_capture: bool) -> str:
    return capture(hold_id) if is_capture else release(hold_id)


def come_in(address: str) -> bool | str:
    """Signs up, and is welcomed."""
    try:
        return ledger.grant_signup(User.objects.create_user(address))
    except ledger.CapReached as reached:
        return reached.code


def be_welcomed(address: str) -> bool:
    return ledger.grant_signup(User.objects.get(email=address))


def live(seed: int, people: list[str], steps: int) -> Counter[str]:
    """Holds, captures and releases anything of anybody, as it comes."""
    chance, did = random.Random(seed), Counter[str]()
    for step in range(steps):
        address = chance.choice(people)
        match chance.choice(["hold", "hold", "capture", "release", "preview"]):
            case "hold":
                did[try_to_hold(address, f"{seed}:{step}")] += 1
            case "preview":
                did[preview(address, f"{seed}:{step}")] += 1
            case close_how:
                open_ones = list(Hold.objects.filter(state="open").values_list("pk", flat=True)[:20])
                if open_ones:
                    did[close(chance.choice(open_ones), close_how == "capture")] += 1
    return did


def preview(address: str, name: str) -> str:
    user = User.objects.get(email=address)
    promises = [ledger.Promise(f"{name}:{ordinal}", PRICE, "Preview") for ordinal in range(2)]
    try:
        ledger.hold(ledger.house(Wallet.House.PREVIEW), promises, ledger.preview_limits(user, PRICE))
    except ledger.CapReached as reached:
        return reached.code
    return "previews"


def money(address: str) -> tuple[int, int]:
    return Wallet.objects.values_list("posted", "held").get(user__email=address)


def seen(window: str) -> list[int]:
    rows = CapWindow.objects.filter(window=window, subject__endswith="/usd")
    return list(rows.annotate(used=F("spent") + F("reserved")).values_list("used", flat=True))


def come_in_on_a_budget(address: str, people: int) -> bool | str:
    settings.SIGNUP_BUDGET_MICROS_PER_DAY = people * settings.SIGNUP_GRANT_MICROS + 1
    return come_in(address)


# --- The races ----------------------------------------------------------------------------------------
def test_a_wallet_for_20_pictures_pays_for_20(track: Track) -> None:
    track.alone(sign_up, "alice@example.org", 20 * PRICE)
    outcomes = track.race(try_to_hold, [("alice@example.org", f"job:{n}") for n in range(RUNNERS)])
    assert ends(outcomes) == {"held": 20, "insufficient_credits": 30}
    assert track.alone(money, "alice@example.org") == (20 * PRICE, 20 * PRICE)


def test_a_day_cap_for_20_pictures_lets_20_through(track: Track) -> None:
    track.alone(sign_up, "alice@example.org", 1000 * PRICE, 21 * PRICE - 1)
    outcomes = track.race(try_to_hold, [("alice@example.org", f"job:{n}") for n in range(RUNNERS)])
    assert ends(outcomes) == {"held": 20, "cap_reached": 30}
    assert track.alone(seen, "day") == [20 * PRICE]


def test_a_look_before_the_write_overspends_in_the_same_race(track: Track) -> None:
    """Proof that these races can be lost."""
    track.alone(sign_up, "alice@example.org", 1000 * PRICE)
    calls = [("alice@example.org", f"job:{n}", 20 * PRICE) for n in range(RUNNERS)]
    assert ends(track.race(hold_after_a_look, calls))["held"] > 20
    assert track.alone(seen, "day")[0] > 20 * PRICE


def test_one_of_50_captures_takes_the_money(track: Track) -> None:
    track.alone(sign_up, "alice@example.org", 2 * PRICE)
    hold_id = track.alone(hold, "alice@example.org", "job:1")
    assert ends(track.race(capture, [(hold_id,)] * RUNNERS)) == {"captured": 1, "too late": 49}
    assert track.alone(money, "alice@example.org") == (PRICE, 0)


def test_either_the_capture_or_the_release_wins(track: Track) -> None:
    track.alone(sign_up, "alice@example.org", 2 * PRICE)
    hold_id = track.alone(hold, "alice@example.org", "job:1")
    outcomes = track.race(close, [(hold_id, bool(n % 2)) for n in range(RUNNERS)])
    assert ends(outcomes)["too late"] == 49
    left = {"captured": PRICE, "released": 2 * PRICE}
    [winner] = ends(outcomes).keys() - {"too late"}
    assert track.alone(money, "alice@example.org") == (left[str(winner)], 0)


def test_a_job_that_is_sent_50_times_is_held_once(track: Track) -> None:
    track.alone(sign_up, "alice@example.org", 1000 * PRICE)
    outcomes = track.race(try_to_hold, [("alice@example.org", "job:1")] * RUNNERS)
    assert ends(outcomes) == {"held": 1, "IntegrityError": 49}


def test_a_budget_for_7_welcomes_gives_7(track: Track) -> None:
    calls = [(f"p{n}@example.org", 7) for n in range(RUNNERS)]
    assert ends(track.race(come_in_on_a_budget, calls)) == {True: 7, "cap_reached": 43}


def test_50_spellings_of_one_address_are_one_person(track: Track) -> None:
    outcomes = track.race(come_in, [(f"Alice+{n}@gmail.com",) for n in range(RUNNERS)])
    assert ends(outcomes) == {True: 1, "IntegrityError": 49}


def test_one_account_is_welcomed_once(track: Track) -> None:
    track.alone(sign_up, "alice@example.org")
    outcomes = track.race(be_welcomed, [("alice@example.org",)] * RUNNERS)
    assert ends(outcomes) == {True: 1, False: 49}


def test_fifty_lives_at_once_leave_clean_books(track: Track) -> None:
    people = [f"p{n}@example.org" for n in range(5)]
    for address in people:
        track.alone(sign_up, address, 40 * PRICE, 30 * PRICE)
    outcomes = track.race(live, [(seed, people, 10) for seed in range(RUNNERS)])
    assert [outcome.message for outcome in outcomes if outcome.error] == []
    did: Counter[str] = sum((outcome.value for outcome in outcomes), Counter())
    assert min(did[word] for word in ("held", "captured", "released", "previews", "cap_reached")) > 0
    assert max(track.alone(seen, "day")) <= max(30 * PRICE, settings.PREVIEW_BUDGET_MICROS_PER_DAY)
