"""The catalogue file and its loader."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from playground import catalog
from playground.models import Price, Route, Variant

pytestmark = pytest.mark.django_db
PUBLISHED = "black-forest-labs-black-forest-labs-flux-2-pro-text-to-image-1-0s-1k"
TABLE = [
    ("flux-2 pro, text-to-image, 1.0s-1K", 35_000),
    ("flux-2 pro, image to image, 1.0s-1K", 35_000),
    ("flux1-kontext, text-to-image, Pro", 35_000),
    ("flux-2 pro, text-to-image, 1.0s-2K", 49_000),
    ("flux-2 pro, image to image, 1.0s-2K", 49_000),
    ("flux1-kontext, text-to-image, Max", 70_000),
    ("Flux 2 Flex, image to image, 1.0s-1K", 98_000),
    ("Flux 2 Flex, text-to-image, 1.0s-1K", 98_000),
    ("Flux 2 Flex, image to image, 1.0s-2K", 168_000),
    ("Flux 2 Flex, text-to-image, 1.0s-2K", 168_000),
]
FILE = """
[[models]]
maker = "Acme"
family = "Painter"
parameters = { aspect_ratios = ["1:1"], prompt = { min = 1, max = 100 } }
  [[models.variants]]
  name = "painter, text-to-image"
  kind = "text-to-image"
  usd = "%s"
  blurb = "Paints."
  %s
