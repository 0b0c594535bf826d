"""The proof that nothing is wrong: every invariant of the money, the jobs, the sums and the files; and what was found when."""

import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone
from django_q.tasks import async_task

from accounts import audit as accounts_audit
from accounts.audit import Problem, problem
from accounts.models import Hold, Transfer, User
from playground import images, takings, tally
from playground.models import AuditRun, Job, Picture, Upload

logger = logging.getLogger(__name__)

STUCK = timedelta(minutes=15)
KILLED = timedelta(minutes=10)  # without moving on: the queue ends a task after five
MOST_KEPT = 100  # of what it found; the rest is counted
RUNS_KEPT = 200
Check = Callable[[], Iterable[Problem]]


def checks(*, with_files: bool) -> list[tuple[str, Check]]:
    """Each with what it looks at. `with_files` reads every original."""
    found: list[tuple[str, Check]] = [
        *((name, partial(accounts_audit.broken, name)) for name in accounts_audit.INVARIANTS),
        ("jobs and their holds", _jobs_match_holds),
        ("jobs and their pictures", _jobs_match_pictures),
        ("kept previews", _kept_are_paid),
        ("usage by account and day", tally.audit),
        ("takings by day", takings.audit),
        ("stuck jobs", _stuck),
    ]
    return [*found, ("stored files", _files_match)] if with_files else found


def audit(*, with_files: bool = True) -> list[Problem]:
    """Every broken invariant; empty means sound."""
    return [found for _, check in checks(with_files=with_files) for found in check()]


# --- Runs, and what they found ------------------------------------------------------------------------
def run(by: AuditRun.By, *, with_files: bool) -> list[Problem]:
    """Audits, and keeps what came of it."""
    return _go_through(AuditRun.objects.create(by=by, with_files=with_files))


def ask(staff: User) -> AuditRun | None:
    """Has the queue audit without the files. None where one that was asked for here is still under way."""
    forget_killed()
    try:
        with transaction.atomic():
            asked = AuditRun.objects.create(by=AuditRun.By.DESK, staff=staff, state=AuditRun.State.ASKED)
            async_task("playground.tasks.audit")
    except IntegrityError:
        return None
    return asked


def run_asked() -> int:
    """What `ask` asked for; whoever comes second finds it taken. Returns how many were run."""
    asked = AuditRun.objects.filter(state=AuditRun.State.ASKED)
    done = 0
    for row in asked:
        now = timezone.now()
        if asked.filter(pk=row.pk).update(state=AuditRun.State.RUNNING, started=now, seen=now):
            _go_through(row)
            done += 1
    return done


def forget_killed() -> int:
    """Says of those that have not moved for long that they broke off."""
    still = AuditRun.objects.filter(
        state__in=[AuditRun.State.ASKED, AuditRun.State.RUNNING], seen__lt=timezone.now() - KILLED
    )
    return still.update(state=AuditRun.State.BROKEN)


def _go_through(row: AuditRun) -> list[Problem]:
    mine = AuditRun.objects.filter(pk=row.pk)
    steps = checks(with_files=row.with_files)
    found: list[Problem] = []
    try:
        for done, (name, check) in enumerate(steps):
            mine.update(checks=len(steps), done=done, doing=name, seen=timezone.now(), found=len(found))
            found += check()
    except BaseException:
        mine.update(state=AuditRun.State.BROKEN)
        raise
    kept = [{name: str(value) for name, value in one.items()} for one in found[:MOST_KEPT]]
    ended = {"state": AuditRun.State.ENDED, "ended": timezone.now(), "done": len(steps), "doing": ""}
    mine.update(found=len(found), problems=kept, **ended)
    _forget_old()
    return found


def _forget_old() -> None:
    """Those that found nothing: what was found once stays to be read."""
    newest = AuditRun.objects.order_by("-pk").values_list("pk", flat=True)[:RUNS_KEPT]
    AuditRun.objects.filter(found=0).exclude(pk__in=list(newest)).delete()


# --- The invariants -----------------------------------------------------------------------------------
def _jobs_match_holds() -> Iterator[Problem]:
    expected = {
        Hold.State.OPEN: Job.OPEN,
        Hold.State.CAPTURED: [Job.State.SUCCEEDED],
        Hold.State.RELEASED: [Job.State.FAILED, Job.State.CANCELLED],
    }
    for hold_state, states in expected.items():
        for job in (
            Job.objects.filter(state__in=states).exclude(hold__state=hold_state).select_related("hold")
        ):
            yield problem(
                f"a job that is {job.state} has a hold that is {hold_state}",
                str(job),
                hold_state,
                job.hold.state,
            )
    charged = Job.objects.filter(state=Job.State.SUCCEEDED, is_preview=False, is_test=False).exclude(
        hold__captured=F("price_micros")
    )
    for job in charged.select_related("hold"):
        yield problem("a success captures its price", str(job), job.price_micros, job.hold.captured)


def _jobs_match_pictures() -> Iterator[Problem]:
    pictures = Picture.objects.filter(job=OuterRef("pk"))
    for job in Job.objects.filter(~Exists(pictures), state=Job.State.SUCCEEDED):
        yield problem("succeeded <=> a picture", str(job), "a picture", None)
    for job in Job.objects.filter(Exists(pictures)).exclude(state=Job.State.SUCCEEDED):
        yield problem("succeeded <=> a picture", str(job), "no picture", "a picture")


def _kept_are_paid() -> Iterator[Problem]:
    for picture in Picture.objects.filter(job__is_preview=True).exclude(is_locked=True, kept__isnull=True):
        if not Transfer.objects.filter(business_id=f"keep:{picture.pk}", kind=Transfer.Kind.KEEP).exists():
            yield problem("a kept preview is paid for", str(picture), "one transfer", None)


def _stuck() -> Iterator[Problem]:
    late: QuerySet[Job] = Job.objects.open().filter(deadline__lt=timezone.now() - STUCK)
    for job in late:
        yield problem("no job is open 15 minutes past its deadline", str(job), "final", job.state)


def _files_match() -> Iterator[Problem]:
    stored: list[tuple[str, QuerySet[Any]]] = [
        ("the stored file is the one that was fetched", Picture.objects.exclude(key="")),
        ("the stored input is the one that was taken", Upload.objects.stored()),
    ]
    for invariant, rows in stored:
        for row in rows.iterator():
            if (found := _stored_sha256(row)) != row.sha256:
                yield problem(invariant, str(row), row.sha256, found)


def _stored_sha256(row: Picture | Upload) -> str | None:
    try:
        return images.stored_sha256(row.key, row.format)
    except OSError as error:
        return f"unreadable: {error.strerror}"
