"""Messages are written with the end of a job, tried ten times over three days, and never lost or kept for ever."""

import json
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from django.db import transaction
from django.utils import timezone

from accounts.models import User
from playground import endpoints, jobs, outbox
from playground.models import Delivery, DeliveryAttempt, Job, WebhookEndpoint
from tests.making import give, job_for, leased
from tests.receiving import api_job, ended, endpoint_of, succeeded

pytestmark = pytest.mark.django_db

URL = "https://hooks.example.com/flux"
ROOM = outbox.Room(free=32, slow_free=16)
OK, BAD = outbox.Answer(200, 40, "ok"), outbox.Answer(500, 40, "no")


@pytest.fixture
def rich(alice: User) -> User:
    give(alice)
    return alice


@pytest.fixture
def endpoint(rich: User) -> WebhookEndpoint:
    return endpoint_of(rich, URL)


def message(endpoint: WebhookEndpoint, **changes: Any) -> Delivery:
    """One that waits, of no job."""
    url = changes.pop("url", endpoint.url)
    lane = outbox.lane(endpoint.user_id, url)
    return Delivery.objects.create(
        user=endpoint.user, endpoint=endpoint, url=url, event=outbox.COMPLETED, lane=lane, **changes
    )


def claimed() -> Delivery:
    [delivery] = outbox.claim(ROOM)
    return delivery


# --- Written ------------------------------------------------------------------------------------------
def test_each_endpoint_that_is_on_and_the_calls_own_address_get_one(rich: User, bob: User) -> None:
    one, two = endpoint_of(rich, URL), endpoint_of(rich, "https://two.example.com/")
    endpoint_of(rich, "https://off.example.com/", is_on=False)
    endpoint_of(rich, "https://removed.example.com/", removed=timezone.now())
    endpoint_of(bob, "https://bob.example.com/")
    job = ended(rich, "https://call.example.com/x")
    made = {delivery.url: delivery for delivery in Delivery.objects.all()}
    assert set(made) == {one.url, two.url, "https://call.example.com/x"}
    assert {delivery.event for delivery in made.values()} == {outbox.FAILED}
    assert {delivery.job_id for delivery in made.values()} == {job.pk}
    assert made["https://call.example.com/x"].endpoint == WebhookEndpoint.objects.get(user=rich, url="")


def test_every_end_tells(endpoint: WebhookEndpoint, rich: User) -> None:
    succeeded(rich)
    ended(rich)
    assert jobs.cancel(api_job(rich), by=rich)
    late = api_job(rich)
    assert jobs.expire(late)
    assert jobs.give_up(api_job(rich), by=rich)
    assert Counter(Delivery.objects.values_list("event", flat=True)) == {
        outbox.COMPLETED: 1,
        outbox.FAILED: 4,
    }


@pytest.mark.parametrize("url", ["https://[\uff3b2606:4700::1111]/x", "https://[", "https://[::1]@/"])
def test_a_job_ends_whatever_address_it_was_given(rich: User, url: str) -> None:
    """Some are addresses to one library and not to another; an end that raised would be tried for ever."""
    ended(rich, url)
    assert Delivery.objects.get().url == url


def test_a_lane_is_an_account_and_a_host() -> None:
    same = {outbox.lane(1, f"https://{host}/") for host in ("Example.com", "example.com", "example.com:443")}
    assert same == {"1:example.com"}
    assert outbox.lane(1, "https://example.com:8443/") == "1:example.com:8443"


def test_one_end_tells_once(endpoint: WebhookEndpoint, rich: User) -> None:
    job = ended(rich)
    assert not jobs.expire(job) and not jobs.cancel(job, by=rich)
    assert Delivery.objects.count() == 1


def test_a_message_is_undone_with_the_end_that_it_tells_of(endpoint: WebhookEndpoint, rich: User) -> None:
    job = leased(api_job(rich))
    with transaction.atomic():
        assert jobs.fail(job, "moderated") and Delivery.objects.count() == 1
        transaction.set_rollback(True)
    assert not Delivery.objects.exists() and Job.objects.open().count() == 1


