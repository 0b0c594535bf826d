"""An HTTP client that answers from a function, for what a provider makes of single answers."""

import json as json_
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from multidict import CIMultiDict

from playground import net


@dataclass
class Asked:
    """One question as a provider put it."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    json: Any = None
    form: list[net.Part] = field(default_factory=list)
    within_s: float = 0.0
    limit_bytes: int = 1_000_000


def reply(
    status: int = 200, *, json: Any = None, text: str | bytes = "", headers: dict[str, str] | None = None
) -> net.Reply:
    body = json_.dumps(json) if json is not None else text
    return net.Reply(status, CIMultiDict(headers or {}), body.encode() if isinstance(body, str) else body)


class Canned(net.Client):
    """`answer` gets each question; an exception that it returns is raised. `asked` keeps them all."""

    def __init__(self, answer: Callable[[Asked], net.Reply | Exception]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    async def ask(self, method: str, url: str, **more: Any) -> net.Reply:
        self.asked.append(Asked(method, url, **more))
        answer = self.answer(self.asked[-1])
        if isinstance(answer, Exception):
            raise answer
        if len(answer.body) > self.asked[-1].limit_bytes:
            return net.Reply(answer.status, answer.headers, b"")
        return answer


def never(asked: Asked) -> net.Reply:
    raise AssertionError(f"nobody should have asked for {asked.url}")
