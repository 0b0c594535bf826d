import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from playground import checks, environment
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
