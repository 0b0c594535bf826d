"""The API as a whole: its routers, how bodies are read, and what becomes of an error."""

import logging
from typing import Any

from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError
from ninja.parser import Parser

from playground.api import account, document, envelopes, files, images, kontext, models, tasks, written
from playground.api.auth import Bearer
from playground.api.errors import Problem
from playground.api.problems import of_body

logger = logging.getLogger(__name__)


class Body(Parser):
    """JSON whatever the Content-Type says."""

    def parse_body(self, request: HttpRequest) -> dict[str, Any]:
        if request.headers.get("Content-Encoding", "identity").lower() not in ("", "identity"):
            raise Problem("unsupported_media_type", "Send the body as it is, without a Content-Encoding.")
        try:
            body = written.read(request.body)
        except ValueError as why:
            raise Problem("invalid_json", f"The body is not JSON: {why}.") from None
        if not isinstance(body, dict):
            raise Problem("invalid_json", "The body must be a JSON object.")
        request.asked = body  # type: ignore[attr-defined]
        return body


class Site(NinjaAPI):
    def get_openapi_schema(self, *args: Any, **options: Any) -> Any:
        return document.complete(super().get_openapi_schema(*args, **options))


api = Site(
    title="Flux Playground",
    version="1",
    description="One API for every Flux variant: start a picture, ask for it or be told of it, pay when it is there.",
    auth=Bearer(),
    parser=Body(),
    docs_url=None,
    openapi_url="/api/openapi.json",
    urls_namespace="api",
)
api.add_router("/api/v1", tasks.router)
api.add_router("/v1", images.new_router("openai"))
api.add_router("/api/v1", images.new_router("api"))
api.add_router("/api/v1", kontext.router)
api.add_router("/api/v1", account.router)
api.add_router("/api/v1", models.new_router())
api.add_router("/v1", models.new_router("openai_"))
api.add_router("/api", files.new_router())
api.add_router("/api/v1", files.new_router("v1_"))


# --- What goes wrong ----------------------------------------------------------------------------------
@api.exception_handler(Problem)
def problem(request: HttpRequest, problem: Problem) -> HttpResponse:
    return envelopes.failure(request, problem)


@api.exception_handler(ValidationError)
def invalid(request: HttpRequest, error: ValidationError) -> HttpResponse:
    """The first thing that is wrong, by name."""
    return envelopes.failure(request, of_body(error.errors[0]))


@api.exception_handler(HttpError)
def refused(request: HttpRequest, error: HttpError) -> HttpResponse:
    """Ninja's own, and what the parser above raised, which it wraps."""
    if isinstance(error.__cause__, Problem):
        return envelopes.failure(request, error.__cause__)
    if isinstance(error.__cause__, RequestDataTooBig):
        return too_big(request, error.__cause__)
    return envelopes.failure(request, Problem("bad_request", str(error)))


@api.exception_handler(Http404)
def missing(request: HttpRequest, error: Http404) -> HttpResponse:
    return envelopes.failure(request, Problem("not_found", "There is no such thing of yours."))


@api.exception_handler(RequestDataTooBig)
def too_big(request: HttpRequest, error: RequestDataTooBig) -> HttpResponse:
    return envelopes.failure(request, Problem("too_large", "The body is larger than this call takes."))


@api.exception_handler(SuspiciousOperation)
@api.exception_handler(MultiPartParserError)
@api.exception_handler(UnreadablePostError)
def broken(request: HttpRequest, error: Exception) -> HttpResponse:
    return envelopes.failure(request, Problem("bad_request", "The request could not be read."))


@api.exception_handler(OperationalError)
def busy(request: HttpRequest, error: OperationalError) -> HttpResponse:
    """The database is away or locked: nothing was done, and the same call may succeed in a moment."""
    logger.warning("%s %s: the database did not answer: %s", request.method, request.path, error)
    words = "The service is busy. Nothing was made; try again in a moment."
    return envelopes.failure(request, Problem("unavailable", words, retry_after_s=2))


@api.exception_handler(Exception)
def mistake(request: HttpRequest, error: Exception) -> HttpResponse:
    logger.exception("%s %s failed", request.method, request.path)
    words = "We made a mistake. Tell us the X-Request-Id, and try again later."
    return envelopes.failure(request, Problem("internal_error", words))
