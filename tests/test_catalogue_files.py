"""The catalogue as a file: out and in again without a loss, and a look before anything changes."""

import random
import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from accounts.models import User
from playground import catalogue_changes
from playground.catalogue_dump import dump
from playground.catalogue_file import MAX_BYTES, NotACatalogue, read
from playground.models import Price, Route, Variant
from tests.catalogues import big
from tests.making import PRO, load_catalogue

pytestmark = pytest.mark.django_db
IMPORT = "/admin/playground/variant/import/"
ONE = """
[[models]]
maker = "Acme"
family = "Painter"
  [[models.variants]]
  name = "painter"
  kind = "text-to-image"
  blurb = "Paints."
  %s
"""


def everything(now: datetime | None = None) -> list[Any]:
    """The catalogue as it counts: without row ids, and without prices that another one followed."""
    now = now or timezone.now()
    columns = [field.name for field in Variant._meta.concrete_fields if field.name != "id"]
    return [
        (
            {name: getattr(variant, name) for name in columns},
            sorted((price.micros, price.starts) for price in _standing(variant, now)),
            [
                (r.provider, r.upstream_model, r.fixed, r.ignores, r.cost_micros, r.position)
                for r in variant.routes.all()
            ],
        )
        for variant in Variant.objects.order_by("slug").prefetch_related("prices", "routes")
    ]


def _standing(variant: Variant, now: datetime) -> list[Price]:
    ahead = [price for price in variant.prices.all() if price.starts > now]
    return ahead + [price for price in variant.prices.all() if price.starts <= now][:1]


def empty() -> None:
    Variant.objects.all().delete()


def sent(desk: Client, text: str | bytes, **more: Any) -> Any:
    data = text.encode() if isinstance(text, str) else text
    return desk.post(IMPORT, {"file": SimpleUploadedFile("c.toml", data), **more})


def applied(desk: Client, text: str, reason: str = "New price list", **more: Any) -> Any:
    page = sent(desk, text, **more).content.decode()
    seen = re.search(r'name="seen" value="(\w+)"', page)
    assert seen, page
    form = {"text": text, "seen": seen[1], "reason": reason, "apply": "Apply", **more}
    return desk.post(IMPORT, form)


# --- There and back -----------------------------------------------------------------------------------
def test_the_shipped_catalogue_comes_back_as_it_was(tmp_path: Any) -> None:
    load_catalogue()
    before, file = everything(), tmp_path / "c.toml"
    call_command("dump_catalog", str(file))
    empty()
    call_command("load_catalog", str(file), verbosity=0)
    assert everything() == before


def test_what_operators_do_to_a_catalogue_survives_the_file(tmp_path: Any) -> None:
    """Odd words, prices ahead, routes in another order, one deleted, gaps in the positions, things TOML cannot say."""
    load_catalogue()
    variant, other = Variant.objects.get(slug=PRO), Variant.objects.exclude(slug=PRO)[0]
    variant.label, variant.blurb = (
        'A "quoted" \\ label 🦊',
        "Tab-free, but ünïcode\N{NO-BREAK SPACE}and a bell-less end.",
    )
    variant.parameters |= {"seed": False, "strange": {"a key": [1, 2.5, True, "x"], "none": None}}
    variant.position, variant.is_live = 400, False
    variant.save()
    Variant.objects.filter(pk=other.pk).update(slug="a-slug-of-its-own", position=7)
    Price.objects.create(variant=variant, micros=1, starts=timezone.now() + timedelta(days=1, microseconds=7))
    Price.objects.create(variant=variant, micros=2, starts=timezone.now() + timedelta(days=9))
    Route.objects.filter(variant=variant, provider="kie").delete()
    Route.objects.filter(variant=variant, provider="bfl").update(position=0, fixed={"n": None})
    Route.objects.filter(variant=variant, provider="aigenerate").update(position=1, cost_micros=0)
    before, text, file = everything(), dump(), tmp_path / "c.toml"
    file.write_text(text)
    empty()
    call_command("load_catalog", str(file), verbosity=0)
    assert everything() == before
    assert dump()[200:] == text[200:]
    call_command("load_catalog", verbosity=0)
    assert not Route.objects.filter(variant__slug=PRO, provider="kie").exists()


