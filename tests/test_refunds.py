"""Money back: whole or in parts, never more than was charged, whoever asks at the same moment."""

import random
import re
from collections import Counter
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client

from accounts import audit, ledger, refunds
from accounts.models import Hold, Transfer, User, Wallet
from playground import orders, upkeep
from playground.models import Job
from tests.making import USD, give, job_for, picture_for
from tests.racing import Outcome, Track


@pytest.fixture
def paid(alice: User) -> Hold:
    """Alice's hold for a picture of 35,000 micro-dollars."""
    give(alice)
    return picture_for(alice).job.hold


def refund(held: Hold, micros: int, name: str = "refund:1", by: User | None = None) -> bool:
    held = Hold.objects.select_related("wallet__user").get(pk=held.pk)
    return refunds.refund(held, micros, business_id=name, memo="Sorry", actor=by)


def balance(user: User) -> int:
    return ledger.wallet_of(user).posted


# --- What a refund is ---------------------------------------------------------------------------------
def test_a_whole_refund_is_on_the_balance_and_on_the_books(alice: User, charlie: User, paid: Hold) -> None:
    assert refund(paid, 35_000, by=charlie)
    paid.refresh_from_db()
    row = Transfer.objects.get(kind="refund")
    assert (balance(alice), paid.refunded) == (10 * USD, 35_000)
    assert (row.debit.name, row.credit.user, row.hold, row.actor) == ("house:revenue", alice, paid, charlie)
    assert upkeep.audit() == []


def test_parts_add_up_to_the_charge_and_no_further(alice: User, paid: Hold) -> None:
    assert refund(paid, 20_000, "refund:1")
    with pytest.raises(refunds.MoreThanCaptured, match=r"only 2\.14 credits"):
        refund(paid, 15_001, "refund:2")
    assert refund(paid, 15_000, "refund:3")
    with pytest.raises(refunds.MoreThanCaptured, match="nothing more"):
        refund(paid, 1, "refund:4")
    assert balance(alice) == 10 * USD
    assert upkeep.audit() == []


def test_the_same_refund_twice_is_one(alice: User, paid: Hold) -> None:
    assert refund(paid, 35_000)
    assert not refund(paid, 35_000)
    assert Transfer.objects.filter(kind="refund").count() == 1
    assert upkeep.audit() == []


@pytest.mark.parametrize("micros", [0, -1])
def test_a_refund_is_of_something(paid: Hold, micros: int) -> None:
    with pytest.raises(ValueError):
        refund(paid, micros)


def test_what_was_not_charged_cannot_be_refunded(alice: User) -> None:
    give(alice)
    waiting = job_for(alice)
    preview = picture_for(alice, pay="preview").job
    ledger.grant_signup(alice)
    gift = Hold.objects.get(wallet__name="house:promo")
    for held in (waiting.hold, preview.hold, gift):
        with pytest.raises(refunds.NothingToRefund):
            refund(held, 1)
    assert not Transfer.objects.filter(kind="refund").exists()
    assert upkeep.audit() == []


def test_a_kept_preview_can_be_refunded(alice: User) -> None:
    give(alice)
    picture = picture_for(alice, pay="preview")
    orders.keep(picture)
    assert refund(Hold.objects.get(business_id=f"keep:{picture.pk}"), 35_000)
    assert balance(alice) == 10 * USD
    assert upkeep.audit() == []


def test_a_refund_gives_no_room_back_in_a_cap(alice: User, paid: Hold) -> None:
    refund(paid, 35_000)
    assert ledger.usage(ledger.spending_of(alice), "day").spent == 35_000


@pytest.mark.parametrize("change", [{"refunded": 1}, {"refunded": 34_999}])
def test_the_audit_names_a_hold_whose_refunds_do_not_add_up(paid: Hold, change: dict[str, int]) -> None:
    refund(paid, 35_000)
    Hold.objects.filter(pk=paid.pk).update(**change)
    assert [found["invariant"] for found in audit.audit()] == ["refunded = its refunds"]


def test_the_audit_names_a_refund_to_somebody_else(alice: User, bob: User, paid: Hold) -> None:
    sides = {"debit": ledger.house(Wallet.House.REVENUE), "credit": ledger.wallet_of(bob), "hold": paid}
    ledger.move("refund:wrong", Transfer.Kind.REFUND, **sides, micros=5, memo="")
    assert {found["invariant"] for found in audit.audit()} == {"refunded = its refunds"}


# --- Where it shows -----------------------------------------------------------------------------------
def test_its_owner_sees_it_on_the_statement_and_on_the_receipt(alice: User, paid: Hold) -> None:
    refund(paid, 14_000)
    client = Client()
    client.force_login(alice)
    statement = client.get("/account/").content.decode()
    job = Job.objects.get(hold=paid)
    assert "Sorry" in statement and statement.count(f"/jobs/{job.pk}/") == 2
    receipt = client.get(f"/jobs/{job.pk}/", follow=True).content.decode()
    assert "Refunded" in receipt and "2.00 credits ($0.014)" in receipt


# --- At the desk --------------------------------------------------------------------------------------
def ask(desk: Client, held: Hold) -> tuple[str, dict[str, str]]:
    at = f"/admin/accounts/hold/refund/?ids={held.pk}"
    once = re.search(r'name="once" value="(\w+)"', desk.get(at).content.decode())
    assert once
    return at, {"once": once[1], "reason": "Blurred"}


