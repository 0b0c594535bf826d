import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from accounts import ledger
from accounts.desk import ShallowPaginator
from accounts.models import Transfer, User
from playground import catalog, jobs, upkeep
from playground.models import Job, Picture, Price, Run, ShareLink, Switch, Variant
from tests.making import PRO, USD, give, job_for, leased, load_catalogue, picture_for, run_for


def act(desk: Client, model: str, action: str, *rows: Any, follow: bool = False) -> Any:
    chosen = [row.pk for row in rows]
    return desk.post(f"/admin/{model}/", {"action": action, "_selected_action": chosen}, follow=follow)


def act_why(desk: Client, model: str, action: str, *rows: Any) -> Any:
    """The same for an action that asks why; without a reason it does nothing."""
    address = act(desk, model, action, *rows)["Location"]
    assert desk.post(address, {"once": "a"}).status_code == 200
    return desk.post(address, {"once": "a", "reason": "Stuck since noon"}, follow=True)


def ask_grant(desk: Client, *users: User) -> tuple[str, str]:
    """The address of the grant form, and the id that this form carries."""
    address = act(desk, "accounts/user", "grant_credit", *users)["Location"]
    form = desk.get(address).content.decode()
    once = re.search(r'name="once" value="(\w+)"', form)
    assert once
    return address, once[1]


# --- Who may come in ----------------------------------------------------------------------------------
def test_every_page_of_the_desk_says_which_zone_its_times_are_in(desk: Client) -> None:
    for page in ("/admin/", "/admin/playground/job/", "/admin/accounts/transfer/"):
        assert "Times are UTC." in desk.get(page).content.decode()


def test_each_label_where_a_reason_is_asked_for_belongs_to_something(alice: User, desk: Client) -> None:
    page = desk.get(f"/admin/accounts/user/suspend/?ids={alice.pk}").content.decode()
    named = re.findall(r"<label([^>]*)>", page.partition("<form method")[2])
    ids = [re.findall(r'for="(\w+)"', label) for label in named]
    assert len(ids) == 2 and all(f'id="{one}"' in page for [one] in ids)


def test_strangers_log_in_at_the_sites_own_door(alice: User) -> None:
    response = Client().get("/admin/login/?next=/admin/")
    assert response["Location"] == "/accounts/login/?next=%2Fadmin%2F"
    client = Client()
    client.force_login(alice)
    assert client.get("/admin/", follow=True).status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "accounts/user", "accounts/wallet", "accounts/transfer", "accounts/hold", "accounts/capwindow",
        "accounts/cap", "admin/logentry", "playground/variant", "playground/job", "playground/jobevent",
        "playground/run", "playground/picture", "playground/sharelink", "playground/switch",
        "playground/drivebeat", "django_q/failure",
    ],
)  # fmt: skip
def test_every_list_opens_and_can_be_searched(alice: User, desk: Client, path: str) -> None:
    give(alice)
    picture = picture_for(alice)
    ShareLink.objects.create(user=alice, picture=picture)
    assert desk.get(f"/admin/{path}/").status_code == 200
    for words in ("alice@example.org", str(picture.pk), "x", "%00'\""):
        assert desk.get(f"/admin/{path}/", {"q": words}).status_code == 200


def test_the_queue_offers_no_functions_to_run(desk: Client) -> None:
    assert desk.get("/admin/django_q/schedule/").status_code == 404


# --- Users and their money ----------------------------------------------------------------------------
def test_the_list_of_users_has_balances_and_no_query_per_row(
    desk: Client, django_assert_max_num_queries: Any
) -> None:
    for number in range(60):
        give(User.objects.create_user(f"user{number}@example.org"), usd=1)
    with django_assert_max_num_queries(9):
        page = desk.get("/admin/accounts/user/").content.decode()
    assert page.count("142.85\N{NO-BREAK SPACE}credits\N{NO-BREAK SPACE}($1.00)") == 50


def test_charlie_grants_credit_with_a_reason_that_is_on_the_books(
    alice: User, bob: User, charlie: User, desk: Client
) -> None:
    address, once = ask_grant(desk, alice, bob)
    desk.post(address, {"usd": "2.50", "reason": "Sorry for Monday", "once": once})
    assert [ledger.wallet_of(user).posted for user in (alice, bob)] == [2_500_000, 2_500_000]
    transfer = Transfer.objects.get(credit__user=alice)
    assert (transfer.actor, transfer.memo) == (charlie, "Sorry for Monday")
    logged = LogEntry.objects.get(object_id=str(alice.pk))
    assert "357.14 credits ($2.50): Sorry for Monday" in logged.change_message


