import hashlib
import uuid
from datetime import timedelta
from html import unescape

import pytest
from django.test import Client
from django.utils import timezone

from accounts import ledger
from accounts.models import Transfer, User
from playground import images, upkeep
from playground.models import Job, Picture
from tests.making import give, job_for, picture_for


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def hers(alice: User) -> Picture:
    """A paid picture of Alice's."""
    give(alice)
    return picture_for(alice)


@pytest.fixture
def preview(alice: User) -> Picture:
    """A free preview of Alice's, still locked."""
    return picture_for(alice, pay="preview")


def page_of(user: User, picture: Picture) -> str:
    response = logged_in(user).get(f"/pictures/{picture.pk}/")
    assert response.status_code == 200
    return unescape(response.content.decode())


# --- The page -----------------------------------------------------------------------------------------
def test_the_page_has_prompt_parameters_and_receipt(alice: User, hers: Picture) -> None:
    page = page_of(alice, hers)
    assert 'id="prompt">a fox in the snow</p>' in page
    assert f">{hers.job.params['seed']}</dd>" in page
    assert "Quoted</dt>" in page and "Held</dt>" in page and "Charged</dt>" in page
    assert page.count("5.00 credits ($0.035)") == 3
    assert f"up-{hers.job.pk}" in page
    assert hers.sha256 in page
    assert f'href="/?remix={hers.pk}"' in page


def test_neighbours_lead_newer_and_older_and_skip_what_is_deleted(
    alice: User, bob: User, hers: Picture
) -> None:
    give(bob)
    deleted, other, newest = picture_for(alice), picture_for(bob), picture_for(alice)
    Picture.objects.filter(pk=deleted.pk).update(deleted=timezone.now())
    assert f'rel="prev" href="/pictures/{newest.pk}/"' in page_of(alice, hers)
    page = page_of(alice, newest)
    assert f'rel="next" href="/pictures/{hers.pk}/"' in page
    assert str(other.pk) not in page
    assert 'rel="prev"' not in page


def test_bob_finds_nothing_at_alices_addresses(bob: User, hers: Picture) -> None:
    client = logged_in(bob)
    for path in ("", "original/", "preview/", "thumb/", "download/"):
        assert client.get(f"/pictures/{hers.pk}/{path}").status_code == 404
    for path in ("keep/", "delete/", "undelete/", "share/"):
        assert client.post(f"/pictures/{hers.pk}/{path}").status_code == 404
    assert client.get(f"/jobs/{hers.job_id}/").status_code == 404


def test_nobody_is_served_without_logging_in(hers: Picture) -> None:
    for path in ("", "original/", "thumb/", "download/"):
        response = Client().get(f"/pictures/{hers.pk}/{path}")
        assert (response.status_code, response["Location"][:16]) == (302, "/accounts/login/")


def test_the_statement_leads_to_the_picture_or_to_the_run_while_it_is_made(
    alice: User, hers: Picture
) -> None:
    client = logged_in(alice)
    assert client.get(f"/jobs/{hers.job_id}/")["Location"] == f"/pictures/{hers.pk}/"
    job = job_for(alice)
    assert client.get(f"/jobs/{job.pk}/")["Location"] == f"/runs/{job.run_id}/"
    assert client.get(f"/jobs/{uuid.uuid4()}/").status_code == 404


# --- Bytes --------------------------------------------------------------------------------------------
def test_the_download_is_the_untouched_file_under_a_sensible_name(alice: User, hers: Picture) -> None:
    response = logged_in(alice).get(f"/pictures/{hers.pk}/download/")
    data = b"".join(response.streaming_content)
    assert hashlib.sha256(data).hexdigest() == hers.sha256
    name = f"a-fox-in-the-snow-flux2-pro-1k-{hers.pk.hex[-6:]}.jpg"
    assert response["Content-Disposition"] == f'attachment; filename="{name}"'
    assert response["Content-Type"] == "image/jpeg"
    assert response["X-Content-Type-Options"] == "nosniff"


def test_a_prompt_in_any_script_makes_a_file_name(alice: User, hers: Picture) -> None:
    Job.objects.filter(pk=hers.job_id).update(params=hers.job.params | {"prompt": '雪の中の狐 "\r\nx: y'})
    response = logged_in(alice).get(f"/pictures/{hers.pk}/download/")
    assert response["Content-Disposition"].endswith(f'-flux2-pro-1k-{hers.pk.hex[-6:]}.jpg"')
    assert "\n" not in response["Content-Disposition"]


