"""A real HTTP server that stands in for an upstream, and fails in every way on command. Which upstream it is, a subclass says.

In a test:      with FakeUpstream(ready_s=0.2) as up:  AIGenerate(base_url=up.base_url, api_key=up.api_key)
Faults:         up.fault(where="create", kind="reset", prompt="fox", times=1)       (all: `fake_faults.KINDS`, `Rule`)
In the prompt:  "[[fail]]", "[[moderated]]", "[[slow]]" ...                         (all: `fake_faults.MAGIC`)
What it saw:    up.stats()["started"] counts the tasks begun for each job, known by its callback address, else its prompt.

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
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import SplitResult, urlsplit

from tests.fake_faults import MAGIC, Rule, Shape, picture, signed, spoil
from tests.fake_wire import Reply, Wire


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


@dataclass(kw_only=True)
class Task:
    """`key` names the job: its callback address, else its prompt. `inputs`: what it was given, as `seen` tells it."""

    id: str
    key: str
    prompt: str
    model: str
    callback_url: str
    pixels: tuple[int, int]
    body: dict[str, Any]
    arrived: float
    ready_at: float
    inputs: list[str] = field(default_factory=list)
    polls: int = 0
    downloads: int = 0


def as_json(value: Any, status: int = 200, delay: float = 0.0) -> Reply:
    return Reply(json.dumps(value).encode(), status, delay=delay)


class Server:
    """What is started, what has become of it, and what each request gets for an answer.

    A subclass answers its own requests in `serve`, with `begin` for a create and `striking` and `spoil` for the rest.
    """

    shape: ClassVar[Shape]

    def __init__(self, behaviour: Any) -> None:
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
        self.rules: list[Rule] = MAGIC + self.shape.magic
        self.hits: Counter[tuple[int, str]] = Counter()

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        url = urlsplit(target)
        if url.path.startswith("/control/"):
            return self.control(method, url.path, body)
        if url.path.startswith("/files/"):
            return self.file(url.path.removeprefix("/files/").removesuffix(".jpg"))
        return self.serve(method, url, headers, body)

    def serve(self, method: str, url: SplitResult, headers: dict[str, str], body: bytes) -> Reply:
        raise NotImplementedError

    def called_back(self, task: Task) -> dict[str, Any]:
        """What a callback says."""
        raise NotImplementedError

    def refuse(self, code: int, msg: str, delay: float = 0.0) -> Reply:
        return Reply(self.shape.error(code, msg), code, delay=delay)

    # --- Create ---------------------------------------------------------------------------------------
    def begin(self, **asked: Any) -> tuple[Task | None, list[Rule]]:
        """A create that is valid: the task, if one is started, and what goes wrong with the answer."""
        key = asked.get("callback_url") or asked["prompt"]
        rules = self.striking("create", asked["prompt"], key)
        task = self.start(key, **asked) if all(rule.starts for rule in rules) else None
        task_id = task.id if task else None
        self.creates.append(
            {"key": key, "at": time.time(), "taskId": task_id, "faults": [r.kind for r in rules]}
        )
        return task, rules

    def is_over_the_limit(self) -> bool:
        limit, since = self.behaviour.rate_limit, time.time() - 10
        return bool(limit) and sum(task.arrived > since for task in self.tasks.values()) >= limit

    def start(self, key: str, **asked: Any) -> Task:
        now = time.time()
        slow = sum(
            rule.seconds for rule in self.rules if rule.kind == "slow" and rule.prompt in asked["prompt"]
        )
        ready_at = now + self.behaviour.submit_s + self.behaviour.ready_s + slow
        task_id = self.shape.task_id(int(now * 1000), len(self.tasks))
        self.tasks[task_id] = task = Task(id=task_id, key=key, arrived=now, ready_at=ready_at, **asked)
        if self.behaviour.callbacks and task.callback_url:
            self.callbacks.add(calling := asyncio.ensure_future(self.call_back(task)))
            calling.add_done_callback(self.callbacks.discard)
        return task

    async def call_back(self, task: Task) -> None:
        await asyncio.sleep(task.ready_at - time.time())
        body = self.called_back(task)
        for _ in range(self.behaviour.callbacks):
            try:
                await asyncio.to_thread(send_json, "POST", task.callback_url, body)
            except OSError as error:
                self.errors.append(f"callback of {task.id}: {error}")

    # --- The picture ----------------------------------------------------------------------------------
    def file(self, task_id: str) -> Reply:
        task = self.tasks.get(task_id)
        if task is None:
            return Reply(b"no such file", 404, "text/plain")
        task.downloads += 1
        reply = Reply(self.picture(task), kind="image/jpeg", delay=self.behaviour.file_s)
        return self.spoil(reply, self.striking("file", task.prompt, task.key, task))

    def picture(self, task: Task) -> bytes:
        return signed(picture(*task.pixels, self.behaviour.picture_kb), task.id)

    def file_url(self, task: Task, elsewhere: Rule | None = None) -> str:
        return elsewhere.url if elsewhere else f"http://{self.address}/files/{task.id}.jpg"

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
            reply = spoil(reply, rule, sum(self.hits.values()), self.shape)
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
            "tasks": [asdict(task) for task in tasks],
            "polls": sum(task.polls for task in tasks),
            "downloads": sum(task.downloads for task in tasks),
            "most_tasks_at_once": most_at_once([(task.arrived, task.ready_at) for task in tasks]),
            "most_requests_at_once": self.wire.most_open,
            "unauthorized": self.unauthorized,
            "errors": self.errors,
        }


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


class FakeServer:
    """The server as a process on a free port, which ends with this block, or with us if we are killed."""

    module: ClassVar[str]
    Behaviour: ClassVar[type[Behaviour]] = Behaviour
    base_path: ClassVar[str] = ""

    def __init__(self, *, port: int = 0, **behaviour: Any) -> None:
        self.behaviour = self.Behaviour(**behaviour)
        self.api_key = self.behaviour.api_key
        words = [f"--{name.replace('_', '-')}={value}" for name, value in asdict(self.behaviour).items()]
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module, f"--port={port}", "--until-stdin-closes", *words],
            cwd=Path(__file__).parent.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        self.host = self.process.stdout.readline().strip()
        if not self.host:
            raise RuntimeError("the fake upstream did not start")
        self.base_url = f"http://{self.host}{self.base_path}"

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
def main(server: type[Server], behaviour: type[Behaviour], doc: str | None) -> None:
    """Serves until the program is stopped, with the behaviour as options; slower than in a test, to be watched."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--until-stdin-closes", action="store_true")
    by_hand = {"submit_s": 0.3, "poll_s": 0.1, "ready_s": 8.0}
    for known in fields(behaviour):
        default = by_hand.get(known.name, known.default)
        parser.add_argument(f"--{known.name.replace('_', '-')}", type=type(known.default), default=default)
    asked = vars(parser.parse_args())
    port, until_stdin_closes = asked.pop("port"), asked.pop("until_stdin_closes")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(server(behaviour(**asked)), port, until_stdin_closes))


async def serve(upstream: Server, port: int, until_stdin_closes: bool) -> None:
    picture(1024, 1024, upstream.behaviour.picture_kb)  # now, rather than while somebody measures
    server = await upstream.wire.listen(port)
    upstream.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    print(upstream.address, flush=True)
    if until_stdin_closes:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    else:
        await server.serve_forever()
