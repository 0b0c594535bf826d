"""A process that erases an account is killed in the middle, again and again: the next one ends it."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from accounts.models import User
from playground import deletion, upkeep
from playground.models import Picture
from tests.making import give, picture_for

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.kills]

ROOT = Path(__file__).resolve().parents[1]
# Erases slowly, two pictures at a time, so that there is a middle to be killed in; says when it has begun.
ERASE = """
import time, django
django.setup()
from playground import deletion, images
deletion.AT_ONCE = 2
remove = images.remove
def slowly(key):
    remove(key)
    print(key, flush=True)
    time.sleep(0.05)
images.remove = slowly
deletion.finish()
"""


def killed_after(pictures: int, env: dict[str, str]) -> None:
    command = [sys.executable, "-c", ERASE]
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for _ in range(pictures):
            assert process.stdout.readline()
        time.sleep(0.02)
        process.kill()
    assert process.returncode == -9


def test_kills_in_the_middle_leave_what_the_sweep_ends(
    alice: User, process_env: dict[str, str], settings: Any
) -> None:
    give(alice)
    for _ in range(8):
        picture_for(alice, prompt="a canary")
    assert deletion.begin(alice)
    for pictures in (1, 3):
        killed_after(pictures, process_env)
        alice.refresh_from_db()
        assert alice.email == "alice@example.org" and not alice.is_active
        assert Picture.objects.exclude(key="").exists()
        connection.close()
    upkeep.sweep()
    alice.refresh_from_db()
    assert alice.email.endswith("@deleted.invalid")
    assert not [path for path in Path(settings.MEDIA_ROOT).rglob("*") if path.is_file()]
    assert upkeep.audit() == []
