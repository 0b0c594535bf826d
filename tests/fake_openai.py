"""An upstream with OpenAI's image routes.

By hand:        python -m tests.fake_openai --port 8102 --ready-s 8      with OPENAI_BASE_URL=http://127.0.0.1:8102/v1

It answers with the picture, after `ready_s`. What it can be told is in `fake_server`.
"""

import base64
import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import SplitResult

from tests import fake_server
from tests.fake_faults import MODERATED, Rule, Shape
from tests.fake_server import FakeServer, Server, as_json
from tests.fake_wire import Reply, multipart

FIELDS = {
    "model",
    "prompt",
    "n",
    "size",
    "response_format",
    "quality",
    "output_format",
    "seed",
    "user",
    "style",
}

WRONG_TYPES: dict[str, list[Any]] = {
    "create": [
        {"created": 1, "data": None},
        {"created": 1, "data": [7]},
        {"created": 1, "data": {"b64_json": "AAAA"}},
        {"created": 1, "data": [{"b64_json": 7, "url": ["https://pictures.test/a.jpg"]}]},
        {"created": 1, "data": [{"url": "somewhere else"}]},
        ["data"],
        "a picture",
    ],
    "file": [{"url": "somewhere else"}],
}
TYPES = {
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}


def _error(code: int, msg: str) -> bytes:
    kind, word = TYPES.get(code, ("server_error" if code >= 500 else "invalid_request_error", None))
    if msg == MODERATED:
        kind, word = "image_generation_user_error", "moderation_blocked"
    return json.dumps({"error": {"message": msg, "type": kind, "param": None, "code": word}}).encode()


SHAPE = Shape(
    error=_error,
    task_id=lambda ms, number: f"img-{ms}{number:05d}",
    wrong_types=WRONG_TYPES,
    magic=[
        Rule(where="create", kind="moderated", prompt="[[moderated]]"),
        Rule(where="create", kind="no_picture", prompt="[[no url]]"),
        Rule(where="create", kind="status", prompt="[[fail]]", status=500),
        Rule(where="create", kind="latency", prompt="[[slow]]", seconds=30),
    ],
)


@dataclass(kw_only=True)
class Behaviour(fake_server.Behaviour):
    api_key: str = "sk-fake"
    with_url: int = 0  # 1: pictures come as addresses, whatever was asked for
    refuses: str = ""  # fields that it does not know, separated by commas


class Images(Server):
    shape = SHAPE

    def serve(self, method: str, url: SplitResult, headers: dict[str, str], body: bytes) -> Reply:
        if headers.get("authorization") != f"Bearer {self.behaviour.api_key}":
            self.unauthorized += 1
            return self.refuse(401, "Incorrect API key provided.")
        try:
            if (method, url.path) == ("POST", "/v1/images/generations"):
                return self.create(json.loads(body), [])
            if (method, url.path) == ("POST", "/v1/images/edits"):
                return self.create(*edit(headers, body))
        except (ValueError, TypeError) as error:
            return self.refuse(400, str(error), self.behaviour.submit_s)
        return self.refuse(404, f"Invalid URL ({method} {url.path})")

    def create(self, body: dict[str, Any], inputs: list[str]) -> Reply:
        check(body, refused=set(self.behaviour.refuses.split(",")))
        if self.is_over_the_limit():
            return self.refuse(429, "Rate limit reached for images per minute.")
        width, height = map(int, body.get("size", "1024x1024").split("x"))
        asked = {"model": body["model"], "prompt": body["prompt"], "pixels": (width, height)}
        task, rules = self.begin(**asked, inputs=inputs, callback_url="", body=body)
        by_kind = {rule.kind: rule for rule in rules}
        with_url = body.get("response_format") == "url" or self.behaviour.with_url or "url" in by_kind
        data: dict[str, Any] = {}
        if task and "no_picture" not in by_kind:
            data = (
                {"url": self.file_url(task, by_kind.get("url"))}
                if with_url
                else {"b64_json": base64.b64encode(self.picture(task)).decode()}
            )
        if "bad_base64" in by_kind:
            data = {"b64_json": "????" + data["b64_json"]}
        said = {"created": int(time.time()), "data": [data] if data else []}
        reply = as_json(said, delay=self.behaviour.submit_s + self.behaviour.ready_s)
        reply = replace(reply, headers=(("X-Request-Id", f"req_{len(self.creates)}"),))
        return self.spoil(reply, rules)


def edit(headers: Mapping[str, str], raw: bytes) -> tuple[dict[str, Any], list[str]]:
    """The texts of a form and the digests of its pictures. Raises ValueError."""
    texts: dict[str, Any] = {}
    names, digests = [], []
    for part in multipart(headers, raw):
        if not part.filename:
            if part.name in texts:
                raise ValueError(f"{part.name} came twice")
            texts[part.name] = int(part.text) if part.name in ("n", "seed") else part.text
            continue
        if part.content_type not in ("image/jpeg", "image/png", "image/webp"):
            raise ValueError(f"{part.filename} is {part.content_type}, which is no picture")
        names.append(part.name)
        digests.append(hashlib.sha256(part.data).hexdigest())
    if names not in (["image"], ["image[]"] * len(names)) or not names:
        raise ValueError(f"pictures must be image, or image[] each: {names}")
    return texts, digests


def check(body: Any, *, refused: set[str]) -> None:
    """Raises ValueError where the order is not as the published schema has it."""
    if not isinstance(body, dict):
        raise ValueError("not an object")
    for name in body:
        if name not in FIELDS or name in refused:
            raise ValueError(f"Unknown parameter: '{name}'.")
    if not (isinstance(body.get("prompt"), str) and body["prompt"] and isinstance(body.get("model"), str)):
        raise ValueError("prompt and model are required")
    if body.get("n", 1) != 1 or not re.fullmatch(r"\d{2,4}x\d{2,4}", body.get("size", "1024x1024")):
        raise ValueError("n or size is not valid")


class FakeOpenAI(FakeServer):
    """The server as a process on a free port, which ends with this block, or with us if we are killed."""

    module = "tests.fake_openai"
    Behaviour = Behaviour
    base_path = "/v1"


if __name__ == "__main__":
    fake_server.main(Images, Behaviour, __doc__)
