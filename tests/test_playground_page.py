"""The playground page: what the form shows, what the quote says, and the run that it makes."""

import re
from html import unescape
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts import ledger
from accounts.models import Cap, User
from playground import catalog
from playground.models import Job, Picture, Price, Run, Variant
from tests.making import EDIT, FLEX_2K, KONTEXT, PRO, give, load_catalogue, picture_for, run_for

PRO_2K = PRO.replace("1k", "2k")
ASKED = {"prompt": "a fox in the snow", "variants": [PRO, KONTEXT], "aspect_ratio": "4:3", "count": "2"}


@pytest.fixture(autouse=True)
def _catalogue(db: None) -> None:
    load_catalogue()


@pytest.fixture
def client_of_alice(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def page(response: Any) -> str:
    return unescape(response.content.decode())


def quote(client: Client, **asked: Any) -> str:
    response = client.get(reverse("quote"), ASKED | asked)
    assert response.status_code == 200
    return page(response)


def checked(html: str, name: str) -> list[str]:
    boxes = re.findall(r"<input[^>]*>", html)
    return [
        re.search(r'value="([^"]*)"', box)[1]  # type: ignore[index]
        for box in boxes
        if f'name="{name}"' in box and " checked" in box
    ]


def input_of(html: str, value: str) -> str:
    [box] = [box for box in re.findall(r"<input[^>]*>", html) if f'value="{value}"' in box]
    return box


# --- The form -----------------------------------------------------------------------------------------
def test_a_visitor_sees_every_variant_cheapest_first_with_its_price(client: Client) -> None:
    html = page(client.get("/"))
    able = [variant for variant in catalog.live() if not catalog.why_not(variant)]
    places = [html.index(variant.slug) for variant in able]
    assert len(able) == 6 and places == sorted(places)
    assert all(variant.blurb in html for variant in able)
    assert "5.00 <small>credits · $0.0350</small>" in html


def test_variants_that_need_a_picture_are_listed_and_say_so(client: Client) -> None:
    html = page(client.get("/"))
    assert " disabled" in input_of(html, EDIT) and " disabled" not in input_of(html, PRO)
    assert html.count("Needs an input picture") == 4


def test_the_form_is_filled_in_from_the_address(client: Client) -> None:
    html = page(client.get("/", ASKED | {"seed": "42", "pay": "credits", "variants": [FLEX_2K]}))
    assert "a fox in the snow</textarea>" in html and 'value="42"' in html
    assert checked(html, "variants") == [FLEX_2K]
    assert checked(html, "aspect_ratio") == ["4:3"]
    assert checked(html, "count") == ["2"] and checked(html, "pay") == ["credits"]


def test_a_run_can_be_changed_and_run_again_by_its_owner_only(
    alice: User, client_of_alice: Client, bob: User
) -> None:
    give(alice), give(bob)
    mine = run_for(alice, FLEX_2K, prompt="a blue door", count=3, aspect_ratio="2:3")
    html = page(client_of_alice.get(f"/?run={mine.pk}"))
    assert "a blue door</textarea>" in html and checked(html, "aspect_ratio") == ["2:3"]
    assert checked(html, "variants") == [FLEX_2K] and checked(html, "count") == ["3"]
    theirs = run_for(bob, prompt="a red door")
    assert "a red door" not in page(client_of_alice.get(f"/?run={theirs.pk}"))
    assert client_of_alice.get("/?run=nonsense").status_code == 200


def test_remix_fills_in_what_made_the_picture(alice: User, client_of_alice: Client, bob: User) -> None:
    give(alice), give(bob)
    html = page(client_of_alice.get(f"/?remix={picture_for(alice, prompt='a blue door').pk}"))
    assert "a blue door</textarea>" in html and checked(html, "variants") == [PRO]
    theirs = picture_for(bob, prompt="a red door")
    assert "a red door" not in page(client_of_alice.get(f"/?remix={theirs.pk}"))
    assert Picture.objects.count() == 2


def test_only_shapes_that_the_chosen_variants_take_are_offered(client: Client) -> None:
    notes = quote(client, variants=[PRO])
    assert 'id="ratio-21-9" hx-swap-oob="true" data-unused' in notes  # Kontext alone makes it
    notes = quote(client, variants=[PRO, KONTEXT])
    assert 'id="ratio-21-9" hx-swap-oob="true" data-refused' in notes and "not FLUX.2 pro 1K" in notes
    assert 'id="ratio-3-2" hx-swap-oob="true" data-refused' in notes and "not Kontext Pro" in notes
    assert 'id="ratio-4-3" hx-swap-oob="true">' in notes


def test_a_shape_that_a_chosen_variant_refuses_stops_the_button_and_says_who(client: Client) -> None:
    html = quote(client, aspect_ratio="3:2")
    assert "Kontext Pro does not make 3:2." in html and "data-blocked" in html
    assert "data-blocked" not in quote(client, aspect_ratio="4:3")


def test_a_seed_is_offered_where_a_chosen_variant_takes_one(client: Client, settings: LazySettings) -> None:
    assert 'id="seed-note" hx-swap-oob="true" data-unused' not in quote(client)
    Variant.objects.filter(slug=KONTEXT).update(parameters={"aspect_ratios": ["4:3"], "seed": False})
    assert "Kontext Pro ignores it." in quote(client)
    assert 'id="seed-note" hx-swap-oob="true" data-unused' in quote(client, variants=[KONTEXT])
    settings.AIGENERATE_API_KEY = "key"  # a route that loses seeds
    assert 'id="seed-note" hx-swap-oob="true" data-unused' in quote(client)


def test_a_seed_that_no_chosen_variant_takes_is_ignored(client_of_alice: Client) -> None:
    Variant.objects.update(parameters={"aspect_ratios": ["4:3"], "seed": False})
    assert client_of_alice.post("/runs/", ASKED | {"seed": "banana"}).status_code == 303
    assert Run.objects.get().seed is None


# --- Many variants ------------------------------------------------------------------------------------
@pytest.fixture
def _many(db: None) -> None:
    variants = Variant.objects.bulk_create(
        Variant(
            slug=f"acme-{number}",
            name=f"Acme {number}",
            label=f"Acme {number}",
            maker="Acme",
            family="Acme",
            kind="text-to-image",
            blurb="Draws." if number % 2 else "Paints.",
            parameters={"aspect_ratios": ["1:1"]},
            position=number,
        )
        for number in range(278)
    )
    Price.objects.bulk_create(Price(variant=variant, micros=500_000) for variant in variants)


@pytest.mark.usefixtures("_many")
def test_with_288_variants_a_page_of_them_is_shown_and_more_on_request(client: Client) -> None:
    html = page(client.get("/"))
    assert html.count('name="variants"') == 12 and "Search variants" in html
    more = page(client.get(reverse("variant_choices"), {"shown": "24"}))
    assert more.count('name="variants"') == 24


@pytest.mark.usefixtures("_many")
def test_a_search_finds_by_name_and_keeps_what_is_chosen(client: Client) -> None:
    html = page(client.get(reverse("variant_choices"), {"q": "acme 27", "variants": [PRO]}))
    assert checked(html, "variants") == [PRO]
    assert html.count('name="variants"') == 1 + 11  # 27, 127, 227 and 270 to 277
    none = page(client.get(reverse("variant_choices"), {"q": "no such thing", "variants": [PRO]}))
    assert "No variant fits “no such thing”." in none and checked(none, "variants") == [PRO]


@pytest.mark.usefixtures("_many")
@pytest.mark.parametrize("path", ["/", "/quote/", "/quote/variants/"])
def test_the_queries_do_not_grow_with_the_catalogue(client_of_alice: Client, alice: User, path: str) -> None:
    ledger.wallet_of(alice)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert client_of_alice.get(path, {"variants": [PRO, "acme-7"]}).status_code == 200
    assert len(queries) <= 10


# --- The quote ----------------------------------------------------------------------------------------
def test_a_quote_gives_pictures_exact_price_and_balance_after(alice: User, client_of_alice: Client) -> None:
    give(alice)
    html = quote(client_of_alice, pay="credits", variants=[PRO, FLEX_2K])
    assert "4 <span" in html and "(2 variants × 2)" in html
    assert "58.00 credits ($0.406)" in html  # two at 5.00 and two at 24.00
    assert "1,370.57 credits ($9.594)" in html
    assert "Make 4 pictures for 58.00 credits" in html and "data-blocked" not in html


def test_a_preview_quote_costs_nothing_and_counts_what_is_left_today(
    alice: User, client_of_alice: Client
) -> None:
    give(alice)
    run_for(alice, count=3, pay="preview")
    html = quote(client_of_alice)
    assert "<dd>Free</dd>" in html and "17 of 20" in html
    assert "1,428.57 credits ($10.00)" in html and "Make 4 free previews" in html


def test_too_few_credits_say_why_and_offer_what_fits(alice: User, client_of_alice: Client) -> None:
    ledger.grant(alice, 80_000, business_id="little", memo="")
    html = quote(client_of_alice, pay="credits", count="2")
    assert "This needs 20.00 credits ($0.14), and you have 11.42 credits ($0.08) left." in html
    assert "data-blocked" in html
    assert "Make only 1 of each" in html and "Make free previews instead" in html


def test_the_offered_choice_is_a_link_that_really_fits(alice: User, client_of_alice: Client) -> None:
    ledger.grant(alice, 80_000, business_id="little", memo="")
    html = quote(client_of_alice, pay="credits", variants=[PRO, FLEX_2K], count="4")
    query = re.search(r'href="/\?([^"]*)" data-fit>Make only FLUX.2 pro 1K, 2 of each', html)
    assert query
    assert "data-blocked" not in page(client_of_alice.get(f"/quote/?{query[1]}"))


def test_used_up_previews_offer_credits(alice: User, client_of_alice: Client, settings: LazySettings) -> None:
    give(alice)
    settings.PREVIEWS_PER_DAY = 3
    html = quote(client_of_alice)
    assert "You have 3 of 3 free previews left today (UTC), and this needs 4." in html
    assert "Make only 1 of each" in html and "Pay 20.00 credits ($0.14) instead" in html
    settings.PREVIEWS_PER_DAY = 0
    html = quote(client_of_alice)
    assert "Make only" not in html and "Pay 20.00 credits ($0.14) instead" in html


def test_the_house_running_out_of_previews_offers_credits(
    alice: User, client_of_alice: Client, settings: LazySettings
) -> None:
    give(alice)
    settings.AIGENERATE_API_KEY = "key"
    settings.PREVIEW_BUDGET_MICROS_PER_DAY = 100_000
    html = quote(client_of_alice)
    assert "The house's budget for free previews is used up for today." in html
    assert "Pay 20.00 credits ($0.14) instead" in html


def test_a_cap_of_alice_speaks_before_the_click(alice: User, client_of_alice: Client) -> None:
    give(alice)
    Cap.objects.create(user=alice, window="day", limit=100_000)
    assert "Your day cap of $0.10 would be crossed" in quote(client_of_alice, pay="credits")
    Cap.objects.all().delete()
    Cap.objects.create(user=alice, window="job", limit=100_000)
    assert "Your cap is $0.10 for one picture" in quote(client_of_alice, pay="credits", variants=[FLEX_2K])


def test_nothing_chosen_asks_to_choose(client_of_alice: Client) -> None:
    assert "Choose at least one variant." in quote(client_of_alice, variants=[])


def test_a_visitor_learns_what_signing_up_gives(client: Client) -> None:
    html = quote(client)
    assert "1,428.57 credits ($10.00) to spend and 20 free previews a day" in html
    assert "Sign up and make 4 free previews" in html


# --- The order ----------------------------------------------------------------------------------------
def test_the_button_makes_the_run_and_leads_to_it(alice: User, client_of_alice: Client) -> None:
    give(alice)
    response = client_of_alice.post("/runs/", ASKED | {"pay": "credits", "seed": "7"})
    run = Run.objects.get(user=alice)
    assert (response.status_code, response.headers["Location"]) == (303, f"/runs/{run.pk}/")
    assert (run.prompt, run.aspect_ratio, run.count, run.seed) == ("a fox in the snow", "4:3", 2, 7)
    assert run.jobs.count() == 4 and ledger.wallet_of(alice).held == 140_000


def test_what_is_left_out_has_a_default(alice: User, client_of_alice: Client) -> None:
    assert client_of_alice.post("/runs/", {"prompt": "a fox", "variants": [PRO]}).status_code == 303
    run = Run.objects.get()
    assert (run.aspect_ratio, run.count, run.seed, run.pay) == ("1:1", 1, None, "preview")


def test_a_form_sent_twice_makes_one_run(client_of_alice: Client) -> None:
    answers = [
        client_of_alice.post("/runs/", ASKED | {"nonce": "once"}).headers["Location"] for _ in range(2)
    ]
    assert answers[0] == answers[1]
    assert Run.objects.count() == 1 and Job.objects.count() == 4


def test_the_same_nonce_with_another_prompt_is_another_run(client_of_alice: Client) -> None:
    for prompt in ("a fox", "a hare"):
        client_of_alice.post("/runs/", ASKED | {"nonce": "once", "prompt": prompt})
    assert set(Run.objects.values_list("prompt", flat=True)) == {"a fox", "a hare"}


def test_without_a_nonce_every_post_is_a_run(client_of_alice: Client) -> None:
    for _ in range(2):
        client_of_alice.post("/runs/", ASKED)
    assert Run.objects.count() == 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"prompt": ""}, "Write what you want to see."),
        ({"prompt": "x" * 5001}, "takes a prompt of 3 to 5,000 characters."),
        ({"prompt": "a\x00b"}, "The prompt has a character in it that cannot be sent."),
        ({"variants": []}, "Choose at least one variant."),
        ({"variants": ["no-such"]}, "There is no variant “no-such” here."),
        ({"variants": [EDIT]}, "Needs an input picture"),
        ({"aspect_ratio": "3:2"}, "Kontext Pro does not make 3:2."),
        ({"aspect_ratio": "banana"}, "does not make banana."),
        ({"count": "5"}, "Choose 1 to 4 pictures per variant."),
        ({"count": "0"}, "Choose 1 to 4 pictures per variant."),
        ({"seed": "4294967296"}, "A seed is a whole number from 0 to 4294967295."),
        ({"seed": "many"}, "A seed is a whole number from 0 to 4294967295."),
        ({"pay": "later"}, "later is not one of the available choices."),
    ],
)
def test_what_is_wrong_is_said_and_nothing_is_lost(
    client_of_alice: Client, wrong: dict[str, Any], words: str
) -> None:
    response = client_of_alice.post("/runs/", ASKED | {"seed": "7", "pay": "credits"} | wrong)
    html = page(response)
    assert response.status_code == 422 and words in html and not Run.objects.exists()
    assert "a fox in the snow" in html or "prompt" in wrong
    assert checked(html, "variants") == [PRO, KONTEXT] or "variants" in wrong
    assert checked(html, "count") == ["2"] or "count" in wrong


