import os
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from playground import environment as env
from tests.conftest import BASE_DIR


@pytest.fixture(autouse=True)
def problems(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """The mistakes found in this test."""
    found: list[tuple[str, str]] = []
    monkeypatch.setattr(env, "problems", found)
    return found


SQLITE = {"ENGINE": "playground.sqlite3", "NAME": "/data/db.sqlite3"}
DB = Path("/data/db.sqlite3")


@pytest.mark.parametrize(
    ("read", "value", "result"),
    [
        (lambda: env.text("X", "default"), "  ", "default"),
        (lambda: env.words("X"), "a, b,,c ", ["a", "b", "c"]),
        (lambda: env.whole("X", 3), "0", 0),
        (lambda: env.seconds("X", "3"), "2.5", Decimal("2.5")),
        (lambda: env.usd("X", "1"), "$0.35", 350_000),
        (lambda: env.usd("X", "1"), "", 1_000_000),
        (lambda: env.cents("X", "5,10"), "20, $2.50,20", [250, 2000]),
        (lambda: env.cents("X", "5,10"), "", [500, 1000]),
        (lambda: env.address("X"), "olga@example.org", "olga@example.org"),
        (lambda: env.yes("X"), "On", True),
        (lambda: env.choice("X", "INFO", ["INFO", "DEBUG"]), "debug", "DEBUG"),
        (lambda: env.origin("X").geturl(), "https://flux.example.com/", "https://flux.example.com"),
        (lambda: env.origin("X").geturl(), "http://[::1]:8000", "http://[::1]:8000"),
        (lambda: env.origin("X").geturl(), "", ""),
        (
            lambda: env.http_url("X", "https://a/v1"),
            "http://127.0.0.1:9000/api/v1/",
            "http://127.0.0.1:9000/api/v1",
        ),
        (lambda: env.host_ports("X"), "Localhost:9000, [::1]:80", ["localhost:9000", "[::1]:80"]),
        (lambda: env.redis_url("X"), "redis://127.0.0.1:6379/1", "redis://127.0.0.1:6379/1"),
        (lambda: env.database("X", DB), "", SQLITE),
        (lambda: env.database("X", DB)["NAME"], "sqlite:////data/a%2Bb.sqlite3", "/data/a+b.sqlite3"),
        (
            lambda: env.database("X", DB)["NAME"],
            "sqlite:///here.sqlite3",
            str(Path("here.sqlite3").absolute()),
        ),
        (lambda: env.database("X", DB)["PORT"], "postgresql://u:p@h:5432/flux", 5432),
        (lambda: env.mail("X")["EMAIL_USE_TLS"], "smtp+tls://u:p@mail.example.com:587", True),
        (lambda: env.mail("X")["EMAIL_BACKEND"], "", "django.core.mail.backends.console.EmailBackend"),
    ],
)
def test_a_good_value_is_read(
    monkeypatch: pytest.MonkeyPatch, problems: list[Any], read: Callable[[], Any], value: str, result: Any
) -> None:
    monkeypatch.setenv("X", value)
    assert read() == result
    assert problems == []


@pytest.mark.parametrize(
    ("read", "value", "default"),
    [
        (lambda: env.whole("X", 3), "three", 3),
        (lambda: env.whole("X", 3, least=1), "0", 3),
        (lambda: env.whole("X", 3), "-1", 3),
        (lambda: env.seconds("X", "3"), "NaN", Decimal("3")),
        (lambda: env.seconds("X", "3"), "-1", Decimal("3")),
        (lambda: env.usd("X", "1"), "0.0000001", 1_000_000),
        (lambda: env.usd("X", "1"), "Infinity", 1_000_000),
        (lambda: env.usd("X", "1"), "-5", 1_000_000),
        (lambda: env.usd("X", "1"), "1e999999", 1_000_000),
        (lambda: env.usd("X", "1"), "1000000000.01", 1_000_000),
        (lambda: env.cents("X", "5,10"), "1e999999", [500, 1000]),
        (lambda: env.seconds("X", "3"), "1e999999", Decimal("3")),
        (lambda: env.whole("X", 3), "9" * 4000, 3),
        (lambda: env.whole("X", 3), "9" * 5000, 3),
        (lambda: env.rate("X", (20, 10)), f"{'9' * 5000}/10", (20, 10)),
        (lambda: env.cents("X", "5,10"), "0.49", [500, 1000]),
        (lambda: env.cents("X", "5,10"), "5,1.005", [500, 1000]),
        (lambda: env.cents("X", "5,10"), "NaN", [500, 1000]),
        (lambda: env.address("X"), "olga", ""),
        (lambda: env.address("X"), "a@b@c", ""),
        (lambda: env.yes("X"), "maybe", False),
        (lambda: env.choice("X", "INFO", ["INFO"]), "loud", "INFO"),
        (lambda: env.origin("X").geturl(), "flux.example.com", ""),
        (lambda: env.origin("X").geturl(), "https://flux.example.com/path", ""),
        (lambda: env.origin("X").geturl(), "https://[broken", ""),
        (lambda: env.origin("X").geturl(), "https://host:port", ""),
        (lambda: env.http_url("X", "https://a/v1"), "ftp://a", "https://a/v1"),
        (lambda: env.host_ports("X"), "localhost", []),
        (lambda: env.host_ports("X"), "http://localhost:80", []),
        (lambda: env.host_ports("X"), "u@localhost:80", []),
        (lambda: env.redis_url("X"), "http://127.0.0.1", ""),
        (lambda: env.database("X", DB), "mysql://a/b", SQLITE),
        (lambda: env.database("X", DB), "postgresql://u:secret@h:port/x", SQLITE),
        (lambda: env.database("X", DB), "postgresql://u:secret@h", SQLITE),
        (lambda: env.database("X", DB), "sqlite://:memory:", SQLITE),
        (
            lambda: env.mail("X")["EMAIL_BACKEND"],
            "carrier://secret",
            "django.core.mail.backends.console.EmailBackend",
        ),
        (
            lambda: env.mail("X")["EMAIL_BACKEND"],
            "smtp://u:secret@h:x",
            "django.core.mail.backends.console.EmailBackend",
        ),
    ],
)
def test_a_bad_value_is_a_problem_and_the_default_is_used(
    monkeypatch: pytest.MonkeyPatch, problems: list[Any], read: Callable[[], Any], value: str, default: Any
) -> None:
    monkeypatch.setenv("X", value)
    assert read() == default
    ((name, message),) = problems
    assert name == "X"
    assert "secret" not in message and len(message) < 200


@pytest.mark.parametrize(("package", "read"), [("psycopg", env.database), ("redis", env.redis_url)])
def test_a_missing_package_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, problems: list[Any], package: str, read: Callable[..., Any]
) -> None:
    monkeypatch.setattr(env, "find_spec", lambda name: None if name == package else object())
    monkeypatch.setenv("X", {"psycopg": "postgresql://u@h/x", "redis": "redis://h/1"}[package])
    read("X", *([DB] if package == "psycopg" else []))
    assert "uv sync --extra" in problems[0][1]


