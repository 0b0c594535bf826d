from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts import ledger, statement
from accounts.models import Transfer, User, Wallet


def grant(user: User, micros: int, business_id: str) -> None:
    ledger.grant(user, micros, business_id=business_id, memo="For the outage on Monday")


def hold(user: User, micros: int, business_id: str) -> int:
    [held] = ledger.hold(ledger.wallet_of(user), [ledger.Promise(business_id, micros, "FLUX.2 pro 1K, 1:1")])
    return held.pk


def page_of(user: User, query: str = "") -> str:
    client = Client()
    client.force_login(user)
    return client.get(f"/account/{query}").content.decode()


@pytest.mark.django_db
def test_strangers_are_asked_to_log_in() -> None:
    response = Client().get("/account/")
    assert (response.status_code, response["Location"]) == (302, "/accounts/login/?next=/account/")


def test_alice_sees_her_balance_in_credits_and_dollars(alice: User) -> None:
    grant(alice, 10_000_000, "grant:1")
    assert "1,428.57 credits ($10.00)" in page_of(alice)


def test_what_is_held_is_listed_and_told_apart_from_what_is_left(alice: User) -> None:
    grant(alice, 10_000_000, "grant:1")
    job = "0192d3a0-0000-7000-8000-000000000001"
    hold(alice, 35_000, f"job:{job}")
    page = page_of(alice)
    assert "5.00 credits ($0.035)" in page
    assert "1,423.57 credits ($9.965)" in page
    assert f'<a href="/jobs/{job}/">FLUX.2 pro 1K, 1:1</a>' in page


def test_the_statement_has_sign_balance_and_reason(alice: User) -> None:
    grant(alice, 10_000_000, "grant:1")
    picture = "0192d3a0-0000-7000-8000-000000000001"
    held = hold(alice, 35_000, f"keep:{picture}")
    ledger.capture(held, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.KEEP)
    lines, older = statement.page(ledger.wallet_of(alice))
    assert [(line.change, line.balance) for line in lines] == [(-35_000, 9_965_000), (10_000_000, 10_000_000)]
    assert older is None
    page = page_of(alice)
    assert f'<a href="/pictures/{picture}/">Preview kept in full size</a>' in page
    assert "-5.00" in page
    assert "+1,428.57" in page
    assert "For the outage on Monday" in page


def test_the_statement_pages_without_gaps_or_repeats(alice: User, bob: User) -> None:
    revenue = ledger.house(Wallet.House.REVENUE)
    for number in range(statement.PAGE):
        grant(alice, 70_000, f"grant:{number}")
        ledger.capture(hold(alice, 7_000, f"x:{number}"), to=revenue, kind=Transfer.Kind.CHARGE)
    grant(bob, 1, "grant:bob")
    wallet = ledger.wallet_of(alice)
    first, older = statement.page(wallet)
    second, end = statement.page(wallet, older)
    ids = [line.id for line in [*first, *second]]
    assert len(ids) == len(set(ids)) == 2 * statement.PAGE
    assert ids == sorted(ids, reverse=True)
    assert end is None
    assert f'href="?before={older}"' in page_of(alice)
    assert "Newest" in page_of(alice, f"?before={older}")


def test_a_page_of_the_statement_costs_the_same_however_many_lines(
    alice: User, django_assert_max_num_queries: Any
) -> None:
    for number in range(statement.PAGE):
        grant(alice, 7_000, f"grant:{number}")
        hold(alice, 7_000, f"job:0192d3a0-0000-7000-8000-{number:012}")
    client = Client()
    client.force_login(alice)
    with django_assert_max_num_queries(10):
        client.get("/account/")


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 30, "1.5", "%00"])
def test_a_nonsense_cursor_is_the_first_page(alice: User, cursor: str) -> None:
    assert "Your credits" in page_of(alice, f"?before={cursor}")


def test_previews_left_start_afresh_at_midnight_utc(alice: User, settings: Any) -> None:
    settings.PREVIEWS_PER_DAY = 20
    house = ledger.house(Wallet.House.PREVIEW)
    promises = [ledger.Promise(f"job:{n}", 0, "preview") for n in range(3)]
    ledger.hold(house, promises, ledger.preview_limits(alice, 0))
    assert "17 of 20" in page_of(alice)
    with time_machine.travel(timezone.now() + timedelta(days=1)):
        assert "20 of 20" in page_of(alice)


def test_waiting_welcome_credits_are_announced(alice: User) -> None:
    assert "are waiting" not in page_of(alice)
    alice.awaits_welcome = True
    alice.save()
    assert "1,428.57 credits ($10.00), are waiting" in page_of(alice)
