"""Keys are planted, everything is made to go wrong, and then every place that a key could have got to is searched.

The upstreams repeat our key in what they answer, so that a place which keeps an upstream's words is searched too.
"""

import logging
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django_q.conf import Conf

from accounts.models import User
from playground import drives, engine, jobs, seals, upkeep, upstreams
from playground.models import Job, Picture, Route, ShareLink, Upstream, UpstreamState, Variant
from tests.conftest import BASE_DIR
from tests.driving import drive_until_final
from tests.fake_upstream import FakeUpstream
from tests.making import FLEX_2K, KONTEXT, PRO, give, run_for
from tests.parrot import Parrot

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]

PLANTED = {
    "AIGENERATE_API_KEY": "sk-CanaryOne-4fa1b2c3d4e5",
    "KIE_API_KEY": "sk-CanaryTwo-5fa1b2c3d4e5",
    "BFL_API_KEY": "sk-CanaryThree-6fa1b2c3d4e5",
    "OPENAI_API_KEY": "sk-CanaryFour-7fa1b2c3d4e5",
}
SEALED, TYPED = "sk-CanaryFive-8fa1b2c3d4e5", "sk-CanarySix-9fa1b2c3d4e5"
KEYS_SECRET, SIGNING = "CanarySeven-" + "k" * 32, "CanaryEight-" + "d" * 40
CANARY = re.compile(r"canary(one|two|three|four|five|six|seven|eight)", re.IGNORECASE)
EVERY_VARIANT = {"kie": PRO, "bfl": FLEX_2K, "openai": KONTEXT}


