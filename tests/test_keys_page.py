import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client

from accounts import keys, ledger
from accounts.models import ApiKey, Cap, Transfer, User, Wallet
from playground import catalog
from tests.making import USD, give, load_catalogue

NOON = datetime(2026, 11, 12, 12, tzinfo=UTC)
DAY = timedelta(days=1)
NEW = "/settings/keys/new/"
TEXT = re.compile(r"sk-aig-(?:test-)?[0-9A-Za-z]{38}")


@pytest.fixture
def hers(alice: User) -> Client:
    """Alice's browser."""
    client = Client()
    client.force_login(alice)
    return client


@pytest.fixture
def his(bob: User) -> Client:
    client = Client()
    client.force_login(bob)
    return client


def asked(**changes: str) -> dict[str, str]:
    """The form of a new key as it is sent."""
    usual = {"name": "Robot", "kind": "live", "month": "20.00", "day": "", "total": "", "lasts": "never"}
    return usual | {"until": "", "once": "form"} | changes


def words(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def at(key: ApiKey, deed: str = "") -> str:
    return f"/settings/keys/{key.pk}/{deed}"


def key_of(user: User, name: str = "Robot", **more: Any) -> ApiKey:
    return keys.make(user, name, **more)[0]


def spend(key: ApiKey, micros: int, business_id: str = "job:1") -> None:
    limits = ledger.account_limits(key.user, micros, key)
    promise = ledger.Promise(business_id, micros, "a picture")
    [held] = ledger.hold(ledger.wallet_of(key.user), [promise], limits)
    ledger.capture(held.pk, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)


# --- A new one ----------------------------------------------------------------------------------------
def test_the_form_suggests_a_month_cap_and_nothing_else(hers: Client) -> None:
    page = hers.get(NEW)
    form = page.context["form"]
    assert [form[name].value() for name in ("month", "day", "total", "kind", "lasts")] == [
        "20.00", None, None, "live", "never",
    ]  # fmt: skip
    assert len(form["once"].value()) >= 16


def test_a_new_key_is_shown_in_the_answer_and_nowhere_else(alice: User, hers: Client) -> None:
    answer = hers.post(NEW, asked(day="2", total="100"))
    [text] = set(TEXT.findall(answer.content.decode()))
    found = keys.find(text)
    assert found is not None and found.user == alice
    assert keys.stops_of(found) == {"month": 20 * USD, "day": 2 * USD, "total": 100 * USD}
    assert "no-store" in answer["Cache-Control"]
    for page in ("/settings/keys/", at(found), NEW):
        assert text not in hers.get(page).content.decode()


def test_the_answer_has_a_call_that_is_ready_to_be_pasted(hers: Client, settings: Any) -> None:
    settings.BASE_URL = "https://flux.example.com"
    answer = hers.post(NEW, asked()).content.decode()
    [text] = set(TEXT.findall(answer))
    assert "https://flux.example.com/api/v1</code>" in answer
    assert "curl -s https://flux.example.com/api/v1/jobs/createTask" in answer
    assert f"Authorization: Bearer {text}" in answer


def test_a_double_click_makes_one_key_and_says_how_to_go_on(alice: User, hers: Client) -> None:
    hers.post(NEW, asked())
    again = hers.post(NEW, asked())
    assert again.status_code == 409
    key = ApiKey.objects.get()
    assert "This key was shown already" in words(again) and at(key) + "#rotate" in words(again)
    assert not TEXT.search(again.content.decode())


def test_an_emptied_month_cap_is_no_cap(hers: Client) -> None:
    hers.post(NEW, asked(month=""))
    assert ApiKey.objects.exists() and not Cap.objects.exists()


def test_a_test_key_takes_no_caps(hers: Client) -> None:
    assert "sk-aig-test-" in hers.post(NEW, asked(kind="test")).content.decode()
    assert ApiKey.objects.get().is_test and not Cap.objects.exists()


@pytest.mark.parametrize(
    ("lasts", "until", "expires"),
    [
        ("never", "", None),
        ("30", "", datetime(2026, 12, 13, tzinfo=UTC)),
        ("90", "", datetime(2027, 2, 11, tzinfo=UTC)),
        ("date", "2026-11-12", datetime(2026, 11, 13, tzinfo=UTC)),
        ("never", "2026-11-30", None),
    ],
)
def test_a_key_ends_with_a_utc_day(hers: Client, lasts: str, until: str, expires: datetime | None) -> None:
    with time_machine.travel(NOON, tick=False):
        hers.post(NEW, asked(lasts=lasts, until=until))
    assert ApiKey.objects.get().expires == expires


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("name", {"name": " "}),
        ("name", {"name": "x" * 61}),
        ("name", {"name": "a\x00b"}),
        ("kind", {"kind": "free"}),
        ("month", {"month": "lots"}),
        ("total", {"total": "-1"}),
        ("lasts", {"lasts": "forever"}),
        ("until", {"lasts": "date"}),
        ("until", {"lasts": "date", "until": "2026-11-11"}),
        ("until", {"lasts": "date", "until": "9999-12-31"}),
        ("until", {"lasts": "date", "until": "soon"}),
        ("once", {"once": ""}),
        ("once", {"once": "x" * 33}),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(hers: Client, field: str, changes: dict[str, str]) -> None:
    with time_machine.travel(NOON, tick=False):
        answer = hers.post(NEW, asked(**changes))
    assert answer.status_code == 422 and list(answer.context["form"].errors) == [field]
    assert not ApiKey.objects.exists()


def test_the_21st_key_is_refused_in_words(alice: User, hers: Client) -> None:
    for n in range(20):
        key_of(alice, f"key {n}")
    assert "which is the most" in words(hers.get(NEW)) and "which is the most" in words(
        hers.get("/settings/keys/")
    )
    answer = hers.post(NEW, asked())
    assert answer.status_code == 422 and ApiKey.objects.count() == 20


def test_a_key_is_made_with_warnings_and_a_cap_for_one_picture(hers: Client) -> None:
    hers.post(NEW, asked(day="2", warn_day="1", warn_total="50", job="0.05"))
    key = ApiKey.objects.get()
    assert keys.stops_of(key) == {"month": 20 * USD, "day": 2 * USD, "job": 50_000}
    assert keys.warns_of(key) == {"day": USD, "total": 50 * USD}
    form = hers.get(at(key)).context["form"]
    assert (form["warn_day"].value(), form["warn_total"].value(), form["job"].value()) == (
        "1.00",
        "50.00",
        "0.05",
    )


@pytest.mark.parametrize("window", ["day", "month", "total"])
def test_a_warning_after_the_stop_is_refused_beside_its_field(hers: Client, window: str) -> None:
    answer = hers.post(NEW, asked(**{window: "1", f"warn_{window}": "1"}))
    assert answer.status_code == 422 and list(answer.context["form"].errors) == [f"warn_{window}"]
    assert "A warning must come before the stop" in words(answer)


def test_the_other_caps_are_folded_away_until_there_are_some(alice: User, hers: Client) -> None:
    assert '<details class="key-more">' in words(hers.get(NEW))
    assert '<details class="key-more" open>' in words(hers.post(NEW, asked(warn_total="lots")))
    assert '<details class="key-more">' in words(hers.get(at(key_of(alice, stops={"month": USD}))))
    assert '<details class="key-more" open>' in words(hers.get(at(key_of(alice, warns={"day": USD}))))


@pytest.mark.parametrize("wrong", ["a\nb", "a\x1bb", "a\u202eb", "a\u2066b", "a\u2028b", "a\x85b"])
def test_a_name_that_disturbs_the_text_around_it_is_refused_in_words(hers: Client, wrong: str) -> None:
    answer = hers.post(NEW, asked(name=wrong))
    assert answer.status_code == 422 and "an invisible character" in words(answer)
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("name", ["מפתח שלי", "مفتاح", "कुंजी", "می‌خواهم", "👩‍💻 robot", "Zoë’s — №7"])
def test_a_name_may_be_of_any_script(hers: Client, name: str) -> None:
    hers.post(NEW, asked(name=name))
    assert ApiKey.objects.get().name == name


# --- The list -----------------------------------------------------------------------------------------
def test_the_list_has_what_a_key_is_recognised_by_and_what_it_did(alice: User, hers: Client) -> None:
    give(alice)
    with time_machine.travel(NOON, tick=False):
        key = key_of(alice, "Nightly", stops={"month": 20 * USD, "total": 50 * USD}, expires=NOON + 3 * DAY)
        spend(key, 1_250_000)
        keys.used(key, NOON - timedelta(hours=3))
        page = words(hers.get("/settings/keys/"))
    assert "Nightly" in page and key.shown in page and f"/usage/?key={key.pk}" in page
    assert "last used 3 hours ago" in page and "expires in 3 days, after 15 November 2026" in page
    assert '$1.25 <span class="muted">of $20.00' in page and '$1.25 <span class="muted">of $50.00' in page


def test_a_key_without_a_month_cap_still_says_what_it_spent(alice: User, hers: Client) -> None:
    give(alice)
    spend(key_of(alice), 70_000)
    assert '$0.07 <span class="muted">this month, no month cap' in words(hers.get("/settings/keys/"))


def test_a_cap_that_nothing_fits_under_is_said_to_be_reached(alice: User, hers: Client) -> None:
    load_catalogue()
    give(alice)
    key = key_of(alice, stops={"month": USD, "total": 5 * USD})
    spend(key, USD - catalog.least_price())
    assert ">reached<" not in words(hers.get("/settings/keys/"))
    spend(key, 1, "job:2")
    assert words(hers.get("/settings/keys/")).count(">reached<") == 1


def test_the_list_shows_a_warning_that_was_passed_and_a_cap_for_one_picture(
    alice: User, hers: Client
) -> None:
    give(alice)
    key = key_of(alice, stops={"month": 5 * USD, "job": 1_500_000}, warns={"month": USD, "day": 2 * USD})
    spend(key, USD)
    page = words(hers.get("/settings/keys/"))
    assert page.count(">past $1.00<") == page.count(">past $") == 1
    assert '$1.00 <span class="muted">used, no stop' in page
    assert 'A picture</span> <span class="key-sum num"><span class="muted">at most</span> $1.50' in page


def test_working_keys_come_first_and_ended_ones_are_paged_below(alice: User, hers: Client) -> None:
    for n in range(22):
        keys.revoke(key_of(alice, f"ended {n}."))
    key_of(alice, "works")
    first = hers.get("/settings/keys/")
    assert [entry.key.name for entry in first.context["working"]] == ["works"]
    assert [entry.key.name for entry in first.context["ended"]] == [f"ended {n}." for n in range(21, 1, -1)]
    second = hers.get(f"/settings/keys/?before={first.context['older']}")
    assert [entry.key.name for entry in second.context["ended"]] == ["ended 1.", "ended 0."]
    assert second.context["older"] is None


def test_a_rotated_key_stands_behind_the_one_that_replaced_it(alice: User, hers: Client) -> None:
    old = key_of(alice, "first")
    key_of(alice, "second")
    new, _ = keys.rotate(old, overlap=DAY)
    listed = [entry.key.pk for entry in hers.get("/settings/keys/").context["working"]]
    assert listed[:2] == [new.pk, old.pk]


def test_twenty_keys_cost_no_more_queries_than_one(
    alice: User, hers: Client, django_assert_max_num_queries: Any
) -> None:
    key_of(alice, "first", stops={"month": USD})
    with django_assert_max_num_queries(50) as one:
        hers.get("/settings/keys/")
    for n in range(19):
        key_of(alice, f"key {n}", stops={"month": USD})
    with django_assert_max_num_queries(len(one)):
        hers.get("/settings/keys/")


def test_without_a_key_there_is_one_thing_to_do(hers: Client) -> None:
    page = words(hers.get("/settings/keys/"))
    assert "No keys yet" in page and page.count("btn-primary") - page.count("btn-primary skip") == 1


# --- Changed ------------------------------------------------------------------------------------------
def test_a_key_is_changed(alice: User, hers: Client) -> None:
    key = key_of(alice, stops={"month": USD})
    answer = hers.post(at(key), asked(name="Robot 2", month="", total="5", lasts="30"))
    assert (answer.status_code, answer["Location"]) == (303, "/settings/keys/")
    key.refresh_from_db()
    assert key.name == "Robot 2" and key.expires is not None and keys.stops_of(key) == {"total": 5 * USD}


def test_saving_the_form_as_it_came_changes_nothing(alice: User, hers: Client) -> None:
    with time_machine.travel(NOON, tick=False):
        hers.post(NEW, asked(lasts="30", day="1.5"))
        key = ApiKey.objects.get()
        before, stops = key.expires, keys.stops_of(key)
        form = hers.get(at(key)).context["form"]
        hers.post(at(key), {field.name: field.value() or "" for field in form})
    key.refresh_from_db()
    assert (key.expires, keys.stops_of(key)) == (before, stops)
    assert form["until"].value() == date(2026, 12, 12)


def test_a_page_that_lay_open_does_not_undo_a_cap_that_was_set_meanwhile(alice: User, hers: Client) -> None:
    key = key_of(alice)
    [old] = re.findall(r'name="seen" value="([^"]*)"', hers.get(at(key)).content.decode())
    for _ in range(2):  # the second time is a double click
        answer = hers.post(at(key), asked(month="5", seen=old), follow=True)
        assert "is saved" in words(answer)
    answer = hers.post(at(key), asked(name="Renamed", month="", seen=old), follow=True)
    assert "Nothing was saved: its caps were changed meanwhile." in words(answer)
    assert (keys.stops_of(key), ApiKey.objects.get().name) == ({"month": 5 * USD}, "Robot")


def test_a_page_that_lay_open_does_not_undo_a_warning_either(alice: User, hers: Client) -> None:
    key = key_of(alice)
    [old] = re.findall(r'name="seen" value="([^"]*)"', hers.get(at(key)).content.decode())
    hers.post(at(key), asked(month="5", warn_month="1", seen=old))
    answer = hers.post(at(key), asked(month="5", warn_month="", seen=old), follow=True)
    assert "Nothing was saved" in words(answer)
    assert keys.warns_of(key) == {"month": USD}


def test_the_question_before_a_low_cap_keeps_the_warnings(alice: User, hers: Client) -> None:
    give(alice)
    key = key_of(alice, stops={"month": 5 * USD})
    spend(key, 2 * USD)
    question = hers.post(at(key), asked(month="1", warn_month="0.5", job="0.1"))
    hidden = re.findall(r'type="hidden" name="(warn_month|job)" value="([^"]*)"', question.content.decode())
    assert hidden == [("warn_month", "0.5"), ("job", "0.1")]


def test_a_cap_below_what_is_used_asks_first(alice: User, hers: Client) -> None:
    give(alice)
    key = key_of(alice, stops={"month": 5 * USD})
    spend(key, 2 * USD)
    question = hers.post(at(key), asked(month="1", total="1.5"))
    assert "Stop this key now?" in words(question) and "It never starts afresh." in words(question)
    assert keys.stops_of(key) == {"month": 5 * USD}
    hers.post(at(key), asked(month="1", total="1.5", sure="yes"))
    assert keys.stops_of(key) == {"month": USD, "total": 1_500_000}


def test_a_cap_above_what_is_used_or_raised_does_not_ask(alice: User, hers: Client) -> None:
    give(alice)
    key = key_of(alice)
    spend(key, 2 * USD)
    assert hers.post(at(key), asked(month="2")).status_code == 303
    hers.post(at(key), asked(month="1", sure="yes"))
    assert hers.post(at(key), asked(month="1.5")).status_code == 303


def test_a_bad_change_keeps_what_was_typed(alice: User, hers: Client) -> None:
    answer = hers.post(at(key_of(alice)), asked(name="Robot 2", month="lots"))
    assert answer.status_code == 422 and 'value="Robot 2"' in answer.content.decode()


def test_what_has_ended_has_no_form_and_takes_no_change(alice: User, hers: Client) -> None:
    key = key_of(alice)
    keys.revoke(key)
    assert "cannot be changed" in words(hers.get(at(key))) and 'name="month"' not in words(hers.get(at(key)))
    assert hers.post(at(key), asked(name="Zombie"))["Location"] == at(key)
    assert ApiKey.objects.get().name == "Robot"


# --- Rotated and revoked ------------------------------------------------------------------------------
def test_rotating_shows_the_new_key_once_and_when_the_old_one_ends(alice: User, hers: Client) -> None:
    old, old_text = keys.make(alice, "Robot")
    answer = hers.post(at(old, "rotate/"), {"overlap": "24"})
    [text] = set(TEXT.findall(answer.content.decode()))
    assert keys.find(text) and keys.find(old_text)
    assert "ends in 1 day" in words(answer) and "no-store" in answer["Cache-Control"]
    again = hers.post(at(old, "rotate/"), {"overlap": "24"})
    assert again.status_code == 409 and ApiKey.objects.count() == 2


def test_rotating_at_once_says_that_the_old_one_is_dead(alice: User, hers: Client) -> None:
    old, old_text = keys.make(alice, "Robot")
    assert "does not work any more" in words(hers.post(at(old, "rotate/"), {"overlap": "0"}))
    assert keys.find(old_text) is None


@pytest.mark.parametrize("overlap", ["", "5", "forever", "-1"])
def test_only_the_overlaps_on_offer_can_be_chosen(alice: User, hers: Client, overlap: str) -> None:
    assert hers.post(at(key_of(alice), "rotate/"), {"overlap": overlap}).status_code == 422
    assert ApiKey.objects.count() == 1


def test_the_page_says_why_a_key_cannot_be_rotated_yet(alice: User, hers: Client) -> None:
    new, _ = keys.rotate(key_of(alice), overlap=DAY)
    assert "still works" in words(hers.get(at(new)))
    answer = hers.post(at(new, "rotate/"), {"overlap": "0"}, follow=True)
    assert "Revoke that one first" in words(answer) and ApiKey.objects.count() == 2


def test_revoking_asks_says_the_last_use_and_ends_it_at_once(alice: User, hers: Client) -> None:
    key, text = keys.make(alice, "Robot")
    with time_machine.travel(NOON, tick=False):
        keys.used(key, NOON - timedelta(minutes=5))
        assert "last used 5 minutes ago" in words(hers.post(at(key, "revoke/")))
    assert keys.find(text)
    assert hers.post(at(key, "revoke/"), {"sure": "yes"})["Location"] == "/settings/keys/"
    assert keys.find(text) is None
    assert "had ended already" in words(hers.post(at(key, "revoke/"), {"sure": "yes"}, follow=True))


# --- Whose they are -----------------------------------------------------------------------------------
def test_bob_reaches_none_of_alices_keys(alice: User, his: Client) -> None:
    key, text = keys.make(alice, "Robot")
    answers = [
        his.get(at(key)),
        his.post(at(key), asked(name="Bob's")),
        his.post(at(key, "rotate/"), {"overlap": "0"}),
        his.post(at(key, "revoke/"), {"sure": "yes"}),
    ]
    assert [answer.status_code for answer in answers] == [404] * 4
    assert keys.find(text) and "Robot" not in words(his.get("/settings/keys/"))


def test_strangers_are_asked_to_log_in(alice: User) -> None:
    key = key_of(alice)
    for path in ("/settings/keys/", NEW, at(key)):
        assert Client().get(path)["Location"] == f"/accounts/login/?next={path}"
    assert Client().post(at(key, "revoke/"), {"sure": "yes"}).status_code == 302
    assert ApiKey.objects.get().revoked is None


def test_what_changes_something_is_a_post(alice: User, hers: Client) -> None:
    key = key_of(alice)
    assert [hers.get(at(key, deed)).status_code for deed in ("rotate/", "revoke/")] == [405, 405]
    assert hers.get("/settings/keys/99999999999999999999999/").status_code == 404
