import json
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from playground import upstreams
from playground.models import Price, Variant

pytestmark = pytest.mark.django_db
PRO_1K = "black-forest-labs-black-forest-labs-flux-2-pro-text-to-image-1-0s-1k"
EDIT_1K = "black-forest-labs-black-forest-labs-flux-2-pro-image-to-image-1-0s-1k"


@pytest.fixture
def ten() -> None:
    call_command("load_catalog", verbosity=0)


@pytest.fixture
def many() -> list[Variant]:
    variants = Variant.objects.bulk_create(
        Variant(
            slug=f"maker-{n}", name=f"Model {n}", label=f"Model {n}", maker=f"Maker {n % 30}",
            family=f"Family {n % 60}", kind="text-to-image", resolution="1K", blurb="Paints.",
            parameters={"aspect_ratios": ["1:1", "16:9"]},
        )
        for n in range(288)
    )  # fmt: skip
    Price.objects.bulk_create(Price(variant=variant, micros=7_000 + variant.pk) for variant in variants)
    return variants


def get(path: str, **headers: str) -> str:
    response = Client().get(path, headers=headers)
    assert response.status_code == 200
    return unescape(response.content.decode())


@pytest.mark.usefixtures("ten")
def test_everybody_sees_the_table_cheapest_first_with_what_ten_dollars_buy() -> None:
    page = get("/pricing/")
    order = [page.index(f">{label}</a>") for label in ("FLUX.2 pro 1K", "Kontext Max", "FLUX.2 flex 2K")]
    assert order == sorted(order)
    row = page[order[0] : page.index("</tr>", order[0])]
    assert all(words in row for words in ("5.00", "$0.035", "285<"))


@pytest.mark.usefixtures("ten")
def test_the_rules_say_what_a_failure_costs_and_how_long_things_are_kept() -> None:
    page = get("/pricing/")
    assert "A failure costs nothing" in page
    assert "until you delete them" in page
    assert "brought back for 24 hours" in page
    assert "20 free previews a day" in page


@pytest.mark.usefixtures("ten")
def test_search_takes_words_in_any_order_and_what_is_off_is_not_listed() -> None:
    page = get("/pricing/?q=2k+pro")
    assert "FLUX.2 pro 2K" in page
    assert "FLUX.2 pro 1K" not in page
    Variant.objects.filter(slug=PRO_1K).update(is_live=False)
    assert "FLUX.2 pro 1K" not in get("/models/")
    assert Client().get(f"/models/{PRO_1K}/").status_code == 404


@pytest.mark.usefixtures("ten")
def test_typing_a_search_changes_the_rows_only() -> None:
    rows = get("/pricing/?q=flex", HX_Request="true", HX_Target="rows")
    assert rows.strip().startswith('<div id="rows"')
    assert "<html" not in rows


def test_a_search_that_finds_nothing_says_so() -> None:
    assert "No model is called that" in get("/models/?q=nothing%00+like+%25_this")


@pytest.mark.usefixtures("many")
@pytest.mark.parametrize("path", ["/pricing/", "/models/"])
def test_288_models_are_paged_with_three_queries(path: str, django_assert_num_queries: Any) -> None:
    upstreams.configured()  # asked once in a few seconds, whatever is listed
    with django_assert_num_queries(3):
        first = get(path)
    assert "Page 1 of 6" in first
    assert "Model 0<" in first
    assert "Model 50<" not in first
    assert "Model 50<" in get(f"{path}?page=2")
    assert "Page 6 of 6" in get(f"{path}?page=999")


@pytest.mark.usefixtures("ten")
def test_a_variants_page_has_price_sizes_and_a_call_that_is_valid_json() -> None:
    page = get(f"/models/{PRO_1K}/")
    assert "5.00 credits" in page
    assert "1024 × 1024" in page
    assert f'href="/?variants={PRO_1K}"' in page
    assert "POST http://testserver/api/v1/jobs/createTask" in page
    assert "Authorization: Bearer sk-aig-" in page
    body = json.loads(page.split("-d '")[1].split("'")[0])
    assert (body["model"], body["input"]["aspect_ratio"]) == (PRO_1K, "1:1")


@pytest.mark.usefixtures("ten")
def test_a_variant_that_needs_a_picture_can_be_tried_too() -> None:
    assert f'href="/?variants={EDIT_1K}"' in get(f"/models/{EDIT_1K}/")


@pytest.mark.usefixtures("ten")
def test_a_variant_that_cannot_be_ordered_says_why_instead_of_offering_a_try() -> None:
    Price.objects.filter(variant__slug=PRO_1K).delete()
    page = get(f"/models/{PRO_1K}/")
    assert "Has no price yet" in page and "Try it" not in page


@pytest.mark.usefixtures("ten")
def test_old_and_coming_prices_are_shown_with_their_dates() -> None:
    variant = Variant.objects.get(slug=PRO_1K)
    Price.objects.create(variant=variant, micros=70_000, starts=timezone.now() + timedelta(days=9))
    Price.objects.create(variant=variant, micros=21_000, starts=timezone.now() - timedelta(days=9))
    page = get(f"/models/{PRO_1K}/")
    history = page[page.index("Price history") :]
    assert history.index("10.00") < history.index("5.00") < history.index("3.00")
    assert "ahead" in history


def test_a_variants_page_costs_the_same_among_288(
    many: list[Variant], django_assert_num_queries: Any
) -> None:
    upstreams.configured()
    with django_assert_num_queries(4):
        get(many[0].get_absolute_url())
