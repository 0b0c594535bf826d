"""The same call is done once: an `Idempotency-Key` of the client's remembers for 7 days what came of it.

The key's row is written in the transaction that makes the jobs, and before them: who comes second waits for the first
at the row and then reads its reply; what failed before a job existed has left no row.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import OperationalError, connection, transaction
from django.http import HttpRequest

from accounts import rows
from playground.api.auth import caller
from playground.api.errors import Problem
from playground.models import IdempotentCall

MOST = 255
WAIT = "3s"  # for another transaction with the same key
# A row that is too old is as none: it becomes this call's.
_OR_TAKE_OVER = """
    ON CONFLICT (user_id, key) DO UPDATE
       SET asked = EXCLUDED.asked, status = NULL, answer = NULL, job_ids = EXCLUDED.job_ids, created = EXCLUDED.created
     WHERE playground_idempotentcall.created < %s
"""


@dataclass(frozen=True)
class Made:
    """What a call was answered, and the jobs it made. `is_replay`: by an earlier call with the same key."""

    answer: dict[str, Any]
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
        said = said[1:-1].replace('\\\\"', '"').replace("\\\\\\\\", "\\\\")
    if len(said) > MOST:
        raise Problem(
            "invalid_parameter", f"An Idempotency-Key has at most {MOST} characters.", param="Idempotency-Key"
        )
    named = f"header:{said}" if said else f"body:{own_id}" if own_id else ""
    return f"test:{named}" if named and caller(request).auth.is_test else named


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def once(user_id: int, key: str, route: str, asked: Any, make: Callable[[], Made]) -> Made:
    """What `make` makes, in one transaction; or what the same call made before. Raises Problem."""
    if not key:
        with transaction.atomic():
            return make()
    call = IdempotentCall(user_id=user_id, key=digest(route, key), asked=digest(asked))
    try:
        with transaction.atomic():
            return _once(call, make)
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", "") != "55P03":  # lock_not_available
            raise
        words = "The same call is being worked on at this moment."
        raise Problem("idempotency_in_flight", words, retry_after_s=1) from error


def _once(call: IdempotentCall, make: Callable[[], Made]) -> Made:
    if not _is_first(call):
        return _known(call)
    made = make()
    answer = {"status": 200, "answer": made.answer, "job_ids": list(made.job_ids)}
    rows.change(IdempotentCall, {"id": call.pk}, answer)
    return made


def _is_first(call: IdempotentCall) -> bool:
    """Writes the call's row, which then has its id; False where there is one."""
    text, values = rows.inserting([call])
    head, _, returning = text.partition(" RETURNING ")
    since = call._meta.get_field("created").get_db_prep_save(call.created - IdempotentCall.KEPT, connection)
    writing = (f"{head} {_OR_TAKE_OVER} RETURNING {returning}", [*values, since])
    waiting = [(f"SET LOCAL lock_timeout = '{WAIT}'", ())] if connection.vendor == "postgresql" else []
    written = rows.together([*waiting, writing])[-1]
    if written.rows:
        rows.take_ids([call], written)
    return bool(written.rows)


def _known(call: IdempotentCall) -> Made:
    known = IdempotentCall.objects.get(user_id=call.user_id, key=call.key)
    if known.asked != call.asked:
        words = "This Idempotency-Key was used for a call with another body. Use a new key for a new call."
        raise Problem("idempotency_conflict", words, param="Idempotency-Key")
    return Made(known.answer or {}, tuple(known.job_ids), is_replay=True)