def test_what_the_pages_ordered_costs_no_query(
    endpoint: WebhookEndpoint, rich: User, django_assert_num_queries: Any
) -> None:
    job = job_for(rich)
    with django_assert_num_queries(0):
        outbox.job_ended(job)
    assert jobs.cancel(job, by=rich) and not Delivery.objects.exists()


def test_the_secret_of_single_calls_is_made_once(rich: User, bob: User) -> None:
    first = endpoints.for_calls(rich.pk)
    assert endpoints.for_calls(rich.pk) == first and first.secret.startswith("whsec_")
    assert endpoints.for_calls(bob.pk).secret != first.secret


# --- Claimed ------------------------------------------------------------------------------------------
def test_a_claimed_one_is_nobody_elses_until_its_lease_runs_out(endpoint: WebhookEndpoint) -> None:
    made = message(endpoint)
    with time_machine.travel(timezone.now() + timedelta(seconds=1), tick=False) as clock:
        assert claimed() == made and outbox.claim(ROOM) == []
        clock.shift(outbox.LEASE - timedelta(seconds=1))
        assert outbox.claim(ROOM) == []
        clock.shift(timedelta(seconds=3))
        assert claimed() == made


def test_what_is_not_due_waits(endpoint: WebhookEndpoint) -> None:
    message(endpoint, next_try=timezone.now() + timedelta(seconds=5))
    assert outbox.claim(ROOM) == []


def test_one_that_has_answered_soon_gets_four_at_once_and_others_one(endpoint: WebhookEndpoint) -> None:
    for _ in range(6):
        message(endpoint)
    quick = outbox.Room(free=32, slow_free=16, quick=frozenset({outbox.lane(endpoint.user_id, URL)}))
    assert len(outbox.claim(ROOM)) == 1
    Delivery.objects.update(next_try=timezone.now(), lease_until=None)
    assert len(outbox.claim(quick)) == 4


def test_lanes_that_are_full_are_passed_over(endpoint: WebhookEndpoint, bob: User) -> None:
    message(endpoint)
    theirs = message(endpoint_of(bob, URL))
    full = outbox.Room(free=32, slow_free=16, busy={outbox.lane(endpoint.user_id, URL): 1})
    assert outbox.claim(full) == [theirs], "the same host for another account is another lane"


def test_a_thousand_waiting_of_one_keep_nobody_else_waiting(endpoint: WebhookEndpoint, bob: User) -> None:
    before = timezone.now() - timedelta(hours=1)
    lane = outbox.lane(endpoint.user_id, URL)
    Delivery.objects.bulk_create(
        Delivery(user=endpoint.user, endpoint=endpoint, url=URL, event="x", lane=lane, next_try=before)
        for _ in range(1_000)
    )
    theirs = message(endpoint_of(bob, "https://bob.example.com/"))
    small = outbox.Room(free=4, slow_free=2)
    picked = outbox.claim(small)
    assert theirs in picked and len(picked) == 2


def test_what_is_failing_leaves_room_for_what_is_not(rich: User, bob: User) -> None:
    since = timezone.now() - timedelta(hours=2)
    for number in range(5):
        message(endpoint_of(rich, f"https://dead{number}.example.com/", failing_since=since), next_try=since)
    retried = message(endpoint_of(rich, "https://unknown.example.com/"), attempts=1, next_try=since)
    well = message(endpoint_of(bob, "https://well.example.com/"))
    picked = outbox.claim(outbox.Room(free=32, slow_free=2))
    assert well in picked and len(picked) == 3
    quick = outbox.Room(free=32, slow_free=0, quick=frozenset({retried.lane}))
    assert outbox.claim(quick) == [retried], "a lane that answers soon needs none of the slow ones' room"


