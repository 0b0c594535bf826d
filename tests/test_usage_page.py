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

from accounts.models import Transfer, User
from playground import jobs, orders
from playground.models import Variant
from playground.views import usage as usage_views
from tests.making import KONTEXT, PRO, give, job_for, leased, picture_for
from tests.test_tally import something_happens

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
    assert page.count("nothing charged") == 2
    assert page_of(alice).context["totals"].spent == picture.job.price_micros
    assert "Nothing ended in this period" in page_of(bob).content.decode()
    assert csv_of(bob) == json_of(bob) == []


@pytest.mark.parametrize("seed", range(3))
def test_page_files_and_statement_agree_on_random_histories(alice: User, bob: User, seed: int) -> None:
    dice = random.Random(seed)
    with time_machine.travel(datetime(2026, 10, 28, tzinfo=UTC)) as clock:
        for user in (alice, bob):
            give(user, 1000)
        for _ in range(25):
            clock.shift(timedelta(hours=dice.randrange(9)))
            something_happens(dice, dice.choice([alice, bob]))
        for query in ("?period=today", "?period=7d", "?period=month", "?period=last-month"):
            asked, rows = page_of(alice, query).context["asked"], csv_of(alice, query)
            moved = Transfer.objects.filter(debit__user=alice, created__range=(asked.since, asked.until))
            spent = sum(moved.values_list("amount", flat=True))
            assert spent == page_of(alice, query).context["totals"].spent
            assert spent == sum(int(row["charged_micro_usd"]) for row in rows)
            assert [row["job"] for row in rows] == [row["job"] for row in json_of(alice, query)]


@pytest.mark.parametrize("status", ["paid", "preview", "kept", "failed", "cancelled"])
def test_a_status_and_a_variant_filter_page_and_file_alike(alice: User, status: str) -> None:
    give(alice)
    picture_for(alice)
    orders.keep(picture_for(alice, pay="preview"))
    jobs.fail(leased(job_for(alice)), "moderated")
    jobs.cancel(job_for(alice), by=alice)
    query = f"?status={status}&variant={PRO}"
    assert [row["status"] for row in csv_of(alice, query)] == [status]
    assert page_of(alice, query).context["totals"].spent == sum(
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


@pytest.mark.parametrize(
    "query", ["?before=x_y", "?period=x&status=y&variant=z", "?period=custom&from=x&to=9999-12-31"]
)
def test_a_mangled_address_is_a_page_all_the_same(alice: User, query: str) -> None:
    assert page_of(alice, query).status_code == 200


def test_a_name_that_a_spreadsheet_would_run_is_made_harmless(alice: User) -> None:
    jobs.cancel(job_for(alice, pay="preview"), by=alice)
    Variant.objects.filter(slug=PRO).update(label='=HYPERLINK("x")')
    [row] = csv_of(alice)
    assert row["what"].startswith("'=HYPERLINK")
