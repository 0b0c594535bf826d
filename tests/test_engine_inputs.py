"""Input pictures on their way to an upstream: loaded off the loop, in bounds, and never in vain."""

import asyncio
from typing import Any

import pytest
from PIL import Image, ImageChops, ImageOps, ImageStat

from accounts import ledger
from accounts.models import User
from playground import images, jobs, orders, upkeep, uploads
from playground.models import Job, Picture, Upload
from playground.providers.base import Order, Started
from playground.providers.sandbox import Sandbox
from playground.room import Room
from tests.driving import drive_until_final, states
from tests.making import EDIT, KONTEXT, USD, give, run_for
from tests.pictures import encoded, opened, photo, scene

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rich(alice: User, settings: Any) -> User:
    settings.SANDBOX_DELAY_S = 0.0
    give(alice)
    return alice


@pytest.fixture
def ordered(monkeypatch: pytest.MonkeyPatch) -> list[Order]:
    """What the sandbox was asked for."""
    seen: list[Order] = []
    create = Sandbox.create

    async def remembered(self: Sandbox, http: Any, order: Order) -> Started:
        seen.append(order)
        return await create(self, http, order)

    monkeypatch.setattr(Sandbox, "create", remembered)
    return seen


def original(row: Upload | Picture) -> bytes:
    return images.path(row.key, "original", row.format).read_bytes()


def test_an_upstream_gets_our_own_encoding_in_order(rich: User, ordered: list[Order], settings: Any) -> None:
    settings.BASE_URL = "https://flux.example.com"
    one, two = uploads.take(rich, photo("red")), uploads.take(rich, encoded(scene(300, 200, "RGBA"), "PNG"))
    run = run_for(rich, EDIT, inputs=[two, one], aspect_ratio="auto")
    drive_until_final()
    assert states(run) == ["succeeded"]
    [order] = ordered
    assert [given.data for given in order.inputs] == [original(two), original(one)]
    assert [given.content_type for given in order.inputs] == ["image/png", "image/jpeg"]
    assert [(given.width, given.height) for given in order.inputs] == [(300, 200), (640, 480)]
    assert order.inputs[1].name == one.key[-32:] + ".jpg"
    assert uploads.by_signed(order.inputs[0].url.split("/")[-2]) == two
    assert order.aspect_ratio == "3:2"


def test_without_inputs_nothing_is_loaded(rich: User, ordered: list[Order]) -> None:
    run_for(rich, KONTEXT)
    drive_until_final()
    assert ordered[0].inputs == ()


def test_an_input_whose_file_is_lost_fails_the_job_and_costs_nothing(
    rich: User, ordered: list[Order]
) -> None:
    upload = uploads.take(rich, photo())
    run = run_for(rich, EDIT, inputs=[upload])
    images.remove(upload.key)
    drive_until_final()
    job = run.jobs.get()
    assert (job.state, job.failure, ordered) == ("failed", "input_gone", [])
    assert jobs.why(job) == "An input picture of this run has been removed, so it cannot be made."
    assert ledger.wallet_of(rich).available == 10 * USD


def test_an_input_that_is_lost_before_the_drawing_fails_it_too(rich: User, monkeypatch: Any) -> None:
    upload = uploads.take(rich, photo())
    run = run_for(rich, EDIT, inputs=[upload])
    create = Sandbox.create

    async def lose_it(self: Sandbox, http: Any, order: Order) -> Started:
        images.remove(upload.key)
        return await create(self, http, order)

    monkeypatch.setattr(Sandbox, "create", lose_it)
    drive_until_final()
    assert (run.jobs.get().state, run.jobs.get().failure) == ("failed", "input_gone")
    assert ledger.wallet_of(rich).available == 10 * USD


def test_the_sandbox_draws_an_edit_that_is_known_again(rich: User) -> None:
    """The input's light and dark are where they were; another input gives another picture."""
    left_to_right = Image.linear_gradient("L").rotate(90).resize((640, 480)).convert("RGB")
    both = (left_to_right, ImageOps.mirror(left_to_right))
    inputs = [uploads.take(rich, encoded(picture, "JPEG")) for picture in both]
    runs = [run_for(rich, KONTEXT, inputs=[upload], aspect_ratio="4:3", seed=7) for upload in inputs]
    drive_until_final()
    made = [Picture.objects.get(job__run=run) for run in runs]
    grey = [opened(original(row)).convert("L") for row in (*made, *inputs)]
    middles = [
        ImageOps.fit(ImageOps.autocontrast(image), (640, 480)).crop((80, 80, 560, 400)) for image in grey
    ]
    near = [difference(middles[0], middles[2]), difference(middles[1], middles[3])]
    far = [difference(middles[0], middles[3]), difference(middles[1], middles[2])]
    assert max(near) < 30 < 60 < min(far)
    assert upkeep.audit() == []


def difference(one: Any, other: Any) -> float:
    return ImageStat.Stat(ImageChops.difference(one, other)).mean[0]


def test_a_retry_goes_out_with_the_same_inputs(rich: User, ordered: list[Order]) -> None:
    upload = uploads.take(rich, photo())
    run = run_for(rich, EDIT, inputs=[upload], prompt="a fox [fail]")
    drive_until_final()
    orders.retry(run.jobs.get())
    drive_until_final()
    assert [order.inputs[0].data for order in ordered] == [original(upload)] * 2


# --- Room ---------------------------------------------------------------------------------------------
def test_no_more_is_held_at_once_than_there_is_room_for() -> None:
    async def measure() -> tuple[int, int]:
        room, held, most, done = Room(100), 0, 0, 0

        async def holder(amount: int) -> None:
            nonlocal held, most, done
            async with room.hold(amount):
                held += min(amount, 100)
                most = max(most, held)
                await asyncio.sleep(0.001)
                held -= min(amount, 100)
            done += 1

        await asyncio.gather(*(holder(amount) for amount in [30, 60, 500, 1, 99, 0, 100, 45] * 8))
        return most, done

    most, done = asyncio.run(measure())
    assert (most, done) == (100, 64)


def test_a_large_one_is_not_passed_for_ever_and_one_that_gives_up_frees_its_turn() -> None:
    async def order_of_entry() -> list[str]:
        room, entered = Room(10), []

        async def enter(name: str, amount: int) -> None:
            async with room.hold(amount):
                entered.append(name)
                await asyncio.sleep(0.01)

        first = asyncio.create_task(enter("small", 5))
        await asyncio.sleep(0)
        quitter, large, late = (
            asyncio.create_task(enter(name, amount))
            for name, amount in (("quitter", 10), ("large", 10), ("late", 1))
        )
        await asyncio.sleep(0)
        quitter.cancel()
        await asyncio.gather(first, large, late)
        return entered

    assert asyncio.run(order_of_entry()) == ["small", "large", "late"]


def test_a_name_that_is_no_input_reaches_no_file(rich: User) -> None:
    for name in ("", "x", "../../secret_key", "0" * 32, "0" * 32 + ".exe", "0" * 32 + ".jpg"):
        with pytest.raises(uploads.Gone):
            uploads.read(name)
    assert not Job.objects.exists()


def test_whoever_has_no_inputs_does_not_wait_behind_large_ones() -> None:
    async def passes() -> bool:
        held = Room(100)
        async with held.hold(80):
            large = asyncio.ensure_future(held.hold(80).__aenter__())
            await asyncio.sleep(0)
            async with asyncio.timeout(1), held.hold(0):
                large.cancel()
                return True

    assert asyncio.run(passes())
