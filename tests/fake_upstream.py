"""A real HTTP server that speaks the createTask / recordInfo contract, and fails in every way on command.

By hand:        python -m tests.fake_upstream --port 8100 --ready-s 8
In a test:      with FakeUpstream(ready_s=0.2) as up:  AIGenerate(base_url=up.base_url, api_key=up.api_key)
Faults:         up.fault(where="create", kind="reset", prompt="fox", times=1)       (all: `fake_faults.KINDS`, `Rule`)
In the prompt:  "[[fail]]", "[[moderated]]", "[[slow]]" ...                         (all: `fake_faults.MAGIC`)
What it saw:    up.stats()["started"] counts the tasks begun for each job, known by its callBackUrl, else its prompt.

It is its own process with a parser of its own, because it shares two cores with what is measured against it.
"""

import argparse
import asyncio
import contextlib
import json
import random
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from tests.fake_faults import MAGIC, MODERATED, Rule, picture, signed, spoil
from tests.fake_wire import Reply, Wire

RATIOS = {"1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3", "21:9"}


@dataclass(kw_only=True)
class Behaviour:
    """How it is when nothing is wrong. `ready_s` runs from the moment at which create is answered."""

    api_key: str = "sk-aig-fake"
    submit_s: float = 0.0
    poll_s: float = 0.0
    ready_s: float = 0.0
    file_s: float = 0.0
    picture_kb: int = 300
    callbacks: int = 0  # how often each callback is sent
    rate_limit: int = 0  # more new tasks than this in ten seconds are answered 429; 0: no limit
    errors_in_envelope: int = 0  # 1: errors come with HTTP 200, and only `code` tells


@dataclass
class Task:
    id: str
    key: str
    body: dict[str, Any]
    arrived: float
    ready_at: float
    polls: int = 0
    downloads: int = 0

    @property
    def prompt(self) -> str:
        return self.body["input"]["prompt"]

    @property
    def pixels(self) -> tuple[int, int]:
        wide, high = map(int, self.body["input"].get("aspect_ratio", "1:1").split(":"))
        resolution = self.body["input"].get("resolution") or self.body["model"]
        side = 2048 if "2k" in resolution.lower() else 1024
        unit = side / (wide * high) ** 0.5 / 16
        return round(wide * unit) * 16, round(high * unit) * 16


def as_json(value: Any, status: int = 200, delay: float = 0.0) -> Reply:
    return Reply(json.dumps(value).encode(), status, delay=delay)


