"""Everything that a fake upstream can do wrong, and the pictures it does it with."""

import io
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from PIL import Image, ImageChops

from tests.fake_wire import Reply

MODERATED = "Your content was flagged by the safety system as potentially sensitive or NSFW."

ANYWHERE = {
    "latency",  # `seconds` later than usual
    "status",  # HTTP status and envelope code are `status`; `msg`, `retry_after`
    "envelope",  # HTTP 200, envelope code is `code`; `msg`
    "disguised",  # HTTP status is `status`, the body is the usual one
    "reset",  # the request is read, then the connection is reset
    "silent",  # the request is read, then nothing comes
    "truncate",  # half of the body, then the end of the connection
    "html",  # a web page, with HTTP 200
    "empty",  # nothing, with HTTP 200
    "garbage",  # bytes that are not text
    "wrong_types",  # JSON whose fields have other types; another example each time
    "huge",  # `mb` megabytes
    "never_ending",  # a kilobyte every `seconds`, for ever
    "slow_drip",  # a byte every `seconds`
    "redirect",  # 302 to `url`, or to itself
}
KINDS = {
    "create": ANYWHERE | {"moderated", "no_picture", "bad_base64", "url", "polling_url"},
    "upload": ANYWHERE,
    "look": ANYWHERE | {"fail", "moderated", "unknown_state", "no_url", "url", "slow"},
    "file": ANYWHERE | {"gone", "corrupt_picture", "truncated_picture", "wrong_type", "bomb"},
}
NOT_STARTED = {"status", "envelope", "moderated"}  # at create; after any other fault the task runs


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One fault. It strikes the prompts that contain `prompt`; of these a `fraction` (of the tasks for look and file,
    of the requests for create); and of each job only the first `times` requests (0: all)."""

    where: str
    kind: str
    prompt: str = ""
    fraction: float = 1.0
    times: int = 0
    started: bool | None = (
        None  # at create: whether the task runs all the same; None: as `NOT_STARTED` has it
    )
    status: int = 500
    code: int = 500
    msg: str = "Internal error"
    retry_after: str = ""
    seconds: float = 1.0
    mb: int = 50
    fail_code: str = "500"
    fail_msg: str = "The model failed to produce an image."
    url: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS.get(self.where, ()):
            raise ValueError(f"no fault {self.kind!r} at {self.where!r}: {KINDS.get(self.where, set(KINDS))}")

    @property
    def starts(self) -> bool:
        return self.kind not in NOT_STARTED if self.started is None else self.started


MAGIC = [
    Rule(where="look", kind="fail", prompt="[[fail]]"),
    Rule(where="look", kind="moderated", prompt="[[moderated]]"),
    Rule(where="look", kind="slow", prompt="[[slow]]", seconds=30),
    Rule(where="look", kind="no_url", prompt="[[no url]]"),
    Rule(where="look", kind="unknown_state", prompt="[[odd state]]"),
    Rule(
        where="create", kind="envelope", prompt="[[rejected]]", code=422, msg="aspect_ratio is out of range"
    ),
    Rule(where="create", kind="status", prompt="[[busy]]", status=429, retry_after="1", times=2),
    Rule(where="create", kind="reset", prompt="[[lost]]"),
    Rule(where="file", kind="gone", prompt="[[gone]]"),
    Rule(where="file", kind="corrupt_picture", prompt="[[corrupt]]"),
]

WRONG_TYPES: dict[str, list[Any]] = {
    "create": [
        {"code": 200, "msg": "success", "data": None},
        {"code": 200, "msg": "success", "data": {"taskId": 7}},
        {"code": 200, "msg": "success", "data": ["task"]},
        {"code": True, "msg": [], "data": "task"},
        ["code", 200],
    ],
    "look": [
        {"code": 200, "msg": "success", "data": None},
        {"code": 200, "msg": "success", "data": {"state": 7}},
        {"code": 200, "msg": 5, "data": [{"state": "success"}]},
        {"code": {}, "msg": None, "data": {"state": "generating"}},
        {"code": 200, "data": {"state": ["success"], "resultJson": 42, "failMsg": {}}},
        "success",
    ],
    "file": [{"url": "somewhere else"}],
    "upload": [
        {"success": True, "code": 200, "msg": "File uploaded successfully", "data": None},
        {"success": True, "code": 200, "data": {"downloadUrl": 7}},
        {"success": True, "code": 200, "data": {"downloadUrl": "somewhere else"}},
        {"success": False, "code": 200, "data": {"downloadUrl": "https://uploads.test/a.jpg"}},
        ["downloadUrl"],
    ],
}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How one kind of upstream spells its errors and its ids, and which of its answers have the wrong types."""

    error: Callable[[int, str], bytes]
    task_id: Callable[[int, int], str]  # from the time in milliseconds and a number that is not used twice
    wrong_types: Mapping[str, list[Any]]
    magic: list[Rule] = field(default_factory=list)


