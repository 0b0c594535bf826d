"""One page per person: all that staff need, each part for those who may see it, each deed with its reason."""

import re
from typing import Any

import pytest
from allauth.mfa.totp.internal import auth as totp
from django.contrib.admin.models import LogEntry
from django.test import Client

from accounts import caps, keys, ledger
from accounts.models import ApiKey, TopUp, User
from playground import jobs
from playground.models import ShareLink
from tests.making import USD, clerk, give, job_for, leased, picture_for


def page_of(client: Client, user: User) -> str:
    answer = client.get(f"/admin/accounts/user/{user.pk}/change/")
    assert answer.status_code == 200
    return str(answer.content.decode())


def form_of(client: Client, at: str) -> dict[str, str]:
    once = re.search(r'name="once" value="(\w+)"', client.get(at).content.decode())
    assert once
    return {"once": once[1]}


def test_a_new_account_has_a_page(alice: User, desk: Client) -> None:
    page = page_of(desk, alice)
    assert "No money has moved." in page and "Nothing was ordered." in page and "None is set." in page


def test_the_page_has_all_that_is_theirs(alice: User, desk: Client) -> None:
    give(alice)
    picture = picture_for(alice)
    jobs.fail(leased(job_for(alice)), "moderated", "unsafe")
    waiting = job_for(alice)
    caps.put_stops(alice, {"day": 2 * USD})
    key, _ = keys.make(alice, "My script")
    link = ShareLink.objects.create(user=alice, picture=picture)
    top_up = TopUp.objects.create(user=alice, micros=5 * USD, cents=500, state="expired")
    totp.TOTP.activate(alice, totp.generate_totp_secret())
    page = page_of(desk, alice)
    for words in (
        "$9.93", "$0.035", "$9.965", "1 picture,",  # available, held, balance, spent
        "day cap: stops at $2.00", "safety filter refused", "unsafe",
        str(waiting.pk), key.shown, link.token[:8], f"/topup/{top_up.pk}/", "on <small>",
        f"/admin/accounts/hold/refund/?ids={picture.job.hold_id}",
    ):  # fmt: skip
        assert words in page, words


def test_the_page_costs_the_same_with_more_rows(
    alice: User, desk: Client, django_assert_max_num_queries: Any
) -> None:
    give(alice, 100)
    for _ in range(6):
        ShareLink.objects.create(user=alice, picture=picture_for(alice))
    page_of(desk, alice)
    with django_assert_max_num_queries(40):
        page_of(desk, alice)


def test_deeds_lead_back_to_the_page_and_are_listed_there(alice: User, desk: Client) -> None:
    at = f"/admin/accounts/user/grant/?ids={alice.pk}"
    answer = desk.post(at, form_of(desk, at) | {"usd": "3", "reason": "Sorry"}, follow=True)
    assert answer.redirect_chain[-1][0] == f"/admin/accounts/user/{alice.pk}/change/"
    page = answer.content.decode()
    assert "Credit granted: 1 of 1." in page and "Granted 428.57 credits ($3.00): Sorry" in page


@pytest.mark.parametrize("what", ["note", "caps", "sign-out"])
def test_a_form_that_is_sent_twice_is_one_deed(alice: User, desk: Client, what: str) -> None:
    at = f"/admin/accounts/user/{what}/?ids={alice.pk}"
    form = form_of(desk, at) | {"reason": "A word", "day": "5"}
    for _ in range(2):
        desk.post(at, form)
    assert LogEntry.objects.filter(object_id=str(alice.pk)).count() == 1


def test_a_cap_form_without_a_cap_says_so(alice: User, desk: Client) -> None:
    at = f"/admin/accounts/user/caps/?ids={alice.pk}"
    assert b"Nothing would change" in desk.post(at, form_of(desk, at) | {"reason": "x"}).content


def test_a_key_is_revoked_with_a_reason(alice: User, bob: User, desk: Client) -> None:
    key, text = keys.make(alice, "My script")
    at = f"/admin/accounts/user/revoke-key/?ids={key.pk}"
    assert clerk(bob, "view_user", "view_apikey").post(at, {"reason": "x", "once": "x"}).status_code == 403
    desk.post(at, form_of(desk, at))
    assert keys.find(text)
    desk.post(at, form_of(desk, at) | {"reason": "Leaked"})
    assert not keys.find(text) and ApiKey.objects.get().revoked
    assert "Leaked" in LogEntry.objects.get(object_id=str(alice.pk)).change_message


def test_staff_see_the_parts_that_they_may_see(alice: User, bob: User) -> None:
    give(alice)
    keys.make(alice, "My script")
    picture_for(alice)
    page = page_of(clerk(bob, "view_user"), alice)
    assert "alice@example.org" in page
    for hidden in ("$9.965", "My script", "Last jobs", "Ledger", "Grant credit", "Suspend", "Staff rights"):
        assert hidden not in page, hidden
    page = page_of(clerk(bob, "view_user", "view_transfer", "view_job", "change_user"), alice)
    assert "$9.965" in page and "Last jobs" in page and "Suspend" in page and "Grant credit" not in page
    assert "/refund/" not in page and "Remove second factors" not in page


def test_balances_in_the_list_are_for_those_who_may_see_money(alice: User, bob: User) -> None:
    give(alice)
    assert "$10.00" not in clerk(bob, "view_user").get("/admin/accounts/user/").content.decode()
    assert "$10.00" in clerk(bob, "view_user", "view_transfer").get("/admin/accounts/user/").content.decode()


def test_only_superusers_set_passwords_and_rights(alice: User, bob: User) -> None:
    client = clerk(bob, "view_user", "change_user")
    at = f"/admin/accounts/user/{alice.pk}"
    assert client.get(f"{at}/password/").status_code == 403
    client.post(f"{at}/change/", {"is_staff": "on", "is_superuser": "on"})
    alice.refresh_from_db()
    assert not (alice.is_staff or alice.is_superuser)
    assert ledger.wallet_of(alice).posted == 0
