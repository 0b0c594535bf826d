"""The whole life of a job: claimed, sent, watched, fetched, and ended exactly once.

    queued -> submitting -> running -> fetching -> succeeded | failed | cancelled

Every change of state is one UPDATE whose WHERE names the state it expects (and, for the engine, the lease it holds);
a row count of 0 means that somebody else was first, and the loser walks away. Money moves in the same transaction.
What makes a job is `playground.orders`.
"""

import uuid
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from django.db import connection, transaction
from django.db.models import Case, F, Q, Value, When
from django.utils import timezone

from accounts import ledger, locks, rows
from accounts.models import Transfer, User, Wallet
from playground import outbox, tally, upstreams
from playground.failures import EXPLAINED as EXPLAINED
from playground.failures import GIVEN_UP
from playground.failures import why as why
from playground.images import Rendered
from playground.models import Job, JobEvent, Picture, Route, Switch

LEASE = timedelta(seconds=12)
DISPATCH = "dispatch"


def memo(job: Job) -> str:
    """What the statement says that it was."""
    return f"{job.variant.label}, {job.params['aspect_ratio']}"


def can_cancel(job: Job) -> bool:
    """While nothing is owed to anybody: not sent yet, or sent to where it costs nothing."""
    return job.state == Job.State.QUEUED or (job.cost_micros == 0 and not job.is_final)


def cancel(job: Job, *, by: User) -> bool:
    """Ends a job that owes nothing and gives its money back. False where it is too late."""
    states = Job.OPEN if job.cost_micros == 0 else (Job.State.QUEUED,)
    return _end(job, Job.State.CANCELLED, from_states=states, note=f"by {by}")


@transaction.atomic
def cancel_waiting(user: User, *, by: User) -> int:
    """Cancels all of theirs that nobody has begun to make. Returns how many.

    Their rows are taken before any money is, all at once: whoever ends one of them meanwhile has its row, and waits
    for money that nobody has who waits for a row.
    """
    waiting = Job.objects.visible_to(user).open().filter(state=Job.State.QUEUED).order_by("pk")
    theirs = list(waiting.select_for_update(no_key=True))
    locks.windows([job.hold_id for job in theirs])
    return sum(cancel(job, by=by) for job in theirs)


def give_up(job: Job, *, by: User) -> bool:
    """The operator's way out: fails an open job, whatever it is doing, and gives its money back."""
    return _end(job, Job.State.FAILED, from_states=Job.OPEN, failure="given_up", note=f"by {by}")


# --- Claimed and sent -------------------------------------------------------------------------------
def claim(owner: str, room: int) -> list[Job]:
    """Leases up to `room` due jobs to `owner`, none that its upstream has no room for. A leased job is due again when
    its lease runs out."""
    due = Job.objects.due(timezone.now())
    if not is_dispatching():
        due = due.exclude(state=Job.State.QUEUED)
    if room <= 0 or not due.exists():
        return []
    left = upstreams.room()
    for (provider, model), jobs_left in left.items():
        if not jobs_left:
            waiting = Q(state=Job.State.QUEUED, provider=provider)
            due = due.exclude(waiting & Q(upstream_model=model) if model else waiting)
    with transaction.atomic():
        if connection.features.has_select_for_update_skip_locked:
            due = due.select_for_update(skip_locked=True)
        ids = _that_fit(due[:room].values_list("pk", "state", "provider", "upstream_model"), left)
        until = timezone.now() + LEASE
        Job.objects.filter(pk__in=ids).update(lease_owner=owner, lease_until=until, next_look=until)
    return list(Job.objects.filter(pk__in=ids, lease_owner=owner))


def _that_fit(due: Iterable[tuple[Any, ...]], left: dict[tuple[str, str], int]) -> list[uuid.UUID]:
    """Those that are under way, and as many of the waiting ones as their upstreams have room for."""
    ids = []
    for pk, state, provider, model in due:
        if state == Job.State.QUEUED:
            bounds = [key for key in ((provider, ""), (provider, model)) if key in left]
            if any(left[key] <= 0 for key in bounds):
                continue
            for key in bounds:
                left[key] -= 1
        ids.append(pk)
    return ids


def is_dispatching() -> bool:
    """Whether the operator lets new work go upstream."""
    return not Switch.objects.filter(name=DISPATCH, is_on=False).exists()


