"""Input pictures in a real browser: brought in, put in order, edited, and laid over the result."""

import base64
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client

from accounts.models import User
from playground import uploads
from playground.models import Job, Picture, Run, RunInput, Upload
from playground.views import playground as views
from tests.making import EDIT, KONTEXT, PRO, give, load_catalogue, picture_for, run_for
from tests.pictures import photo

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

COLOURS = ["red", "orange", "gold", "green", "teal", "blue", "indigo", "violet", "black"]
NOT_ON_ITS_WAY = "#inputs:not([data-busy])"


@pytest.fixture
def site(live_server: Any, settings: LazySettings) -> str:
    settings.SANDBOX_DELAY_S = 0.2
    load_catalogue()
    return live_server.url


@pytest.fixture
def dora(page: Any, site: str) -> User:
    """Logged in, with $10.00."""
    user = User.objects.create_user("dora@example.org", "a-long-password-9")
    give(user)
    client = Client()
    client.force_login(user)
    page.context.add_cookies([{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": site}])
    return user


@pytest.fixture
def complaints(page: Any) -> Iterator[list[str]]:
    """What the browser's console complained about; a test ends with none."""
    heard: list[str] = []
    page.on("console", lambda said: heard.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    yield heard
    assert heard == []


def file(colour: str, size: tuple[int, int] = (600, 400)) -> dict[str, Any]:
    return {"name": f"{colour}.jpg", "mimeType": "image/jpeg", "buffer": photo(colour, size=size)}


def choose(page: Any, *colours: str) -> None:
    page.locator("#inputs-file").set_input_files([file(colour) for colour in colours])
    page.locator(NOT_ON_ITS_WAY).wait_for()


def transfer(page: Any, event: str, on: str, name: str, kind: str, data: bytes) -> None:
    """A file that is dropped or pasted, as the browser hands it over."""
    page.evaluate(
        """([event, on, name, type, text]) => {
            const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], name, { type }));
            const how = { bubbles: true, cancelable: true, dataTransfer: data, clipboardData: data };
            const made = event === "paste" ? new ClipboardEvent(event, how) : new DragEvent(event, how);
            document.querySelector(on).dispatchEvent(made);
        }""",
        [event, on, name, kind, base64.b64encode(data).decode()],
    )


def inputs(page: Any) -> list[str]:
    """The ids that the form would send, in order."""
    return page.locator("#inputs-list [name=inputs]:enabled").evaluate_all("all => all.map(one => one.value)")


def uploaded(*colours: str) -> list[str]:
    """The ids of those files, which are told apart by their content."""
    known = {upload.content_sha256: str(upload.pk) for upload in Upload.objects.all()}
    return [known[hashlib.sha256(file(colour)["buffer"]).hexdigest()] for colour in colours]


def focused(page: Any) -> str:
    return page.evaluate("document.activeElement.getAttribute('aria-label') ?? document.activeElement.id")


# --- Bringing them in ---------------------------------------------------------------------------------
def test_chosen_dropped_and_pasted_pictures_become_inputs_in_that_order(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(site)
    choose(page, "red")
    transfer(page, "drop", "#prompt", "teal.jpg", "image/jpeg", photo("teal", size=(600, 400)))
    page.locator(".input-item[data-state=ready]").nth(1).wait_for()
    transfer(page, "paste", "#prompt", "image.png", "image/jpeg", photo("gold", size=(600, 400)))
    page.locator(".input-item[data-state=ready]").nth(2).wait_for()
    assert inputs(page) == uploaded("red", "teal", "gold")
    shown = page.locator("#inputs-list img")
    widths = "all => Promise.all(all.map(one => one.decode().then(() => one.naturalWidth)))"
    assert shown.evaluate_all(widths) == [512] * 3
    assert "input picture 3 of 3" in page.locator("#inputs-said").inner_text()


def test_a_file_that_a_visitor_drops_stays_out_of_the_tab_and_leads_to_signing_up(
    page: Any, site: str, complaints: list[str]
) -> None:
    page.goto(site)
    page.evaluate("addEventListener('drop', (event) => (window.wasKept = event.defaultPrevented))")
    transfer(page, "drop", "#prompt", "teal.jpg", "image/jpeg", photo("teal"))
    assert page.evaluate("window.wasKept")
    page.get_by_text("Sign up first, then add your picture.").wait_for()
    assert page.evaluate("document.activeElement.textContent") == "Sign up"


def test_whoever_has_no_room_left_is_shown_the_way_to_what_is_there(
    page: Any, site: str, dora: User, settings: LazySettings
) -> None:
    settings.UPLOADS_PER_ACCOUNT = 1
    page.goto(site)
    choose(page, "red")
    page.locator("#inputs-file").set_input_files(
        {"name": "teal.jpg", "mimeType": "image/jpeg", "buffer": photo("teal")}
    )
    page.get_by_role("link", name="Your input pictures").click()
    page.get_by_role("heading", name="Input pictures").wait_for()
    page.on("dialog", lambda asked: asked.accept())
    page.get_by_role("button", name="Remove").click()
    page.get_by_text("Nothing yet").wait_for()
    assert not Upload.objects.exists()


def ratio(page: Any) -> str:
    return page.locator("[name=aspect_ratio]:checked").get_attribute("value")


def variants(page: Any) -> list[str]:
    return page.locator("#variant-cards .variant:has(input:checked) .variant-name").all_inner_texts()


def test_variants_that_nobody_chose_make_way_for_those_that_take_the_picture(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(f"{site}/?prompt=make+it+autumn")
    page.locator("#go:enabled").wait_for()
    assert variants(page) == ["FLUX.2 pro 1K", "Kontext Pro"]
    choose(page, "red")
    told = page.locator("#variants-switched")
    told.get_by_text("Now FLUX.2 pro edit 1K: FLUX.2 pro 1K takes no input picture.").wait_for()
    page.locator("#go:enabled").wait_for()
    assert set(variants(page)) == {"FLUX.2 pro edit 1K", "Kontext Pro"}
    heard = page.locator("#inputs-said").inner_text()
    assert heard.startswith("red.jpg added") and heard.count("Now FLUX.2 pro edit 1K") == 1
    page.reload()
    page.locator("#go:enabled").wait_for()
    page.get_by_role("button", name="Remove input picture 1").click()
    told.get_by_text("Now FLUX.2 pro 1K: FLUX.2 pro edit 1K needs an input picture.").wait_for()
    page.locator("#go:enabled").wait_for()
    assert set(variants(page)) == {"FLUX.2 pro 1K", "Kontext Pro"}


def test_what_a_person_chose_stays_with_a_warning(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(f"{site}/?prompt=make+it+autumn")
    page.get_by_role("checkbox", name="Kontext Pro").uncheck()
    page.reload()
    choose(page, "red")
    page.get_by_role("link", name="Use FLUX.2 pro edit 1K instead").wait_for()
    page.wait_for_timeout(500)
    assert page.locator("#go").is_disabled() and variants(page) == ["FLUX.2 pro 1K"]
    assert page.locator("#variants-switched").is_hidden()


def test_an_input_changes_what_can_be_made_and_the_shape(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(f"{site}/?prompt=make+it+autumn&variants={PRO}&variants={KONTEXT}")
    assert page.get_by_role("checkbox", name="FLUX.2 pro edit 1K").is_disabled()
    assert page.locator("#r-auto").is_hidden()
    choose(page, "red")
    page.get_by_text("FLUX.2 pro 1K takes no input picture.").locator("visible=true").first.wait_for()
    assert page.locator("#go").is_disabled() and page.locator("#r-auto").is_checked()
    page.get_by_role("link", name="Use FLUX.2 pro edit 1K instead").click()
    page.locator("#go:enabled").wait_for()
    assert page.get_by_role("checkbox", name="FLUX.2 pro edit 1K").is_checked()
    assert page.get_by_role("checkbox", name="Kontext Pro").is_checked()
    page.get_by_role("button", name="Remove input picture 1").click()
    page.get_by_role("link", name="Use FLUX.2 pro 1K instead").wait_for()
    assert page.locator('[name=aspect_ratio][value="1:1"]').is_checked()


def test_a_refused_file_says_why_and_the_others_are_added(page: Any, site: str, dora: User) -> None:
    page.goto(site)
    files = [
        file("red"),
        {"name": "notes.pdf", "mimeType": "application/pdf", "buffer": b"%PDF-1.4"},
        {"name": "half.jpg", "mimeType": "image/jpeg", "buffer": photo("teal", size=(600, 400))[:700]},
    ]
    page.locator("#inputs-file").set_input_files(files)
    half = page.locator(".inputs-refused li", has_text="half.jpg")
    half.wait_for()
    page.locator(NOT_ON_ITS_WAY).wait_for()
    assert "The picture is damaged or incomplete." in half.inner_text()
    pdf = page.locator(".inputs-refused li", has_text="notes.pdf")
    assert "The file is not a JPEG, PNG or WebP picture." in pdf.inner_text()
    assert page.get_by_role("alert").filter(has=half).count() == 1
    assert inputs(page) == uploaded("red")
    half.get_by_role("button", name="Dismiss").click()
    assert half.count() == 0 and pdf.count() == 1


def test_eight_are_the_most_and_the_same_one_is_taken_once(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(site)
    choose(page, "red")
    choose(page, "red")
    assert inputs(page) == uploaded("red")
    assert "red.jpg is input picture 1 already." in page.locator("#inputs-said").inner_text()
    choose(page, *COLOURS[1:])
    assert len(inputs(page)) == 8
    assert "8 input pictures are the most." in page.locator(".inputs-refused").inner_text()


def test_an_upload_on_its_way_holds_the_button_and_can_be_stopped(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(f"{site}/?prompt=a+fox")
    page.route("**/uploads/", lambda route: None)  # never answered
    page.locator("#inputs-file").set_input_files([file("red")])
    page.get_by_role("progressbar").wait_for()
    page.get_by_text("Waiting for your input pictures.").wait_for()
    assert page.locator("#go").is_disabled()
    with page.expect_event("requestfailed"):
        page.get_by_role("button", name="Cancel input picture 1").click()
    page.locator("#go:enabled").wait_for()
    assert inputs(page) == [] and focused(page) == "inputs-choose"


def test_a_broken_connection_can_be_tried_again(page: Any, site: str, dora: User) -> None:
    page.goto(site)
    page.route("**/uploads/", lambda route: route.abort())
    page.locator("#inputs-file").set_input_files([file("red")])
    page.get_by_text("The connection broke.").wait_for()
    page.unroute("**/uploads/")
    page.get_by_role("button", name="Try again").click()
    page.locator(".input-item[data-state=ready]").wait_for()
    assert inputs(page) == uploaded("red") and page.locator(".inputs-refused li").count() == 0


def test_the_gallery_is_picked_from_by_keyboard(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    older, newer = picture_for(dora, nonce="1"), picture_for(dora, nonce="2")
    Picture.objects.filter(pk=older.pk).update(sha256="0" * 64)  # the fake upstream draws but one
    page.goto(site)
    page.get_by_role("button", name="From your gallery").focus()
    page.keyboard.press("Enter")
    page.locator("[data-pick]").nth(1).wait_for()
    page.locator("[data-pick]").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    page.get_by_role("button", name="Add 2 pictures").focus()
    page.keyboard.press("Enter")
    page.locator(".input-item[data-state=ready]").nth(1).wait_for()
    picked = {str(upload.pk): upload.picture_id for upload in Upload.objects.all()}
    assert [picked[pk] for pk in inputs(page)] == [older.pk, newer.pk]


# --- Putting them in order ----------------------------------------------------------------------------
def test_order_by_keys_and_buttons_keeps_the_focus(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(site)
    choose(page, "red", "teal", "gold")
    page.get_by_role("button", name="Move input picture 1 right").focus()
    page.keyboard.press("Enter")
    assert inputs(page) == uploaded("teal", "red", "gold")
    assert focused(page) == "Move input picture 2 right"
    page.keyboard.press("ArrowRight")
    assert inputs(page) == uploaded("teal", "gold", "red")
    assert focused(page) == "Move input picture 3 left"  # there is no further right
    assert "Now input picture 3 of 3." in page.locator("#inputs-said").inner_text()
    page.keyboard.press("Delete")
    assert inputs(page) == uploaded("teal", "gold") and focused(page) == "Remove input picture 2"


def test_order_by_drag(page: Any, site: str, dora: User, complaints: list[str]) -> None:
    page.goto(site)
    choose(page, "red", "teal", "gold")
    boxes = [page.locator(".input-frame").nth(at).bounding_box() for at in range(3)]
    page.mouse.move(boxes[2]["x"] + 50, boxes[2]["y"] + 50)
    page.mouse.down()
    page.mouse.move(boxes[0]["x"] + 40, boxes[0]["y"] + 50, steps=8)
    page.mouse.up()
    assert inputs(page) == uploaded("gold", "red", "teal")


def test_a_reload_and_the_back_button_keep_them(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(f"{site}/?prompt=a+fox&variants={EDIT}")
    choose(page, "red", "teal")
    page.get_by_role("button", name="Move input picture 1 right").click()
    page.reload()
    page.locator(".input-item").nth(1).wait_for()
    assert inputs(page) == uploaded("teal", "red")
    page.locator("#go:enabled").click()
    page.wait_for_url("**/runs/*/")
    page.go_back()
    page.locator(".input-item").nth(1).wait_for()
    assert inputs(page) == uploaded("teal", "red")
    assert page.get_by_role("checkbox", name="FLUX.2 pro edit 1K").is_checked()
    assert [str(row.upload_id) for row in RunInput.objects.order_by("position")] == uploaded("teal", "red")


def test_a_reload_and_the_back_button_keep_the_shape(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(f"{site}/?prompt=a+fox&variants={EDIT}")
    choose(page, "red")
    assert ratio(page) == "auto"
    page.reload()
    page.locator("#go:enabled").wait_for()
    assert ratio(page) == "auto"
    page.locator('label.ratio:has([value="16:9"])').click()
    page.locator("#quoter:not(.htmx-request)").wait_for(state="attached")
    page.reload()
    page.locator("#go:enabled").wait_for()
    assert ratio(page) == "16:9"
    page.locator("label.ratio:has(#r-auto)").click()
    page.locator("#go:enabled").click()
    page.wait_for_url("**/runs/*/")
    page.go_back()
    page.locator("#go:enabled").wait_for()
    assert ratio(page) == "auto" and inputs(page) == uploaded("red")


def test_a_reload_of_an_edit_whose_picture_was_taken_out_keeps_the_shape(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(f"{site}/?edit={picture_for(dora).pk}")
    assert ratio(page) == "auto"
    page.get_by_role("button", name="Remove input picture 1").click()
    page.locator("#variants-switched").get_by_text("Now FLUX.2 pro 1K").wait_for()
    assert ratio(page) == "1:1"
    page.reload()
    page.get_by_role("button", name="Make 2 free previews").wait_for()
    assert ratio(page) == "1:1" and inputs(page) == []
    assert set(variants(page)) == {"FLUX.2 pro 1K", "Kontext Pro"}


def test_a_double_click_removes_one(page: Any, site: str, dora: User, complaints: list[str]) -> None:
    page.goto(site)
    choose(page, "red", "teal", "gold")
    page.get_by_role("button", name="Remove input picture 1").dblclick()
    assert inputs(page) == uploaded("teal", "gold")


# --- What went meanwhile ------------------------------------------------------------------------------
def test_an_input_that_is_gone_holds_the_run_until_another_comes_or_it_is_left_out(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    gone, kept = uploads.take(dora, file("red")["buffer"]), uploads.take(dora, file("teal")["buffer"])
    run = run_for(dora, EDIT, prompt="a fox", aspect_ratio="auto", inputs=[gone, kept])
    Upload.objects.filter(pk=gone.pk).update(key="")
    said = "An input picture is not there any more. Add it again."
    page.goto(f"{site}/?run={run.pk}")
    page.locator("#inputs").get_by_text(said).wait_for()
    page.reload()
    assert page.locator("#go").is_disabled()
    page.locator("#prompt").fill("two foxes")
    page.locator("#summary").get_by_role("link", name="Go on without it").click()
    page.locator("#go:enabled").wait_for()
    assert inputs(page) == [str(kept.pk)] and page.locator("#prompt").input_value() == "two foxes"
    assert page.get_by_text(said).locator("visible=true").count() == 0
    page.goto(f"{site}/?run={run.pk}#again")
    choose(page, "gold")
    page.locator("#go:enabled").wait_for()
    assert inputs(page) == [str(kept.pk), *uploaded("gold")]


def test_who_was_logged_out_logs_in_elsewhere_and_tries_again(page: Any, site: str, dora: User) -> None:
    page.goto(site)
    page.context.clear_cookies()
    page.locator("#inputs-file").set_input_files([file("red")])
    page.get_by_text("You are logged out. Log in, then try again.").wait_for()
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Log in (in a new tab)").click()
    other = opened.value
    other.get_by_label("E-mail address").fill(dora.email)
    other.get_by_label("Password").fill("a-long-password-9")
    other.get_by_role("button", name="Log in", exact=True).click()
    other.wait_for_url(f"{site}/")
    page.get_by_role("button", name="Try again").click()
    page.locator(".input-item[data-state=ready]").wait_for()
    assert inputs(page) == uploaded("red")
    page.locator("#prompt").fill("a fox")
    page.locator("#go:enabled").click()
    page.wait_for_url("**/runs/*/")


def test_an_input_picture_is_removed_in_its_place(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    for colour in COLOURS[:3]:
        uploads.take(dora, photo(colour))
    page.goto(f"{site}/uploads/")
    page.evaluate("window.isSame = true")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Remove").first.click()
    page.locator(".tile").nth(2).wait_for(state="detached")
    assert page.evaluate("window.isSame") and page.locator(".tile").count() == 2
    assert "2 of" in page.locator("#room").inner_text()
    page.wait_for_function("() => document.activeElement === document.querySelector('.tile form button')")


def test_a_gallery_picture_that_was_deleted_meanwhile_says_so(page: Any, site: str, dora: User) -> None:
    picture = picture_for(dora)
    page.goto(site)
    page.get_by_role("button", name="From your gallery").click()
    page.locator("[data-pick]").click()
    Picture.objects.filter(pk=picture.pk).update(key="")
    page.get_by_role("button", name="Add the picture").click()
    page.get_by_text("That picture has been deleted.").wait_for()
    assert page.get_by_role("button", name="Try again").count() == 0


def test_a_variant_whose_card_is_further_down_is_chosen_all_the_same(
    page: Any, site: str, dora: User, complaints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "CARDS_A_PAGE", 2)
    page.goto(f"{site}/?variants={PRO}&variants={KONTEXT}")
    page.locator("#variant-search").fill("kontext")
    page.locator("#prompt").fill("a fox")
    choose(page, "red")
    page.get_by_role("link", name="Use FLUX.2 pro edit 1K instead").click()
    page.locator("#go:enabled").wait_for()
    page.get_by_role("checkbox", name="FLUX.2 pro edit 1K").wait_for()
    assert set(variants(page)) == {"FLUX.2 pro edit 1K", "Kontext Pro"}
    assert page.locator("#prompt").input_value() == "a fox"


# --- Editing and comparing ----------------------------------------------------------------------------
def test_a_picture_is_edited_from_its_page_and_compared(
    page: Any, site: str, dora: User, complaints: list[str], request: pytest.FixtureRequest
) -> None:
    picture = picture_for(dora)
    request.getfixturevalue("_engine")  # only now, or it would take this picture's job out of our hands
    page.goto(f"{site}/pictures/{picture.pk}/")
    page.get_by_role("link", name="Edit this").click()
    page.locator(".input-item[data-state=ready]").wait_for()
    page.get_by_label("What do you want to see?").fill("make it autumn")
    page.get_by_role("button", name="Make 2 free previews").click()
    page.wait_for_url("**/runs/*/")
    assert page.get_by_role("heading", name="Input").is_visible()
    page.locator("[data-job][data-state=succeeded]").nth(1).wait_for()
    page.get_by_role("button", name="Before | After FLUX.2 pro edit 1K").click()
    slider = page.get_by_role("slider", name="Divider between before and after")
    assert slider.get_attribute("aria-valuetext") == "50 percent input, 50 percent result"
    shown = page.locator(".compare-stage img")
    widths = "all => Promise.all(all.map(one => one.decode().then(() => one.naturalWidth)))"
    assert shown.evaluate_all(widths) == [768, 256]
    page.keyboard.press("Escape")
    assert focused(page).startswith("compare-") and Run.objects.count() == 2


@pytest.fixture
def finished_edit(page: Any, site: str, dora: User) -> Run:
    """A run that is done, with its dialog open."""
    picture = picture_for(dora)
    upload = uploads.take(dora, photo("teal", size=(600, 400)))
    Job.objects.filter(pk=picture.job.pk).update(params=picture.job.params | {"inputs": [str(upload.pk)]})
    RunInput.objects.create(run=picture.job.run, upload=upload, position=0)
    page.goto(f"{site}{picture.job.run.get_absolute_url()}")
    page.get_by_role("button", name="Before | After").click()
    return picture.job.run


def divider(page: Any) -> float:
    """Where it stands, from 0 to 1 of the picture's width, as people see it."""
    stage, line = (page.locator(part).bounding_box() for part in (".compare-stage", ".compare-line"))
    return (line["x"] + line["width"] / 2 - stage["x"]) / stage["width"]


def test_the_divider_goes_by_keys(page: Any, finished_edit: Run, complaints: list[str]) -> None:
    slider = page.get_by_role("slider")
    assert focused(page) == "Divider between before and after"
    for key, at, words in [
        ("ArrowLeft", 0.49, "49 percent input, 51 percent result"),
        ("ArrowRight", 0.50, "50 percent input, 50 percent result"),
        ("Home", 0.0, "Only the result"),
        ("End", 1.0, "Only the input"),
    ]:
        page.keyboard.press(key)
        assert slider.get_attribute("aria-valuetext") == words
        assert divider(page) == pytest.approx(at, abs=0.005)


def test_the_divider_goes_by_mouse_and_stays_where_it_is_let_go(
    page: Any, finished_edit: Run, complaints: list[str]
) -> None:
    box = page.locator(".compare-stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 120, steps=4)
    assert divider(page) == pytest.approx(0.25, abs=0.01)
    page.mouse.move(box["x"] - 200, box["y"] + 120)  # out of the picture, and still held
    assert divider(page) == pytest.approx(0, abs=0.01)
    page.mouse.up()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 120)
    assert divider(page) == pytest.approx(0, abs=0.01)


def test_the_divider_goes_by_touch(page: Any, finished_edit: Run, complaints: list[str]) -> None:
    box = page.locator(".compare-stage").bounding_box()
    wire = page.context.new_cdp_session(page)

    def touch(kind: str, at: float) -> None:
        points = [{"x": box["x"] + box["width"] * at, "y": box["y"] + 100}] if kind != "touchEnd" else []
        wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 0.5)
    for at in (0.55, 0.6, 0.7):
        touch("touchMove", at)
    assert divider(page) == pytest.approx(0.7, abs=0.01)
    touch("touchEnd", 0.7)


# --- A phone, and people who want less movement -------------------------------------------------------
def test_a_phone_needs_no_sideways_scrolling(page: Any, site: str, dora: User, complaints: list[str]) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    width = "document.documentElement.scrollWidth"
    page.goto(f"{site}/?prompt=a+fox&variants={PRO}")
    choose(page, *COLOURS[:8])
    page.locator("#inputs-file").set_input_files([file(COLOURS[8]) | {"name": "w" * 200 + ".jpg"}])
    page.locator(".inputs-refused li").wait_for()
    assert page.evaluate(width) <= 390
    # The reason stands by the button, which follows the thumb.
    page.locator("#go-why").get_by_role("link", name="Use FLUX.2 pro edit 1K instead").click()
    page.locator("#go:enabled").click()
    page.wait_for_url("**/runs/*/")
    assert page.evaluate(width) <= 390


def test_the_comparison_fits_a_phone(page: Any, finished_edit: Run, complaints: list[str]) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    box = page.locator("#compare").bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["y"] + box["height"] <= 844
