"""What the house does every minute and every night. The proof that nothing is wrong is `playground.audits`."""

import logging
import uuid
from collections.abc import Callable
from datetime import timedelta

from django.contrib.sessions.backends.db import SessionStore
from django.utils import timezone

from accounts import cap_mails, stripe_events, topups, welcome
from accounts.audit import Problem
from playground import audits, catalog, deletion, drives, endpoints, images, jobs, outbox, takings, uploads
from playground.models import AuditRun, IdempotentCall, Job, Picture, Upload

logger = logging.getLogger(__name__)

UNDO_FOR = timedelta(hours=24)
OVERDUE = timedelta(minutes=1)
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
        deletion.finish,
        uploads.remove_unused,
        images.clear_incoming,
        stripe_events.handle_waiting,
        topups.look_due,
        _mail_caps,  # last: a slow mail server must not keep the rest waiting
        endpoints.send_mails,
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
    """Once a day: expired sessions and orphaned files go, days that are over are summed up, and the audit is run and its
    findings are logged as errors.

    Without the files: reading them all would take a worker of the queue for longer than it may be away.
    """
    for part in (
        SessionStore.clear_expired,
        outbox.forget_old,
        remove_orphans,
        forget_calls,
        takings.close_days,
        _log_audit,
    ):
        _goes_on(part)


def _log_audit() -> None:
    audits.forget_killed()
    for found in audits.run(AuditRun.By.NIGHT, with_files=False):
        logger.error("audit: %s", found)


def forget_calls() -> int:
    """Removes the keys of calls that nobody may come back for. Returns how many."""
    old = IdempotentCall.objects.filter(created__lt=timezone.now() - IdempotentCall.KEPT)
    forgotten = 0
    while some := list(old.order_by("created").values_list("pk", flat=True)[:_AT_ONCE]):
        forgotten += IdempotentCall.objects.filter(pk__in=some).delete()[0]
    return forgotten


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
    return audits.audit(with_files=with_files)