def test_a_file_on_its_own_catalogue_changes_nothing() -> None:
    load_catalogue()
    assert catalogue_changes.plan(read(dump())).rows == []


def test_random_catalogues_come_back(tmp_path: Any) -> None:
    dice, file = random.Random(288), tmp_path / "c.toml"
    file.write_text(big(40))
    call_command("load_catalog", str(file), verbosity=0)
    for variant in Variant.objects.all():
        variant.position = dice.randrange(50)
        variant.is_live = dice.random() < 0.7
        variant.label = "".join(dice.choice("ab\"\\#[]{}=,'é漢🦊 ") for _ in range(20)).strip() or "x"
        variant.save()
    before = everything()
    file.write_text(dump())
    empty()
    call_command("load_catalog", str(file), verbosity=0)
    assert everything() == before


def test_the_dump_knows_every_column() -> None:
    """A new one must be written and read, or be left out on purpose."""
    written = {
        "slug",
        "name",
        "label",
        "maker",
        "family",
        "kind",
        "resolution",
        "blurb",
        "parameters",
        "position",
    }
    written |= {"is_live", "routes_brought", "aliases"}
    assert {field.name for field in Variant._meta.concrete_fields} - {"id"} == written
    assert {field.name for field in Route._meta.concrete_fields} - {"id", "variant"} == {
        "provider", "upstream_model", "fixed", "ignores", "cost_micros", "position",
    }  # fmt: skip