def renew(owner: str, seen_through: Sequence[uuid.UUID]) -> int:
    """Keeps the leases of `owner` on those jobs for another while. A leased job's `next_look` is the end of its lease.

    A lease that `owner` has on any other job was left behind by a step that failed, and runs out.
    """
    until = timezone.now() + LEASE
    mine = Job.objects.due(until).filter(lease_owner=owner, pk__in=seen_through)
    return mine.order_by().update(lease_until=until, next_look=until)


def let_go(job: Job, look_at: datetime) -> bool:
    """Gives the lease back; whoever is alive at `look_at` goes on."""
    return _leased(job).update(lease_owner="", lease_until=None, next_look=min(look_at, job.deadline)) == 1


def collected(job: Job, params: dict[str, Any]) -> bool:
    """Its input pictures are here: what is asked for names them from now on."""
    return _move(job, Job.State.QUEUED, Job.State.QUEUED, note="its input pictures are here", params=params)


def sending(job: Job) -> bool | upstreams.NotNow:
    """Counts the job against its upstream's limits and writes down the intent, before the call that costs money.

    False: it is not ours any more, or nothing may be sent. NotNow: the upstream takes no job now, and nothing changed.
    """
    if not is_dispatching():
        let_go(job, timezone.now())  # switched off since it was claimed: due as soon as it is on again
        return False
    try:
        with transaction.atomic():
            upstreams.admit(job)
            sent: dict[str, Any] = {"submitted": timezone.now(), "submit_attempts": job.submit_attempts + 1}
            return _or_undone(_move(job, Job.State.QUEUED, Job.State.SUBMITTING, **sent))
    except upstreams.NotNow as not_now:
        return not_now


def _or_undone(moved: bool) -> bool:
    """Where somebody else has the job, what was counted for it in this transaction is rolled back."""
    if not moved:
        transaction.set_rollback(True)
    return moved


def not_started(job: Job, look_at: datetime, note: str) -> bool:
    """The upstream is known not to have started: back to the queue, and the lease with it."""
    with transaction.atomic():
        upstreams.refund(job)
        waiting: dict[str, Any] = {"submitted": None, "lease_owner": "", "lease_until": None}
        look_at = min(look_at, job.deadline)
        return _or_undone(
            _move(job, Job.State.SUBMITTING, Job.State.QUEUED, note=note, next_look=look_at, **waiting)
        )


def reroute(job: Job, route: Route, note: str) -> bool:
    """Its upstream is known not to have started the job: another one is asked instead, at once.

    The price stays. What the house pays for a preview is held anew, which raises a ledger.Refusal where the budget
    does not allow the other upstream's cost; then nothing has changed.
    """
    differs = job.is_preview and route.cost_micros != job.cost_micros
    asked = {
        "provider": route.provider,
        "upstream_model": route.upstream_model,
        "upstream_fixed": route.fixed,
        "cost_micros": route.cost_micros,
        "tried": [*job.tried, job.provider],
    }
    waiting = {"submitted": None, "lease_owner": "", "lease_until": None, "next_look": timezone.now()}
    note = f"{job.provider} did not start it ({note}); {route.provider} is asked"
    with transaction.atomic():
        upstreams.refund(job)
        moved = _or_undone(_move(job, job.state, Job.State.QUEUED, note=note, **asked, **waiting))
        if moved and differs:
            _hold_anew(job)
    return moved


def _hold_anew(job: Job) -> None:
    """What the house promises for a preview follows the upstream that is asked."""
    limits = ledger.preview_limits(job.user, job.cost_micros)
    locks.windows([job.hold_id], limits)  # of two days, where it was ordered yesterday
    ledger.release(job.hold_id)
    promise = ledger.Promise(f"job:{job.pk}/{job.provider}", job.cost_micros, memo(job))
    [job.hold] = ledger.hold(ledger.house(Wallet.House.PREVIEW), [promise], limits)
    Job.objects.filter(pk=job.pk).update(hold=job.hold)


def resending(job: Job) -> bool:
    """A create that may be sent twice, because this upstream makes one picture of it."""
    return _move(job, Job.State.SUBMITTING, Job.State.QUEUED, note="sent again: this upstream recognises it")


