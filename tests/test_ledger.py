"""The money rules of the house, one example for each sentence of them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.apps import apps
from django.db import DatabaseError, IntegrityError, connection, models, transaction
from django.db.models import F, Sum
from django.test.utils import CaptureQueriesContext

from accounts import credits, ledger
from accounts.audit import audit
from accounts.models import Cap, CapWindow, Hold, Transfer, User, Wallet

PRICE = 35_000
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _the_books_are_clean_afterwards(db: None) -> Iterator[None]:
    yield
    assert audit() == []


def give(user: User, micros: int) -> None:
    ledger.grant(user, micros, business_id=f"grant:{user.pk}", memo="For the test")


def hold(user: User, *names: str, each: int = PRICE) -> list[Hold]:
    promises = [ledger.Promise(name, each, "Picture") for name in names]
    return ledger.hold(ledger.wallet_of(user), promises, ledger.account_limits(user, each))


def charge(held: Hold, amount: int | None = None) -> bool:
    revenue = ledger.house(Wallet.House.REVENUE)
    return ledger.capture(held.pk, to=revenue, kind=Transfer.Kind.CHARGE, amount=amount)


def preview(user: User, *names: str, cost: int = PRICE) -> list[Hold]:
    promises = [ledger.Promise(name, cost, "Preview") for name in names]
    return ledger.hold(ledger.house(Wallet.House.PREVIEW), promises, ledger.preview_limits(user, cost))


def cap(user: User, window: str, limit: int) -> None:
    Cap.objects.update_or_create(user=user, window=window, defaults={"limit": limit})


def money(user: User) -> tuple[int, int]:
    """Posted and held."""
    wallet = ledger.wallet_of(user)
    return wallet.posted, wallet.held


def used(subject: str, window: str = "day") -> tuple[int, int]:
    """Spent and reserved."""
    seen = ledger.usage(subject, window)
    return seen.spent, seen.reserved


# --- Unit of account ----------------------------------------------------------------------------------
def test_ten_dollars_and_five_credits_are_both_exact() -> None:
    assert credits.both(10_000_000) == "1,428.57 credits ($10.00)"
    assert credits.both(PRICE) == "5.00 credits ($0.035)"


def test_no_money_is_kept_in_fractions() -> None:
    fields = [field for model in apps.get_app_config("accounts").get_models() for field in model._meta.fields]
    assert not [field for field in fields if isinstance(field, models.DecimalField | models.FloatField)]


# --- Transfers ----------------------------------------------------------------------------------------
def test_every_transfer_has_two_sides_so_the_sum_is_zero(alice: User) -> None:
    give(alice, 10 * PRICE)
    charge(*hold(alice, "job:1"))
    assert money(alice) == (9 * PRICE, 0)
    assert ledger.house(Wallet.House.REVENUE).posted == PRICE
    assert ledger.house(Wallet.House.GOODWILL).posted == -10 * PRICE
    assert Wallet.objects.aggregate(sum=Sum("posted")) == {"sum": 0}


@pytest.mark.parametrize("change", ["update", "delete"])
def test_the_database_refuses_to_change_a_transfer(alice: User, change: str) -> None:
    give(alice, PRICE)
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        if change == "update":
            Transfer.objects.update(amount=F("amount") + 1)
        else:
            Transfer.objects.all()._raw_delete("default")
    assert Transfer.objects.get().amount == PRICE


def test_a_replayed_movement_is_a_no_op(alice: User) -> None:
    assert ledger.grant(alice, PRICE, business_id="grant:1", memo="Sorry")
    assert not ledger.grant(alice, PRICE, business_id="grant:1", memo="Sorry")
    assert money(alice) == (PRICE, 0)


def test_a_statement_line_knows_the_balance_after_it(alice: User) -> None:
    give(alice, 10 * PRICE)
    charge(*hold(alice, "job:1"))
    charge(*hold(alice, "job:2"))
    balances = Transfer.objects.order_by("id").values_list("user_balance", flat=True)
    assert list(balances) == [10 * PRICE, 9 * PRICE, 8 * PRICE]


@pytest.mark.parametrize("micros", [0, -1, ledger.MOST_MICROS + 1, 2**63, 10**30])
def test_a_grant_of_nothing_or_of_too_much_is_refused(alice: User, micros: int) -> None:
    with pytest.raises(ValueError, match="micro-dollars"):
        give(alice, micros)
    assert money(alice) == (0, 0)


# --- Holds --------------------------------------------------------------------------------------------
def test_what_is_held_is_not_spent_and_cannot_be_spent(alice: User) -> None:
    give(alice, 2 * PRICE)
    hold(alice, "job:1")
    assert money(alice) == (2 * PRICE, PRICE)
    with pytest.raises(ledger.NotEnoughCredit) as refused:
        hold(alice, "job:2", "job:3")
    assert (refused.value.needed, refused.value.available) == (2 * PRICE, PRICE)
    assert str(refused.value) == "This needs 10.00 credits ($0.07), and you have 5.00 credits ($0.035) left."


def test_a_hold_is_captured_exactly_once(alice: User) -> None:
    give(alice, 2 * PRICE)
    [held] = hold(alice, "job:1")
    assert [charge(held), charge(held), ledger.release(held.pk)] == [True, False, False]
    assert money(alice) == (PRICE, 0)


def test_a_hold_is_released_exactly_once(alice: User) -> None:
    give(alice, 2 * PRICE)
    [held] = hold(alice, "job:1")
    assert [ledger.release(held.pk), ledger.release(held.pk), charge(held)] == [True, False, False]
    assert money(alice) == (2 * PRICE, 0)


def test_a_part_can_be_captured_and_the_rest_comes_back(alice: User) -> None:
    give(alice, PRICE)
    charge(*hold(alice, "job:1"), amount=10_000)
    assert money(alice) == (PRICE - 10_000, 0)
    assert used(f"user:{alice.pk}/usd") == (10_000, 0)


@pytest.mark.parametrize("amount", [PRICE + 1, -1])
def test_no_more_than_is_held_can_be_captured(alice: User, amount: int) -> None:
    give(alice, 10 * PRICE)
    [held] = hold(alice, "job:1")
    with pytest.raises(IntegrityError):
        charge(held, amount=amount)
    assert money(alice) == (10 * PRICE, PRICE)
    assert charge(held)


def test_a_hold_is_never_shrunk_to_fit_but_all_or_nothing(alice: User) -> None:
    give(alice, 3 * PRICE - 1)
    with pytest.raises(ledger.NotEnoughCredit):
        hold(alice, "job:1", "job:2", "job:3")
    assert not Hold.objects.exists()
    assert not CapWindow.objects.exists()
    assert money(alice) == (3 * PRICE - 1, 0)


def test_a_hold_happens_once_and_the_transaction_around_it_goes_on(alice: User) -> None:
    give(alice, 10 * PRICE)
    hold(alice, "job:1")
    with transaction.atomic():
        with pytest.raises(IntegrityError):
            hold(alice, "job:2", "job:1")
        hold(alice, "job:3")
    assert money(alice) == (10 * PRICE, 2 * PRICE)


@pytest.mark.parametrize("amount", [-1, -PRICE, ledger.MOST_MICROS + 1, 2**63, 10**30])
def test_a_promise_below_zero_or_beyond_reason_is_refused(alice: User, amount: int) -> None:
    with pytest.raises(ValueError, match="micro-dollars"):
        hold(alice, "job:1", each=amount)
    assert not Hold.objects.exists()


def test_no_promises_hold_nothing(alice: User) -> None:
    cap(alice, "day", 0)
    assert hold(alice) == []


# --- Caps ---------------------------------------------------------------------------------------------
@pytest.mark.parametrize("window", ["day", "month"])
def test_a_cap_is_crossed_by_nothing_and_named(alice: User, window: str) -> None:
    give(alice, 10 * PRICE)
    cap(alice, window, 2 * PRICE)
    charge(*hold(alice, "job:1"))
    hold(alice, "job:2")
    with pytest.raises(ledger.CapReached) as refused:
        hold(alice, "job:3", each=1)
    reached = refused.value
    assert (reached.window, reached.limit, reached.used, reached.asked) == (window, 2 * PRICE, 2 * PRICE, 1)
    assert str(reached).startswith(f"Your {window} cap of $0.07 would be crossed: $0.07 is spent or held")


def test_a_cap_on_one_job(alice: User) -> None:
    give(alice, 10 * PRICE)
    cap(alice, "job", PRICE)
    hold(alice, "job:1", "job:2")
    with pytest.raises(ledger.CapReached, match="for one picture"):
        hold(alice, "job:3", each=PRICE + 1)


def test_what_is_released_leaves_the_cap(alice: User) -> None:
    give(alice, 10 * PRICE)
    cap(alice, "day", PRICE)
    ledger.release(hold(alice, "job:1")[0].pk)
    assert used(f"user:{alice.pk}/usd") == (0, 0)
    hold(alice, "job:2")


@pytest.mark.parametrize("window", ["job", "day", "month"])
def test_a_cap_of_nothing_allows_nothing(alice: User, window: str) -> None:
    give(alice, 10 * PRICE)
    cap(alice, window, 0)
    with pytest.raises(ledger.CapReached):
        hold(alice, "job:1", each=1)


def test_a_cap_taken_away_and_set_again_remembers_what_was_spent(alice: User) -> None:
    give(alice, 10 * PRICE)
    cap(alice, "day", PRICE)
    charge(*hold(alice, "job:1"))
    Cap.objects.all().delete()
    charge(*hold(alice, "job:2"))
    cap(alice, "day", 2 * PRICE)
    with pytest.raises(ledger.CapReached):
        hold(alice, "job:3", each=1)


def test_a_cap_of_alice_does_not_bind_bob(alice: User, bob: User) -> None:
    cap(alice, "day", 0)
    give(bob, PRICE)
    hold(bob, "job:1")


def test_a_limit_beyond_what_the_database_counts_is_no_error(alice: User, settings: Any) -> None:
    settings.PREVIEW_BUDGET_MICROS_PER_DAY = 10**30
    preview(alice, "job:1")


def test_windows_are_utc_and_end_at_midnight(alice: User) -> None:
    give(alice, 10 * PRICE)
    cap(alice, "day", PRICE)
    with time_machine.travel(datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC), tick=False):
        hold(alice, "job:1")
        with pytest.raises(ledger.CapReached) as refused:
            hold(alice, "job:2")
        assert refused.value.resets == datetime(2026, 4, 1, tzinfo=UTC)
    with time_machine.travel(datetime(2026, 4, 1, tzinfo=UTC), tick=False):
        hold(alice, "job:3")


def test_a_capture_after_midnight_counts_on_the_day_of_the_hold(alice: User) -> None:
    give(alice, 10 * PRICE)
    with time_machine.travel(datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC), tick=False):
        [held] = hold(alice, "job:1")
    with time_machine.travel(datetime(2026, 4, 1, tzinfo=UTC), tick=False):
        charge(held)
        assert used(f"user:{alice.pk}/usd") == used(f"user:{alice.pk}/usd", "month") == (0, 0)
    assert {(row.window, str(row.starts), row.spent) for row in CapWindow.objects.all()} == {
        ("day", "2026-03-31", PRICE),
        ("month", "2026-03-01", PRICE),
    }


@pytest.mark.parametrize(("now", "end"), [((2026, 1, 31), (2026, 2, 1)), ((2026, 12, 31), (2027, 1, 1))])
def test_a_month_ends_with_its_last_day(now: tuple[int, int, int], end: tuple[int, int, int]) -> None:
    assert ledger.window_end("month", datetime(*now, 12, tzinfo=UTC)) == datetime(*end, tzinfo=UTC)


# --- Previews, welcomes, suspected costs --------------------------------------------------------------
def test_previews_are_counted_and_cost_their_owner_nothing(alice: User, settings: Any) -> None:
    settings.PREVIEWS_PER_DAY = 2
    [held] = preview(alice, "job:1")
    upstream = ledger.house(Wallet.House.UPSTREAM)
    ledger.capture(held.pk, to=upstream, kind=Transfer.Kind.PREVIEW_COST)
    assert money(alice) == (0, 0)
    assert used(f"user:{alice.pk}/previews") == (1, 0)
    with pytest.raises(ledger.CapReached) as refused:
        preview(alice, "job:2", "job:3")
    assert str(refused.value) == "You have 1 of 2 free previews left today (UTC), and this needs 2."


def test_a_preview_that_costs_the_house_nothing_is_counted_all_the_same(alice: User) -> None:
    [held] = preview(alice, "job:1", cost=0)
    ledger.capture(held.pk, to=ledger.house(Wallet.House.UPSTREAM), kind=Transfer.Kind.PREVIEW_COST)
    assert used(f"user:{alice.pk}/previews") == (1, 0)
    assert not Transfer.objects.exists()


def test_the_house_has_a_budget_for_previews(alice: User, bob: User, settings: Any) -> None:
    settings.PREVIEW_BUDGET_MICROS_PER_DAY = 2 * PRICE
    preview(alice, "job:1", "job:2")
    with pytest.raises(ledger.CapReached, match="pay with credits"):
        preview(bob, "job:3", cost=1)


def test_the_welcome_arrives_once_a_person(alice: User, settings: Any) -> None:
    assert ledger.grant_signup(alice)
    assert not ledger.grant_signup(alice)
    assert money(alice) == (settings.SIGNUP_GRANT_MICROS, 0)


def test_a_new_address_is_not_a_new_person_and_an_old_one_is_not_either(alice: User) -> None:
    ledger.grant_signup(alice)
    alice.email = "alice@example.net"
    alice.save()
    assert not ledger.grant_signup(alice)
    assert not ledger.grant_signup(User.objects.create_user("ALICE+again@example.org"))


def test_welcomes_stop_where_the_days_budget_does(alice: User, bob: User, settings: Any) -> None:
    settings.SIGNUP_BUDGET_MICROS_PER_DAY = 2 * settings.SIGNUP_GRANT_MICROS - 1
    ledger.grant_signup(alice)
    with pytest.raises(ledger.CapReached, match="arrive as soon as"):
        ledger.grant_signup(bob)
    assert money(bob) == (0, 0)


def test_no_welcome_is_given_where_the_operator_gives_none(alice: User, settings: Any) -> None:
    settings.SIGNUP_GRANT_MICROS = 0
    assert not ledger.grant_signup(alice)


def test_a_suspected_cost_is_booked_once(alice: User) -> None:
    booked = [ledger.book_suspected_cost(PRICE, business_id="suspect:1", memo="No answer") for _ in range(2)]
    assert booked == [True, False]
    assert ledger.house(Wallet.House.SUSPENSE).posted == -PRICE


def test_a_suspected_cost_of_nothing_books_nothing() -> None:
    assert not ledger.book_suspected_cost(0, business_id="suspect:1", memo="The sandbox is free")
    assert not Transfer.objects.exists()


# --- What it costs ------------------------------------------------------------------------------------
def test_a_hold_and_a_capture_stay_short(alice: User) -> None:
    """Rows are locked meanwhile. One more statement must have a reason."""
    give(alice, 10 * PRICE)
    charge(*hold(alice, "job:1"))
    wallet, limits = ledger.wallet_of(alice), ledger.account_limits(alice, PRICE)
    revenue = ledger.house(Wallet.House.REVENUE)
    with CaptureQueriesContext(connection) as holding:
        [held] = ledger.hold(wallet, [ledger.Promise("job:2", PRICE, "Picture")], limits)
    with CaptureQueriesContext(connection) as capturing:
        ledger.capture(held.pk, to=revenue, kind=Transfer.Kind.CHARGE)
    counts = [
        len([query for query in queries if "SAVEPOINT" not in query["sql"]])
        for queries in (holding, capturing)
    ]
    assert counts == [2 if connection.vendor == "postgresql" else 6, 9]  # there, some go together


# --- The audit ----------------------------------------------------------------------------------------
@pytest.fixture
def damage(alice: User, _the_books_are_clean_afterwards: None) -> Iterator[None]:
    """Books with something in them; what the test does to them behind the ledger's back is undone afterwards."""
    give(alice, 10 * PRICE)
    charge(*hold(alice, "job:1"))
    hold(alice, "job:2")
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def broken() -> set[object]:
    return {problem["invariant"] for problem in audit()}


