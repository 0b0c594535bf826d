import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import TOTP
from allauth.usersessions.models import UserSession
from django.core.cache import cache
from django.test import Client

from accounts.models import ApiKey, User
from playground import export, images, turns, uploads
from playground.models import Picture
from tests.making import give, picture_for
from tests.pictures import photo
from tests.test_mfa import SECRET

pytestmark = pytest.mark.django_db


@pytest.fixture
def desk(alice: User, client: Client) -> Client:
    give(alice)
    client.force_login(alice)
    client.post("/accounts/reauthenticate/", {"password": "alice-password"})
    return client


def unpacked(response: Any) -> zipfile.ZipFile:
    archive = zipfile.ZipFile(io.BytesIO(b"".join(response.streaming_content)))
    assert archive.testzip() is None
    return archive


def lines(archive: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in archive.read(name).splitlines()]


def test_alice_gets_all_that_is_hers(desk: Client, alice: User) -> None:
    picture = picture_for(alice, prompt="a fox in the snow")
    upload = uploads.take(alice, photo())
    ApiKey.objects.create(user=alice, name="laptop", start="fp_live_ab", last_four="wxyz", digest="d" * 64)
    response = desk.post("/settings/data/export/")
    assert response.streaming and response["Content-Type"] == "application/zip"
    archive = unpacked(response)
    account = json.loads(archive.read("account.json"))
    assert account["email"] == "alice@example.org" and account["balance_micro_usd"] == 9_965_000
    assert [run["prompt"] for run in lines(archive, "runs.jsonl")] == ["a fox in the snow"]
    assert [job["state"] for job in lines(archive, "jobs.jsonl")] == ["succeeded"]
    assert b"-35000,9965000" in archive.read("statement.csv") and b",1,35000," in archive.read("usage.csv")
    [told] = lines(archive, "pictures.jsonl")
    assert archive.read(told["file"]) == images.path(picture.key, "original", picture.format).read_bytes()
    [sent] = lines(archive, "inputs.jsonl")
    assert archive.read(sent["file"]) == images.path(upload.key, "original", upload.format).read_bytes()


def test_it_holds_nothing_of_others_and_no_secrets(desk: Client, alice: User, bob: User) -> None:
    give(bob)
    picture_for(bob, prompt="bob's own words")
    ApiKey.objects.create(user=alice, name="laptop", start="fp_live_ab", last_four="wxyz", digest="d" * 64)
    archive = unpacked(desk.post("/settings/data/export/"))
    whole = b"".join(archive.read(name) for name in archive.namelist())
    for secret in (b"bob", b"d" * 64, alice.password.encode()):
        assert secret not in whole
    assert not [name for name in archive.namelist() if name.startswith("pictures/")]


def test_of_a_locked_preview_there_is_what_she_can_see(desk: Client, alice: User) -> None:
    picture = picture_for(alice, pay="preview")
    archive = unpacked(desk.post("/settings/data/export/"))
    [told] = lines(archive, "pictures.jsonl")
    assert told["file"].endswith("-preview.webp")
    assert archive.read(told["file"]) == images.path(picture.key, "preview", picture.format).read_bytes()


def test_deleted_pictures_are_not_in_it(desk: Client, alice: User) -> None:
    picture = picture_for(alice)
    Picture.objects.filter(pk=picture.pk).update(deleted=picture.created)
    archive = unpacked(desk.post("/settings/data/export/"))
    assert lines(archive, "pictures.jsonl") == [] and len(lines(archive, "jobs.jsonl")) == 1


def test_a_file_that_is_gone_is_named_and_the_rest_comes(desk: Client, alice: User) -> None:
    first, second = picture_for(alice), picture_for(alice)
    images.remove(first.key)
    archive = unpacked(desk.post("/settings/data/export/"))
    names = [name for name in archive.namelist() if name.startswith("pictures/")]
    assert len(names) == 1 and str(second.pk) in names[0]
    assert str(first.pk) in archive.read("missing.txt").decode()


