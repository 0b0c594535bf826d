"""An upstream of the createTask / recordInfo shape, with Kontext's endpoints, uploads and the balance.

By hand:        python -m tests.fake_upstream --port 8100 --ready-s 8

What it can be told, and what it tells, is in `fake_server`.
"""

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import SplitResult, parse_qs

from tests import fake_server
from tests.fake_faults import AIGENERATE, MODERATED, Rule
from tests.fake_server import FakeServer, Server, Task, as_json
from tests.fake_wire import Reply, multipart

RATIOS = {"1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3", "21:9"}
KONTEXT_RATIOS = {"21:9", "16:9", "4:3", "1:1", "3:4", "9:16"}


@dataclass(kw_only=True)
class Behaviour(fake_server.Behaviour):
    errors_in_envelope: int = 0  # 1: errors come with HTTP 200, and only `code` tells


class Upstream(Server):
    shape = AIGENERATE

    def forget(self) -> None:
        super().forget()
        self.uploads: dict[str, dict[str, Any]] = {}
        self.uploaded = 0

    def stats(self) -> dict[str, Any]:
        """The same, and every file that was uploaded, by the name in its address."""
        return super().stats() | {"uploads": self.uploads, "uploaded": self.uploaded}

    def serve(self, method: str, url: SplitResult, headers: dict[str, str], body: bytes) -> Reply:
        if headers.get("authorization") != f"Bearer {self.behaviour.api_key}":
            self.unauthorized += 1
            return self.refuse(401, "Unauthorized")
        task_id = parse_qs(url.query).get("taskId", [""])[0]
        match method, url.path:
            case "POST", "/api/v1/jobs/createTask":
                return self.create(jobs_order(body), "model, input.prompt or input.aspect_ratio is not valid")
            case "GET", "/api/v1/jobs/recordInfo":
                return self.look(task_id, is_kontext=False)
            case "POST", "/api/v1/flux/kontext/generate":
                return self.create(kontext_order(body), "model, prompt or aspectRatio is not valid")
            case "GET", "/api/v1/flux/kontext/record-info":
                return self.look(task_id, is_kontext=True)
            case "GET", "/api/v1/chat/credit":
                return as_json({"code": 200, "msg": "success", "data": 1234.5})
            case "POST", "/api/file-stream-upload":
                return self.upload(headers, body)
        return self.refuse(404, "Not found")

    def refuse(self, code: int, msg: str, delay: float = 0.0) -> Reply:
        reply = super().refuse(code, msg, delay)
        return Reply(reply.body, 200, delay=delay) if self.behaviour.errors_in_envelope else reply

    # --- Create ---------------------------------------------------------------------------------------
    def create(self, asked: dict[str, Any] | None, why_not: str) -> Reply:
        if asked is None or not all(self.is_there(url) for url in asked["inputs"]):
            return self.refuse(422, why_not, self.behaviour.submit_s)
        if self.is_over_the_limit():
            return self.refuse(429, "Rate limit exceeded")
        task, rules = self.begin(**asked)
        data = {"taskId": task.id if task else None}
        reply = as_json({"code": 200, "msg": "success", "data": data}, delay=self.behaviour.submit_s)
        return self.spoil(reply, rules)

    def is_there(self, url: str) -> bool:
        """Whether an input picture can be had: one of ours must have been uploaded."""
        return not url.startswith(f"http://{self.address}/") or url.rpartition("/")[2] in self.uploads

    # --- Look -----------------------------------------------------------------------------------------
    def look(self, task_id: str, *, is_kontext: bool) -> Reply:
        task = self.tasks.get(task_id)
        if not task_id:
            return self.refuse(400, "taskId parameter is required")
        if task is None or ("input" in task.body) is is_kontext:
            return self.refuse(404, "Task not found")
        task.polls += 1
        rules = self.striking("look", task.prompt, task.key, task)
        record = self.kontext_record if is_kontext else self.record
        envelope = {"code": 200, "msg": "success", "data": record(task, rules)}
        return self.spoil(as_json(envelope, delay=self.behaviour.poll_s), rules)

    def called_back(self, task: Task) -> dict[str, Any]:
        rules = [rule for rule in self.rules if rule.where == "look" and rule.prompt in task.prompt]
        data = self.record(task, rules) if "input" in task.body else self.kontext_record(task, rules)
        return {"code": 200, "msg": "success", "taskId": task.id, "data": data | {"task_id": task.id}}

    def record(self, task: Task, rules: list[Rule]) -> dict[str, Any]:
        by_kind, now = {rule.kind: rule for rule in rules}, time.time()
        is_done = now >= task.ready_at
        data = {
            "taskId": task.id,
            "model": task.model,
            "state": "success" if is_done else unfinished_state(task, now),
            "param": json.dumps(task.body),
            "resultJson": "",
            "failCode": "",
            "failMsg": "",
            "costTime": int((task.ready_at - task.arrived) * 1000) if is_done else None,
            "completeTime": int(task.ready_at * 1000) if is_done else None,
            "createTime": int(task.arrived * 1000),
            "updateTime": int(now * 1000),
        }
        if "unknown_state" in by_kind:
            data["state"] = "pondering"
        elif is_done:
            data |= self.outcome(task, by_kind)
        return data

    def outcome(self, task: Task, by_kind: dict[str, Rule]) -> dict[str, str]:
        if "moderated" in by_kind:
            return {"state": "fail", "failCode": "400", "failMsg": MODERATED}
        if fail := by_kind.get("fail"):
            return {"state": "fail", "failCode": fail.fail_code, "failMsg": fail.fail_msg}
        urls = [] if "no_url" in by_kind else [self.file_url(task, by_kind.get("url"))]
        return {"resultJson": json.dumps({"resultUrls": urls})}

    def kontext_record(self, task: Task, rules: list[Rule]) -> dict[str, Any]:
        by_kind, is_done = {rule.kind: rule for rule in rules}, time.time() >= task.ready_at
        data = {
            "taskId": task.id,
            "paramJson": json.dumps(task.body),
            "completeTime": iso(task.ready_at) if is_done else None,
            "response": None,
            "successFlag": 7 if "unknown_state" in by_kind else 0,
            "errorCode": None,
            "errorMessage": None,
            "createTime": iso(task.arrived),
        }
        if is_done and "unknown_state" not in by_kind:
            data |= self.kontext_outcome(task, by_kind)
        return data

    def kontext_outcome(self, task: Task, by_kind: dict[str, Rule]) -> dict[str, Any]:
        if "moderated" in by_kind:
            return {"successFlag": 3, "errorCode": 400, "errorMessage": MODERATED}
        if fail := by_kind.get("fail"):
            return {"successFlag": 3, "errorCode": int(fail.fail_code), "errorMessage": fail.fail_msg}
        url = None if "no_url" in by_kind else self.file_url(task, by_kind.get("url"))
        return {"successFlag": 1, "response": {"originImageUrl": url, "resultImageUrl": url}}

    # --- Uploads --------------------------------------------------------------------------------------
    def upload(self, headers: Mapping[str, str], body: bytes) -> Reply:
        try:
            parts = {part.name: part for part in multipart(headers, body)}
            name, folder, file = parts["fileName"].text, parts["uploadPath"].text, parts["file"]
        except (KeyError, ValueError) as error:
            return as_json({"success": False, "code": 400, "msg": f"Not a form: {error}"}, 400)
        self.uploaded += 1
        digest = hashlib.sha256(file.data).hexdigest()
        self.uploads[name] = {"sha256": digest, "mimeType": file.content_type, "filename": file.filename}
        data = {
            "fileName": name,
            "filePath": f"{folder}/{name}",
            "downloadUrl": f"http://{self.address}/uploads/{folder}/{name}",
            "fileSize": len(file.data),
            "mimeType": file.content_type,
            "uploadedAt": iso(time.time()),
        }
        reply = as_json({"success": True, "code": 200, "msg": "File uploaded successfully", "data": data})
        return self.spoil(reply, self.striking("upload", "", "upload"))


