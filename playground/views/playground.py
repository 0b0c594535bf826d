"""The playground page: the form, its live quote, and the run it makes."""

from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from playground.http import Request


@require_safe
def playground(request: Request) -> HttpResponse:
    """The form, filled in from the query string."""
    return render(request, "playground.html")
