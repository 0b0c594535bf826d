"""The OpenAPI document against the API, with hundreds of calls that a machine makes up from it.

More of them by hand: SCHEMA_EXAMPLES=500 uv run pytest tests/test_api_schema.py
"""

import base64
import os
import re
import uuid
import zlib
from collections.abc import Collection
from typing import Any

import pytest
import schemathesis
from django.core.wsgi import get_wsgi_application
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.specs.openapi import checks

from accounts.models import User
from playground import net, result_links, uploads
from playground.api import envelopes, waiting
from playground.api.errors import KINDS
from playground.api.site import api
from playground.models import Job, Picture
from tests.calling import Api
from tests.making import KONTEXT, PRO, draw, load_catalogue
from tests.pictures import photo

pytestmark = [pytest.mark.django_db, pytest.mark.once]

EACH = int(os.environ.get("SCHEMA_EXAMPLES", "12"))
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.ignored_auth,
    checks.unsupported_method,
]
MODELS = [PRO, KONTEXT, "flux-2/pro-text-to-image", "flux-2/pro-image-to-image", "flux-kontext-max"]

config = SchemathesisConfig(
    projects=ProjectsConfig(
        default=ProjectConfig(
            generation=GenerationConfig(deterministic=not os.environ.get("SCHEMA_EXAMPLES"))
        )
    )
)
schema = schemathesis.openapi.from_dict(api.get_openapi_schema(), config=config)
schema.app = get_wsgi_application()


def half(value: Any) -> int:
    """0 or an odd number, the same for the same value whenever it is asked."""
    number = zlib.crc32(repr(value).encode())
    return number if number % 2 else 0


@schema.hook
def map_body(context: Any, body: Any) -> Any:
    """Names that a machine makes up lead nowhere, so half of the bodies get some that there are."""
    number = half(body)
    if not number or not isinstance(body, dict):
        return body
    there = {
        "model": MODELS[number // 2 % len(MODELS)],
        "base64Data": base64.b64encode(photo()).decode(),
        "taskId": str(Job.objects.open().values_list("pk", flat=True).first()),
        "url": result_links.url(Picture.objects.earliest("pk"), "http://localhost"),
        "file": photo(),
        "image": photo(),
    }
    return {name: there.get(name, value) for name, value in body.items() if name != "callBackUrl"}


@schema.hook
def map_query(context: Any, query: Any) -> Any:
    if query and "taskId" in query and half(query):
        query["taskId"] = str(Job.objects.values_list("pk", flat=True).first())
    return query


@schema.hook
def map_path_parameters(context: Any, names: Any) -> Any:
    if names and half(names):
        names["model_id"] = MODELS[half(names) // 2 % len(MODELS)]
    return names


def finish(job_ids: Collection[uuid.UUID], seconds: float) -> bool:
    """What a drive does while the call waits."""
    for job in Job.objects.open().filter(pk__in=job_ids):
        Job.objects.update(lease_until=None, next_look=timezone.now())
        draw(job)
    return True


@pytest.fixture
def headers(alice: User, settings: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Of a test key that may call as often as it likes. No name leads out of this machine."""
    settings.API_RATE_LIMIT = settings.API_RATE_LIMIT_ACCOUNT = settings.API_RATE_LIMIT_ANONYMOUS = (10**9, 1)
    monkeypatch.setattr(uploads, "A_MINUTE", 10**9)
    monkeypatch.setattr(net, "resolve", lambda host, port: ["127.0.0.1"])
    monkeypatch.setattr(waiting, "until_ended", finish)
    # A request's end would close the connection that the test's transaction is on.
    monkeypatch.setattr(BaseDatabaseWrapper, "close_if_unusable_or_obsolete", lambda connection: None)
    load_catalogue()
    caller = Api(alice, is_test=True)
    drawn, _ = (caller.create().json()["data"]["taskId"] for _ in range(2))
    draw(Job.objects.get(pk=drawn))
    Job.objects.update(lease_until=None, next_look=timezone.now())
    return caller.headers({})


@schema.parametrize()
@settings(max_examples=EACH, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_every_reply_is_as_the_document_says(case: Any, headers: dict[str, str]) -> None:
    response = case.call(headers=headers, environ_base={"REMOTE_ADDR": "127.0.0.1"})
    case.validate_response(response, checks=CHECKS, headers=headers)
    assert response.headers["x-request-id"]
    if response.status_code >= 400:
        is_of_its_family(case.path, response.status_code, response.json())


def is_of_its_family(path: str, status: int, said: dict[str, Any]) -> None:
    names = {"error"} if envelopes.is_openai(path) else {"code", "msg", "message", "data", "error"}
    assert set(said) == names | ({"success"} if "/file-" in path else set())
    kind = KINDS[said["error"]["code"]]
    assert said["error"]["type"] == kind.type and said["error"]["message"]
    assert status in {kind.status, kind.openai_status} and said.get("code", status) == status


def test_the_document_has_every_route() -> None:
    routes = {re.sub("<(.*?:)?(.*?)>", r"{\2}", str(route.pattern)) for route in api.urls[0]}
    told = {path.lstrip("/") for path in api.get_openapi_schema()["paths"]}
    assert told == routes - {"api/openapi.json", "api-root", ""}
    assert {"v1/models", "api/v1/models", "api/file-url-upload", "api/v1/file-url-upload"} <= told
