"""Replies in the words of two families: createTask's `{code, msg, data}`, and OpenAI's `{error: {...}}`.

Which one is for the path to say. The HTTP status is always the true one.
"""

import math
from typing import Any

from django.http import HttpRequest, JsonResponse

from playground.api.errors import Problem

_OPENAI = ("/v1/", "/api/v1/images/", "/api/v1/models")
_FILES = ("/api/file-", "/api/v1/file-")


def is_openai(path: str) -> bool:
    """Whether callers of this path read OpenAI's envelope."""
    return path.startswith(_OPENAI)


def success(data: Any, *, headers: dict[str, str] | None = None) -> JsonResponse:
    """`{"code": 200, "msg": "success", "data": ...}`."""
    return JsonResponse({"code": 200, "msg": "success", "data": data}, headers=headers)


def failure(request: HttpRequest, problem: Problem) -> JsonResponse:
    body, status = _openai(problem) if is_openai(request.path) else _task(problem)
    if request.path.startswith(_FILES):
        body["success"] = False  # which clients of the upload routes read first
    answer = JsonResponse(body, status=status, headers=problem.headers)
    should_retry = problem.kind.is_retryable if problem.should_retry is None else problem.should_retry
    answer["x-should-retry"] = "true" if should_retry else "false"
    if problem.retry_after_s is not None:
        answer["Retry-After"] = str(max(math.ceil(problem.retry_after_s), 1))
    if problem.task_ids:
        answer["X-AI-Task-Id"] = ", ".join(problem.task_ids)
    return answer


def _task(problem: Problem) -> tuple[dict[str, Any], int]:
    """`message` beside `msg`, because older clients of this shape read that."""
    status = problem.kind.status
    said = {"code": status, "msg": problem.message, "message": problem.message, "data": None}
    return {**said, "error": _error(problem)}, status


def _openai(problem: Problem) -> tuple[dict[str, Any], int]:
    return {"error": _error(problem)}, problem.kind.openai_status or problem.kind.status


def _error(problem: Problem) -> dict[str, Any]:
    kind = problem.kind
    error: dict[str, Any] = {
        "message": problem.message,
        "type": kind.type,
        "param": problem.param,
        "code": kind.code,
    }
    return {**error, "details": problem.details} if problem.details else error
