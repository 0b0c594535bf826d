"""Customers' servers that messages go to, and what makes messages for them."""

import asyncio
import contextlib
import json
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Self

from django.utils import timezone

from accounts.models import ApiKey, User
from playground import images, jobs
from playground.commits import Commits
from playground.deliveries import Deliveries
from playground.ids import new_id
from playground.models import Delivery, Job, WebhookEndpoint
from tests.making import job_for, leased, rendered

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


def reply(body: bytes = b"ok", *, status: str = "200 OK", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def silence(writer: asyncio.StreamWriter) -> None:
    """Takes the message and never answers."""
    await asyncio.sleep(60)


@dataclass(frozen=True)
class Message:
    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(self.body)
        return said


class Receiver:
    """A real server on loopback in a thread of its own. `answers` by path; `seen`, in order."""

    def __init__(self, **answers: Answer) -> None:
        self.answers: dict[str, Answer] = {f"/{name}": answer for name, answer in answers.items()}
        self.seen: list[Message] = []

    def __enter__(self) -> Self:
        self.loop = asyncio.new_event_loop()
        is_up = threading.Event()

        async def serve() -> None:
            server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
            self.port = server.sockets[0].getsockname()[1]
            is_up.set()

        def run() -> None:
            self.loop.create_task(serve())
            self.loop.run_forever()

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        is_up.wait()
        return self

    def __exit__(self, *_: object) -> None:
        def end() -> None:
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.call_later(0.01, self.loop.stop)

        self.loop.call_soon_threadsafe(end)
        self.thread.join()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def url(self, name: str = "hook") -> str:
        return f"http://{self.host}/{name}"

    def at(self, name: str) -> list[Message]:
        return [message for message in self.seen if message.path == f"/{name}"]

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while head := (await reader.readuntil(b"\r\n\r\n")).decode():
                first, *lines = head.strip().split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                path = first.split()[1]
                self.seen.append(Message(path, headers, body, time.monotonic()))
                answer = self.answers.get(path, reply())
                if not isinstance(answer, bytes):
                    await answer(writer)
                    break
                writer.write(answer)
                await writer.drain()
        writer.close()


# --- Messages to send ---------------------------------------------------------------------------------
def key_of(user: User) -> ApiKey:
    there = ApiKey.objects.filter(user=user).first()
    return there or ApiKey.objects.create(
        user=user, name="a key", start="sk-aig-x", last_four="0000", digest=f"{user.pk:064}"
    )


def api_job(user: User, callback_url: str = "", **asked: Any) -> Job:
    """As a call of the API makes it."""
    job = job_for(user)
    job.key, job.callback_url = key_of(user), callback_url
    job.asked = {"model": "flux-2/pro-text-to-image", "input": {"prompt": "a fox"}, **asked}
    job.save()
    return job


def endpoint_of(user: User, url: str, **fields: Any) -> WebhookEndpoint:
    return WebhookEndpoint.objects.create(user=user, url=url, secret="whsec_" + "A" * 43 + "=", **fields)


def ended(user: User, callback_url: str = "", **asked: Any) -> Job:
    """An API job that failed just now."""
    job = api_job(user, callback_url, **asked)
    assert jobs.fail(leased(job), "moderated")
    job.refresh_from_db()
    return job


def succeeded(user: User, callback_url: str = "", **asked: Any) -> Job:
    """An API job that made its picture just now."""
    job = leased(api_job(user, callback_url, **asked))
    key, made = images.new_key(new_id()), rendered()
    assert (
        jobs.sending(job) and jobs.started(job, f"up-{job.pk}") and jobs.ready(job, ["https://up.example/1"])
    )
    images.store(key, made)
    assert jobs.succeed(job, key, made)
    return Job.objects.get(pk=job.pk)


# --- Sending ------------------------------------------------------------------------------------------
def send(seconds: float = 10, until: Callable[[], bool] | None = None) -> None:
    """What a drive does with the outbox, until nothing is due."""
    asyncio.run(_send(seconds, until or _nothing_is_due))


def _nothing_is_due() -> bool:
    return not Delivery.objects.filter(ended=None, next_try__lte=timezone.now()).exists() and not (
        Delivery.objects.filter(ended=None, lease_until__isnull=False).exists()
    )


async def _send(seconds: float, is_over: Callable[[], bool]) -> None:
    commit, ending = Commits(), asyncio.Event()
    sending = asyncio.create_task(Deliveries(commit, ending).run())
    end = time.monotonic() + seconds
    while time.monotonic() < end and not await commit(is_over):
        await asyncio.sleep(0.02)
    ending.set()
    await sending
    await commit.close()
