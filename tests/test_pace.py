import pytest

from playground.pace import LOOKS_PER_S, Pace


def pause(pace: Pace, age: float, in_flight: int = 1) -> float:
    return pace.pause("aigenerate", "pro", age=age, in_flight=in_flight)


def test_a_young_job_is_looked_at_often_and_an_old_one_seldom() -> None:
    pauses = [pause(Pace(), age) for age in (1, 60, 600)]
    assert pauses == pytest.approx([0.5, 1, 3], rel=0.11)


def test_many_jobs_share_the_looks() -> None:
    assert pause(Pace(), 1, in_flight=int(LOOKS_PER_S * 3)) == pytest.approx(3, rel=0.11)


def test_what_a_model_took_lately_says_when_looking_starts_to_be_worth_it() -> None:
    pace = Pace()
    for _ in range(5):
        pace.done("aigenerate", "pro", age=10)
    assert pause(pace, 1) == pytest.approx(7, rel=0.11)
    assert pause(pace, 9) == pytest.approx(0.5, rel=0.11)
    assert pace.pause("aigenerate", "flex", age=1, in_flight=1) == pytest.approx(0.5, rel=0.11)


def test_an_upstream_that_wants_peace_is_asked_half_as_often_until_it_has_long_been_content() -> None:
    pace = Pace()
    pace.too_often("aigenerate")
    assert pause(pace, 1) == pytest.approx(1, rel=0.11)
    for _ in range(40):
        pace.done("aigenerate", "pro", age=0)
    assert pause(pace, 1) == pytest.approx(0.5, rel=0.11)
    for _ in range(20):
        pace.too_often("aigenerate")
    assert pause(pace, 1) == pytest.approx(8, rel=0.11)
