"""Turns to write on SQLite: waited for with patience, and given up in the end."""

import sqlite3
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from accounts.models import User

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


def test_a_statement_outside_of_a_transaction_waits_as_patiently(other: Any, db: None) -> None:
    threading.Timer(0.3, other.rollback).start()
    began = time.monotonic()
    User.objects.create_user("alice@example.org")
    assert 0.2 < time.monotonic() - began < 1.0


def test_who_only_reads_does_not_wait(other: Any) -> None:
    assert not User.objects.exists()


@pytest.mark.parametrize(
    "what", [transaction.atomic().__enter__, partial(User.objects.update, time_zone="UTC")]
)
def test_in_the_end_it_is_given_up(
    other: Any, what: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(connection.settings_dict["OPTIONS"], "timeout", 0.2)
    with pytest.raises(OperationalError, match="locked"):
        what()


def test_of_those_who_wait_nobody_is_always_last(other: Any) -> None:
    """One who writes without a transaction, among many with one, as log-ins are among orders."""
    other.rollback()
    is_over = threading.Event()

    def crowd() -> None:
        while not is_over.is_set():
            with transaction.atomic():
                time.sleep(0.005)
        connection.close()

    others = [threading.Thread(target=crowd) for _ in range(4)]
    for thread in others:
        thread.start()
    began = time.monotonic()
    for _ in range(20):
        User.objects.update(time_zone="UTC")
    took = time.monotonic() - began
    is_over.set()
    for thread in others:
        thread.join()
    assert took < 5
