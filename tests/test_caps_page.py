import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import caps, keys, ledger
from accounts.models import ApiKey, Cap, CapWindow, Transfer, User, Wallet
from playground import catalog
from tests.making import PRO, USD, give, load_catalogue, picture_for, run_for

PRICE = 35_000
CHOSEN = f"variants={PRO}&aspect_ratio=1:1"
THURSDAY = datetime(2026, 11, 12, 12, tzinfo=UTC)


@pytest.fixture
def hers(alice: User) -> Client:
    """Alice's browser."""
    load_catalogue()
    give(alice)
    client = Client()
    client.force_login(alice)
    return client


def put(client: Client, window: str, **typed: str) -> Any:
    fields = {f"{window}-{name}": value for name, value in typed.items() if name != "sure"}
    return client.post(f"/settings/caps/{window}/", fields | ({"sure": "yes"} if "sure" in typed else {}))


def spend(user: User, micros: int, business_id: str) -> None:
    hold(user, micros, business_id)
    [held] = user.wallet.holds.filter(business_id=business_id)
    ledger.capture(held.pk, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)


def hold(user: User, micros: int, business_id: str) -> None:
    promise = ledger.Promise(business_id, micros, "a picture")
    ledger.hold(ledger.wallet_of(user), [promise], ledger.account_limits(user, micros))


def spent_in(user: User, window: str, day: str, micros: int) -> None:
    CapWindow.objects.create(subject=f"user:{user.pk}/usd", window=window, starts=day, spent=micros)


def page_of(client: Client, at: str = "/settings/caps/") -> str:
    return " ".join(client.get(at).content.decode().split())


def test_a_bar_stands_only_where_there_is_a_cap_that_it_could_fill(alice: User, hers: Client) -> None:
    spend(alice, PRICE, "job:1")
    assert "cap-bar-spent" not in page_of(hers)
    put(hers, "month", stop="1")
    assert page_of(hers).count('cap-bar-spent" width="35"') == 1


# --- Setting ------------------------------------------------------------------------------------------
def test_strangers_are_asked_to_log_in(db: None) -> None:
    assert Client().get("/settings/caps/")["Location"] == "/accounts/login/?next=/settings/caps/"
    assert Client().post("/settings/caps/day/").status_code == 302


def test_alice_sets_a_cap_and_it_counts_at_once(alice: User, hers: Client) -> None:
    response = put(hers, "day", stop="$0.10", warn="0.05")
    assert (response.status_code, response["Location"]) == (303, "/settings/caps/#day")
    cap = Cap.objects.get()
    assert (cap.user, cap.window, cap.limit, cap.warn_at) == (alice, "day", 100_000, 50_000)
    assert "Your day cap now stops at $0.10 and warns at $0.05." in page_of(hers)
    run_for(alice, count=2)
    with pytest.raises(ledger.CapReached):
        run_for(alice)


def test_two_empty_fields_remove_the_cap(alice: User, hers: Client) -> None:
    put(hers, "job", stop="1")
    put(hers, "job", stop="", warn="")
    assert not Cap.objects.exists()
    assert "Your cap for one picture is removed." in page_of(hers)


def test_a_warning_alone_stops_nothing(alice: User, hers: Client) -> None:
    put(hers, "month", warn="0.01")
    run_for(alice, count=4)
    assert Cap.objects.get().limit is None


@pytest.mark.parametrize(
    "typed", ["-1", "lots", "1e99", "1e999999", "0.0000001", "NaN", "1,50", "1000001", "5 €"]
)
def test_what_is_no_amount_is_said_beside_the_field(hers: Client, typed: str) -> None:
    response = put(hers, "day", stop=typed)
    assert response.status_code == 422
    assert "This must be an amount in US dollars" in response.content.decode()
    assert not Cap.objects.exists()


def test_a_warning_after_the_stop_is_refused(hers: Client) -> None:
    response = put(hers, "day", stop="1", warn="1")
    assert response.status_code == 422
    assert "A warning must come before the stop" in response.content.decode()


def test_there_is_no_cap_a_year(hers: Client) -> None:
    assert put(hers, "year", stop="1").status_code == 404
    assert hers.get("/settings/caps/day/").status_code == 405


def test_bobs_caps_are_his_own(hers: Client, bob: User) -> None:
    Cap.objects.create(user=bob, window="day", limit=12_340_000)
    assert "12.34" not in page_of(hers)
    put(hers, "day", stop="1")
    assert Cap.objects.get(user=bob).limit == 12_340_000


