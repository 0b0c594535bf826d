"""The catalogue for programs: whole, cached, for everybody."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from playground import catalog
from playground.models import Price, Variant
from tests.calling import Api
from tests.making import EDIT, KONTEXT, PRO, load_catalogue

PLACES = ["/api/v1/models", "/v1/models"]


@pytest.fixture
def catalogue(db: None) -> None:
    load_catalogue()


def listed(client: Client, path: str = PLACES[0]) -> dict[str, Any]:
    response = client.get(path)
    assert response.status_code == 200 and response["Content-Type"] == "application/json"
    body = response.json()
    assert body["object"] == "list"
    return {entry["id"]: entry for entry in body["data"]}


@pytest.mark.parametrize("path", PLACES)
def test_everything_on_offer_is_listed_with_its_price(catalogue: None, client: Client, path: str) -> None:
    found = listed(client, path)
    assert set(found) == set(Variant.objects.live().values_list("slug", flat=True))
    entry = found[PRO]
    assert entry["object"] == "model" and entry["owned_by"] == "Black Forest Labs"
    assert entry["pricing"] == {"usd": "0.0350", "credits": 5.0, "micro_usd": 35_000}
    assert "flux-2/pro-text-to-image" in entry["aliases"] and entry["resolution"] == "1K"
    assert entry["parameters"]["prompt"] == {"min": 3, "max": 5000}
    assert (
        "16:9" in entry["parameters"]["aspect_ratios"] and "auto" not in entry["parameters"]["aspect_ratios"]
    )
    assert found[EDIT]["parameters"]["input_images"] == {"min": 1, "max": 8}
    assert "auto" in found[EDIT]["parameters"]["aspect_ratios"]
    assert found[KONTEXT]["parameters"]["resolutions"] == []


def test_created_is_when_it_was_first_for_sale(catalogue: None, client: Client) -> None:
    first = Price.objects.filter(variant__slug=PRO).earliest("starts")
    Price.objects.create(variant=first.variant, micros=40_000)
    catalog.forget()
    entry = listed(client)[PRO]
    assert entry["created"] == int(first.starts.timestamp()) and entry["pricing"]["micro_usd"] == 40_000


@pytest.mark.parametrize("path", PLACES)
@pytest.mark.parametrize("name", [PRO, "flux-2/pro-text-to-image"])
def test_one_model_by_its_id_or_an_alias(catalogue: None, client: Client, path: str, name: str) -> None:
    assert client.get(f"{path}/{name}").json()["id"] == PRO


@pytest.mark.parametrize("path", PLACES)
def test_a_model_that_is_not_there_is_404_in_openais_words(
    catalogue: None, client: Client, path: str
) -> None:
    Variant.objects.filter(slug=KONTEXT).update(is_live=False)
    catalog.forget()
    for name in ("flux-9", KONTEXT, "../../etc/passwd", "x" * 500):
        response = client.get(f"{path}/{name}")
        assert response.status_code == 404, name
        assert response.json()["error"]["code"] in ("model_not_found", "not_found")


def test_what_has_not_changed_is_not_sent_again(catalogue: None, client: Client) -> None:
    first = client.get(PLACES[0])
    again = client.get(PLACES[0], headers={"If-None-Match": first["ETag"]})
    assert again.status_code == 304 and not again.content and "max-age=60" in again["Cache-Control"]
    Variant.objects.filter(slug=PRO).update(label="Another name")
    catalog.forget()
    changed = client.get(PLACES[0], headers={"If-None-Match": first["ETag"]})
    assert changed.status_code == 200 and changed["ETag"] != first["ETag"]


def test_a_second_caller_costs_no_query(catalogue: None, client: Client) -> None:
    listed(client)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        listed(client)
    assert len(queries) == 0


def test_a_key_is_not_needed_but_must_be_good(catalogue: None, alice: User) -> None:
    api = Api(alice)
    assert api.get(PLACES[0]).status_code == 200
    assert "Authorization" in api.get(PLACES[0])["Vary"]
    for wrong in ("Bearer sk-aig-" + "a" * 38, "Basic abc", "Bearer"):
        for path in (*PLACES, f"{PLACES[0]}/{PRO}"):
            response = Client().get(path, headers={"Authorization": wrong})
            assert response.status_code == 401 and response.json()["error"]["type"] == "authentication_error"
