"""Turns to write on SQLite: waited for with patience, and given up in the end."""

import sqlite3
import threading
import time
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


@pytest.fixture
def other() -> Any:
    """Somebody else's connection, who has the turn."""
    held = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None, check_same_thread=False)
    held.execute("BEGIN IMMEDIATE")
    yield held
    held.close()


def test_it_is_taken_as_soon_as_it_is_free(other: Any) -> None:
    threading.Timer(0.3, other.rollback).start()
    began = time.monotonic()
    with transaction.atomic():
        waited = time.monotonic() - began
    assert 0.2 < waited < 1.0


def test_in_the_end_it_is_given_up(other: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.2)
    with pytest.raises(OperationalError, match="locked"), transaction.atomic():
        pass


def test_other_statements_wait_as_long_as_before(other: Any) -> None:
    other.rollback()
    with transaction.atomic():
        pass
    with connection.cursor() as cursor:
        assert cursor.execute("PRAGMA busy_timeout").fetchone() == (20_000,)