def test_lowering_below_what_is_spent_asks_first(alice: User, hers: Client) -> None:
    put(hers, "day", stop="5")
    spend(alice, 2 * USD, "x:1")
    hold(alice, 1 * USD, "x:2")
    asked = put(hers, "day", stop="2.99", warn="1")
    assert "Stop pictures for credits now?" in asked.content.decode()
    assert "$2.00 spent and $1.00 held" in asked.content.decode()
    assert Cap.objects.get().limit == 5 * USD
    put(hers, "day", stop="2.99", warn="1", sure="yes")
    assert (Cap.objects.get().limit, Cap.objects.get().warn_at) == (2_990_000, 1 * USD)


def test_lowering_to_what_is_spent_and_raising_do_not_ask(alice: User, hers: Client) -> None:
    spend(alice, 2 * USD, "x:1")
    assert put(hers, "day", stop="2").status_code == 303
    put(hers, "day", stop="1", sure="yes")
    assert put(hers, "day", stop="1.5").status_code == 303
    assert Cap.objects.get().limit == 1_500_000


# --- What it shows ------------------------------------------------------------------------------------
def test_spent_held_and_left_add_up_to_the_cap(alice: User, hers: Client) -> None:
    put(hers, "day", stop="4")
    spend(alice, 1 * USD, "x:1")
    hold(alice, 500_000, "x:2")
    day = caps.standings(alice)[0]
    assert (day.spent, day.held, day.left, day.stop) == (1 * USD, 500_000, 2_500_000, 4 * USD)
    assert day.bar == {"spent": 250, "held": 125, "warn": 0}
    page = page_of(hers)
    assert "<dd>$1.00</dd>" in page and "<dd>$0.50</dd>" in page and "<dd>$2.50</dd>" in page


def test_the_page_states_the_guarantee(hers: Client) -> None:
    assert "Running pictures already hold their price, so this cap cannot be crossed." in page_of(hers)


@pytest.mark.parametrize(
    ("now", "day", "month"),
    [
        (THURSDAY, "at midnight UTC, in 12 hours", "on 1 December at midnight UTC, in 18 days"),
        (datetime(2026, 12, 31, 23, 30, tzinfo=UTC), "at midnight UTC, in 30 minutes", "on 1 January at midnight UTC, in 30 minutes"),
        (datetime(2026, 2, 27, 22, 59, tzinfo=UTC), "at midnight UTC, in 1 hour", "on 1 March at midnight UTC, in 1 day"),
    ],
)  # fmt: skip
def test_it_says_in_words_when_a_cap_starts_afresh(now: datetime, day: str, month: str) -> None:
    assert (caps.resets_in_words("day", now), caps.resets_in_words("month", now)) == (day, month)


def test_the_last_two_periods_stand_beside_the_field(alice: User, hers: Client) -> None:
    spent_in(alice, "day", "2026-11-11", 1_110_000)
    spent_in(alice, "month", "2026-09-01", 9_990_000)
    with time_machine.travel(THURSDAY, tick=False):
        day, month, _ = caps.standings(alice)
    assert [(past.name, past.spent) for past in day.before] == [("Wednesday", 1_110_000), ("Tuesday", 0)]
    assert [(past.name, past.spent) for past in month.before] == [
        ("October 2026", 0),
        ("September 2026", 9_990_000),
    ]


# --- The forecast -------------------------------------------------------------------------------------
def month_of(alice: User, *days: tuple[str, int], stop: int = 20 * USD) -> str:
    """What a month's cap foretells on Thursday the 12th at noon."""
    caps.put(alice, "month", stop=stop, warn=None)
    for day, micros in days:
        spent_in(alice, "day", day, micros)
    spent_in(alice, "month", "2026-11-01", sum(micros for _, micros in days))
    User.objects.filter(pk=alice.pk).update(date_joined=THURSDAY - timedelta(days=90))
    alice.refresh_from_db()
    return caps.standings(alice, THURSDAY)[1].forecast


WEEK = ("2026-11-06", "2026-11-09", "2026-11-11")


