"""Messages that are to go out: written in the transaction that ends a job, claimed by lease, booked after each try.

The row is the truth. A process that is killed between sending and booking leaves a lease that runs out, and the
message goes out once more under the same id: at least once, never not at all.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import TruncDate
from django.utils import timezone

from accounts import rows
from playground import net
from playground.endpoints import for_calls
from playground.models import Delivery, DeliveryAttempt, Job, WebhookEndpoint

State = Delivery.State

COMPLETED, FAILED, TEST = "task_completed", "task_failed", "test"
# After each failed attempt but the last: ten attempts over three days and a bit.
PAUSES_S = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
ATTEMPTS = len(PAUSES_S) + 1
LEASE = timedelta(seconds=40)  # longer than a try may take, with its booking
FAILING_DAYS = 5
KEPT_FOR = timedelta(days=30)
RESENT_AT_ONCE = 1_000
OFF, CLOSED = "The endpoint was switched off.", "The account was closed or suspended."
_LOOKS = 8
_GONE = 410
_LATER = (429, 502, 503, 504)


# --- Written ------------------------------------------------------------------------------------------
def job_ended(job: Job) -> None:
    """One message to each endpoint of the account that is on, and one to the call's own address.

    Inside the transaction that ends the job. Nothing, and no query, for what the pages ordered.
    """
    if job.key_id is None:
        return
    event = COMPLETED if job.state == Job.State.SUCCEEDED else FAILED
    for endpoint in WebhookEndpoint.objects.listening().filter(user_id=job.user_id):
        rows.insert(_new(endpoint, endpoint.url, event, job))
    if job.callback_url:
        rows.insert(_new(for_calls(job.user_id), job.callback_url, event, job))


def send_test(endpoint: WebhookEndpoint) -> Delivery | None:
    """A message that says that it is a test; also to an endpoint that is off. It is tried once.

    None where one is on its way already.
    """
    if Delivery.objects.filter(endpoint=endpoint, event=TEST, ended__isnull=True).exists():
        return None
    delivery = _new(endpoint, endpoint.url, TEST, None)
    delivery.save(force_insert=True)
    return delivery


def _new(endpoint: WebhookEndpoint, url: str, event: str, job: Job | None) -> Delivery:
    user_id = endpoint.user_id
    return Delivery(
        user_id=user_id, endpoint=endpoint, job=job, url=url, event=event, lane=lane(user_id, url)
    )


def lane(user_id: int, url: str) -> str:
    """Never raises: a job must end, whatever its caller gave as an address."""
    return f"{user_id}:{net.place_of(url)}"[:120]


def resend(delivery: Delivery) -> bool:
    """Sends one that has ended once more, from the first attempt on and under the same id. False where it is waiting."""
    return _send_again(Delivery.objects.filter(pk=delivery.pk, ended__isnull=False)) == 1


def resend_failed(endpoint: WebhookEndpoint) -> int:
    """Sends the failed ones of an endpoint again, newest first, at most a thousand. Returns how many."""
    failed = Delivery.objects.filter(endpoint=endpoint, state=State.FAILED).exclude(event=TEST)
    newest = failed.order_by("-created", "-id").values_list("pk", flat=True)[:RESENT_AT_ONCE]
    return _send_again(Delivery.objects.filter(pk__in=list(newest), state=State.FAILED))


def _send_again(ended: QuerySet[Delivery]) -> int:
    now = timezone.now()
    return ended.update(
        state=State.WAITING, ended=None, gave_up="", attempts=0, next_try=now, lease_until=None
    )


@transaction.atomic
def switch_off(endpoint: WebhookEndpoint) -> int:
    """As its owner wishes. Returns how many waiting messages were stopped, which can be sent again."""
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(is_on=False, off_because="")
    return _stop(endpoint)


@transaction.atomic
def remove(endpoint: WebhookEndpoint) -> None:
    """It hears of nothing any more; what became of its messages can still be seen."""
    WebhookEndpoint.objects.filter(pk=endpoint.pk).update(is_on=False, removed=timezone.now(), mail_due=False)
    _stop(endpoint)


def _stop(endpoint: WebhookEndpoint) -> int:
    """Ends what waits for an endpoint that is off, inside the transaction that has the endpoint's row.

    But for those that are being booked: who has the row of one waits for the endpoint's, and its next claim ends it.
    """
    waiting = Delivery.objects.filter(endpoint=endpoint, ended__isnull=True).exclude(event=TEST)
    if connection.features.has_select_for_update_skip_locked:
        free = waiting.select_for_update(skip_locked=True, no_key=True).values("pk")
        waiting = Delivery.objects.filter(pk__in=free)
    return waiting.update(state=State.FAILED, ended=timezone.now(), gave_up=OFF, lease_until=None)


# --- Claimed ------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Room:
    """What a sender can take now. `quick` and `slow`: lanes that answered soon, or not, when they were last tried.

    Lanes that are slow, or unknown and failing, have a room of their own, so that they keep nobody else waiting.
    """

    free: int
    slow_free: int
    busy: Mapping[str, int] = field(default_factory=dict)
    quick: frozenset[str] = frozenset()
    slow: frozenset[str] = frozenset()
    in_quick_lane: int = 4

    def of_lane(self, lane: str) -> int:
        return self.in_quick_lane if lane in self.quick else 1

    def is_slow(self, lane: str, *, is_failing: bool) -> bool:
        return lane in self.slow or (is_failing and lane not in self.quick)


def claim(room: Room) -> list[Delivery]:
    """Leases what is due and fits, longest waiting first within its lane, with all that its message is made from."""
    picked = _pick(room) if room.free > 0 else []
    if not picked:
        return []
    # Nobody else's lease ends at the same microsecond, so it tells afterwards which ones are ours.
    until = timezone.now() + LEASE + timedelta(microseconds=random.randrange(1_000_000))
    with transaction.atomic():
        ours = _due().filter(pk__in=picked)
        if connection.features.has_select_for_update_skip_locked:
            ours = Delivery.objects.filter(
                pk__in=list(ours.select_for_update(skip_locked=True).values_list("pk", flat=True))
            )
        ours.update(next_try=until, lease_until=until)
    leased = Delivery.objects.filter(pk__in=picked, lease_until=until, ended__isnull=True)
    found = list(leased.select_related("user", "endpoint", "job__variant", "job__picture"))
    return [delivery for delivery in found if not _is_over(delivery)]


def _due() -> QuerySet[Delivery]:
    return Delivery.objects.filter(ended__isnull=True, next_try__lte=timezone.now())


def _pick(room: Room) -> list[Any]:
    """Ids. Each look passes over the lanes that the looks before it have filled, however much waits in them."""
    picked: dict[Any, str] = {}
    busy, slow_left = Counter(room.busy), room.slow_free
    for _ in range(_LOOKS):
        full = [lane for lane, count in busy.items() if count >= room.of_lane(lane)]
        due = _passable(room, slow_left).exclude(lane__in=full).order_by("next_try")
        most = room.free + len(picked)
        look = list(due.values_list("pk", "lane", "attempts", "endpoint__failing_since")[:most])
        for pk, lane, attempts, failing_since in look:
            is_slow = room.is_slow(lane, is_failing=bool(attempts or failing_since))
            if pk in picked or busy[lane] >= room.of_lane(lane) or (is_slow and slow_left <= 0):
                continue
            picked[pk] = lane
            busy[lane] += 1
            slow_left -= is_slow
            if len(picked) >= room.free:
                return list(picked)
        if len(look) < most:
            break
    return list(picked)


def _passable(room: Room, slow_left: int) -> QuerySet[Delivery]:
    """What is due, without what is slow where there is no room left for that."""
    if slow_left > 0:
        return _due()
    is_well = Q(attempts=0, endpoint__failing_since__isnull=True)
    return _due().filter(is_well | Q(lane__in=room.quick)).exclude(lane__in=room.slow)


def _is_over(delivery: Delivery) -> bool:
    """Ends one that is not to be sent any more."""
    endpoint, user = delivery.endpoint, delivery.user
    is_closed = not user.is_active or user.suspended or user.deleted
    is_off = endpoint is None or endpoint.removed or (not endpoint.is_on and delivery.event != TEST)
    if not (is_closed or is_off):
        return False
    why = CLOSED if is_closed else OFF
    _mine(delivery).update(state=State.FAILED, ended=timezone.now(), gave_up=why, lease_until=None)
    return True


def _mine(delivery: Delivery) -> QuerySet[Delivery]:
    return Delivery.objects.filter(pk=delivery.pk, ended__isnull=True, lease_until=delivery.lease_until)


# --- Booked -------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Answer:
    """What became of one try. `status` None: there was no answer, and `problem` says why."""

    status: int | None
    milliseconds: int
    text: str = ""
    problem: str = ""
    retry_after_s: float | None = None

    @property
    def is_success(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@transaction.atomic
def book(delivery: Delivery, answer: Answer) -> None:
    """Writes the try down, and what follows from it for the message and its endpoint."""
    now = timezone.now()
    tried: dict[str, Any] = {"status": answer.status, "milliseconds": answer.milliseconds}
    rows.insert(
        DeliveryAttempt(delivery=delivery, at=now, answer=answer.text, problem=answer.problem[:200], **tried)
    )
    done: dict[str, Any] = {"attempts": delivery.attempts + 1, "lease_until": None}
    if answer.is_success:
        # Also where the lease has run out, or it was stopped meanwhile: it was delivered.
        told = Delivery.objects.filter(pk=delivery.pk).exclude(state=State.DELIVERED)
        told.update(state=State.DELIVERED, ended=now, gave_up="", **done)
        _well(delivery)
        return
    if gave_up := _gave_up(delivery, answer):
        _mine(delivery).update(state=State.FAILED, ended=now, gave_up=gave_up, **done)
    else:
        _mine(delivery).update(next_try=now + _pause(delivery, answer), **done)
    _ill(delivery, answer, now)


def _gave_up(delivery: Delivery, answer: Answer) -> str:
    if answer.status == _GONE:
        return "The address answered 410: it is gone for good."
    if delivery.event == TEST:
        return "A test is tried once."
    return f"{ATTEMPTS} attempts failed." if delivery.attempts + 1 >= ATTEMPTS else ""


def _pause(delivery: Delivery, answer: Answer) -> timedelta:
    """With jitter; longer where the address asks for it, which is an hour at most."""
    planned = PAUSES_S[delivery.attempts] * random.uniform(0.9, 1.1)
    asked = (answer.retry_after_s or 0) if answer.status in _LATER else 0
    return timedelta(seconds=max(planned, asked))


# --- The endpoint's health ----------------------------------------------------------------------------
def _endpoint(delivery: Delivery) -> QuerySet[WebhookEndpoint]:
    """None for the address of a single call."""
    return WebhookEndpoint.objects.filter(pk__in=[delivery.endpoint_id]).exclude(url="")


def _well(delivery: Delivery) -> None:
    if delivery.attempts or (delivery.endpoint is not None and delivery.endpoint.failing_since is not None):
        _endpoint(delivery).update(failing_since=None)


def _ill(delivery: Delivery, answer: Answer, now: datetime) -> None:
    """Notes since when it fails; switches it off at 410, and when nothing has got through for five failing days."""
    if delivery.event == TEST:
        return
    _endpoint(delivery).filter(failing_since__isnull=True).update(failing_since=now)
    endpoint = _endpoint(delivery).filter(is_on=True).first()
    if endpoint is None:
        return
    if answer.status == _GONE:
        _switch_off(endpoint, "It answered 410: it is gone for good.")
    elif _has_failed_for_days(endpoint, now):
        _switch_off(endpoint, f"Nothing got through on {FAILING_DAYS} days.")


def _has_failed_for_days(endpoint: WebhookEndpoint, now: datetime) -> bool:
    """Days on which something was tried: a rare message that failed last week is no reason by itself."""
    since = endpoint.failing_since
    if since is None or since > now - timedelta(days=FAILING_DAYS):
        return False
    tries = DeliveryAttempt.objects.filter(delivery__endpoint=endpoint, at__gte=since).order_by()
    return tries.values(day=TruncDate("at")).distinct().count() >= FAILING_DAYS


def _switch_off(endpoint: WebhookEndpoint, why: str) -> None:
    on = WebhookEndpoint.objects.filter(pk=endpoint.pk, is_on=True)
    if on.update(is_on=False, off_because=why, mail_due=True):
        _stop(endpoint)


# --- Swept --------------------------------------------------------------------------------------------
def forget_old(at_once: int = 1_000, at_most: int = 500_000) -> int:
    """Removes messages of long ago with their tries, a small batch at a time. Returns how many."""
    return sum(_batches(at_once, at_most))


def _batches(at_once: int, at_most: int) -> Iterator[int]:
    old = Delivery.objects.filter(ended__lt=timezone.now() - KEPT_FOR).values_list("pk", flat=True)
    for _ in range(0, at_most, at_once):
        ids = list(old[:at_once])
        with transaction.atomic():
            DeliveryAttempt.objects.filter(delivery__in=ids).delete()
            Delivery.objects.filter(pk__in=ids).delete()
        yield len(ids)
        if len(ids) < at_once:
            return
