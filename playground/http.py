"""The typed request, and what every page knows."""

from typing import Any

from django.http import HttpRequest
from django_htmx.middleware import HtmxDetails

from accounts.models import User


class Request(HttpRequest):
    """A request after the middleware: htmx details, and a user who is logged in where the view says so."""

    htmx: HtmxDetails
    user: User


def site(request: HttpRequest) -> dict[str, Any]:
    """Template context of every page."""
    return {}
