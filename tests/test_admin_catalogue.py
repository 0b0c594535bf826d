"""The forms of the catalogue at the desk take what its file takes: nothing breaks a database, and all of it comes back."""

import json
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from playground import catalogue_changes
from playground.catalogue_dump import dump
from playground.catalogue_file import read
from playground.models import Price, Route, Upstream, Variant
from tests.making import PRO, load_catalogue
from tests.test_admin import variant_form
from tests.test_admin_upstreams import add

A_PRICE = {
    "prices-TOTAL_FORMS": 1,
    "prices-0-usd": "0.07",
    "prices-0-starts_0": "2100-01-01",
    "prices-0-starts_1": "00:00",
}


def pro() -> Variant:
    load_catalogue()
    return Variant.objects.get(slug=PRO)


def save(desk: Client, variant: Variant, **changes: Any) -> Any:
    form = variant_form(variant, **{"aliases": json.dumps(variant.aliases), "reason": "For a test"} | changes)
    return desk.post(f"/admin/playground/variant/{variant.pk}/change/", form)


def a_route(**changes: Any) -> dict[str, Any]:
    told = {
        "provider": "gpu",
        "upstream_model": "m",
        "usd": "0.01",
        "fixed": "{}",
        "ignores": "[]",
        "position": 0,
    }
    return {"routes-TOTAL_FORMS": 1} | {f"routes-0-{name}": value for name, value in (told | changes).items()}


STRANGE = [
    '{"a": NaN}', '{"a": 1e400}', '{"a": "\\u0000"}', '{"a": "\\ud800"}', f'{{"a": {"9" * 5000}}}',
    '{"a": [[[[[[[1]]]]]]]}', '{"a":' * 3000 + "1" + "}" * 3000,
]  # fmt: skip


@pytest.mark.parametrize("value", STRANGE)
def test_json_that_no_database_or_file_can_keep_is_refused_in_words(desk: Client, value: str) -> None:
    variant = pro()
    for changes in ({"parameters": value}, {"aliases": f"[{value}]"}, a_route(fixed=value)):
        answer = save(desk, variant, **changes)
        assert answer.status_code == 200
        assert (
            b"cannot be kept" in answer.content
            or b"valid JSON" in answer.content
            or b"list of names" in answer.content
        )
    answer = add(desk, key="", at_once_by_model=value)
    assert answer.status_code == 200 and not Upstream.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a\tb"},
        {"label": "a\x7fb"},
        {"aliases": json.dumps(["x" * 201])},
        {"position": 2_000_000},
        a_route(upstream_model="a\tb"),
        a_route(ignores=json.dumps(["x" * 201])),
        a_route(position=2_000_000),
    ],
)
def test_what_its_own_file_would_refuse_is_refused_at_the_form(desk: Client, changes: dict[str, Any]) -> None:
    variant = pro()
    answer = save(desk, variant, **changes)
    assert answer.status_code == 200 and b"errorlist" in answer.content
    read(dump())


@pytest.mark.django_db
def test_gaps_between_the_places_of_routes_survive_the_file() -> None:
    variant = pro()
    Route.objects.filter(variant=variant, provider="bfl").update(position=7)
    assert catalogue_changes.plan(read(dump())).rows == []


@pytest.mark.parametrize("row", [A_PRICE, a_route()])
def test_a_form_that_is_sent_twice_adds_once_and_says_so(desk: Client, row: dict[str, Any]) -> None:
    variant = pro()
    before = Price.objects.count() + Route.objects.count()
    for _ in range(2):
        with transaction.atomic():
            assert save(desk, variant, **row).status_code == 302
    assert Price.objects.count() + Route.objects.count() == before + 1
    assert b"was saved a moment ago" in desk.get("/admin/").content