# --- Folders and the secret key -----------------------------------------------------------------------
def test_a_key_whose_package_is_missing_is_not_used(
    monkeypatch: pytest.MonkeyPatch, problems: list[Any]
) -> None:
    monkeypatch.setattr(env, "find_spec", lambda name: None)
    monkeypatch.setenv("X", "sk_test_secret")
    assert env.extra_key("X", "stripe") == ""
    assert problems == [("X", "needs a package that is not installed; run: uv sync --extra stripe")]


def test_the_data_folder_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("X", str(tmp_path / "a" / "b"))
    assert env.folder("X", DB) == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("name", ["file", "file/below", "~nobody-of-this-name/x"])
def test_a_data_folder_that_cannot_be_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, problems: list[Any], tmp_path: Path, name: str
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("X", name)
    instead = env.folder("X", DB)
    instead.rmdir()
    assert problems[0][1].startswith(f"is {name}, which is no folder that can be written to")


def test_the_secret_key_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "secret_key"
    key = env.secret("X", path)
    assert len(key) >= 50
    assert env.secret("X", path) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["secret_key"]


def test_processes_that_start_together_agree_on_the_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pids = iter(range(1000))
    monkeypatch.setattr(env.os, "getpid", lambda: next(pids))
    with ThreadPoolExecutor(8) as threads:
        keys = set(threads.map(lambda _: env.secret("X", tmp_path / "secret_key"), range(8)))
    assert keys == {(tmp_path / "secret_key").read_text()}


def test_a_short_or_empty_key_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, problems: list[Any], tmp_path: Path
) -> None:
    (tmp_path / "secret_key").write_text("")
    env.secret("X", tmp_path / "secret_key")
    monkeypatch.setenv("X", "short")
    env.secret("X", tmp_path / "secret_key")
    assert [message.split(":")[0].split(";")[0] for _, message in problems] == [
        f"is empty in {tmp_path / 'secret_key'}",
        "must have at least 32 characters",
    ]


# --- The table ----------------------------------------------------------------------------------------
def test_every_variable_that_the_settings_read_is_documented() -> None:
    source = (BASE_DIR / "playground" / "settings.py").read_text()
    read = set(re.findall(r'\benv\.\w+\(\s*"(\w+)"', source))
    assert read == env.DOCUMENTED


def test_every_documented_variable_is_in_the_readme() -> None:
    readme = (BASE_DIR / "README.md").read_text()
    assert {name for name in env.DOCUMENTED if f"`{name}`" not in readme} == set()
