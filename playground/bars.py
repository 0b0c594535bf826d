"""Stacked bars as numbers: what a template needs to draw them, and to say the same as a table. Knows no models.

Across, everything is in percent, so that the drawing fits any width while its words keep their size; down, in pixels.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

HEIGHT = 200
MOST_SERIES = 7  # with a colour of their own; the rest share one
_WIDEST = 6.0
_MOST_LABELS = 10
OTHERS = 0


@dataclass(frozen=True)
class Cell:
    """What one bar has of one series. `key` tells series apart, `label` is what people read."""

    starts: date
    key: int
    label: str
    value: int


@dataclass(frozen=True)
class Series:
    """`colour` counts from 1; `OTHERS` is what those share that are too many to tell apart."""

    key: int
    label: str
    total: int
    colour: int


@dataclass(frozen=True)
class Part:
    colour: int
    y: float
    height: float


@dataclass(frozen=True)
class Bar:
    starts: date
    words: str
    title: str
    left: float
    pitch: float
    middle: float
    x: float
    width: float
    parts: Sequence[Part]
    values: Sequence[int]
    total: int


@dataclass(frozen=True)
class Line:
    y: float
    label: str


@dataclass(frozen=True)
class Label:
    middle: float
    text: str
    is_minor: bool


@dataclass(frozen=True)
class Chart:
    """`legend` is what the bars' values stand for, in order, "Other" last; `series` has every one by itself."""

    bars: Sequence[Bar]
    series: Sequence[Series]
    legend: Sequence[Series]
    lines: Sequence[Line]
    labels: Sequence[Label]
    peak: Bar
    height: int = HEIGHT
    drawn: int = HEIGHT + 44  # with the words above and below

    @property
    def told(self) -> list[Bar]:
        """Those bars that have anything."""
        return [bar for bar in self.bars if bar.total]


def chart(
    cells: Iterable[Cell], first: date, last: date, step: str, words: Callable[[int], str]
) -> Chart | None:
    """One bar a `step` (day, month or year) from `first` to `last`; None where all would be empty.

    `words` says a value: `$0.35`.
    """
    cells = list(cells)
    series = _series(cells)
    if not series:
        return None
    legend = _legend(series)
    starts = list(_starts(first, last, step))
    stacks = _stacks(cells, series)
    top = _nice(max(sum(stack.values()) for stack in stacks.values()))
    pitch = 100 / len(starts)
    bars = [
        _bar(at, number, pitch, stacks.get(at, {}), legend, top, step, words)
        for number, at in enumerate(starts)
    ]
    lines = [
        Line(HEIGHT * (1 - share / 2), words(top * share // 2))
        for share in (0, 1, 2)
        if share != 1 or top % 2 == 0
    ]
    return Chart(bars, series, legend, lines, _labels(bars, step), max(bars, key=lambda bar: bar.total))


def _series(cells: Sequence[Cell]) -> list[Series]:
    """The largest first, and each with its colour."""
    totals: dict[tuple[int, str], int] = defaultdict(int)
    for cell in cells:
        totals[cell.key, cell.label] += cell.value
    ranked = sorted(
        ((total, key, label) for (key, label), total in totals.items() if total),
        key=lambda one: (-one[0], one[2]),
    )
    own = len(ranked) if len(ranked) <= MOST_SERIES + 1 else MOST_SERIES
    return [
        Series(key, label, total, number if number <= own else OTHERS)
        for number, (total, key, label) in enumerate(ranked, 1)
    ]


def _legend(series: Sequence[Series]) -> list[Series]:
    own = [one for one in series if one.colour != OTHERS]
    others = [one for one in series if one.colour == OTHERS]
    if not others:
        return own
    return [*own, Series(0, f"{len(others)} others", sum(one.total for one in others), OTHERS)]


def _stacks(cells: Sequence[Cell], series: Sequence[Series]) -> dict[date, dict[int, int]]:
    """By the start of each bar, what each colour has."""
    colours = {one.key: one.colour for one in series}
    stacks: dict[date, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for cell in cells:
        if cell.value:
            stacks[cell.starts][colours[cell.key]] += cell.value
    return stacks


def _bar(
    at: date,
    number: int,
    pitch: float,
    stack: dict[int, int],
    legend: Sequence[Series],
    top: int,
    step: str,
    words: Callable[[int], str],
) -> Bar:
    width = min(pitch * 0.8, _WIDEST)
    middle = (number + 0.5) * pitch
    values = [stack.get(one.colour, 0) for one in legend]
    said = [f"{one.label}: {words(value)}" for one, value in zip(legend, values, strict=True) if value]
    total = sum(values)
    title = "\n".join([f"{_long(at, step)}: {words(total)}", *said])
    return Bar(
        starts=at,
        words=_short(at, step),
        title=title,
        left=round(number * pitch, 3),
        pitch=round(pitch, 3),
        middle=round(middle, 3),
        x=round(middle - width / 2, 3),
        width=round(width, 3),
        parts=_parts(values, legend, top),
        values=values,
        total=total,
    )


def _parts(values: Sequence[int], legend: Sequence[Series], top: int) -> list[Part]:
    """From the ground up, a hair apart. Whatever is there can be seen."""
    below, parts = 0, []
    for one, value in zip(legend, values, strict=True):
        if value:
            tall = HEIGHT * value / top
            ends = HEIGHT * (1 - (below + value) / top)
            parts.append(
                Part(one.colour, round(min(ends, HEIGHT - 1), 2), round(max(tall - (tall > 4), 1), 2))
            )
            below += value
    return parts


def _nice(most: int) -> int:
    """A round number at or above `most`, whose half is round, too."""
    unit = 1
    while unit * 10 < most:
        unit *= 10
    steps = (10, 12, 16, 20, 24, 30, 40, 50, 60, 80, 100) if unit >= 10 else (10, 20, 40, 60, 80, 100)
    return next(unit * step // 10 for step in steps if unit * step >= most * 10)


def _starts(first: date, last: date, step: str) -> Iterable[date]:
    at = (
        first if step == "day" else first.replace(day=1) if step == "month" else first.replace(month=1, day=1)
    )
    while at <= last:
        yield at
        at = (
            at + timedelta(days=1)
            if step == "day"
            else (at + timedelta(days=32 if step == "month" else 367)).replace(day=1)
        )
        if step == "year":
            at = at.replace(month=1)


def _labels(bars: Sequence[Bar], step: str) -> list[Label]:
    """Few enough to stand side by side; on a phone every other one (`is_minor`) is left out."""
    every = -(-len(bars) // _MOST_LABELS)
    return [
        Label(bar.middle, _short(bar.starts, step), number % 2 == 1 and len(bars) > 5)
        for number, bar in enumerate(bars[::every])
    ]


def _short(at: date, step: str) -> str:
    return {"day": f"{at.day} {at:%b}", "month": f"{at:%b %y}", "year": f"{at:%Y}"}[step]


def _long(at: date, step: str) -> str:
    return {"day": f"{at.day} {at:%B %Y}", "month": f"{at:%B %Y}", "year": f"{at:%Y}"}[step]
