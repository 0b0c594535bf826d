"""Clients from npm that we did not write: `openai`, Vercel's `ai`, `standardwebhooks`, and an MCP server for createTask's
shape.

They are in tests/node; `npm install --prefix tests/node --no-package-lock` fetches them.
"""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts.models import User
from playground.models import Job, WebhookEndpoint
from tests.calling import Api
from tests.conftest import needs
from tests.driving import driving
from tests.making import give, load_catalogue
from tests.pictures import photo
from tests.receiving import Receiver, ended, send

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

NODE = Path(__file__).resolve().parent / "node"
MCP = NODE / "node_modules/@felores/kie-ai-mcp-server/dist/index.js"
HOW = "apt install nodejs npm, then npm install --prefix tests/node --no-package-lock"


@pytest.fixture(autouse=True)
def _node() -> None:
    needs(
        shutil.which("node") and all((NODE / "node_modules" / name).exists() for name in ("openai", "ai")),
        "Node.js and the clients in tests/node",
        HOW,
    )


@pytest.fixture
def at(live_server: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    settings.SANDBOX_DELAY_S = 0.05
    load_catalogue()
    with driving(monkeypatch):
        yield live_server.url


def node(script: str, **env: str) -> Any:
    command = ["node", str(NODE / script)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={"PATH": os.environ["PATH"], **env}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_openai_client_makes_and_edits_pictures_and_knows_our_errors(
    at: str, alice: User, tmp_path: Path
) -> None:
    (tmp_path / "fox.jpg").write_bytes(photo())
    seen = node("images.mjs", BASE=at, KEY=Api(alice, is_test=True).text, PHOTO=str(tmp_path / "fox.jpg"))
    assert "/r/" in seen["url"] and seen["bytes"] > 1_000 and seen["charged"] == "0.00"
    assert seen["magic"] == "PNG" and seen["edited"] == [1, 1]
    assert len(seen["models"]) >= 10 and seen["model"]
    assert [len(job.params.get("inputs", [])) for job in Job.objects.order_by("pk")][:4] == [0, 0, 1, 1]
    assert seen["failures"] == {
        "bad": {
            "kind": "BadRequestError",
            "status": 400,
            "code": "invalid_parameter",
            "param": "size",
            "calls": 1,
        },
        "model": {
            "kind": "NotFoundError",
            "status": 404,
            "code": "model_not_found",
            "param": "model",
            "calls": 1,
        },
        "key": {
            "kind": "AuthenticationError",
            "status": 401,
            "code": "invalid_api_key",
            "param": None,
            "calls": 1,
        },
        "moderated": {
            "kind": "BadRequestError",
            "status": 400,
            "code": "moderated",
            "param": None,
            "calls": 1,
        },
        "poor": {
            "kind": "APIError",
            "status": 402,
            "code": "insufficient_credits",
            "param": None,
            "calls": 1,
        },
        "broken": {
            "kind": "InternalServerError",
            "status": 502,
            "code": "generation_failed",
            "param": None,
            "calls": 1,
        },
        "limited": {
            "kind": "RateLimitError",
            "status": 429,
            "code": "rate_limit_exceeded",
            "param": None,
            "calls": 3,
        },
    }


def test_vercels_ai_sdk_makes_and_edits_pictures(at: str, alice: User, tmp_path: Path) -> None:
    """Its door for OpenAI never asks for base64 in an edit, and reads nothing else."""
    (tmp_path / "fox.jpg").write_bytes(photo())
    seen = node("ai.mjs", BASE=at, KEY=Api(alice, is_test=True).text, PHOTO=str(tmp_path / "fox.jpg"))
    for door in ("openai", "compatible"):
        assert seen[door]["made"] == ["image/jpeg"] * 2 and seen[door]["edited"] == 1
        assert seen[door]["refusal"]["is"] and seen[door]["refusal"]["status"] == 400
        assert "Nothing was charged" in seen[door]["refusal"]["message"]
    assert Job.objects.count() == 8


def test_the_openai_client_waits_as_long_as_it_is_told(at: str, alice: User, settings: Any) -> None:
    settings.API_RATE_LIMIT = (1, 2)
    seen = node("patience.mjs", BASE=at, KEY=Api(alice, is_test=True).text)
    assert seen["pictures"] == [1, 1] and Job.objects.count() == 2
    refused = [told for told in seen["told"] if told[0] == 429]
    assert refused and all(float(wait) >= 1 and again == "true" for _, wait, again in refused)
    assert 1_000 < seen["ms"] < 20_000


def test_standardwebhooks_verifies_a_message_of_ours(alice: User, settings: Any) -> None:
    give(alice)
    with Receiver() as receiver:
        settings.NET_ALLOWED_HOSTS, settings.BASE_URL = [receiver.host], "https://flux.example.com"
        job = ended(alice, receiver.url())
        send()
        [message] = receiver.seen
    secret = WebhookEndpoint.objects.get(user=alice).secret
    said = json.dumps({"headers": message.headers, "body": message.body.decode()})
    seen = node("verify.mjs", SECRET=secret, MESSAGE=said)
    assert seen == {"taskId": str(job.pk), "state": "fail", "refused": "WebhookVerificationError"}


# --- An MCP server for kie.ai, with nothing changed but the host and the key ---------------------------
class Mcp:
    """Speaks JSON-RPC with it, over its standard input and output."""

    def __init__(self, base: str, key: str, folder: Path) -> None:
        env = {
            "PATH": os.environ["PATH"],
            "KIE_AI_BASE_URL": f"{base}/api/v1",
            "KIE_AI_API_KEY": key,
            "KIE_AI_DB_PATH": str(folder / "tasks.sqlite3"),
            "KIE_AI_ALLOW_DIRECT_GENERATION": "true",
        }
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            ["node", str(MCP)], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=env
        )
        self.alarm = threading.Timer(60, self.process.kill)
        self.alarm.start()
        self.number = 0
        hello = {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        }
        self.ask("initialize", hello)
        self.tell({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def tell(self, message: dict[str, Any]) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(message) + "\n")
        self.process.stdin.flush()

    def ask(self, method: str, params: dict[str, Any]) -> Any:
        self.number += 1
        self.tell({"jsonrpc": "2.0", "id": self.number, "method": method, "params": params})
        assert self.process.stdout
        for line in self.process.stdout:
            if (said := json.loads(line)).get("id") == self.number:
                return said["result"]
        raise AssertionError("it ended")

    def use(self, tool: str, **arguments: Any) -> str:
        result = self.ask("tools/call", {"name": tool, "arguments": arguments})
        return str(result["content"][0]["text"])

    def close(self) -> None:
        self.alarm.cancel()
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def mcp(at: str, alice: User, tmp_path: Path) -> Iterator[Mcp]:
    if not MCP.exists():  # npm leaves it out where its database cannot be built
        pytest.skip("the MCP server did not install on this machine")
    give(alice)
    server = Mcp(at, Api(alice).text, tmp_path)
    yield server
    server.close()


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("flux2_image", {"aspect_ratio": "16:9", "resolution": "2K", "model_type": "flex"}),
        ("flux_kontext_image", {"aspectRatio": "16:9", "outputFormat": "png"}),
    ],
)
def test_an_mcp_server_makes_a_picture(mcp: Mcp, tool: str, arguments: dict[str, Any]) -> None:
    said = mcp.use(tool, prompt="a fox in the snow", **arguments)
    [task] = set(re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", said))
    assert Job.objects.get().pk.hex == task.replace("-", "")
    told = mcp.use("wait_for_task", task_id=task)
    assert "/r/" in told and "completed" in told, told
