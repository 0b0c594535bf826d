"""A try is written down at the moment when its endpoint is switched off."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from accounts.models import User
from playground import endpoints, outbox
from playground.models import Delivery

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.postgres]
PATIENCE_S = 10


def in_hand(user: User) -> Delivery:
    endpoint = endpoints.add(user, "https://hook.example.org/in", "")
    until = timezone.now() + timedelta(minutes=1)
    return Delivery.objects.create(
        user=user,
        endpoint=endpoint,
        url=endpoint.url,
        event=outbox.COMPLETED,
        lane="one",
        lease_until=until,
        next_try=until,
    )


def elsewhere(work: Callable[[], Any]) -> threading.Thread:
    """On a connection of its own."""

    def run() -> None:
        try:
            work()
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_switching_off_does_not_wait_for_a_try_that_waits_for_it(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = in_hand(alice)
    is_booking, is_off, ill = threading.Event(), threading.Event(), outbox._ill

    def after_the_message(*arguments: Any) -> None:
        is_booking.set()
        assert is_off.wait(PATIENCE_S)
        ill(*arguments)

    monkeypatch.setattr(outbox, "_ill", after_the_message)
    answer = outbox.Answer(status=500, milliseconds=5)
    booking = elsewhere(lambda: outbox.book(delivery, answer))
    assert is_booking.wait(PATIENCE_S)
    off = elsewhere(lambda: (outbox.switch_off(delivery.endpoint), is_off.set()))
    off.join(2)
    was_waiting = off.is_alive()
    is_off.set()
    booking.join(PATIENCE_S), off.join(PATIENCE_S)
    assert not was_waiting

    Delivery.objects.update(next_try=timezone.now())
    assert outbox.claim(outbox.Room(free=1, slow_free=1)) == []
    delivery.refresh_from_db()
    assert (delivery.attempts, delivery.gave_up) == (1, outbox.OFF)
