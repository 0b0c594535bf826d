"""What is true of every reply of the API: a request id, and an envelope even where no route was reached."""

import logging
import re
import secrets
from collections.abc import Callable
from typing import Any

from django.core.handlers.base import BaseHandler
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotFound
from django.http.response import HttpResponseBase

from playground.api import envelopes
from playground.api.errors import Problem

logger = logging.getLogger(__name__)

PATHS = ("/api/", "/v1/")
_CODES = {
    400: ("bad_request", "The request itself is broken."),
    403: ("not_found", "There is nothing at this address for you."),
    404: ("not_found", "There is no such address in this API. /docs/ lists what there is."),
    405: ("method_not_allowed", "This address does not take that method."),
    413: ("too_large", "The body is too large."),
    414: ("bad_request", "The address is too long."),
}
_OTHERWISE = ("internal_error", "We made a mistake. Tell us the X-Request-Id, and try again later.")


def api(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    def answer(request: HttpRequest) -> HttpResponseBase:
        if "//" in request.path_info or request.path_info[-1:] == "/":
            _tidy(request)
        if not request.path_info.startswith(PATHS):
            return get_response(request)
        if request.method == "HEAD":
            request.method = "GET"  # the web server leaves the body out
        request_id = secrets.token_hex(16)
        response = _in_envelope(request, get_response(request))
        response["X-Request-Id"] = request_id
        response.setdefault("Cache-Control", "private, no-store")
        if response.status_code >= 500:
            _log(request, response, request_id)
        return response

    return answer


def _log(request: HttpRequest, response: Any, request_id: str) -> None:
    """Only 500 is a mistake of ours: the others tell of an upstream, of a picture that takes long, of too many calls."""
    level = logging.ERROR if response.status_code == 500 else logging.WARNING
    logger.log(
        level, "%s %s answered %s as %s", request.method, request.path, response.status_code, request_id
    )
    response._has_been_logged = True  # or Django says the same again, as an error


class _Views(BaseHandler):
    """The site's views, with no middleware before them."""

    _view_middleware: list[Any] = []
    _template_response_middleware: list[Any] = []
    _exception_middleware: list[Any] = []

    def answer(self, request: HttpRequest) -> HttpResponseBase:
        try:
            return self._get_response(request)  # type: ignore[attr-defined]
        except Http404:
            return HttpResponseNotFound()  # `api` says it in its own words; no page is drawn for that


def straight(
    get_response: Callable[[HttpRequest], HttpResponseBase],
) -> Callable[[HttpRequest], HttpResponseBase]:
    """Lets the API pass by the middleware of pages: sessions, log-in, forms, messages, the policy for scripts.

    It reads the Authorization header only and answers JSON, so it has no use for them.
    """
    views = _Views()

    def answer(request: HttpRequest) -> HttpResponseBase:
        is_api = request.path_info.startswith(PATHS)
        return views.answer(request) if is_api else get_response(request)

    return answer


def _tidy(request: HttpRequest) -> None:
    """One slash where clients that join addresses by hand write two, and none at the end; a redirect they would lose."""
    path = request.path_info
    tidy = re.sub("/{2,}", "/", path).rstrip("/")
    if tidy.startswith(PATHS):
        request.path, request.path_info = request.path.removesuffix(path) + tidy, tidy


def _in_envelope(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Django's own pages for what went wrong say nothing to a program."""
    if response.status_code < 400 or response.get("Content-Type", "").startswith("application/json"):
        return response
    code, words = _CODES.get(response.status_code, _OTHERWISE)
    failure: HttpResponse = envelopes.failure(request, Problem(code, words))
    for name, value in response.headers.items():  # those that protect, and Allow
        if name != "Content-Length":
            failure.setdefault(name, value)
    return failure
