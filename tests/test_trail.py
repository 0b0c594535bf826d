"""Every action of staff is in the trail, and nobody takes it out again."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from django import forms
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.core.management import call_command
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.utils import timezone

from accounts import trail
from accounts.desk import Reason
from accounts.models import User
from playground.models import Switch, Variant
from tests.making import PRO, load_catalogue

pytestmark = pytest.mark.django_db
LIST = "/admin/admin/logentry/"


def logged(by: User, about: Any, message: str = "Did it.", at: datetime | None = None) -> LogEntry:
    return LogEntry.objects.create(
        user=by,
        content_type=ContentType.objects.get_for_model(about),
        object_id=str(about.pk),
        object_repr=str(about),
        action_flag=CHANGE,
        change_message=message,
        action_time=at or timezone.now(),
    )


# --- Append only --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "change",
    [
        {"change_message": "Something else"}, {"action_flag": 1}, {"object_id": "7"}, {"user_id": 0},
        {"action_time": datetime(2020, 1, 1, tzinfo=UTC)}, {"object_repr": "Somebody else"},
    ],
)  # fmt: skip
def test_the_database_refuses_to_change_an_entry(charlie: User, change: dict[str, Any]) -> None:
    entry = logged(charlie, charlie)
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        LogEntry.objects.filter(pk=entry.pk).update(**change)


def test_the_database_refuses_to_delete_an_entry(charlie: User) -> None:
    entry = logged(charlie, charlie)
    with pytest.raises(DatabaseError, match="never changed"), transaction.atomic():
        entry.delete()
    with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_admin_log")
    assert LogEntry.objects.count() == 1


def test_not_even_a_superuser_finds_a_way_in_the_admin(charlie: User, desk: Client) -> None:
    entry = logged(charlie, charlie)
    assert desk.get(f"{LIST}add/").status_code == 403
    for page in ("change", "delete"):
        assert desk.post(f"{LIST}{entry.pk}/{page}/", {"post": "yes"}).status_code == 403
    assert "delete_selected" not in desk.get(LIST).content.decode()


def test_a_person_who_is_forgotten_leaves_no_address_and_what_was_done_stays(
    alice: User, charlie: User
) -> None:
    entry = logged(charlie, alice, "Granted 1.00 credits: Sorry")
    assert trail.forget(alice) == 1
    entry.refresh_from_db()
    assert (entry.object_repr, entry.change_message) == ("erased", "Granted 1.00 credits: Sorry")


# --- Finding ------------------------------------------------------------------------------------------
def test_entries_are_found_by_staff_by_person_and_by_object(
    alice: User, bob: User, charlie: User, desk: Client
) -> None:
    load_catalogue()
    variant = Variant.objects.get(slug=PRO)
    logged(charlie, alice, "About Alice")
    logged(bob, variant, "About a variant")
    for words, seen, unseen in (
        ("charlie@example.org", "About Alice", "About a variant"),
        ("alice@example.org", "About Alice", "About a variant"),
        (variant.name, "About a variant", "About Alice"),
        (str(variant.pk), "About a variant", "nothing like it"),
        ("nobody@example.org", "0 entr", "About Alice"),
    ):
        page = desk.get(LIST, {"q": words}).content.decode()
        assert seen in page or words.startswith("nobody")
        assert unseen not in page
    assert f"/admin/playground/variant/{variant.pk}/change/" in desk.get(LIST).content.decode()


def test_entries_are_filtered_by_day_both_ends_included(charlie: User, desk: Client) -> None:
    for day in (1, 2, 3):
        logged(charlie, charlie, f"On day {day}", datetime(2026, 3, day, 23, 59, tzinfo=UTC))
    page = desk.get(LIST, {"since": "2026-03-02", "until": "2026-03-02"}).content.decode()
    assert "On day 2" in page
    assert "On day 1" not in page and "On day 3" not in page
    assert "On day 1" not in desk.get(LIST, {"since": "2026-03-02"}).content.decode()
    for odd in ("yesterday", "9999-12-31", "2026-13-01", "%00"):
        assert desk.get(LIST, {"since": odd, "until": odd}).status_code == 200


def test_search_days_and_list_use_an_index(
    charlie: User, desk: Client, django_assert_max_num_queries: Any
) -> None:
    if connection.vendor != "sqlite":
        pytest.skip("EXPLAIN of an empty table says nothing on PostgreSQL")
    with django_assert_max_num_queries(15) as asked:
        desk.get(LIST, {"q": "charlie@example.org", "since": "2026-03-02", "until": "2026-04-02"})
        desk.get(LIST, {"since": "2026-03-02"})
    for sql in (query["sql"] for query in asked if 'FROM "django_admin_log"' in query["sql"]):
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            plan = [row[-1] for row in cursor.fetchall()]
        assert "SCAN django_admin_log" not in plan, (sql, plan)


# --- What is said -------------------------------------------------------------------------------------
def test_powers_are_in_the_trail_with_old_and_new(alice: User, desk: Client) -> None:
    """Who may do what, whoever gave it."""
    group = Group.objects.create(name="helpers")
    may = Permission.objects.get(codename="change_variant")
    at = f"/admin/auth/group/{group.pk}/change/"
    assert desk.post(at, {"name": "curators", "permissions": [may.pk]}).status_code == 302
    said = LogEntry.objects.get().change_message
    assert "name: helpers -> curators" in said
    assert f"permissions: none -> {may}" in said


def test_a_saved_form_that_changed_nothing_says_so_and_a_secret_is_never_said(desk: Client) -> None:
    Switch.objects.get_or_create(name="dispatch")
    at = "/admin/playground/switch/dispatch/change/"
    desk.post(at, {"is_on": "on", "reason": ""})
    assert LogEntry.objects.latest("pk").change_message == "Saved without a change."
    desk.post(at, {"reason": "Overcharged"})
    assert LogEntry.objects.latest("pk").change_message == "is_on: yes -> no; reason: empty -> Overcharged."


@pytest.mark.parametrize("unseen", ["\u200b", " \u2060\ufeff ", "\u3164", "\u202e\u00ad", "\u0301"])
def test_a_reason_that_nobody_can_see_is_none(alice: User, desk: Client, unseen: str) -> None:
    page = f"/admin/accounts/user/suspend/?ids={alice.pk}"
    refused = desk.post(page, {"reason": unseen, "once": "a"})
    assert "This field is required." in refused.content.decode()
    assert User.objects.get(pk=alice.pk).is_active
    assert trail.words(unseen) == "" and trail.words(" Spam\u200b ") == "Spam\u200b"
    desk.post(page, {"reason": "怪しい", "once": "b"})
    assert not User.objects.get(pk=alice.pk).is_active


def test_every_form_of_the_desk_that_asks_why_looks_whether_it_can_be_seen(db: None) -> None:
    def forms_of(kind: type) -> set[Any]:
        return {kind}.union(*map(forms_of, kind.__subclasses__()))

    ours = [form for form in forms_of(forms.BaseForm) if ".admin." in form.__module__]
    reasons = [form.base_fields["reason"] for form in ours if "reason" in getattr(form, "base_fields", {})]
    assert len(reasons) > 5 and all(isinstance(reason, Reason) for reason in reasons)


def test_what_the_console_does_has_a_who_and_a_why(db: None) -> None:
    call_command(
        "account", "alice@example.org", "--grant", "2", "--cap-day", "5", "--staff", "--reason", "Launch"
    )
    entry = LogEntry.objects.get()
    assert (entry.user.email, entry.object_repr) == (trail.CONSOLE, "alice@example.org")
    assert "Granted 285.71 credits ($2.00); cap of day: $5.00; made a superuser of the staff: Launch (" in (
        entry.change_message
    )
    assert not entry.user.is_active and not entry.user.has_usable_password()


def test_a_second_factor_that_staff_remove_is_in_the_trail(alice: User, bob: User, desk: Client) -> None:
    factor = Authenticator.objects.create(user=alice, type=Authenticator.Type.TOTP, data={"secret": "s3cret"})
    page = desk.get(f"/admin/mfa/authenticator/{factor.pk}/change/").content.decode()
    assert "s3cret" not in page
    chosen = {"action": "remove", "_selected_action": [factor.pk]}
    at = desk.post("/admin/mfa/authenticator/", chosen)["Location"]
    desk.post(at, {"once": "a"})
    assert Authenticator.objects.count() == 1
    desk.post(at, {"once": "a", "reason": "Lost phone, passport seen"})
    assert not Authenticator.objects.exists()
    assert LogEntry.objects.get().change_message == "Second factor (totp) removed: Lost phone, passport seen"


# --- Every door of the desk ---------------------------------------------------------------------------
# Each action and page of its own that the desk has, and where a test proves that it leaves an entry. Who adds one adds it
# here with its test; what changes nothing says why.
PROVED = {
    "accounts.User": "tests/test_admin.py and the tests of the user's page",
    "accounts.Hold": "the tests of refunds",
    "accounts.Transfer": "the tests of refunds",
    "accounts.TopUp": "the tests of top-ups",
    "accounts.StripeEvent": "the tests of top-ups",
}
LEAVES_AN_ENTRY = {
    "playground.Variant": {
        "switch_on",
        "switch_off",
        "playground_variant_import",
        "playground_variant_cancel_price",
    },
    "playground.Job": {"cancel", "fail_and_release", "playground_job_cancel", "playground_job_fail"},
    "playground.ShareLink": {"take_down", "put_back", "playground_sharelink_take_down"},
    "playground.Report": {"playground_report_take_down", "playground_report_dismiss"},
    "playground.Upstream": {"playground_upstream_lift"},
    "mfa.Authenticator": {"remove", "mfa_remove"},
}
CHANGES_NOTHING = {
    "front_figures": "figures",
    "front_csv": "a file",
    "audit_ask": "a question to the books",
    "playground_variant_export": "a file",
    "playground_report_history": "a list",
    "playground_upstream_health": "a page",
    "playground_upstream_ask": "a question to the upstream",
    "auth_user_password_change": "by django, which logs it in words of its own",
}
USUAL = {"changelist", "add", "history", "delete", "change", None, ""}


def own_doors(desk: admin.ModelAdmin, request: Any) -> set[str]:
    """Actions, and the names of the pages that Django's admin does not have for every model."""
    meta = desk.model._meta
    usual = {f"{meta.app_label}_{meta.model_name}_{name}" for name in USUAL if name}
    pages = {url.name for url in desk.get_urls() if url.name} - usual
    return (set(desk.get_actions(request)) | pages) - {"delete_selected"}


