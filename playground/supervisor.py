"""Processes that must run: started, started again when they die, and ended with everything that they started.

Every child leads a session of its own, so that Ctrl-C in a terminal reaches only us, and its whole group can be
killed. Orphans of a killed child come to us (Linux), and a child whose parent is killed is told to stop (Linux).
"""

import contextlib
import ctypes
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
PAUSES = (
    0.0,
    0.5,
    1.0,
    2.0,
    5.0,
)  # seconds before another start, by the number of early deaths; the last one repeats
SETTLED = 10.0  # seconds after which a start counts as a good one
TWICE = 1.0  # a terminal and `uv run` may both deliver the same Ctrl-C; two within this many seconds are one

log = logging.getLogger(__name__)
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def adopt_orphans() -> None:
    """From now on the orphans of our children become our own children, which we can find and end."""
    if _libc:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent() -> None:
    """SIGTERM to this process when the one that started it dies, however it dies."""
    if _libc:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


class Interrupts:
    """Counts the requests to stop. `wait` sleeps until the next one, the death of a child, or the end of the time."""

    def __init__(self) -> None:
        self.count = 0
        self._last = -TWICE
        self._read, write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # without a handler it would wake nobody
        signal.signal(signal.SIGINT, self._asked)
        signal.signal(signal.SIGTERM, self._asked)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # ignored under nohup, and then it stays so
            signal.signal(signal.SIGHUP, self._asked)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last >= TWICE:
            self.count += 1
            self._last = now

    def wait(self, seconds: float) -> None:
        select.select([self._read], [], [], seconds)
        with contextlib.suppress(BlockingIOError):
            os.read(self._read, 4096)


class Child:
    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        self.name = name
        self.early_deaths = 0
        self._argv, self._env = argv, env
        self._process: subprocess.Popen[bytes] | None = None
        self._born = self._due = 0.0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def age(self) -> float:
        """Seconds since the last start."""
        return time.monotonic() - self._born

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def keep(self) -> None:
        """Starts it if it does not run, at once or after a pause that grows while it keeps dying young."""
        self.reap()
        if not self._process and time.monotonic() >= self._due:
            self._start()

    def reap(self) -> None:
        """If it has died: ends what is left of its group, and decides when it may start again."""
        if self._process and not self.is_running:
            self._bury(self._process)

    def kill(self) -> None:
        """Ends it and what it started, at once; `keep` starts it again without a pause."""
        if self._process:
            _kill_group(self._process.pid)
            self._process.wait()
            self._process = None

    def terminate(self) -> None:
        if self.is_running and self._process:
            self._process.terminate()

    def _start(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own commands, no shell
            self._argv,
            env=self._env,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=end_with_parent,  # we have no threads when we start a child
        )
        self._born = time.monotonic()

    def _bury(self, process: "subprocess.Popen[bytes]") -> None:
        self.early_deaths = 0 if self.age >= SETTLED else self.early_deaths + 1
        pause = PAUSES[min(self.early_deaths, len(PAUSES) - 1)]
        log.warning("The %s ended (exit status %s); starting it again.", self.name, process.returncode)
        _kill_group(process.pid)
        self._due = time.monotonic() + pause
        self._process = None


def stop(children: Sequence[Child], *, seconds: float, in_a_hurry: Callable[[], bool]) -> None:
    """Ends all children: asked to, and killed with all their descendants after `seconds` or when `in_a_hurry`."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + seconds
    while any(child.is_running for child in children) and time.monotonic() < deadline and not in_a_hurry():
        time.sleep(0.02)
    for child in children:
        child.kill()
    end_strays(children)


def end_strays(children: Sequence[Child]) -> None:
    """Kills the processes below us that belong to no running child: what a killed child left behind."""
    keep = {child.pid for child in children if child.is_running}
    while strays := [process for process in psutil.Process().children() if process.pid not in keep]:
        for stray in strays:
            _kill_tree(stray)


def _kill_tree(process: psutil.Process) -> None:
    for each in [process, *_descendants(process)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    with contextlib.suppress(ChildProcessError):
        os.waitpid(process.pid, 0)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