def test_a_steady_pace_names_the_day(alice: User) -> None:
    # $6.50 in the 6.5 days since Friday: a dollar a day, and $13.50 are left
    said = month_of(alice, *((day, 6_500_000 // 3) for day in WEEK))
    assert said == "At this pace it is reached on 26 November."


def test_within_a_week_it_names_the_weekday(alice: User) -> None:
    said = month_of(alice, *((day, 2 * USD) for day in WEEK), stop=10 * USD)
    assert said == "At this pace it is reached on Monday, 16 November."


def test_a_slow_pace_lasts(alice: User) -> None:
    said = month_of(alice, *((day, 100_000) for day in WEEK))
    assert said == "At this pace it lasts until it starts afresh."


def test_one_busy_afternoon_is_no_pace(alice: User) -> None:
    assert month_of(alice, ("2026-11-11", 5 * USD), ("2026-11-12", 5 * USD)) == ""


def test_a_day_is_foretold_only_after_three_hours_of_it(alice: User) -> None:
    caps.put(alice, "day", stop=3 * USD, warn=None)
    spent_in(alice, "day", "2026-11-12", 2 * USD)
    early, noon = THURSDAY.replace(hour=2), THURSDAY
    assert caps.standings(alice, early)[0].forecast == ""
    assert caps.standings(alice, noon)[0].forecast == "At this pace it is reached today at about 18:00 UTC."


def test_nothing_is_foretold_without_a_stop_or_once_it_is_reached(alice: User) -> None:
    assert month_of(alice, *((day, 10 * USD) for day in WEEK)) == ""
    caps.put(alice, "month", stop=None, warn=1)
    assert caps.standings(alice, THURSDAY)[1].forecast == ""


# --- The banner, and the playground -------------------------------------------------------------------
def test_a_cap_that_is_hit_is_named_on_every_page_with_a_link(alice: User, hers: Client) -> None:
    put(hers, "day", stop="0.05")
    assert "is reached" not in page_of(hers, "/gallery/")
    spend(alice, PRICE, "x:1")
    for at in ("/", "/gallery/", "/account/", "/pricing/", "/settings/caps/"):
        page = page_of(hers, at)
        assert "Your day cap of $0.05 is reached: $0.035 is spent or held" in page
        assert '<a href="/settings/caps/#day">Change this cap</a>' in page
    put(hers, "day", stop="5")
    assert "is reached" not in page_of(hers)


def test_a_cap_below_the_cheapest_picture_is_named_too(hers: Client) -> None:
    put(hers, "job", stop="0.001")
    assert "Your cap of $0.001 for one picture is below the cheapest picture" in page_of(hers, "/pricing/")


def test_pages_ask_about_caps_only_for_those_who_have_some(alice: User, hers: Client) -> None:
    assert not queries_about_caps(hers)
    Cap.objects.create(user=alice, window="day", limit=1)
    assert len(queries_about_caps(hers)) == 2


def queries_about_caps(client: Client) -> list[Any]:
    with CaptureQueriesContext(connection) as queries:
        client.get("/pricing/")
    return [query for query in queries if re.search("accounts_(cap|apikey)", query["sql"])]


def spend_by(key: ApiKey, micros: int, business_id: str) -> None:
    promise = ledger.Promise(business_id, micros, "a picture")
    limits = ledger.account_limits(key.user, micros, key)
    [held] = ledger.hold(ledger.wallet_of(key.user), [promise], limits)
    ledger.capture(held.pk, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)


def test_a_cap_of_a_key_that_is_hit_is_named_with_the_key_and_its_page(
    alice: User, hers: Client, bob: User
) -> None:
    key = keys.make(alice, "Shop & co", stops={"day": 50_000, "month": USD})[0]
    spend_by(key, 50_000 - catalog.least_price(), "x:1")
    assert "is reached" not in page_of(hers, "/gallery/")
    spend_by(key, 1, "x:2")
    for at in ("/gallery/", "/pricing/", "/settings/keys/"):
        page = page_of(hers, at)
        assert "The day cap of $0.05 of your API key “Shop &amp; co” is reached" in page
        assert f'<a href="/settings/keys/{key.pk}/">Change this cap</a>' in page
        assert page.count("is reached:") == 1
    hers.force_login(bob)
    assert "is reached" not in page_of(hers, "/gallery/")


def test_of_a_line_of_keys_the_newest_is_named_and_of_an_ended_one_nothing(alice: User, hers: Client) -> None:
    old = keys.make(alice, "Shop", stops={"total": 0, "job": 1})[0]
    new, _ = keys.rotate(old, overlap=timedelta(days=1))
    page = page_of(hers, "/pricing/")
    assert "The cap for all time of $0.00 of your API key “Shop” is reached" in page
    assert "The cap of $0.000001 for one picture of your API key “Shop” is below the cheapest picture" in page
    assert page.count(f"/settings/keys/{new.pk}/") == 2 and f"/settings/keys/{old.pk}/" not in page
    keys.revoke(new)
    keys.revoke(old)
    assert "API key “Shop”" not in page_of(hers, "/pricing/")


def test_many_caps_of_keys_are_one_line(alice: User, hers: Client) -> None:
    put(hers, "day", stop="0", sure="yes")
    for n in range(4):
        keys.make(alice, f"key {n}", stops={"day": 0})
    page = page_of(hers, "/pricing/")
    assert page.count("strip-cap") == 2 and "Your day cap of $0.00 is reached" in page
    assert "4 caps of your API keys are reached" in page
    assert '<a href="/settings/keys/">Look at your keys</a>' in page


def test_caps_of_many_keys_cost_pages_no_more_queries_than_one_of_the_account(
    alice: User, hers: Client
) -> None:
    keys.make(alice, "uncapped", warns={"day": 1})
    assert not queries_about_caps(hers)
    caps.put(alice, "day", stop=1, warn=None)
    for n in range(10):
        keys.make(alice, f"key {n}", stops={"day": 0, "month": 1, "total": 2, "job": 3})
    assert len(queries_about_caps(hers)) == 2


def test_the_playgrounds_refusal_links_to_the_cap(alice: User, hers: Client) -> None:
    put(hers, "day", stop="0.03")
    page = page_of(hers, f"/quote/?pay=credits&count=4&{CHOSEN}")
    assert "Your day cap of $0.03 would be crossed" in page
    assert '<a href="/settings/caps/#day">Change this cap</a>' in page


def test_a_preview_refused_by_the_house_links_nowhere(hers: Client, settings: Any) -> None:
    settings.PREVIEWS_PER_DAY = 0
    page = page_of(hers, f"/quote/?pay=preview&count=1&{CHOSEN}")
    assert "free previews left today" in page
    assert "Change this cap" not in page


def test_the_quote_warns_before_the_click_and_refuses_nothing(hers: Client) -> None:
    put(hers, "job", warn="0.001")
    page = page_of(hers, f"/quote/?pay=credits&count=1&{CHOSEN}")
    assert "more than the $0.001 that you asked to be warned at" in page
    assert "data-blocked" not in page
    assert "warned at" not in page_of(hers, f"/quote/?pay=preview&count=1&{CHOSEN}")


def test_keeping_past_a_cap_links_to_it(alice: User, hers: Client) -> None:
    picture = picture_for(alice, pay="preview")
    put(hers, "day", stop="0.01")
    page = " ".join(hers.post(f"/pictures/{picture.pk}/keep/", follow=True).content.decode().split())
    assert 'this needs $0.035. <a href="/settings/caps/#day">Change this cap</a>' in page


# --- Two tabs -----------------------------------------------------------------------------------------
def shown_at(page: Any, prefix: str) -> str:
    """What the form of a page says that it was made from."""
    [value] = re.findall(rf'name="{prefix}seen" value="([^"]*)"', page.content.decode())
    return str(value)


def test_a_page_that_lay_open_does_not_undo_a_cap_that_was_set_meanwhile(hers: Client, alice: User) -> None:
    old = shown_at(hers.get("/settings/caps/"), "day-")
    put(hers, "day", stop="5", warn="", seen=old)
    answer = hers.post("/settings/caps/day/", {"day-warn": "2", "day-stop": "", "day-seen": old}, follow=True)
    assert (
        "Nothing was saved: it was changed meanwhile. Your day cap now stops at $5.00."
        in answer.content.decode()
    )
    assert Cap.objects.get(user=alice).limit == 5 * USD
    put(hers, "day", stop="5", warn="2", seen=shown_at(answer, "day-"))
    assert Cap.objects.get(user=alice).warn_at == 2 * USD


def test_a_second_click_on_save_is_no_change(hers: Client, alice: User) -> None:
    old = shown_at(hers.get("/settings/caps/"), "month-")
    for _ in range(2):
        answer = hers.post(
            "/settings/caps/month/", {"month-stop": "7", "month-warn": "", "month-seen": old}, follow=True
        )
        assert "Your month cap now stops at $7.00." in answer.content.decode()


def test_the_question_before_a_low_cap_remembers_what_was_seen(hers: Client, alice: User) -> None:
    spend(alice, 3 * USD, "job:1")
    old = shown_at(hers.get("/settings/caps/"), "day-")
    assert shown_at(put(hers, "day", stop="1", warn="", seen=old), "day-") == old
