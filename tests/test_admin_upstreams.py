"""Charlie sets up upstreams: what he may enter, and that a key goes in and never comes out again."""

import json
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

from accounts.models import User
from playground import seals, upstreams
from playground.models import Route, Upstream, Variant
from tests.making import PRO, give, job_for, load_catalogue

KEY = "sk-live-0123456789-canary"
LIST = "/admin/playground/upstream/"


@pytest.fixture
def desk(charlie: User, settings: Any) -> Client:
    settings.UPSTREAM_KEYS_SECRETS = ["s" * 32]
    upstreams.forget()
    client = Client()
    client.force_login(charlie)
    return client


def form(**changes: Any) -> dict[str, Any]:
    asked = {
        "name": "house", "kind": "aigenerate", "base_url": "https://flux.example.org/v1", "upload_url": "",
        "inputs_by": "", "is_on": "on", "key": KEY, "reason": "As agreed", "usd_per_day": "", "at_once": "",
        "at_once_by_model": "{}", "result_hosts": "[]",
    }  # fmt: skip
    return asked | changes


def add(desk: Client, **changes: Any) -> Any:
    return desk.post(f"{LIST}add/", form(**changes))


def change(desk: Client, row: Upstream, **changes: Any) -> Any:
    return desk.post(f"{LIST}{row.pk}/change/", form(key="", **changes), follow=True)


def errors(page: Any) -> str:
    return " ".join(re.findall(r"errorlist[^>]*>(.*?)</ul>", page.content.decode(), re.DOTALL))


# --- Keys ---------------------------------------------------------------------------------------------
def test_a_key_is_sealed_and_the_upstream_can_be_asked_with_it(desk: Client) -> None:
    assert add(desk).status_code == 302
    row = Upstream.objects.get()
    assert KEY not in row.sealed_key and seals.unseal(row.sealed_key) == KEY
    assert upstreams.configured()["house"].api_key == KEY


def test_a_key_never_comes_out_again(desk: Client) -> None:
    add(desk)
    row = Upstream.objects.get()
    page = desk.get(f"{LIST}{row.pk}/change/").content.decode()
    assert "ends in \N{HORIZONTAL ELLIPSIS}nary" in page and 'autocomplete="new-password"' in page
    wrong = desk.post(f"{LIST}{row.pk}/change/", form(at_once="0"))
    seen = [page, wrong.content.decode(), desk.get(LIST).content.decode()]
    seen += [desk.get(f"{LIST}{row.pk}/history/").content.decode()]
    seen += [entry.change_message + entry.object_repr for entry in LogEntry.objects.all()]
    assert not any(secret in text for text in seen for secret in (KEY, row.sealed_key))


def test_a_short_key_shows_nothing_of_itself(desk: Client) -> None:
    add(desk, key="sk-short")
    assert Upstream.objects.get().key_hint == ""
    assert b"ends in" not in desk.get(f"{LIST}{Upstream.objects.get().pk}/change/").content


def test_an_empty_field_keeps_the_key_and_a_box_removes_it(desk: Client) -> None:
    add(desk)
    row = Upstream.objects.get()
    change(desk, row, usd_per_day="2.5")
    row.refresh_from_db()
    assert seals.unseal(row.sealed_key) == KEY and row.limit_micros_per_day == 2_500_000
    page = change(desk, row, remove_key="on")
    row.refresh_from_db()
    assert (row.sealed_key, row.key_hint) == ("", "")
    assert b"It cannot be asked yet" in page.content


def test_a_new_key_and_the_removal_of_the_old_one_contradict_each_other(desk: Client) -> None:
    assert "Either enter a new key" in errors(add(desk, remove_key="on"))


def test_without_a_secret_a_key_is_refused_and_the_rest_can_be_saved(desk: Client, settings: Any) -> None:
    settings.UPSTREAM_KEYS_SECRETS = []
    assert "set UPSTREAM_KEYS_SECRET in the environment" in errors(add(desk))
    assert not Upstream.objects.exists()
    assert add(desk, key="").status_code == 302


# --- The other fields ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "sandbox", "The sandbox is built in"),
        ("name", "a b", "valid"),
        ("base_url", "ftp://example.org", "Must begin with http:// or https://"),
        ("base_url", "https://", "Must begin with http:// or https://"),
        ("base_url", "https://[x", "Must begin with http:// or https://"),
        ("base_url", "https://u:canary@example.org", "without a password"),
        ("base_url", "https://example.org/?key=canary", "without a password"),
        ("upload_url", "example.org", "Must begin with http:// or https://"),
        ("usd_per_day", "-1", "greater than or equal to 0"),
        ("usd_per_day", "0.0000001", "decimal places"),
        ("at_once", "0", "at least 1"),
        ("at_once_by_model", "[1]", "such as"),
        ("at_once_by_model", '{"m": 0}', "such as"),
        ("at_once_by_model", '{"m": true}', "such as"),
        ("at_once_by_model", "nonsense", "valid JSON"),
        ("result_hosts", '"example.org"', "such as"),
        ("result_hosts", '["https://example.org"]', "such as"),
        ("key", "has space", "characters that no key has"),
        ("key", "schlüssel", "characters that no key has"),
    ],
)
def test_what_cannot_be_right_is_refused_in_plain_words(
    desk: Client, field: str, value: str, said: str
) -> None:
    assert said in errors(add(desk, **{field: value}))
    assert not Upstream.objects.exists()


