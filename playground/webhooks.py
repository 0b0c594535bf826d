"""Upstreams' webhooks in: one address per job, with a token that cannot be guessed.

The body is never believed. Whatever comes is only a reason to look now; the one thing read from it is the upstream's
id, for a job whose create was never answered, and that is confirmed with the upstream before it is used.
"""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from playground import jobs

MOST_BYTES = 64 * 1024


@csrf_exempt
@require_POST
def upstream_hook(request: HttpRequest, token: str) -> HttpResponse:
    if not jobs.hint(token, claimed_id(request.read(MOST_BYTES))):
        return JsonResponse({"code": 404, "msg": "No such job."}, status=404)
    return JsonResponse({"code": 200, "msg": "success"})


def claimed_id(body: bytes) -> str:
    """The upstream's id for the job, wherever the body may have it; empty where it says none."""
    try:
        message: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    for place in (message, message.get("data") if isinstance(message, dict) else None):
        if isinstance(place, dict):
            for name in ("taskId", "task_id", "id"):
                value = place.get(name)
                if isinstance(value, str) and _may_be_an_id(value):
                    return value
    return ""


def _may_be_an_id(value: str) -> bool:
    """Nothing that a column could not take, nor a request for it carry."""
    return 0 < len(value) <= 200 and value.isascii() and value.isprintable()
