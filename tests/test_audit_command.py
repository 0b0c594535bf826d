import json
from typing import Any

import pytest
from django.core.management import call_command

from accounts.models import User, Wallet
from playground import images
from playground.models import Job
from tests.making import give, picture_for

pytestmark = pytest.mark.django_db


def audit(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = 0
    try:
        call_command("audit", *arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, json.loads(capsys.readouterr().out)


def test_sound_books_are_ok_and_say_what_was_checked(alice: User, capsys: Any) -> None:
    give(alice)
    picture_for(alice)
    code, found = audit(capsys)
    assert (code, found["ok"], found["problems"]) == (0, True, [])
    assert (found["checked"]["jobs"], found["checked"]["pictures"]) == (1, 1)


def test_money_that_does_not_add_up_is_named_and_the_command_fails(alice: User, capsys: Any) -> None:
    give(alice)
    Wallet.objects.filter(user=alice).update(posted=1)
    code, found = audit(capsys)
    assert (code, found["ok"]) == (1, False)
    assert {
        "invariant": "wallet = sum of its transfers",
        "subject": f"user:{alice.pk}",
        "expected": 10_000_000,
        "found": 1,
    } in found["problems"]


def test_a_job_that_contradicts_its_hold_is_named(alice: User, capsys: Any) -> None:
    give(alice)
    job = picture_for(alice).job
    Job.objects.filter(pk=job.pk).update(state=Job.State.FAILED)
    code, found = audit(capsys)
    assert code == 1
    assert any(str(job.pk) in problem["subject"] for problem in found["problems"])


def test_a_file_that_changed_on_the_disk_is_found_unless_files_are_left_out(alice: User, capsys: Any) -> None:
    give(alice)
    picture = picture_for(alice)
    images.path(picture.key, "original", picture.format).write_bytes(b"other bytes")
    assert audit(capsys)[0] == 1
    assert audit(capsys, "--no-files")[0] == 0
    images.remove(picture.key)
    assert audit(capsys)[0] == 1
