"""What a chart is drawn from says what its numbers say, for any numbers."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from playground import bars
from playground.bars import Cell, chart

pytestmark = pytest.mark.once

FIRST, LAST = date(2026, 11, 1), date(2026, 11, 30)
CELLS = st.lists(
    st.builds(
        lambda day, key, value: Cell(FIRST + timedelta(days=day), key, f"Variant {key}", value),
        st.integers(0, 29),
        st.integers(1, 14),
        st.integers(0, 10**13),
    )
)


@given(CELLS)
def test_every_part_is_as_tall_as_its_value_and_inside_the_drawing(cells: list[Cell]) -> None:
    drawn = chart(cells, FIRST, LAST, "day", str)
    whole = sum(cell.value for cell in cells)
    if drawn is None:
        assert whole == 0
        return
    assert sum(bar.total for bar in drawn.bars) == sum(one.total for one in drawn.legend) == whole
    assert len(drawn.bars) == 30 and len(drawn.legend) <= bars.MOST_SERIES + 1
    top = int(drawn.lines[-1].label)
    for bar in drawn.bars:
        assert bar.total == sum(bar.values) <= top
        assert len(bar.parts) == sum(1 for value in bar.values if value)
        for part in bar.parts:
            assert 0 <= part.y <= drawn.height - 1 and 1 <= part.height <= drawn.height
        if bar.parts:
            assert drawn.height - bar.parts[-1].y == pytest.approx(drawn.height * bar.total / top, abs=1.01)
        assert bar.x >= 0 and bar.x + bar.width <= 100


@pytest.mark.parametrize(
    ("step", "last", "starts"),
    [
        ("day", date(2026, 11, 3), ["1 Nov", "2 Nov", "3 Nov"]),
        ("month", date(2027, 1, 31), ["Nov 26", "Dec 26", "Jan 27"]),
        ("year", date(2028, 3, 1), ["2026", "2027", "2028"]),
    ],
)
def test_there_is_one_bar_a_step_also_where_there_is_nothing(
    step: str, last: date, starts: list[str]
) -> None:
    at = {"day": FIRST, "month": FIRST, "year": date(2026, 1, 1)}[step]
    drawn = chart([Cell(at, 1, "Pro", 5)], FIRST, last, step, str)
    assert (
        drawn
        and [bar.words for bar in drawn.bars] == starts
        and [bar.words for bar in drawn.told] == starts[:1]
    )


def test_those_that_are_too_many_share_one_colour_and_are_named_one_by_one_in_the_list() -> None:
    drawn = chart([Cell(FIRST, key, f"Variant {key}", key) for key in range(1, 12)], FIRST, LAST, "day", str)
    assert drawn and [one.colour for one in drawn.series] == [1, 2, 3, 4, 5, 6, 7, 0, 0, 0, 0]
    assert (drawn.legend[-1].label, drawn.legend[-1].total) == ("4 others", 4 + 3 + 2 + 1)


def test_nothing_is_no_chart() -> None:
    assert chart([], FIRST, LAST, "day", str) is None