def test_pictures_are_private_and_come_with_a_tag_that_saves_the_second_fetch(
    alice: User, hers: Picture
) -> None:
    client = logged_in(alice)
    response = client.get(f"/pictures/{hers.pk}/original/")
    assert (response["Cache-Control"], response["Content-Type"]) == ("private, no-cache", "image/jpeg")
    again = client.get(f"/pictures/{hers.pk}/original/", headers={"If-None-Match": response["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    thumb = client.get(f"/pictures/{hers.pk}/thumb/")
    assert (thumb["Cache-Control"], thumb["Content-Type"]) == (
        "private, max-age=86400, immutable",
        "image/webp",
    )
    assert thumb["ETag"] != response["ETag"]


@pytest.mark.parametrize("size", ["", "huge", "..", "original.jpg", "preview"])
def test_other_sizes_do_not_exist(alice: User, hers: Picture, size: str) -> None:
    assert logged_in(alice).get(f"/pictures/{hers.pk}/x{size}/").status_code == 404
    assert logged_in(alice).get(f"/pictures/{hers.pk}/preview/").status_code == 404


def test_a_file_that_is_gone_is_404_and_not_an_error(alice: User, hers: Picture) -> None:
    images.remove(hers.key)
    assert logged_in(alice).get(f"/pictures/{hers.pk}/original/").status_code == 404


# --- Previews and keeping them ------------------------------------------------------------------------
def test_a_locked_original_is_for_nobody_not_even_alice(alice: User, preview: Picture) -> None:
    client = logged_in(alice)
    assert client.get(f"/pictures/{preview.pk}/original/").status_code == 404
    assert client.get(f"/pictures/{preview.pk}/download/").status_code == 404
    assert client.get(f"/pictures/{preview.pk}/preview/").status_code == 200
    page = page_of(alice, preview)
    assert "Keep full size: 5.00 credits" in page
    assert "/download/" not in page and "/original/" not in page


def test_keeping_charges_once_however_often_it_is_clicked(alice: User, preview: Picture) -> None:
    give(alice)
    client = logged_in(alice)
    for _ in range(3):
        response = client.post(f"/pictures/{preview.pk}/keep/")
        assert (response.status_code, response["Location"]) == (303, f"/pictures/{preview.pk}/")
    assert Transfer.objects.filter(kind=Transfer.Kind.KEEP).count() == 1
    assert ledger.wallet_of(alice).posted == 10_000_000 - 35_000
    assert client.get(f"/pictures/{preview.pk}/original/").status_code == 200
    page = page_of(alice, preview)
    assert "Charged 5.00 credits ($0.035)" in page
    assert f'href="/pictures/{preview.pk}/download/"' in page
    assert upkeep.audit() == []


def test_without_credits_the_page_says_what_is_missing(alice: User, preview: Picture) -> None:
    response = logged_in(alice).post(f"/pictures/{preview.pk}/keep/", follow=True)
    assert "This needs 5.00 credits ($0.035)" in unescape(response.content.decode())
    preview.refresh_from_db()
    assert preview.is_locked


@pytest.mark.parametrize(
    ("asked", "goes"), [("/gallery/", "/gallery/"), ("https://evil.example/", None), ("//evil.example", None)]
)
def test_it_goes_back_to_where_it_came_from_if_that_is_ours(
    alice: User, preview: Picture, asked: str, goes: str | None
) -> None:
    response = logged_in(alice).post(f"/pictures/{preview.pk}/keep/", {"next": asked})
    assert response["Location"] == (goes or f"/pictures/{preview.pk}/")


def test_looking_never_changes_anything(alice: User, preview: Picture) -> None:
    for deed in ("keep", "delete", "undelete", "share"):
        assert logged_in(alice).get(f"/pictures/{preview.pk}/{deed}/").status_code in (404, 405)


# --- Deleting -----------------------------------------------------------------------------------------
def test_a_deleted_picture_keeps_its_receipt_and_loses_its_bytes_at_once(alice: User, hers: Picture) -> None:
    client = logged_in(alice)
    client.post(f"/pictures/{hers.pk}/delete/")
    for path in ("original/", "thumb/", "download/"):
        assert client.get(f"/pictures/{hers.pk}/{path}").status_code == 404
    page = page_of(alice, hers)
    assert "Receipt" in page and "Undo" in page
    client.post(f"/pictures/{hers.pk}/undelete/")
    assert client.get(f"/pictures/{hers.pk}/original/").status_code == 200


def test_after_the_sweep_there_is_no_undo(alice: User, hers: Picture) -> None:
    Picture.objects.update(deleted=timezone.now() - upkeep.UNDO_FOR - timedelta(seconds=1))
    client = logged_in(alice)
    client.post(f"/pictures/{hers.pk}/undelete/")
    hers.refresh_from_db()
    assert hers.deleted is not None
    upkeep.purge_deleted()
    page = page_of(alice, hers)
    assert "files are erased" in page and "Receipt" in page
    assert "/undelete/" not in page


def test_a_deleted_preview_cannot_be_kept(alice: User, preview: Picture) -> None:
    give(alice)
    client = logged_in(alice)
    client.post(f"/pictures/{preview.pk}/delete/")
    client.post(f"/pictures/{preview.pk}/keep/")
    assert not Transfer.objects.filter(kind=Transfer.Kind.KEEP).exists()
