"""An upstream of Black Forest Labs' shape.

By hand:        python -m tests.fake_bfl --port 8101 --ready-s 8      with BFL_BASE_URL=http://127.0.0.1:8101

It forgets nothing, and `fault(where="create", kind="polling_url", url=...)` sends its clients elsewhere with their key.
What else it can be told is in `fake_server`.
"""

import base64
import binascii
import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qs

from tests import fake_server
from tests.fake_faults import Rule, Shape
from tests.fake_server import FakeServer, Server, Task, as_json
from tests.fake_wire import Reply

FLUX_2 = {"flux-2-pro", "flux-2-max", "flux-2-flex", "flux-2-klein-4b", "flux-2-klein-9b"}
KONTEXT = {"flux-kontext-pro", "flux-kontext-max"}
COMMON = {"prompt", "seed", "safety_tolerance", "output_format", "webhook_url", "webhook_secret"}
SIZED = COMMON | {"width", "height"}
FIELDS = {
    **dict.fromkeys(["flux-2-pro", "flux-2-max"], SIZED | {"disable_pup"}),
    "flux-2-flex": SIZED | {"prompt_upsampling", "guidance", "steps"},
    **dict.fromkeys(["flux-2-klein-4b", "flux-2-klein-9b"], SIZED),
    **dict.fromkeys(KONTEXT, COMMON | {"aspect_ratio", "prompt_upsampling"}),
    "flux-pro-1.1": SIZED | {"prompt_upsampling"},
}
MOST_INPUTS = {
    **dict.fromkeys(FLUX_2, 8),
    **dict.fromkeys(KONTEXT, 4),
    "flux-2-klein-4b": 4,
    "flux-2-klein-9b": 4,
}

WRONG_TYPES: dict[str, list[Any]] = {
    "create": [
        {"id": 7, "polling_url": 7, "cost": "much"},
        {"id": None, "polling_url": None, "cost": None},
        {"id": ["a"], "status": {}},
        ["id", "a"],
        "started",
    ],
    "look": [
        {"id": "a", "status": 7, "result": None},
        {"id": "a", "status": ["Ready"], "result": {"sample": "https://pictures.test/a.jpg"}},
        {"id": "a", "status": "Pending", "result": 5, "progress": "half"},
        {"status": None, "detail": {"Ready": True}},
        "Ready",
    ],
    "file": [{"url": "somewhere else"}],
}


def _error(code: int, msg: str) -> bytes:
    if code != 422:
        return json.dumps({"detail": msg}).encode()
    complaint = {"loc": ["body", "prompt"], "msg": msg, "type": "value_error"}
    return json.dumps({"detail": [complaint]}).encode()


SHAPE = Shape(
    error=_error,
    task_id=lambda ms, number: f"b4a1c0de-{ms:013x}-{number:05d}",
    wrong_types=WRONG_TYPES,
)


@dataclass(kw_only=True)
class Behaviour(fake_server.Behaviour):
    api_key: str = "bfl-fake"
    most_tasks: int = 0  # more running than this are answered 429; 0: no limit
    not_found_s: float = 0.0  # for so long after a create, get_result does not know the task


class BlackForest(Server):
    shape = SHAPE

    def serve(self, method: str, url: SplitResult, headers: dict[str, str], body: bytes) -> Reply:
        if (method, url.path) == ("GET", "/v1/get_result"):
            return self.look(parse_qs(url.query).get("id", [""])[0])
        if headers.get("x-key") != self.behaviour.api_key:
            self.unauthorized += 1
            return self.refuse(403, "Not authenticated - Invalid Authentication")
        if (method, url.path) == ("GET", "/v1/credits"):
            return as_json({"credits": 987.25})
        model = url.path.removeprefix("/v1/")
        if method == "POST" and model in FIELDS:
            return self.create(model, body)
        return self.refuse(404, "Not Found")

    # --- Create ---------------------------------------------------------------------------------------
    def create(self, model: str, raw: bytes) -> Reply:
        try:
            asked = order(model, raw)
        except (ValueError, TypeError) as error:
            return self.refuse(422, str(error), self.behaviour.submit_s)
        if self.is_over_the_limit() or self.is_full():
            return self.refuse(429, "Rate limit exceeded")
        task, rules = self.begin(**asked)
        by_kind = {rule.kind: rule for rule in rules}
        said: dict[str, Any] = {"id": task.id if task else None, **costs(asked)}
        if asked["callback_url"]:
            said |= {"status": "Pending", "webhook_url": asked["callback_url"]}
        else:
            said["polling_url"] = f"http://{self.address}/v1/get_result?id={said['id']}"
        if lie := by_kind.get("polling_url"):
            said["polling_url"] = lie.url
        return self.spoil(as_json(said, delay=self.behaviour.submit_s), rules)

    def is_full(self) -> bool:
        running = sum(task.ready_at > time.time() for task in self.tasks.values())
        return bool(self.behaviour.most_tasks) and running >= self.behaviour.most_tasks

    # --- Look -----------------------------------------------------------------------------------------
    def look(self, task_id: str) -> Reply:
        task = self.tasks.get(task_id)
        if task is None or time.time() < task.arrived + self.behaviour.not_found_s:
            return as_json(record(task_id, "Task not found"), 404)
        task.polls += 1
        rules = self.striking("look", task.prompt, task.key, task)
        reply = as_json(self.record(task, {rule.kind: rule for rule in rules}), delay=self.behaviour.poll_s)
        return self.spoil(reply, rules)

    def record(self, task: Task, by_kind: dict[str, Rule]) -> dict[str, Any]:
        if "unknown_state" in by_kind:
            return record(task.id, "Pondering")
        if (now := time.time()) < task.ready_at:
            done = (now - task.arrived) / (task.ready_at - task.arrived)
            return record(task.id, "Pending", progress=round(done, 2))
        if "moderated" in by_kind:
            return record(task.id, "Content Moderated", details={"Moderation Reasons": ["Derivative Works"]})
        if fail := by_kind.get("fail"):
            return record(task.id, "Error", details={"error": fail.fail_msg})
        sample = {} if "no_url" in by_kind else {"sample": self.file_url(task, by_kind.get("url"))}
        result = sample | {"prompt": task.prompt, "seed": task.body.get("seed", 42)}
        return record(task.id, "Ready", result=result, progress=1.0)

    def called_back(self, task: Task) -> dict[str, Any]:
        by_kind = {r.kind: r for r in self.rules if r.where == "look" and r.prompt in task.prompt}
        said = self.record(task, by_kind)
        return {"id": task.id, "status": said["status"], "result": said["result"]}


