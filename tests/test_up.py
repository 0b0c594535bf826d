import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from django.db import DatabaseError, connection
from django.db.migrations.recorder import MigrationRecorder

from playground import startup
from playground.management.commands import up
from tests.conftest import BASE_DIR

READY_WITHIN = 60.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Up:
    """A real `manage.py up` on a data folder and a port of its own."""

    def __init__(self, env: dict[str, str], log: Path) -> None:
        self.port, self.log, self.data_dir = free_port(), log, env["DATA_DIR"]
        argv = [sys.executable, "manage.py", "up", "--port", str(self.port)]
        with log.open("w") as output:
            self.process = subprocess.Popen(argv, cwd=BASE_DIR, env=env, stdout=output, stderr=output)

    def wait_until_ready(self) -> None:
        wait_for(
            lambda: "is ready at" in self.log.read_text() or self.process.poll() is not None, READY_WITHIN
        )
        assert f"Flux Playground is ready at http://127.0.0.1:{self.port}/" in self.log.read_text()

    def status(self, path: str = "/healthz") -> int | None:
        link = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            link.request("GET", path)
            return link.getresponse().status
        except OSError:
            return None
        finally:
            link.close()

    def processes(self) -> list[psutil.Process]:
        """Everything that runs with our data folder in its environment, whoever its parent is by now."""
        found = []
        for process in psutil.process_iter():
            try:
                if (
                    process.environ().get("DATA_DIR") == self.data_dir
                    and process.status() != psutil.STATUS_ZOMBIE
                ):
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def named(self, word: str) -> list[psutil.Process]:
        return [process for process in self.processes() if word in process.cmdline()]


def tasks_of(client: openai.OpenAI) -> list[Any]:
    where = str(client.base_url).replace("/v1/", "/api/v1/jobs")
    told = httpx.get(where, headers={"Authorization": f"Bearer {client.api_key}"})
    return list(told.json()["data"]["items"])


