"""The provider that needs no key: it takes its time like a real one, and draws the picture here.

It keeps no state. Everything about a drawing is in its id, so that any process can go on with it after any restart:
sandbox-<job>-<started, ms>-<takes, ms>-<width>x<height>-<style>-<palette>-<seed>-<ending>[-<input>]. The same prompt,
model and seed always give the same picture; without a seed each job gives its own. With input pictures it is an edit of
the first, which is read again when it is drawn.

What can be asked for by words in the prompt is in MAGIC_WORDS.
"""

import asyncio
import hashlib
import io
import random
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self

from playground.net import Client
from playground.providers import drawing
from playground.providers.base import Failure, Order, Report, Started, State, TryLater

MAGIC_WORDS = {
    "[fail]": "the drawing fails at the end",
    "[moderated]": "the drawing is refused by moderation at the end",
    "[bad picture]": "the picture that comes is cut in half",
    "[slow]": "it takes five times as long, and ten seconds at least",
    "[flaky]": "every second try to start it is put off; it gets through in the end",
}

# The first that fits the model's name. A model that fits none gets a style by its name.
_STYLES = [
    (r"flex.*image-to-image.*2k", "mosaic"),
    (r"flex.*image-to-image", "tiles"),
    (r"image-to-image.*2k", "scales"),
    (r"image-to-image", "aurora"),
    (r"kontext.*max", "glass"),
    (r"kontext", "orbits"),
    (r"flex.*2k", "petals"),
    (r"flex", "currents"),
    (r"flux-2-pro.*2k", "papercut"),
    (r"flux-2-pro", "ridges"),
]
_AT_ONCE = 2  # a drawing of 4 megapixels needs about 100 MB
_LOOK_AGAIN_S = 1.0


class Ending(StrEnum):
    DONE = "done"
    FAIL = "fail"
    MODERATED = "moderated"
    CUT = "cut"


_ENDINGS = {"[fail]": Ending.FAIL, "[moderated]": Ending.MODERATED, "[bad picture]": Ending.CUT}


