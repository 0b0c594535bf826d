"""Everything that an account has here, as one ZIP that is written while it is sent.

Neither a file nor the whole of it in memory: rows are read in pages by their id, pictures in pieces, and what `zipfile`
writes is taken from it at once. Times are UTC, amounts whole micro-dollars. What is not in it: secrets (what
opens keys, sessions and second factors), and originals of previews that were not kept.
"""

import csv
import io
import json
import logging
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.usersessions.models import UserSession
from django.db.models import Q, QuerySet
from django.forms.models import model_to_dict
from django.utils import timezone

from accounts import ledger
from accounts.models import ApiKey, Cap, TopUp, Transfer, User
from playground import images
from playground.models import Delivery, Job, Picture, Run, ShareLink, Upload, UsageDay, WebhookEndpoint

logger = logging.getLogger(__name__)

AT_ONCE = 500
PIECE = 256 * 1024

README = """Your data in Flux Playground.

account.json       who you are here, your settings, addresses, sessions, caps, keys and webhook addresses
statement.csv      every movement of your credits
purchases.jsonl    credits that you bought
usage.csv          pictures and amounts by UTC day and variant
runs.jsonl         what you asked for: prompts and settings
jobs.jsonl         each picture that was to be made, and what became of it
pictures.jsonl     what is in the folder pictures/
inputs.jsonl       what is in the folder inputs/
links.jsonl        what you shared, and whether it is still live
deliveries.jsonl   what your webhooks were told

Times are UTC. Amounts are micro-dollars: $1 is 1,000,000, one credit 7,000.
Of a free preview that was not kept there is what you can see: 768 pixels. Keep it, and its original is in the next export.
"""


def stream(user: User) -> Iterator[bytes]:
    """The ZIP, piece by piece."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, pieces in _files(user):
            info = zipfile.ZipInfo(name, time.gmtime()[:6])
            is_picture = name.startswith(("pictures/", "inputs/"))  # packed already
            info.compress_type = zipfile.ZIP_STORED if is_picture else zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            with archive.open(info, "w", force_zip64=True) as file:
                for piece in pieces:
                    file.write(piece)
                    yield from sink.taken()
            yield from sink.taken()
    yield from sink.taken()


class _Sink(io.RawIOBase):
    """What `zipfile` writes to. It cannot go back, so nothing that was sent is needed again."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.parts.append(bytes(data))
        return len(data)

    def taken(self) -> Iterator[bytes]:
        parts, self.parts = self.parts, []
        if whole := b"".join(parts):
            yield whole


def _files(user: User) -> Iterator[tuple[str, Iterable[bytes]]]:
    missing: list[str] = []
    yield "README.txt", [README.encode()]
    yield "account.json", [_json(_account(user), indent=2)]
    yield "statement.csv", _csv(STATEMENT, _statement(user))
    yield "purchases.jsonl", _lines(TopUp.objects.filter(user=user), _plain)
    yield "usage.csv", _csv(USAGE, _usage(user))
    yield "runs.jsonl", _lines(Run.objects.filter(user=user), _run)
    yield "jobs.jsonl", _lines(Job.objects.filter(user=user).select_related("variant"), _job)
    yield "links.jsonl", _lines(ShareLink.objects.filter(user=user), _link)
    yield "deliveries.jsonl", _lines(Delivery.objects.filter(user=user), _delivery)
    pictures = Picture.objects.filter(user=user).kept().exclude(key="").select_related("variant")
    yield "pictures.jsonl", _lines(pictures, _picture)
    for picture in _pages(pictures):
        yield from _bytes(
            _picture_name(picture), picture, "preview" if picture.is_locked else "original", missing
        )
    uploads = Upload.objects.filter(user=user).stored()
    yield "inputs.jsonl", _lines(uploads, _upload)
    for upload in _pages(uploads):
        yield from _bytes(_upload_name(upload), upload, "thumb" if upload.is_preview else "original", missing)
    if missing:
        yield "missing.txt", [f"These could not be read:\n{chr(10).join(missing)}\n".encode()]


def _pages(rows: QuerySet[Any]) -> Iterator[Any]:
    """All of them, oldest first, by pages: a cursor that stays open for as long as somebody downloads would keep the
    database from tidying up."""
    last = None
    while page := list((rows.filter(pk__gt=last) if last else rows).order_by("pk")[:AT_ONCE]):
        yield from page
        last = page[-1].pk


# --- Files ----------------------------------------------------------------------------------------------
def _bytes(
    name: str, row: Picture | Upload, size: images.Size, missing: list[str]
) -> Iterator[tuple[str, Iterable[bytes]]]:
    """The stored file, opened before its name is written: one that is gone is told of in the end."""
    try:
        file = images.path(row.key, size, row.format).open("rb")
    except OSError:
        logger.warning("export: %s of %s cannot be read", size, row.pk)
        missing.append(name)
        return
    with file:
        yield name, iter(lambda: file.read(PIECE), b"")


def _picture_name(picture: Picture) -> str:
    suffix = ".webp" if picture.is_locked else images.SUFFIXES[picture.format]
    preview = "-preview" if picture.is_locked else ""
    return f"pictures/{picture.created:%Y-%m-%d}-{picture.pk}{preview}{suffix}"


def _upload_name(upload: Upload) -> str:
    return f"inputs/{upload.pk}{'.webp' if upload.is_preview else images.SUFFIXES[upload.format]}"


