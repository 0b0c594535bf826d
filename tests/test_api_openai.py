"""The stock `openai` client against our image routes: it works with nothing changed but the host and the key."""

import asyncio
import base64
import io
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from typing import Any

import httpx
import openai
import pytest
from django.db import OperationalError
from PIL import Image

from accounts import keys, ledger
from accounts.models import ApiKey, User
from playground import images
from playground.api import images as images_api
from playground.api import waiting
from playground.api.errors import Problem
from playground.api.places import Places
from playground.models import Job
from playground.providers.sandbox import Drawing
from tests.calling import Api
from tests.driving import driving
from tests.making import give, load_catalogue
from tests.pictures import photo

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


@pytest.fixture
def at(live_server: Any, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    settings.SANDBOX_DELAY_S = 0.05
    load_catalogue()
    with driving(monkeypatch):
        yield live_server.url


def draw_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """The drive that lives has read its settings, so the sandbox that it has is slowed down."""
    made = Drawing.of
    monkeypatch.setattr(Drawing, "of", lambda order, _, now: made(order, 2.5, now))


@pytest.fixture
def client(at: str, alice: User) -> openai.OpenAI:
    give(alice)
    return openai.OpenAI(base_url=f"{at}/v1", api_key=Api(alice).text, max_retries=0)


def test_a_picture_comes_back_by_its_address(client: openai.OpenAI, alice: User) -> None:
    raw = client.images.with_raw_response.generate(
        prompt="a fox in the snow", model="flux-2/pro-text-to-image", size="1536x1024"
    )
    made = raw.parse()
    assert raw.headers["X-AI-Credits-Charged"] == "5.00" and raw.headers["X-AI-Task-Id"]
    assert made.data and made.data[0].url and abs(made.created - time.time()) < 60
    image = Image.open(io.BytesIO(httpx.get(made.data[0].url).content))
    assert image.width > image.height and f"{image.width}x{image.height}" == made.size
    assert ledger.wallet_of(alice).posted == 10_000_000 - 35_000


def test_two_pictures_in_base64_and_our_own_parameters(client: openai.OpenAI) -> None:
    made = client.images.generate(
        prompt="a fox", n=2, response_format="b64_json", extra_body={"aspect_ratio": "16:9", "seed": 7}
    )
    assert made.data and len(made.data) == 2
    for datum in made.data:
        assert datum.b64_json and Image.open(io.BytesIO(base64.b64decode(datum.b64_json))).width > 1024
    assert {job.params["aspect_ratio"] for job in Job.objects.all()} == {"16:9"}


@pytest.mark.parametrize("count", [1, 2])
def test_pictures_are_edited(client: openai.OpenAI, count: int) -> None:
    files = [("a.jpg", photo(size=(300, 200 + number))) for number in range(count)]
    made = client.images.edit(image=files if count > 1 else files[0], prompt="make it autumn", n=1)
    assert made.data and made.data[0].url
    job = Job.objects.get()
    assert len(job.params["inputs"]) == count and job.params["aspect_ratio"] == "3:2"


def test_the_format_is_the_one_that_was_asked_for(client: openai.OpenAI) -> None:
    for options in ({"response_format": "b64_json"}, {"response_format": "url"}):
        made = client.images.generate(prompt="a fox", output_format="png", **options)  # type: ignore[call-overload]
        [datum] = made.data
        data = base64.b64decode(datum.b64_json) if datum.b64_json else httpx.get(datum.url).content
        assert Image.open(io.BytesIO(data)).format == "PNG"


def test_pictures_that_come_to_more_than_ten_megabytes_are_edited(client: openai.OpenAI) -> None:
    noise = Image.effect_noise((2600, 2000), 200).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "JPEG", quality=98)
    large = out.getvalue()
    assert 3_000_000 < len(large) < 10_000_000
    files = [(f"{number}.jpg", large + bytes(number)) for number in range(12_000_000 // len(large) + 1)]
    assert client.images.edit(image=files, prompt="make it autumn").data


def test_its_errors_are_the_clients_own(client: openai.OpenAI, at: str, bob: User) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.images.generate(prompt="a fox", size="big")
    assert bad.value.param == "size" and bad.value.code == "invalid_parameter"
    with pytest.raises(openai.NotFoundError):
        client.images.generate(prompt="a fox", model="dall-e-3")
    with pytest.raises(openai.BadRequestError) as masked:
        client.images.edit(image=("a.jpg", photo()), mask=("m.png", photo()), prompt="x")
    assert masked.value.param == "mask"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-aig-nonsense").images.generate(prompt="a fox")
    with pytest.raises(openai.APIStatusError) as poor:
        client.with_options(api_key=Api(bob).text).images.generate(prompt="a fox")
    assert poor.value.status_code == 402 and poor.value.code == "insufficient_credits"
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="a fox [moderated]")
    assert refused.value.code == "moderated" and refused.value.response.headers["x-should-retry"] == "false"
    assert "Nothing was charged" in refused.value.message


@pytest.mark.parametrize(
    ("options", "param", "words"),
    [
        ({"stream": True}, "stream", "nothing is streamed here"),
        ({"partial_images": 2}, "partial_images", "nothing is streamed here"),
        ({"background": "transparent"}, "background", "no transparent pictures"),
        ({"n": 11}, "n", "less than or equal to 10"),
    ],
)
def test_what_is_not_done_here_is_refused_in_plain_words(
    client: openai.OpenAI, options: dict[str, Any], param: str, words: str
) -> None:
    for refused in (
        lambda: client.images.generate(prompt="a fox", **options),
        lambda: client.images.edit(image=("a.jpg", photo()), prompt="a fox", **options),
    ):
        with pytest.raises(openai.BadRequestError, match=words) as bad:
            refused()
        assert bad.value.param == param and not Job.objects.exists()


@pytest.mark.parametrize("place", ["v1", "api/v1"])
def test_variations_are_refused_with_the_way_to_make_them(client: openai.OpenAI, at: str, place: str) -> None:
    large = photo() + bytes(3_000_000)
    with pytest.raises(openai.NotFoundError, match="images/edits"):
        client.with_options(base_url=f"{at}/{place}").images.create_variation(image=("a.jpg", large))


@pytest.mark.parametrize("size", ["1536X1024", " 1536x1024", "1536*1024"])
def test_a_size_may_be_spelled_in_several_ways(client: openai.OpenAI, size: str) -> None:
    assert client.images.generate(prompt="a fox", size=size).data
    assert Job.objects.get().params["aspect_ratio"] == "3:2"


def test_ten_pictures_come_of_one_call_and_each_has_its_price(client: openai.OpenAI, alice: User) -> None:
    made = client.images.with_raw_response.generate(prompt="a fox", n=10, response_format="url")
    assert len({datum.url for datum in made.parse().data or []}) == 10
    assert made.headers["X-AI-Credits-Charged"] == "50.00"
    assert ledger.wallet_of(alice).posted == 10_000_000 - 350_000


def test_without_a_response_format_a_picture_comes_in_both(client: openai.OpenAI) -> None:
    """Clients of OpenAI's older models read `url`, those of its newer ones `b64_json`, and neither asks for it."""
    made = client.images.generate(prompt="a fox", output_format="webp")
    assert made.data and made.data[0].url and made.data[0].b64_json
    assert httpx.get(made.data[0].url).content[8:12] == b"WEBP"
    assert base64.b64decode(made.data[0].b64_json)[8:12] == b"WEBP"


def test_a_picture_that_cannot_be_converted_at_once_still_has_its_address(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "converted", too_busy)
    made = client.images.generate(prompt="a fox", output_format="webp")
    assert made.data and made.data[0].url and not made.data[0].b64_json


def too_busy(*_: Any) -> Any:
    raise images.Busy


def database_is_away(*_: Any) -> Any:
    raise OperationalError("the connection is closed")


@pytest.mark.parametrize(
    ("where", "name", "trouble"),
    [(images, "converted", too_busy), (images_api, "_in_order", database_is_away)],
)
def test_what_goes_wrong_after_the_order_does_not_make_the_client_order_again(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, where: Any, name: str, trouble: Any
) -> None:
    monkeypatch.setattr(where, name, trouble)
    with pytest.raises(openai.InternalServerError) as bad:
        client.with_options(max_retries=2).images.generate(prompt="a fox", response_format="b64_json")
    told = bad.value.response.headers
    assert bad.value.code == "unavailable" and told["x-should-retry"] == "false"
    assert told["X-AI-Task-Id"] == str(Job.objects.get().pk)


def test_who_comes_back_with_the_same_key_gets_the_same_picture(
    client: openai.OpenAI, settings: Any, alice: User
) -> None:
    settings.API_WAIT_S = 0
    same = {"Idempotency-Key": "once"}
    with pytest.raises(openai.InternalServerError) as late:
        client.images.generate(prompt="a fox", extra_headers=same)
    assert late.value.status_code == 504 and late.value.response.headers["x-should-retry"] == "true"
    settings.API_WAIT_S = 20
    again = client.images.with_raw_response.generate(prompt="a fox", extra_headers=same)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["X-AI-Task-Id"] == late.value.response.headers["X-AI-Task-Id"]
    assert Job.objects.count() == 1 and ledger.wallet_of(alice).posted == 10_000_000 - 35_000


def test_a_key_that_is_revoked_while_its_call_waits_gets_no_picture(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task goes on, and can be asked for with another key."""
    wait = waiting.until_ended

    def revoked_meanwhile(job_ids: Any, seconds: float) -> bool:
        return keys.revoke(ApiKey.objects.get()) and wait(job_ids, seconds)

    monkeypatch.setattr(waiting, "until_ended", revoked_meanwhile)
    with pytest.raises(openai.AuthenticationError, match="while the call waited") as refused:
        client.images.generate(prompt="a fox in the snow")
    assert refused.value.response.headers["X-AI-Task-Id"] == str(Job.objects.get().pk)


def test_of_three_pictures_the_two_that_were_made_come_and_are_charged(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, alice: User
) -> None:
    made, asked = Drawing.of, []

    def fails_for_one(order: Any, delay_s: float, now: float) -> Drawing:
        asked.append(order.job_id)
        return made(replace(order, prompt="[fail]") if order.job_id == asked[0] else order, delay_s, now)

    monkeypatch.setattr(Drawing, "of", fails_for_one)
    raw = client.images.with_raw_response.generate(prompt="a fox", n=3)
    assert len(raw.parse().data or []) == 2 and raw.headers["X-AI-Credits-Charged"] == "10.00"
    assert len(raw.headers["X-AI-Task-Id"].split(", ")) == 3
    assert ledger.wallet_of(alice).posted == 10_000_000 - 70_000
    assert ledger.wallet_of(alice).held == 0


def test_those_who_wait_do_not_keep_others_waiting(
    client: openai.OpenAI, at: str, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three times as many wait as may be worked on at once, and a page is answered while none of them is."""
    many, ended = 3 * settings.WEB_THREADS, waiting._ended
    all_wait, may_end = threading.Event(), threading.Event()

    def ended_when_allowed(job_ids: list[uuid.UUID]) -> list[uuid.UUID]:
        if len(job_ids) == many:
            all_wait.set()
        return ended(job_ids) if may_end.is_set() else []

    monkeypatch.setattr(waiting, "_ended", ended_when_allowed)
    with ThreadPoolExecutor(many) as threads:
        calls = [threads.submit(client.images.generate, prompt="a fox") for _ in range(many)]
        try:
            assert all_wait.wait(30)
            assert httpx.get(f"{at}/pricing/", timeout=30).status_code == 200
            assert not any(call.done() for call in calls)
        finally:
            may_end.set()
        assert all(call.result().data for call in calls)


def test_models_are_listed_and_one_is_asked_for(client: openai.OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    one = client.models.retrieve("flux-2/pro-text-to-image")  # an alias, with a slash in it
    assert one.id in ids and one.object == "model" and one.owned_by
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("dall-e-3")


def test_what_is_away_for_a_moment_is_asked_again_and_ordered_once(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call finds all places taken, which is 503; the client waits as it is told and gets its picture."""
    monkeypatch.setattr(waiting, "_room", flaky := Flaky(waiting._room, refusals=1))
    made = client.with_options(max_retries=2).images.generate(prompt="a fox in the snow")
    assert made.data and flaky.asked == 2 and Job.objects.count() == 1


class Flaky:
    """Places, none of which is free at first."""

    def __init__(self, room: Places, refusals: int) -> None:
        self.room, self.refusals, self.asked = room, refusals, 0

    def one(self, user_id: int) -> AbstractContextManager[None]:
        self.asked += 1
        if self.asked <= self.refusals:
            raise Problem("unavailable", "All places are taken.", retry_after_s=1)
        return self.room.one(user_id)


def test_one_account_leaves_others_a_place_to_wait(alice: User, bob: User, settings: Any) -> None:
    with ExitStack() as held:
        for _ in range(settings.API_WAITING * 2 // 3):
            held.enter_context(waiting.room(alice.pk))
        with pytest.raises(Problem, match="Too many calls wait"):
            held.enter_context(waiting.room(alice.pk))
        held.enter_context(waiting.room(bob.pk))


def test_a_client_that_gave_up_gets_the_task_that_it_had_started(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, alice: User
) -> None:
    draw_slowly(monkeypatch)
    impatient = client.with_options(timeout=0.8)
    same = {"Idempotency-Key": "patience"}
    with pytest.raises(openai.APITimeoutError):
        impatient.images.generate(prompt="a fox", extra_headers=same)
    again = client.images.with_raw_response.generate(prompt="a fox", extra_headers=same)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["X-AI-Task-Id"] == str(Job.objects.get().pk)
    assert ledger.wallet_of(alice).posted == 10_000_000 - 35_000


def test_who_waits_with_a_key_is_told_when_to_come_back_to_a_server_that_stops(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_slowly(monkeypatch)
    monkeypatch.setattr(waiting, "_watch", watch := waiting.Watch())
    threading.Timer(0.8, watch.end).start()
    same = {"Idempotency-Key": "restart"}
    with pytest.raises(openai.InternalServerError, match="started again") as late:
        client.images.generate(prompt="a fox", extra_headers=same)
    told = late.value.response.headers
    assert (told["x-should-retry"], told["Retry-After"]) == ("true", "10")
    monkeypatch.setattr(waiting, "_watch", waiting.Watch())
    again = client.images.with_raw_response.generate(prompt="a fox", extra_headers=same)
    assert again.headers["X-AI-Task-Id"] == told["X-AI-Task-Id"] and Job.objects.count() == 1


def test_the_asynchronous_client_asks_for_several_at_once(client: openai.OpenAI) -> None:
    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(
            base_url=client.base_url, api_key=client.api_key, max_retries=0
        ) as many:
            return await asyncio.gather(
                *(many.images.generate(prompt=f"fox {number}") for number in range(3))
            )

    assert all(made.data[0].url for made in asyncio.run(ask())) and Job.objects.count() == 3