def test_charlie_refunds_with_a_reason_once_however_often_the_form_is_sent(
    alice: User, desk: Client, paid: Hold
) -> None:
    at, form = ask(desk, paid)
    for _ in range(2):
        assert desk.post(at, form | {"usd": "0.01"})["Location"] == f"/admin/accounts/user/{alice.pk}/change/"
    assert balance(alice) == 10 * USD - 25_000
    [logged] = LogEntry.objects.filter(object_id=str(alice.pk))
    assert "1.42 credits ($0.01)" in logged.change_message and "Blurred" in logged.change_message


def test_an_empty_amount_is_all_that_is_left(alice: User, desk: Client, paid: Hold) -> None:
    refund(paid, 10_000)
    at, form = ask(desk, paid)
    desk.post(at, form)
    assert balance(alice) == 10 * USD


@pytest.mark.parametrize("asked", [{"reason": ""}, {"usd": "0"}, {"usd": "-1"}, {"usd": "0.036"}])
def test_without_a_reason_or_beyond_the_charge_the_form_comes_back(
    alice: User, desk: Client, paid: Hold, asked: dict[str, str]
) -> None:
    at, form = ask(desk, paid)
    page = desk.post(at, form | asked)
    assert page.status_code == 200 and b"error" in page.content
    assert balance(alice) == 10 * USD - 35_000
    assert not LogEntry.objects.exists()


def test_charges_are_refunded_from_the_lists_and_from_the_job(alice: User, desk: Client, paid: Hold) -> None:
    charge = Transfer.objects.get(kind="charge")
    for path, row in (("transfer", charge.pk), ("hold", paid.pk)):
        chosen = {"action": "refund", "_selected_action": [row]}
        at = desk.post(f"/admin/accounts/{path}/", chosen)["Location"]
        assert at == f"/admin/accounts/hold/refund/?ids={paid.pk}"
    job = Job.objects.get(hold=paid)
    assert at in desk.get(f"/admin/playground/job/{job.pk}/change/").content.decode()
    refund(paid, 35_000)
    assert at not in desk.get(f"/admin/playground/job/{job.pk}/change/").content.decode()


def test_of_several_charges_those_that_are_refunded_already_are_passed_over(
    alice: User, desk: Client, paid: Hold
) -> None:
    other = picture_for(alice).job.hold
    refund(paid, 35_000)
    at = f"/admin/accounts/hold/refund/?ids={paid.pk},{other.pk}"
    page = desk.post(at, {"reason": "The outage", "once": "o"}, follow=True)
    assert b"Refunded: 1 of 2." in page.content
    assert balance(alice) == 10 * USD


def test_staff_without_the_permission_cannot_refund(bob: User, paid: Hold) -> None:
    bob.is_staff = True
    bob.save()
    bob.user_permissions.set(Permission.objects.filter(codename__in=["view_hold", "view_job", "change_user"]))
    client = Client()
    client.force_login(bob)
    at = f"/admin/accounts/hold/refund/?ids={paid.pk}"
    assert client.get(at).status_code == 403
    assert client.post(at, {"reason": "x", "once": "x"}).status_code == 403
    page = client.get(f"/admin/playground/job/{Job.objects.get(hold=paid).pk}/change/").content
    assert b"charged" in page and b"/refund/" not in page
    assert b'value="refund"' not in client.get("/admin/accounts/hold/").content


# --- Many at once: real processes, both databases -----------------------------------------------------
def _charge(address: str, micros: int) -> int:
    user = User.objects.create_user(address)
    ledger.grant(user, micros, business_id=f"grant:{address}", memo="To race with")
    promise = ledger.Promise(f"job:{address}", micros, "Picture")
    [held] = ledger.hold(ledger.wallet_of(user), [promise])
    ledger.capture(held.pk, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.CHARGE)
    return held.pk


def _refund_some(hold_id: int, name: str, micros: int) -> bool | str:
    held = Hold.objects.select_related("wallet__user").get(pk=hold_id)
    try:
        return refunds.refund(held, micros, business_id=name, memo="Race", actor=None)
    except refunds.MoreThanCaptured:
        return "too much"


def _given(hold_id: int) -> tuple[int, int]:
    held = Hold.objects.get(pk=hold_id)
    return held.refunded, Wallet.objects.get(pk=held.wallet_id).posted


def _ends(outcomes: list[Outcome]) -> Counter[object]:
    return Counter(outcome.error or outcome.value for outcome in outcomes)


@pytest.mark.kills
@pytest.mark.races
def test_twenty_refunds_at_once_stay_within_the_charge(track: Track) -> None:
    held = track.alone(_charge, "alice@example.org", 35_000)
    ends = _ends(track.race(_refund_some, [(held, f"refund:{n}", 10_000) for n in range(20)]))
    assert ends == {True: 3, "too much": 17}
    assert track.alone(_given, held) == (30_000, 30_000)


@pytest.mark.kills
@pytest.mark.races
def test_one_refund_that_is_asked_for_twenty_times_at_once_is_one(track: Track) -> None:
    held = track.alone(_charge, "alice@example.org", 35_000)
    ends = _ends(track.race(_refund_some, [(held, "refund:1", 35_000)] * 20))
    assert ends == {True: 1, False: 19}
    assert track.alone(_given, held) == (35_000, 35_000)


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(3))
def test_random_refunds_never_give_more_than_was_taken(alice: User, seed: int) -> None:
    give(alice)
    dice = random.Random(seed)
    holds = [picture_for(alice).job.hold for _ in range(3)]
    for number in range(25):
        held: Any = dice.choice(holds)
        try:
            refund(held, dice.randrange(1, 20_000), f"refund:{number}")
        except refunds.MoreThanCaptured as no:
            assert no.left < no.asked
    given = [Hold.objects.get(pk=held.pk).refunded for held in holds]
    assert balance(alice) == 10 * USD - 3 * 35_000 + sum(given)
    assert upkeep.audit(with_files=False) == []
