"""The main job in a real browser, with the real engine and the sandbox behind the page."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings

from accounts.models import User
from playground.models import Price, Run, Variant
from tests.making import PRO, give, load_catalogue

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a-long-password-9"


@pytest.fixture
def site(live_server: Any, settings: LazySettings) -> str:
    settings.SANDBOX_DELAY_S = 0.3
    load_catalogue()
    return live_server.url


@pytest.fixture
def complaints(page: Any) -> Iterator[list[str]]:
    """What the browser's console complained about; a test ends with none."""
    heard: list[str] = []
    page.on("console", lambda said: heard.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: heard.append(str(error)))
    yield heard
    assert heard == []


@pytest.fixture
def dora(page: Any, site: str) -> User:
    """Logged in, with $10.00."""
    user = User.objects.create_user("dora@example.org", PASSWORD)
    give(user)
    page.goto(f"{site}/accounts/login/")
    page.get_by_label("E-mail address").fill(user.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in", exact=True).click()
    page.wait_for_url(f"{site}/")
    return user


def states(page: Any) -> list[str]:
    return page.locator("[data-job]").evaluate_all("tiles => tiles.map(tile => tile.dataset.state)")


def wait_for_all(page: Any, state: str, count: int) -> None:
    page.wait_for_function(
        "([state, count]) => document.querySelectorAll(`[data-job][data-state=${state}]`).length === count",
        arg=[state, count],
    )


@pytest.mark.usefixtures("_engine")
def test_a_newcomer_signs_up_previews_and_keeps_the_winner(
    page: Any, site: str, complaints: list[str]
) -> None:
    page.goto(site)
    page.get_by_label("What do you want to see?").fill("a fox in the snow")
    page.get_by_role("checkbox", name="FLUX.2 flex 1K").check()
    page.get_by_role("button", name="Sign up and make 3 free previews").click()
    page.get_by_label("E-mail address").fill("eve@example.org")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Create account").click()
    page.get_by_role("button", name="Make 3 free previews").click()
    wait_for_all(page, "succeeded", 3)
    assert "All 3 pictures are ready." in page.get_by_role("status").all_inner_texts()
    shown = page.locator("[data-job] img")
    assert (
        shown.evaluate_all("all => Promise.all(all.map(one => one.decode().then(() => one.naturalWidth)))")
        == [768] * 3
    )
    page.get_by_role("button", name="Keep full size: 14.00 credits").click()
    page.get_by_role("link", name="Download").wait_for()
    assert page.locator("#balance").inner_text().split()[0] == "1,414.57"
    page.reload()
    assert states(page) == ["succeeded"] * 3 and page.get_by_role("link", name="Download").count() == 1


@pytest.mark.usefixtures("_engine")
def test_pictures_replace_their_tiles_without_moving_anything(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(f"{site}/?prompt=a+fox&aspect_ratio=16:9&pay=credits")
    page.get_by_role("button", name="Make 2 pictures for 10.00 credits").click()
    page.wait_for_url("**/runs/*/")
    boxes = "frames => frames.map(frame => { const box = frame.getBoundingClientRect(); return [box.x, box.y, box.width, box.height].map(Math.round) })"
    before = page.locator(".tile-frame").evaluate_all(boxes)
    wait_for_all(page, "succeeded", 2)
    assert page.locator(".tile-frame").evaluate_all(boxes) == before
    page.wait_for_function("() => document.getElementById('poller').getAttribute('hx-get') === null")


def test_a_double_click_makes_one_run(page: Any, site: str, dora: User, complaints: list[str]) -> None:
    page.goto(f"{site}/?prompt=a+fox")
    page.get_by_role("button", name="Make 2 free previews").dblclick()
    page.wait_for_url("**/runs/*/")
    assert Run.objects.count() == 1


def test_after_going_back_the_next_press_is_a_new_run(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(site)
    page.get_by_label("What do you want to see?").fill("a fox")
    page.keyboard.press("Control+Enter")
    page.wait_for_url("**/runs/*/")
    first = page.url
    page.go_back()
    assert page.get_by_label("What do you want to see?").input_value() == "a fox"
    page.get_by_role("button", name="Make 2 free previews").click()
    page.wait_for_url("**/runs/*/")
    assert page.url != first and Run.objects.count() == 2


def many_variants() -> None:
    """More than are shown at first."""
    for number in range(8):
        variant = Variant.objects.get(slug=PRO)
        variant.pk, variant.slug, variant.label, variant.position = None, f"far-{number}", f"Far {number}", 90
        variant.save()
        Price.objects.create(variant=variant, micros=(number + 1) * 1_000_000)


def test_going_back_and_reloading_bring_the_cards_that_were_shown_and_searched_for(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    many_variants()
    page.goto(f"{site}/?prompt=a+fox")
    page.get_by_role("button", name="Show more").click()
    page.get_by_role("checkbox", name="Far 7").wait_for()
    page.reload()
    page.get_by_role("checkbox", name="Far 7").wait_for()
    page.get_by_role("searchbox").fill("Far 5")
    page.get_by_role("checkbox", name="Far 7").wait_for(state="detached")
    page.get_by_role("checkbox", name="Far 5").wait_for()
    page.get_by_role("button", name="Make 2 free previews").click()
    page.wait_for_url("**/runs/*/")
    page.go_back()
    page.get_by_role("checkbox", name="Far 5").wait_for()
    assert page.get_by_role("searchbox").input_value() == "Far 5"
    assert page.get_by_role("checkbox", name="Far 7").count() == 0
    assert page.locator("[name=variants]:checked").count() == 2


def test_going_back_brings_choices_from_far_down_the_catalogue(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    many_variants()
    page.goto(f"{site}/?prompt=a+fox")
    page.get_by_role("checkbox", name="Far 7").wait_for(state="detached")
    page.get_by_role("button", name="Show more").click()
    page.get_by_role("checkbox", name="Far 7").check()
    page.get_by_role("button", name="Make 3 free previews").click()
    page.wait_for_url("**/runs/*/")
    page.go_back()
    page.get_by_role("checkbox", name="Far 7", checked=True).wait_for()
    page.get_by_role("button", name="Make 3 free previews").wait_for()
    assert page.locator("[name=variants]:checked").count() == 3
    assert page.locator("[name=variants][type=hidden]").count() == 0


def test_the_quote_follows_the_form(page: Any, site: str, dora: User, complaints: list[str]) -> None:
    page.goto(f"{site}/?prompt=a+fox")
    page.get_by_role("radio", name="Pay with credits").check()
    page.get_by_role("button", name="Make 2 pictures for 10.00 credits").wait_for()
    page.get_by_text("3", exact=True).click()
    page.get_by_role("button", name="Make 6 pictures for 30.00 credits").wait_for()
    assert "1,398.57 credits ($9.79)" in page.locator("#summary").inner_text()
    assert page.locator('input[value="21:9"]').is_disabled()
    page.get_by_role("checkbox", name="FLUX.2 pro 1K").uncheck()
    page.locator('input[value="21:9"]:enabled').wait_for(state="attached")


def test_what_does_not_fit_stops_the_button_until_the_nearest_choice_is_taken(
    page: Any, site: str, settings: LazySettings, dora: User, complaints: list[str]
) -> None:
    settings.PREVIEWS_PER_DAY = 3
    page.goto(f"{site}/?prompt=a+fox&count=2")
    assert page.locator("#go").is_disabled()
    page.keyboard.press("Control+Enter")
    page.get_by_role("link", name="Make only 1 of each").click()
    page.wait_for_function("() => !document.getElementById('go').disabled")
    assert page.get_by_label("What do you want to see?").input_value() == "a fox"
    page.locator("#go").click()
    page.wait_for_url("**/runs/*/")
    assert Run.objects.get().count == 1


@pytest.mark.usefixtures("_engine")
def test_everything_works_with_the_keyboard_alone(
    page: Any, site: str, dora: User, complaints: list[str]
) -> None:
    page.goto(site)
    page.keyboard.type("a fox in the snow [fail]")  # the prompt has the focus
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "go":
            break
        if page.evaluate("document.activeElement.name === 'count'"):
            page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Make 4 free previews").wait_for()
    page.keyboard.press("Enter")
    page.wait_for_url("**/runs/*/")
    wait_for_all(page, "failed", 4)
    page.get_by_role("button", name="Try again").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('[data-state=failed]').length === 3")
    wait_for_all(page, "failed", 4)


def test_a_lost_connection_is_said_and_recovers(page: Any, site: str, dora: User) -> None:
    page.goto(f"{site}/?prompt=a+fox")
    page.get_by_role("button", name="Make 2 free previews").click()
    page.wait_for_url("**/runs/*/")
    page.context.set_offline(True)
    page.get_by_text("Connection lost, trying again.").wait_for()
    page.context.set_offline(False)
    page.get_by_text("Connection lost, trying again.").wait_for(state="hidden")
    assert states(page) == ["queued"] * 2


@pytest.mark.parametrize("path", ["/", "/accounts/signup/", "/accounts/login/", "/nothing-here/", "run"])
def test_a_phone_needs_no_sideways_scrolling(page: Any, site: str, dora: User, path: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    if path == "run":
        page.goto(f"{site}/?prompt={'w' * 300}&count=4")
        page.keyboard.press("Control+Enter")
        page.wait_for_url("**/runs/*/")
    else:
        if "accounts" in path:
            page.context.clear_cookies()
        page.goto(f"{site}{path}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_the_chosen_theme_lasts(page: Any, site: str, complaints: list[str]) -> None:
    page.goto(site)
    ground = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(ground)
    page.get_by_role("button", name="Light or dark").click()
    dark = page.evaluate(ground)
    page.reload()
    assert light != dark == page.evaluate(ground)


def test_the_password_can_be_looked_at(page: Any, site: str, complaints: list[str]) -> None:
    page.goto(f"{site}/accounts/signup/")
    page.get_by_role("button", name="Show").click()
    assert page.get_by_label("Password").get_attribute("type") == "text"
    assert page.locator("input[type=password]").count() == 0  # one field, asked once