@pytest.fixture
def house(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """All kinds of keys, and an engine that does not wait."""
    for name, key in PLANTED.items():
        setattr(settings, name, key)
    settings.SECRET_KEY, settings.UPSTREAM_KEYS_SECRETS = SIGNING, [KEYS_SECRET]
    settings.JOB_DEADLINE_S = 4
    monkeypatch.setattr(Conf, "SECRET_KEY", SIGNING)  # the queue read it when it was imported
    monkeypatch.setattr(drives, "BEAT_S", 0.05)
    monkeypatch.setattr(upstreams, "FAILURES_TO_OPEN", 10_000)
    upstreams.forget()


@pytest.fixture
def parrot(house: None, settings: Any) -> Iterator[Parrot]:
    with Parrot() as parrot:
        settings.KIE_BASE_URL, settings.BFL_BASE_URL = f"{parrot.url}/api/v1", parrot.url
        settings.OPENAI_BASE_URL = settings.KIE_UPLOAD_URL = f"{parrot.url}/v1"
        settings.NET_ALLOWED_HOSTS = [*settings.NET_ALLOWED_HOSTS, parrot.host]
        yield parrot


@pytest.fixture
def fakes(house: None, settings: Any) -> Iterator[list[FakeUpstream]]:
    """One that knows us by the key of the environment, one by the key that was entered in the admin."""
    keys = [PLANTED["AIGENERATE_API_KEY"], SEALED]
    with (
        FakeUpstream(api_key=keys[0], picture_kb=60) as one,
        FakeUpstream(api_key=keys[1], picture_kb=60) as two,
    ):
        settings.AIGENERATE_BASE_URL = one.base_url
        settings.NET_ALLOWED_HOSTS = [*settings.NET_ALLOWED_HOSTS, one.host, two.host]
        Upstream.objects.create(
            name="house",
            kind="aigenerate",
            base_url=two.base_url,
            sealed_key=seals.seal(SEALED),
            key_hint="d4e5",
        )
        yield [one, two]


@pytest.fixture
def rich(alice: User) -> User:
    give(alice, 100)
    return alice


# --- Searching ----------------------------------------------------------------------------------------
def found_in(text: str | bytes) -> list[str]:
    text = text.decode(errors="replace") if isinstance(text, bytes) else text
    return sorted({match[0] for match in CANARY.finditer(text)})


def assert_clean(places: Iterable[tuple[str, str | bytes]]) -> int:
    """Names every place that has a canary. Returns how many were searched."""
    count, dirty = 0, {}
    for place, text in places:
        count += 1
        if found := found_in(text):
            dirty[place] = found
    assert not dirty
    return count


def tables() -> Iterator[tuple[str, str]]:
    """Every row of every table, whoever's it is: the queue's, sessions and the admin's log too."""
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            for number, row in enumerate(cursor.fetchall()):
                yield (
                    f"{table} {number}",
                    repr(tuple(bytes(v) if isinstance(v, memoryview) else v for v in row)),
                )


def files(*folders: Path) -> Iterator[tuple[str, bytes]]:
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                yield str(path), path.read_bytes()


def data_folders(settings: Any) -> list[Path]:
    """What is written: the pictures; the database as bytes, with what was deleted in it; static files, cache."""
    return [Path(settings.MEDIA_ROOT).parent, Path(settings.DATA_DIR)]


def walk(client: Client, *starts: str, most: int = 250) -> Iterator[tuple[str, bytes]]:
    """Every page that can be reached from here by links: body, headers and cookies."""
    ahead, seen = deque(starts), set(starts)
    for _ in range(most):
        if not ahead:
            return
        at = ahead.popleft()
        response = client.get(at)
        body = b"" if response.status_code == 404 else response.getvalue()
        headers = f"{dict(response.headers)} {response.cookies.output()}".encode()
        yield at, body + headers
        if "text/html" in response.get("Content-Type", ""):
            links = re.findall(r'(?:href|src|hx-get|action)="(/[^"#]*)', body.decode(errors="replace"))
            links += [response["Location"]] if response.get("Location", "").startswith("/") else []
            for link in (link.replace("&amp;", "&") for link in links):
                if link not in seen and not re.search(r"logout|/static/|[?&]o=|/delete/|/lift/|/ask/", link):
                    seen.add(link)
                    ahead.append(link)


def logged_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


# --- What goes wrong ----------------------------------------------------------------------------------
def faults(key: str) -> list[dict[str, Any]]:
    """Each strikes the job whose prompt names it, and says the key wherever it says anything."""
    said = {"msg": f"Nobody knows {key}!", "fail_msg": f"{key} has no credit", "fail_code": key}
    at_create = [{"kind": "status", "status": status} for status in (400, 401, 402, 422, 451, 500, 503)]
    at_create += [{"kind": "envelope", "code": code} for code in (401, 422, 433, 455, 500)]
    at_create += [{"kind": kind} for kind in ("reset", "truncate", "html", "wrong_types", "moderated")]
    at_create += [{"kind": "redirect", "url": f"/{key}?key={key}"}]
    at_look = [{"kind": "status", "status": status, "times": 2} for status in (401, 500)]
    at_look += [{"kind": kind} for kind in ("fail", "moderated", "no_url", "unknown_state")]
    at_look += [{"kind": "envelope", "code": 501}, {"kind": "redirect", "url": f"/{key}", "times": 1}]
    at_file = [{"kind": "status", "status": status} for status in (403, 500)]
    at_file += [{"kind": "gone"}, {"kind": "corrupt_picture"}, {"kind": "redirect", "url": f"/{key}?{key}"}]
    everywhere = {"create": at_create, "look": at_look, "file": at_file}
    return [
        {"where": where, "prompt": f"({where} {number})", **said, **fault}
        for where, these in everywhere.items()
        for number, fault in enumerate(these)
    ]


def only_route(slug: str, provider: str) -> None:
    """So that a job of this variant goes there and nowhere else."""
    variant = Variant.objects.get(slug=slug)
    variant.routes.all().delete()
    Route.objects.create(variant=variant, provider=provider, upstream_model="flux", cost_micros=35_000)


def everything_goes_wrong(user: User, fakes: list[FakeUpstream]) -> None:
    for fake in fakes:
        for fault in faults(fake.api_key):
            fake.fault(**fault)
    prompts = ["all is well", *(fault["prompt"] for fault in faults(""))]
    run_for(user)
    only_route(PRO, "aigenerate"), only_route(FLEX_2K, "house")
    for prompt in prompts:
        run_for(user, PRO, FLEX_2K, prompt=f"a fox {prompt}")
    drive_until_final(40)
    assert not Job.objects.open().exists()


def repeat_after_me(user: User) -> None:
    """Jobs for the upstreams that repeat everything."""
    for provider, slug in EVERY_VARIANT.items():
        only_route(slug, provider)
    for number in range(6):
        run_for(user, *EVERY_VARIANT.values(), prompt=f"a fox and a parrot {number}")
    drive_until_final(40)


# --- The test -----------------------------------------------------------------------------------------
def test_a_planted_key_is_found_by_this_search(tmp_path: Path, alice: User) -> None:
    """The search itself can find: in a page, a table, a file."""
    (tmp_path / "here").write_text(f"key={SEALED}")
    UpstreamState.objects.create(name="x", last_failure=f"no {SEALED.upper()}")
    for places in (files(tmp_path), tables(), [("a page", f"<p>{SEALED}</p>")]):
        with pytest.raises(AssertionError, match=r"(?i)canaryfive"):
            assert_clean(places)


def test_no_key_gets_anywhere_whatever_goes_wrong(
    fakes: list[FakeUpstream],
    parrot: Parrot,
    rich: User,
    charlie: User,
    settings: Any,
    caplog: Any,
    capfd: Any,
) -> None:
    caplog.set_level(logging.DEBUG)
    everything_goes_wrong(rich, fakes)
    repeat_after_me(rich)
    assert parrot.heard == {PLANTED[name] for name in ("KIE_API_KEY", "BFL_API_KEY", "OPENAI_API_KEY")}
    delivered = Job.objects.filter(state=Job.State.SUCCEEDED).values_list("provider", flat=True)
    assert set(delivered) >= {"aigenerate", "house"}
    failures = set(Job.objects.values_list("failure", flat=True))
    assert failures >= {"", "rejected", "moderated", "upstream_failed", "upstream_unavailable", "no_picture"}

    desk = logged_in(charlie)
    deeds = [desk.post(f"/admin/playground/upstream/health/{name}/ask/", follow=True).content for name in
             ("aigenerate", "house", "kie", "bfl", "openai")]  # fmt: skip
    row = Upstream.objects.get(name="house")
    asked = {"kind": "aigenerate", "base_url": row.base_url, "key": TYPED, "is_on": "on", "at_once": ""}
    for wrong in ({"at_once": "0"}, {"remove_key": "on"}, {}):
        at = f"/admin/playground/upstream/{row.pk}/change/"
        deeds.append(desk.post(at, asked | wrong, follow=True).content)
    assert seals.unseal(Upstream.objects.get().sealed_key) == TYPED
    call_command("audit", "--no-files")
    ShareLink.objects.create(user=rich, picture=Picture.objects.first())

    assert_clean((f"deed {number}", page) for number, page in enumerate(deeds))
    failed = Job.objects.exclude(failure="").values_list("pk", "run")[:30]
    jobs_at = [f"/admin/playground/job/{pk}/change/" for pk, _ in failed]
    jobs_at += [f"/admin/playground/job/?failure={failure}" for failure in jobs.EXPLAINED]
    health = "/admin/playground/upstream/health/"
    assert assert_clean(walk(desk, "/admin/", health, "/admin/admin/logentry/", *jobs_at)) > 100
    assert assert_clean(walk(logged_in(rich), "/", "/gallery/", *(f"/runs/{run}/" for _, run in failed))) > 30
    assert assert_clean(walk(Client(), "/", "/admin/", ShareLink.objects.get().get_absolute_url())) > 10
    upkeep.sweep()
    assert assert_clean(tables()) > 500
    assert Job.objects.filter(failure_detail__contains="[key]").count() > 10  # they did say it
    assert assert_clean(files(*data_folders(settings))) > 5
    assert_clean([("the log", caplog.text), ("stdout, stderr", "".join(capfd.readouterr()))])
    assert_clean([("configs", repr(upstreams.configured())), ("drive", repr(vars(engine.Drive("x"))))])


def in_environment(process_env: dict[str, str], fakes: list[FakeUpstream], parrot: Parrot) -> dict[str, str]:
    return process_env | PLANTED | {
        "UPSTREAM_KEYS_SECRET": KEYS_SECRET,
        "SECRET_KEY": SIGNING,
        "LOG_LEVEL": "DEBUG",
        "AIGENERATE_BASE_URL": fakes[0].base_url,
        "KIE_BASE_URL": f"{parrot.url}/api/v1",
        "BFL_BASE_URL": parrot.url,
        "OPENAI_BASE_URL": f"{parrot.url}/v1",
        "NET_ALLOWED_HOSTS": ",".join([parrot.host, *(up.host for up in fakes)]),
    }  # fmt: skip


def manage(command: list[str], env: dict[str, str], out: Any) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "manage.py", *command], cwd=BASE_DIR, env=env, stdout=out, stderr=out
    )


