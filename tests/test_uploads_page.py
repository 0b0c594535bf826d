"""The page of stored input pictures: what there is, how it is used, what room it takes, and removing it."""

import re
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from playground import jobs, uploads
from playground.models import Job, Run, RunInput, Upload
from tests.making import EDIT, give, picture_for, run_for
from tests.pictures import photo

pytestmark = pytest.mark.django_db

COLOURS = ["red", "green", "blue", "black", "white", "orange", "pink"]


@pytest.fixture
def hers(alice: User) -> Client:
    give(alice)
    client = Client()
    client.force_login(alice)
    return client


def page(client: Client, **query: Any) -> str:
    response = client.get("/uploads/", query)
    assert response.status_code == 200
    return " ".join(unescape(response.content.decode()).split())


def shown(html: str) -> list[str]:
    return re.findall(r'id="upload-([^"]+)"', html)


def upload_of(user: User, colour: str = "red") -> Upload:
    return uploads.take(user, photo(colour, size=(900, 600)))


def run_from(user: User, *made_from: Upload) -> Run:
    return run_for(user, EDIT, inputs=made_from)


# --- The page -----------------------------------------------------------------------------------------
def test_it_shows_her_input_pictures_newest_first(hers: Client, alice: User, bob: User) -> None:
    first, second, theirs = upload_of(alice), upload_of(alice, "blue"), upload_of(bob)
    html = page(hers)
    assert shown(html) == [str(second.pk), str(first.pk)] and str(theirs.pk) not in html
    assert f'src="/uploads/{first.pk}/thumb/"' in html and f'href="/uploads/{first.pk}/preview/"' in html
    assert "900 × 600" in html and f'href="/?inputs={first.pk}&aspect_ratio=auto"' in html


def test_it_says_how_often_each_was_used_and_when_an_unused_one_goes(hers: Client, alice: User) -> None:
    used, unused, old = upload_of(alice), upload_of(alice, "blue"), upload_of(alice, "green")
    run_from(alice, used)
    run_from(alice, used)
    Upload.objects.filter(pk=old.pk).update(last_used=timezone.now() - timedelta(days=2, hours=5))
    html = page(hers)
    assert "In 2 runs, last used now" in html
    assert html.count("In no run: goes in 3 days") == 1 and "In no run: goes within a day" in html
    assert "go by themselves 3 days after you last used them" in html and str(unused.pk) in html


def test_edit_with_this_opens_the_form_with_it(hers: Client, alice: User) -> None:
    upload = upload_of(alice)
    html = hers.get("/", {"inputs": upload.pk, "aspect_ratio": "auto"}).content.decode()
    assert f'name="inputs" value="{upload.pk}"' in html and re.search(r'value="auto"[^>]* checked', html)


def test_what_was_made_from_a_locked_preview_is_not_shown_larger(hers: Client, alice: User) -> None:
    picture = picture_for(alice, pay="preview")
    upload = uploads.take_picture(alice, picture)
    html = page(hers)
    assert f"/uploads/{upload.pk}/preview/" not in html and f'href="/pictures/{picture.pk}/"' in html


def test_it_says_what_room_they_take(hers: Client, alice: User, settings: Any) -> None:
    settings.UPLOADS_PER_ACCOUNT, settings.UPLOADS_BYTES_PER_ACCOUNT = 1200, 2_000_000_000
    upload_of(alice)
    Upload.objects.update(size=1_500_000)
    html = page(hers)
    assert '>1 <span class="muted">of 1,200<' in html and '>1.5 <span class="muted">of 2,000<' in html


