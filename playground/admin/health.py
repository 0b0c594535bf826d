"""The page of the upstreams' health, and the two things that an operator may do there."""

import asyncio
from collections.abc import Callable

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from playground import health, net, upstreams
from playground.models import Upstream, UpstreamState
from playground.providers.base import Provider, ProviderError

ASK_S = 12.0


class Pages:
    """Belongs to the desk of upstreams: its permissions hold here."""

    def __init__(self, desk: admin.ModelAdmin) -> None:
        self.desk = desk

    def show(self, request: HttpRequest) -> HttpResponse:
        if not self.desk.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.desk.admin_site.each_context(request),
            "title": "Upstream health",
            "opts": Upstream._meta,
            "upstreams": health.report(),
            "may_act": self.desk.has_change_permission(request),
            "now": timezone.now(),
        }
        return render(request, "admin/playground/upstream/health.html", context)

    def ask(self, request: HttpRequest, name: str) -> HttpResponse:
        """Asks the upstream what is left on our account there: the cheapest question that needs a good key."""
        return self._act(request, lambda: self._ask(request, name))

    def _ask(self, request: HttpRequest, name: str) -> None:
        config = upstreams.configured().get(name)
        if config is None:
            self._tell(request, f"The upstream {name} is not set up, so it was not asked.", messages.ERROR)
            return
        try:
            balance = asyncio.run(_balance(config.provider()))
        except (ProviderError, TimeoutError, ValueError) as error:
            why = str(error) or f"no answer in {ASK_S:.0f} seconds"
            self._tell(request, f"The upstream {name} could not be asked: {why}", messages.ERROR)
            return
        if not balance:
            self._tell(
                request,
                f"The upstream {name} has no question that costs nothing, so none was sent.",
                messages.WARNING,
            )
            return
        upstreams.balance_is(name, balance)
        self._tell(request, f"The upstream {name} answers. What is left there: {balance}.", messages.SUCCESS)

    def lift(self, request: HttpRequest, name: str) -> HttpResponse:
        """Closes the circuit and ends the pause, for somebody who knows that the upstream is well again."""
        return self._act(request, lambda: self._lift(request, name))

    def _lift(self, request: HttpRequest, name: str) -> None:
        if not upstreams.lifted(name):
            raise Http404
        state = UpstreamState.objects.get(name=name)
        self.desk.log_change(request, state, "Circuit closed and pause lifted by hand.")
        self._tell(request, f"The upstream {name} takes jobs again.", messages.SUCCESS)

    def _act(self, request: HttpRequest, deed: Callable[[], None]) -> HttpResponse:
        def act(request: HttpRequest) -> HttpResponse:
            if not self.desk.has_change_permission(request):
                raise PermissionDenied
            deed()
            return HttpResponseRedirect(reverse("admin:playground_upstream_health"))

        return require_POST(act)(request)

    def _tell(self, request: HttpRequest, text: str, level: int) -> None:
        self.desk.message_user(request, text, level)


async def _balance(provider: Provider) -> str:
    async with asyncio.timeout(ASK_S), net.client(allowed_hosts=settings.NET_ALLOWED_HOSTS) as http:
        return await provider.balance(http)