@pytest.mark.kills
def test_a_worker_says_no_key_even_when_it_says_everything(
    fakes: list[FakeUpstream],
    parrot: Parrot,
    rich: User,
    process_env: dict[str, str],
    tmp_path: Path,
    settings: Any,
) -> None:
    settings.JOB_DEADLINE_S = 90
    for fake in fakes:
        fake.fault(**faults(fake.api_key)[1] | {"prompt": "refused"})
    run_for(rich)
    only_route(PRO, "aigenerate"), only_route(FLEX_2K, "house"), only_route(KONTEXT, "kie")
    run_for(rich, PRO, FLEX_2K, KONTEXT, prompt="a fox, refused", count=2)
    env, said = in_environment(process_env, fakes, parrot), tmp_path.parent / f"{tmp_path.name}-said"
    with said.open("wb") as out:
        worker = manage(["worker"], env, out)
        deadline = time.monotonic() + 60
        while Job.objects.open().exists() and time.monotonic() < deadline:
            time.sleep(0.2)
        worker.terminate()
        worker.wait(20)
        manage(["check", "--deploy"], env, out).wait(60)
    told = Job.objects.filter(failure_detail__contains="[key]").values_list("provider", flat=True)
    assert set(told) >= {"aigenerate", "house"} and not Job.objects.open().exists()
    assert_clean([("the worker and the check", said.read_bytes()), *tables(), *files(tmp_path)])
    assert said.read_bytes()
