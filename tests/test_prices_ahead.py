"""Prices dated ahead: told to everybody, in force when they begin, and no receipt moves."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import Client

from accounts import ledger
from accounts.models import User
from playground import catalog, upkeep
from playground.models import Job, Price, Run, Variant
from tests.making import FLEX_2K, PRO, USD, give, picture_for, run_for
from tests.test_admin import new_price, variant_form

pytestmark = pytest.mark.django_db
BEFORE, CHANGE, AFTER = (datetime(2026, 11, 30, tzinfo=UTC) + timedelta(days=days) for days in range(3))


@pytest.fixture
def now(db: None) -> Any:
    with time_machine.travel(BEFORE, tick=False) as clock:
        call_command("load_catalog", verbosity=0, stdout=io.StringIO())
        yield clock


def set_price(desk: Client, usd: str, starts: datetime = CHANGE, **more: Any) -> Variant:
    variant = Variant.objects.get(slug=PRO)
    form = variant_form(variant, reason="The upstream is dearer", **new_price(usd, starts), **more)
    assert desk.post(f"/admin/playground/variant/{variant.pk}/change/", form).status_code == 302
    return variant


def test_it_is_in_force_from_its_moment_and_not_before(now: Any, desk: Client) -> None:
    set_price(desk, "0.07")
    now.move_to(CHANGE - timedelta(seconds=1))
    assert catalog.by_slugs([PRO])[0].price_micros == 35_000
    now.move_to(CHANGE)
    assert catalog.by_slugs([PRO])[0].price_micros == 70_000
    entry = LogEntry.objects.get()
    assert "price added: $0.07 for" in entry.change_message
    assert entry.change_message.endswith("from 2026-12-01 00:00 UTC: The upstream is dearer")


def test_everybody_is_told(now: Any, desk: Client) -> None:
    variant = set_price(desk, "0.03")
    for path in ("/pricing/", "/models/", variant.get_absolute_url()):
        assert "from 1 December: $0.03" in Client().get(path).content.decode()
    now.move_to(AFTER)
    for path in ("/pricing/", "/models/", variant.get_absolute_url()):
        assert "from 1 December" not in Client().get(path).content.decode()


@pytest.mark.parametrize(
    ("starts", "told"),
    [
        (datetime(2026, 12, 1, 9, 30, tzinfo=UTC), "from 1 December, 09:30 UTC: $0.05"),
        (datetime(2027, 1, 2, tzinfo=UTC), "from 2 January 2027: $0.05"),
    ],
)
def test_the_next_price_is_told_with_what_its_date_needs(now: Any, starts: datetime, told: str) -> None:
    variant = Variant.objects.get(slug=PRO)
    Price.objects.create(variant=variant, micros=90_000, starts=starts + timedelta(days=400))
    Price.objects.create(variant=variant, micros=50_000, starts=starts)
    assert told in Client().get("/pricing/?q=1.0s-1K").content.decode()


def test_no_receipt_and_no_order_moves(now: Any, desk: Client, alice: User) -> None:
    give(alice)
    set_price(desk, "0.07")
    paid, waiting = picture_for(alice), run_for(alice)
    now.move_to(AFTER)
    assert Job.objects.get(pk=paid.job_id).price_micros == 35_000
    job = waiting.jobs.get()
    assert (job.price_micros, job.hold.amount) == (35_000, 35_000)
    assert ledger.wallet_of(alice).posted == 10 * USD - 35_000
    assert run_for(alice).jobs.get().price_micros == 70_000
    findings = upkeep.audit(with_files=False)
    assert [found for found in findings if "deadline" not in found["invariant"]] == []  # nothing drives here


def order(client: Client, page: str, *slugs: str, pay: str = "credits") -> Any:
    priced = page.split('name="priced" value="')[1].split('"')[0]
    form = {
        "prompt": "a fox in the snow",
        "variants": slugs or [PRO],
        "pay": pay,
        "nonce": "one",
        "priced": priced,
    }
    return client.post("/runs/", form)


def test_whoever_ordered_at_the_old_price_is_asked_again(now: Any, desk: Client, alice: User) -> None:
    give(alice)
    set_price(desk, "0.07")
    client = Client()
    client.force_login(alice)
    page = client.get("/").content.decode()
    now.move_to(AFTER)
    asked = order(client, page)
    assert asked.status_code == 422
    told = "FLUX.2 pro 1K costs 10.00 credits ($0.07) now, not 5.00 credits ($0.035)."
    assert told in asked.content.decode()
    assert not Run.objects.exists()
    assert order(client, asked.content.decode()).status_code == 303
    assert Run.objects.get().jobs.get().price_micros == 70_000


def test_whoever_orders_at_once_after_a_fall_pays_less_and_is_not_asked(
    now: Any, desk: Client, alice: User
) -> None:
    give(alice)
    set_price(desk, "0.01")
    client = Client()
    client.force_login(alice)
    page = client.get("/").content.decode()
    now.move_to(AFTER)
    assert order(client, page).status_code == 303
    assert Run.objects.get().jobs.get().price_micros == 10_000


def test_previews_and_other_variants_are_not_asked_about(now: Any, desk: Client, alice: User) -> None:
    give(alice)
    set_price(desk, "0.07")
    client = Client()
    client.force_login(alice)
    page = client.get("/").content.decode()
    now.move_to(AFTER)
    assert order(client, page, FLEX_2K).status_code == 303
    assert order(client, page, pay="preview").status_code == 303


@pytest.mark.parametrize("priced", ["", "soon", "nan", "1e400", "-9e18", "99999999999"])
def test_a_page_that_says_no_time_is_as_good_as_one_that_says_now(now: Any, alice: User, priced: str) -> None:
    give(alice)
    client = Client()
    client.force_login(alice)
    form = {"prompt": "a fox", "variants": [PRO], "pay": "credits", "nonce": priced, "priced": priced}
    assert client.post("/runs/", form).status_code == 303


def test_a_price_that_has_not_begun_is_cancelled_with_a_reason(now: Any, desk: Client) -> None:
    variant = set_price(desk, "0.07")
    price = variant.prices.get(micros=70_000)
    at = f"/admin/playground/variant/cancel-price/?ids={price.pk}"
    assert at in desk.get(f"/admin/playground/variant/{variant.pk}/change/").content.decode()
    desk.post(at, {"once": "a", "reason": ""})
    assert variant.prices.count() == 2
    desk.post(at, {"once": "a", "reason": "Negotiated"})
    assert variant.prices.count() == 1
    newest = LogEntry.objects.order_by("-pk")[0]
    assert newest.object_id == str(variant.pk)
    assert newest.change_message.endswith("from 2026-12-01 00:00 UTC: Negotiated")


def test_a_price_that_has_begun_is_never_cancelled(now: Any, desk: Client) -> None:
    variant = set_price(desk, "0.07")
    price = variant.prices.get(micros=70_000)
    now.move_to(AFTER)
    desk.force_login(User.objects.get(email="charlie@example.org"))
    at = f"/admin/playground/variant/cancel-price/?ids={price.pk}"
    assert b"That price has begun" in desk.post(at, {"once": "a", "reason": "x"}, follow=True).content
    assert variant.prices.count() == 2


def test_a_route_changes_with_a_reason_alone(now: Any, desk: Client) -> None:
    variant = Variant.objects.get(slug=PRO)
    route = variant.routes.get(provider="bfl")
    form = variant_form(variant) | {
        "routes-TOTAL_FORMS": 1, "routes-INITIAL_FORMS": 1, "routes-0-id": route.pk, "routes-0-variant": variant.pk,
        "routes-0-provider": "bfl", "routes-0-upstream_model": "flux-2-pro", "routes-0-usd": "0.05",
        "routes-0-fixed": "{}", "routes-0-ignores": "[]", "routes-0-position": 2,
    }  # fmt: skip
    at = f"/admin/playground/variant/{variant.pk}/change/"
    assert b"Say why" in desk.post(at, form).content
    assert desk.post(at, form | {"reason": "New list of theirs"}).status_code == 302
    route.refresh_from_db()
    assert route.cost_micros == 50_000
    assert "usd: 0.03 -> 0.05" in LogEntry.objects.get().change_message
