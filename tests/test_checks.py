import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from playground import checks, environment, seals
from playground.models import Upstream
from tests.conftest import BASE_DIR


def test_a_bad_value_is_an_error_that_points_to_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "problems", [("PREVIEWS_PER_DAY", "must be a whole number, not 'many'")])
    (error,) = checks.values(None)
    assert (error.id, error.is_serious()) == ("playground.E001", True)
    assert error.msg == "PREVIEWS_PER_DAY must be a whole number, not 'many'."
    assert "README.md" in str(error.hint)


def test_allowing_every_host_warns(settings: Any) -> None:
    settings.ALLOWED_HOSTS = ["*"]
    assert [warning.id for warning in checks.hosts(None)] == ["playground.W001"]
    settings.ALLOWED_HOSTS = ["flux.example.com"]
    assert checks.hosts(None) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PREVIEW_PER_DAY", "PREVIEWS_PER_DAY"),
        ("DATBASE_URL", "DATABASE_URL"),
        ("AIGENERATE_KEY", "AIGENERATE_API_KEY"),
        ("XDG_DATA_DIRS", None),
        ("HOME", None),
    ],
)
def test_a_near_miss_is_told_the_right_name(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str | None
) -> None:
    monkeypatch.setattr(os, "environ", {name: "1", "DATA_DIR": "x"})
    hints = [str(warning.hint) for warning in checks.spelling(None)]
    assert [hint.split("?")[0] for hint in hints] == ([f"Did you mean {meant}"] if meant else [])


# --- Upstreams ----------------------------------------------------------------------------------------
def warnings_of(check: Any) -> list[tuple[str, str, str]]:
    return [(found.id, found.msg, str(found.hint)) for found in check(None)]


def test_a_key_that_cannot_be_read_is_named_with_the_way_out(db: None, settings: Any) -> None:
    settings.UPSTREAM_KEYS_SECRETS = ["a" * 32]
    Upstream.objects.create(name="house", kind="bfl", sealed_key=seals.seal("sk-canary"))
    Upstream.objects.create(name="keyless", kind="openai")
    assert warnings_of(checks.sealed_keys) == []
    settings.UPSTREAM_KEYS_SECRETS = ["b" * 32]
    [(code, said, hint)] = warnings_of(checks.sealed_keys)
    assert code == "playground.W003" and "upstream house cannot be read: it was sealed with another" in said
    assert "enter the key anew" in hint
    settings.UPSTREAM_KEYS_SECRETS = []
    [(_, said, hint)] = warnings_of(checks.sealed_keys)
    assert "UPSTREAM_KEYS_SECRET is not set" in said and "Set UPSTREAM_KEYS_SECRET" in hint
    Upstream.objects.update(is_on=False)
    assert warnings_of(checks.sealed_keys) == []


@pytest.mark.parametrize(
    ("base_url", "warns"),
    [
        ("", True),
        ("http://localhost:8000", True),
        ("http://127.0.0.1:8000", True),
        ("http://[::1]", True),
        ("https://192.168.1.7", True),
        ("https://flux", True),
        ("https://flux.local", True),
        ("https://flux.home.arpa", True),
        ("https://flux.example.com", False),
        ("https://93.184.216.34", False),
        ("https://[2606:2800:220:1::1]:8443", False),
    ],
)
def test_an_upstream_that_fetches_inputs_must_reach_us(
    db: None, settings: Any, base_url: str, warns: bool
) -> None:
    settings.BASE_URL = base_url
    Upstream.objects.create(name="sends", kind="aigenerate", inputs_by="upload")
    assert warnings_of(checks.fetched_inputs) == []
    Upstream.objects.create(name="fetches", kind="aigenerate", inputs_by="url")
    found = warnings_of(checks.fetched_inputs)
    assert bool(found) == warns
    if found:
        [(code, said, hint)] = found
        assert code == "playground.W004" and "The upstream fetches" in said and "Set BASE_URL" in hint


def manage_check(tmp_path: Path, *options: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if name not in environment.DOCUMENTED}
    env |= {"DJANGO_SETTINGS_MODULE": "playground.settings", "DATA_DIR": str(tmp_path), **variables}
    argv = [sys.executable, "manage.py", "check", *options]
    return subprocess.run(argv, cwd=BASE_DIR, env=env, capture_output=True, text=True, check=False)


def test_every_mistake_is_shown_at_once_instead_of_a_traceback(tmp_path: Path) -> None:
    wrong = {
        "DATABASE_URL": "postgresql://u:hunter2@h:port/x",
        "EMAIL_URL": "smtp://u:hunter2@h:x",
        "BASE_URL": "http://[x",
        "LOG_LEVEL": "loud",
        "REDIS_URL": "http://x",
        "SECRET_KEY": "short",
        "NET_ALLOWED_HOSTS": "x",
        "AIGENERATE_BASE_URL": "ftp://x",
        "ENGINE_WORKERS": "0",
        "UPSTREAM_KEYS_SECRET": "hunter2",
        "MIN_FREE_MB": "plenty",
        "SIGNUP_GRANT_USD": "ten",
        "SANDBOX_DELAY_S": "soon",
        "DEBUG": "perhaps",
    }
    done = manage_check(tmp_path, **wrong)
    assert done.returncode == 1
    assert done.stderr.count("(playground.E001)") == len(wrong)
    assert all(f"(playground.E001) {name} " in done.stderr for name in wrong)
    assert "hunter2" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("base_url", ["", "https://flux.example.com"])
def test_a_deployment_is_clean(tmp_path: Path, base_url: str) -> None:
    done = manage_check(tmp_path, "--deploy", "--fail-level", "WARNING", BASE_URL=base_url)
    assert (done.returncode, "no issues" in done.stdout) == (0, True), done.stderr