def test_an_empty_account_has_a_whole_one_too(desk: Client) -> None:
    assert "account.json" in unpacked(desk.post("/settings/data/export/")).namelist()


def test_it_takes_a_password_and_a_post(alice: User) -> None:
    fresh = Client()
    assert fresh.post("/settings/data/export/")["Location"].startswith("/accounts/login/")
    fresh.force_login(alice)
    asked = fresh.post("/settings/data/export/", follow=True)
    assert asked.request["PATH_INFO"] == "/accounts/reauthenticate/"
    known = fresh.post(
        asked.redirect_chain[-1][0], {"password": "alice-password", "next": "/settings/data/export/"}
    )
    assert known["Location"] == "/settings/data/export/"
    page = fresh.get(
        known["Location"]
    )  # the button once more, and not a download that leaves the question standing
    assert "it is you" in page.content.decode() and "Download my data" in page.content.decode()
    assert unpacked(fresh.post("/settings/data/export/")).namelist()


def test_where_she_is_logged_in_is_in_it_and_what_opens_that_is_not(desk: Client, alice: User) -> None:
    TOTP.activate(alice, SECRET)
    key = desk.session.session_key
    UserSession.objects.create(user=alice, ip="203.0.113.7", session_key=key, user_agent="Firefox")
    text = unpacked(desk.post("/settings/data/export/")).read("account.json").decode()
    account = json.loads(text)
    assert [session["ip"] for session in account["sessions"]] == ["203.0.113.7"]
    assert [factor["kind"] for factor in account["second_factors"]] == ["totp"]
    secrets = [SECRET, key, Authenticator.objects.get().data["secret"]]
    assert not [secret for secret in secrets if secret in text]


def test_the_pages_of_rows_lose_none(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    give(alice)
    monkeypatch.setattr(export, "AT_ONCE", 2)
    for _ in range(5):
        picture_for(alice)
    archive = zipfile.ZipFile(io.BytesIO(b"".join(export.stream(alice))))
    assert len(lines(archive, "jobs.jsonl")) == len({job["id"] for job in lines(archive, "jobs.jsonl")}) == 5


# --- Turns ----------------------------------------------------------------------------------------------
def test_one_at_a_time_for_each_account(desk: Client) -> None:
    first = desk.post("/settings/data/export/")
    again = desk.post("/settings/data/export/")
    assert again.status_code == 429 and "being downloaded already" in again.content.decode()
    unpacked(first)
    unpacked(desk.post("/settings/data/export/"))


def test_who_goes_away_before_the_first_byte_gives_the_turn_back(desk: Client) -> None:
    answer = desk.post("/settings/data/export/")
    for (
        close
    ) in answer._resource_closers:  # as the server does, without the signal that ends the test's transaction
        close()
    unpacked(desk.post("/settings/data/export/"))


def test_never_so_many_that_nobody_else_is_served(alice: User, bob: User, settings: Any) -> None:
    settings.WEB_PROCESSES, settings.WEB_THREADS = 2, 1
    turn = turns.taken(alice)
    with pytest.raises(turns.Busy, match="Several people"):
        turns.taken(bob)
    turns.Turn(turn, iter(())).close()
    assert turns.taken(bob)
    cache.clear()


def test_what_is_read_is_sent_before_more_is_read(alice: User) -> None:
    """The whole is never in memory: while pieces of one picture come in, those before have gone out."""
    sink = export._Sink()

    def size() -> int:
        return sum(map(len, sink.parts))

    def pieces() -> Iterator[bytes]:
        for _ in range(200):
            yield bytes(export.PIECE)
            assert size() == 0

    most = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(export, "_Sink", lambda: sink)
        patch.setattr(export, "_files", lambda user: iter([("pictures/x.jpg", pieces())]))
        for piece in export.stream(alice):
            most = max(most, len(piece), size())
    assert most < 2 * export.PIECE