def test_known_slow_lanes_wait_for_one_another(rich: User, bob: User) -> None:
    made = [message(endpoint_of(rich, f"https://slow{number}.example.com/")) for number in range(3)]
    well = message(endpoint_of(bob, "https://well.example.com/"))
    slow = frozenset(delivery.lane for delivery in made)
    assert outbox.claim(outbox.Room(free=2, slow_free=0, slow=slow)) == [well]


def test_nothing_is_claimed_where_there_is_no_room(endpoint: WebhookEndpoint) -> None:
    message(endpoint)
    assert outbox.claim(outbox.Room(free=0, slow_free=0)) == []


@pytest.mark.parametrize("gone", ["off", "removed", "suspended", "inactive"])
def test_what_is_not_to_be_sent_any_more_ends(endpoint: WebhookEndpoint, rich: User, gone: str) -> None:
    made, now = message(endpoint), timezone.now()
    WebhookEndpoint.objects.update(is_on=gone != "off", removed=now if gone == "removed" else None)
    User.objects.update(is_active=gone != "inactive", suspended=now if gone == "suspended" else None)
    assert outbox.claim(ROOM) == []
    made.refresh_from_db()
    assert made.state == "failed" and made.attempts == 0
    assert made.gave_up == (outbox.OFF if gone in ("off", "removed") else outbox.CLOSED)


# --- Booked -------------------------------------------------------------------------------------------
def test_a_success_ends_it_with_what_was_answered(endpoint: WebhookEndpoint) -> None:
    message(endpoint)
    outbox.book(claimed(), outbox.Answer(204, 31, "thanks"))
    made, tried = Delivery.objects.get(), DeliveryAttempt.objects.get()
    assert (made.state, made.attempts, made.lease_until) == ("delivered", 1, None) and made.ended
    assert (tried.status, tried.milliseconds, tried.answer, tried.problem) == (204, 31, "thanks", "")


@pytest.mark.parametrize("status", [None, 199, 300, 301, 302, 404, 500, 503])
def test_everything_but_2xx_is_a_failure(endpoint: WebhookEndpoint, status: int | None) -> None:
    message(endpoint)
    outbox.book(claimed(), outbox.Answer(status, 1))
    made = Delivery.objects.get()
    assert (made.state, made.attempts) == ("waiting", 1) and made.next_try > timezone.now()


def test_ten_attempts_over_about_three_days_and_then_it_fails(endpoint: WebhookEndpoint) -> None:
    begun, tries = timezone.now(), []
    with time_machine.travel(begun, tick=False) as clock:
        made = message(endpoint)
        while not made.ended:
            tries.append((timezone.now() - begun).total_seconds())
            outbox.book(claimed(), BAD)
            made.refresh_from_db()
            clock.move_to(made.next_try)
    assert len(tries) == outbox.ATTEMPTS == 10 and made.attempts == 10 == made.tries.count()
    assert tries[1] < 6 and 250 < tries[2] < 350 and 2.5 * 86_400 < tries[-1] < 3.6 * 86_400
    assert (made.state, made.gave_up) == ("failed", "10 attempts failed.")


def test_the_pauses_are_not_the_same_for_all(endpoint: WebhookEndpoint) -> None:
    with time_machine.travel(timezone.now(), tick=False):
        made = [message(endpoint, attempts=5) for _ in range(8)]
        for delivery in made:
            outbox.book(delivery, BAD)
        assert len(set(Delivery.objects.values_list("next_try", flat=True))) > 4


@pytest.mark.parametrize(
    ("status", "said", "least"), [(429, 900, 900), (503, 3600, 3600), (500, 900, 4), (429, None, 4)]
)
def test_it_waits_as_long_as_it_is_asked_to(
    endpoint: WebhookEndpoint, status: int, said: float | None, least: float
) -> None:
    message(endpoint)
    with time_machine.travel(timezone.now() + timedelta(seconds=1), tick=False):
        outbox.book(claimed(), outbox.Answer(status, 1, retry_after_s=said))
        waits = (Delivery.objects.get().next_try - timezone.now()).total_seconds()
    assert least <= waits < least + 2