@pytest.mark.usefixtures("damage")
def test_the_audit_sees_a_balance_that_is_not_the_sum_of_its_transfers(alice: User) -> None:
    Wallet.objects.filter(user=alice).update(posted=F("posted") + 1)
    assert broken() == {"wallet = sum of its transfers", "sum over all wallets = 0"}


@pytest.mark.usefixtures("damage")
def test_the_audit_sees_held_money_without_an_open_hold(alice: User) -> None:
    Wallet.objects.filter(user=alice).update(held=F("held") + 1)
    assert broken() == {"held = sum of open holds"}


@pytest.mark.usefixtures("damage")
def test_the_audit_sees_a_hold_that_was_closed_by_hand() -> None:
    Hold.objects.filter(business_id="job:2").update(state="released", closed=F("created"))
    assert broken() == {"held = sum of open holds", "cap window = its holds and captures"}


@pytest.mark.usefixtures("damage")
def test_the_audit_sees_a_capture_without_its_transfer() -> None:
    Hold.objects.filter(business_id="job:2").update(state="captured", closed=F("created"), captured=1)
    assert "capture = one transfer" in broken()


@pytest.mark.usefixtures("damage")
@pytest.mark.parametrize("column", ["spent", "reserved"])
def test_the_audit_sees_a_cap_window_that_counts_wrongly(column: str) -> None:
    CapWindow.objects.filter(window="day").update(**{column: F(column) + 1})
    assert broken() == {"cap window = its holds and captures"}


@pytest.mark.usefixtures("damage")
def test_the_audit_sees_a_transfer_that_was_added_by_hand(alice: User) -> None:
    sides = {"debit": ledger.house(Wallet.House.REVENUE), "credit": ledger.wallet_of(alice)}
    Transfer.objects.create(business_id="x", kind="grant", amount=1, user_balance=7, **sides)
    assert broken() == {"wallet = sum of its transfers", "balance after each statement line"}
