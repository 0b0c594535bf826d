"""Test keys: the same API, sandbox pictures, no money, and outcomes by name."""

import json
from typing import Any

import pytest
from django.test import Client

from accounts import ledger
from accounts.models import Transfer, User
from playground import jobs, orders, upkeep
from playground.models import Job, UsageDay
from tests.calling import Api
from tests.driving import drive_until_final
from tests.making import give, load_catalogue

RECORD = "/api/v1/jobs/recordInfo"


@pytest.fixture
def api(alice: User, settings: Any) -> Api:
    settings.SANDBOX_DELAY_S = 0.01
    load_catalogue()
    return Api(alice, is_test=True)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("by_header", "prompt", "state", "code"),
    [
        ("", "a fox", "success", ""),
        ("success", "a fox [moderated]", "success", ""),
        ("moderated", "a fox", "fail", "400"),
        ("upstream_error", "a fox", "fail", "501"),
        ("", "a fox [moderated]", "fail", "400"),
        ("", "a fox [upstream error]", "fail", "501"),
    ],
)
def test_it_ends_as_asked_and_nothing_is_charged(
    api: Api, alice: User, by_header: str, prompt: str, state: str, code: str
) -> None:
    task = api.create(prompt, headers={"x-test-outcome": by_header} if by_header else {}).json()["data"][
        "taskId"
    ]
    drive_until_final()
    data = api.get(RECORD, {"taskId": task}).json()["data"]
    assert (data["state"], data["failCode"], data["creditsCharged"]) == (state, code, 0)
    assert bool(data["resultJson"] and json.loads(data["resultJson"])["resultUrls"]) == (state == "success")
    assert not Transfer.objects.filter(debit__user=alice).exists() and not UsageDay.objects.exists()
    assert Job.objects.get().provider == "sandbox" and upkeep.audit() == []


def test_refusals_can_be_asked_for(api: Api) -> None:
    for outcome, status in (("insufficient_credits", 402), ("rate_limit", 429), ("nonsense", 422)):
        assert api.create(headers={"x-test-outcome": outcome}).status_code == status
    assert api.create("a fox [insufficient credits]").status_code == 402
    assert not Job.objects.exists()


def test_it_works_without_a_balance_and_beside_a_cap(api: Api, alice: User) -> None:
    assert ledger.wallet_of(alice).posted == 0
    assert api.create().status_code == 200


def test_a_live_key_cannot_ask_for_an_outcome(alice: User) -> None:
    load_catalogue()
    response = Api(alice).create(headers={"x-test-outcome": "success"})
    assert response.status_code == 422 and response.json()["error"]["param"] == "x-test-outcome"


def test_test_tasks_and_live_tasks_do_not_see_one_another(api: Api, alice: User) -> None:
    task = api.create().json()["data"]["taskId"]
    assert Api(alice).get(RECORD, {"taskId": task}).status_code == 404
    assert Api(alice).get("/api/v1/jobs").json()["data"]["items"] == []


@pytest.mark.django_db(transaction=True)
def test_the_pages_say_that_a_test_picture_cost_nothing(api: Api, alice: User) -> None:
    """And quote no price for it, and take it for no preview."""
    api.create()
    drive_until_final()
    job, hers = Job.objects.get(), Client()
    hers.force_login(alice)
    for path in ("/gallery/", job.picture.get_absolute_url(), job.run.get_absolute_url()):
        page = hers.get(path).content.decode().partition("<main")[2]
        assert "$0.035" not in page and "free preview" not in page
        assert ">test</span>" in page or "test key" in page


def test_the_pages_do_not_order_a_test_picture_again(api: Api, alice: User) -> None:
    api.create()
    assert jobs.cancel(Job.objects.get(), by=alice)
    with pytest.raises(orders.NotPossible):
        orders.retry(Job.objects.get())


def test_an_idempotency_key_tried_out_with_a_test_key_is_new_to_a_live_one(alice: User) -> None:
    """Or the first real order would be answered with a task that nobody pays and that its key cannot see."""
    load_catalogue()
    give(alice)
    once = {"Idempotency-Key": "order-1"}
    tried = Api(alice, is_test=True).create(headers=once).json()["data"]["taskId"]
    live = Api(alice)
    real = live.create(headers=once)
    assert "Idempotent-Replayed" not in real and real.json()["data"]["taskId"] != tried
    assert live.create(headers=once).json() == real.json()
    assert ledger.wallet_of(alice).held == 35_000