def test_a_late_booking_of_a_failure_changes_nothing_but_of_a_success_ends_it(
    endpoint: WebhookEndpoint,
) -> None:
    message(endpoint)
    late = claimed()
    Delivery.objects.update(next_try=timezone.now(), lease_until=None)
    current = claimed()
    outbox.book(late, BAD)
    assert Delivery.objects.get().lease_until == current.lease_until and DeliveryAttempt.objects.count() == 1
    outbox.book(late, OK)
    outbox.book(current, BAD)
    assert Delivery.objects.get().state == "delivered"


def test_what_arrived_although_it_was_stopped_meanwhile_is_delivered(endpoint: WebhookEndpoint) -> None:
    """Or it would be among the failed ones, and be sent again with them."""
    message(endpoint)
    sending = claimed()
    assert outbox.switch_off(endpoint) == 1
    outbox.book(sending, outbox.Answer(200, 5))
    sending.refresh_from_db()
    assert (sending.state, sending.gave_up) == ("delivered", "")


# --- The endpoint's health ----------------------------------------------------------------------------
def test_since_when_it_fails_is_noted_and_forgotten_at_a_success(endpoint: WebhookEndpoint) -> None:
    message(endpoint)
    outbox.book(claimed(), BAD)
    endpoint.refresh_from_db()
    since = endpoint.failing_since
    message(endpoint)
    outbox.book(claimed(), BAD)
    endpoint.refresh_from_db()
    assert since and endpoint.failing_since == since
    message(endpoint)
    outbox.book(claimed(), OK)
    endpoint.refresh_from_db()
    assert endpoint.failing_since is None


def test_410_switches_it_off_at_once_and_ends_what_waits(endpoint: WebhookEndpoint) -> None:
    gone, waits = message(endpoint), message(endpoint, next_try=timezone.now() + timedelta(hours=1))
    outbox.book(claimed(), outbox.Answer(410, 1))
    for row in (endpoint, gone, waits):
        row.refresh_from_db()
    assert not endpoint.is_on and "410" in endpoint.off_because and endpoint.mail_due
    assert gone.state == waits.state == "failed" and "410" in gone.gave_up and waits.gave_up == outbox.OFF


def test_410_from_the_address_of_one_call_ends_that_message_alone(rich: User) -> None:
    calls = endpoints.for_calls(rich.pk)
    message(calls, url=URL)
    outbox.book(claimed(), outbox.Answer(410, 1))
    calls.refresh_from_db()
    assert Delivery.objects.get().state == "failed" and calls.is_on and not calls.failing_since


def fail_on_days(endpoint: WebhookEndpoint, *days: float) -> None:
    start = timezone.now()
    for day in days:
        with time_machine.travel(start + timedelta(days=day), tick=False):
            message(endpoint)
            outbox.book(Delivery.objects.filter(ended=None).select_related("endpoint").latest("created"), BAD)


def test_after_five_failing_days_it_is_off(endpoint: WebhookEndpoint) -> None:
    fail_on_days(endpoint, 0, 1, 2, 3, 4.9)
    endpoint.refresh_from_db()
    assert endpoint.is_on
    fail_on_days(endpoint, 5.1)
    endpoint.refresh_from_db()
    assert not endpoint.is_on and endpoint.mail_due and "5 days" in endpoint.off_because


def test_two_failures_a_week_apart_are_not_five_failing_days(endpoint: WebhookEndpoint) -> None:
    fail_on_days(endpoint, 0, 7)
    endpoint.refresh_from_db()
    assert endpoint.is_on


# --- Tests and resending ------------------------------------------------------------------------------
def test_a_test_is_tried_once_and_says_nothing_of_the_endpoints_health(endpoint: WebhookEndpoint) -> None:
    WebhookEndpoint.objects.update(is_on=False)
    made = outbox.send_test(endpoint)
    assert made and not outbox.send_test(endpoint), "a double click sends one"
    outbox.book(claimed(), BAD)
    made.refresh_from_db()
    endpoint.refresh_from_db()
    assert made.state == "failed" and made.event == outbox.TEST and endpoint.failing_since is None


