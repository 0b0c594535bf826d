"""An account is deleted: what goes, what stays, in the middle of work, twice at once, and with a kill in between."""

import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.totp.internal.auth import TOTP
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.core import mail
from django.core.management import call_command
from django.db import models
from django.test import Client
from django.utils import timezone

from accounts import erasure, keys, ledger, welcome
from accounts.models import ApiKey, User
from playground import deletion, images, jobs, upkeep, uploads
from playground.models import (
    Delivery,
    DeliveryAttempt,
    IdempotentCall,
    Job,
    Picture,
    Run,
    ShareLink,
    Upload,
    WebhookEndpoint,
)
from tests.making import EDIT, give, job_for, leased, picture_for, rendered, run_for
from tests.pictures import photo
from tests.test_admin_user import form_of
from tests.test_mfa import SECRET, login

CANARY = "xylophone"
ADDRESS = f"{CANARY}@example.org"


@pytest.fixture
def dora(db: None) -> User:
    """Her address, her name, her prompts and all her words have one word in them that nobody else uses."""
    user = User.objects.create_user(
        ADDRESS, f"{CANARY}-password", name=f"Dora {CANARY}", time_zone="Asia/Tokyo"
    )
    give(user)
    return user


def all_of_it(user: User) -> None:
    """Something in every table that can hold it."""
    words = {"prompt": f"a {CANARY} in the snow"}
    kept = picture_for(user, **words)
    picture_for(user, pay="preview", **words)
    run_for(user, EDIT, inputs=[uploads.take(user, photo())], pay="preview", **words)
    ShareLink.objects.create(user=user, picture=kept)
    key = ApiKey.objects.create(user=user, name=CANARY, start="fp_live_ab", last_four="wxyz", digest="d" * 64)
    Job.objects.filter(user=user).update(asked={"prompt": CANARY}, callback_url=f"https://{CANARY}.example/")
    Job.objects.filter(user=user).open().update(key=key)
    for url in ("", f"https://{CANARY}.example/hook"):
        end = WebhookEndpoint.objects.create(
            user=user, url=url, note=CANARY, secret=CANARY, old_secret=CANARY
        )
    told = Delivery.objects.create(
        user=user, endpoint=end, url=end.url, lane=CANARY, event="job.completed", job=kept.job
    )
    DeliveryAttempt.objects.create(delivery=told, milliseconds=1, answer=CANARY, problem=CANARY)
    IdempotentCall.objects.create(user=user, key="k", asked="a")
    EmailAddress.objects.create(user=user, email=user.email, verified=True, primary=True)
    TOTP.activate(user, SECRET)


def traces(word: str = CANARY) -> list[str]:
    """Columns of any table in which the word stands."""
    found = []
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            if isinstance(field, models.CharField | models.TextField | models.JSONField):
                values = model._default_manager.values_list(field.attname, flat=True)
                if any(word in json.dumps(value, default=str) for value in values):
                    found.append(f"{model._meta.label}.{field.name}")
    return found


def delete(user: User) -> None:
    assert deletion.begin(user)
    while deletion.finish() == 0:
        pass


# --- What goes ------------------------------------------------------------------------------------------
def test_nothing_that_she_wrote_is_left_in_any_table(dora: User, client: Client) -> None:
    all_of_it(dora)
    client.force_login(dora)
    assert {"accounts.User.email", "playground.Run.prompt", "playground.Job.params"} <= set(traces())
    delete(dora)
    assert traces() == []


def test_her_files_are_gone_from_the_disk_and_others_stay(dora: User, alice: User, settings: Any) -> None:
    give(alice)
    others = picture_for(alice)
    all_of_it(dora)
    delete(dora)
    files = [path for path in settings.MEDIA_ROOT.rglob("*") if path.is_file()]
    left = {path.parent.relative_to(settings.MEDIA_ROOT).as_posix() for path in files}
    assert left == {others.key}
    assert not Picture.objects.filter(user=dora).exclude(key="").exists()
    assert not Upload.objects.filter(user=dora).exclude(key="").exists()


