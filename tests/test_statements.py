"""Statements by month: they add up, they end where the next begins, and they go out as a page, CSV and PDF."""

import csv
import io
import random
import re
import uuid
import zlib
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import credits, ledger, monthly, monthly_pdf
from accounts.models import Hold, TopUp, Transfer, User, Wallet

NOV = datetime(2026, 11, 10, 12, tzinfo=UTC)


@pytest.fixture
def desk(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def grant(user: User, micros: int, at: datetime, memo: str = "For the outage") -> None:
    with time_machine.travel(at, tick=False):
        ledger.grant(user, micros, business_id=f"grant:{uuid.uuid4()}", memo=memo)


def charge(user: User, micros: int, at: datetime, memo: str = "FLUX.2 pro 1K, 1:1") -> None:
    with time_machine.travel(at, tick=False):
        [held] = ledger.hold(ledger.wallet_of(user), [ledger.Promise(f"job:{uuid.uuid4()}", micros, memo)])
        ledger.capture(held.pk, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)


def history(user: User, seed: int, moves: int = 60) -> list[tuple[datetime, int]]:
    """Random movements of half a year, each as it was made: when, and how many micro-dollars."""
    chance, made, balance = random.Random(seed), [], 0
    for at in sorted(
        datetime(2026, 5, 28, tzinfo=UTC) + timedelta(seconds=chance.uniform(0, 165 * 86400))
        for _ in range(moves)
    ):
        if balance < 5_000_000 or chance.random() < 0.3:
            change = chance.randrange(1, 20_000_000)
            grant(user, change, at)
        else:
            change = -chance.randrange(1, 1_000_000)
            charge(user, -change, at)
        balance += change
        made.append((at, change))
    return made


# --- It adds up ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_history_adds_up_month_by_month_to_the_micro_dollar(alice: User, bob: User, seed: int) -> None:
    history(bob, seed + 100, 5)  # a stranger's, which must not count
    made = history(alice, seed)
    wallet, balance = ledger.wallet_of(alice), 0
    found = monthly.months(wallet)[::-1]
    for month in found:
        mine = [change for at, change in made if (at.year, at.month) == (month.first.year, month.first.month)]
        assert (month.opened, month.count, month.came - month.went) == (balance, len(mine), sum(mine))
        assert monthly.month(wallet, month.first) == month
        assert sum(total.change for total in monthly.totals(wallet, month.first)) == sum(mine)
        lines = list(monthly.every(wallet, month))
        assert [line.change for line in lines] == mine
        balance = month.closed
        assert lines[-1].balance == balance
    wallet.refresh_from_db()
    assert balance == wallet.posted
    assert sum(month.count for month in found) == len(made)


def test_the_first_and_the_last_microsecond_of_a_month_are_in_it(alice: User) -> None:
    last = datetime(2026, 10, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    grant(alice, 5, last)
    grant(alice, 7, last + timedelta(microseconds=1))
    wallet = ledger.wallet_of(alice)
    assert [(month.name, month.opened, month.came) for month in monthly.months(wallet)] == [
        ("2026-11", 5, 7),
        ("2026-10", 0, 5),
    ]


def test_a_capture_dated_back_over_midnight_still_adds_up(alice: User) -> None:
    """Its row is younger than its date: the line belongs to the old month, and both months add up all the same."""
    midnight = datetime(2026, 11, 1, tzinfo=UTC)
    grant(alice, 1000, midnight - timedelta(days=1))
    [held] = ledger.hold(ledger.wallet_of(alice), [ledger.Promise(f"job:{uuid.uuid4()}", 100, "Picture")])
    grant(alice, 50, midnight + timedelta(seconds=1))
    house = ledger.house(Wallet.House.REVENUE)
    ledger.capture(held.pk, to=house, kind=Transfer.Kind.CHARGE, at=midnight - timedelta(seconds=1))
    wallet = ledger.wallet_of(alice)
    october, november = (monthly.month(wallet, date(2026, month, 1)) for month in (10, 11))
    assert (october.closed, november.opened, november.closed) == (900, 900, 950)
    for month in (october, november):
        assert list(monthly.every(wallet, month))[-1].balance == month.closed


def test_pages_of_lines_go_on_where_the_last_one_ended(alice: User) -> None:
    history(alice, 5, 40)
    wallet = ledger.wallet_of(alice)
    month = max(monthly.months(wallet), key=lambda month: month.count)
    whole, after, pieces = list(monthly.every(wallet, month)), 0, []
    while page := monthly.lines(wallet, month, after, 3):
        pieces += page
        after = page[-1].id
    assert pieces == whole


# --- The pages ----------------------------------------------------------------------------------------
def test_a_month_on_its_page(desk: Client, alice: User) -> None:
    grant(alice, 10_000_000, NOV - timedelta(days=30))
    charge(alice, 35_000, NOV)
    listed = desk.get("/account/statements/").content.decode()
    assert listed.index("November 2026") < listed.index("October 2026")
    page = desk.get("/account/statements/2026-11/").content.decode()
    for said in (
        "November 2026",
        "Balance before",
        "$10.00",
        "-$0.035",
        "$9.965",
        "FLUX.2 pro 1K, 1:1",
        "10 Nov, 12:00",
    ):
        assert said in page
    assert "$10.00" not in desk.get("/account/statements/2026-09/").content.decode()


def test_times_are_utc_whatever_clock_the_browser_has(desk: Client, alice: User) -> None:
    grant(alice, 1_000_000, datetime(2026, 11, 1, 0, 30, tzinfo=UTC))
    User.objects.filter(pk=alice.pk).update(time_zone="America/New_York")
    assert "1 Nov, 00:30" in desk.get("/account/statements/2026-11/").content.decode()


def test_long_months_come_in_pages(desk: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    for minute in range(5):
        grant(alice, 1_000_000, NOV + timedelta(minutes=minute), memo=f"gift {minute}")
    monkeypatch.setattr(monthly, "PAGE", 2)
    seen, address = [], "/account/statements/2026-11/"
    for _ in range(3):
        page = desk.get(address).content.decode()
        seen += re.findall(r"gift \d", page)
        more = re.search(r'href="(\?after=\d+)"', page)
        address = f"/account/statements/2026-11/{more[1]}" if more else ""
        assert "$5.00" in page  # the sums count every line
    assert (seen, address) == ([f"gift {minute}" for minute in range(5)], "")


@pytest.mark.parametrize(
    "name", ["2026-13", "2026-1", "1999-12", "9999-12", "2031-01", "november", "2026-11-01"]
)
def test_what_is_no_month_is_not_found(desk: Client, name: str) -> None:
    for ending in ("/", ".csv", ".pdf"):
        assert desk.get(f"/account/statements/{name}{ending}").status_code == 404


def test_an_empty_account_has_no_statement_yet(desk: Client) -> None:
    assert "Nothing has moved yet" in desk.get("/account/statements/").content.decode()


# --- Files --------------------------------------------------------------------------------------------
def test_the_csv_has_every_line_and_adds_up(
    desk: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant(alice, 10_000_001, NOV - timedelta(days=30))
    for minute in range(7):
        charge(alice, 35_000 + minute, NOV + timedelta(minutes=minute))
    monkeypatch.setattr(monthly, "PAGE", 3)
    answer = desk.get("/account/statements/2026-11.csv")
    assert answer["Content-Disposition"] == 'attachment; filename="statement-2026-11.csv"'
    rows = list(csv.DictReader(io.StringIO(b"".join(answer).decode())))
    assert (rows[0]["about"], rows[0]["balance_usd"], len(rows)) == ("", "10.000001", 8)
    total = sum(credits.micros_of(row["usd"].removeprefix("-")) for row in rows[1:])
    assert credits.micros_of(rows[-1]["balance_usd"]) == 10_000_001 - total


def test_a_memo_is_no_formula_in_a_spreadsheet(desk: Client, alice: User) -> None:
    grant(alice, 1_000_000, NOV, memo="=HYPERLINK(1)")
    assert b"'=HYPERLINK(1)" in b"".join(desk.get("/account/statements/2026-11.csv"))


def words_of(pdf: bytes) -> str:
    """The text that a PDF shows."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    shown = b"".join(zlib.decompress(stream) for stream in streams if stream[:1] == b"\x78")
    return b" ".join(re.findall(rb"\((.*?)(?<!\\)\) Tj", shown)).decode("latin-1")


def test_the_pdf_shows_the_sums_and_the_lines(desk: Client, alice: User) -> None:
    grant(alice, 10_000_000, NOV - timedelta(days=30))
    charge(alice, 35_000, NOV)
    answer = desk.get("/account/statements/2026-11.pdf")
    assert (answer["Content-Type"], answer.content[:5]) == ("application/pdf", b"%PDF-")
    words = words_of(answer.content)
    for said in (
        "Statement November 2026",
        "Balance before",
        "$10.00",
        "-$0.035",
        "$9.965",
        "FLUX.2 pro 1K, 1:1",
    ):
        assert said in words


@pytest.mark.parametrize(
    "memo",
    [
        "für Zoë",
        "日本語 русский العربية",
        "🦊" * 100,
        "e\u0301\u202e\u0000\x1b\n\t",
        "\ud800".encode("utf-8", "replace").decode(),
        "x" * 200,
        "(a) \\ (b",
    ],
)
def test_no_memo_in_any_script_keeps_somebody_from_their_statement(alice: User, memo: str) -> None:
    at = timezone.now()
    month = monthly.Month(date(2026, 11, 1), 1, 0, 1, 0)
    line = monthly.Line(1, at, "Credits granted", memo, "", 1, 1)
    made = monthly_pdf.render(month, [], [line], seller=memo, buyer=memo, is_short=True)
    assert "Credits granted" in words_of(made)


def test_what_latin_letters_cannot_say_is_marked_and_the_rest_is_kept() -> None:
    assert monthly_pdf.latin("Zoë – “fox” 狐 e\u0301") == 'Zoë - "fox" ? é'


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("Łucja Dvořáková", "Lucja Dvoráková alice@example.org"),
        ("Ștefan Ōe", "Stefan Oe alice@example.org"),
        ("Who?", "Who? alice@example.org"),
        ("Παπαδοπούλου", "for alice@example.org"),
        ("田中", "for alice@example.org"),
    ],
)
def test_a_name_is_on_the_pdf_as_far_as_it_can_be_read(
    desk: Client, alice: User, name: str, known: str
) -> None:
    User.objects.filter(pk=alice.pk).update(name=name)
    assert known in words_of(desk.get("/account/statements/2026-11.pdf").content)


def test_printed_pages_can_be_put_in_order(alice: User) -> None:
    month = monthly.Month(date(2026, 11, 1), 90, 0, 90, 0)
    lines = [monthly.Line(n, timezone.now(), "Credits granted", "", "", 1, n) for n in range(90)]
    made = monthly_pdf.render(month, [], lines, seller="A", buyer="alice", is_short=False)
    words = " ".join(words_of(made).split())
    assert "Statement November 2026 for alice, page 1 of 3" in words and "page 3 of 3" in words


def test_a_pdf_of_a_long_month_says_that_it_is_not_all(
    desk: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for minute in range(4):
        grant(alice, 1_000_000, NOV + timedelta(minutes=minute))
    monkeypatch.setattr("accounts.views.statements.MOST_LINES_OF_PDF", 2)
    words = words_of(desk.get("/account/statements/2026-11.pdf").content)
    assert "Of 4 lines these are the first" in words
    assert words.count("Credits granted For the outage") == 2


# --- What it costs ------------------------------------------------------------------------------------
def test_a_month_costs_as_many_queries_for_many_lines_as_for_few(desk: Client, alice: User) -> None:
    counts = []
    desk.get("/account/")  # what the first request of a session does is not what is counted
    for lines in (1, 12):
        for minute in range(lines):
            grant(alice, 1_000_000, NOV + timedelta(minutes=minute))
        with CaptureQueriesContext(connection) as asked:
            assert desk.get("/account/statements/2026-11/").status_code == 200
        counts.append(len(asked))
    assert counts[0] == counts[1] <= 12


# --- Receipts -----------------------------------------------------------------------------------------
def bought(user: User, **changes: Any) -> TopUp:
    return TopUp.objects.create(
        user=user,
        **{
            "micros": 25_000_000,
            "cents": 2500,
            "state": "paid",
            "paid": NOV,
            "payment_id": "pi_1",
            **changes,
        },
    )


def test_a_receipt_names_both_sides_the_number_and_the_amount(
    desk: Client, alice: User, settings: Any
) -> None:
    settings.OPERATOR_NAME, settings.OPERATOR_EMAIL = "Example GmbH", "olga@example.org"
    User.objects.filter(pk=alice.pk).update(name="Alice Doe")
    top_up = bought(alice, paid_back_cents=500)
    page = desk.get(f"/account/purchases/{top_up.pk}/receipt/").content.decode()
    for said in (
        top_up.number,
        "Example GmbH",
        "olga@example.org",
        "Alice Doe",
        "$25.00",
        "10 November 2026",
        "pi_1",
        "-$5.00",
    ):
        assert said in page
    assert top_up.number in desk.get("/account/buy/").content.decode()


@pytest.mark.parametrize("state", ["started", "waiting", "expired", "failed"])
def test_what_is_not_paid_has_no_receipt(desk: Client, alice: User, state: str) -> None:
    top_up = bought(alice, state=state, paid=None)
    assert desk.get(f"/account/purchases/{top_up.pk}/receipt/").status_code == 404


def test_a_line_of_a_purchase_leads_to_it(desk: Client, alice: User) -> None:
    top_up = bought(alice)
    ledger.move(
        f"purchase:{top_up.pk.hex}",
        Transfer.Kind.PURCHASE,
        debit=ledger.house(Wallet.House.PURCHASES),
        credit=ledger.wallet_of(alice),
        micros=25_000_000,
        memo="Receipt",
    )
    assert f'href="/account/purchases/{top_up.pk}/"' in desk.get("/account/").content.decode()
    assert not Hold.objects.exists()
