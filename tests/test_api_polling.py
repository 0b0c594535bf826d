"""A polling client as people write them for kie.ai: `requests`, and nothing changed but the host and the key."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from accounts.models import User
from tests.calling import Api
from tests.driving import driving
from tests.making import give, load_catalogue

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

BODY = {
    "model": "flux-2/pro-text-to-image",
    "callBackUrl": "https://example.com/callback",
    "input": {
        "prompt": "a fox in the snow",
        "aspect_ratio": "16:9",
        "resolution": "1K",
        "nsfw_checker": False,
    },
}


class Client:
    """Reads the HTTP status and the code of the envelope, and follows no redirect."""

    def __init__(self, base: str, key: str) -> None:
        self.base = base
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def call(self, method: str, path: str, **options: Any) -> Any:
        url = f"{self.base}/api/v1{path}"
        answer = requests.request(
            method, url, headers=self.headers, allow_redirects=False, timeout=20, **options
        )
        said = answer.json()
        if answer.status_code != 200 or said["code"] != 200:
            raise RuntimeError(f"{answer.status_code} {said['code']} {said['msg']}")
        return said["data"]

    def picture(self, body: dict[str, Any]) -> dict[str, Any]:
        task = self.call("POST", "/jobs/createTask", json=body)["taskId"]
        assert isinstance(task, str)
        for _ in range(100):
            # An empty body that says it is JSON, as many of these clients send it.
            data = self.call("GET", "/jobs/recordInfo", params={"taskId": task}, data="")
            assert "status" not in data and data["taskId"] == task
            if data["state"] == "success":
                return data
            if data["state"] == "fail":
                raise RuntimeError(f"{data['failCode']} {data['failMsg']}")
            assert data["state"] in ("waiting", "queuing", "generating") and data["resultJson"] == ""
            time.sleep(0.1)
        raise TimeoutError


@pytest.fixture
def client(live_server: Any, settings: Any, alice: User, monkeypatch: pytest.MonkeyPatch) -> Iterator[Client]:
    settings.SANDBOX_DELAY_S = 0.2
    load_catalogue()
    give(alice)
    with driving(monkeypatch):
        yield Client(live_server.url, Api(alice, is_test=True).text)


def test_it_gets_its_picture(client: Client) -> None:
    data = client.picture(BODY)
    assert isinstance(data["param"], str) and json.loads(data["param"]) == BODY
    assert isinstance(data["resultJson"], str) and isinstance(data["completeTime"], int)
    [url] = json.loads(data["resultJson"])["resultUrls"]
    picture = requests.get(url, allow_redirects=False, timeout=20)
    assert picture.status_code == 200 and picture.headers["Content-Type"].startswith("image/")
    assert isinstance(client.call("GET", "/chat/credit"), int | float)


def test_it_is_told_what_went_wrong_in_both_places(client: Client) -> None:
    with pytest.raises(RuntimeError, match=r"^422 422 .*prompt"):
        client.picture({**BODY, "input": {"prompt": ""}})
    with pytest.raises(RuntimeError, match=r"^400 "):
        client.picture({**BODY, "input": {"prompt": "a fox [moderated]"}})
    with pytest.raises(RuntimeError, match=r"^404 404 Task not found"):
        client.call("GET", "/jobs/recordInfo", params={"taskId": "task_flux-2_1765175490366"})
    client.headers["Authorization"] = "Bearer nonsense"
    with pytest.raises(RuntimeError, match=r"^401 401 "):
        client.call("GET", "/chat/credit")
