"""A result in the format that the call asked for; what is stored stays as it came."""

import threading
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageCms

from accounts.models import User
from playground import images, records, result_links
from playground.images import converting
from playground.models import Picture
from tests.calling import Api
from tests.making import EDIT, PRO, give, load_catalogue, picture_for
from tests.pictures import encoded, opened, photo, scene

SUFFIXES = {"png": ".png", "jpeg": ".jpg", "webp": ".webp"}


@pytest.fixture
def picture(alice: User) -> Picture:
    load_catalogue()
    give(alice)
    return picture_for(alice)


def body(response: Any) -> bytes:
    return b"".join(response.streaming_content) if response.streaming else response.content


# --- The conversion -----------------------------------------------------------------------------------
@pytest.mark.once
@pytest.mark.parametrize("wanted", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("stored", ["PNG", "JPEG", "WEBP"])
def test_a_picture_becomes_what_was_asked_for(stored: str, wanted: str) -> None:
    data = encoded(scene(300, 200), stored)
    made = opened(images.converted(data, wanted))
    assert made.format == wanted.upper() and made.size == (300, 200)


@pytest.mark.once
def test_see_through_becomes_white_in_a_jpeg_and_stays_in_the_others() -> None:
    data = encoded(Image.new("RGBA", (64, 64), (255, 0, 0, 0)), "PNG")
    assert opened(images.converted(data, "jpeg")).getpixel((30, 30)) == (255, 255, 255)
    assert opened(images.converted(data, "webp")).mode == "RGBA"


@pytest.mark.once
def test_colours_and_their_profile_are_kept_and_nothing_else() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a secret"
    data = encoded(scene(300, 200), "JPEG", icc_profile=profile, exif=exif, quality=100, subsampling=0)
    made = opened(images.converted(data, "png"))
    assert made.size == (200, 300) and made.info["icc_profile"] == profile and not made.getexif()
    expected = opened(data).transpose(Image.Transpose.ROTATE_270)
    assert made.tobytes() == expected.convert("RGB").tobytes()


@pytest.mark.once
def test_what_is_no_picture_is_no_crash() -> None:
    for data in (b"", b"nonsense", photo()[:200]):
        with pytest.raises(images.ImageError):
            images.converted(data, "png")


# --- The address --------------------------------------------------------------------------------------
@pytest.mark.parametrize("wanted", ["png", "jpeg", "webp"])
def test_the_address_ends_and_serves_as_asked(picture: Picture, client: Any, wanted: str) -> None:
    url = result_links.url(picture, format=wanted)
    response = client.get(url)
    assert url.endswith(SUFFIXES[wanted]) and response["Content-Type"] == f"image/{wanted}"
    made = Image.open(BytesIO(body(response)))
    assert made.format == wanted.upper() and made.size == (picture.width, picture.height)
    assert "noindex" in response["X-Robots-Tag"] and "private" in response["Cache-Control"]
    assert images.stored_sha256(picture.key, picture.format) == picture.sha256


def test_each_format_has_its_own_etag(picture: Picture, client: Any, monkeypatch: Any) -> None:
    urls = [result_links.url(picture, format=wanted) for wanted in SUFFIXES]
    tags = [client.get(url)["ETag"] for url in urls]
    assert len(set(tags)) == 3
    monkeypatch.setattr(images, "converted", None)  # nothing is done for whoever has it
    for url, tag in zip(urls, tags, strict=True):
        again = client.get(url, headers={"If-None-Match": tag})
        assert again.status_code == 304 and again["ETag"] == tag


def test_head_converts_nothing(picture: Picture, client: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(images, "converted", None)
    response = client.head(result_links.url(picture, format="png"))
    assert response.status_code == 200 and response["Content-Type"] == "image/png"
    assert "Content-Length" not in response and response["ETag"] and body(response) == b""


def test_a_name_that_says_nothing_gets_the_original(picture: Picture, client: Any) -> None:
    signed = result_links.url(picture).split("/")[2]
    for name in ("picture.tiff", "picture"):
        assert client.get(f"/r/{signed}/{name}")["Content-Type"] == "image/jpeg"


def test_a_preview_is_converted_from_what_its_owner_may_see(alice: User, client: Any) -> None:
    load_catalogue()
    preview = picture_for(alice, pay="preview")
    response = client.get(result_links.url(preview, format="png"))
    shown = images.path(preview.key, "preview", preview.format).read_bytes()
    assert opened(body(response)).tobytes() == opened(shown).convert("RGB").tobytes()


def test_a_file_that_is_gone_is_404(picture: Picture, client: Any) -> None:
    images.remove(picture.key)
    for ask in (client.get, client.head):
        assert ask(result_links.url(picture, format="png")).status_code == 404


def test_too_many_at_once_are_asked_to_come_back(picture: Picture, client: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(converting, "BUSY_AFTER_S", 0.0)
    monkeypatch.setattr(converting, "_places", threading.BoundedSemaphore(1))
    url = result_links.url(picture, format="png")
    with converting._place():
        response = client.get(url)
        assert response.status_code == 503 and response["Retry-After"] == "2" and "ETag" not in response
    assert client.get(url).status_code == 200


# --- The call -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("asked", "suffix"),
    [
        ({}, ".jpg"),
        ({"output_format": "png"}, ".png"),
        ({"outputFormat": "JPG"}, ".jpg"),
        ({"output_format": "webp"}, ".webp"),
    ],
)
def test_create_task_honours_the_format(picture: Picture, alice: User, asked: Any, suffix: str) -> None:
    api = Api(alice)
    response = api.post(
        "/api/v1/jobs/createTask",
        {"model": PRO, "input": {"prompt": "a fox", **asked}},
    )
    assert response.status_code == 200, response.json()
    job = picture.job
    job.asked = type(job).objects.get(pk=response.json()["data"]["taskId"]).asked
    assert records.result_urls(job, "")[0].endswith(suffix)
    assert '"_format"' not in records.record(job, "")["param"]


def test_a_format_that_there_is_not_is_refused_by_name(alice: User) -> None:
    load_catalogue()
    response = Api(alice).post(
        "/api/v1/jobs/createTask", {"model": EDIT, "input": {"prompt": "a fox", "output_format": "gif"}}
    )
    assert response.status_code == 422 and response.json()["error"]["param"] == "input.output_format"
