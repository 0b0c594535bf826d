"""The API's pages: every snippet on them is run as it stands, against a real server with a real drive behind it."""

import base64
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from standardwebhooks import Webhook

from accounts.models import ApiKey, User
from playground.api import pages
from playground.api.errors import KINDS
from playground.models import Job
from tests.conftest import needs
from tests.driving import driving
from tests.making import load_catalogue
from tests.pictures import photo

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


@pytest.fixture
def filled(
    live_server: Any, client: Client, alice: User, settings: Any, monkeypatch: Any
) -> Iterator[dict[str, str]]:
    """The snippets as a reader sees them after the click that makes a test key."""
    settings.SANDBOX_DELAY_S = 0.05
    load_catalogue()
    client.force_login(alice)
    where = live_server.url.removeprefix("http://")
    page = client.post("/docs/key/", headers={"host": where}).content.decode()
    found = re.findall(r'<code id="code-(\w+)">(.*?)</code>', page, re.DOTALL)
    with driving(monkeypatch):
        yield {name: unescape(code) for name, code in found}


def run(*command: str, at: Path, **env: str) -> str:
    done = subprocess.run(command, cwd=at, capture_output=True, text=True, timeout=60, env=env or None)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_curl_starts_a_task_and_asks_for_it(filled: dict[str, str], tmp_path: Path) -> None:
    created = json.loads(run("bash", "-c", filled["create"], at=tmp_path))
    told = run("bash", "-c", f"TASK_ID={created['data']['taskId']}; {filled['record']}", at=tmp_path)
    assert json.loads(told)["data"]["taskId"] == created["data"]["taskId"]
    assert Job.objects.get().is_test and ApiKey.objects.get().is_test


def test_curl_edits_a_picture(filled: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "fox.jpg").write_bytes(photo())
    assert json.loads(run("bash", "-c", filled["edit"], at=tmp_path))["data"][0]["url"].startswith("http")


def test_python_with_httpx_fetches_the_picture(filled: dict[str, str], tmp_path: Path) -> None:
    assert "0 credits charged" in run(sys.executable, "-c", filled["httpx"], at=tmp_path)
    assert (tmp_path / "fox.jpg").read_bytes().startswith(b"\xff\xd8")


def test_python_with_openai_prints_the_address(filled: dict[str, str], tmp_path: Path) -> None:
    assert "/r/" in run(sys.executable, "-c", filled["openai"], at=tmp_path)


def test_javascript_prints_the_address(filled: dict[str, str], tmp_path: Path) -> None:
    needs(shutil.which("node"), "Node.js", "apt install nodejs")
    (tmp_path / "fetch.mjs").write_text(filled["fetch"])
    assert "/r/" in run("node", "fetch.mjs", at=tmp_path)


def signed(body: str, secret: str) -> dict[str, str]:
    at = datetime.now(UTC)
    signature = Webhook(secret).sign("msg_1", at, body)
    stamp = str(int(at.timestamp()))
    return {"webhook-id": "msg_1", "webhook-timestamp": stamp, "webhook-signature": signature}


SECRET = "whsec_" + base64.b64encode(b"a secret of twenty-four b").decode()
SAID = '{"taskId": "1"}'


def test_python_tells_our_messages_from_forged_ones(filled: dict[str, str], tmp_path: Path) -> None:
    asked = (
        f"\nheaders = {signed(SAID, SECRET)}\nprint([is_ours(body, headers, {SECRET!r}) for body in BODIES])"
    )
    code = f"BODIES = {[SAID.encode(), b'forged']}\n{filled['verify_python']}{asked}"
    assert run(sys.executable, "-c", code, at=tmp_path).strip() == "[True, False]"


def test_javascript_tells_our_messages_from_forged_ones(filled: dict[str, str], tmp_path: Path) -> None:
    packages = Path(__file__).parent / "node/node_modules"
    needs(
        shutil.which("node") and packages.exists(),
        "Node.js and tests/node",
        "npm install --prefix tests/node",
    )
    (tmp_path / "node_modules").symlink_to(packages)
    (tmp_path / "verify.mjs").write_text(filled["verify_node"])
    headers, bodies = json.dumps(signed(SAID, SECRET)), json.dumps([SAID, "forged"])
    (tmp_path / "ask.mjs").write_text(
        'import { isOurs } from "./verify.mjs";\n'
        f"console.log({bodies}.map((body) => isOurs(body, {headers}, {json.dumps(SECRET)})));"
    )
    assert run("node", "ask.mjs", at=tmp_path).strip() == "[ true, false ]"


def test_no_snippet_is_left_out_of_these_tests(filled: dict[str, str]) -> None:
    tests = Path(__file__).read_text()
    assert filled and set(filled) == set(pages.SNIPPETS) == set(
        re.findall(r'filled\["(\w+)"\]', tests)
    ) | set(re.findall(r"filled\['(\w+)'\]", tests))


@pytest.mark.parametrize("name", ["aspect_ratio", "input_urls", "seed", "response_format", "size"])
def test_the_page_says_what_calls_take(client: Client, name: str) -> None:
    page = client.get("/docs/").content.decode()
    assert f'<th scope="row"><code>{name}</code></th>' in page
    assert "not used: <code>nsfw_checker</code>" in page
    assert "`" not in re.sub("<pre.*?</pre>", "", page, flags=re.DOTALL)


def test_one_click_is_one_key(client: Client, alice: User) -> None:
    client.force_login(alice)
    again = [client.post("/docs/key/", {"once": "x"}) for _ in range(2)]
    assert [answer.status_code for answer in again] == [200, 302] and ApiKey.objects.count() == 1


def test_the_page_names_every_route_and_makes_no_key_by_itself(client: Client) -> None:
    page = client.get("/docs/").content.decode()
    for path in (
        "/api/v1/jobs/createTask",
        "/api/v1/jobs/recordInfo",
        "/v1/images/edits",
        "/api/file-url-upload",
    ):
        assert f"<code>{path}</code>" in page
    assert "sk-aig-..." in page and not ApiKey.objects.exists()


def test_the_page_of_errors_is_the_table_that_the_replies_are_made_from(client: Client) -> None:
    page = client.get("/docs/errors/").content.decode()
    assert re.findall(r'<tr id="(\w+)">', page) == list(KINDS)


def test_the_document_is_openapi_3_1_and_names_the_errors(client: Client) -> None:
    document = client.get("/api/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    create = document["paths"]["/api/v1/jobs/createTask"]["post"]["responses"]
    assert " ".join(create) == "200 400 401 402 409 413 415 422 429 500 503"
    assert create["402"]["content"]["application/json"]["schema"]["$ref"].endswith("/Failure")
    assert "`spend_cap_reached`: A spend cap" in create["402"]["description"]
    images = document["paths"]["/v1/images/generations"]["post"]["responses"]
    assert " ".join(images) == "200 400 401 402 404 409 413 415 422 429 500 502 503 504"
    assert images["504"]["content"]["application/json"]["schema"]["$ref"].endswith("/OpenAIFailure")


def test_the_document_says_that_a_task_id_is_needed(client: Client) -> None:
    document = client.get("/api/openapi.json").json()
    for path in ("/api/v1/jobs/recordInfo", "/api/v1/flux/kontext/record-info"):
        [parameter] = document["paths"][path]["get"]["parameters"]
        assert parameter["name"] == "taskId" and parameter["required"] is True
    assert document["components"]["schemas"]["CancelTask"]["required"] == ["taskId"]