def _envelope_error(code: int, msg: str) -> bytes:
    return json.dumps({"code": code, "msg": msg, "data": None}).encode()


AIGENERATE = Shape(
    error=_envelope_error,
    task_id=lambda ms, number: f"task_flux-2_{ms}{number:05d}",
    wrong_types=WRONG_TYPES,
)


def spoil(reply: Reply, rule: Rule, turn: int, shape: Shape) -> Reply:
    """The reply as `rule` would have it. `turn` picks among the examples of wrong types."""
    if rule.kind in ("reset", "silent", "truncate", "huge", "never_ending", "slow_drip"):
        return replace(reply, manner=rule.kind, pace=rule.seconds, mb=rule.mb)
    if rule.kind == "wrong_types":
        examples = shape.wrong_types[rule.where]
        return replace(reply, body=json.dumps(examples[turn % len(examples)]).encode())
    change = CHANGES.get(rule.kind)
    return change(reply, rule, shape) if change else reply


def _latency(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    return replace(reply, delay=reply.delay + rule.seconds)


def _status(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    headers = (("Retry-After", rule.retry_after),) if rule.retry_after else ()
    return replace(reply, body=shape.error(rule.status, rule.msg), status=rule.status, headers=headers)


def _envelope(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    return replace(reply, body=shape.error(rule.code, rule.msg))


def _moderated(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    return replace(reply, body=shape.error(400, MODERATED), status=400) if rule.where == "create" else reply


def _disguised(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    return replace(reply, status=rule.status)


def _html(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    return replace(reply, body=b"<!doctype html><title>Just a moment...</title>", kind="text/html")


def _empty(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    return replace(reply, body=b"")


def _garbage(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    return replace(reply, body=bytes(range(255, 0, -1)))


def _redirect(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    return replace(reply, status=302, body=b"", headers=(("Location", rule.url or "?again"),))


def _gone(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    return Reply(b"gone", 410, "text/plain")


def _corrupt_picture(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    """A JPEG whose headers are right and whose picture is not: `Image.open` believes it."""
    return replace(reply, body=reply.body[:700] + bytes(max(len(reply.body) - 700, 0)))


def _truncated_picture(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    return replace(reply, body=reply.body[: len(reply.body) // 2])


def _wrong_type(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    return replace(reply, body=b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")


def _bomb(reply: Reply, rule: Rule, shape: Shape) -> Reply:
    return replace(reply, body=bomb(), kind="image/png")


CHANGES: dict[str, Callable[[Reply, Rule, Shape], Reply]] = {
    "latency": _latency,
    "status": _status,
    "envelope": _envelope,
    "moderated": _moderated,
    "disguised": _disguised,
    "html": _html,
    "empty": _empty,
    "garbage": _garbage,
    "redirect": _redirect,
    "gone": _gone,
    "corrupt_picture": _corrupt_picture,
    "truncated_picture": _truncated_picture,
    "wrong_type": _wrong_type,
    "bomb": _bomb,
}


# --- Pictures -----------------------------------------------------------------------------------------
@cache
def picture(width: int, height: int, kb: int) -> bytes:
    """A JPEG of about `kb` KB: noise over a gradient, so that it costs what a photograph costs to decode."""
    ramp = Image.linear_gradient("L").resize((width, height))
    noise = Image.effect_noise((width, height), 40)
    bands = [ImageChops.overlay(ramp, noise), Image.blend(ramp, noise, 0.3), ramp.rotate(180)]
    image = Image.merge("RGB", bands)
    best, low, high = _jpeg(image, 1), 1, 95
    while low < high:  # the largest that fits; the size grows with the quality
        quality = (low + high + 1) // 2
        if len(tried := _jpeg(image, quality)) <= kb * 1024:
            best, low = tried, quality
        else:
            high = quality - 1
    return best


def _jpeg(image: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


@cache
def bomb() -> bytes:
    """A PNG of 30 KB that unpacks to 225 megapixels."""
    out = io.BytesIO()
    Image.new("1", (15_000, 15_000)).save(out, "PNG")
    return out.getvalue()


def signed(data: bytes, name: str) -> bytes:
    """The same picture with `name` as a JPEG comment, so that no two tasks deliver the same bytes."""
    comment = name.encode()
    return data[:2] + b"\xff\xfe" + struct.pack(">H", len(comment) + 2) + comment + data[2:]
