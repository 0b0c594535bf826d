"""A result's signed address: for whoever has it, for a day, and only while its owner has the picture."""

from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.test import Client
from django.utils import timezone

from accounts.models import User
from playground import images, result_links
from playground.models import Picture, ShareLink
from tests.making import give, picture_for

pytestmark = pytest.mark.django_db


@pytest.fixture
def picture(alice: User) -> Picture:
    give(alice)
    return picture_for(alice)


def get(address: str, **headers: str) -> Any:
    return Client().get(address, headers=headers)


def test_it_serves_the_original_to_whoever_has_it(picture: Picture) -> None:
    answer = get(result_links.url(picture))
    assert answer.status_code == 200 and answer["Content-Type"] == "image/jpeg"
    original = images.path(picture.key, "original", picture.format).read_bytes()
    assert b"".join(answer) == original and answer["Content-Length"] == str(len(original))
    assert answer["Content-Disposition"].startswith("inline; filename=") and "fox" not in str(answer.headers)
    assert "noindex" in answer["X-Robots-Tag"] and "no-cache" in answer["Cache-Control"]


def test_its_name_ends_as_the_file_is(picture: Picture) -> None:
    address = result_links.url(picture, "https://flux.example.com")
    assert address.startswith("https://flux.example.com/r/") and address.endswith(".jpg")
    assert get(result_links.url(picture).rpartition("/")[0] + "/").status_code == 200


def test_head_and_conditional_requests_work(picture: Picture) -> None:
    address = result_links.url(picture)
    head = Client().head(address)
    assert head.status_code == 200 and b"".join(head) == b"" and int(head["Content-Length"]) == picture.size
    assert get(address, if_none_match=head["ETag"]).status_code == 304
    assert Client().post(address).status_code == 405


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, None),
        ("bytes=-50", -50, None),
        ("bytes=9-999999999", 9, None),
    ],
)
def test_a_download_that_broke_off_goes_on(
    picture: Picture, asked: str, start: int, stop: int | None
) -> None:
    original = images.path(picture.key, "original", picture.format).read_bytes()
    answer = get(result_links.url(picture), Range=asked)
    part = b"".join(answer)
    assert answer.status_code == 206 and part == original[start:stop]
    begins = start % len(original)
    assert answer["Content-Range"] == f"bytes {begins}-{begins + len(part) - 1}/{len(original)}"
    assert answer["Content-Length"] == str(len(part)) and answer["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    "headers",
    [
        {"Range": "bytes=0-1,5-6"},
        {"Range": "bytes=-"},
        {"Range": "bytes=9-3"},
        {"Range": "lines=0-9"},
        {"Range": "bytes=0-9", "If-Range": '"another"'},
    ],
)
def test_what_is_no_part_of_the_file_gets_the_whole(picture: Picture, headers: dict[str, str]) -> None:
    answer = get(result_links.url(picture), **headers)
    assert answer.status_code == 200 and len(b"".join(answer)) == picture.size


@pytest.mark.parametrize("asked", ["bytes=999999999-", "bytes=-0"])
def test_a_part_that_is_not_there_is_said_to_be_none(picture: Picture, asked: str) -> None:
    answer = get(result_links.url(picture), Range=asked)
    assert answer.status_code == 416 and answer["Content-Range"] == f"bytes */{picture.size}"


def test_it_is_dead_after_a_day_and_says_so(picture: Picture) -> None:
    with time_machine.travel(timezone.now(), tick=False) as clock:
        address = result_links.url(picture)
        clock.shift(timedelta(hours=23, minutes=59))
        assert get(address).status_code == 200
        clock.shift(timedelta(minutes=2))
        dead = get(address)
    assert dead.status_code == 410 and b"24 hours" in dead.content


def test_another_signature_opens_nothing(picture: Picture) -> None:
    _, _, signed, name = result_links.url(picture).split("/")
    for other in (
        signed[:-1] + ("a" if signed[-1] != "a" else "b"),
        picture.pk.hex,
        "x",
        signed.partition(":")[0] + "::",
    ):
        assert get(f"/r/{other}/{name}").status_code == 404


def test_what_was_deleted_is_gone(picture: Picture) -> None:
    address = result_links.url(picture)
    Picture.objects.update(deleted=timezone.now())
    assert get(address).status_code == 404


@pytest.mark.parametrize("gone", ["suspended", "deleted", "is_active"])
def test_what_a_closed_account_made_is_not_served(picture: Picture, alice: User, gone: str) -> None:
    address = result_links.url(picture)
    setattr(alice, gone, False if gone == "is_active" else timezone.now())
    alice.save(update_fields=[gone])
    assert get(address).status_code == 404


def test_what_staff_took_down_is_not_served(picture: Picture, alice: User) -> None:
    address = result_links.url(picture)
    ShareLink.objects.create(user=alice, picture=picture, taken_down=timezone.now())
    assert get(address).status_code == 404


def test_of_a_locked_preview_it_shows_what_its_owner_may_see(alice: User) -> None:
    give(alice)
    picture = picture_for(alice, pay="preview")
    answer = get(result_links.url(picture))
    assert answer["Content-Type"] == "image/webp" and result_links.url(picture).endswith(".webp")
    assert b"".join(answer) == images.path(picture.key, "preview", picture.format).read_bytes()