def jobs_order(raw: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(raw)
        model, prompt = body["model"], body["input"]["prompt"]
        ratio = body["input"].get("aspect_ratio", "1:1")
        inputs = body["input"].get("input_urls", [])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    resolution = body["input"].get("resolution") or str(model)
    return order(
        body, model, prompt, ratio, inputs, ratios=RATIOS, side=2048 if "2k" in resolution.lower() else 1024
    )


def kontext_order(raw: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(raw)
        model, prompt = body.get("model", "flux-kontext-pro"), body["prompt"]
        inputs = [body["inputImage"]] if "inputImage" in body else []
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    if model not in ("flux-kontext-pro", "flux-kontext-max"):
        return None
    return order(body, model, prompt, body.get("aspectRatio", "16:9"), inputs, ratios=KONTEXT_RATIOS)


def order(
    body: dict[str, Any],
    model: Any,
    prompt: Any,
    ratio: Any,
    inputs: Any,
    *,
    ratios: set[str],
    side: int = 1024,
) -> dict[str, Any] | None:
    """What `begin` takes; None where the order is not valid."""
    if not (isinstance(model, str) and model and isinstance(prompt, str) and 3 <= len(prompt) <= 5000):
        return None
    are_addresses = isinstance(inputs, list) and all(str(url).startswith("http") for url in inputs)
    if ratio not in ratios or not are_addresses or len(inputs) > 8:
        return None
    wide, high = map(int, ratio.split(":"))
    unit = side / (wide * high) ** 0.5 / 16
    pixels = round(wide * unit) * 16, round(high * unit) * 16
    callback_url = body.get("callBackUrl") or ""
    return {
        "prompt": prompt, "model": model, "pixels": pixels, "inputs": inputs, "callback_url": callback_url, "body": body
    }  # fmt: skip


def unfinished_state(task: Task, now: float) -> str:
    share = (now - task.arrived) / (task.ready_at - task.arrived)
    return "waiting" if share < 0.1 else "queuing" if share < 0.25 else "generating"


def iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class FakeUpstream(FakeServer):
    """The server as a process on a free port, which ends with this block, or with us if we are killed."""

    module = "tests.fake_upstream"
    Behaviour = Behaviour
    base_path = "/api/v1"


if __name__ == "__main__":
    fake_server.main(Upstream, Behaviour, __doc__)
