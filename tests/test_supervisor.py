"""The supervisor, in a process of its own: it ends every child it does not know."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from playground.supervisor import TWICE
from tests.conftest import BASE_DIR

pytestmark = pytest.mark.kills

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(99)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {STUBBORN!r}])"
SUPERVISOR = f"""
import os, sys
from playground import supervisor
from playground.supervisor import Child, Interrupts, adopt_orphans, end_strays, stop
supervisor.TWICE = float(sys.argv[2])
interrupts = Interrupts()
adopt_orphans()
children = [Child("parent", [sys.executable, "-c", {PARENT!r}], os.environ)]
while not interrupts.count:
    for child in children:
        child.keep()
    end_strays(children)
    interrupts.wait(0.2)
stop(children, seconds=float(sys.argv[1]), in_a_hurry=lambda: interrupts.count > 1)
"""


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[str]:
    """A value that every process below the supervisor carries in its environment."""
    yield str(tmp_path)
    for process in below(str(tmp_path)):
        process.kill()


def supervise(mark: str, seconds: float, *, twice: float = TWICE) -> "subprocess.Popen[str]":
    env = {**os.environ, "MARK": mark}
    argv = [sys.executable, "-c", SUPERVISOR, str(seconds), str(twice)]
    process = subprocess.Popen(argv, cwd=BASE_DIR, env=env, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    return process


def below(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("MARK") == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def stop_children(supervisor: "subprocess.Popen[str]") -> None:
    """A stopped process obeys SIGKILL only. It has stopped once it has run again: until then SIGTERM would come first."""
    children = psutil.Process(supervisor.pid).children()
    assert children
    for child in children:
        child.suspend()
    until = time.monotonic() + 10
    while any(child.status() != psutil.STATUS_STOPPED for child in children):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_killed_child_is_started_again_and_its_orphan_is_ended(mark: str) -> None:
    supervisor = supervise(mark, 0.1)
    parent, orphan = psutil.Process(supervisor.pid).children(recursive=True)
    parent.kill()
    assert supervisor.stdout
    assert supervisor.stdout.readline() == "up\n"
    assert not orphan.is_running()
    assert len(below(mark)) == 3
    supervisor.terminate()
    assert supervisor.wait(5) == 0


def test_a_grandchild_that_ignores_sigterm_does_not_survive_the_stop(mark: str) -> None:
    supervisor = supervise(mark, 0.2)
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(5) == 0
    assert below(mark) == []


def test_a_second_ctrl_c_does_not_wait_any_longer(mark: str) -> None:
    supervisor = supervise(mark, 60)
    stop_children(supervisor)
    supervisor.send_signal(signal.SIGINT)
    time.sleep(1.2)
    assert supervisor.poll() is None
    supervisor.send_signal(signal.SIGINT)
    assert supervisor.wait(5) == 0
    assert below(mark) == []


def test_one_ctrl_c_that_arrives_twice_is_one(mark: str) -> None:
    supervisor = supervise(mark, 60, twice=30)  # however slowly a busy machine delivers the second
    stop_children(supervisor)
    for _ in range(2):
        supervisor.send_signal(signal.SIGINT)
        time.sleep(0.1)
    time.sleep(0.5)
    assert supervisor.poll() is None