def test_sending_the_grant_form_twice_grants_once(alice: User, desk: Client) -> None:
    address, once = ask_grant(desk, alice)
    for _ in range(2):
        desk.post(address, {"usd": "1", "reason": "Once", "once": once})
    assert ledger.wallet_of(alice).posted == 1 * USD
    assert LogEntry.objects.count() == 1
    _, another = ask_grant(desk, alice)
    desk.post(address, {"usd": "1", "reason": "Again", "once": another})
    assert ledger.wallet_of(alice).posted == 2 * USD


def test_a_grant_form_that_is_sent_again_says_that_nothing_was_granted(alice: User, desk: Client) -> None:
    address, once = ask_grant(desk, alice)
    desk.post(address, {"usd": "1", "reason": "Once", "once": once})
    back = desk.post(address, {"usd": "2", "reason": "After the back button", "once": once}, follow=True)
    [_, said] = back.context["messages"]  # the first is of the grant
    assert (said.level_tag, "0 of 1." in said.message) == ("warning", True)
    assert "sent before" in said.message


@pytest.mark.parametrize(
    "asked",
    [
        {"usd": "1"},
        {"reason": "no amount"},
        {"usd": "0", "reason": "x"},
        {"usd": "-1", "reason": "x"},
        {"usd": "0.0000001", "reason": "x"},
        {"usd": "10001", "reason": "x"},
    ],
)
def test_a_grant_without_reason_or_with_a_strange_amount_is_refused(
    alice: User, desk: Client, asked: dict[str, str]
) -> None:
    address, once = ask_grant(desk, alice)
    assert desk.post(address, asked | {"once": once}).status_code == 200
    assert not Transfer.objects.exists()


def test_staff_without_the_permission_cannot_grant(alice: User, bob: User) -> None:
    bob.is_staff = True
    bob.save()
    bob.user_permissions.set(
        Permission.objects.filter(codename__in=["view_user", "change_user", "view_transfer"])
    )
    client = Client()
    client.force_login(bob)
    act(client, "accounts/user", "grant_credit", alice)
    assert (
        client.post(f"/admin/accounts/user/grant/?ids={alice.pk}", {"usd": "1", "reason": "x"}).status_code
        == 403
    )
    client.post(f"/admin/accounts/user/{bob.pk}/change/", {"is_superuser": "on", "is_active": "on"})
    bob.refresh_from_db()
    assert not bob.is_superuser


def test_balances_and_books_are_for_reading_even_to_superusers(
    alice: User, charlie: User, desk: Client
) -> None:
    give(alice)
    job = job_for(alice)
    rows = {
        "accounts/wallet": ledger.wallet_of(alice).pk,
        "accounts/transfer": Transfer.objects.get().pk,
        "accounts/hold": job.hold_id,
        "accounts/capwindow": job.hold.cap_uses.first().window_id,
        "playground/jobevent": job.events.get().pk,
        "playground/job": job.pk,
        "playground/run": job.run_id,
    }
    for path, pk in rows.items():
        page = desk.get(f"/admin/{path}/{pk}/change/")
        assert page.status_code == 200
        assert b'name="_save"' not in page.content
        assert desk.post(f"/admin/{path}/{pk}/change/", {"amount": 1}).status_code == 403
        assert desk.post(f"/admin/{path}/{pk}/delete/", {"post": "yes"}).status_code == 403
        assert desk.get(f"/admin/{path}/add/").status_code == 403
        assert b'value="delete_selected"' not in desk.get(f"/admin/{path}/").content
    assert b'name="posted"' not in desk.get(f"/admin/accounts/user/{alice.pk}/change/").content
    assert upkeep.audit() == []


def test_a_users_page_can_be_saved_and_its_address_cannot_be_changed(alice: User, desk: Client) -> None:
    at = f"/admin/accounts/user/{alice.pk}/change/"
    form = {"email": "evil@example.org", "is_active": "", "is_staff": "on"}
    assert desk.post(at, form).status_code == 302
    alice.refresh_from_db()
    assert (alice.email, alice.is_active, alice.is_staff) == ("alice@example.org", True, True)


def test_a_users_page_leads_to_their_books_however_the_address_is_spelt(desk: Client) -> None:
    user = User.objects.create_user("d'a+b&c@example.org")
    page = desk.get(f"/admin/accounts/user/{user.pk}/change/").content.decode()
    assert "/admin/accounts/hold/?q=d%27a%2Bb%26c%40example.org" in page


# --- Jobs ---------------------------------------------------------------------------------------------
def test_charlie_cancels_what_owes_nothing(alice: User, desk: Client) -> None:
    give(alice)
    job = job_for(alice)
    act_why(desk, "playground/job", "cancel", job)
    job.refresh_from_db()
    assert job.state == Job.State.CANCELLED
    assert ledger.wallet_of(alice).held == 0
    assert LogEntry.objects.get().object_id == str(job.pk)


