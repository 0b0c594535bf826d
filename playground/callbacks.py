"""What a message says, and how it is signed.

The body is made when it is sent, by the function that also makes the API's answers, so both say the same at the same
moment and the addresses of results are fresh in each attempt.

Two signatures stand side by side, and a receiver checks whichever it knows:

    webhook-id, webhook-timestamp, webhook-signature    Standard Webhooks: over the whole body
    X-Webhook-Timestamp, X-Webhook-Signature            the older one: over the task's id and the time alone

While a secret is being rotated the first is made with both secrets. The older one has room for one, the new secret:
whoever has not put that in place refuses a message, and is sent it again.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from django.conf import settings
from standardwebhooks import Webhook

from playground import endpoints, environment, posting, records
from playground.models import Delivery, Job
from playground.outbox import TEST

AGENT = "Flux-Playground-Webhooks/1.0"
SUCCESS, POLICY, FAILED = 200, 400, 501

Body = dict[str, Any]


def check_url(text: str) -> str:
    """Why a call may not name this as its `callBackUrl`, in a sentence; "" where it may. Asks no name server."""
    return posting.check_url(text, settings.NET_ALLOWED_HOSTS)


# --- The body -----------------------------------------------------------------------------------------
def is_to_fail(delivery: Delivery) -> bool:
    """Whether a test key's call wants its messages to fail at their first try."""
    job = delivery.job
    wanted = (job.asked or {}).get("_outcome") if job is not None and job.is_test else None
    return wanted == "webhook_failure" and not delivery.attempts


def message(delivery: Delivery) -> tuple[str, bytes]:
    """The id that the older signature covers, and the body."""
    body = _test(delivery) if delivery.job is None else told(delivery.job)
    return body["taskId"], json.dumps(body, separators=(",", ":")).encode()


def told(job: Job) -> Body:
    """What is told of the end of a job, in the shape of the route that it was ordered by."""
    route = (job.asked or {}).get("_route", "")
    return SHAPES.get(route, as_record)(job, records.record(job, _base()))


def _base() -> str:
    """What stands before our paths. No request says it here."""
    return settings.BASE_URL or environment.listening_at()


def as_record(job: Job, record: Body) -> Body:
    """The reply of `recordInfo`, with the task's id once more at the top, and in the spelling of older messages."""
    is_success = record["state"] == "success"
    kind = "task_completed" if is_success else "task_failed"
    data = {**record, "task_id": record["taskId"], "callbackType": kind}
    return _envelope(record, SUCCESS if is_success else FAILED, data)


def as_kontext(job: Job, record: Body) -> Body:
    """What clients of the Kontext route expect."""
    result = json.loads(record["resultJson"] or "{}").get("resultUrls", [])
    info = {
        "originImageUrl": records.origin_url(job, _base()),
        "resultImageUrl": result[0] if result else "",
    }
    code = FAILED if record["failCode"] else SUCCESS
    if record["failCode"] == str(POLICY):
        code = POLICY
    return _envelope(record, code, {"taskId": record["taskId"], "task_id": record["taskId"], "info": info})


# By what the API noted as `_route` in the body of the call.
SHAPES: dict[str, Callable[[Job, Body], Body]] = {"kontext": as_kontext}


def _envelope(record: Body, code: int, data: Body) -> Body:
    return {"code": code, "msg": record["failMsg"] or "success", "taskId": record["taskId"], "data": data}


def _test(delivery: Delivery) -> Body:
    """Like a success, of a task that never was."""
    at = int(delivery.created.timestamp() * 1000)
    record = {
        "taskId": f"test_{delivery.pk.hex}",
        "model": TEST,
        "state": "success",
        "param": "{}",
        "resultJson": json.dumps({"resultUrls": []}),
        "failCode": "",
        "failMsg": "",
        "costTime": 0,
        "completeTime": at,
        "createTime": at,
        "updateTime": at,
        "progress": 100,
        "creditsCharged": 0,
    }
    return _envelope(record, SUCCESS, {**record, "task_id": record["taskId"], "callbackType": TEST})


# --- The headers --------------------------------------------------------------------------------------
def headers(delivery: Delivery, task_id: str, body: bytes, at: datetime) -> Mapping[str, str]:
    assert delivery.endpoint is not None
    keys, timestamp = endpoints.signing_secrets(delivery.endpoint), str(int(at.timestamp()))
    made = [Webhook(key).sign(str(delivery.pk), at, body.decode()) for key in keys]
    return {
        "Content-Type": "application/json",
        "User-Agent": AGENT,
        "webhook-id": str(delivery.pk),
        "webhook-timestamp": timestamp,
        "webhook-signature": " ".join(made),
        "X-Webhook-Timestamp": timestamp,
        "X-Webhook-Signature": older_signature(keys[0], task_id, timestamp),
    }


def older_signature(secret: str, task_id: str, timestamp: str) -> str:
    """With the whole secret as it is shown, `whsec_` and all, as the key."""
    digest = hmac.new(secret.encode(), f"{task_id}.{timestamp}".encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()