def test_resending_starts_afresh_under_the_same_id_and_once(endpoint: WebhookEndpoint) -> None:
    made = message(endpoint, attempts=10, state="failed", ended=timezone.now(), gave_up="x")
    assert outbox.resend(made) and not outbox.resend(made)
    again = claimed()
    assert again.pk == made.pk and (again.state, again.attempts, again.gave_up) == ("waiting", 0, "")


def test_all_failed_ones_of_an_endpoint_are_resent_once(endpoint: WebhookEndpoint, bob: User) -> None:
    now = timezone.now()
    failed = [message(endpoint, state="failed", ended=now) for _ in range(3)]
    message(endpoint, state="delivered", ended=now)
    message(endpoint_of(bob, URL), state="failed", ended=now)
    assert outbox.resend_failed(endpoint) == 3 and outbox.resend_failed(endpoint) == 0
    waiting = Delivery.objects.filter(state="waiting")
    assert {delivery.pk for delivery in waiting} == {delivery.pk for delivery in failed}


def test_resending_all_is_bounded(endpoint: WebhookEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "RESENT_AT_ONCE", 2)
    now = timezone.now()
    oldest = message(endpoint, state="failed", ended=now, created=now - timedelta(days=2))
    for _ in range(2):
        message(endpoint, state="failed", ended=now)
    assert outbox.resend_failed(endpoint) == 2
    oldest.refresh_from_db()
    assert oldest.state == "failed"


# --- Secrets ------------------------------------------------------------------------------------------
def test_rotating_lets_the_old_secret_sign_for_a_day(endpoint: WebhookEndpoint) -> None:
    old = endpoint.secret
    assert endpoints.rotate(endpoint) and not endpoints.rotate(endpoint), "a double click rotates once"
    endpoint.refresh_from_db()
    assert endpoints.signing_secrets(endpoint) == [endpoint.secret, old] and endpoint.secret != old
    with time_machine.travel(timezone.now() + timedelta(hours=25)):
        assert endpoints.signing_secrets(endpoint) == [endpoint.secret]
    endpoints.forget_old_secret(endpoint)
    endpoint.refresh_from_db()
    assert endpoints.signing_secrets(endpoint) == [endpoint.secret]


# --- Mails and old ones -----------------------------------------------------------------------------------------
def test_what_ended_a_month_ago_goes_in_batches_with_its_tries(endpoint: WebhookEndpoint) -> None:
    old, now = timezone.now() - timedelta(days=31), timezone.now()
    for _ in range(5):
        made = message(endpoint, state="failed", ended=old)
        DeliveryAttempt.objects.create(delivery=made, milliseconds=1, answer=json.dumps({}))
    kept = [message(endpoint, state="failed", ended=now), message(endpoint, created=old)]
    assert outbox.forget_old(at_once=2) == 5
    assert set(Delivery.objects.all()) == set(kept) and not DeliveryAttempt.objects.exists()


def test_its_owner_is_told_once_that_it_is_off(
    endpoint: WebhookEndpoint, settings: Any, mailoutbox: list[Any]
) -> None:
    settings.HAS_MAIL = True
    message(endpoint)
    outbox.book(claimed(), outbox.Answer(410, 1))
    assert endpoints.send_mails() == 1 and endpoints.send_mails() == 0
    [mail] = mailoutbox
    assert mail.to == [endpoint.user.email] and "hooks.example.com" in mail.subject
    assert URL in mail.body and "410" in mail.body


def test_a_mail_that_is_not_taken_waits(
    endpoint: WebhookEndpoint, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> bool:
        raise OSError("the mail server is away")

    settings.HAS_MAIL = True
    WebhookEndpoint.objects.update(is_on=False, mail_due=True)
    monkeypatch.setattr(endpoints.mails, "send", refuse)
    assert endpoints.send_mails() == 0
    assert WebhookEndpoint.objects.get().mail_due
