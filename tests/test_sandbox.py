"""The sandbox: a provider that takes its time, keeps no state, and draws pictures worth looking at."""

import asyncio
import io
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageStat

from playground.providers import drawing
from playground.providers.base import Failure, Input, Order, Report, State, TryLater
from playground.providers.sandbox import MAGIC_WORDS, Drawing, Sandbox, style_of
from tests.canned import Canned, never
from tests.pictures import encoded, scene

SLUG = "black-forest-labs-black-forest-labs-flux-2-{}-1-0s-{}"
MODELS = [
    *(SLUG.format(f"{family}-{kind}", size) for family in ("pro", "flex")
      for kind in ("text-to-image", "image-to-image") for size in ("1k", "2k")),
    "black-forest-labs-flux1-kontext-text-to-image-pro",
    "black-forest-labs-flux1-kontext-text-to-image-max",
]  # fmt: skip
ORDER = Order(
    job_id="018f3e2a-7c1b-7c3d-9e4f-a0b1c2d3e4f5",
    model=MODELS[0],
    prompt="a fox in the snow",
    aspect_ratio="1:1",
    resolution="1K",
    width=256,
    height=256,
    seed=7,
)


def create(sandbox: Sandbox, order: Order = ORDER) -> str:
    return asyncio.run(sandbox.create(Canned(never), order)).upstream_id


def look(sandbox: Sandbox, upstream_id: str) -> Report:
    return asyncio.run(sandbox.look(Canned(never), upstream_id))


def drawn(order: Order = ORDER, **changes: Any) -> bytes:
    sandbox = Sandbox(delay_s=0, read=lambda name: GIVEN[name])
    report = look(sandbox, create(sandbox, replace(order, **changes)))
    data = asyncio.run(sandbox.draw(report.urls[0]))
    assert data is not None
    return data


NAME, OTHER = "0" * 32 + ".jpg", "1" * 32 + ".png"
GIVEN = {
    NAME: encoded(scene(300, 200), "JPEG"),
    OTHER: encoded(scene(300, 200).rotate(180).convert("RGBA"), "PNG"),
}


def given(name: str) -> Input:
    return Input(name=name, content_type="image/jpeg", width=300, height=200, data=GIVEN[name])


def as_image(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def difference(one: bytes, other: bytes) -> float:
    """Mean difference of two pictures of one size, 0 to 255."""
    return max(ImageStat.Stat(ImageChops.difference(as_image(one), as_image(other))).mean)


# --- Its life -----------------------------------------------------------------------------------------
def test_alices_drawing_takes_about_as_long_as_set_and_says_when_to_look() -> None:
    ordered = Drawing.of(ORDER, 8.0, now=1_000.0)
    assert 6_000 <= ordered.takes <= 10_000
    start, end = 1_000.0, 1_000.0 + ordered.takes / 1000
    assert ordered.report(start + 1) == Report(
        state=State.RUNNING, progress=int(100_000 / ordered.takes), look_after_s=1.0
    )
    assert ordered.report(end - 0.25).look_after_s == pytest.approx(0.25, abs=0.01)
    assert ordered.report(end).state is State.SUCCEEDED
    assert ordered.report(end).urls == (f"sandbox:{ordered}",)


def test_jobs_of_one_run_do_not_all_end_at_the_same_moment() -> None:
    takes = {Drawing.of(replace(ORDER, job_id=str(uuid.uuid4())), 8.0, 0).takes for _ in range(20)}
    assert len(takes) > 15


def test_a_delay_of_nothing_is_nothing() -> None:
    sandbox = Sandbox(delay_s=0)
    assert look(sandbox, create(sandbox)).state is State.SUCCEEDED


def test_the_id_is_all_that_another_process_needs() -> None:
    upstream_id = create(Sandbox(delay_s=0))
    assert len(upstream_id) <= 200
    assert str(Drawing.parse(upstream_id)) == upstream_id
    code = (
        "import asyncio, sys; from playground.providers.sandbox import Sandbox;"
        "sys.stdout.buffer.write(asyncio.run(Sandbox(delay_s=99).draw('sandbox:' + sys.argv[1])))"
    )
    elsewhere = subprocess.run(
        [sys.executable, "-c", code, upstream_id], capture_output=True, check=True
    ).stdout
    assert elsewhere == asyncio.run(Sandbox(delay_s=0).draw(f"sandbox:{upstream_id}"))


def test_a_clock_put_back_does_not_leave_alice_waiting() -> None:
    ordered = Drawing.of(ORDER, 8.0, now=time.time() + 600)
    assert ordered.report(time.time()).state is State.SUCCEEDED


@pytest.mark.parametrize(
    "text", ["", "task_1", "sandbox-", "sandbox-a-1-1-1x1-nothing-1-0000000000000000-done"]
)
def test_what_is_not_its_id_is_no_picture(text: str) -> None:
    report = look(Sandbox(delay_s=0), text)
    assert (report.state, report.failure) == (State.FAILED, Failure.NO_PICTURE)
    assert asyncio.run(Sandbox(delay_s=0).draw(f"sandbox:{text}")) is None
    assert asyncio.run(Sandbox(delay_s=0).draw("https://example.org/picture.jpg")) is None


# --- On request ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("word", "failure"),
    [
        ("[fail]", Failure.UPSTREAM_FAILED),
        ("[moderated]", Failure.MODERATED),
        ("[Fail]", Failure.UPSTREAM_FAILED),
    ],
)
def test_a_drawing_fails_at_its_end_when_asked_to(word: str, failure: Failure) -> None:
    ordered = Drawing.of(replace(ORDER, prompt=f"a fox {word}"), 8.0, now=0)
    assert ordered.report(1.0).state is State.RUNNING
    report = ordered.report(60.0)
    assert (report.state, report.failure) == (State.FAILED, failure)


