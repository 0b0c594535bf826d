"""Alice sees where her money went, to the micro-dollar; the page, the files, the statement and the days agree."""

import csv
import io
import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client

from accounts import ledger
from accounts.models import ApiKey, Hold, Transfer, User, Wallet
from playground import jobs, orders
from playground.ids import new_id
from playground.models import Picture, UsageDay, Variant
from playground.views import usage as usage_views
from tests.making import KONTEXT, PRO, give, job_for, leased, picture_for
from tests.test_tally import key_of, something_happens

pytestmark = pytest.mark.django_db


def client_of(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def page_of(user: User, query: str = "") -> Any:
    return client_of(user).get(f"/usage/{query}")


def csv_of(user: User, query: str = "") -> list[dict[str, str]]:
    data = b"".join(client_of(user).get(f"/usage/csv/{query}").streaming_content)  # type: ignore[attr-defined]
    return list(csv.DictReader(io.StringIO(data.decode())))


def json_of(user: User, query: str = "") -> list[dict[str, Any]]:
    return json.loads(b"".join(client_of(user).get(f"/usage/json/{query}").streaming_content))["rows"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", ["/usage/", "/usage/csv/", "/usage/json/"])
def test_strangers_are_asked_to_log_in(path: str) -> None:
    assert Client().get(path)["Location"] == f"/accounts/login/?next={path}"


def test_alice_sees_what_she_paid_and_what_was_free_and_bob_sees_none_of_it(alice: User, bob: User) -> None:
    give(alice)
    picture = picture_for(alice)
    jobs.fail(leased(job_for(alice)), "moderated")
    picture_for(alice, pay="preview")
    page = page_of(alice).content.decode()
    assert f'href="/pictures/{picture.pk}/"' in page and f'href="/jobs/{picture.job_id}/"' in page
    assert page.count(">nothing<") == 2 and page.count(">unchanged<") == 2
    assert page_of(alice).context["totals"].spent == picture.job.price_micros
    assert "Nothing ended in this period" in page_of(bob).content.decode()
    assert csv_of(bob) == json_of(bob) == []


def refund(hold: Hold, micros: int) -> None:
    """As the desk does it: a movement that is about what was captured."""
    sides = {"debit": ledger.house(Wallet.House.REVENUE), "credit": hold.wallet}
    ledger.move(f"refund:{new_id()}", Transfer.Kind.REFUND, **sides, micros=micros, memo="Sorry", hold=hold)
    Hold.objects.filter(pk=hold.pk).update(refunded=hold.refunded + micros)


def refund_something(dice: random.Random, user: User) -> None:
    paid = list(Hold.objects.filter(wallet__user=user, captured__gt=0, refunded=0).order_by("pk"))
    if paid:
        hold = dice.choice(paid)
        refund(hold, dice.choice([hold.captured, hold.captured // 3]))


# What a person may ask for, and what the ledger is asked then.
ASKED = ["period=today", "period=7d", "period=month", "period=last-month"]


@pytest.mark.parametrize("seed", [0, *[pytest.param(seed, marks=pytest.mark.once) for seed in range(1, 3)]])
def test_page_files_and_statement_agree_on_random_histories(alice: User, bob: User, seed: int) -> None:
    dice = random.Random(seed)
    with time_machine.travel(datetime(2026, 10, 28, tzinfo=UTC)) as clock:
        for user in (alice, bob):
            give(user, 1000)
        for _ in range(30):
            clock.shift(timedelta(hours=dice.randrange(9)))
            something_happens(dice, dice.choice([alice, bob]))
            if dice.random() < 0.2:
                refund_something(dice, alice)
        for query in ASKED:
            asked, sums = (page_of(alice, f"?{query}").context[name] for name in ("asked", "totals"))
            moved = Transfer.objects.filter(created__gte=asked.since, created__lt=asked.until)
            out = sum(moved.filter(debit__user=alice).values_list("amount", flat=True))
            back = sum(moved.filter(credit__user=alice, kind="refund").values_list("amount", flat=True))
            assert (sums.spent, sums.refunded, sums.after_refunds) == (out, back, out - back)
            rows = csv_of(alice, f"?{query}")
            assert sum(int(row["charged_micro_usd"]) for row in rows) == out - back
            assert [row["job"] for row in rows] == [row["job"] for row in json_of(alice, f"?{query}")]
            check_parts(alice, query)


def check_parts(user: User, query: str) -> None:
    """What keys, variants and statuses have, one by one, is what all of them have together."""
    whole = page_of(user, f"?{query}").context["totals"].after_refunds
    filters = {
        "key": ["pages", *ApiKey.objects.filter(user=user).values_list("pk", flat=True)],
        "variant": Variant.objects.filter(pk__in=UsageDay.objects.values("variant")).values_list(
            "slug", flat=True
        ),
        "status": ["paid", "kept", "refunded"],
    }
    for name, values in filters.items():
        parts = 0
        for value in values:
            part = page_of(user, f"?{query}&{name}={value}").context["totals"].after_refunds
            rows = csv_of(user, f"?{query}&{name}={value}")
            assert part == sum(int(row["charged_micro_usd"]) for row in rows), (name, value)
            parts += part
        assert parts == whole, name


def test_the_bars_and_their_tables_add_up_to_what_was_spent(alice: User) -> None:
    give(alice)
    with time_machine.travel(datetime(2026, 11, 20, 12, tzinfo=UTC)) as clock:
        picture_for(alice)
        clock.shift(timedelta(days=2))
        orders.keep(picture_for(alice, pay="preview"))
        picture_for(alice)
        page = page_of(alice, "?period=7d")
    chart, spent = page.context["chart"], page.context["totals"].spent
    assert [bar.total for bar in chart.bars] == [0, 0, 0, 0, spent // 3, 0, spent * 2 // 3]
    assert sum(row["spent"] for row in page.context["by_variant"]) == spent
    text = page.content.decode()
    assert '<svg class="chart-plot"' in text and "22 November 2026: $0.07" in text and "style=" not in text


def test_where_nothing_was_paid_the_bars_count_pictures(alice: User) -> None:
    picture_for(alice, pay="preview")
    page = page_of(alice, "?period=today")
    assert [bar.total for bar in page.context["chart"].bars] == [1]
    assert "Pictures by day and variant" in page.content.decode()
    assert page_of(alice, "?period=today&status=failed").context["chart"] is None


@pytest.mark.parametrize("key", ["pages", "production", "trials"])
def test_a_key_filters_page_and_file_alike(alice: User, bob: User, key: str) -> None:
    give(alice)
    production, trials = key_of(alice), key_of(alice, is_test=True)
    of = {"pages": picture_for(alice)}
    of["production"] = picture_for(alice, call=orders.Call(key=production, asked={}))
    of["trials"] = picture_for(alice, call=orders.Call(key=trials, asked={}))
    asked = {"pages": "pages", "production": production.pk, "trials": trials.pk}[key]
    [row] = csv_of(alice, f"?key={asked}")
    names = {
        "pages": ("playground", ""),
        "production": ("Production", str(production.pk)),
        "trials": ("Trials", str(trials.pk)),
    }
    assert (row["by"], row["key"]) == names[key] and row["job"] == str(of[key].job_id)
    assert [row["job"] for row in json_of(alice, f"?key={asked}")] == [row["job"]]
    page = page_of(alice, f"?key={asked}")
    assert page.context["totals"].spent == int(row["charged_micro_usd"])
    assert [shown.job_id for shown in page.context["rows"]] == [of[key].job_id]
    assert f'value="{asked}" selected' in page.content.decode()


def test_what_a_test_key_ordered_is_free_and_counted_nowhere(alice: User) -> None:
    picture = picture_for(alice, call=orders.Call(key=key_of(alice, is_test=True), asked={}))
    assert isinstance(picture, Picture)
    [row] = csv_of(alice, "?status=test")
    assert (row["status"], row["charged_micro_usd"], row["quoted_micro_usd"]) == ("test", "0", "0")
    assert csv_of(alice, "?status=paid") == []
    sums = page_of(alice).context["totals"]
    assert (sums.spent, sums.pictures, sums.previews) == (0, 0, 0)


def test_a_key_of_somebody_else_filters_nothing_and_is_not_named(alice: User, bob: User) -> None:
    give(bob)
    picture_for(bob, call=orders.Call(key=key_of(bob), asked={}))
    page = page_of(alice, f"?key={key_of(bob).pk}")
    assert page.context["asked"].by_key is None and "Production" not in page.content.decode()
    assert page.context["rows"] == []


def test_a_refund_is_a_row_of_its_own(alice: User) -> None:
    give(alice)
    kept = picture_for(alice, pay="preview")
    orders.keep(kept)
    hold = Hold.objects.get(business_id=f"keep:{kept.pk}")
    refund(hold, 20_000)
    newest = csv_of(alice)[0]
    assert (newest["status"], newest["charged_micro_usd"], newest["picture"]) == (
        "refunded",
        "-20000",
        str(kept.pk),
    )
    assert newest["charged_credits"] == json_of(alice)[0]["charged_credits"] == "-2.85"
    assert int(newest["balance_after_micro_usd"]) == Wallet.objects.get(user=alice).posted
    page = page_of(alice)
    assert "2.85 credits ($0.02) refunded" in page.content.decode()
    assert page.context["totals"].after_refunds == hold.captured - 20_000


@pytest.mark.parametrize("status", ["paid", "preview", "kept", "failed", "cancelled", "refunded"])
def test_a_status_and_a_variant_filter_page_and_file_alike(alice: User, status: str) -> None:
    give(alice)
    refund(picture_for(alice).job.hold, 1)
    orders.keep(picture_for(alice, pay="preview"))
    jobs.fail(leased(job_for(alice)), "moderated")
    jobs.cancel(job_for(alice), by=alice)
    query = f"?status={status}&variant={PRO}"
    assert [row["status"] for row in csv_of(alice, query)] == [status]
    assert page_of(alice, query).context["totals"].after_refunds == sum(
        r["charged_micro_usd"] for r in json_of(alice, query)
    )
    assert csv_of(alice, f"?status={status}&variant={KONTEXT}") == []


def test_pages_have_no_gaps_and_no_repeats(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_views, "PAGE", 2)
    with time_machine.travel(datetime(2026, 10, 28, tzinfo=UTC), tick=False):  # all at the same moment
        for _ in range(5):
            jobs.cancel(job_for(alice, pay="preview"), by=alice)
        seen, query = [], ""
        while True:
            page = page_of(alice, query).context
            seen += [row.id for row in page["rows"]]
            if not page["older"]:
                break
            query = f"?before={page['older']}"
        assert len(seen) == len(set(seen)) == 5


def test_pages_of_refunds_have_no_gaps_either(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_views, "PAGE", 2)
    with time_machine.travel(datetime(2026, 10, 28, tzinfo=UTC), tick=False):
        give(alice)
        for _ in range(3):
            hold = picture_for(alice).job.hold
            refund(hold, 1), refund(hold, 1)
        seen, query = [], ""
        while query is not None:
            page = page_of(alice, query).context
            seen += [row.id for row in page["rows"]]
            query = page["older"] and f"?before={page['older']}"
    assert len(seen) == len(set(seen)) == 9


@pytest.mark.parametrize(
    "query",
    [
        "?key=x",
        "?key=99999999999999999999",
        "?before=x_y",
        "?period=x&status=y&variant=z",
        "?period=custom&from=x&to=9999-12-31",
    ],
)
def test_a_mangled_address_is_a_page_all_the_same(alice: User, query: str) -> None:
    assert page_of(alice, query).status_code == 200


def test_a_name_that_a_spreadsheet_would_run_is_made_harmless(alice: User) -> None:
    jobs.cancel(job_for(alice, pay="preview"), by=alice)
    give(alice)
    key = ApiKey.objects.create(user=alice, name="@SUM(A1)", digest="x")
    picture_for(alice, call=orders.Call(key=key, asked={}))
    Variant.objects.filter(slug=PRO).update(label='=HYPERLINK("x")')
    by_key, _ = csv_of(alice)
    assert by_key["what"].startswith("'=HYPERLINK") and by_key["by"] == "'@SUM(A1)"