# --- 288 of them --------------------------------------------------------------------------------------
def test_288_models_load_in_a_handful_of_statements(
    desk: Client, django_assert_max_num_queries: Any, tmp_path: Any
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(big())
    began = time.perf_counter()
    with django_assert_max_num_queries(30):
        call_command("load_catalog", str(file), verbosity=0)
    assert time.perf_counter() - began < 5
    assert Variant.objects.count() == 288
    assert LogEntry.objects.count() == 288
    with django_assert_max_num_queries(12):
        assert sent(desk, big()).status_code == 200


def test_288_changes_are_applied_in_a_handful_of_statements(
    charlie: User, django_assert_max_num_queries: Any
) -> None:
    entries = read(big())
    catalogue_changes.apply(entries, seen=None, by=charlie, why="First")
    dearer = read(big().replace('usd = "0.0', 'usd = "0.5').replace('cost_usd = "0.5', 'cost_usd = "0.4'))
    with django_assert_max_num_queries(30):
        done = catalogue_changes.apply(dearer, seen=None, by=charlie, why="Dearer")
    assert len(done.changed) > 50
    assert catalogue_changes.plan(dearer).rows == []


# --- The import ---------------------------------------------------------------------------------------
def test_charlie_sees_what_would_change_and_nothing_has(desk: Client) -> None:
    load_catalogue()
    before = everything()
    text = dump().replace('usd = "0.035"', 'usd = "0.04"', 1).replace("FLUX.2 pro 1K", "Pro 1K", 1)
    text = text.replace("later = []", 'later = [{ usd = "0.03", from = 2999-12-01 }]', 1)
    page = sent(
        desk, text + ONE.replace("%s", 'usd = "1"\n  routes = [{ provider = "gpu" }]')
    ).content.decode()
    assert everything() == before
    for told in (
        "<strong>1</strong> added", "<strong>1</strong> changed",
        "price from now</td><td>$0.035</td><td>$0.04",
        "price from 2999-12-01 00:00 UTC</td><td>$0.035</td><td>$0.03",
        "label</td><td>FLUX.2 pro 1K</td><td>Pro 1K",
        "No upstream gpu is set up here",
    ):  # fmt: skip
        assert told in page
    assert not LogEntry.objects.exists()


def test_the_import_is_applied_once_with_its_reason(desk: Client, charlie: User) -> None:
    load_catalogue()
    text = dump().replace('usd = "0.035"', 'usd = "0.04"', 1)
    for _ in range(2):
        page = sent(desk, text).content.decode()
        if seen := re.search(r'name="seen" value="(\w+)"', page):
            form = {"text": text, "seen": seen[1], "reason": "Dearer upstream", "apply": "Apply"}
        answer = desk.post(IMPORT, form, follow=True)
    assert b"Nothing was left to change" in answer.content
    changed = Variant.objects.priced().get(price_micros=40_000)
    assert list(changed.prices.values_list("micros", flat=True)) == [40_000, 35_000]
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (charlie, str(changed.pk))
    assert entry.change_message.startswith("By a catalogue file: price from now: $0.035 -> $0.04")
    assert entry.change_message.endswith(": Dearer upstream")


def test_nothing_is_applied_without_a_reason(desk: Client) -> None:
    load_catalogue()
    before = everything()
    text = dump().replace('usd = "0.035"', 'usd = "0.04"', 1)
    answer = desk.post(IMPORT, {"text": text, "apply": "Apply", "reason": "  "})
    assert (answer.status_code, b"Say why" in answer.content) == (422, True)
    assert everything() == before


def test_a_reason_that_is_no_text_is_none(desk: Client) -> None:
    answer = applied(desk, ONE.replace("%s", 'usd = "1"'), reason="\x00")
    assert answer.status_code == 422 and b"Say why" in answer.content


def test_a_catalogue_that_changed_meanwhile_is_looked_at_again(desk: Client) -> None:
    load_catalogue()
    text = dump().replace('usd = "0.035"', 'usd = "0.04"', 1)
    seen = re.search(r'name="seen" value="(\w+)"', sent(desk, text).content.decode())
    Variant.objects.filter(slug=PRO).update(blurb="Edited by a colleague.")
    before = everything()
    assert seen
    form = {"text": text, "seen": seen[1], "reason": "x", "apply": "Apply"}
    answer = desk.post(IMPORT, form)
    assert (answer.status_code, b"has changed since" in answer.content) == (409, True)
    assert b"Edited by a colleague." in answer.content
    assert everything() == before


def test_what_the_file_does_not_name_stays_unless_it_is_to_go(desk: Client) -> None:
    load_catalogue()
    text = ONE.replace("%s", 'usd = "1"')
    assert b"10 not in the file: they stay" in sent(desk, text).content
    applied(desk, text)
    assert Variant.objects.live().count() == 11
    applied(desk, text, drops_unknown="on")
    assert [variant.name for variant in Variant.objects.live()] == ["painter"]
    assert LogEntry.objects.filter(change_message__contains="on: yes -> no").count() == 10


def test_prices_ahead_are_as_the_file_lists_them(desk: Client) -> None:
    ahead = 'usd = "1"\n  later = [{ usd = "2", from = 2999-01-01 }, { usd = "3", from = 2999-02-01 }]'
    applied(desk, ONE.replace("%s", ahead))
    applied(desk, ONE.replace("%s", 'usd = "1"\n  later = [{ usd = "4", from = 2999-02-01 }]'))
    prices = Variant.objects.get().prices
    assert list(prices.values_list("micros", flat=True)) == [4_000_000, 1_000_000]
    applied(desk, ONE.replace("%s", 'usd = "1"\n  routes = []\n  resolution = "1K"'))
    assert prices.count() == 2
    applied(desk, ONE.replace("%s", 'usd = "1"\n  later = []\n  resolution = "1K"'))
    assert prices.count() == 1


def test_a_file_from_before_a_change_does_not_bring_the_old_price_back() -> None:
    start = timezone.now()
    call_text = ONE.replace("%s", 'usd = "1"\n  later = [{ usd = "2", from = 2999-01-01 }]')
    for entry in [read(call_text)]:
        catalogue_changes.apply(entry, seen=None, by=User.objects.create_user("x@example.org"), why="x")
    exported = dump(start)
    with time_machine.travel(datetime(2999, 1, 2, tzinfo=UTC), tick=False):
        assert catalogue_changes.plan(read(exported)).rows == []


def test_routes_are_added_changed_and_removed_by_the_file(desk: Client) -> None:
    one = 'usd = "1"\n  routes = [{ provider = "a" }, { provider = "b", cost_usd = "0.5" }]'
    applied(desk, ONE.replace("%s", one))
    applied(
        desk,
        ONE.replace(
            "%s", 'usd = "1"\n  routes = [{ provider = "b", cost_usd = "0.25" }, { provider = "c" }]'
        ),
    )
    routes = Variant.objects.get().routes.values_list("provider", "cost_micros", "position")
    assert list(routes) == [("b", 250_000, 0), ("c", 1_000_000, 1)]


def test_staff_without_the_right_export_and_never_import(bob: User) -> None:
    from django.contrib.auth.models import Permission  # noqa: PLC0415

    bob.is_staff = True
    bob.save()
    client = Client()
    client.force_login(bob)
    assert client.get("/admin/playground/variant/export/").status_code == 403
    bob.user_permissions.add(Permission.objects.get(codename="view_variant"))
    assert client.get("/admin/playground/variant/export/").status_code == 200
    assert client.get(IMPORT).status_code == 403
    assert sent(client, ONE.replace("%s", 'usd = "1"')).status_code == 403


def test_the_command_says_what_it_would_do_and_needs_a_reason(tmp_path: Any, capsys: Any) -> None:
    load_catalogue()
    file = tmp_path / "c.toml"
    file.write_text(dump().replace('usd = "0.035"', 'usd = "0.04"', 1))
    before = everything()
    call_command("load_catalog", str(file), "--dry-run")
    assert "price from now: $0.035 -> $0.04" in capsys.readouterr().out
    with pytest.raises(CommandError, match="--reason"):
        call_command("load_catalog", str(file), "--replace")
    assert everything() == before
    call_command("load_catalog", str(file), "--replace", "--reason", "Dearer")
    assert Variant.objects.priced().filter(price_micros=40_000).count() == 1
    assert "Dearer (manage.py load_catalog" in LogEntry.objects.get().change_message


# --- What is no catalogue -----------------------------------------------------------------------------
VARIANT = 'name = "x"\n kind = "text-to-image"\n blurb = "b"\n'


@pytest.mark.once
@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('usd = "-1"', "usd must be more than 0"),
        ("usd = nan", "usd must be an amount"),
        ("usd = inf", "usd must be an amount"),
        ("usd = true", "usd must be an amount"),
        ('usd = "1e999999999"', "usd must be"),
        ('usd = "0.0000001"', "six decimals"),
        ('usd = "1001"', "at most 1000"),
        ('usd = ["1"]', "usd must be an amount"),
        ('usd = "1"\n slug = "ünï-cödé"', "slug must have only"),
        ('usd = "1"\n slug = 7', "slug must have only"),
        ('usd = "1"\n colour = "red"', "“colour” is not known here"),
        ('usd = "1"\n from = "tomorrow"', "from must be a date"),
        ('usd = "1"\n later = 1', "later must be a list"),
        ('usd = "1"\n later = [{ usd = "1" }]', "later prices needs usd and from"),
        ('usd = "1"\n position = -1', "position must be"),
        ('usd = "1"\n on = "yes"', "on must be true or false"),
        ('usd = "1"\n label = "%s"' % ("l" * 61), "label has 61 characters"),
        ('usd = "1"\n label = "a\\u0000b"', "cannot be shown"),
        ('usd = "1"\n resolution = 1', "resolution must be text"),
        ('usd = "1"\n parameters = 1', "parameters must be a table"),
        ('usd = "1"\n parameters = { aspect_ratios = ["wide"] }', "aspect_ratios must be"),
        ('usd = "1"\n parameters = { prompt = { min = 5, max = 1 } }', "prompt must be"),
        ('usd = "1"\n parameters = { x = 1979-05-27 }', "neither text"),
        ('usd = "1"\n parameters = { x = nan }', "neither text"),
        ('usd = "1"\n parameters.a.a.a.a.a.a.a.a.a = 1', "nested too deeply"),
        ('usd = "1"\n routes = [{ provider = "sandbox" }]', "needs a provider"),
        ('usd = "1"\n routes = [{ provider = "é" }]', "needs a provider"),
        ('usd = "1"\n routes = [{ provider = "a" }, { provider = "a" }]', "two routes to one"),
        ("", "needs a price"),
        ('on = false\n routes = [{ provider = "a" }]', "needs a cost_usd"),
    ],
)
def test_each_mistake_is_told_in_plain_words_with_its_place(line: str, told: str) -> None:
    text = f'[[models]]\nmaker = "A"\nfamily = "F"\n[[models.variants]]\n{VARIANT}{line}\n'
    with pytest.raises(NotACatalogue) as error:
        read(text)
    [problem] = error.value.problems
    assert problem.startswith("line 4, model 1, variant 1 (")
    assert told in problem