def test_what_opened_the_account_opens_it_no_more(dora: User, client: Client) -> None:
    all_of_it(dora)
    client.force_login(dora)
    link = ShareLink.objects.get()
    assert Client().get(link.get_absolute_url()).status_code == 200
    assert deletion.begin(dora)  # at once, before anything is erased
    assert client.get("/account/").status_code == 302
    assert not ApiKey.objects.working(timezone.now()).exists()
    response = login(Client(), dora)
    assert response.status_code == 200 or "inactive" in response["Location"]
    deletion.finish()
    assert Client().get(link.get_absolute_url()).status_code in (404, 410)


# --- What stays -----------------------------------------------------------------------------------------
def test_the_books_stay_and_the_audit_is_clean(dora: User) -> None:
    all_of_it(dora)
    before = ledger.wallet_of(dora).posted
    lines = ledger.wallet_of(dora).credits.count()
    delete(dora)
    wallet = ledger.wallet_of(dora)
    assert (wallet.posted, wallet.held, wallet.credits.count()) == (before, 0, lines)
    assert upkeep.audit() == []
    dora.refresh_from_db()
    assert dora.email == f"deleted-{dora.pk}@deleted.invalid" and dora.deleted and not dora.is_active
    assert str(dora) == dora.email and not dora.has_usable_password()


def test_the_same_person_can_sign_up_again_and_gets_no_second_welcome(dora: User, settings: Any) -> None:
    welcome.make_due(dora)
    assert welcome.give(dora)
    delete(dora)
    again = User.objects.create_user(ADDRESS, "another-password", awaits_welcome=True)
    assert again.pk != dora.pk and not welcome.give(again)


# --- In the middle of work ------------------------------------------------------------------------------
@pytest.mark.parametrize("pay", ["credits", "preview"])
def test_jobs_in_every_state_end_and_nothing_is_charged(dora: User, pay: str) -> None:
    waiting = job_for(dora, pay=pay)
    sent = leased(job_for(dora, pay=pay))
    assert jobs.sending(sent) and jobs.started(sent, "up-1")
    before = ledger.wallet_of(dora).posted
    delete(dora)
    assert not Job.objects.open().exists()
    waiting.refresh_from_db()
    assert waiting.state == "cancelled"
    wallet = ledger.wallet_of(dora)
    assert (wallet.posted, wallet.held) == (before, 0)
    assert upkeep.audit() == []


def test_a_picture_that_comes_later_is_not_taken(dora: User) -> None:
    job = leased(job_for(dora))
    assert jobs.sending(job) and jobs.started(job, "up-1") and jobs.ready(job, ["https://up.example/1.jpg"])
    delete(dora)
    key, made = images.new_key(job.pk), rendered()
    images.store(key, made)
    assert not jobs.succeed(job, key, made)
    assert not Picture.objects.exists() and traces() == []


def test_what_a_request_under_way_adds_is_erased_too(dora: User) -> None:
    delete(dora)
    run_for(dora, prompt=f"a late {CANARY}")
    assert traces()
    deletion.finish()
    assert traces() == [] and not Job.objects.open().exists()


def test_webhooks_hear_nothing_of_the_end(dora: User) -> None:
    all_of_it(dora)
    Delivery.objects.all().delete()
    delete(dora)
    assert not Delivery.objects.exists()


# --- Interrupted ----------------------------------------------------------------------------------------
STEPS = [
    "_silence",
    "_end_jobs",
    "_erase_words",
    "_erase_pictures",
    "_erase_deliveries",
]


