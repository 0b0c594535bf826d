import smtplib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.core import mail
from django.test import override_settings
from django.utils import timezone

from accounts import cap_mails, caps, keys, ledger, mails
from accounts.models import ApiKey, Cap, CapNotice, CapWindow, Transfer, User, Wallet
from playground import upkeep
from tests.making import USD, load_catalogue
from tests.racing import Track

LEAST = 10_000
NOON = datetime(2026, 11, 12, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _has_mail(settings: Any) -> Iterator[None]:
    """At noon, whenever the tests run: what is set just after midnight is another matter."""
    settings.HAS_MAIL, settings.BASE_URL = True, "https://flux.example"
    with time_machine.travel(NOON):
        yield


def spent(user: User, micros: int, window: str = "day", starts: str = "2026-11-12", held: int = 0) -> None:
    CapWindow.objects.update_or_create(
        subject=f"user:{user.pk}/usd",
        window=window,
        starts=starts,
        defaults={"spent": micros, "reserved": held},
    )


def subjects(now: datetime = NOON) -> list[str]:
    """What one sweep sends."""
    mail.outbox.clear()
    cap_mails.send_due(LEAST, now)
    return [sent.subject for sent in mail.outbox]


# --- When -------------------------------------------------------------------------------------------
def test_alice_is_told_at_50_80_and_100_percent_once_each(alice: User) -> None:
    caps.put(alice, "day", stop=5 * USD, warn=None)
    spent(alice, 2_499_999)
    assert subjects() == []
    spent(alice, 2_500_000)
    assert subjects() == ["50 % of your day cap of $5.00 is spent"]
    spent(alice, 3_999_999)
    assert subjects() == []
    spent(alice, 4 * USD)
    assert subjects() == ["80 % of your day cap of $5.00 is spent"]
    spent(alice, 4_990_000)  # the cheapest picture still fits
    assert subjects() == []
    spent(alice, 4_990_001)
    assert subjects() == ["Your day cap of $5.00 is reached"]
    assert subjects() == []


def test_a_leap_past_several_levels_is_one_mail_about_the_highest(alice: User) -> None:
    caps.put(alice, "day", stop=5 * USD, warn=1 * USD)
    spent(alice, 5 * USD)
    assert subjects() == ["Your day cap of $5.00 is reached"]
    assert CapNotice.objects.count() == 4
    assert subjects() == []


def test_alice_is_told_at_her_own_warning_with_or_without_a_stop(alice: User, bob: User) -> None:
    caps.put(alice, "month", stop=None, warn=3 * USD)
    caps.put(bob, "month", stop=10 * USD, warn=3 * USD)
    for user in (alice, bob):
        spent(user, 3 * USD, "month", "2026-11-01")
    assert subjects() == ["You have spent $3.00 this month"] * 2
    assert subjects() == []


def test_the_next_window_tells_anew(alice: User) -> None:
    caps.put(alice, "day", stop=5 * USD, warn=None)
    spent(alice, 3 * USD)
    assert len(subjects()) == 1
    spent(alice, 3 * USD, starts="2026-11-13")
    assert len(subjects(NOON + timedelta(days=1))) == 1


def test_what_is_only_held_is_not_spent(alice: User) -> None:
    caps.put(alice, "day", stop=5 * USD, warn=None)
    spent(alice, 0, held=5 * USD)
    assert subjects() == []


def test_a_cap_of_nothing_is_no_news(alice: User) -> None:
    caps.put(alice, "day", stop=0, warn=None)
    spent(alice, 0)
    assert subjects() == []


def test_removing_and_setting_the_cap_again_does_not_repeat_a_mail(alice: User) -> None:
    caps.put(alice, "day", stop=5 * USD, warn=None)
    spent(alice, 3 * USD)
    assert len(subjects()) == 1
    caps.put(alice, "day", stop=None, warn=None)
    caps.put(alice, "day", stop=6 * USD, warn=None)
    assert subjects() == []


def test_a_stranger_and_a_suspended_account_hear_nothing(alice: User, bob: User) -> None:
    caps.put(alice, "day", stop=5 * USD, warn=None)
    spent(alice, 5 * USD)
    spent(bob, 5 * USD)
    User.objects.filter(pk=alice.pk).update(is_active=False)
    assert subjects() == []


def test_without_a_mail_server_nothing_is_sent_nor_noted(alice: User, settings: Any) -> None:
    settings.HAS_MAIL = False
    caps.put(alice, "day", stop=5 * USD, warn=None)
    spent(alice, 5 * USD)
    assert subjects() == []
    assert not CapNotice.objects.exists()


def test_the_sweep_sends_them(alice: User) -> None:
    load_catalogue()
    caps.put(alice, "day", stop=5 * USD, warn=None)
    spent(alice, 3 * USD, starts=str(ledger.window_start("day", timezone.now())))
    upkeep.sweep()
    assert [sent.to for sent in mail.outbox] == [["alice@example.org"]]


# --- Of API keys ---------------------------------------------------------------------------------------
def key_of(user: User, stops: dict[str, int | None], name: str = "shop & co") -> ApiKey:
    return keys.make(user, name, stops=stops)[0]


def spent_by(key: ApiKey, micros: int, window: str = "day") -> None:
    starts = ledger.window_start(window, NOON)
    which = {"subject": ledger.spending_by(key), "window": window, "starts": starts}
    CapWindow.objects.update_or_create(**which, defaults={"spent": micros})


def test_alice_is_told_of_the_caps_of_a_key_at_50_80_and_100_percent(alice: User) -> None:
    key = key_of(alice, {"day": 5 * USD})
    spent_by(key, 2_499_999)
    assert subjects() == []
    spent_by(key, 2_500_000)
    assert subjects() == ["50 % of the day cap of $5.00 of your API key “shop & co” is spent"]
    spent_by(key, 4 * USD)
    assert subjects() == ["80 % of the day cap of $5.00 of your API key “shop & co” is spent"]
    spent_by(key, 5 * USD)
    assert subjects() == ["The day cap of $5.00 of your API key “shop & co” is reached"]
    assert subjects() == []


def test_a_key_and_its_account_have_mails_of_their_own(alice: User) -> None:
    key = key_of(alice, {"day": 5 * USD, "month": 50 * USD})
    caps.put(alice, "day", stop=6 * USD, warn=None)
    spent(alice, 3 * USD)
    spent_by(key, 3 * USD)
    spent_by(key_of(alice, {"day": 9 * USD}, "other"), 2 * USD)
    assert subjects() == [
        "50 % of your day cap of $6.00 is spent",
        "50 % of the day cap of $5.00 of your API key “shop & co” is spent",
    ]
    assert subjects() == []


def test_the_mail_about_a_key_leads_to_the_key(alice: User) -> None:
    key = key_of(alice, {"total": 5 * USD})
    spent_by(key, 5 * USD, "total")
    assert subjects() == ["The cap for all time of $5.00 of your API key “shop & co” is reached"]
    [sent] = mail.outbox
    assert "Your API key “shop & co” has spent $5.00 in all." in sent.body
    assert "is refused until you raise it" in sent.body and "afresh" not in sent.body
    assert f"https://flux.example/settings/keys/{key.pk}/" in sent.body
    assert "“shop &amp; co”" in sent.alternatives[0].content


def test_a_key_that_was_rotated_is_told_of_once_with_the_new_one(alice: User) -> None:
    key = key_of(alice, {"day": 5 * USD})
    spent_by(key, 3 * USD)
    assert len(subjects()) == 1
    newer, _ = keys.rotate(key, overlap=timedelta(days=1))
    assert subjects() == []
    spent_by(newer, 4 * USD)
    assert len(subjects()) == 1
    assert f"/settings/keys/{newer.pk}/" in mail.outbox[0].body


def test_of_a_key_that_has_ended_nothing_is_told(alice: User) -> None:
    revoked, expired = key_of(alice, {"day": 5 * USD}), key_of(alice, {"day": 5 * USD})
    keys.revoke(revoked)
    ApiKey.objects.filter(pk=expired.pk).update(expires=NOON)
    for key in (revoked, expired):
        spent_by(key, 5 * USD)
    assert subjects() == []


def test_a_mail_about_a_key_that_was_not_taken_is_sent_again_alone(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    caps.put(alice, "day", stop=5 * USD, warn=None)
    spent(alice, 3 * USD)
    assert len(subjects()) == 1
    spent_by(key_of(alice, {"day": 5 * USD}), 3 * USD)
    with monkeypatch.context() as patch:
        patch.setattr(mails.EmailMultiAlternatives, "send", raises(ConnectionRefusedError()))
        assert subjects() == []
    assert len(subjects()) == 1
    assert Cap.objects.count() == CapNotice.objects.count() == 2


def test_alice_is_told_at_her_own_warning_of_a_key(alice: User) -> None:
    key, _ = keys.make(alice, "shop & co", stops={"job": 1}, warns={"month": 3 * USD})
    spent_by(key, 3 * USD - 1, "month")
    assert subjects() == []
    spent_by(key, 3 * USD, "month")
    assert subjects() == ["Your API key “shop & co” has spent $3.00 this month"]
    assert "You asked to be told at $3.00." in mail.outbox[0].body
    assert subjects() == []


# --- Of a window that has just ended -------------------------------------------------------------------
MIDNIGHT = datetime(2026, 12, 1, tzinfo=UTC)


def set_before_midnight(user: User, window: str, stop: int | None, warn: int | None = None) -> None:
    with time_machine.travel(MIDNIGHT - timedelta(hours=6), tick=False):
        caps.put(user, window, stop=stop, warn=warn)


def test_the_last_minute_of_a_day_is_told_after_midnight_and_once(alice: User) -> None:
    set_before_midnight(alice, "day", 5 * USD)
    spent(alice, 3 * USD, starts="2026-11-30")
    assert subjects(MIDNIGHT - timedelta(seconds=30)) == ["50 % of your day cap of $5.00 is spent"]
    spent(alice, 5 * USD, starts="2026-11-30")
    assert subjects(MIDNIGHT + timedelta(minutes=59)) == [
        "Your day cap of $5.00 was reached on 30 November (UTC)"
    ]
    body = " ".join(mail.outbox[0].body.split())
    assert "You spent $5.00 on 30 November (UTC). Your day cap stops at $5.00: 100 % of it was spent." in body
    assert "That day is over, and the cap has started afresh since." in body
    assert "today" not in body and "It starts afresh" not in body and "Not even" not in body
    assert subjects(MIDNIGHT + timedelta(minutes=59)) == []


def test_a_window_that_ended_an_hour_ago_is_told_of_no_more(alice: User) -> None:
    set_before_midnight(alice, "day", 5 * USD)
    spent(alice, 5 * USD, starts="2026-11-30")
    assert subjects(MIDNIGHT + timedelta(hours=1)) == []


def test_both_windows_are_told_of_each_by_itself(alice: User) -> None:
    set_before_midnight(alice, "month", 5 * USD, 2 * USD)
    spent(alice, 2 * USD, "month", "2026-11-01")
    spent(alice, 4 * USD, "month", "2026-12-01")
    assert subjects(MIDNIGHT + timedelta(minutes=5)) == [
        "You spent $2.00 in November (UTC)",
        "80 % of your month cap of $5.00 is spent",
    ]


def test_a_late_capture_of_a_key_is_told_of(alice: User) -> None:
    with time_machine.travel(MIDNIGHT - timedelta(hours=6), tick=False):
        key = key_of(alice, {"day": 5 * USD})
    CapWindow.objects.create(
        subject=ledger.spending_by(key), window="day", starts="2026-11-30", spent=4 * USD
    )
    assert subjects(MIDNIGHT + timedelta(minutes=5)) == [
        "80 % of the day cap of $5.00 of your API key “shop & co” was spent on 30 November (UTC)"
    ]
    assert "Your API key “shop & co” spent $4.00 on 30 November (UTC)." in mail.outbox[0].body


def test_a_cap_that_is_set_after_midnight_was_not_reached_before_it(alice: User) -> None:
    spent(alice, 8 * USD, starts="2026-11-30")
    key, now = key_of(alice, {}), MIDNIGHT + timedelta(minutes=5)
    with time_machine.travel(now, tick=False):
        caps.put(alice, "day", stop=5 * USD, warn=None)
        keys.change(key, name="shop", expires=None, stops={"day": 5 * USD})
    CapWindow.objects.create(
        subject=ledger.spending_by(key), window="day", starts="2026-11-30", spent=8 * USD
    )
    assert subjects(now) == []
    spent(alice, 5 * USD, starts="2026-12-01")
    assert subjects(now) == ["Your day cap of $5.00 is reached"]


def test_renaming_and_rotating_a_key_after_midnight_hush_nothing(alice: User) -> None:
    with time_machine.travel(MIDNIGHT - timedelta(hours=6), tick=False):
        key = key_of(alice, {"day": 5 * USD})
    with time_machine.travel(MIDNIGHT + timedelta(minutes=1), tick=False):
        keys.change(key, name="new name", expires=None, stops={"day": 5 * USD})
        keys.rotate(key, overlap=timedelta(days=1))
    CapWindow.objects.create(
        subject=ledger.spending_by(key), window="day", starts="2026-11-30", spent=5 * USD
    )
    assert len(subjects(MIDNIGHT + timedelta(minutes=5))) == 1


# --- What it says ---------------------------------------------------------------------------------------
def test_the_mail_is_text_and_html_and_links_to_the_caps(alice: User) -> None:
    caps.put(alice, "day", stop=5 * USD, warn=1 * USD)
    spent(alice, 5 * USD)
    subjects()
    [sent] = mail.outbox
    [html] = sent.alternatives
    assert html.mimetype == "text/html"
    for body in (sent.body, html.content):
        assert "You have spent $5.00 today. Your day cap stops at $5.00: 100 % of it is spent." in body
        assert "You asked to be told at $1.00." in body
        assert "Not even the cheapest picture fits any more" in body
        assert "at midnight UTC, in 12 hours" in body
        assert "https://flux.example/settings/caps/" in body


def test_without_a_public_address_the_mail_names_the_page(alice: User, settings: Any) -> None:
    settings.BASE_URL = ""
    caps.put(alice, "day", stop=5 * USD, warn=None)
    spent(alice, 3 * USD)
    subjects()
    assert 'on the page "Spend caps" of your settings' in mail.outbox[0].body
    assert "href" not in mail.outbox[0].alternatives[0].content


# --- When the mail server says no ------------------------------------------------------------------------
def test_a_mail_that_was_not_taken_is_sent_by_the_next_sweep(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    caps.put(alice, "day", stop=5 * USD, warn=None)
    spent(alice, 3 * USD)
    with monkeypatch.context() as patch:
        patch.setattr(mails.EmailMultiAlternatives, "send", raises(ConnectionRefusedError()))
        assert subjects() == []
    assert subjects() == ["50 % of your day cap of $5.00 is spent"]


def test_an_address_that_is_refused_does_not_hold_up_the_others(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    caps.put(alice, "day", stop=5 * USD, warn=None)
    spent(alice, 3 * USD)
    refused = smtplib.SMTPRecipientsRefused({"alice@example.org": (550, b"no such user")})
    monkeypatch.setattr(mails.EmailMultiAlternatives, "send", raises(refused))
    assert cap_mails.send_due(LEAST, NOON) == 1
    assert CapNotice.objects.get().level == "50"


def raises(error: Exception) -> Any:
    def send(self: Any) -> None:
        raise error

    return send


# --- Exactly once ----------------------------------------------------------------------------------------
def capture_and_sweep(number: int) -> list[str]:
    """Buys a picture and sweeps at once; the mails that this process sent."""
    user, sent = User.objects.get(), []

    class Outbox:
        def __init__(self, subject: str, **_: Any) -> None:
            self.subject = subject

        def attach_alternative(self, *_: Any) -> None: ...

        def send(self) -> None:
            sent.append(self.subject)

    wallet, limits = ledger.wallet_of(user), ledger.account_limits(user, 100_000)
    [held] = ledger.hold(wallet, [ledger.Promise(f"x:{number}", 100_000, "a picture")], limits)
    ledger.capture(held.pk, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)
    mails.EmailMultiAlternatives = Outbox  # type: ignore[misc,assignment]
    with override_settings(HAS_MAIL=True):
        for _ in range(3):
            cap_mails.send_due(LEAST)
    return sent


def make_alice() -> None:
    alice = User.objects.create_user("alice@example.org")
    ledger.grant(alice, 10 * USD, business_id="grant", memo="for a test")
    caps.put(alice, "day", stop=2 * USD, warn=600_000)


def test_twenty_captures_with_sweeps_at_once_tell_each_level_at_most_once(track: Track) -> None:
    track.alone(make_alice)
    outcomes = track.race(capture_and_sweep, [(number,) for number in range(20)])
    assert not [outcome for outcome in outcomes if outcome.error], outcomes
    sent = [subject for outcome in outcomes for subject in outcome.value]
    assert len(sent) == len(set(sent)), sent
    assert sent.count("Your day cap of $2.00 is reached") == 1