def wait_for(what: Callable[[], Any], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.fixture
def env(transactional_db: None, process_env: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """On SQLite a folder where nothing is yet; on PostgreSQL the test's database."""
    env = {**process_env, "DATA_DIR": str(tmp_path / "var")}
    if connection.vendor == "sqlite":
        del env["DATABASE_URL"]
    return env


@pytest.fixture
def started(env: dict[str, str], tmp_path: Path) -> Iterator[Up]:
    up = Up(env, tmp_path / "log")
    yield up
    for process in up.processes():
        process.kill()


@pytest.mark.kills
def test_what_is_killed_comes_back_and_one_sigterm_ends_everything(started: Up) -> None:
    started.wait_until_ready()
    assert started.status() == 200
    assert started.status("/accounts/login/") == 200
    wait_for(lambda: started.named("qcluster"), 30)

    server = min(started.named("playground.granian_server"), key=lambda process: process.create_time())
    server.kill()
    wait_for(lambda: not server.is_running(), 10)
    wait_for(lambda: started.status() == 200, 30)

    watchdog, *_ = started.named("worker")
    clusters = started.named("qcluster")
    watchdog.kill()
    wait_for(lambda: not any(process.is_running() for process in clusters), 30)
    wait_for(lambda: started.named("worker") and started.named("qcluster"), 30)

    started.process.terminate()
    assert started.process.wait(10) == 0
    assert started.processes() == []
    assert started.status() is None


@pytest.mark.once
@pytest.mark.kills
def test_who_waits_for_a_picture_is_answered_when_the_server_is_stopped(
    started: Up, env: dict[str, str]
) -> None:
    """A connection that broke off would be tried again by the client, which would order a second picture."""
    started.wait_until_ready()
    make = "manage.py account alice@example.org --password a-long-password --api-key one --test"
    made = subprocess.check_output([sys.executable, *make.split()], cwd=BASE_DIR, env=env)
    client = openai.OpenAI(
        base_url=f"http://127.0.0.1:{started.port}/v1", api_key=json.loads(made)["apiKey"], max_retries=0
    )
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(client.images.generate, prompt="a fox [slow]")
        wait_for(lambda: tasks_of(client), 10)
        started.process.terminate()
        with pytest.raises(openai.InternalServerError) as late:
            asked.result()
    headers = late.value.response.headers
    assert late.value.status_code == 504 and late.value.code == "still_running"
    assert headers["X-AI-Task-Id"] and headers["x-should-retry"] == "false"
    assert started.process.wait(10) == 0 and "Killing worker" not in started.log.read_text()


@pytest.mark.once
@pytest.mark.kills
def test_a_kill_of_up_itself_leaves_nothing_behind(started: Up) -> None:
    started.wait_until_ready()
    started.process.kill()
    wait_for(lambda: started.processes() == [], 15)


@pytest.mark.once
@pytest.mark.kills
def test_a_second_up_on_the_same_folder_is_refused(started: Up, env: dict[str, str], tmp_path: Path) -> None:
    wait_for(lambda: (Path(env["DATA_DIR"]) / "up.lock").exists(), READY_WITHIN)
    second = Up(env, tmp_path / "second")
    assert second.process.wait(30) == 1
    assert (tmp_path / "second").read_text().startswith("Another `manage.py up` is running on ")
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(10) in (0, 130)


def refusal(env: dict[str, str], *options: str) -> str:
    """What a start that cannot succeed says: a line on stderr, nothing else, exit status 1."""
    argv = [sys.executable, "manage.py", "up", *options]
    done = subprocess.run(
        argv, cwd=BASE_DIR, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.once
def test_a_taken_port_is_named_with_one_that_is_free(env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal(env, "--port", str(port))
    assert line.startswith(f"Port {port} on 127.0.0.1 is taken.")
    assert int(re.findall(r"--port (\d+)", line)[0]) > port


@pytest.mark.once
def test_a_data_dir_that_is_a_file_is_refused(env: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    line = refusal({**env, "DATA_DIR": str(tmp_path / "file")})
    assert line.startswith(f"DATA_DIR is {tmp_path / 'file'}, which is no folder that can be written to")


@pytest.mark.once
def test_a_database_that_cannot_be_reached_is_named_without_its_password(env: dict[str, str]) -> None:
    line = refusal(
        {**env, "DATABASE_URL": "postgresql://flux:hunter2@127.0.0.1:1/flux"}, "--port", str(free_port())
    )
    assert line.startswith("The database at 127.0.0.1 cannot be used: ")
    assert "hunter2" not in line


# --- The same, and more, without a process ------------------------------------------------------------
def test_a_database_from_a_newer_version_is_refused(db: None) -> None:
    startup.prepare_database()
    MigrationRecorder(connection).record_applied("playground", "0999_from_the_future")
    with pytest.raises(startup.NotReady, match="newer version: it has 0999_from_the_future"):
        startup.prepare_database()


def test_a_database_that_breaks_is_one_line(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*args: Any, **options: Any) -> None:
        raise DatabaseError("file is not a database\nand more")

    monkeypatch.setattr(startup, "call_command", breaks)
    with pytest.raises(startup.NotReady, match=r"cannot be used: file is not a database$"):
        startup.prepare_database()


def test_the_folder_is_locked_once(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path
    with startup.lock(), pytest.raises(startup.NotReady, match=r"Another `manage.py up` is running"):
        startup.lock()
    startup.lock().close()


def test_a_host_that_is_not_ours_is_not_called_a_taken_port() -> None:
    with pytest.raises(startup.NotReady, match=r"192\.0\.2\.1 is not an address of this machine"):
        startup.check_address("192.0.2.1", free_port())
    with pytest.raises(startup.NotReady, match="is not known here"):
        startup.check_address("no-such-host.invalid", free_port())
    startup.check_address("127.0.0.1", free_port())


@pytest.mark.parametrize(
    ("host", "allowed", "is_warned"),
    [
        ("127.0.0.1", ["localhost", "127.0.0.1"], False),
        ("192.168.1.5", ["localhost", "127.0.0.1"], True),
        ("192.168.1.5", ["192.168.1.5"], False),
        ("0.0.0.0", ["localhost", "127.0.0.1"], True),
        ("0.0.0.0", ["localhost", "flux.example.com"], False),
    ],
)
def test_listening_where_every_request_would_be_refused_warns(
    settings: Any, host: str, allowed: list[str], is_warned: bool
) -> None:
    settings.ALLOWED_HOSTS = allowed
    assert bool(startup.unreachable_hosts(host)) is is_warned


def test_the_first_process_of_a_container_can_start_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getppid", lambda: 0)
    assert not up.is_child_of_uv()


def test_the_server_is_asked_by_a_name_that_it_answers_to(settings: Any) -> None:
    for allowed, name in [
        ([".example.com"], "example.com"),
        (["*"], "localhost"),
        (["a.org", "b.org"], "a.org"),
    ]:
        settings.ALLOWED_HOSTS = allowed
        assert startup.host_header() == name


def test_static_files_are_collected_again_only_after_a_change(settings: Any, tmp_path: Path) -> None:
    settings.DATA_DIR, settings.STATIC_ROOT = tmp_path, tmp_path / "static"
    (tmp_path / "source").mkdir()
    settings.STATICFILES_DIRS = [tmp_path / "source"]
    (tmp_path / "source" / "one.css").write_text("a{}")
    startup.collect_static()
    copy = tmp_path / "static" / "one.css"
    assert copy.read_text() == "a{}"
    copy.write_text("ours")
    startup.collect_static()
    assert copy.read_text() == "ours"
    (tmp_path / "source" / "one.css").write_text("a{color:red}")
    startup.collect_static()
    assert copy.read_text() == "a{color:red}"


def test_workers_reach_the_engine_as_a_setting() -> None:
    assert up.worker(3)._env["ENGINE_WORKERS"] == "3"
    assert up.worker(None)._env.get("ENGINE_WORKERS") == os.environ.get("ENGINE_WORKERS")


def test_workers_know_where_the_server_answers() -> None:
    at = up.address("0.0.0.0", 8123)
    assert up.worker(None, at=at)._env["FLUX_AT"] == "http://127.0.0.1:8123"
