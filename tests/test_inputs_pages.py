"""Input pictures on the pages: the form's strip and picker, a run's first tile, a picture's parameters."""

import re
import uuid
from html import unescape
from typing import Any

import pytest
from django.test import Client

from accounts.models import User
from playground import catalog, images, offers, uploads
from playground.models import Job, Picture, Run, RunInput, Upload, Variant
from tests.making import EDIT, FLEX_2K, KONTEXT, PRO, give, load_catalogue, picture_for
from tests.pictures import photo

pytestmark = pytest.mark.django_db

PRO_EDIT_2K = EDIT.replace("1k", "2k")
FLEX_EDIT_2K = FLEX_2K.replace("text-to-image", "image-to-image")


@pytest.fixture
def rich(alice: User) -> User:
    load_catalogue()
    give(alice)
    return alice


@pytest.fixture
def hers(rich: User) -> Client:
    client = Client()
    client.force_login(rich)
    return client


def page(response: Any) -> str:
    assert response.status_code == 200
    return unescape(response.content.decode())


def upload_of(user: User, colour: str = "red", size: tuple[int, int] = (900, 600)) -> Upload:
    return uploads.take(user, photo(colour, size=size))


def shown_inputs(html: str) -> list[str]:
    """The ids in the form's own hidden fields, in order; the template's empty one is no input."""
    return re.findall(r'name="inputs" value="([^"]+)"', html)


def card(html: str, slug: str) -> str:
    return re.search(rf'<label class="(variant[^"]*)">\s*<input[^>]*value="{slug}"[^>]*>', html)[0]  # type: ignore[index]


# --- The strip ----------------------------------------------------------------------------------------
def test_the_form_carries_its_inputs_in_order(hers: Client, rich: User) -> None:
    first, second = upload_of(rich), upload_of(rich, "blue")
    html = page(hers.get("/", {"inputs": [second.pk, first.pk], "variants": [EDIT]}))
    assert shown_inputs(html) == [str(second.pk), str(first.pk)]
    assert html.index(f"/uploads/{second.pk}/thumb/") < html.index(f"/uploads/{first.pk}/thumb/")


def test_a_strangers_input_is_not_shown(hers: Client, bob: User) -> None:
    assert shown_inputs(page(hers.get("/", {"inputs": [upload_of(bob).pk]}))) == []


def test_a_form_that_is_refused_keeps_its_inputs(hers: Client, rich: User) -> None:
    upload = upload_of(rich)
    response = hers.post("/runs/", {"prompt": "", "variants": [EDIT], "inputs": [str(upload.pk)]})
    assert response.status_code == 422 and shown_inputs(response.content.decode()) == [str(upload.pk)]


def test_without_javascript_it_reads_and_says_what_it_needs(hers: Client, rich: User) -> None:
    html = page(hers.get("/", {"inputs": [upload_of(rich).pk]}))
    said = re.search(r"<noscript><p[^>]*>(.*?)</p></noscript>", html)
    assert said and "These are used." in said[1] and "needs JavaScript" in said[1]
    assert re.search(r'class="inputs-add" data-needs-script hidden', html)


def test_a_visitor_is_invited_to_sign_up_and_loses_nothing(client: Client) -> None:
    load_catalogue()
    html = page(client.get("/"))
    assert "<button" in html.split("Have a picture to change?")[1][:30] and 'id="picker"' not in html
    response = client.post("/runs/", {"prompt": "make it autumn", "variants": [KONTEXT]})
    assert "/accounts/signup/" in response["Location"]
    assert "make it autumn</textarea>" in page(client.get("/"))


def test_a_session_that_ends_before_the_press_loses_no_input(client: Client, rich: User, bob: User) -> None:
    upload, bobs = upload_of(rich), upload_of(bob)
    client.post("/runs/", {"prompt": "autumn", "variants": [EDIT], "inputs": [str(upload.pk), str(bobs.pk)]})
    assert shown_inputs(page(client.get("/"))) == []
    client.force_login(rich)  # which keeps what a visitor's session has
    assert shown_inputs(page(client.get("/"))) == [str(upload.pk)]