def test_a_refusal_of_the_ledger_comes_back_in_plain_words(client_of_alice: Client) -> None:
    response = client_of_alice.post("/runs/", ASKED | {"pay": "credits"})
    assert response.status_code == 422 and not Run.objects.exists()
    assert "This needs 20.00 credits ($0.14), and you have 0.00 credits ($0.00) left." in page(response)
    assert "Nothing was made and nothing charged." in page(response)


def test_a_visitor_signs_up_first_and_finds_the_form_as_it_was(client: Client) -> None:
    response = client.post("/runs/", ASKED | {"seed": "7", "pay": "credits"})
    assert (response.status_code, response.headers["Location"]) == (303, "/accounts/signup/?next=/")
    assert not Run.objects.exists()
    client.post(
        "/accounts/signup/", {"email": "dora@example.org", "password1": "a-long-password-9", "next": "/"}
    )
    assert User.objects.filter(email="dora@example.org").exists()
    html = page(client.get("/"))
    assert "a fox in the snow</textarea>" in html and 'value="7"' in html
    assert checked(html, "variants") == [PRO, KONTEXT] and checked(html, "pay") == ["credits"]


def test_the_kept_form_is_forgotten_once_it_made_a_run(client: Client, alice: User) -> None:
    client.post("/runs/", ASKED)
    client.force_login(alice)
    assert "a fox in the snow" in page(client.get("/"))
    client.post("/runs/", ASKED)
    assert "a fox in the snow" not in page(client.get("/"))


