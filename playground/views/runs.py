"""A run's page: a tile for every picture, and the one poller that keeps them fresh."""

import uuid
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.cache import cache_control, never_cache
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HTMX_STOP_POLLING, HttpResponseClientRefresh

from accounts import ledger
from playground import jobs, offers, orders, receipts
from playground.http import Request, SeeOther, refusal
from playground.models import Job, Picture, Run
from playground.views.inputs import Input, first_there, inputs_of

MARK = 5  # characters of a tile's mark; the last two are its progress
AUTO = "auto"  # the aspect ratio of a run whose pictures follow its first input
MOST_LOPSIDED = 3


@dataclass(frozen=True)
class Tile:
    """One picture's place on the page. A retry takes the place of what it retries."""

    job: Job
    picture: Picture | None
    board: "Board"

    @property
    def slot(self) -> str:
        return f"{self.job.variant_id}-{self.job.ordinal}"

    @property
    def mark(self) -> str:
        """What the page knows a tile by. Where only the last two characters differ, the tile itself may stay."""
        is_locked = bool(self.picture and self.picture.is_locked)
        about = repr((self.job.pk, self.can_cancel, is_locked, self.is_deleted)).encode()
        return f"{self.job.shown_state[0]}{zlib.crc32(about) % 256:02x}{(self.job.progress or 0) % 256:02x}"

    @property
    def is_deleted(self) -> bool:
        return bool(self.picture and self.picture.deleted)

    @property
    def can_cancel(self) -> bool:
        return jobs.can_cancel(self.job)

    @property
    def is_as_asked(self) -> bool:
        """Whether the picture has the shape of its frame, give or take the steps that sizes come in."""
        across, down = self.board.frame
        return bool(self.picture and abs(self.picture.width / self.picture.height * down / across - 1) < 0.03)

    @property
    def heading(self) -> str:
        return receipts.heading(self.job)

    @property
    def why(self) -> str:
        return jobs.why(self.job)

    @property
    def retry(self) -> offers.Retry | None:
        """What the button says that orders it once more, or why there is none; None for what has not failed."""
        return self.board.retries.get(self.job.pk)

    @property
    def elapsed(self) -> float:
        """Seconds since the click, for a job that is not done."""
        return max((timezone.now() - self.job.created).total_seconds(), 0)

    @property
    def paid_micros(self) -> int:
        """What this picture has cost its owner so far."""
        is_paid = not self.job.is_preview or bool(self.picture and self.picture.kept)
        is_paid = is_paid and not self.job.is_test
        return self.job.price_micros if self.job.state == Job.State.SUCCEEDED and is_paid else 0

    @property
    def held_micros(self) -> int:
        job = self.job
        return 0 if job.is_final or job.is_preview or job.is_test else job.price_micros