def test_a_bad_picture_is_cut_in_half() -> None:
    with pytest.raises(OSError):
        as_image(drawn(prompt="a fox [bad picture]"))


def test_slow_is_slow_even_where_nothing_else_is() -> None:
    assert Drawing.of(replace(ORDER, prompt="[slow] fox"), 0.0, now=0).takes == 10_000
    usual = Drawing.of(ORDER, 8.0, now=0).takes
    assert Drawing.of(replace(ORDER, prompt="[slow] fox"), 8.0, now=0).takes == pytest.approx(
        5 * usual, abs=5
    )


def test_flaky_is_put_off_now_and_then_and_gets_through() -> None:
    sandbox, order, put_off, through = Sandbox(delay_s=0), replace(ORDER, prompt="a fox [flaky]"), 0, 0
    for _ in range(40):
        try:
            create(sandbox, order)
            through += 1
        except TryLater:
            put_off += 1
    assert put_off and through


def test_every_magic_word_changes_something() -> None:
    plain = str(Drawing.of(ORDER, 8.0, now=0)).split("-")
    for word in set(MAGIC_WORDS) - {"[flaky]"}:
        asked = str(Drawing.of(replace(ORDER, prompt=f"{ORDER.prompt} {word}"), 8.0, now=0)).split("-")
        assert (asked[3], asked[-1]) != (plain[3], plain[-1]), word


# --- The pictures -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("width", "height"), [(1024, 1024), (2720, 1536), (768, 1360), (64, 64), (1560, 656)]
)
def test_a_picture_has_exactly_the_size_that_was_ordered(width: int, height: int) -> None:
    image = as_image(drawn(width=width, height=height))
    assert (image.format, image.size) == ("JPEG", (width, height))


@pytest.mark.parametrize("style", drawing.STYLES)
@pytest.mark.parametrize("size", [(200, 200), (320, 180), (90, 210), (16, 16)])
def test_every_style_copes_with_every_shape_and_many_seeds(style: str, size: tuple[int, int]) -> None:
    for seed in range(8):
        image = drawing.picture(style, seed, seed * 977, size)
        assert (image.mode, image.size) == ("RGB", size)
        assert max(ImageStat.Stat(image).stddev) > 6, f"seed {seed} is nearly one colour"


def test_the_same_prompt_variant_and_seed_make_the_same_picture() -> None:
    assert drawn() == drawn(job_id=str(uuid.uuid4()))
    assert difference(drawn(), drawn(seed=8)) > 3
    assert difference(drawn(), drawn(prompt="the snow, a fox in it")) > 3


def test_without_a_seed_every_job_has_its_own_picture() -> None:
    assert difference(drawn(seed=None), drawn(seed=None, job_id=str(uuid.uuid4()))) > 3


def test_each_variant_has_a_style_of_its_own() -> None:
    assert len({style_of(model) for model in MODELS}) == len(MODELS)


def test_two_variants_that_share_a_style_still_differ() -> None:
    one, other = "maker-kontext-first", "maker-kontext-second"
    assert style_of(one) == style_of(other)
    assert difference(drawn(model=one), drawn(model=other)) > 3


def test_a_variant_nobody_has_heard_of_is_drawn_too() -> None:
    assert as_image(drawn(model="some-maker-some-model")).size == (256, 256)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("Waves at night over the SEA, blue.", "sea"),
        ("a deep green forest", "forest"),
        ("Red cars!", "red"),
        ("a neon city at night", "night"),
    ],
)
def test_words_for_colours_choose_the_colours(prompt: str, words: str) -> None:
    assert words in drawing.PALETTES[drawing.palette_for(prompt, otherwise=6)].words


def test_a_prompt_without_such_words_gets_some_palette() -> None:
    assert drawing.palette_for("ein Einhorn", otherwise=25) == 25 % len(drawing.PALETTES)


def test_every_picture_says_that_it_is_from_the_sandbox() -> None:
    for style in drawing.STYLES:
        image = drawing.picture(style, 3, 5, (768, 768))
        mark = image.crop((16, 716, 160, 752)).convert("L")
        assert mark.getextrema()[1] > 240, f"no white letters on {style}"
        assert ImageStat.Stat(mark).mean[0] < 190, f"no dark ground under them on {style}"


# --- Edits --------------------------------------------------------------------------------------------
def test_an_edit_is_the_same_for_the_same_input_and_another_for_another() -> None:
    first = drawn(inputs=(given(NAME),))
    assert first == drawn(inputs=(given(NAME),)) != drawn()
    assert difference(first, drawn(inputs=(given(OTHER),))) > 5
    assert as_image(first).size == (256, 256)


@pytest.mark.parametrize("size", [(16, 16), (64, 2000), (2000, 64)])
def test_an_edit_has_the_size_that_was_asked_for(size: tuple[int, int]) -> None:
    assert as_image(drawn(width=size[0], height=size[1], inputs=(given(NAME),))).size == size


def test_the_id_of_an_edit_tells_which_input_and_fits_its_column() -> None:
    upstream_id = create(Sandbox(delay_s=3), replace(ORDER, inputs=(given(OTHER), given(NAME))))
    ordered = Drawing.parse(upstream_id)
    assert ordered is not None and ordered.input == OTHER and str(ordered) == upstream_id
    assert len(upstream_id) <= 200
    assert Drawing.parse(upstream_id + "-" + NAME) is None
    assert Drawing.parse(upstream_id.replace(OTHER, "../secret")) is None