def test_charlie_fails_what_is_stuck_and_the_hold_is_released(alice: User, desk: Client) -> None:
    give(alice)
    job = leased(job_for(alice))
    assert jobs.sending(job)
    assert jobs.started(job, "up-1")
    act_why(desk, "playground/job", "fail_and_release", job)
    job.refresh_from_db()
    assert (job.state, job.failure) == (Job.State.FAILED, "given_up")
    assert (ledger.wallet_of(alice).held, ledger.wallet_of(alice).posted) == (0, 10 * USD)
    assert upkeep.audit() == []


def test_a_finished_job_is_left_alone(alice: User, desk: Client) -> None:
    give(alice)
    picture = picture_for(alice)
    response = act_why(desk, "playground/job", "fail_and_release", picture.job)
    assert b"Failed and released: 0 of 1." in response.content
    assert not LogEntry.objects.exists()


def test_jobs_are_found_by_any_id_and_filtered(alice: User, bob: User, desk: Client) -> None:
    give(alice), give(bob)
    picture, other = picture_for(alice), job_for(bob)
    for words in (
        picture.pk,
        picture.job_id,
        picture.job.run_id,
        f"up-{picture.job_id}",
        "alice@example.org",
    ):
        page = desk.get("/admin/playground/job/", {"q": str(words)}).content.decode()
        assert f"/job/{picture.job_id}/" in page
        assert f"/job/{other.pk}/" not in page
    page = desk.get("/admin/playground/job/?state__exact=queued").content.decode()
    assert str(other.pk) in page
    assert str(picture.job_id) not in page


def test_what_opens_doors_is_not_shown(alice: User, desk: Client) -> None:
    give(alice)
    job = picture_for(alice).job
    page = desk.get(f"/admin/playground/job/{job.pk}/change/").content.decode()
    assert job.callback_token not in page
    assert "up.example" not in page


def test_lists_do_not_count_the_whole_table(
    alice: User, desk: Client, django_assert_max_num_queries: Any
) -> None:
    give(alice)
    run_for(alice, count=4)
    with django_assert_max_num_queries(9) as queries:
        desk.get("/admin/playground/job/")
    counts = [q["sql"] for q in queries if "COUNT(" in q["sql"]]
    assert counts and all("LIMIT 2000" in sql for sql in counts)