def lost(job: Job, note: str) -> bool:
    """The create's answer is lost: never sent again, looked at once more when a callback comes, or at the deadline."""
    waiting = {"lease_owner": "", "lease_until": None, "next_look": job.deadline}
    with transaction.atomic():
        if not _move(
            job, Job.State.SUBMITTING, Job.State.SUBMITTING, note=note, outcome_unknown=True, **waiting
        ):
            return False
        # A callback may have come before. Asked only now: since the move the row is ours.
        Job.objects.filter(pk=job.pk).exclude(claimed_id="").update(next_look=timezone.now())
    return True


def disowned(job: Job) -> bool:
    """The upstream does not know the id that a callback claimed as one of ours: back to waiting."""
    waiting = {"lease_owner": "", "lease_until": None, "next_look": job.deadline}
    return _move(
        job, Job.State.SUBMITTING, Job.State.SUBMITTING, note="a callback lied", claimed_id="", **waiting
    )


def hint(token: str, claimed_id: str) -> bool:
    """A callback came for the job with this token: only a reason to look now. False where nobody has that token.

    What it claims the upstream's id to be is kept, for a job whose create was never answered; the engine asks the
    upstream before it believes it. One that comes when we have given up is written down, once, and changes nothing.
    """
    known = Job.objects.filter(callback_token=token)
    now = timezone.now()
    known.filter(state=Job.State.RUNNING).update(next_look=now)
    if claimed_id:
        # One statement, so that an answer that is lost at this very moment is seen as lost or as not yet lost.
        due = Case(When(outcome_unknown=True, then=Value(now)), default=F("next_look"))
        known.filter(state=Job.State.SUBMITTING).update(claimed_id=claimed_id, next_look=due)
        given_up = known.filter(state=Job.State.FAILED, failure__in=GIVEN_UP)
        if given_up.filter(claimed_id="").update(claimed_id=claimed_id):
            note = f"the upstream called about {claimed_id} after the end; nothing is charged"
            rows.insert(JobEvent(job=given_up.get(), state=Job.State.FAILED, note=note[:300]))
    return known.exists()


def started(job: Job, upstream_id: str, *, memo: str = "", cost_micros: int | None = None) -> bool:
    upstreams.well(job.provider)
    told: dict[str, Any] = {
        "upstream_id": upstream_id,
        "upstream_memo": memo,
        "reported_cost_micros": cost_micros,
        "outcome_unknown": False,
    }
    return _move(job, Job.State.SUBMITTING, Job.State.RUNNING, **told) or _started_after_all(job, told)


@transaction.atomic
def _started_after_all(job: Job, told: dict[str, Any]) -> bool:
    """The answer came when our lease had run out and somebody else held it for lost: a clock that jumped, a database
    that was away. It is true all the same, so whoever claims the job next goes on with it; we do not."""
    free = {"lease_owner": "", "lease_until": None, "next_look": timezone.now()}
    this_create = {"id": job.pk, "state": Job.State.SUBMITTING, "submit_attempts": job.submit_attempts}
    if rows.change(Job, this_create, {"state": Job.State.RUNNING, **told, **free}):
        rows.insert(JobEvent(job=job, state=Job.State.RUNNING, note="its answer had been held for lost"))
    return False


def ready(job: Job, urls: Sequence[str], *, cost_micros: int | None = None) -> bool:
    """The upstream has the picture; where it lies is kept, so that a restart fetches at once."""
    said: dict[str, Any] = {} if cost_micros is None else {"reported_cost_micros": cost_micros}
    return _move(job, Job.State.RUNNING, Job.State.FETCHING, result_urls=list(urls), **said)


def progressed(job: Job, percent: int) -> None:
    _leased(job).filter(state=Job.State.RUNNING).update(progress=percent)


def succeed(job: Job, key: str, rendered: Rendered) -> bool:
    """The one moment of success: state, picture and money together. The bytes are on disk before this."""
    with transaction.atomic(savepoint=False):
        at = timezone.now()
        if not _move(job, Job.State.FETCHING, Job.State.SUCCEEDED, finished=at):
            return False
        rows.insert(_picture(job, key, rendered))
        _count(job, at)
        house = Wallet.House.UPSTREAM if job.is_preview else Wallet.House.REVENUE
        kind = Transfer.Kind.PREVIEW_COST if job.is_preview else Transfer.Kind.CHARGE
        if not ledger.capture(job.hold_id, to=ledger.house(house), kind=kind, at=at):
            raise ledger.Refusal(f"the hold of job {job.pk} was closed while the job was open")
        outbox.job_ended(job)
    return True