def _json(value: Any, indent: int | None = None) -> bytes:
    return (json.dumps(value, default=_said, ensure_ascii=False, indent=indent) + "\n").encode()


def _said(value: Any) -> str:
    return _utc(value) if isinstance(value, datetime) else str(value)


def _utc(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()


def _lines(rows: QuerySet[Any], told: Callable[[Any], dict[str, Any]]) -> Iterator[bytes]:
    for row in _pages(rows):
        yield _json(told(row))


def _csv(columns: list[str], rows: Iterable[list[Any]]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for row in rows:
        writer.writerow(row)
        yield text.getvalue().encode()
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


# --- What is in them ------------------------------------------------------------------------------------
def _account(user: User) -> dict[str, Any]:
    wallet = ledger.wallet_of(user)
    return {
        "exported": timezone.now(),
        "email": user.email,
        "name": user.name,
        "time_zone": user.time_zone,
        "joined": user.date_joined,
        "last_login": user.last_login,
        "mails_switched_off": user.muted,
        "addresses": list(EmailAddress.objects.filter(user=user).values("email", "verified", "primary")),
        "sessions": list(UserSession.objects.filter(user=user).values(*_OF_SESSION)),
        "second_factors": [_factor(each) for each in Authenticator.objects.filter(user=user)],
        "balance_micro_usd": wallet.posted,
        "held_micro_usd": wallet.held,
        "caps": list(Cap.objects.filter(user=user).values("window", "limit", "warn_at", "key_id")),
        "api_keys": [
            {name: getattr(key, name) for name in _OF_KEY}
            for key in ApiKey.objects.filter(user=user).order_by("pk")
        ],
        "webhooks": list(
            WebhookEndpoint.objects.filter(user=user, removed=None)
            .exclude(url="")
            .values("id", "url", "note", "is_on", "created")
        ),
    }


def _factor(factor: Authenticator) -> dict[str, Any]:
    """Only passkeys have names."""
    told = {"kind": factor.type, "added": factor.created_at, "last_used": factor.last_used_at}
    return {**told, "name": factor.data.get("name", "")}


_OF_SESSION = ("ip", "user_agent", "created_at", "last_seen_at")
_OF_KEY = ("id", "name", "start", "last_four", "is_test", "created", "last_used", "expires", "revoked")
STATEMENT = ["time_utc", "kind", "memo", "change_micro_usd", "balance_after_micro_usd", "id"]
USAGE = [
    "day_utc",
    "variant",
    "api_key",
    "pictures",
    "pictures_micro_usd",
    "previews",
    "kept",
    "kept_micro_usd",
]


def _statement(user: User) -> Iterator[list[Any]]:
    wallet = ledger.wallet_of(user)
    for row in _pages(Transfer.objects.filter(Q(debit=wallet) | Q(credit=wallet))):
        change = row.amount if row.credit_id == wallet.pk else -row.amount
        yield [_utc(row.created), row.kind, _harmless(row.memo), change, row.user_balance, row.business_id]


def _usage(user: User) -> Iterator[list[Any]]:
    for row in _pages(UsageDay.objects.filter(user=user).select_related("variant")):
        counts = [row.pictures, row.pictures_micros, row.previews, row.kept, row.kept_micros]
        yield [row.day.isoformat(), row.variant.name, row.by_key or "", *counts]


def _harmless(text: str) -> str:
    """Text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{text}" if text[:1] in tuple("=+-@\t\r\n") and text else text


def _plain(row: Any) -> dict[str, Any]:
    return {"id": row.pk, **model_to_dict(row, exclude=["user", "session_id", "payment_id", "next_look"])}


def _run(run: Run) -> dict[str, Any]:
    names = ("id", "created", "prompt", "aspect_ratio", "count", "seed", "pay")
    inputs = run.inputs.values_list("upload_id", flat=True)
    return {**{name: getattr(run, name) for name in names}, "inputs": list(inputs)}


def _job(job: Job) -> dict[str, Any]:
    names = (
        "id", "run_id", "created", "submitted", "finished", "state", "failure", "failure_detail", "is_preview",
        "is_test", "key_id", "params", "asked", "callback_url",
    )  # fmt: skip
    told = {name: getattr(job, name) for name in names}
    return {**told, "variant": job.variant.name, "price_micro_usd": job.price_micros}


def _picture(picture: Picture) -> dict[str, Any]:
    names = ("id", "job_id", "created", "format", "width", "height", "size", "is_locked", "kept")
    told = {name: getattr(picture, name) for name in names}
    return {**told, "variant": picture.variant.name, "file": _picture_name(picture)}


def _upload(upload: Upload) -> dict[str, Any]:
    names = ("id", "created", "last_used", "format", "width", "height", "size", "picture_id")
    return {**{name: getattr(upload, name) for name in names}, "file": _upload_name(upload)}


def _link(link: ShareLink) -> dict[str, Any]:
    names = (
        "token",
        "run_id",
        "picture_id",
        "shows_prompt",
        "created",
        "revoked",
        "taken_down",
        "takedown_reason",
    )
    return {name: getattr(link, name) for name in names}


def _delivery(delivery: Delivery) -> dict[str, Any]:
    names = ("id", "job_id", "url", "event", "state", "attempts", "created", "ended")
    return {name: getattr(delivery, name) for name in names}
