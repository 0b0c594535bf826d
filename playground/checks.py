"""What `manage.py check` and `manage.py up` say about the environment: each problem with its way out."""

import difflib
import ipaddress
import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.db import DatabaseError

from playground import environment, internet, seals

NEAR_MISS = (
    0.85  # difflib ratio: PREVIEW_PER_DAY is 0.97 of PREVIEWS_PER_DAY; XDG_DATA_DIRS is 0.76 of DATA_DIR
)
INSIDE = (
    ".localhost",
    ".local",
    ".internal",
    ".lan",
    ".home",
    ".home.arpa",
    ".intranet",
    ".test",
    ".invalid",
)
TABLE = "The table of settings is in README.md."


def values(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """playground.E001: a variable whose value cannot be used."""
    return [Error(f"{name} {what}.", hint=TABLE, id="playground.E001") for name, what in environment.problems]


def hosts(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """playground.W001: whoever can reach the server may choose the host name that our links carry."""
    if "*" not in settings.ALLOWED_HOSTS:
        return []
    hint = "Name the hosts, separated by commas: ALLOWED_HOSTS=flux.example.com"
    return [Warning("ALLOWED_HOSTS allows every host name.", hint=hint, id="playground.W001")]


def spelling(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """playground.W002: a variable that nobody reads and that looks like one of ours."""
    found: list[CheckMessage] = []
    for name in sorted(os.environ.keys() - environment.DOCUMENTED):
        if near := difflib.get_close_matches(name, environment.DOCUMENTED, n=1, cutoff=NEAR_MISS):
            found.append(
                Warning(
                    f"{name} is not a setting.", hint=f"Did you mean {near[0]}? {TABLE}", id="playground.W002"
                )
            )
    return found


def sealed_keys(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """playground.W003: an upstream's key that cannot be read. A warning, for in the admin it can be entered anew."""
    found: list[CheckMessage] = []
    for row in _upstreams():
        try:
            if row.sealed_key:
                seals.unseal(row.sealed_key)
        except seals.NoSecret:
            hint = (
                "Set UPSTREAM_KEYS_SECRET to the secret that was set when the key was entered, and restart."
            )
            found.append(_unreadable(row.name, "UPSTREAM_KEYS_SECRET is not set", hint))
        except seals.WrongSecret:
            hint = (
                "Set UPSTREAM_KEYS_SECRET to the secret that was set when the key was entered (after the new one, with"
                " a comma between, if you are changing it), or enter the key anew in the admin, under Upstreams."
            )
            found.append(_unreadable(row.name, "it was sealed with another UPSTREAM_KEYS_SECRET", hint))
    return found


def _unreadable(name: str, why: str, hint: str) -> CheckMessage:
    return Warning(f"The key of the upstream {name} cannot be read: {why}.", hint=hint, id="playground.W003")


def fetched_inputs(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """playground.W004: an upstream that is to fetch input pictures from us, and cannot reach us."""
    if is_public_url(settings.BASE_URL):
        return []
    where = f"{settings.BASE_URL} leads nowhere from outside" if settings.BASE_URL else "BASE_URL is not set"
    hint = (
        "Set BASE_URL to the address at which the world reaches you, such as https://flux.example.com, or choose"
        " another way for input pictures in the admin, under Upstreams."
    )
    return [
        Warning(
            f"The upstream {row.name} is to fetch input pictures from us, but {where}.",
            hint=hint,
            id="playground.W004",
        )
        for row in _upstreams()
        if row.inputs_by == "url"
    ]


def is_public_url(url: str) -> bool:
    """Whether somebody outside can reach it, as far as the address alone tells: no name is looked up."""
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return internet.is_public(str(ipaddress.ip_address(host)))
    return "." in host.strip(".") and not f".{host.rstrip('.')}".endswith(INSIDE)


def _upstreams() -> list[Any]:
    """Those that are switched on. None where there is no database yet: what is wrong with it is said elsewhere."""
    try:
        return list(apps.get_model("playground", "Upstream").objects.filter(is_on=True))
    except DatabaseError:
        return []


def processes(app_configs: Sequence[Any] | None, **kwargs: Any) -> list[CheckMessage]:
    """playground.E002: web processes that would each count calls for themselves."""
    if settings.REDIS_URL or settings.WEB_PROCESSES == 1:
        return []
    hint = "Set REDIS_URL, where they count together, or WEB_PROCESSES=1 and more WEB_THREADS."
    many = (
        f"WEB_PROCESSES is {settings.WEB_PROCESSES}, and without Redis each would grant the whole rate limit."
    )
    return [Error(many, hint=hint, id="playground.E002")]


ALL = [values, processes, hosts, spelling, sealed_keys, fetched_inputs]
