"""Every variant of the catalogue, made from Alice's order to her picture, through each kind of upstream."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from accounts import ledger
from accounts.models import User
from playground import catalog, drives, upkeep, uploads
from playground.models import Route, Run, Variant
from tests.driving import drive_until_final, states
from tests.fake_bfl import FakeBFL
from tests.fake_openai import FakeOpenAI
from tests.fake_server import FakeServer
from tests.fake_upstream import FakeUpstream
from tests.making import EDIT, KONTEXT, PRO, USD, give, load_catalogue, run_for
from tests.pictures import photo

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, FakeServer]]:
    behaviour = {"ready_s": 0.1, "picture_kb": 60}
    with FakeUpstream(**behaviour) as one, FakeBFL(**behaviour) as two, FakeOpenAI(**behaviour) as three:
        yield {"aigenerate": one, "kie": one, "bfl": two, "openai": three}


@pytest.fixture
def up(
    name: str, servers: dict[str, FakeServer], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> FakeServer:
    """The one upstream that is set up."""
    server = servers[name]
    server.forget()
    monkeypatch.setattr(drives, "BEAT_S", 0.05)
    for known in servers:
        setattr(settings, f"{known.upper()}_API_KEY", server.api_key if known == name else "")
    setattr(settings, f"{name.upper()}_BASE_URL", server.base_url)
    settings.KIE_UPLOAD_URL = ""
    settings.NET_ALLOWED_HOSTS = [server.host]
    load_catalogue()
    return server


@pytest.fixture
def rich(alice: User) -> User:
    give(alice)
    return alice


def run_of(user: User, variant: Variant, inputs: int) -> Run:
    given = [uploads.take(user, photo(colour)) for colour in ("red", "green", "blue")[:inputs]]
    return run_for(user, variant.slug, inputs=given)


@pytest.mark.parametrize("name", ["aigenerate", "kie", "bfl"])
def test_all_ten_variants_are_made(up: FakeServer, name: str, rich: User) -> None:
    before = ledger.wallet_of(rich).posted
    variants = catalog.live()
    runs = [run_of(rich, variant, variant.fewest_inputs) for variant in variants]
    drive_until_final()
    assert [states(run) for run in runs] == [["succeeded"]] * 10
    assert {job.provider for run in runs for job in run.jobs.all()} == {name}
    assert ledger.wallet_of(rich).posted == before - sum(v.price_micros or 0 for v in variants)
    assert upkeep.audit() == []
    wanted = Route.objects.filter(provider=name, variant__is_live=True).values_list(
        "upstream_model", flat=True
    )
    assert Counter(task["model"] for task in up.stats()["tasks"]) == Counter(wanted)
    given = [len(task["inputs"]) for task in up.stats()["tasks"]]
    assert sorted(given) == [0] * 6 + [1] * 4


@pytest.mark.parametrize("name", ["kie", "bfl"])
def test_kontext_turns_into_an_edit_when_it_is_given_a_picture(up: FakeServer, name: str, rich: User) -> None:
    run = run_of(rich, Variant.objects.get(slug=KONTEXT), 1)
    drive_until_final()
    assert states(run) == ["succeeded"]
    [task] = up.stats()["tasks"]
    assert len(task["inputs"]) == 1 and task["model"].startswith("flux-kontext")


@pytest.mark.parametrize("name", ["bfl"])
def test_what_black_forest_labs_says_it_charges_is_kept_with_the_job(
    up: FakeServer, name: str, rich: User
) -> None:
    run = run_of(rich, Variant.objects.get(slug=PRO), 0)
    drive_until_final()
    assert (
        run.jobs.get().reported_cost_micros == 30_800
    )  # 3 cents, and half as much for a twentieth of a megapixel


@pytest.mark.parametrize("name", ["openai"])
@pytest.mark.parametrize(("slug", "inputs"), [(PRO, 0), (EDIT, 1), (EDIT, 3)])
@pytest.mark.parametrize("with_url", [0, 1])
def test_an_operators_own_server_makes_them_too(
    up: FakeServer, name: str, rich: User, slug: str, inputs: int, with_url: int
) -> None:
    up.behave(with_url=with_url)
    variant = Variant.objects.get(slug=slug)
    Route.objects.create(variant=variant, provider="openai", upstream_model="flux-dev", position=9)
    run = run_of(rich, variant, inputs)
    drive_until_final()
    assert states(run) == ["succeeded"] and ledger.wallet_of(rich).posted < 10 * USD
    [task] = up.stats()["tasks"]
    assert (task["model"], len(task["inputs"]), task["downloads"]) == ("flux-dev", inputs, with_url)
