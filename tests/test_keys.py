import string
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from accounts import caps, keys, ledger
from accounts.models import ApiKey, Cap, CapWindow, Transfer, User, Wallet
from tests.making import USD, give

ALPHABET = string.digits + string.ascii_letters
NOON = datetime(2026, 11, 12, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def hold(user: User, key: ApiKey, micros: int, business_id: str) -> int:
    promise = ledger.Promise(business_id, micros, "a picture")
    limits = ledger.account_limits(user, micros, key)
    return ledger.hold(ledger.wallet_of(user), [promise], limits)[0].pk


def spend(user: User, key: ApiKey, micros: int, business_id: str) -> None:
    hold_id = hold(user, key, micros, business_id)
    ledger.capture(hold_id, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)


# --- Their text ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(("is_test", "prefix"), [(False, "sk-aig-"), (True, "sk-aig-test-")])
def test_a_key_is_its_prefix_and_38_characters_of_base_62(is_test: bool, prefix: str) -> None:
    text = keys.new_text(is_test=is_test)
    assert text.startswith(prefix)
    assert len(text.removeprefix(prefix)) == 38 and set(text.removeprefix(prefix)) <= set(ALPHABET)
    assert keys.is_well_formed(text)


@pytest.mark.once
@pytest.mark.parametrize("is_test", [False, True])
def test_every_typo_of_one_character_is_refused_without_a_query(
    db: None, django_assert_num_queries: Any, is_test: bool
) -> None:
    text = keys.new_text(is_test=is_test)
    typos = [text[:at] + wrong + text[at + 1 :] for at in range(len(text)) for wrong in ALPHABET + "-_ é"]
    typos += [text[:at] + text[at + 1 :] for at in range(len(text))]
    typos += [text[:at] + "x" + text[at:] for at in range(len(text) + 1)]
    with django_assert_num_queries(0):
        assert [typo for typo in typos if typo != text and keys.find(typo)] == []
        assert not any(keys.is_well_formed(typo) for typo in typos if typo != text)


@pytest.mark.parametrize(
    "text", ["", "sk-aig-", "sk-aig-" + "a" * 38, "Bearer", "\x00" * 45, "sk-aig-" + "é" * 38]
)
def test_what_was_never_a_key_is_refused_without_a_query(
    db: None, django_assert_num_queries: Any, text: str
) -> None:
    with django_assert_num_queries(0):
        assert keys.find(text) is None


def test_a_live_key_does_not_become_a_test_key_by_its_prefix() -> None:
    body = keys.new_text(is_test=False).removeprefix("sk-aig-")
    assert not keys.is_well_formed("sk-aig-test-" + body)


# --- Found again --------------------------------------------------------------------------------------
def test_only_the_digest_of_a_key_is_kept(alice: User) -> None:
    key, text = keys.make(alice, "Robot")
    row = ApiKey.objects.values().get()
    assert text not in map(str, row.values())
    assert (row["start"], row["last_four"]) == (text[:11], text[-4:])
    assert (key.shown, str(key)) == (f"{text[:11]}…{text[-4:]}", f"Robot ({text[:11]}…{text[-4:]})")


def test_a_key_is_found_with_its_owner_in_one_query(alice: User, django_assert_num_queries: Any) -> None:
    key, text = keys.make(alice, "Robot", is_test=True)
    with django_assert_num_queries(1):
        found = keys.find(text)
        assert found is not None and (found.pk, found.user, found.is_test) == (key.pk, alice, True)


def test_a_well_formed_stranger_is_not_found(alice: User) -> None:
    keys.make(alice, "Robot")
    assert keys.find(keys.new_text(is_test=False)) is None


def test_a_revoked_key_is_not_found(alice: User) -> None:
    key, text = keys.make(alice, "Robot")
    assert keys.revoke(key) and not keys.revoke(key)
    assert keys.find(text) is None


def test_a_key_is_found_until_the_moment_of_its_end(alice: User) -> None:
    _, text = keys.make(alice, "Robot", expires=NOON)
    assert keys.find(text, NOON - timedelta(microseconds=1)) is not None
    assert keys.find(text, NOON) is None


def test_the_keys_of_somebody_who_may_not_come_in_are_not_found(alice: User) -> None:
    _, text = keys.make(alice, "Robot")
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert keys.find(text) is None


def test_the_last_use_is_remembered_to_the_minute(alice: User, django_assert_num_queries: Any) -> None:
    key, _ = keys.make(alice, "Robot")
    keys.used(key, NOON)
    key.refresh_from_db()
    with django_assert_num_queries(0):
        keys.used(key, NOON + timedelta(seconds=59))
    keys.used(key, NOON + timedelta(minutes=1))
    key.refresh_from_db()
    assert key.last_used == NOON + timedelta(minutes=1)


# --- Made ---------------------------------------------------------------------------------------------
def test_twenty_keys_and_no_more(alice: User, bob: User) -> None:
    made = [keys.make(alice, f"key {n}")[0] for n in range(20)]
    with pytest.raises(keys.TooMany, match="20 working keys"):
        keys.make(alice, "one more")
    keys.make(bob, "his own")
    keys.revoke(made[0])
    keys.make(alice, "room again")


def test_keys_that_expired_leave_room(alice: User) -> None:
    for n in range(20):
        keys.make(alice, f"key {n}", expires=NOON)
    with time_machine.travel(NOON, tick=False):
        assert keys.has_room(alice)


def test_one_form_makes_one_key(alice: User, bob: User) -> None:
    key, _ = keys.make(alice, "Robot", once="form")
    with pytest.raises(keys.AlreadyMade) as again:
        keys.make(alice, "Robot", once="form")
    assert again.value.key == key
    keys.make(bob, "his own form of that name", once="form")
    assert ApiKey.objects.count() == 2


def test_a_form_that_made_a_key_says_so_even_when_the_twenty_are_full(alice: User) -> None:
    for n in range(20):
        keys.make(alice, f"key {n}", once=f"form {n}")
    with pytest.raises(keys.AlreadyMade):
        keys.make(alice, "key 19", once="form 19")


# --- Rotated ------------------------------------------------------------------------------------------
def test_both_work_for_the_overlap_and_then_only_the_new_one(alice: User) -> None:
    with time_machine.travel(NOON, tick=False):
        old, old_text = keys.make(alice, "Robot", stops={"day": 5 * USD}, is_test=True)
        new, new_text = keys.rotate(old, overlap=DAY)
    assert (new.name, new.is_test, new.expires, keys.stops_of(new)) == ("Robot", True, None, {"day": 5 * USD})
    before, after = NOON + DAY - timedelta(seconds=1), NOON + DAY
    assert [bool(keys.find(text, before)) for text in (old_text, new_text)] == [True, True]
    assert [bool(keys.find(text, after)) for text in (old_text, new_text)] == [False, True]


def test_without_overlap_the_old_one_ends_at_once(alice: User) -> None:
    old, old_text = keys.make(alice, "Robot")
    keys.rotate(old, overlap=timedelta(0))
    assert keys.find(old_text) is None


def test_an_overlap_goes_no_further_than_the_old_ones_own_end(alice: User) -> None:
    with time_machine.travel(NOON, tick=False):
        old, _ = keys.make(alice, "Robot", expires=NOON + DAY)
        new, _ = keys.rotate(old, overlap=7 * DAY)
    old.refresh_from_db()
    assert (old.expires, new.expires) == (NOON + DAY, NOON + DAY)


def test_a_key_is_rotated_once(alice: User) -> None:
    old, _ = keys.make(alice, "Robot")
    new, _ = keys.rotate(old, overlap=DAY)
    with pytest.raises(keys.AlreadyMade) as again:
        keys.rotate(old, overlap=DAY)
    assert again.value.key == new
    assert ApiKey.objects.count() == 2


def test_a_key_is_not_rotated_while_the_one_before_it_works(alice: User) -> None:
    """Or rotating would make more than twenty keys, without end."""
    first, _ = keys.make(alice, "Robot")
    second, _ = keys.rotate(first, overlap=DAY)
    with pytest.raises(keys.CannotRotate, match="still works"):
        keys.rotate(second, overlap=DAY)
    keys.revoke(first)
    third, _ = keys.rotate(second, overlap=DAY)
    assert third.origin == first


def test_an_ended_key_is_not_rotated(alice: User) -> None:
    key, _ = keys.make(alice, "Robot")
    keys.revoke(key)
    with pytest.raises(keys.CannotRotate, match="does not work any more"):
        keys.rotate(key, overlap=DAY)


def test_with_twenty_keys_each_can_still_be_rotated(alice: User) -> None:
    made = [keys.make(alice, f"key {n}")[0] for n in range(20)]
    for key in made:
        keys.rotate(key, overlap=DAY)
    assert not keys.has_room(alice)


def test_a_rotated_key_takes_no_room_in_its_overlap(alice: User) -> None:
    made = [keys.make(alice, f"key {n}")[0] for n in range(19)]
    keys.rotate(made[0], overlap=DAY)
    keys.make(alice, "the 20th")
    assert not keys.has_room(alice)


def test_a_rotated_key_keeps_its_room_where_the_one_that_replaced_it_is_revoked(alice: User) -> None:
    """Or rotating and revoking would leave more than twenty that work, without end."""
    made = [keys.make(alice, f"key {n}")[0] for n in range(20)]
    new, _ = keys.rotate(made[0], overlap=7 * DAY)
    keys.revoke(new)
    with pytest.raises(keys.TooMany):
        keys.make(alice, "the 21st")
    keys.revoke(made[0])
    keys.make(alice, "room again")


# --- Changed ------------------------------------------------------------------------------------------
def test_a_change_of_caps_counts_for_the_one_that_it_replaces_too(alice: User) -> None:
    old, _ = keys.make(alice, "Robot", stops={"month": 20 * USD})
    new, _ = keys.rotate(old, overlap=DAY)
    assert keys.change(new, name="Robot 2", expires=None, stops={"month": None, "day": USD})
    assert keys.stops_of(old) == keys.stops_of(new) == {"day": USD}
    old.refresh_from_db()
    assert old.name == "Robot" and old.expires is not None


def test_what_has_ended_or_was_rotated_is_not_changed(alice: User) -> None:
    old, _ = keys.make(alice, "Robot")
    new, _ = keys.rotate(old, overlap=DAY)
    keys.revoke(new)
    for key in (old, new):
        assert not keys.change(key, name="Zombie", expires=None, stops={"day": USD})
    assert not ApiKey.objects.filter(name="Zombie").exists() and not Cap.objects.exists()


# --- What it may spend --------------------------------------------------------------------------------
def test_a_key_stops_at_its_month_cap_and_says_so(alice: User) -> None:
    give(alice)
    key, _ = keys.make(alice, "Robot", stops={"month": USD})
    spend(alice, key, 600_000, "job:1")
    with pytest.raises(ledger.CapReached) as no:
        hold(alice, key, 500_000, "job:2")
    assert str(no.value) == (
        "This key's month cap of $1.00 would be crossed: $0.60 is spent or held, and this needs $0.50."
    )
    assert no.value.is_of_key and no.value.subject.startswith("key:") and no.value.resets is not None


def test_a_total_cap_never_starts_afresh(alice: User) -> None:
    give(alice)
    key, _ = keys.make(alice, "Robot", stops={"total": USD})
    with time_machine.travel(NOON, tick=False):
        spend(alice, key, 600_000, "job:1")
    with time_machine.travel(NOON + 400 * DAY, tick=False), pytest.raises(ledger.CapReached) as no:
        hold(alice, key, 500_000, "job:2")
    assert str(no.value).startswith("This key's total cap of $1.00 would be crossed")
    assert (no.value.window, no.value.resets) == ("total", None)


def test_one_keys_cap_does_not_stop_another_key_or_the_pages(alice: User) -> None:
    give(alice)
    capped, free = keys.make(alice, "Robot", stops={"day": 0})[0], keys.make(alice, "Free")[0]
    with pytest.raises(ledger.CapReached):
        hold(alice, capped, 1, "job:1")
    hold(alice, free, USD, "job:2")
    promise = ledger.Promise("job:3", USD, "a picture")
    ledger.hold(ledger.wallet_of(alice), [promise], ledger.account_limits(alice, USD))


def test_the_accounts_own_cap_stops_a_key_too(alice: User) -> None:
    give(alice)
    caps.put(alice, "day", stop=100, warn=None)
    key, _ = keys.make(alice, "Robot", stops={"day": USD})
    with pytest.raises(ledger.CapReached, match="Your day cap"):
        hold(alice, key, 101, "job:1")


def test_a_key_and_the_one_that_replaces_it_spend_from_the_same_caps(alice: User) -> None:
    give(alice)
    old, _ = keys.make(alice, "Robot", stops={"total": USD})
    spend(alice, old, 400_000, "job:1")
    new, _ = keys.rotate(old, overlap=DAY)
    spend(alice, new, 400_000, "job:2")
    for key in (old, new):
        with pytest.raises(ledger.CapReached, match=r"\$0.80 is spent or held"):
            hold(alice, key, 400_000, "job:3")
    assert CapWindow.objects.filter(subject__startswith="key:", window="total").count() == 1


def test_a_key_has_a_cap_for_one_picture_that_counts_nothing(alice: User) -> None:
    give(alice)
    key, _ = keys.make(alice, "Robot", stops={"job": 35_000})
    for n in range(3):
        hold(alice, key, 35_000, f"job:{n}")
    with pytest.raises(ledger.CapReached) as no:
        hold(alice, key, 35_001, "job:3")
    assert str(no.value) == "This key's cap is $0.035 for one picture, and this one costs $0.035001."
    assert (no.value.is_of_key, no.value.window, no.value.resets) == (True, "job", None)
    assert not CapWindow.objects.filter(window="job").exists()
    hold(alice, keys.make(alice, "Free")[0], USD, "job:4")


def test_the_accounts_cap_for_one_picture_is_told_from_the_keys(alice: User) -> None:
    give(alice)
    caps.put(alice, "job", stop=100, warn=None)
    with pytest.raises(ledger.CapReached, match=r"^Your cap is") as no:
        hold(alice, keys.make(alice, "Robot", stops={"job": 200})[0], 101, "job:1")
    assert not no.value.is_of_key


def test_a_warning_of_a_key_refuses_nothing_and_goes_with_it(alice: User) -> None:
    give(alice)
    old, _ = keys.make(alice, "Robot", stops={"day": USD, "job": USD}, warns={"day": 1, "month": 2})
    hold(alice, old, USD, "job:1")
    new, _ = keys.rotate(old, overlap=DAY)
    assert keys.warns_of(new) == {"day": 1, "month": 2}
    assert keys.stops_of(new) == {"day": USD, "job": USD}
    keys.change(new, name="Robot", expires=None, stops={"day": None}, warns={"day": None, "month": 3})
    assert keys.warns_of(new) == keys.warns_of(old) == {"month": 3}
    assert keys.stops_of(new) == keys.stops_of(old) == {"job": USD}


# --- Where the caps stand -----------------------------------------------------------------------------
def test_standings_of_a_key_are_what_the_ledger_counted(alice: User) -> None:
    give(alice)
    key, _ = keys.make(alice, "Robot", stops={"month": 2 * USD, "total": 3 * USD})
    spend(alice, key, USD, "job:1")
    hold(alice, key, 500_000, "job:2")
    day, month, total, _ = caps.key_standings([key])[key.pk]
    assert [cap.window for cap in (day, month, total)] == ["day", "month", "total"]
    assert (day.stop, day.used, day.left) == (None, 1_500_000, None)
    assert (month.spent, month.held, month.left) == (USD, 500_000, 500_000)
    assert (total.left, total.resets) == (1_500_000, "")


def test_standings_of_twenty_keys_cost_two_queries(alice: User, django_assert_num_queries: Any) -> None:
    give(alice)
    made = [keys.make(alice, f"key {n}", stops={"month": USD})[0] for n in range(20)]
    for n, key in enumerate(made):
        hold(alice, key, n + 1, f"job:{n}")
    with django_assert_num_queries(2):
        standings = caps.key_standings(made)
    assert [standings[key.pk][1].used for key in made] == list(range(1, 21))


def test_standings_of_no_key_cost_nothing(db: None, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert caps.key_standings([]) == {}