def test_a_list_that_was_not_counted_to_its_end_says_so(
    alice: User, bob: User, desk: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = desk.get("/admin/accounts/user/").content.decode()
    assert "3 results" in page and "or more" not in page
    monkeypatch.setattr(ShallowPaginator, "MOST", 2)
    page = desk.get("/admin/accounts/user/").content.decode()
    assert "2 or more results" in page and "2 or more users" in page


@pytest.mark.parametrize(
    "path", ["playground/job", "accounts/hold", "accounts/stripeevent", "playground/switch"]
)
def test_a_question_with_a_nul_in_it_breaks_no_list_and_no_page(desk: Client, path: str) -> None:
    for query in ("state__exact=%00", "q=%00", "%00=1", "failure=a&failure=%00"):
        assert desk.get(f"/admin/{path}/?{query}")["Location"] == f"/admin/{path}/?e=1"
    for page in ("change", "history", "delete"):
        assert desk.get(f"/admin/{path}/%00/{page}/").status_code in (302, 403)


# --- The catalogue ------------------------------------------------------------------------------------
def variant_form(variant: Variant, **changes: Any) -> dict[str, Any]:
    """What the change form sends: the fields of the variant, and the rows of its inlines."""
    fields = ("name", "label", "maker", "family", "kind", "resolution", "blurb", "position")
    return {
        **{name: getattr(variant, name) for name in fields},
        "parameters": json.dumps(variant.parameters), "is_live": "on",
        "prices-TOTAL_FORMS": 0, "prices-INITIAL_FORMS": 0,
        "routes-TOTAL_FORMS": 0, "routes-INITIAL_FORMS": 0,
        **changes,
    }  # fmt: skip


def new_price(usd: str, starts: Any) -> dict[str, Any]:
    return {
        "prices-TOTAL_FORMS": 1,
        "prices-0-usd": usd,
        "prices-0-starts_0": f"{starts:%Y-%m-%d}",
        "prices-0-starts_1": f"{starts:%H:%M:%S}",
    }


def test_a_price_is_dated_ahead_and_the_old_one_stays(desk: Client) -> None:
    load_catalogue()
    variant = Variant.objects.get(slug=PRO)
    tomorrow = timezone.now() + timedelta(days=1)
    at = f"/admin/playground/variant/{variant.pk}/change/"
    page = desk.get(at).content.decode()
    assert "$0.035 (5.00 credits)" in page
    silent = desk.post(at, variant_form(variant, **new_price("0.07", tomorrow)))
    assert b"Say why" in silent.content
    assert variant.prices.count() == 1
    response = desk.post(at, variant_form(variant, reason="Dearer upstream", **new_price("0.07", tomorrow)))
    assert response.status_code == 302
    assert list(variant.prices.values_list("micros", flat=True)) == [70_000, 35_000]
    assert catalog.by_slugs([PRO])[0].price_micros == 35_000


def test_a_price_cannot_begin_in_the_past_or_change(desk: Client) -> None:
    load_catalogue()
    variant = Variant.objects.get(slug=PRO)
    price = Price.objects.get(variant=variant)
    at = f"/admin/playground/variant/{variant.pk}/change/"
    late = desk.post(at, variant_form(variant, **new_price("0.07", timezone.now() - timedelta(days=1))))
    assert b"cannot begin in the past" in late.content
    forged = {
        "prices-TOTAL_FORMS": 1, "prices-INITIAL_FORMS": 1,
        "prices-0-id": price.pk, "prices-0-variant": variant.pk, "prices-0-usd": "9", "prices-0-DELETE": "on",
    }  # fmt: skip
    desk.post(at, variant_form(variant, **forged))
    assert list(variant.prices.values_list("micros", flat=True)) == [35_000]


def test_variants_are_switched_off_and_on_and_never_deleted(desk: Client) -> None:
    load_catalogue()
    variant = Variant.objects.get(slug=PRO)
    act(desk, "playground/variant", "switch_off", variant)
    assert catalog.by_slugs([PRO]) == []
    act(desk, "playground/variant", "switch_on", variant)
    assert [found.slug for found in catalog.by_slugs([PRO])] == [PRO]
    assert desk.post(f"/admin/playground/variant/{variant.pk}/delete/", {"post": "yes"}).status_code == 403
    assert LogEntry.objects.count() == 2


def test_288_variants_are_listed_without_a_query_per_row(
    desk: Client, django_assert_max_num_queries: Any
) -> None:
    variants = Variant.objects.bulk_create(
        Variant(slug=f"v{n}", name=f"v{n}", label=f"V{n}", kind="text-to-image", blurb="x")
        for n in range(288)
    )
    Price.objects.bulk_create(Price(variant=variant, micros=7_000) for variant in variants)
    with django_assert_max_num_queries(8):
        assert "1.00\N{NO-BREAK SPACE}credits" in desk.get("/admin/playground/variant/").content.decode()


# --- The kill switch ----------------------------------------------------------------------------------
def test_the_switch_stops_dispatch_and_says_who_and_why(alice: User, charlie: User, desk: Client) -> None:
    give(alice)
    job_for(alice)
    at = "/admin/playground/switch/dispatch/change/"
    assert desk.get(at).status_code == 200
    assert b"dispatch" in desk.get("/admin/playground/switch/").content
    assert b"Say why" in desk.post(at, {"reason": ""}).content
    desk.post(at, {"reason": "The upstream overcharges"})
    switch = Switch.objects.get()
    assert (switch.is_on, switch.changed_by) == (False, charlie)
    assert jobs.claim("drive", 10) == []
    desk.post(at, {"is_on": "on", "reason": ""})
    assert len(jobs.claim("drive", 10)) == 1
    assert desk.post("/admin/playground/switch/dispatch/delete/", {"post": "yes"}).status_code == 403


# --- Shared links -------------------------------------------------------------------------------------
def test_charlie_takes_a_link_down_with_a_reason_and_puts_it_back(alice: User, desk: Client) -> None:
    give(alice)
    link = ShareLink.objects.create(user=alice, picture=picture_for(alice))
    address = act(desk, "playground/sharelink", "take_down", link)["Location"]
    assert b"Links taken down" not in desk.post(address, {"once": "x"}).content
    assert Client().get(link.get_absolute_url()).status_code == 200
    response = desk.post(address, {"reason": "Reported", "once": "x"}, follow=True)
    assert b"Links taken down: 1 of 1." in response.content
    assert Client().get(link.get_absolute_url()).status_code == 404
    assert LogEntry.objects.get().change_message == "Taken down: Reported"
    act(desk, "playground/sharelink", "put_back", link)
    assert Client().get(link.get_absolute_url()).status_code == 200


def test_a_link_is_found_by_its_whole_address(alice: User, desk: Client) -> None:
    give(alice)
    link = ShareLink.objects.create(user=alice, run=picture_for(alice).job.run)
    page = desk.get("/admin/playground/sharelink/", {"q": f"https://flux.example.com/s/{link.token}/"})
    assert link.token in page.content.decode()
    assert Picture.objects.count() == Run.objects.count() == 1
