"""Input pictures: what comes in, what is kept of it, who may see it, and when it goes."""

import hashlib
import json
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import time_machine
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from PIL import Image

from accounts.models import User
from playground import images, jobs, upkeep, uploads
from playground.models import Picture, RunInput, Upload
from tests.making import give, picture_for, run_for
from tests.pictures import encoded, metadata_in, opened, photo, scene

pytestmark = pytest.mark.django_db

POSITION = {1: "N", 2: (52.0, 30.0, 0.0), 3: "E", 4: (13.0, 24.0, 0.0)}


@pytest.fixture
def hers(alice: User) -> Client:
    return logged_in(alice)


def logged_in(user: User, **options: Any) -> Client:
    client = Client(**options)
    client.force_login(user)
    return client


def send(client: Client, data: bytes, **headers: str) -> Any:
    return client.post("/uploads/", {"file": SimpleUploadedFile("x.jpg", data)}, headers=headers)


def error(response: Any) -> str:
    return json.loads(response.content)["error"]


def stored(upload: Upload) -> bytes:
    return images.path(upload.key, "original", upload.format).read_bytes()


def all_files(settings: Any) -> list[Path]:
    return [file for file in Path(settings.MEDIA_ROOT).rglob("*") if file.is_file()]


def used_by(user: User, upload: Upload) -> RunInput:
    return RunInput.objects.create(run=run_for(user), upload=upload, position=0)


# --- What is kept of a file ---------------------------------------------------------------------------
def test_alices_photo_is_kept_without_where_she_took_it(alice: User) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera of Alice", 6
    exif.get_ifd(0x8825).update(POSITION)
    came = encoded(
        scene(640, 480), "JPEG", exif=exif, comment=b"taken at home", xmp=b"<x:xmpmeta>alice</x:xmpmeta>"
    )
    assert metadata_in(came) >= {"exif", "comment", "xmp"}
    upload = uploads.take(alice, came)
    kept = stored(upload)
    assert metadata_in(kept) == set()
    assert b"Alice" not in kept and b"alice" not in kept and b"home" not in kept
    assert (upload.format, upload.width, upload.height) == ("jpeg", 480, 640), "upright"
    assert opened(kept).size == (480, 640)
    assert upload.content_sha256 == hashlib.sha256(came).hexdigest()
    assert upload.sha256 == hashlib.sha256(kept).hexdigest() != upload.content_sha256
    assert (upload.size, upload.is_preview) == (len(kept), False)


def test_its_thumb_and_its_preview_are_small_and_plain(alice: User) -> None:
    upload = uploads.take(alice, photo(size=(1600, 1200)))
    thumb, preview = (images.path(upload.key, size, "jpeg").read_bytes() for size in ("thumb", "preview"))
    assert opened(thumb).size == (upload.thumb_width, upload.thumb_height) == (512, 384)
    assert opened(preview).size == (768, 576)
    low, high = opened(preview).convert("L").getextrema()
    assert high - low < 8, "no mark on it"


# --- Once per account ---------------------------------------------------------------------------------
def test_the_same_file_twice_is_one_upload_and_is_in_use_again(alice: User, settings: Any) -> None:
    first = uploads.take(alice, photo())
    files = all_files(settings)
    with time_machine.travel(timezone.now() + timedelta(days=2)):
        again = uploads.take(alice, photo())
    assert again == first and Upload.objects.count() == 1
    assert again.last_used > first.last_used + timedelta(days=1)
    assert all_files(settings) == files
    assert uploads.take(alice, photo("blue")) != first


def test_the_same_file_of_two_people_is_two_uploads(alice: User, bob: User) -> None:
    hers, his = uploads.take(alice, photo()), uploads.take(bob, photo())
    assert hers != his and hers.key != his.key


def test_a_bad_file_leaves_nothing(alice: User, settings: Any) -> None:
    with pytest.raises(images.ImageError):
        uploads.take(alice, photo()[:-100])
    assert not Upload.objects.exists() and all_files(settings) == []


