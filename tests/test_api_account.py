"""What is left, and addresses from which a result is saved."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine

from accounts import ledger
from accounts.models import User
from playground import result_links
from playground.api.account import in_credits
from tests.calling import Api
from tests.making import give, job_for, load_catalogue, picture_for

CREDIT = "/api/v1/chat/credit"
DOWNLOAD = "/api/v1/common/download-url"


@pytest.fixture
def api(alice: User) -> Api:
    load_catalogue()
    give(alice)
    return Api(alice)


def test_the_balance_is_a_bare_number(api: Api, alice: User) -> None:
    assert api.get(CREDIT).json() == {"code": 200, "msg": "success", "data": 1428.57}
    job_for(alice)  # holds 5 credits
    assert api.get(CREDIT).json()["data"] == 1423.57


@pytest.mark.parametrize(
    ("micros", "credits"), [(0, "0"), (35_000, "5"), (6_999, "0.99"), (10_000_000, "1428.57"), (-1, "0")]
)
def test_credits_are_rounded_down(micros: int, credits: str) -> None:
    assert str(in_credits(micros)) == credits


def test_a_result_can_be_saved_for_twenty_minutes(api: Api, alice: User, client: Any) -> None:
    picture = picture_for(alice)
    with time_machine.travel(datetime(2026, 5, 1, tzinfo=UTC), tick=False) as clock:
        url = result_links.url(picture, "http://testserver", format="png")
        clock.shift(timedelta(days=3))  # long over, and its owner asks
        assert client.get(url).status_code == 410
        data = api.post(DOWNLOAD, {"url": url}).json()["data"]
        saved = client.get(data)
        assert saved.status_code == 200 and saved["Content-Type"] == "image/png"
        assert saved["Content-Disposition"].startswith("attachment;") and data.endswith(".png")
        clock.shift(timedelta(minutes=21))
        assert client.get(data).status_code == 410


def test_the_stored_file_is_saved_as_it_is(api: Api, alice: User, client: Any) -> None:
    picture = picture_for(alice)
    data = api.post(DOWNLOAD, {"url": result_links.url(picture, "http://testserver")}).json()["data"]
    saved = client.get(data)
    assert saved["Content-Disposition"].startswith("attachment;")
    assert len(b"".join(saved.streaming_content)) == picture.size


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/r/x/a.png",
        "http://testserver/gallery/",
        "/r/x/a.png",
        "",
        "http://[",
        "file:///etc/passwd",
    ],
)
def test_addresses_of_others_are_refused(api: Api, url: str) -> None:
    response = api.post(DOWNLOAD, {"url": url})
    assert response.status_code == 422 and response.json()["error"]["param"] == "url"


def test_results_of_others_do_not_exist(api: Api, alice: User, bob: User, client: Any) -> None:
    url = result_links.url(picture_for(alice), "http://testserver")
    give(bob)
    for caller in (Api(bob), Api(alice, is_test=True)):
        assert caller.post(DOWNLOAD, {"url": url}).status_code == 404
    forged = "http://testserver/r/forged:1:x/a.png"
    assert api.post(DOWNLOAD, {"url": forged}).status_code == 404
    shown = url.split("/r/")[1].split("/")[0]  # good for showing, not for saving
    assert client.get(f"/d/{shown}/a.jpg").status_code == 404
    assert ledger.wallet_of(bob).held == 0


def test_nothing_without_a_key(api: Api) -> None:
    assert api.client.get(CREDIT).status_code == 401
    assert api.client.post(DOWNLOAD, {"url": "x"}, content_type="application/json").status_code == 401