class Upstream:
    """What is started, what has become of it, and what each request gets for an answer."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self.wire = Wire(self.answer)
        self.address = ""
        self.random = random.Random(1)
        self.callbacks: set[asyncio.Future[None]] = set()
        self.forget()

    def forget(self) -> None:
        self.tasks: dict[str, Task] = {}
        self.creates: list[dict[str, Any]] = []
        self.errors: list[str] = []
        self.unauthorized = 0
        self.wire.most_open = 0
        self.clear()

    def clear(self) -> None:
        self.rules: list[Rule] = list(MAGIC)
        self.hits: Counter[tuple[int, str]] = Counter()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        url = urlsplit(target)
        if url.path.startswith("/control/"):
            return self.control(method, url.path, body)
        if url.path.startswith("/files/"):
            return self.file(url.path.removeprefix("/files/").removesuffix(".jpg"))
        if headers.get("authorization") != f"Bearer {self.behaviour.api_key}":
            self.unauthorized += 1
            return self.refuse(401, "Unauthorized")
        if (method, url.path) == ("POST", "/api/v1/jobs/createTask"):
            return self.create(body)
        if (method, url.path) == ("GET", "/api/v1/jobs/recordInfo"):
            return self.look(parse_qs(url.query).get("taskId", [""])[0])
        return self.refuse(404, "Not found")

    def refuse(self, code: int, msg: str, delay: float = 0.0) -> Reply:
        status = 200 if self.behaviour.errors_in_envelope else code
        return as_json({"code": code, "msg": msg, "data": None}, status, delay)

    # --- Create ---------------------------------------------------------------------------------------
    def create(self, raw: bytes) -> Reply:
        body = valid_order(raw)
        if body is None:
            return self.refuse(
                422, "model, input.prompt or input.aspect_ratio is not valid", self.behaviour.submit_s
            )
        if self.is_over_the_limit():
            return self.refuse(429, "Rate limit exceeded")
        prompt = body["input"]["prompt"]
        key = body.get("callBackUrl") or prompt
        rules = self.striking("create", prompt, key)
        task = self.start(key, body) if all(rule.starts for rule in rules) else None
        task_id = task.id if task else None
        self.creates.append(
            {"key": key, "at": time.time(), "taskId": task_id, "faults": [r.kind for r in rules]}
        )
        reply = as_json(
            {"code": 200, "msg": "success", "data": {"taskId": task_id}}, delay=self.behaviour.submit_s
        )
        return self.spoil(reply, rules)

    def is_over_the_limit(self) -> bool:
        limit, since = self.behaviour.rate_limit, time.time() - 10
        return bool(limit) and sum(task.arrived > since for task in self.tasks.values()) >= limit

    def start(self, key: str, body: dict[str, Any]) -> Task:
        now, prompt = time.time(), body["input"]["prompt"]
        slow = sum(rule.seconds for rule in self.rules if rule.kind == "slow" and rule.prompt in prompt)
        task_id = f"task_flux-2_{int(now * 1000)}{len(self.tasks):05d}"
        task = Task(task_id, key, body, now, now + self.behaviour.submit_s + self.behaviour.ready_s + slow)
        self.tasks[task_id] = task
        if self.behaviour.callbacks and body.get("callBackUrl"):
            self.callbacks.add(calling := asyncio.ensure_future(self.call_back(task)))
            calling.add_done_callback(self.callbacks.discard)
        return task

    async def call_back(self, task: Task) -> None:
        await asyncio.sleep(task.ready_at - time.time())
        data = self.record(
            task, [rule for rule in self.rules if rule.where == "look" and rule.prompt in task.prompt]
        )
        body = {"code": 200, "msg": "success", "taskId": task.id, "data": data | {"task_id": task.id}}
        for _ in range(self.behaviour.callbacks):
            try:
                await asyncio.to_thread(send_json, "POST", task.body["callBackUrl"], body)
            except OSError as error:
                self.errors.append(f"callback of {task.id}: {error}")

    # --- Look -----------------------------------------------------------------------------------------
    def look(self, task_id: str) -> Reply:
        task = self.tasks.get(task_id)
        if task is None:
            return (
                self.refuse(404, "Task not found")
                if task_id
                else self.refuse(400, "taskId parameter is required")
            )
        task.polls += 1
        rules = self.striking("look", task.prompt, task.key, task)
        envelope = {"code": 200, "msg": "success", "data": self.record(task, rules)}
        return self.spoil(as_json(envelope, delay=self.behaviour.poll_s), rules)

    def record(self, task: Task, rules: list[Rule]) -> dict[str, Any]:
        by_kind, now = {rule.kind: rule for rule in rules}, time.time()
        is_done = now >= task.ready_at
        data = {
            "taskId": task.id,
            "model": task.body["model"],
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
        elsewhere = by_kind.get("url")
        url = elsewhere.url if elsewhere else f"http://{self.address}/files/{task.id}.jpg"
        return {"resultJson": json.dumps({"resultUrls": [] if "no_url" in by_kind else [url]})}

    # --- The picture ----------------------------------------------------------------------------------
    def file(self, task_id: str) -> Reply:
        task = self.tasks.get(task_id)
        if task is None:
            return Reply(b"no such file", 404, "text/plain")
        task.downloads += 1
        data = signed(picture(*task.pixels, self.behaviour.picture_kb), task.id)
        reply = Reply(data, kind="image/jpeg", delay=self.behaviour.file_s)
        return self.spoil(reply, self.striking("file", task.prompt, task.key, task))

    # --- Faults and control ---------------------------------------------------------------------------
    def striking(self, where: str, prompt: str, key: str, task: Task | None = None) -> list[Rule]:
        """The rules that apply to this request; counts it against their `times`."""
        found = []
        for number, rule in enumerate(self.rules):
            if rule.where != where or rule.prompt not in prompt:
                continue
            dice = random.Random(f"{number} {task.id}") if task else self.random
            if dice.random() >= rule.fraction:
                continue
            self.hits[number, key] += 1
            if not rule.times or self.hits[number, key] <= rule.times:
                found.append(rule)
        return found

    def spoil(self, reply: Reply, rules: list[Rule]) -> Reply:
        for rule in rules:
            reply = spoil(reply, rule, sum(self.hits.values()))
        return reply

    def control(self, method: str, path: str, body: bytes) -> Reply:
        try:
            match method, path:
                case "GET", "/control/stats":
                    return as_json(self.stats())
                case "POST", "/control/faults":
                    self.rules.append(Rule(**json.loads(body)))
                case "DELETE", "/control/faults":
                    self.clear()
                case "POST", "/control/behaviour":
                    self.behaviour = replace(self.behaviour, **json.loads(body))
                case "DELETE", "/control/everything":
                    self.forget()
                case _:
                    return as_json({"error": f"no {method} {path}"}, 404)
        except (TypeError, ValueError) as error:
            return as_json({"error": str(error)}, 400)
        return as_json({"rules": [asdict(rule) for rule in self.rules], "behaviour": asdict(self.behaviour)})

    def stats(self) -> dict[str, Any]:
        tasks = list(self.tasks.values())
        return {
            "creates": self.creates,
            "calls": Counter(create["key"] for create in self.creates),
            "started": Counter(task.key for task in tasks),
            "tasks": [asdict(task) | {"prompt": task.prompt, "model": task.body["model"]} for task in tasks],
            "polls": sum(task.polls for task in tasks),
            "downloads": sum(task.downloads for task in tasks),
            "most_tasks_at_once": most_at_once([(task.arrived, task.ready_at) for task in tasks]),
            "most_requests_at_once": self.wire.most_open,
            "unauthorized": self.unauthorized,
            "errors": self.errors,
        }


def valid_order(raw: bytes) -> dict[str, Any] | None:
    try:
        body = json.loads(raw)
        model, prompt = body["model"], body["input"]["prompt"]
        ratio = body["input"].get("aspect_ratio", "1:1")
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    fits = isinstance(model, str) and model and isinstance(prompt, str) and 3 <= len(prompt) <= 5000
    return body if fits and ratio in RATIOS else None


def unfinished_state(task: Task, now: float) -> str:
    share = (now - task.arrived) / (task.ready_at - task.arrived)
    return "waiting" if share < 0.1 else "queuing" if share < 0.25 else "generating"


def most_at_once(spans: list[tuple[float, float]]) -> int:
    running = most = 0
    for _, step in sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans]):
        running += step
        most = max(most, running)
    return most


# --- From a test --------------------------------------------------------------------------------------
def send_json(method: str, url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=15) as reply:
        return json.loads(reply.read() or b"null")


class FakeUpstream:
    """The server as a process on a free port, which ends with this block, or with us if we are killed."""

    def __init__(self, *, port: int = 0, **behaviour: Any) -> None:
        self.behaviour = Behaviour(**behaviour)
        self.api_key = self.behaviour.api_key
        words = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(self.behaviour).items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.fake_upstream", f"--port={port}", "--until-stdin-closes", *words],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.host = self.process.stdout.readline().strip()
        if not self.host:
            raise RuntimeError("the fake upstream did not start")
        self.base_url = f"http://{self.host}/api/v1"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()

    def _control(self, method: str, what: str, body: Any = None) -> Any:
        try:
            return send_json(method, f"http://{self.host}/control/{what}", body)
        except urllib.error.HTTPError as error:
            raise ValueError(json.loads(error.read())["error"]) from None

    def stats(self) -> dict[str, Any]:
        """Creates, started tasks per job, polls, downloads; see `Upstream.stats`."""
        return self._control("GET", "stats")

    def fault(self, **rule: Any) -> None:
        """Adds a `Rule`."""
        self._control("POST", "faults", rule)

    def clear(self) -> None:
        """Heals every fault."""
        self._control("DELETE", "faults")

    def behave(self, **behaviour: Any) -> None:
        """Changes some of `Behaviour` for what comes next."""
        self._control("POST", "behaviour", behaviour)

    def forget(self) -> None:
        """Heals every fault and forgets every task."""
        self._control("DELETE", "everything")


# --- As a program -------------------------------------------------------------------------------------
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--until-stdin-closes", action="store_true")
    by_hand = {"submit_s": 0.3, "poll_s": 0.1, "ready_s": 8.0}
    for field in fields(Behaviour):
        default = by_hand.get(field.name, field.default)
        parser.add_argument(f"--{field.name.replace('_', '-')}", type=type(field.default), default=default)
    asked = vars(parser.parse_args())
    port, until_stdin_closes = asked.pop("port"), asked.pop("until_stdin_closes")
    asyncio.run(serve(Behaviour(**asked), port, until_stdin_closes))


async def serve(behaviour: Behaviour, port: int, until_stdin_closes: bool) -> None:
    picture(1024, 1024, behaviour.picture_kb)  # now, rather than while somebody measures
    upstream = Upstream(behaviour)
    server = await upstream.wire.listen(port)
    upstream.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(upstream.address, flush=True)
    if until_stdin_closes:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    else:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