def test_too_many_inputs_are_called_too_many(hers: Client) -> None:
    ids = [str(uuid.uuid4()) for _ in range(21)]
    html = unescape(hers.post("/runs/", {"prompt": "x", "variants": [EDIT], "inputs": ids}).content.decode())
    assert "8 input pictures are the most." in html


# --- Cards, shapes and the quote ----------------------------------------------------------------------
def test_with_an_input_the_variants_that_take_it_come_first(hers: Client, rich: User) -> None:
    html = page(hers.get("/", {"inputs": [upload_of(rich).pk]}))
    assert "disabled" not in card(html, EDIT) and "disabled" not in card(html, KONTEXT)
    assert "disabled" in card(html, FLEX_2K) and html.count("Takes no input picture.") == 4
    assert html.index(f'value="{PRO_EDIT_2K}"') < html.index(f'value="{FLEX_2K}"')


def test_a_chosen_variant_that_refuses_the_input_stays_chosen_and_says_so(hers: Client, rich: User) -> None:
    asked = {"inputs": [upload_of(rich).pk], "variants": [PRO]}
    chosen = card(page(hers.get("/quote/variants/", asked)), PRO)
    assert "variant-refused" in chosen and " checked" in chosen and " disabled" not in chosen
    quote = page(hers.get("/quote/", asked))
    assert "FLUX.2 pro 1K takes no input picture." in quote and "data-blocked" in quote
    assert "Use FLUX.2 pro edit 1K instead" in quote and f"variants={EDIT}" in quote


def test_every_chosen_variant_that_refuses_is_named(hers: Client, rich: User) -> None:
    two = [upload_of(rich).pk, upload_of(rich, "blue").pk]
    quote = page(hers.get("/quote/", {"inputs": two, "variants": [PRO, KONTEXT, EDIT]}))
    assert "FLUX.2 pro 1K takes no input picture. Kontext Pro takes only 1 input picture." in quote
    assert "Leave out FLUX.2 pro 1K and Kontext Pro" in quote


def test_the_shape_of_the_input_is_offered_first_and_only_with_one(hers: Client, rich: User) -> None:
    without, with_one = page(hers.get("/quote/")), page(hers.get("/quote/", {"inputs": [upload_of(rich).pk]}))
    assert 'id="ratio-auto" hx-swap-oob="true" data-unused' in without
    assert 'id="ratio-auto" hx-swap-oob="true">' in with_one
    html = page(hers.get("/"))
    assert html.index('value="auto"') < html.index('value="1:1"')


def variants_of(*slugs: str) -> list[Variant]:
    return [variant for variant in catalog.live() if variant.slug in slugs]


@pytest.mark.parametrize(
    ("inputs", "chosen", "label", "becomes"),
    [
        (1, [PRO, KONTEXT], "Use FLUX.2 pro edit 1K instead", [EDIT, KONTEXT]),
        (1, [PRO, EDIT], "Leave out FLUX.2 pro 1K", [EDIT]),
        (2, [KONTEXT], "Use FLUX.2 pro edit 1K instead", [EDIT]),
        (1, [FLEX_2K], "Use FLUX.2 flex edit 2K instead", [FLEX_EDIT_2K]),
        (0, [EDIT], "Use FLUX.2 pro 1K instead", [PRO]),
        (9, [EDIT], None, []),
    ],
)
def test_the_nearest_choice_that_takes_the_inputs(
    db: None, inputs: int, chosen: list[str], label: str | None, becomes: list[str]
) -> None:
    load_catalogue()
    fits = offers.taking(inputs, variants_of(*chosen), catalog.live(), 1, "preview")
    assert [fit.label for fit in fits] == ([label] if label else [])
    assert sorted(variant.slug for fit in fits for variant in fit.variants) == sorted(becomes)