def test_it_goes_on_where_the_last_page_ended(
    hers: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.views.uploads.PAGE", 2)
    known = [str(upload_of(alice, colour).pk) for colour in COLOURS[:5]][::-1]
    html = page(hers)
    assert shown(html) == known[:2] and f'href="/uploads/?before={known[1]}"' in html
    more = hers.get(
        "/uploads/", {"before": known[1]}, headers={"HX-Request": "true", "HX-Target": "more"}
    ).content.decode()
    assert shown(more) == known[2:4] and "<h1" not in more
    assert shown(page(hers, before=known[3])) == known[4:] and "Newest" in page(hers, before=known[3])
    assert "No more pictures here." in page(hers, before=known[4])
    assert shown(page(hers, before="nonsense")) == known[:2]


def test_more_pictures_cost_no_more_queries(hers: Client, alice: User) -> None:
    costs = []
    for colours in (COLOURS[:1], COLOURS[1:]):
        for colour in colours:
            run_from(alice, upload_of(alice, colour))
        with CaptureQueriesContext(connection) as queries:
            page(hers)
        costs.append(len(queries))
    assert costs[0] == costs[1] <= 5  # session, person, pictures, their room, balance


def test_without_any_it_says_where_they_come_from(hers: Client) -> None:
    assert "Nothing yet" in page(hers)


def test_a_visitor_is_asked_to_log_in() -> None:
    assert "/accounts/login/?next=/uploads/" in Client().get("/uploads/")["Location"]


# --- Removing -----------------------------------------------------------------------------------------
def remove(client: Client, upload: Upload, to: str = "/uploads/") -> Any:
    return client.post(f"/uploads/{upload.pk}/delete/", {"next": to}, follow=True)


def test_alice_removes_one_and_is_back_on_the_page(hers: Client, alice: User) -> None:
    upload, other = upload_of(alice), upload_of(alice, "blue")
    assert f'action="/uploads/{upload.pk}/delete/"' in page(hers)
    response = remove(hers, upload, f"/uploads/?before={other.pk}")
    assert response.redirect_chain == [(f"/uploads/?before={other.pk}", 303)]
    assert shown(page(hers)) == [str(other.pk)]
    assert remove(hers, other, "https://evil.example/").redirect_chain == [("/uploads/", 303)]


def remove_in_place(client: Client, upload: Upload) -> Any:
    asked = {"next": "/uploads/"}
    return client.post(f"/uploads/{upload.pk}/delete/", asked, headers={"HX-Request": "true"})


def test_one_goes_in_its_place_and_the_room_is_told(hers: Client, alice: User) -> None:
    upload_of(alice, "blue")
    answer = remove_in_place(hers, upload_of(alice))
    html = answer.content.decode().strip()
    assert answer.status_code == 200 and html.startswith('<dl class="room num" id="room" hx-swap-oob="true"')
    assert "<dd>1 " in html and html.endswith("</dl>") and Upload.objects.stored().count() == 1


def test_the_last_one_and_one_in_use_show_the_page_anew(hers: Client, alice: User) -> None:
    give(alice)
    last = upload_of(alice)
    run = run_from(alice, last)
    assert remove_in_place(hers, last)["HX-Refresh"] == "true"
    assert Upload.objects.stored().count() == 1 and uploads_said(hers)
    jobs.cancel(run.jobs.get(), by=alice)
    assert remove_in_place(hers, last)["HX-Refresh"] == "true"
    assert not Upload.objects.stored().exists()


def uploads_said(client: Client) -> bool:
    return "A picture is being made from it at this moment" in page(client)


def test_what_a_picture_is_being_made_from_cannot_be_removed(hers: Client, alice: User) -> None:
    upload = upload_of(alice)
    run = run_from(alice, upload)
    html = page(hers)
    assert "In use at this moment" in html and "/delete/" not in html
    answer = remove(hers, upload)
    assert "A picture is being made from it at this moment." in answer.content.decode()
    assert shown(page(hers)) == [str(upload.pk)]
    jobs.cancel(Job.objects.get(run=run), by=alice)
    assert "/delete/" in page(hers) and remove(hers, upload).status_code == 200
    assert shown(page(hers)) == [] and RunInput.objects.filter(upload=upload).exists()


def test_bob_removes_nothing_of_alices(alice: User, bob: User) -> None:
    client, upload = Client(), upload_of(alice)
    client.force_login(bob)
    assert client.post(f"/uploads/{upload.pk}/delete/", {"next": "/uploads/"}).status_code == 404
    assert Upload.objects.stored().count() == 1


def test_a_forged_form_removes_nothing(alice: User) -> None:
    client, upload = Client(enforce_csrf_checks=True), upload_of(alice)
    client.force_login(alice)
    assert client.post(f"/uploads/{upload.pk}/delete/", {"next": "/uploads/"}).status_code == 403
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page(client))[1]  # type: ignore[index]
    asked = {"next": "/uploads/", "csrfmiddlewaretoken": token}
    assert client.post(f"/uploads/{upload.pk}/delete/", asked).status_code == 303


# --- Where it is linked -------------------------------------------------------------------------------
def test_the_gallery_leads_to_it(hers: Client) -> None:
    assert 'href="/uploads/">Input pictures</a>' in hers.get("/gallery/").content.decode()


def test_whoever_has_no_room_left_is_led_to_it(hers: Client, alice: User, settings: Any) -> None:
    picture = picture_for(alice)
    settings.UPLOADS_PER_ACCOUNT = 0
    html = hers.get("/", {"edit": picture.pk}).content.decode()
    assert "which is the most" in html and '<a href="/uploads/">Your input pictures</a>' in html
    response = hers.post("/uploads/", {"picture": picture.pk})
    assert response.status_code == 409 and "in your gallery, under Input pictures" in response.json()["error"]