class Sandbox:
    resend_is_safe = True
    longest_create_s = 5.0
    inputs_by: Literal["upload", "base64", "url"] = "base64"
    result_hosts: tuple[str, ...] = ()
    most_at_once: Mapping[str, int] = {}

    def __init__(
        self, *, delay_s: float, name: str = "sandbox", read: Callable[[str], bytes] | None = None
    ) -> None:
        """`read` gives the bytes of an input picture of that name, for as long as there are jobs with it."""
        self.name = name
        self._read = read
        self._delay_s = delay_s
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="sandbox")

    async def create(self, http: Client, order: Order) -> Started:
        if "[flaky]" in order.prompt.lower() and random.random() < 0.5:
            raise TryLater("[flaky] in the prompt: put off")
        return Started(upstream_id=str(Drawing.of(order, self._delay_s, time.time())))

    async def look(self, http: Client, upstream_id: str, memo: str = "") -> Report:
        ordered = Drawing.parse(upstream_id)
        if ordered is None:
            return Report(state=State.FAILED, failure=Failure.NO_PICTURE, detail="not an id of the sandbox")
        return ordered.report(time.time())

    async def is_ours(self, http: Client, upstream_id: str, callback_url: str) -> bool:
        return False  # it calls nobody back

    async def draw(self, url: str) -> bytes | None:
        ordered = Drawing.parse(url.removeprefix("sandbox:"))
        if ordered is None:
            return None
        return await asyncio.get_running_loop().run_in_executor(self._threads, ordered.jpeg, self._read)

    async def balance(self, http: Client) -> str:
        return ""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One drawing, as its id tells it. Times in milliseconds."""

    job: str
    started: int
    takes: int
    width: int
    height: int
    style: str
    palette: int
    seed: int
    ending: Ending
    input: str = ""

    PATTERN = re.compile(
        r"sandbox-(?P<job>\w{1,40})-(?P<started>\d{1,15})-(?P<takes>\d{1,9})-(?P<width>\d{1,5})x(?P<height>\d{1,5})"
        r"-(?P<style>[a-z]{1,20})-(?P<palette>\d{1,3})-(?P<seed>[0-9a-f]{16})-(?P<ending>done|fail|moderated|cut)"
        r"(-(?P<input>[0-9a-f]{32}\.[a-z]{3,4}))?",
        re.ASCII,
    )

    @classmethod
    def of(cls, order: Order, delay_s: float, now: float) -> Self:
        prompt, wanted = order.prompt.lower(), order.fixed.get("ending", "")
        delay_s *= 0.75 + 0.5 * number(order.job_id) / 2**64
        return cls(
            job=re.sub(r"\W", "", order.job_id),
            started=int(now * 1000),
            takes=int(1000 * (max(5 * delay_s, 10) if "[slow]" in prompt or wanted == "slow" else delay_s)),
            width=order.width,
            height=order.height,
            style=style_of(order.model),
            palette=drawing.palette_for(prompt, number(prompt)),
            seed=number(order.prompt, order.model, str(order.job_id if order.seed is None else order.seed)),
            ending=_ending(wanted, prompt),
            input=order.inputs[0].name if order.inputs else "",
        )

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """The drawing of this id; None where it is none, or of a style that is no more."""
        found = cls.PATTERN.fullmatch(text)
        if found is None or found["style"] not in drawing.STYLES:
            return None
        numbers = {name: int(found[name]) for name in ("started", "takes", "width", "height", "palette")}
        seed, ending = int(found["seed"], 16), Ending(found["ending"])
        name = found["input"] or ""
        return cls(job=found["job"], style=found["style"], seed=seed, ending=ending, input=name, **numbers)

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}"
        kind = f"{self.style}-{self.palette}-{self.seed:016x}-{self.ending}"
        return f"sandbox-{self.job}-{self.started}-{self.takes}-{size}-{kind}{self.input and '-'}{self.input}"

    def report(self, now: float) -> Report:
        elapsed = now * 1000 - self.started
        # A start in the future is a clock that was put back: better done too early than hours late.
        if 0 <= elapsed < self.takes:
            left_s = (self.takes - elapsed) / 1000
            progress = int(100 * elapsed / self.takes)
            return Report(state=State.RUNNING, progress=progress, look_after_s=min(left_s, _LOOK_AGAIN_S))
        if self.ending is Ending.FAIL:
            return Report(state=State.FAILED, failure=Failure.UPSTREAM_FAILED, detail="[fail] in the prompt")
        if self.ending is Ending.MODERATED:
            return Report(state=State.FAILED, failure=Failure.MODERATED, detail="[moderated] in the prompt")
        return Report(state=State.SUCCEEDED, urls=(f"sandbox:{self}",))

    def jpeg(self, read: Callable[[str], bytes] | None = None) -> bytes:
        size = (self.width, self.height)
        if self.input and read:
            image = drawing.edit(read(self.input), self.style, self.palette, self.seed, size)
        else:
            image = drawing.picture(self.style, self.palette, self.seed, size)
        out = io.BytesIO()
        image.save(out, "JPEG", quality=90)
        data = out.getvalue()
        return data[: len(data) // 2] if self.ending is Ending.CUT else data


def _ending(wanted: str, prompt: str) -> Ending:
    """What the order says outright, or else a word in the prompt."""
    if wanted in list(Ending):
        return Ending(wanted)
    return next((ending for word, ending in _ENDINGS.items() if word in prompt), Ending.DONE)


def style_of(model: str) -> str:
    fitting = (style for pattern, style in _STYLES if re.search(pattern, model.lower()))
    return next(fitting, None) or list(drawing.STYLES)[number(model) % len(drawing.STYLES)]


def number(*words: str) -> int:
    """64 bits that depend on every word, the same on every machine."""
    return int.from_bytes(hashlib.sha256("\n".join(words).encode()).digest()[:8])
