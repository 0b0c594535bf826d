"""Input pictures: taken, kept once per account, handed to upstreams, and removed when nobody needs them.

The file comes first, the row after it, and a row's files go with it, so no row ever lacks its file. The row decides
every race: two requests with one file end with one upload, and what is being used at this moment is not removed.
"""

import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core import signing
from django.core.cache import cache
from django.db import IntegrityError, transaction
from django.db.models import Count, ProtectedError, Sum
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from playground import images
from playground.ids import new_id
from playground.images import ImageError, Rendered
from playground.models import Job, Picture, RunInput, Upload
from playground.providers.base import Input

logger = logging.getLogger(__name__)

UNUSED_FOR = timedelta(days=3)
SIGNED_FOR = timedelta(hours=1)
A_MINUTE = 60
# How long a process that was killed while it decoded keeps its account waiting.
DECODED_WITHIN_S = 60
_AT_ONCE = 500
_links = signing.TimestampSigner(salt="playground.uploads.links")
_signer = signing.TimestampSigner(salt="playground.uploads", sep=".")


class QuotaReached(Exception):
    """The account has as many input pictures as it may have; str() says so in plain words."""


class NoSpace(Exception):
    """The house's disk is nearly full; str() says so in plain words."""

    def __init__(self) -> None:
        super().__init__("The house's disk is nearly full, so nothing was stored. Try again later.")


class InUse(Exception):
    """A picture is being made from it at this moment."""


class Gone(OSError):
    """Its file is not there any more."""


# --- Taking -------------------------------------------------------------------------------------------
def is_too_often(user_id: int) -> bool:
    """Counts one more that an account sends. Good files and bad ones count alike: what costs us is the looking."""
    key = f"uploads:{user_id}:{int(time.time() // 60)}"
    cache.add(key, 0, timeout=120)
    try:
        return cache.incr(key) > A_MINUTE
    except ValueError:  # dropped from a full cache at this very moment
        return False


def take(user: User, data: bytes) -> Upload:
    """The upload of this file: a new one, or the one that the account has of the same bytes.

    Raises ImageError, images.Busy, NoSpace, QuotaReached, OSError (disk full), MemoryError.
    """
    return _take(user, hashlib.sha256(data).hexdigest(), lambda: images.normalise(data))


def take_picture(user: User, picture: Picture) -> Upload:
    """The upload of a picture from the gallery; of a preview that was not kept, its 768 px. Raises as `take` does."""
    known = picture.sha256
    if picture.is_locked:
        known = hashlib.sha256(f"preview of {picture.sha256}".encode()).hexdigest()
    return _take(
        user, known, lambda: _from_gallery(picture), picture_id=picture.pk, is_preview=picture.is_locked
    )


def _from_gallery(picture: Picture) -> Rendered:
    try:
        data = images.path(picture.key, "original", picture.format).read_bytes()
    except (FileNotFoundError, ValueError) as gone:
        raise ImageError("That picture has been deleted.") from gone
    side = images.PREVIEW_SIDE if picture.is_locked else None
    return images.normalise(data, limit_bytes=images.MAX_BYTES, longest_side=side)


def _take(user: User, content_sha256: str, normalise: Callable[[], Rendered], **about: Any) -> Upload:
    if known := touched(user.pk, content_sha256=content_sha256):
        return known
    _check_quota(user, 0)
    if not images.has_space():
        raise NoSpace
    with _alone(user):
        rendered, key = normalise(), images.new_key(new_id())
    images.store(key, rendered)
    try:
        return added(user.pk, content_sha256, key, rendered, **about)
    finally:
        _remove_unless_known(key)


@contextmanager
def _alone(user: User) -> Iterator[None]:
    """One picture of an account at a time, so that one person cannot have all of the site's web threads."""
    key = f"uploads:decoding:{user.pk}"
    if not cache.add(key, 1, timeout=DECODED_WITHIN_S):
        raise images.Busy
    try:
        yield
    finally:
        cache.delete(key)


def _remove_unless_known(key: str) -> None:
    """Says nothing of its own failure, which would hide the first one; the night finds what stays."""
    try:
        if not Upload.objects.filter(key=key).exists():
            images.remove(key)
    except Exception:
        logger.exception("the files of an upload without a row could not be removed: %s", key)


def touched(user_id: int, **which: Any) -> Upload | None:
    """The account's upload of that `pk` or `content_sha256`, safe from the sweep from now on; None where it has none."""
    known = Upload.objects.stored().filter(user_id=user_id, **which)
    return known.first() if known.update(last_used=timezone.now()) else None


def added(user_id: int, content_sha256: str, key: str, rendered: Rendered, **about: Any) -> Upload:
    """The upload of that content, whose files lie under `key`; an older one where it came twice. Raises QuotaReached."""
    try:
        return _added(user_id, content_sha256, key, rendered, about)
    except IntegrityError:  # the same file came twice at once, and the other was first
        if known := touched(user_id, content_sha256=content_sha256):
            return known
        raise


@transaction.atomic
def _added(user_id: int, content_sha256: str, key: str, rendered: Rendered, about: dict[str, Any]) -> Upload:
    """The row, within the quota. Whoever counts holds the account's row, so that two cannot both be the last one."""
    user = User.objects.select_for_update(no_key=True).get(pk=user_id)
    _check_quota(user, len(rendered.original))
    changes = {"key": key, "last_used": timezone.now(), **_measures(rendered), **about}
    removed = Upload.objects.visible_to(user).filter(content_sha256=content_sha256, key="")
    if removed.update(**changes):  # its owner removed it, a run still shows where it was, and now it is back
        return Upload.objects.get(user=user, content_sha256=content_sha256)
    return Upload.objects.create(user=user, content_sha256=content_sha256, **changes)