def test_every_door_of_the_desk_is_known(charlie: User, rf: Any) -> None:
    request = rf.get("/admin/")
    request.user = charlie
    for model, desk in admin.site._registry.items():
        label = model._meta.label
        if label in PROVED:
            continue
        unknown = own_doors(desk, request) - LEAVES_AN_ENTRY.get(label, set()) - CHANGES_NOTHING.keys()
        assert not unknown, f"{label}: say in this file where {unknown} is proved to leave an entry"


def test_every_form_and_deletion_of_the_desk_goes_by_djangos_log(charlie: User, rf: Any) -> None:
    """What can be added, changed or deleted with the usual pages; the rest of the tables is for reading."""
    request = rf.get("/admin/")
    request.user = charlie
    for model, desk in admin.site._registry.items():
        if model._meta.label in PROVED:
            continue
        may = (
            desk.has_add_permission(request),
            desk.has_change_permission(request),
            desk.has_delete_permission(request),
        )
        if any(may):
            assert type(desk).log_change is admin.ModelAdmin.log_change
            assert type(desk).log_addition is admin.ModelAdmin.log_addition
            assert type(desk).log_deletions is admin.ModelAdmin.log_deletions
            assert "told" in type(desk).construct_change_message.__code__.co_names, model
            assert model._meta.label in {
                "playground.Variant",
                "playground.Switch",
                "playground.Upstream",
                "auth.Group",
            }


def test_the_entry_and_the_deed_are_one(desk: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the entry cannot be written, nothing has been done."""
    load_catalogue()
    variant = Variant.objects.get(slug=PRO)
    desk.raise_request_exception = False
    monkeypatch.setattr(admin.ModelAdmin, "log_change", lambda *args: 1 / 0)
    desk.post("/admin/playground/variant/", {"action": "switch_off", "_selected_action": [variant.pk]})
    variant.refresh_from_db()
    assert variant.is_live
    assert not LogEntry.objects.filter(action_time__lt=timezone.now() - timedelta(days=1)).exists()