@pytest.mark.parametrize("step", STEPS)
def test_the_sweep_goes_on_where_it_was_cut_off(
    dora: User, alice: User, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    all_of_it(dora)
    assert deletion.begin(dora)
    with monkeypatch.context() as patch:
        whole: Callable[..., None] = getattr(deletion, step)

        def cut_off(*args: Any) -> None:
            whole(*args)
            raise OSError("the disk went away")

        patch.setattr(deletion, step, cut_off)
        assert deletion.finish() == 0
    assert traces()
    upkeep.sweep()
    assert traces() == [] and upkeep.audit() == []


def test_one_account_that_cannot_be_erased_does_not_keep_the_next_waiting(
    dora: User, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user in (alice, dora):
        assert deletion.begin(user)
    whole = deletion._silence

    def trouble(user: User) -> None:
        if user == alice:
            raise OSError
        whole(user)

    monkeypatch.setattr(deletion, "_silence", trouble)
    assert deletion.finish() == 1
    assert traces() == [] and traces("alice@example.org") == [
        "accounts.User.email",
        "accounts.User.canonical_email",
    ]


def test_a_long_one_is_done_in_turns(dora: User, monkeypatch: pytest.MonkeyPatch) -> None:
    all_of_it(dora)
    monkeypatch.setattr(deletion, "AT_ONCE", 1)
    assert deletion.begin(dora)
    assert deletion.finish(longest_s=-1) == 0
    assert traces()
    assert deletion.finish() == 1 and traces() == []


def test_after_an_hour_it_is_left_alone(dora: User) -> None:
    delete(dora)
    assert deletion.finish() == 1
    User.objects.filter(pk=dora.pk).update(deleted=timezone.now() - timedelta(minutes=61))
    assert deletion.finish() == 0


# --- The page -------------------------------------------------------------------------------------------
@pytest.fixture
def at_the_door(dora: User, client: Client) -> Client:
    client.force_login(dora)
    client.post("/accounts/reauthenticate/", {"password": f"{CANARY}-password"})
    return client


def test_she_is_asked_for_her_password_first(dora: User, client: Client) -> None:
    client.force_login(dora)
    for response in (
        client.get("/settings/data/delete/"),
        client.post("/settings/data/delete/", {"address": ADDRESS}),
    ):
        assert response["Location"].startswith("/accounts/reauthenticate/")
    dora.refresh_from_db()
    assert dora.deleted is None


def test_the_page_says_what_she_loses(at_the_door: Client, dora: User) -> None:
    job_for(dora)
    html = at_the_door.get("/settings/data/delete/").content.decode()
    assert "You lose 1,428.57 credits ($10.00)" in html and "1 picture is being made" in html


@pytest.mark.parametrize("typed", ["", "yes", "alice@example.org"])
def test_without_her_address_nothing_happens(at_the_door: Client, dora: User, typed: str) -> None:
    assert at_the_door.post("/settings/data/delete/", {"address": typed}).status_code == 422
    dora.refresh_from_db()
    assert dora.deleted is None


def test_with_it_she_is_gone_and_a_second_tab_finds_nobody(
    at_the_door: Client, dora: User, settings: Any
) -> None:
    settings.HAS_MAIL = True
    tab = Client()
    tab.cookies = at_the_door.cookies.copy()  # type: ignore[assignment]
    answer = at_the_door.post("/settings/data/delete/", {"address": ADDRESS.upper()}, follow=True)
    assert "Your account is deleted" in answer.content.decode()
    assert tab.post("/settings/data/delete/", {"address": ADDRESS})["Location"].startswith("/accounts/login/")
    assert [(sent.subject, sent.to) for sent in mail.outbox] == [("Your account is deleted", [ADDRESS])]


def test_it_begins_once(dora: User) -> None:
    stale = User.objects.get(pk=dora.pk)
    assert deletion.begin(dora)
    assert not deletion.begin(stale)


def test_the_last_superuser_stays(client: Client, charlie: User) -> None:
    client.force_login(charlie)
    client.post("/accounts/reauthenticate/", {"password": "charlie-password"})
    answer = client.post("/settings/data/delete/", {"address": charlie.email})
    assert answer.status_code == 422 and "last superuser" in answer.content.decode()
    User.objects.create_superuser("eve@example.org", "eve-password")
    assert deletion.begin(charlie)
    with pytest.raises(erasure.LastSuperuser):
        deletion.begin(User.objects.get(email="eve@example.org"))


def test_staff_leave_no_name_where_they_ended_other_people_s_jobs(dora: User, alice: User) -> None:
    User.objects.filter(pk=dora.pk).update(is_staff=True)
    dora.refresh_from_db()
    give(alice)
    assert jobs.give_up(job_for(alice), by=dora)
    assert "playground.JobEvent.note" in traces()
    delete(dora)
    assert traces() == []
    assert Run.objects.get(user=alice).prompt


def test_the_trail_keeps_no_name_of_a_key_that_staff_made_or_ended(dora: User, desk: Client) -> None:
    call_command("account", dora.email, api_key=f"{CANARY}-first", stdout=io.StringIO())
    key = keys.make(dora, CANARY)[0]
    at = f"/admin/accounts/user/revoke-key/?ids={key.pk}"
    desk.post(at, form_of(desk, at) | {"reason": "Leaked"})
    assert LogEntry.objects.filter(change_message=f"API key {key.pk} revoked: Leaked").exists()
    delete(dora)
    assert traces() == []
