from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from accounts.models import Cap, User

pytestmark = pytest.mark.django_db


def put(client: Client, user: User, **typed: str) -> Any:
    return client.post(f"/admin/accounts/user/caps/?ids={user.pk}", {"once": "x", **typed})


def test_charlie_sees_alices_caps_on_her_page(alice: User, desk: Client) -> None:
    Cap.objects.create(user=alice, window="day", limit=5_000_000, warn_at=2_000_000)
    page = desk.get(f"/admin/accounts/user/{alice.pk}/change/").content.decode()
    assert "day cap: stops at $5.00, warns at $2.00, $0.00 spent, $0.00 held" in page
    assert f'href="/admin/accounts/user/caps/?ids={alice.pk}">Set caps</a>' in page


def test_charlie_sets_and_removes_caps_with_a_reason_that_is_kept(alice: User, desk: Client) -> None:
    Cap.objects.create(user=alice, window="month", limit=5_000_000)
    put(desk, alice, day="$2.50", month="none", reason="She asked by mail")
    assert list(Cap.objects.values_list("window", "limit")) == [("day", 2_500_000)]
    said = LogEntry.objects.get().change_message
    assert said == "Caps set, day cap $2.50, month cap removed: She asked by mail"


@pytest.mark.parametrize(
    "typed",
    [{"day": "1"}, {"day": "lots", "reason": "why"}, {"reason": "why"}, {"day": "-1", "reason": "why"}],
)
def test_without_a_reason_or_an_amount_nothing_changes(
    alice: User, desk: Client, typed: dict[str, str]
) -> None:
    assert put(desk, alice, **typed).status_code == 200
    assert not Cap.objects.exists() and not LogEntry.objects.exists()


def test_caps_are_only_set_where_a_reason_is_asked_for(alice: User, desk: Client) -> None:
    cap = Cap.objects.create(user=alice, window="day", limit=5_000_000)
    assert desk.get("/admin/accounts/cap/add/").status_code == 403
    assert desk.post(f"/admin/accounts/cap/{cap.pk}/change/", {"limit": 1}).status_code == 403


def test_staff_without_the_power_and_strangers_set_none(alice: User, bob: User) -> None:
    for is_staff in (False, True):
        User.objects.filter(pk=bob.pk).update(is_staff=is_staff)
        client = Client()
        client.force_login(User.objects.get(pk=bob.pk))
        assert put(client, alice, day="1", reason="why").status_code in (302, 403)
    assert not Cap.objects.exists()
