"""The API's own pages: how to begin, what there is, and every error."""

import secrets
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils.html import format_html, format_html_join
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import keys
from playground import result_links
from playground.api import document, ordering
from playground.api.errors import KINDS
from playground.api.site import api
from playground.http import Request, absolute
from playground.models import IdempotentCall

PLACEHOLDER = "sk-aig-..."
SNIPPETS = {
    "create": "create.sh",
    "record": "record.sh",
    "httpx": "httpx.py",
    "openai": "openai.py",
    "fetch": "fetch.mjs",
    "edit": "edit.sh",
    "verify_python": "verify.py",
    "verify_node": "verify.mjs",
}
OUTCOMES = {
    "success": "The picture is drawn as always.",
    "slow": "It takes ten seconds or more.",
    "moderated": "The task fails: the safety filter refused it.",
    "upstream_error": "The task fails: the upstream could not make it.",
    "insufficient_credits": "The call is refused with 402.",
    "rate_limit": "The call is refused with 429.",
    "webhook_failure": "The picture is made, and the first message about it fails and is sent again.",
}


@require_safe
def docs(request: Request) -> HttpResponse:
    return _page(request, PLACEHOLDER)


@require_POST
@login_required
@never_cache
def docs_key(request: Request) -> HttpResponse:
    """The same page with a new test key filled in: made by a click, shown this once."""
    try:
        once = request.POST.get("once", "")[:32] or None
        _, text = keys.make(request.user, "Documentation", is_test=True, once=once)
    except (keys.TooMany, keys.AlreadyMade) as no:
        messages.error(request, str(no))
        return redirect("docs")
    return _page(request, text)


def _page(request: Request, key: str) -> HttpResponse:
    schema, filled = api.get_openapi_schema(), {"base": absolute(request, "/").rstrip("/"), "key": key}
    context: dict[str, Any] = {
        "is_filled": key != PLACEHOLDER,
        "once": secrets.token_hex(16),
        "snippets": {name: _snippet(file, filled) for name, file in SNIPPETS.items()},
        "routes": [replace(row, says=_with_code(row.says)) for row in document.routes(schema)],
        "task_parameters": _parameters(schema, "TaskInput"),
        "image_parameters": _parameters(schema, "ImageGeneration"),
        "outcomes": [(name, f"[{name.replace('_', ' ')}]", OUTCOMES[name]) for name in ordering.OUTCOMES],
        "idempotency_days": IdempotentCall.KEPT.days,
        "result_hours": int(result_links.GOOD_FOR.total_seconds() // 3600),
        "rate": settings.API_RATE_LIMIT,
        "rate_account": settings.API_RATE_LIMIT_ACCOUNT,
        **filled,
    }
    return render(request, "docs.html", context)


def _snippet(file: str, filled: dict[str, str]) -> str:
    return render_to_string(f"docs/{file}", filled).strip()


def _parameters(schema: dict[str, Any], body: str) -> dict[str, Any]:
    """What a body takes: the parameters that do something, and the names of those that do not."""
    found = document.parameters(schema, body)
    used = [replace(one, says=_with_code(one.says)) for one in found if one.is_used]
    return {"used": used, "unused": [one.name for one in found if not one.is_used]}


def _with_code(text: str) -> str:
    """What stands between backticks as code."""
    parts = enumerate(text.split("`"))
    return format_html_join(
        "", "{}", ((format_html("<code>{}</code>", part) if number % 2 else part,) for number, part in parts)
    )


@require_safe
def docs_errors(request: Request) -> HttpResponse:
    """The table that the replies are made from."""
    return render(request, "docs_errors.html", {"kinds": KINDS.values()})