@pytest.mark.once
@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"x" * (MAX_BYTES + 1), "are the most"),
        (b"\xff\xfe", "not text in UTF-8"),
        (b"", "no [[models]]"),
        (b"models = 1", "no [[models]]"),
        (b"models = [1]", "no [[models]]"),
        (b"[[models]]", "no [[models.variants]]"),
        (b"[[models]]\nvariants = [1]", "no [[models.variants]]"),
        (b"[[models]]\n[[models]", "not TOML"),
        (b"x = " + b"[" * 100_000, "nested too deeply"),
        (b"x = " + b"9" * 10_000, "not TOML"),
        (b"hello = 1", "is not known here"),
        (b"[[models]]\nname = '''\xc3\xa9", "not TOML"),
    ],
)
def test_a_hostile_file_is_refused_in_a_moment(data: bytes, told: str) -> None:
    began = time.perf_counter()
    with pytest.raises(NotACatalogue) as error:
        read(data)
    assert told in error.value.problems[0]
    assert time.perf_counter() - began < 2


@pytest.mark.once
def test_twice_the_same_slug_is_refused_and_all_mistakes_come_at_once() -> None:
    one = f'[[models.variants]]\n{VARIANT}usd = "1"\n'
    text = f'[[models]]\nmaker = "A"\nfamily = "F"\n{one}{one}{one.replace("1", "-1")}'
    with pytest.raises(NotACatalogue) as error:
        read(text)
    assert len(error.value.problems) == 2
    assert error.value.problems[1] == "a-a-x: is in the file more than once"


@pytest.mark.once
def test_money_without_quotes_is_exact() -> None:
    [entry] = read(ONE.replace("%s", "usd = 0.035\n  credits = 5.00"))
    assert entry.price
    assert entry.price.micros == 35_000


def test_ten_megabytes_are_refused_with_a_page(desk: Client) -> None:
    answer = sent(desk, b"# " + b"x" * 10_000_000)
    assert answer.status_code == 422
    assert b"are the most" in answer.content


def test_markup_in_a_file_is_only_text(desk: Client) -> None:
    page = sent(
        desk, ONE.replace("%s", 'usd = "1"\n  label = "<script>x"').replace("Paints.", "</textarea><b>")
    )
    assert b"<script>x" not in page.content
    assert b"</textarea><b>" not in page.content
