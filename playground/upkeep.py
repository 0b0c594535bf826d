"""What the house does every minute and every night, and the proof that nothing is wrong: the audit."""

import logging
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from django.contrib.sessions.backends.db import SessionStore
from django.db.models import Exists, F, OuterRef, QuerySet
from django.utils import timezone

from accounts import audit as accounts_audit
from accounts import cap_mails, welcome
from accounts.audit import Problem, problem
from accounts.models import Hold, Transfer
from playground import catalog, drives, images, jobs, tally, uploads
from playground.models import Job, Picture, Upload

logger = logging.getLogger(__name__)

UNDO_FOR = timedelta(hours=24)
OVERDUE = timedelta(minutes=1)
STUCK = timedelta(minutes=15)
TOPS_A_NIGHT = 8
FEW_ORPHANS = 20
_AT_ONCE = 500


def sweep() -> None:
    """Every minute: what fell between two chairs is picked up. Safe to run twice, and at the same time."""
    for part in (
        drives.forget_dead,
        drives.ensure,
        end_overdue,
        _welcome,
        purge_deleted,
        uploads.remove_unused,
        images.clear_incoming,
        _mail_caps,  # last: a slow mail server must not keep the rest waiting
    ):
        _goes_on(part)


def _goes_on(part: Callable[..., object], *args: object) -> bool:
    """Whether it went well. What fails is logged, and does not keep from their turn those that come after it."""
    try:
        part(*args)
    except Exception:
        logger.exception("%s failed: %s", getattr(part, "__name__", part), args)
        return False
    return True


def _welcome() -> None:
    welcome.give_due(_AT_ONCE)


def _mail_caps() -> None:
    cap_mails.send_due(catalog.least_price())


def end_overdue() -> int:
    """Fails jobs that no drive has ended in time. Returns how many."""
    now = timezone.now()
    overdue = Job.objects.due(now).filter(deadline__lt=now - OVERDUE)
    ended = 0
    for job in overdue[:_AT_ONCE]:
        try:
            ended += jobs.expire(job)
        except Exception:
            logger.exception("job %s could not be ended", job.pk)
    return ended


def purge_deleted() -> int:
    """Removes the bytes of pictures whose time for second thoughts is over; the row stays, for the receipt."""
    gone = Picture.objects.filter(deleted__lt=timezone.now() - UNDO_FOR).exclude(key="")
    return sum(_goes_on(_purge, *row) for row in list(gone.values_list("pk", "key")[:_AT_ONCE]))


def _purge(pk: uuid.UUID, key: str) -> None:
    images.remove(key)
    Picture.objects.filter(pk=pk).update(key="")


def nightly() -> None:
    """Once a day: expired sessions and orphaned files go, and the audit is run and its findings are logged as errors.

    Without the files: reading them all would take a worker of the queue for longer than it may be away.
    """
    for part in (SessionStore.clear_expired, remove_orphans, _log_audit):
        _goes_on(part)


def _log_audit() -> None:
    for found in audit(with_files=False):
        logger.error("audit: %s", found)


def remove_orphans() -> int:
    """Removes folders that no row knows: their process was killed between the files and the row. Returns how many.

    Eight of the 256 top folders a night, by the date, so that all have had their turn after 32 nights: at a million
    pictures a night looks at 31,000.
    """
    first = timezone.now().toordinal() % (256 // TOPS_A_NIGHT) * TOPS_A_NIGHT
    return sum(_remove_orphans_of(top) for top in range(first, first + TOPS_A_NIGHT))


def _remove_orphans_of(top: int) -> int:
    """The files are looked at before the rows, and what is younger than a day may still get its row."""
    keys = images.old_keys(top)
    if not keys:
        return 0
    known: set[str] = set()
    for model in (Picture, Upload):
        known.update(model.objects.filter(key__startswith=f"{top:02x}/").values_list("key", flat=True))
    orphans = [key for key in keys if key not in known]
    if len(orphans) > max(FEW_ORPHANS, len(keys) // 10):
        # Not what kills leave, but the wrong database, or an old one: deleting would be for good.
        logger.error(
            "%d of %d pictures in %02x have no row, so none was removed", len(orphans), len(keys), top
        )
        return 0
    return sum(_goes_on(images.remove, key) for key in orphans)


# --- The audit ----------------------------------------------------------------------------------------
def audit(*, with_files: bool = True) -> list[Problem]:
    """Every broken invariant of the money and of the jobs; empty means sound. `with_files` reads every original."""
    found = [
        *accounts_audit.audit(),
        *_jobs_match_holds(),
        *_jobs_match_pictures(),
        *_kept_are_paid(),
        *tally.audit(),
        *_stuck(),
    ]
    return [*found, *_files_match()] if with_files else found


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
    charged = Job.objects.filter(state=Job.State.SUCCEEDED, is_preview=False).exclude(
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
