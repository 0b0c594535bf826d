"""What `manage.py check` and `manage.py up` say about the environment: each problem with its way out."""

import difflib
import os
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning

from playground import environment

NEAR_MISS = (
    0.85  # difflib ratio: PREVIEW_PER_DAY is 0.97 of PREVIEWS_PER_DAY; XDG_DATA_DIRS is 0.76 of DATA_DIR
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


ALL = [values, hosts, spelling]
