import http.client
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil
from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection

from playground import startup
from playground.supervisor import Child, Interrupts, adopt_orphans, end_strays, end_with_parent, stop

ANSWERS_WITHIN = 60.0  # seconds
EARLY_DEATHS = 3  # of the web server before it ever answered: then it never will
STOP_WITHIN = 7.0  # seconds; the watchdog needs up to 5 for the cluster
LOOK = 1.0
SPARE_THREADS = 358  # for requests that wait for their turn: without a thread, not even /healthz is answered


class Command(BaseCommand):
    help = "Starts everything: database, catalogue, web server, worker and watchdog. Ctrl-C stops it."
    requires_system_checks = []  # we run them ourselves, to print a line each

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
        parser.add_argument("--workers", type=int, help="drives at the same time (ENGINE_WORKERS, 1)")

    def handle(self, *args: Any, host: str, port: int, workers: int | None, **options: Any) -> None:
        if is_child_of_uv():  # which cannot pass a SIGKILL on
            end_with_parent()
        try:
            self.prepare(host, port, workers)
        except startup.NotReady as error:
            self.fail(*error.args)
        except KeyboardInterrupt:
            sys.exit(130)
        sys.exit(0 if self.serve(host, port, workers) else 1)

    def fail(self, *lines: str) -> None:
        for line in lines:
            self.stderr.write(line)
        sys.exit(1)

    def prepare(self, host: str, port: int, workers: int | None) -> None:
        if not 1 <= port <= 65535:
            raise startup.NotReady(f"--port must be between 1 and 65535, not {port}.")
        if workers is not None and workers < 1:
            raise startup.NotReady(f"--workers must be at least 1, not {workers}.")
        for line in startup.check_settings() + startup.unreachable_hosts(host):
            self.stderr.write(f"Warning: {line}")
        self.lock = startup.lock()
        startup.check_address(host, port)
        startup.prepare_database()
        connection.close()  # nothing of ours may be open in a child
        startup.collect_static()

    def serve(self, host: str, port: int, workers: int | None) -> bool:
        """Until asked to stop; False if the server never answered."""
        interrupts = Interrupts()
        adopt_orphans()
        children = [web_server(host, port), worker(workers, at=address(host, port))]
        try:
            is_up = self.wait_for_answer(children, interrupts, host, port)
            while is_up and not interrupts.count:
                interrupts.wait(LOOK)
                keep(children)
        finally:
            stop(children, seconds=STOP_WITHIN, in_a_hurry=lambda: interrupts.count > 1)
        return is_up

    def wait_for_answer(self, children: list[Child], interrupts: Interrupts, host: str, port: int) -> bool:
        """True when the server answers, or when we are asked to stop before."""
        deadline = time.monotonic() + ANSWERS_WITHIN
        keep(children)
        while not answers(host, port):
            interrupts.wait(0.05)
            if interrupts.count:
                return True
            keep(children)
            if time.monotonic() > deadline or children[0].early_deaths >= EARLY_DEATHS:
                self.stderr.write("The web server does not answer; what it said is above.")
                return False
        self.stdout.write(f"Flux Playground is ready at {address(host, port)}  (Ctrl-C stops it)")
        if not settings.AIGENERATE_API_KEY:
            self.stdout.write("AIGENERATE_API_KEY is not set: pictures are drawn by the built-in sandbox.")
        self.stdout.flush()
        return True


def is_child_of_uv() -> bool:
    try:
        return psutil.Process(os.getppid()).name() == "uv"
    except psutil.Error:  # the first process of a container has no parent
        return False


def keep(children: list[Child]) -> None:
    for child in children:
        child.keep()
    end_strays(children)


def address(host: str, port: int) -> str:
    host = startup.ANY.get(host, host)
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def answers(host: str, port: int) -> bool:
    link = http.client.HTTPConnection(startup.ANY.get(host, host), port, timeout=2)
    try:
        link.request("GET", "/healthz", headers={"Host": startup.host_header()})
        return link.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        link.close()


# --- The children -------------------------------------------------------------------------------------
def environment(**more: str) -> Mapping[str, str]:
    paths = [str(settings.BASE_DIR), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def web_server(host: str, port: int) -> Child:
    options = {
        "--interface": "wsgi",
        "--host": host,
        "--port": str(port),
        "--workers": str(settings.WEB_PROCESSES),
        # More than are worked on at once, for those who wait; see playground/turnstile.py.
        "--blocking-threads": str(settings.WEB_THREADS + settings.API_WAITING + SPARE_THREADS),
        "--backlog": "1024",
        "--respawn-interval": "0.5",
        "--workers-kill-timeout": "4",
        "--log-level": "warning",
    }
    words = [word for pair in options.items() for word in pair]
    argv = [sys.executable, "-m", "playground.granian_server", *words, "--respawn-failed-workers", "--no-ws"]
    return Child("web server", [*argv, "playground.served:application"], environment(FLUX_ROLE="web"))


def worker(workers: int | None, *, at: str = "") -> Child:
    """`at`: where the server answers."""
    manage = Path(settings.BASE_DIR) / "manage.py"
    more = {"ENGINE_WORKERS": str(workers)} if workers else {}
    if at:
        more["FLUX_AT"] = at.rstrip("/")
    return Child("worker", [sys.executable, str(manage), "worker"], environment(**more))
