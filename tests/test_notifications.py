from datetime import UTC, datetime
from typing import Any

import pytest
import time_machine
from django.core import mail
from django.db import transaction
from django.test import Client

from accounts import cap_mails, caps, mails, topup_books
from accounts.models import CapNotice, CapWindow, TopUp, User
from tests.making import USD

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 12, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _with_mail(settings: object) -> None:
    settings.HAS_MAIL = True  # type: ignore[attr-defined]


def spend(user: User, micros: int) -> None:
    with time_machine.travel(NOON):
        caps.put(user, "day", stop=5 * USD, warn=None)
    CapWindow.objects.create(subject=f"user:{user.pk}/usd", window="day", starts="2026-11-12", spent=micros)


def choose(client: Client, **boxes: str) -> None:
    assert client.post("/settings/notifications/", boxes)["Location"] == "/settings/notifications/"


def test_alice_switches_cap_mails_off_and_on(client: Client, alice: User) -> None:
    client.force_login(alice)
    others = {kind.name: "on" for kind in mails.optional() if kind.name != "cap"}
    choose(client, **others)
    alice.refresh_from_db()
    assert alice.muted == ["cap"] and not mails.wants(alice, "cap")
    assert all(mails.wants(alice, kind) for kind in others)
    choose(client, cap="on", **others)
    alice.refresh_from_db()
    assert alice.muted == [] and mails.wants(alice, "cap")


def test_who_switched_them_off_gets_none_and_others_do(alice: User, bob: User) -> None:
    User.objects.filter(pk=alice.pk).update(muted=["cap"])
    for user in (alice, bob):
        spend(user, 3 * USD)
    assert cap_mails.send_due(1, NOON) == 1
    assert [sent.to for sent in mail.outbox] == [["bob@example.org"]]


def test_switching_them_on_again_tells_nothing_old(alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(muted=["cap"])
    spend(alice, 3 * USD)
    cap_mails.send_due(1, NOON)
    assert CapNotice.objects.filter(user=alice).count() == 1
    User.objects.filter(pk=alice.pk).update(muted=[])
    assert cap_mails.send_due(1, NOON) == 0


def test_what_keeps_an_account_safe_cannot_be_switched_off(client: Client, alice: User) -> None:
    client.force_login(alice)
    html = client.get("/settings/notifications/").content.decode()
    assert "cannot be switched off" in html and 'name="new_device"' not in html
    choose(client, new_device="")
    User.objects.filter(pk=alice.pk).update(muted=["new_device", "deleted"])
    alice.refresh_from_db()
    assert mails.wants(alice, "new_device")
    assert mails.send("deleted", alice, {})


def test_a_mail_that_may_be_switched_off_says_where(alice: User, settings: object) -> None:
    settings.BASE_URL = "https://flux.example"  # type: ignore[attr-defined]
    spend(alice, 3 * USD)
    cap_mails.send_due(1, NOON)
    [sent] = mail.outbox
    for body in (sent.body, sent.alternatives[0].content):
        assert "https://flux.example/settings/notifications/" in body
    mails.send("deleted", alice, {})
    assert "/settings/notifications/" not in mail.outbox[1].body


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_purchase_is_told_once_to_those_who_want_it(
    alice: User, is_wanted: bool, django_capture_on_commit_callbacks: Any
) -> None:
    User.objects.filter(pk=alice.pk).update(muted=[] if is_wanted else ["receipt"])
    bought = TopUp.objects.create(
        user=alice, micros=25 * USD, cents=2500, state="paid", paid=NOON, payment_id="pi_1"
    )
    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True), transaction.atomic():
            topup_books.settle(TopUp.objects.get(pk=bought.pk))
    said = ["3,571.42 credits ($25.00) have arrived"] if is_wanted else []
    assert [sent.subject for sent in mail.outbox] == said