def test_a_reload_of_a_refused_form_leads_back_to_the_page(client_of_alice: Client) -> None:
    assert client_of_alice.get("/runs/").headers["Location"] == "/"


def test_every_page_load_has_a_nonce_of_its_own(client: Client) -> None:
    nonces = {re.search(r'name="nonce" value="([^"]+)"', page(client.get("/")))[1] for _ in range(2)}  # type: ignore[index]
    assert len(nonces) == 2


def test_scripts_and_styles_come_from_files_only(client: Client) -> None:
    response = client.get("/")
    html = page(response)
    assert "script-src 'self'" in response.headers["Content-Security-Policy"]
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", html)


def test_a_hostile_prompt_is_only_text(client: Client) -> None:
    html = client.get("/", {"prompt": "</textarea><script>alert(1)</script>"}).content.decode()
    assert "<script>alert" not in html


def test_half_a_character_in_the_prompt_is_named_and_nothing_is_made(alice: User) -> None:
    give(alice)
    client = Client()
    client.force_login(alice)
    body = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na fox +2AA-\r\n--x\r\n'
    body += f'Content-Disposition: form-data; name="variants"\r\n\r\n{PRO}\r\n--x--\r\n'.encode()
    response = client.generic("POST", "/runs/", body, "multipart/form-data; boundary=x; charset=utf-7")
    assert response.status_code == 422 and not Run.objects.exists()