def _count(job: Job, at: datetime) -> None:
    cost = job.cost_micros if job.reported_cost_micros is None else job.reported_cost_micros
    whose: dict[str, Any] = {"user_id": job.user_id, "variant_id": job.variant_id, "at": at, "cost": cost}
    if job.is_preview:
        tally.count_preview(**whose)
    elif not job.is_test:
        tally.count_picture(micros=job.price_micros, key_id=job.key_id, **whose)


def came_too_late(job: Job) -> bool:
    """The upstream's picture came when the job had been given up: written down, and nothing is charged."""
    if not Job.objects.filter(pk=job.pk, state=Job.State.FAILED, failure__in=GIVEN_UP).exists():
        return False
    note = "the picture came after the end; nothing is charged"
    JobEvent.objects.get_or_create(job=job, state=Job.State.FAILED, note=note)
    return True


def _picture(job: Job, key: str, rendered: Rendered) -> Picture:
    return Picture(
        job=job,
        user_id=job.user_id,
        variant_id=job.variant_id,
        key=key,
        format=rendered.format,
        width=rendered.width,
        height=rendered.height,
        size=len(rendered.original),
        sha256=rendered.sha256,
        thumb_width=rendered.thumb_width,
        thumb_height=rendered.thumb_height,
        is_locked=job.is_preview,
    )


def expire(job: Job) -> bool:
    """Ends a job that is long past its deadline and that no drive has ended."""
    return _end(job, Job.State.FAILED, from_states=Job.OPEN, failure="timed_out", note="past its deadline")


def fail(job: Job, failure: str, detail: str = "", *, may_have_cost: bool = True) -> bool:
    """Ends a leased job without a picture and without a charge. `may_have_cost` False: the upstream never started."""
    with transaction.atomic():
        if not may_have_cost:
            upstreams.refund(job)
        return _or_undone(
            _end(
                job,
                Job.State.FAILED,
                from_states=Job.OPEN,
                failure=failure,
                note=detail,
                may_have_cost=may_have_cost,
                lease_owner=job.lease_owner,
            )
        )


def _leased(job: Job) -> Any:
    return Job.objects.filter(pk=job.pk, lease_owner=job.lease_owner)


@transaction.atomic(savepoint=False)
def _move(job: Job, state: str, to: str, *, note: str = "", **changes: Any) -> bool:
    """Compare and set, for the holder of the lease; the job in hand changes with its row.

    But for the name on the lease: a move that is rolled back with others in its commit must find it at its repetition.
    """
    mine = {"id": job.pk, "lease_owner": job.lease_owner, "state": state}
    if not rows.change(Job, mine, {"state": to, **changes}):
        return False
    rows.insert(JobEvent(job=job, state=to, note=note[:300]))
    for name, value in {"state": to, **changes}.items():
        if name != "lease_owner":
            setattr(job, name, value)
    return True


@transaction.atomic(savepoint=False)
def _end(
    job: Job,
    to: str,
    *,
    from_states: Sequence[str],
    failure: str = "",
    note: str = "",
    may_have_cost: bool = True,
    **lease: str,
) -> bool:
    """Ends an open job without a picture: the hold is released and a suspected upstream cost is booked."""
    still_open = Job.objects.filter(pk=job.pk, state__in=from_states, **lease)
    ended = {"state": to, "failure": failure, "failure_detail": note[:300], "finished": timezone.now()}
    if not still_open.update(**ended):
        return False
    JobEvent.objects.create(job=job, state=to, note=f"{failure} {note}".strip()[:300])
    job.refresh_from_db()  # the row is ours now: a reroute may have given it another hold since it was read
    is_free = not may_have_cost or failure in ("moderated", "rejected", "upstream_failed")
    suspected = 0 if is_free or not job.submitted else job.cost_micros
    if suspected and job.is_preview:
        # Today's, too: what it may have cost counts against that, what is given back against the day of its order.
        locks.windows([job.hold_id], ledger.preview_limits(job.user, suspected))
    ledger.release(job.hold_id)
    outbox.job_ended(job)
    memo = f"{job.provider} {job.upstream_id or 'without an id'}: {failure or to}"
    ledger.book_suspected_cost(
        suspected, business_id=f"suspect:{job.pk}", memo=memo, is_preview=job.is_preview
    )
    return True