"""


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def write_and_load(usd: str, more: str = "") -> Variant:
        file = tmp_path / "catalogue.toml"
        file.write_text(FILE % (usd, more))
        call_command("load_catalog", str(file), verbosity=0)
        return Variant.objects.priced().get(slug="acme-acme-painter-text-to-image")

    return write_and_load


def test_the_file_is_the_published_table_cheapest_first() -> None:
    call_command("load_catalog")
    assert sorted((v.name, v.price_micros) for v in catalog.live()) == sorted(TABLE)
    prices = [variant.price_micros for variant in catalog.live()]
    assert prices == sorted(prices)


def test_the_makers_further_models_wait_for_a_price() -> None:
    call_command("load_catalog")
    off = Variant.objects.filter(is_live=False).priced()
    assert {route.upstream_model for v in off for route in v.routes.all()} == {
        "flux-2-max",
        "flux-2-klein-4b",
        "flux-2-klein-9b",
        "flux-pro-1.1",
    }
    assert {variant.price_micros for variant in off} == {None}
    assert Variant.objects.live().count() == 10


def test_every_published_variant_has_its_three_routes_in_order_of_preference() -> None:
    call_command("load_catalog")
    for variant in catalog.live():
        first, second, third = variant.routes.all()
        assert (first.provider, first.upstream_model) == ("aigenerate", variant.slug)
        assert first.cost_micros == variant.price_micros
        assert (second.provider, third.provider) == ("kie", "bfl")
        assert (first.ignores, second.ignores, third.ignores) == (["seed"], ["seed"], [])
        assert second.fixed == ({"resolution": variant.resolution} if variant.resolution else {})


# The first megapixel, each further one, and each of an input, in micro-dollars.
BY_THE_MEGAPIXEL = {"flux-2-pro": (30_000, 15_000), "flux-2-flex": (50_000, 50_000)}


def test_what_black_forest_labs_takes_follows_its_rule() -> None:
    call_command("load_catalog")
    for route in Route.objects.filter(provider="bfl", upstream_model__in=BY_THE_MEGAPIXEL).select_related():
        first, further = BY_THE_MEGAPIXEL[route.upstream_model]
        megapixels = {"1K": 1, "2K": 4}[route.variant.resolution]
        inputs = megapixels if route.variant.needs_input_picture else 0
        assert route.cost_micros == first + (megapixels - 1) * further + inputs * further
    kontext = Route.objects.filter(provider="bfl", upstream_model__contains="kontext").order_by("cost_micros")
    assert [route.cost_micros for route in kontext] == [40_000, 80_000]


def test_a_new_route_reaches_a_variant_that_is_known_and_edited_ones_stay(load: Any) -> None:
    load("0.05", 'routes = [{ provider = "one" }]')
    Route.objects.update(upstream_model="edited", cost_micros=1)
    variant = load("0.05", 'routes = [{ provider = "one" }, { provider = "two", cost_usd = "0.01" }]')
    assert list(variant.routes.values_list("provider", "upstream_model", "cost_micros", "position")) == [
        ("one", "edited", 1, 0),
        ("two", variant.slug, 10_000, 1),
    ]


def test_a_route_that_was_deleted_stays_away(load: Any) -> None:
    routes = 'routes = [{ provider = "one" }, { provider = "two" }]'
    load("0.05", routes)
    Route.objects.filter(provider="two").delete()
    assert [route.provider for route in load("0.05", routes).routes.all()] == ["one"]


def test_slugs_follow_the_published_example() -> None:
    call_command("load_catalog")
    assert Variant.objects.get(slug=PUBLISHED).name == "flux-2 pro, text-to-image, 1.0s-1K"


def test_loading_twice_changes_nothing() -> None:
    call_command("load_catalog")
    before = list(Variant.objects.values()), list(Price.objects.values()), list(Route.objects.values())
    call_command("load_catalog")
    assert (
        list(Variant.objects.values()),
        list(Price.objects.values()),
        list(Route.objects.values()),
    ) == before


def test_what_was_edited_in_the_admin_stays(load: Any) -> None:
    variant = load("0.05")
    Variant.objects.update(blurb="Paints well.", is_live=False)
    Price.objects.create(variant=variant, micros=60_000)
    again = load("0.05")
    assert (again.blurb, again.is_live, again.price_micros) == ("Paints well.", False, 60_000)


def test_a_dated_price_is_added_and_the_old_one_stays_in_force_until_then(load: Any) -> None:
    load("0.05")
    tomorrow = timezone.now() + timedelta(days=1)
    for _ in range(2):
        variant = load("0.08", f"from = {tomorrow:%Y-%m-%d}")
        assert variant.price_micros == 50_000
    assert sorted(variant.prices.values_list("micros", flat=True)) == [50_000, 80_000]
    assert Variant.objects.priced(tomorrow).get().price_micros == 80_000


@pytest.mark.parametrize(
    ("usd", "more"),
    [
        ("0", ""),
        ("-1", ""),
        ("cheap", ""),
        ("0.0000001", ""),
        ("0.05", 'credits = "5.00"'),
        ("0.05", "= nonsense"),
        ("0.05", 'routes = [{ provider = "one" }, { provider = "one" }]'),
        ("0.05", 'routes = [{ model = "painter" }]'),
        ("0.05", 'routes = [{ provider = "one", cost_usd = "-1" }]'),
    ],
)
def test_a_file_that_does_not_add_up_is_refused_whole(load: Any, usd: str, more: str) -> None:
    with pytest.raises(CommandError):
        load(usd, more)
    assert not Variant.objects.exists()


def test_a_variant_with_no_price_yet_cannot_be_ordered() -> None:
    variant = Variant.objects.create(slug="x", name="x", label="X", kind="text-to-image", blurb="")
    Price.objects.create(variant=variant, micros=1, starts=timezone.now() + timedelta(days=1))
    [known] = catalog.live()
    assert catalog.why_not(known) == "Has no price yet, so it cannot be ordered."
    with pytest.raises(ValueError, match="no price"):
        catalog.quote([known], 1)


@pytest.mark.parametrize(
    ("ratio", "resolution", "size"),
    [
        ("1:1", "1K", (1024, 1024)),
        ("1:1", "2K", (2048, 2048)),
        ("16:9", "2K", (2720, 1536)),
        ("9:16", "2K", (1536, 2720)),
        ("1:1", "", (1024, 1024)),
    ],
)
def test_sizes_have_as_many_pixels_as_the_resolution(
    ratio: str, resolution: str, size: tuple[int, int]
) -> None:
    assert catalog.size(ratio, resolution) == size


def test_the_catalogue_costs_two_queries_however_long_it_is(django_assert_num_queries: Any) -> None:
    variants = Variant.objects.bulk_create(
        Variant(slug=f"v{n}", name=f"v{n}", label=f"V{n}", kind="text-to-image", blurb="") for n in range(288)
    )
    Price.objects.bulk_create(Price(variant=variant, micros=7_000 + variant.pk) for variant in variants)
    assert catalog.is_sandbox()  # asked once in a few seconds, whatever is listed
    with django_assert_num_queries(2):
        listed = catalog.live()
        assert len([catalog.why_not(variant) for variant in listed]) == 288
