"""An account is deleted: nobody gets in from that moment on, what is being made is ended, and everything that somebody
wrote, drew or sent us is erased. The ledger's lines stay, and what jobs and pictures were in numbers.

`begin` marks the account, in one transaction. All that follows may be repeated and be interrupted anywhere: the sweep
goes on with it until the account has no address any more, and for an hour after that, so that a request which was under
way at that moment leaves nothing behind.
"""

import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from django_q.tasks import async_task

from accounts import erasure, mails
from accounts.models import User
from playground import images, jobs
from playground.models import (
    Delivery,
    DeliveryAttempt,
    IdempotentCall,
    Job,
    JobEvent,
    Picture,
    Run,
    ShareLink,
    Upload,
    WebhookEndpoint,
)

logger = logging.getLogger(__name__)

LOOKED_AFTER = timedelta(hours=1)
AT_ONCE = 200
LONGEST_S = 20.0  # a turn of the queue's; the next sweep goes on


class OutOfTime(Exception):
    """The rest is for the next turn."""


def begin(user: User) -> bool:
    """Closes the account, and asks for the rest to be done. False where it is closed already.

    Raises erasure.LastSuperuser.
    """
    with transaction.atomic():
        if not erasure.close(user):
            return False
        async_task("playground.tasks.finish_deletions")
    mails.tell("deleted", user, {})
    return True


def finish(longest_s: float = LONGEST_S) -> int:
    """Goes on with every account that is closed and not erased. Returns how many are done."""
    turn, done = _Turn(longest_s), 0
    for user in erasure.unfinished(timezone.now() - LOOKED_AFTER):
        try:
            _erase(user, turn)
        except OutOfTime:
            break
        except Exception:  # the others' turn all the same; this one's comes again in a minute
            logger.exception("account %s could not be erased", user.pk)
            continue
        done += 1
    return done


class _Turn:
    """Batches of rows, as long as there is time."""

    def __init__(self, longest_s: float) -> None:
        self.ends = time.monotonic() + longest_s

    def batches(self, rows: QuerySet[Any]) -> Iterator[list[Any]]:
        """Of rows that leave the query as they are dealt with."""
        while batch := list(rows.order_by("pk")[:AT_ONCE]):
            if time.monotonic() > self.ends:
                raise OutOfTime
            yield batch


def _erase(user: User, turn: _Turn) -> None:
    """Webhooks before the jobs, or the end of each job would still be told to somebody."""
    _silence(user)
    _end_jobs(user, turn)
    _erase_words(user, turn)
    _erase_pictures(user, turn)
    _erase_deliveries(user, turn)
    IdempotentCall.objects.filter(user=user).delete()
    erasure.erase_ways_in(user)
    erasure.erase_name(user)


# --- What acts in their name ------------------------------------------------------------------------------
def _silence(user: User) -> None:
    now = timezone.now()
    ShareLink.objects.filter(user=user, revoked=None).update(revoked=now)
    Job.objects.filter(user=user).exclude(callback_url="").update(callback_url="")
    for endpoint in WebhookEndpoint.objects.filter(user=user).exclude(secret=""):
        WebhookEndpoint.objects.filter(pk=endpoint.pk).update(
            url=f"erased:{endpoint.pk}",  # one of an account may have none, and it may be another
            note="",
            secret="",
            old_secret="",
            off_because="",
            is_on=False,
            mail_due=False,
            removed=endpoint.removed or now,
        )


def _end_jobs(user: User, turn: _Turn) -> None:
    """What waits is cancelled; what an upstream has is given up, and what comes of it later is not taken. Nothing is
    charged, and the house bears what the upstream may ask for it."""
    for batch in turn.batches(Job.objects.filter(user=user).open()):
        for job in batch:
            jobs.cancel(job, by=user) or jobs.give_up(job, by=user)


# --- What they wrote --------------------------------------------------------------------------------------
def _erase_words(user: User, turn: _Turn) -> None:
    Run.objects.filter(user=user).exclude(prompt="", seed=None).update(prompt="", seed=None)
    blank = {"failure_detail": "", "upstream_memo": "", "claimed_id": "", "result_urls": []}
    is_blank = Q(params__prompt="", asked__isnull=True, **blank)
    for batch in turn.batches(Job.objects.filter(user=user).exclude(is_blank)):
        mine = Job.objects.filter(pk__in=[job.pk for job in batch])
        for job in batch:
            job.params = {"prompt": "", **{name: job.params[name] for name in _KEPT if name in job.params}}
        with transaction.atomic():
            JobEvent.objects.filter(job__in=mine).exclude(note="").update(note="")
            Job.objects.bulk_update(batch, ["params"])
            mine.update(asked=None, **blank)
    if user.is_staff:
        _forget_deeds(user)


# What a receipt is made of, and what no person can be known by.
_KEPT = ("aspect_ratio", "resolution", "width", "height")


def _forget_deeds(user: User) -> None:
    """Staff are named where they ended other people's jobs."""
    by = f"by {user}"
    JobEvent.objects.filter(Q(note=by) | Q(note=f"given_up {by}")).update(note="by staff")
    Job.objects.filter(failure_detail=by).update(failure_detail="by staff")


# --- What they made and sent ------------------------------------------------------------------------------
def _erase_pictures(user: User, turn: _Turn) -> None:
    """The files first: a row without its key would leave them to the nightly search for orphans."""
    for batch in turn.batches(Picture.objects.filter(user=user).exclude(key="", sha256="")):
        for picture in batch:
            if picture.key:
                images.remove(picture.key)
            picture.deleted = picture.deleted or timezone.now()
            picture.key = picture.sha256 = ""
        Picture.objects.bulk_update(batch, ["key", "sha256", "deleted"])
    for batch in turn.batches(Upload.objects.filter(user=user).exclude(key="", sha256="")):
        for upload in batch:
            if upload.key:
                images.remove(upload.key)
            upload.key = upload.sha256 = ""
            upload.content_sha256 = f"erased:{upload.pk.hex}"
        Upload.objects.bulk_update(batch, ["key", "sha256", "content_sha256"])


def _erase_deliveries(user: User, turn: _Turn) -> None:
    now = timezone.now()
    waiting = Delivery.objects.filter(user=user, ended=None)
    waiting.update(state=Delivery.State.FAILED, ended=now, lease_until=None)
    for batch in turn.batches(Delivery.objects.filter(user=user).exclude(url="")):
        DeliveryAttempt.objects.filter(delivery__in=batch).update(answer="", problem="")
        Delivery.objects.filter(pk__in=[delivery.pk for delivery in batch]).update(url="", lane="")