def _measures(rendered: Rendered) -> dict[str, Any]:
    return {
        "format": rendered.format,
        "width": rendered.width,
        "height": rendered.height,
        "size": len(rendered.original),
        "sha256": rendered.sha256,
        "thumb_width": rendered.thumb_width,
        "thumb_height": rendered.thumb_height,
    }


def _check_quota(user: User, more_bytes: int) -> None:
    count, used = usage(user)
    if count >= settings.UPLOADS_PER_ACCOUNT:
        raise QuotaReached(
            f"You have {settings.UPLOADS_PER_ACCOUNT:,} input pictures, which is the most. {_WAY_OUT}"
        )
    most = settings.UPLOADS_BYTES_PER_ACCOUNT
    if used + more_bytes > most:
        raise QuotaReached(
            f"Your input pictures take up {used / 1e6:.0f} of {most / 1e6:.0f} MB, so this one does not fit. {_WAY_OUT}"
        )


_WAY_OUT = "Remove some in your gallery, under Input pictures; unused ones go by themselves after three days."


def usage(user: User) -> tuple[int, int]:
    """How many input pictures the account has stored, and their bytes."""
    used = Upload.objects.visible_to(user).stored().aggregate(count=Count("pk"), bytes=Sum("size"))
    return used["count"], used["bytes"] or 0


# --- Handing out --------------------------------------------------------------------------------------
def signed_url(upload: Upload) -> str:
    """An address of ours that serves it for an hour to whoever has it; "" where the world cannot reach us."""
    if not settings.BASE_URL:
        return ""
    return f"{settings.BASE_URL}{reverse('upload_signed', args=[_signer.sign(upload.pk.hex)])}"


def by_signed(signed: str) -> Upload | None:
    """The upload of a signed address, while that is valid."""
    try:
        pk = _signer.unsign(signed, max_age=SIGNED_FOR)
    except signing.BadSignature:
        return None
    return Upload.objects.stored().filter(pk=pk, user__is_active=True).first()


def link(upload: Upload, base: str) -> str:
    """An address that serves it to whoever has it for as long as an unused upload stays, and that the API takes back."""
    name = upload.pk.hex[-12:] + images.SUFFIXES[upload.format]
    return f"{base}{reverse('upload_link', args=[_links.sign(upload.pk.hex), name])}"


def by_link(signed: str) -> Upload | None:
    """The upload of such an address, while that is valid."""
    try:
        pk = _links.unsign(signed, max_age=UNUSED_FOR)
    except signing.BadSignature:
        return None
    return Upload.objects.stored().filter(pk=pk, user__is_active=True).first()


def of_job(job: Job) -> list[Upload]:
    """What the job is made from, in order. Some may have been removed; `as_inputs` says so."""
    ids = [uuid.UUID(pk) for pk in job.params.get("inputs", [])]
    known = Upload.objects.in_bulk(ids) if ids else {}
    return [known[pk] for pk in ids]


def as_inputs(uploads: Sequence[Upload]) -> tuple[Input, ...]:
    """With their bytes, in the words that providers know: disk work only. Raises Gone, OSError."""
    return tuple(_as_input(upload) for upload in uploads)


def _as_input(upload: Upload) -> Input:
    if not upload.key:
        raise Gone
    name = upload.key.rpartition("/")[2] + images.SUFFIXES[upload.format]
    return Input(
        name=name,
        content_type=images.content_type("original", upload.format),
        width=upload.width,
        height=upload.height,
        data=read(name),
        url=signed_url(upload),
    )


def read(name: str) -> bytes:
    """The bytes of the `Input` of that name. Raises Gone, OSError."""
    stem, _, suffix = name.partition(".")
    format = next((format for format, known in images.SUFFIXES.items() if known == f".{suffix}"), "")
    try:
        return images.path(images.new_key(uuid.UUID(stem)), "original", format).read_bytes()
    except (FileNotFoundError, ValueError, KeyError) as gone:
        raise Gone from gone


# --- Removing -----------------------------------------------------------------------------------------
def remove(upload: Upload) -> None:
    """What its owner asks for: the files go at once; the row stays where a run shows what it was made from.

    Raises InUse while a picture is being made from it.
    """
    with transaction.atomic():
        locked = Upload.objects.select_for_update().filter(pk=upload.pk).first()
        if locked is None or not locked.key:
            return
        runs = RunInput.objects.filter(upload=locked).values("run")
        if Job.objects.open().filter(run__in=runs).exists():
            raise InUse
        if runs.exists():
            Upload.objects.filter(pk=locked.pk).update(key="")
        else:
            locked.delete()
        images.remove(locked.key)


def remove_unused() -> int:
    """Removes what no run was made from and nobody has touched for three days. Returns how many."""
    before = timezone.now() - UNUSED_FOR
    old = Upload.objects.unused().filter(last_used__lt=before).values_list("pk", flat=True)
    return sum(_removed(pk, before) for pk in list(old[:_AT_ONCE]))


def _removed(pk: Any, before: Any) -> bool:
    """The files go last and before the commit: whoever is killed in between leaves a row, which is found again."""
    try:
        with transaction.atomic():
            row = Upload.objects.unused().filter(pk=pk, last_used__lt=before).select_for_update().first()
            if row is None:
                return False
            row.delete()
            if row.key:
                images.remove(row.key)
    except (ProtectedError, IntegrityError):  # a run has just been made from it
        return False
    return True