def test_everything_that_can_be_set_up_reaches_the_upstream(desk: Client) -> None:
    filled = form(
        base_url="http://gpu:8000/v1/", upload_url="https://up.example.org", inputs_by="upload", at_once="7",
        at_once_by_model='{"flux-2": 2}', result_hosts='["Cdn.Example.org"]', usd_per_day="0.035",
    )  # fmt: skip
    assert desk.post(f"{LIST}add/", filled).status_code == 302
    config = upstreams.configured()["house"]
    assert (config.base_url, config.upload_url) == ("http://gpu:8000/v1", "https://up.example.org")
    assert (config.inputs_by, config.result_hosts) == ("upload", ("cdn.example.org",))
    assert dict(config.most_at_once) == {"": 7, "flux-2": 2} and config.limit_micros_per_day == 35_000


def test_empty_json_means_none(desk: Client) -> None:
    assert add(desk, at_once_by_model="", result_hosts="").status_code == 302
    row = Upstream.objects.get()
    assert (row.at_once_by_model, row.result_hosts) == ({}, [])


def test_the_name_stays_because_routes_and_jobs_know_it(desk: Client) -> None:
    add(desk)
    row = Upstream.objects.get()
    change(desk, row, name="other")
    row.refresh_from_db()
    assert row.name == "house"


def test_an_upstream_with_jobs_is_not_deleted(alice: User, desk: Client) -> None:
    give(alice)
    job = job_for(alice)
    row = Upstream.objects.create(name="house", kind="openai")
    type(job).objects.update(provider="house")
    gone = f"{LIST}{row.pk}/delete/"
    assert desk.post(gone, {"post": "yes"}).status_code == 403
    type(job).objects.update(provider="sandbox")
    assert desk.post(gone, {"post": "yes", "reason": "Not used", "once": "1"}).status_code == 302
    assert not Upstream.objects.exists()


def test_an_upstream_and_its_dollar_limit_go_with_a_reason_alone(desk: Client, charlie: User) -> None:
    row = Upstream.objects.create(name="house", kind="openai", limit_micros_per_day=5_000_000)
    gone = f"{LIST}{row.pk}/delete/"
    assert b"This field is required" in desk.post(gone, {"post": "yes", "reason": " ", "once": "1"}).content
    assert Upstream.objects.exists()
    desk.post(gone, {"reason": "Too dear", "once": "1"})
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_repr) == (charlie, "house")
    assert entry.change_message == "Deleted, with a limit of $5.00 a day: Too dear"
    assert not Upstream.objects.exists()


def test_bob_whose_work_is_something_else_sees_no_upstream(bob: User) -> None:
    bob.is_staff = True
    bob.save()
    bob.user_permissions.set(Permission.objects.filter(codename="view_job"))
    client = Client()
    client.force_login(bob)
    assert client.get(LIST).status_code == client.get(f"{LIST}add/").status_code == 403


# --- Routes -------------------------------------------------------------------------------------------
def save_route(desk: Client, variant: Variant, **changes: Any) -> Any:
    fields = ("name", "label", "maker", "family", "kind", "resolution", "blurb", "position")
    route = {
        "provider": "house", "upstream_model": "flux-2/pro", "usd": "0.025", "fixed": '{"resolution": "1K"}',
        "ignores": '["seed"]', "position": "3",
    } | changes  # fmt: skip
    asked = {name: getattr(variant, name) for name in fields} | {"is_live": "on", "reason": "A new upstream"}
    asked["parameters"] = json.dumps(variant.parameters)
    asked |= {"prices-TOTAL_FORMS": 0, "prices-INITIAL_FORMS": 0}
    asked |= {"routes-TOTAL_FORMS": 1, "routes-INITIAL_FORMS": 0}
    asked |= {f"routes-0-{name}": value for name, value in route.items()}
    return desk.post(f"/admin/playground/variant/{variant.pk}/change/", asked)


def test_a_route_is_entered_in_dollars(desk: Client) -> None:
    load_catalogue()
    variant = Variant.objects.get(slug=PRO)
    variant.routes.all().delete()
    assert save_route(desk, variant).status_code == 302
    route = Route.objects.get(variant=variant)
    assert (route.provider, route.upstream_model, route.cost_micros) == ("house", "flux-2/pro", 25_000)
    assert (route.fixed, route.ignores, route.position) == ({"resolution": "1K"}, ["seed"], 3)
    page = desk.get(f"/admin/playground/variant/{variant.pk}/change/").content.decode()
    assert re.search(r'name="routes-0-usd" value="0\.025"', page)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("provider", "sandbox", "needs no route"),
        ("provider", "a b", "letters, digits"),
        ("usd", "-0.01", "greater than or equal to 0"),
        ("usd", "", "required"),
        ("usd", "0.0000001", "decimal places"),
        ("fixed", "[1]", "parameters and their values"),
        ("ignores", '{"seed": 1}', "list of parameters"),
        ("ignores", "[7]", "list of parameters"),
    ],
)
def test_a_route_that_cannot_be_right_is_refused(desk: Client, field: str, value: str, said: str) -> None:
    load_catalogue()
    variant = Variant.objects.get(slug=PRO)
    variant.routes.all().delete()
    assert said in errors(save_route(desk, variant, **{field: value}))
    assert not variant.routes.exists()


def test_the_dollar_limit_changes_with_a_reason_and_the_trail_has_both_amounts(desk: Client) -> None:
    add(desk)
    row = Upstream.objects.get()
    assert "Say why" in errors(desk.post(f"{LIST}{row.pk}/change/", form(usd_per_day="2.5", reason="")))
    change(desk, row, usd_per_day="2.5", reason="They raised our quota")
    newest = LogEntry.objects.latest("pk").change_message
    assert "usd_per_day: empty -> 2.5" in newest and newest.endswith(": They raised our quota")
