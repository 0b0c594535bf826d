"""The same call is done once: an `Idempotency-Key` of the client's remembers for 7 days which jobs came of it.

The key's row is written in the transaction that makes the jobs, and before them: who comes second waits for the first
at the row and then reads its jobs; what failed before a job existed has left no row. The jobs' ids are ours to choose,
so that the row has them from the start and is written once.
"""

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import OperationalError, connection, transaction
from django.http import HttpRequest
from django.utils import timezone

from accounts import rows
from playground.api import limits
from playground.api.auth import Caller, caller
from playground.api.errors import Problem
from playground.ids import new_id
from playground.models import IdempotentCall

MOST = 255
WAIT = "3s"  # for another transaction with the same key
# A row that is too old is as none: it becomes this call's.
_OR_TAKE_OVER = """
    ON CONFLICT (user_id, key) DO UPDATE
       SET asked = EXCLUDED.asked, job_ids = EXCLUDED.job_ids, created = EXCLUDED.created
     WHERE playground_idempotentcall.created < %s
"""


@dataclass(frozen=True)
class Made:
    """The jobs of a call. `is_replay`: they were made by an earlier call with the same key."""

    job_ids: tuple[str, ...]
    is_replay: bool = False

    @property
    def headers(self) -> dict[str, str]:
        replayed = {"Idempotent-Replayed": "true"} if self.is_replay else {}
        return {"X-AI-Task-Id": ", ".join(self.job_ids), **replayed}


def key_of(request: HttpRequest, own_id: str = "") -> str:
    """What the client made for this call: the header, bare or quoted, or else its own id in the body; "" for neither.

    What was tried out with a test key is no order: a live key may use the same one.
    """
    said = request.headers.get("Idempotency-Key", "").strip()
    if len(said) > 1 and said[0] == said[-1] == '"':
        said = re.sub(r'\\(["\\])', r"\1", said[1:-1])
    if len(said) > MOST:
        raise Problem(
            "invalid_parameter", f"An Idempotency-Key has at most {MOST} characters.", param="Idempotency-Key"
        )
    named = f"header:{said}" if said else f"body:{own_id}" if own_id else ""
    return f"test:{named}" if named and caller(request).auth.is_test else named


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def admitted(
    request: Caller, key: str, route: str, asked: Any, *, has_inputs: bool
) -> tuple[Made | None, dict[str, str]]:
    """Counts a create and returns the headers that say what is left; with what the same call made before, where it may
    not be begun once more: too many others are, or its input pictures may be gone by now. Raises Problem.
    """
    try:
        headers = limits.count_create(request.auth)
    except Problem:
        if made := _before(request.user.pk, key, route, asked):
            return made, {}
        raise
    return _before(request.user.pk, key, route, asked) if has_inputs else None, headers


def _before(user_id: int, key: str, route: str, asked: Any) -> Made | None:
    since = timezone.now() - IdempotentCall.KEPT
    calls = IdempotentCall.objects.filter(user_id=user_id, created__gte=since)
    known = calls.filter(key=digest(route, key)).first() if key else None
    return _made(known, digest(asked)) if known else None


def once(
    user_id: int,
    key: str,
    route: str,
    asked: Any,
    make: Callable[[Sequence[uuid.UUID]], object],
    *,
    count: int = 1,
) -> Made:
    """The jobs that `make` makes with these ids, in one transaction; or what the same call made before. Raises Problem."""
    ids = [new_id() for _ in range(count)]
    made = Made(tuple(map(str, ids)))
    if not key:
        with transaction.atomic():
            make(ids)
        return made
    call = IdempotentCall(user_id=user_id, key=digest(route, key), asked=digest(asked), job_ids=made.job_ids)
    try:
        with transaction.atomic():
            if not _is_first(call):
                return _known(call)
            make(ids)
            return made
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") != "55P03":  # lock_not_available
            raise
        words = "The same call is being worked on at this moment."
        raise Problem("idempotency_in_flight", words, retry_after_s=1) from error


def _is_first(call: IdempotentCall) -> bool:
    """Writes the call's row; False where there is one."""
    text, values = rows.inserting([call])
    head, _, returning = text.partition(" RETURNING ")
    since = call._meta.get_field("created").get_db_prep_save(call.created - IdempotentCall.KEPT, connection)
    writing = (f"{head} {_OR_TAKE_OVER} RETURNING {returning}", [*values, since])
    if connection.vendor != "postgresql":
        return bool(rows.together([writing])[0].rows)
    # Only this row says that the same call is being worked on: what it orders may wait longer, for caps and credits.
    waiting, then = f"SET LOCAL lock_timeout = '{WAIT}'", "SET LOCAL lock_timeout TO DEFAULT"
    return bool(rows.together([(waiting, ()), writing, (then, ())])[1].rows)


def _known(call: IdempotentCall) -> Made:
    return _made(IdempotentCall.objects.get(user_id=call.user_id, key=call.key), call.asked)


def _made(known: IdempotentCall, asked: str) -> Made:
    if known.asked != asked:
        words = "This Idempotency-Key was used for a call with another body. Use a new key for a new call."
        raise Problem("idempotency_conflict", words, param="Idempotency-Key")
    return Made(tuple(known.job_ids), is_replay=True)