# --- The picker ---------------------------------------------------------------------------------------
def test_the_picker_pages_through_her_pictures_only(hers: Client, rich: User, bob: User) -> None:
    give(bob)
    theirs = picture_for(bob)
    mine = [picture_for(rich, nonce=str(number)) for number in range(3)]
    html = page(hers.get("/gallery/pick/"))
    assert re.findall(r'data-pick="([^"]+)"', html) == [str(picture.pk) for picture in reversed(mine)]
    assert str(theirs.pk) not in html
    older = page(hers.get("/gallery/pick/", {"before": mine[1].pk}))
    assert re.findall(r'data-pick="([^"]+)"', older) == [str(mine[0].pk)] and "<ul" not in older


def test_the_picker_ends_where_the_gallery_ends(
    hers: Client, rich: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("playground.views.gallery.PICKS", 1)
    first, second = picture_for(rich, nonce="1"), picture_for(rich, nonce="2")
    assert f"before={second.pk}" in page(hers.get("/gallery/pick/"))
    assert "before=" not in page(hers.get("/gallery/pick/", {"before": second.pk}))
    Picture.objects.filter(pk__in=[first.pk, second.pk]).delete()
    assert "Nothing yet." in page(hers.get("/gallery/pick/"))


def test_a_visitor_has_no_gallery_to_pick_from(client: Client) -> None:
    assert "/accounts/login/" in client.get("/gallery/pick/")["Location"]


# --- Edit this ----------------------------------------------------------------------------------------
def test_every_place_with_a_picture_leads_to_its_edit(hers: Client, rich: User) -> None:
    picture = picture_for(rich)
    for path in (f"/pictures/{picture.pk}/", picture.job.run.get_absolute_url(), "/gallery/"):
        assert f'href="/?edit={picture.pk}"' in page(hers.get(path))


def test_edit_this_starts_an_edit_in_the_pictures_own_shape(hers: Client, rich: User) -> None:
    picture = picture_for(rich)
    html = page(hers.get("/", {"edit": picture.pk}))
    [upload] = Upload.objects.filter(picture=picture)
    assert shown_inputs(html) == [str(upload.pk)]
    assert re.search(r'value="auto"[^>]* checked', html) and " checked" in card(html, EDIT)
    page(hers.get("/", {"edit": picture.pk}))
    assert Upload.objects.count() == 1  # looking twice makes nothing twice


def test_a_form_that_follows_an_input_that_is_gone_has_the_usual_shape(hers: Client, rich: User) -> None:
    """As the quote says it."""
    asked = {"prompt": "a fox", "variants": [PRO], "aspect_ratio": "auto", "pay": "credits"}
    assert hers.post("/runs/", asked).status_code == 303
    assert Run.objects.get().aspect_ratio == "1:1"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_edit_this_says_what_is_wrong_with_the_house(
    hers: Client, rich: User, monkeypatch: Any, error: Exception
) -> None:
    def fail(*args: Any) -> None:
        raise error

    picture = picture_for(rich)
    monkeypatch.setattr(images, "store", fail)
    html = page(hers.get("/", {"edit": picture.pk}))
    assert "could not be stored at the moment" in html and shown_inputs(html) == []


def test_edit_this_counts_as_an_upload(hers: Client, rich: User, monkeypatch: Any) -> None:
    monkeypatch.setattr(uploads, "A_MINUTE", 0)
    html = page(hers.get("/", {"edit": picture_for(rich).pk}))
    assert "Wait a minute" in html and not Upload.objects.exists()


# --- A run and a picture ------------------------------------------------------------------------------
def edited(user: User, *inputs: Upload, **asked: Any) -> Picture:
    """A finished edit: the picture's row as if it had been made from these inputs."""
    picture = picture_for(user, **asked)
    params = picture.job.params | {"inputs": [str(upload.pk) for upload in inputs]}
    Job.objects.filter(pk=picture.job.pk).update(params=params)
    for position, upload in enumerate(inputs):
        RunInput.objects.create(run=picture.job.run, upload=upload, position=position)
    return Picture.objects.get(pk=picture.pk)


def test_a_run_shows_its_inputs_first_and_a_divider_for_each_result(hers: Client, rich: User) -> None:
    first, second = upload_of(rich), upload_of(rich, "blue")
    picture = edited(rich, first, second)
    html = page(hers.get(picture.job.run.get_absolute_url()))
    assert html.index(f"/uploads/{first.pk}/thumb/") < html.index(f"/uploads/{second.pk}/thumb/")
    assert html.index("/uploads/") < html.index("data-job=")
    assert f'data-compare data-before="/uploads/{first.pk}/preview/"' in html and 'id="compare"' in html
    assert f'data-after="/pictures/{picture.pk}/original/"' in html


def test_a_run_without_inputs_has_neither(hers: Client, rich: User) -> None:
    html = page(hers.get(picture_for(rich).job.run.get_absolute_url()))
    assert "data-compare" not in html and 'id="compare"' not in html and "group-inputs" not in html


def test_a_run_that_follows_its_input_has_the_inputs_shape(hers: Client, rich: User) -> None:
    strip = upload_of(rich, size=(900, 600))
    picture = edited(rich, strip)
    Run.objects.filter(pk=picture.job.run_id).update(aspect_ratio="auto")
    html = page(hers.get(picture.job.run.get_absolute_url()))
    assert 'viewBox="0 0 900 600"' in html and "shape of the input" in html
    assert 'class="as-asked"' not in html  # the picture is square: shown whole, not cropped


def test_what_progress_brings_has_the_divider_too(hers: Client, rich: User) -> None:
    picture = edited(rich, upload_of(rich))
    progress = hers.get(
        f"{picture.job.run.get_absolute_url()}progress/", {"v": ""}, headers={"HX-Request": "true"}
    )
    assert "data-compare" in progress.content.decode()


def test_an_input_that_was_removed_leaves_its_place(hers: Client, rich: User) -> None:
    gone = upload_of(rich)
    picture = edited(rich, gone)
    uploads.remove(gone)
    html = page(hers.get(picture.job.run.get_absolute_url()))
    assert ">Removed</p>" in html and "data-compare" not in html and f"/uploads/{gone.pk}" not in html
    assert "removed</span>" in page(hers.get(picture.get_absolute_url()))


def test_the_input_of_a_locked_preview_is_shown_as_small_as_may_be(hers: Client, rich: User) -> None:
    locked = uploads.take_picture(rich, picture_for(rich, pay="preview"))
    picture = edited(rich, locked)
    for path in (picture.job.run.get_absolute_url(), picture.get_absolute_url()):
        html = page(hers.get(path))
        assert f'data-before="/uploads/{locked.pk}/thumb/"' in html
        assert f"/uploads/{locked.pk}/preview/" not in html


def test_a_picture_names_its_inputs_and_remix_keeps_them(hers: Client, rich: User) -> None:
    upload = upload_of(rich)
    picture = edited(rich, upload)
    html = page(hers.get(picture.get_absolute_url()))
    assert f'href="/uploads/{upload.pk}/preview/"' in html and "Input picture 1, 900 × 600" in html
    assert "data-compare" in html
    assert shown_inputs(page(hers.get("/", {"remix": picture.pk}))) == [str(upload.pk)]
    assert shown_inputs(page(hers.get("/", {"run": picture.job.run_id}))) == [str(upload.pk)]


def test_a_shared_page_shows_no_input(hers: Client, rich: User, client: Client) -> None:
    upload = upload_of(rich)
    run = edited(rich, upload).job.run
    hers.post(f"/runs/{run.pk}/share/", {"shows_prompt": "on"})
    html = page(client.get(run.share_links.get().get_absolute_url()))
    assert "/uploads/" not in html and str(upload.pk) not in html