def test_a_full_disk_leaves_nothing(alice: User, settings: Any, monkeypatch: Any) -> None:
    def full(key: str, rendered: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(images, "store", full)
    assert send(logged_in(alice), photo()).status_code == 503
    assert not Upload.objects.exists() and all_files(settings) == []


def test_what_fails_afterwards_does_not_hide_what_failed_first(
    alice: User, monkeypatch: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(what: str) -> Any:
        def fail(*args: Any) -> None:
            raise OSError(what)

        return fail

    monkeypatch.setattr(uploads, "_added", fails("first"))
    monkeypatch.setattr(images, "remove", fails("second"))
    with pytest.raises(OSError, match="first"):
        uploads.take(alice, photo())
    assert "could not be removed" in caplog.text


def test_a_disk_that_is_nearly_full_takes_only_what_it_has(hers: Client, monkeypatch: Any) -> None:
    assert send(hers, photo("red")).status_code == 201
    monkeypatch.setattr(images, "has_space", lambda: False)
    assert send(hers, photo("red")).status_code == 201
    response = send(hers, photo("green"))
    assert response.status_code == 503 and "disk is nearly full" in error(response)
    assert Upload.objects.count() == 1


def test_one_picture_of_an_account_is_decoded_at_a_time(
    hers: Client, alice: User, bob: User, monkeypatch: Any
) -> None:
    inner: list[Any] = []
    normalise = images.normalise

    def meanwhile(data: bytes) -> Any:
        monkeypatch.setattr(images, "normalise", normalise)
        inner.extend([send(hers, photo("green")), send(logged_in(bob), photo("green"))])
        return normalise(data)

    monkeypatch.setattr(images, "normalise", meanwhile)
    assert send(hers, photo("red")).status_code == 201
    assert [response.status_code for response in inner] == [503, 201]
    assert "Try again in a moment" in error(inner[0])
    assert send(hers, photo("green")).status_code == 201


# --- How many -----------------------------------------------------------------------------------------
def test_an_account_has_room_for_so_many_and_no_more(alice: User, bob: User, settings: Any) -> None:
    settings.UPLOADS_PER_ACCOUNT = 2
    first = uploads.take(alice, photo("red"))
    uploads.take(alice, photo("green"))
    files = all_files(settings)
    with pytest.raises(uploads.QuotaReached, match="You have 2 input pictures, which is the most"):
        uploads.take(alice, photo("blue"))
    assert all_files(settings) == files
    assert uploads.take(alice, photo("red")) == first, "what she has already needs no room"
    uploads.take(bob, photo("blue"))
    uploads.remove(first)
    uploads.take(alice, photo("blue"))


def test_an_account_has_room_for_so_many_bytes(alice: User, settings: Any) -> None:
    first = uploads.take(alice, photo("red"))
    settings.UPLOADS_BYTES_PER_ACCOUNT = 2 * first.size - 1
    files = all_files(settings)
    with pytest.raises(uploads.QuotaReached, match="take up 0 of 0 MB, so this one does not fit"):
        uploads.take(alice, photo("blue"))
    assert all_files(settings) == files and Upload.objects.count() == 1


# --- From the gallery ---------------------------------------------------------------------------------
def test_her_own_picture_becomes_an_input(alice: User) -> None:
    give(alice)
    picture = picture_for(alice)
    upload = uploads.take_picture(alice, picture)
    assert (upload.picture, upload.is_preview) == (picture, False)
    assert (upload.width, upload.height) == (picture.width, picture.height)
    assert uploads.take_picture(alice, picture) == upload


def test_of_a_locked_preview_there_is_no_more_than_768_pixels(hers: Client, alice: User) -> None:
    give(alice)
    picture = picture_for(alice, pay="preview")
    large = images.render(encoded(scene(1600, 1200), "JPEG"), with_preview=True)
    images.remove(picture.key)
    images.store(picture.key, large)
    upload = uploads.take_picture(alice, picture)
    assert (upload.is_preview, upload.width, upload.height) == (True, 768, 576)
    assert opened(stored(upload)).size == (768, 576)
    folder = images.path(upload.key, "original", "jpeg").parent
    assert sorted(file.name for file in folder.iterdir()) == ["original.jpg", "thumb.webp"]
    assert hers.get(f"/uploads/{upload.pk}/thumb/").status_code == 200
    assert hers.get(f"/uploads/{upload.pk}/preview/").status_code == 404
    assert hers.get(f"/uploads/{upload.pk}/original/").status_code == 404
    Picture.objects.filter(pk=picture.pk).update(is_locked=False, sha256=large.sha256)
    whole = uploads.take_picture(alice, Picture.objects.get(pk=picture.pk))
    assert whole != upload and (whole.is_preview, whole.width) == (False, 1600)


def test_a_picture_whose_files_are_gone_says_so(hers: Client, alice: User) -> None:
    give(alice)
    picture = picture_for(alice)
    images.remove(picture.key)
    response = hers.post("/uploads/", {"picture": picture.pk})
    assert (response.status_code, error(response)) == (422, "That picture has been deleted.")


# --- Over HTTP ----------------------------------------------------------------------------------------
def test_alice_sends_a_file_and_sees_it(hers: Client, alice: User) -> None:
    response = send(hers, photo(size=(800, 600)))
    upload = Upload.objects.get(user=alice)
    thumb = f"/uploads/{upload.pk}/thumb/"
    assert response.status_code == 201
    assert response.json() == {"id": str(upload.pk), "width": 800, "height": 600, "thumb": thumb}
    seen = hers.get(thumb)
    assert (seen.status_code, seen["Content-Type"]) == (200, "image/webp")
    assert seen["Cache-Control"] == "private, max-age=86400, immutable"
    assert seen["X-Content-Type-Options"] == "nosniff"
    preview = hers.get(f"/uploads/{upload.pk}/preview/")
    assert preview["Cache-Control"] == "private, no-cache"
    assert (
        hers.get(f"/uploads/{upload.pk}/preview/", headers={"if-none-match": preview["ETag"]}).status_code
        == 304
    )


def test_alice_picks_from_her_gallery_and_bob_cannot(hers: Client, alice: User, bob: User) -> None:
    give(alice)
    picture = picture_for(alice)
    response = hers.post("/uploads/", {"picture": picture.pk})
    assert response.status_code == 201
    assert logged_in(bob).post("/uploads/", {"picture": picture.pk}).status_code == 404
    assert hers.post("/uploads/", {"picture": "no-id"}).status_code == 404
    Picture.objects.filter(pk=picture.pk).update(deleted=timezone.now())
    assert hers.post("/uploads/", {"picture": picture.pk}).status_code == 404


def test_an_upload_of_alice_does_not_exist_for_bob_or_for_a_visitor(alice: User, bob: User) -> None:
    upload = uploads.take(alice, photo())
    for path in ("thumb/", "preview/"):
        assert logged_in(alice).get(f"/uploads/{upload.pk}/{path}").status_code == 200
        assert logged_in(bob).get(f"/uploads/{upload.pk}/{path}").status_code == 404
        assert Client().get(f"/uploads/{upload.pk}/{path}").status_code == 302
    assert logged_in(bob).post(f"/uploads/{upload.pk}/delete/").status_code == 404
    assert Client().post(f"/uploads/{upload.pk}/delete/").status_code == 302
    assert Upload.objects.filter(pk=upload.pk).exists()


def test_a_visitor_is_told_to_log_in_and_nothing_is_stored(db: None, settings: Any) -> None:
    response = send(Client(), photo())
    assert (response.status_code, error(response)) == (401, "Log in to add a picture.")
    assert all_files(settings) == []


def test_a_form_of_another_site_sends_nothing(alice: User) -> None:
    assert send(logged_in(alice, enforce_csrf_checks=True), photo()).status_code == 403
    assert not Upload.objects.exists()
    client = logged_in(alice, enforce_csrf_checks=True)
    client.get("/")
    token = client.cookies["csrftoken"].value
    assert send(client, photo(), x_csrftoken=token).status_code == 201
    upload = Upload.objects.get()
    assert client.post(f"/uploads/{upload.pk}/delete/").status_code == 403


@pytest.mark.parametrize(
    ("data", "status", "says"),
    [
        (b"", 422, "The file is empty."),
        (b"GIF89a" + bytes(100), 422, "The file is a GIF, not a JPEG, PNG or WebP picture."),
        (b"%PDF-1.7 ...", 422, "The file is a PDF, not a JPEG, PNG or WebP picture."),
        (b"\0\0\0\x18ftypheic", 422, "The file is a HEIC photo, not a JPEG, PNG or WebP picture."),
        (b"<!doctype html><p>404", 422, "The file is a web page, not a JPEG, PNG or WebP picture."),
        (photo()[:-200], 422, "The picture is damaged or incomplete."),
        (
            encoded(Image.new("L", (8193, 2)), "PNG"),
            422,
            "The picture is 8193 x 2 pixels; 8192 a side is the most.",
        ),
        (photo() + bytes(10_000_001), 422, "The file has 10.0 MB; 10 MB is the most."),
        (photo() + bytes(12_000_000), 413, "The file is larger than 10 MB, which is the most."),
    ],
    ids=["empty", "gif", "pdf", "heic", "html", "cut", "wide", "just too large", "too large"],
)
def test_a_bad_file_says_what_is_wrong_with_it(hers: Client, data: bytes, status: int, says: str) -> None:
    response = send(hers, data)
    assert (response.status_code, error(response)) == (status, says)


def test_a_request_without_a_file_says_so(hers: Client) -> None:
    response = hers.post("/uploads/", {"file": "text"})
    assert (response.status_code, error(response)) == (
        422,
        "No picture came with the request. Choose a file.",
    )
    assert hers.put("/uploads/").status_code == 405


def test_a_body_that_is_too_large_is_not_read_into_memory(hers: Client, monkeypatch: Any) -> None:
    class Body(BytesIO):
        most = 0

        def read(self, size: int = -1) -> bytes:  # type: ignore[override]
            Body.most = max(Body.most, size if size >= 0 else 10**9)
            return super().read(size)

    body = Body(bytes(20_000_000))
    response = hers.generic("POST", "/uploads/", content_type="multipart/form-data; boundary=x", **{
        "wsgi.input": body, "CONTENT_LENGTH": str(20_000_000),
    })  # fmt: skip
    assert response.status_code == 413
    assert 0 < Body.most <= 65_536


def test_a_large_file_at_another_view_never_reaches_the_disk(hers: Client, settings: Any) -> None:
    assert settings.FILE_UPLOAD_HANDLERS == ["django.core.files.uploadhandler.MemoryFileUploadHandler"]
    response = hers.post("/runs/", {"prompt": "x", "file": SimpleUploadedFile("x", bytes(12_000_000))})
    assert response.wsgi_request.FILES == {}


def test_too_many_in_a_minute_are_put_off(hers: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr(uploads, "A_MINUTE", 2)
    with time_machine.travel(timezone.now().replace(second=5), tick=False):
        assert [send(hers, data).status_code for data in (photo(), b"bad", photo())] == [201, 422, 429]
    with time_machine.travel(timezone.now() + timedelta(minutes=1), tick=False):
        assert send(hers, photo()).status_code == 201


def test_a_full_account_says_so(hers: Client, settings: Any) -> None:
    settings.UPLOADS_PER_ACCOUNT = 1
    assert send(hers, photo("red")).status_code == 201
    response = send(hers, photo("blue"))
    assert response.status_code == 409 and "which is the most" in error(response)


# --- Signed addresses ---------------------------------------------------------------------------------
def test_an_upstream_gets_the_bytes_for_an_hour_without_logging_in(alice: User, settings: Any) -> None:
    upload = uploads.take(alice, photo())
    assert uploads.signed_url(upload) == ""
    settings.BASE_URL = "https://flux.example.com"
    url = uploads.signed_url(upload)
    assert url.startswith("https://flux.example.com/inputs/")
    path = url.removeprefix(settings.BASE_URL)
    response = Client().get(path)
    assert (response.status_code, response["Content-Type"]) == (200, "image/jpeg")
    assert b"".join(response) == stored(upload)
    assert "no-store" in response["Cache-Control"] and "noindex" in response["X-Robots-Tag"]
    assert response["X-Content-Type-Options"] == "nosniff"
    with time_machine.travel(timezone.now() + timedelta(minutes=59)):
        assert Client().get(path).status_code == 200
    with time_machine.travel(timezone.now() + timedelta(minutes=61)):
        assert Client().get(path).status_code == 404
    assert Client().get(path[:-2] + "x/").status_code == 404
    assert Client().get(f"/inputs/{upload.pk.hex}/").status_code == 404
    uploads.remove(upload)
    assert Client().get(path).status_code == 404


# --- Going --------------------------------------------------------------------------------------------
def test_alice_removes_what_she_added(hers: Client, alice: User, settings: Any) -> None:
    upload = uploads.take(alice, photo())
    assert hers.post(f"/uploads/{upload.pk}/delete/").status_code == 204
    assert not Upload.objects.exists() and all_files(settings) == []
    assert hers.post(f"/uploads/{upload.pk}/delete/").status_code == 404
    uploads.remove(upload)


def test_an_input_of_a_run_loses_its_files_and_keeps_its_row(alice: User, settings: Any) -> None:
    give(alice)
    upload = uploads.take(alice, photo())
    used_by(alice, upload)
    jobs.cancel(RunInput.objects.get().run.jobs.get(), by=alice)
    uploads.remove(upload)
    assert Upload.objects.get().key == "" and all_files(settings) == []
    assert logged_in(alice).get(f"/uploads/{upload.pk}/thumb/").status_code == 404
    back = uploads.take(alice, photo())
    assert back == upload and opened(stored(back)).size == (640, 480)
    assert upkeep.audit() == []


def test_an_input_that_a_picture_is_being_made_from_stays(hers: Client, alice: User) -> None:
    give(alice)
    upload = uploads.take(alice, photo())
    used_by(alice, upload)
    response = hers.post(f"/uploads/{upload.pk}/delete/")
    assert response.status_code == 409 and "at this moment" in error(response)
    assert stored(upload)


def test_unused_ones_go_three_days_after_their_last_use(alice: User, settings: Any) -> None:
    give(alice)
    used, unused, touched = (uploads.take(alice, photo(colour)) for colour in ("red", "green", "blue"))
    used_by(alice, used)
    with time_machine.travel(timezone.now() + uploads.UNUSED_FOR - timedelta(minutes=1)):
        upkeep.sweep()
        assert Upload.objects.count() == 3
        uploads.take(alice, photo("blue"))
    with time_machine.travel(timezone.now() + uploads.UNUSED_FOR + timedelta(minutes=1)):
        assert uploads.remove_unused() == 1
        assert uploads.remove_unused() == 0
    assert set(Upload.objects.all()) == {used, touched}
    assert images.stored_sha256(unused.key, "jpeg") is None
    assert len(all_files(settings)) == 6


def test_a_sweep_that_was_killed_leaves_no_file_behind(alice: User, settings: Any, monkeypatch: Any) -> None:
    uploads.take(alice, photo())

    def killed(key: str) -> None:
        raise KeyboardInterrupt

    with time_machine.travel(timezone.now() + timedelta(days=4)):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(images, "remove", killed)
            uploads.remove_unused()
        assert Upload.objects.exists()
        assert uploads.remove_unused() == 1
    assert all_files(settings) == []


def test_the_audit_reads_every_input(alice: User) -> None:
    upload = uploads.take(alice, photo())
    assert upkeep.audit() == []
    images.path(upload.key, "original", "jpeg").write_bytes(b"rotten")
    [found] = upkeep.audit()
    assert found["invariant"] == "the stored input is the one that was taken"
    assert found["subject"] == str(upload)