def record(task_id: str, status: str, **more: Any) -> dict[str, Any]:
    return {
        "id": task_id, "status": status, "result": None, "progress": None, "details": None, "preview": None, **more
    }  # fmt: skip


def order(model: str, raw: bytes) -> dict[str, Any]:
    """What `begin` takes. Raises ValueError where the order is not as the published schema has it."""
    body = json.loads(raw)
    pictures = {name: body.pop(name) for name in list(body) if name.startswith("input_image")}
    if extra := set(body) - FIELDS[model]:
        raise ValueError(f"not a field of {model}: {sorted(extra)}")
    names = ["input_image", *(f"input_image_{n}" for n in range(2, 9))][: MOST_INPUTS.get(model, 0)]
    if list(pictures) != names[: len(pictures)]:
        raise ValueError(f"not the input pictures that {model} takes: {sorted(pictures)}")
    if not (isinstance(body.get("prompt"), str) and body["prompt"]):
        raise ValueError("prompt is required")
    tolerance = body.get("safety_tolerance", 2)
    if not 0 <= tolerance <= ((2 if pictures else 6) if model in KONTEXT else 5):
        raise ValueError("safety_tolerance is out of range")
    pixels = ratio_pixels(body) if model in KONTEXT else sized_pixels(model, body)
    return {
        "model": model,
        "prompt": body["prompt"],
        "pixels": pixels,
        "inputs": [seen(picture) for picture in pictures.values()],
        "callback_url": body.get("webhook_url", ""),
        "body": body,
    }


def ratio_pixels(body: dict[str, Any]) -> tuple[int, int]:
    wide, high = map(int, body.get("aspect_ratio", "1:1").split(":"))
    if not 9 / 21 <= wide / high <= 21 / 9:
        raise ValueError("aspect_ratio is not between 21:9 and 9:21")
    unit = 1024 / (wide * high) ** 0.5 / 16
    return round(wide * unit) * 16, round(high * unit) * 16


def sized_pixels(model: str, body: dict[str, Any]) -> tuple[int, int]:
    width, height = body.get("width", 1024), body.get("height", 1024)
    least, most, step = (64, 8192, 16) if model in FLUX_2 else (256, 1440, 32)
    for side in (width, height):
        if not (isinstance(side, int) and least <= side <= most and side % step == 0):
            raise ValueError(f"{side} is not a side of {least} to {most} in steps of {step}")
    if width * height > 4 * 1024 * 1024:
        raise ValueError("more than 4 megapixels")
    return width, height


def seen(text: str) -> str:
    """The digest of an input picture, which must be base64 and a picture."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"an input picture is not base64: {error}") from None
    if not data.startswith((b"\xff\xd8\xff", b"\x89PNG", b"RIFF")):
        raise ValueError("an input picture is not a picture")
    return hashlib.sha256(data).hexdigest()


def costs(asked: dict[str, Any]) -> dict[str, Any]:
    width, height = asked["pixels"]
    output_mp = round(width * height / 1e6, 2)
    by_picture = {"flux-kontext-pro": 4.0, "flux-kontext-max": 8.0}
    cents = by_picture[asked["model"]] if asked["model"] in KONTEXT else 3 + max(output_mp - 1, 0) * 1.5
    return {"cost": round(cents, 2), "input_mp": float(len(asked["inputs"])), "output_mp": output_mp}


class FakeBFL(FakeServer):
    """The server as a process on a free port, which ends with this block, or with us if we are killed."""

    module = "tests.fake_bfl"
    Behaviour = Behaviour


if __name__ == "__main__":
    fake_server.main(BlackForest, Behaviour, __doc__)
