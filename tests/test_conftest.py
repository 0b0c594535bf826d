"""The tests' own footing."""

from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from tests.conftest import needs


def test_what_a_machine_lacks_skips_with_a_way_out_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    needs("there", "a thing", "install it")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"needs a thing\. To turn it on: install it"):
        needs(None, "a thing", "install it")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="needs a thing"):
        needs(None, "a thing", "install it")


def triggers() -> list[Any]:
    where = (
        "sqlite_master WHERE type = 'trigger'"
        if connection.vendor == "sqlite"
        else "pg_trigger WHERE NOT tgisinternal"
    )
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {where} ORDER BY 1, 2, 3")
        return [row[:2] for row in cursor.fetchall()]


def test_emptying_the_tables_between_tests_keeps_the_triggers(transactional_db: None) -> None:
    before = triggers()
    assert before
    call_command("flush", interactive=False, verbosity=0)
    assert triggers() == before