class Board:
    """All tiles of a run, cheapest variant first, as they were ordered: one query."""

    def __init__(self, run: Run) -> None:
        self.run = run
        rows = list(Job.objects.filter(run=run).select_related("variant", "picture").order_by("pk"))
        first_price = {(j.variant_id, j.ordinal): j.price_micros for j in rows if j.retry_of_id is None}
        retried = {job.retry_of_id for job in rows}
        shown = [job for job in rows if job.pk not in retried]
        # Not by today's price, which a retry has: a tile must never change its place.
        shown.sort(
            key=lambda j: (
                first_price[j.variant_id, j.ordinal],
                j.variant.position,
                j.variant_id,
                j.ordinal,
            )
        )
        self.has_inputs = any(job.params.get("inputs") for job in shown)
        self.tiles = [Tile(job, getattr(job, "picture", None), self) for job in shown]

    @cached_property
    def inputs(self) -> list[Input]:
        """What the pictures are made from."""
        return inputs_of(self.run) if self.has_inputs else []

    @cached_property
    def retries(self) -> dict[uuid.UUID, offers.Retry]:
        ended = [tile.job for tile in self.tiles if tile.job.is_final and not tile.picture]
        return offers.retries(ended)

    @cached_property
    def before(self) -> Input | None:
        return first_there(self.inputs)

    @property
    def mosaic(self) -> int:
        """How many inputs stand side by side in their one tile."""
        return min(len(self.inputs), 3 if len(self.inputs) > 4 else 2)

    @property
    def groups(self) -> list[list[Tile]]:
        grouped: dict[int, list[Tile]] = {}
        for tile in self.tiles:
            grouped.setdefault(tile.job.variant_id, []).append(tile)
        return list(grouped.values())

    @property
    def marks(self) -> str:
        return "".join(tile.mark for tile in self.tiles)

    @property
    def is_final(self) -> bool:
        return all(tile.job.is_final for tile in self.tiles)

    @cached_property
    def frame(self) -> tuple[int, int]:
        """Width and height of every tile: of the ratio, not of the pixels, which differ a little with the model."""
        if self.run.aspect_ratio == AUTO:
            return self._frame_of_input
        across, down = (int(part) for part in self.run.aspect_ratio.split(":"))
        return across * 100, down * 100

    @property
    def _frame_of_input(self) -> tuple[int, int]:
        """The first input's own shape, within reason: a strip of paper would leave nothing to look at."""
        if not self.inputs:
            return 100, 100
        across, down = self.inputs[0].width, self.inputs[0].height
        return min(across, MOST_LOPSIDED * down), min(down, MOST_LOPSIDED * across)

    @property
    def shape(self) -> str:
        across, down = self.frame
        return "tall" if down > across else "wide" if across > down else "square"

    @property
    def paid_micros(self) -> int:
        return sum(tile.paid_micros for tile in self.tiles)

    @property
    def held_micros(self) -> int:
        return sum(tile.held_micros for tile in self.tiles)

    @property
    def seed(self) -> int | None:
        """The seed of the first picture that has one."""
        return next((tile.job.params["seed"] for tile in self.tiles if "seed" in tile.job.params), None)

    @property
    def status(self) -> str:
        """How far it is, in one sentence, for eyes and for screen readers."""
        states = [tile.job.shown_state for tile in self.tiles]
        ready = states.count("succeeded")
        without = Counter(
            tile.heading.lower() for tile in self.tiles if tile.job.is_final and not tile.picture
        )
        total = len(states)
        pictures = ("picture" if total == 1 else "pictures") + (" is" if 1 in (ready, total) else " are")
        said = f"All {total} {pictures}" if ready == total > 1 else f"{ready} of {total} {pictures}"
        return ", ".join([f"{said} ready", *(f"{number} {word}" for word, number in without.items())]) + "."

    def changed_since(self, seen: str) -> tuple[list[Tile], list[Tile]]:
        """Tiles that look different from what the page has, and tiles of which only the progress moved."""
        if len(seen) != MARK * len(self.tiles):
            return self.tiles, []
        marks = [(tile, tile.mark, seen[at * MARK : (at + 1) * MARK]) for at, tile in enumerate(self.tiles)]
        changed = [tile for tile, now, then in marks if now[:-2] != then[:-2]]
        moved = [tile for tile, now, then in marks if now != then and now[:-2] == then[:-2]]
        return changed, moved


# --- Pages --------------------------------------------------------------------------------------------
@require_safe
@login_required
@cache_control(private=True, no_cache=True)
def run(request: Request, run_id: uuid.UUID) -> HttpResponse:
    """The page, whole: what a reload, a second device or a browser without JavaScript gets."""
    found = get_object_or_404(Run.objects.visible_to(request.user), pk=run_id)
    return render(request, "run.html", {"run": found, "board": Board(found)})


@require_safe
@never_cache
def run_progress(request: Request, run_id: uuid.UUID) -> HttpResponse:
    """The tiles that changed since the marks `v`; 286 ends the polling once all is final."""
    if not request.user.is_authenticated:
        return HttpResponseClientRefresh()  # logged out meanwhile: the page itself asks to log in
    found = get_object_or_404(Run.objects.visible_to(request.user), pk=run_id)
    return _changes(request, found, seen=request.GET.get("v", ""))


def _changes(request: Request, run: Run, *, seen: str) -> HttpResponse:
    board = Board(run)
    changed, moved = board.changed_since(seen)
    if not changed and not moved and not board.is_final:
        return HttpResponse(status=204)
    context = {"run": run, "board": board, "changed": changed, "moved": moved, "is_fragment": True}
    return render(request, "run.html#changes", context, status=HTMX_STOP_POLLING if board.is_final else 200)


# --- Deeds --------------------------------------------------------------------------------------------
@require_POST
@login_required
def job_cancel(request: Request, job_id: uuid.UUID) -> HttpResponse:
    """Ends a picture while nothing is owed for it."""

    def cancel(job: Job) -> None:
        if not jobs.cancel(job, by=request.user) and not job.is_final:
            raise orders.NotPossible("job", "Too late to cancel: it has been sent to the model already.")

    return _do(request, job_id, cancel)


@require_POST
@login_required
def job_retry(request: Request, job_id: uuid.UUID) -> HttpResponse:
    """Makes a failed or cancelled picture once more, in its place."""
    return _do(request, job_id, orders.retry)


def _do(request: Request, job_id: uuid.UUID, deed: Callable[[Job], Any]) -> HttpResponse:
    """To htmx the tiles that changed; without it, and where the answer is no, the whole page."""
    mine = Job.objects.visible_to(request.user).select_related("run", "variant", "user")
    job = get_object_or_404(mine, pk=job_id)
    try:
        deed(job)
    except (orders.NotPossible, ledger.Refusal) as no:
        messages.error(request, refusal(no))
        return HttpResponseClientRefresh() if request.htmx else SeeOther(job.run.get_absolute_url())
    if request.htmx:
        return _changes(request, job.run, seen=request.POST.get("v", ""))
    return SeeOther(job.run.get_absolute_url())
