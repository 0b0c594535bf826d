"""Who is suspended is out by every door at once, and comes back to what they had."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

from accounts import erasure, keys, ledger, suspension, welcome
from accounts.adapter import AccountAdapter
from accounts.forms import ProfileForm
from accounts.models import User
from playground import upkeep
from playground.models import Job, ShareLink
from tests.making import USD, give, job_for, leased, picture_for


def inside(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


def act(desk: Client, user: User, what: str, reason: str = "Stolen card") -> Any:
    at = f"/admin/accounts/user/{what}/?ids={user.pk}"
    once = re.search(r'name="once" value="(\w+)"', desk.get(at).content.decode())
    assert once
    return desk.post(at, {"reason": reason, "once": once[1]}, follow=True)


def test_sessions_end_and_nobody_logs_in(alice: User, desk: Client) -> None:
    session = inside(alice)
    assert session.get("/account/").status_code == 200
    act(desk, alice, "suspend")
    assert session.get("/account/").status_code == 302
    form = {"login": "alice@example.org", "password": "alice-password"}
    page = Client().post("/accounts/login/", form, follow=True)
    assert "suspended or closed" in page.content.decode()
    alice.refresh_from_db()
    assert (alice.is_active, alice.suspended_reason) == (False, "Stolen card")


def test_keys_stop_and_shared_links_go_dark(alice: User, desk: Client) -> None:
    give(alice)
    _, text = keys.make(alice, "My script")
    link = ShareLink.objects.create(user=alice, picture=picture_for(alice))
    assert keys.find(text) and Client().get(link.get_absolute_url()).status_code == 200
    act(desk, alice, "suspend")
    assert not keys.find(text) and Client().get(link.get_absolute_url()).status_code == 404
    act(desk, alice, "lift")
    assert keys.find(text) and Client().get(link.get_absolute_url()).status_code == 200


def test_what_waits_is_cancelled_and_what_was_sent_goes_on(alice: User, desk: Client) -> None:
    give(alice)
    sent, waiting = leased(job_for(alice)), job_for(alice)
    Job.objects.filter(pk=sent.pk).update(state=Job.State.RUNNING, cost_micros=1)
    act(desk, alice, "suspend")
    sent.refresh_from_db(), waiting.refresh_from_db()
    assert (sent.state, waiting.state) == (Job.State.RUNNING, Job.State.CANCELLED)
    assert (ledger.wallet_of(alice).posted, ledger.wallet_of(alice).held) == (10 * USD, 35_000)
    assert upkeep.audit() == []


def test_a_session_of_before_stays_dead_when_it_is_lifted(alice: User, desk: Client) -> None:
    session = inside(alice)
    act(desk, alice, "suspend")
    act(desk, alice, "lift", "It was her own card")
    assert session.get("/account/").status_code == 302
    assert inside(User.objects.get(pk=alice.pk)).get("/account/").status_code == 200
    alice.refresh_from_db()
    assert (alice.is_active, alice.suspended, alice.suspended_reason) == (True, None, "")


def test_what_was_under_way_lets_nobody_in_again(alice: User) -> None:
    """A form of theirs had read the row before, and writes it afterwards."""
    seen = User.objects.get(pk=alice.pk)
    suspension.suspend(alice, "Stolen card")
    seen.name = "Alice"
    seen.save()
    alice.refresh_from_db()
    assert (alice.is_active, alice.suspended_reason, alice.sign_outs) == (False, "Stolen card", 1)
    assert alice.suspended and alice.name == "Alice"


def test_welcome_credits_wait_until_it_is_lifted(alice: User) -> None:
    """A link in a mail of before proves an address, also when its account is shut."""
    suspension.suspend(alice, "Stolen card")
    welcome.make_due(alice)
    assert not welcome.give(alice) and ledger.wallet_of(alice).posted == 0
    assert suspension.lift(alice) and welcome.give_due() == 1


def new_password(user: User) -> None:
    AccountAdapter().set_password(user, "another-password")


def new_name(user: User) -> None:
    form = ProfileForm({"name": "Bob", "time_zone": ""}, instance=user)
    assert form.is_valid() and form.save() == user


@pytest.mark.parametrize("act_of_theirs", [new_password, new_name])
def test_a_form_of_theirs_gives_no_power_back(bob: User, act_of_theirs: Callable[[User], None]) -> None:
    User.objects.filter(pk=bob.pk).update(is_staff=True, is_superuser=True)
    seen = User.objects.get(pk=bob.pk)
    User.objects.filter(pk=bob.pk).update(is_staff=False, is_superuser=False)
    act_of_theirs(seen)
    bob.refresh_from_db()
    assert not bob.is_staff and not bob.is_superuser
    assert bob.name == "Bob" or bob.check_password("another-password")


def test_twice_is_once_and_each_is_in_the_trail(alice: User, desk: Client) -> None:
    assert b"Suspended: 1 of 1." in act(desk, alice, "suspend").content
    assert b"Suspended: 0 of 1." in act(desk, alice, "suspend").content
    act(desk, alice, "lift", "Cleared up")
    said = (
        LogEntry.objects.filter(object_id=str(alice.pk))
        .order_by("pk")
        .values_list("change_message", flat=True)
    )
    assert list(said) == ["Suspended, 0 waiting jobs cancelled: Stolen card", "Suspension lifted: Cleared up"]


def test_signed_out_everywhere_is_not_suspended(alice: User, desk: Client) -> None:
    sessions = [inside(alice), inside(alice)]
    act(desk, alice, "sign-out")
    assert [session.get("/account/").status_code for session in sessions] == [302, 302]
    assert inside(User.objects.get(pk=alice.pk)).get("/account/").status_code == 200


@pytest.mark.parametrize("what", ["suspend", "lift", "sign-out"])
def test_without_a_reason_nothing_happens(alice: User, desk: Client, what: str) -> None:
    desk.post(f"/admin/accounts/user/{what}/?ids={alice.pk}", {"reason": "", "once": "x"})
    alice.refresh_from_db()
    assert alice.is_active and not alice.sign_outs and not LogEntry.objects.exists()


@pytest.mark.parametrize("what", ["suspend", "lift", "sign-out", "note"])
def test_staff_without_the_permission_can_do_none_of_it(alice: User, bob: User, what: str) -> None:
    bob.is_staff = True
    bob.save()
    bob.user_permissions.set(Permission.objects.filter(codename="view_user"))
    at = f"/admin/accounts/user/{what}/?ids={alice.pk}"
    client = inside(bob)
    assert client.get(at).status_code == 403
    assert client.post(at, {"reason": "x", "once": "x"}).status_code == 403
    page = client.get(f"/admin/accounts/user/{alice.pk}/change/").content.decode()
    assert "alice@example.org" in page and f"?ids={alice.pk}" not in page


def test_nobody_suspends_themselves_and_staff_no_superuser(bob: User, charlie: User, desk: Client) -> None:
    form = {"reason": "x", "once": "x"}
    assert desk.post(f"/admin/accounts/user/suspend/?ids={charlie.pk}", form).status_code == 403
    bob.is_staff = True
    bob.save()
    bob.user_permissions.set(Permission.objects.filter(codename__in=["view_user", "change_user"]))
    at = f"/admin/accounts/user/suspend/?ids={charlie.pk}"
    assert inside(bob).post(at, form).status_code == 403
    charlie.refresh_from_db()
    assert charlie.is_active


def test_a_closed_account_and_the_console_are_not_opened_again(alice: User) -> None:
    suspension.suspend(alice, "x")
    User.objects.filter(pk=alice.pk).update(deleted=alice.date_joined)
    assert not suspension.lift(alice)
    alice.refresh_from_db()
    assert not alice.is_active


def test_a_closed_account_is_granted_nothing(alice: User, desk: Client) -> None:
    erasure.close(alice)
    form = {"usd": "5", "reason": "Sorry", "once": "one"}
    assert desk.post(f"/admin/accounts/user/grant/?ids={alice.pk}", form).status_code == 302
    assert ledger.wallet_of(alice).posted == 0
