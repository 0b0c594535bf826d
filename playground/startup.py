"""What must be true before the server starts: one clear line for each thing that is not."""

import fcntl
import hashlib
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core import checks
from django.core.management import call_command
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http.request import validate_host

ANY = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - recognised, not bound to
LOOPBACK = {"localhost", "127.0.0.1", "::1", "[::1]"}
PORTS_TO_TRY = 50


class NotReady(Exception):
    """Why the server cannot start: each argument is one line for the operator."""


def check_settings() -> list[str]:
    """Runs Django's system checks: errors end the start, warnings come back as lines."""
    found = [message for message in checks.run_checks() if not message.is_silenced()]
    if errors := [_line(message) for message in found if message.is_serious()]:
        raise NotReady(*errors)
    return [_line(message) for message in found]


def _line(message: checks.CheckMessage) -> str:
    text = f"{message.msg} {message.hint or ''}".split()
    return f"{' '.join(text)} ({message.id})"


def lock() -> IO[str]:
    """Holds DATA_DIR for this process, until the file that comes back is closed or the process ends."""
    file = open(settings.DATA_DIR / "up.lock", "a")  # noqa: SIM115 - open for as long as we run
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise NotReady(
            f"Another `manage.py up` is running on {settings.DATA_DIR}. Stop it, or set DATA_DIR."
        ) from None
    return file


# --- The address --------------------------------------------------------------------------------------
def check_address(host: str, port: int) -> None:
    try:
        _bind(host, port)
    except PermissionError:
        raise NotReady(
            f"Port {port} needs more rights than you have. Choose a higher one, as in --port 8000."
        ) from None
    except socket.gaierror:
        raise NotReady(f"The host {host} is not known here. Choose another with --host.") from None
    except OSError as error:
        if not _is_own(host):
            raise NotReady(
                f"{host} is not an address of this machine ({error.strerror}). Use --host."
            ) from None
        free = next((p for p in range(port + 1, min(port + PORTS_TO_TRY, 65536)) if _is_free(host, p)), None)
        instead = f"--port {free}" if free else "--port"
        raise NotReady(
            f"Port {port} on {host} is taken. Stop what uses it, or choose another: {instead}"
        ) from None


def _bind(host: str, port: int) -> None:
    family, kind, protocol, _, address = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)


def _is_free(host: str, port: int) -> bool:
    try:
        _bind(host, port)
    except OSError:
        return False
    return True


def _is_own(host: str) -> bool:
    return _is_free(host, 0)


def unreachable_hosts(host: str) -> list[str]:
    """Lines about a server that listens beyond loopback and would refuse whoever comes from there."""
    if host in LOOPBACK or validate_host(host, settings.ALLOWED_HOSTS):
        return []
    if host in ANY and not set(settings.ALLOWED_HOSTS) <= LOOPBACK:
        return []
    name = "the name or address that visitors will use" if host in ANY else host
    return [f"Requests from other machines will be refused. Add to ALLOWED_HOSTS (comma-separated): {name}"]


def host_header() -> str:
    """A host name that the server answers to, for asking it from here."""
    named = [host.lstrip(".") for host in settings.ALLOWED_HOSTS if host != "*"]
    return named[0] if named else "localhost"


# --- The database -------------------------------------------------------------------------------------
def prepare_database() -> None:
    """Migrates the database if it needs it, and loads the catalogue."""
    try:
        executor = MigrationExecutor(connection)
        _refuse_newer(executor)
        if executor.migration_plan(executor.loader.graph.leaf_nodes()):
            call_command("migrate", interactive=False, verbosity=0)
        call_command("load_catalog", stdout=io.StringIO())
    except DatabaseError as error:
        first_line = str(error).strip().partition("\n")[0]
        where = connection.settings_dict["HOST"] or connection.settings_dict["NAME"]
        raise NotReady(f"The database at {where} cannot be used: {first_line}") from None


def _refuse_newer(executor: MigrationExecutor) -> None:
    loader = executor.loader
    known = set(loader.disk_migrations or {})
    unknown = sorted(
        name
        for app, name in loader.applied_migrations
        if app in loader.migrated_apps and (app, name) not in known
    )
    if unknown:
        what = f"The database comes from a newer version: it has {unknown[-1]}."
        raise NotReady(f"{what} Upgrade Flux Playground, or set DATA_DIR or DATABASE_URL to another one.")


# --- Static files -------------------------------------------------------------------------------------
def collect_static() -> None:
    """Copies the static files to where they are served from, unless none has changed since the last time."""
    stamp = Path(settings.DATA_DIR) / "static.stamp"
    fingerprint = hashlib.sha256("\n".join(_static_files()).encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == fingerprint:
        return
    call_command("collectstatic", interactive=False, verbosity=0, clear=Path(settings.STATIC_ROOT).exists())
    stamp.write_text(fingerprint)


def _static_files() -> Iterator[str]:
    yield str(settings.STORAGES["staticfiles"])
    yield str(settings.STATIC_ROOT)
    for finder in get_finders():
        for path, storage in finder.list([]):
            status = os.stat(storage.path(path))
            yield f"{path} {status.st_size} {status.st_mtime_ns}"
