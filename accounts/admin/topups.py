"""What people bought, and what Stripe said of it: to look at, and to handle again what had a problem."""

import logging
import uuid
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html_join
from django.utils.safestring import SafeString, mark_safe

from accounts import credits, desk, stripe_events
from accounts.addresses import canonical
from accounts.models import StripeEvent, TopUp, Transfer, Wallet

logger = logging.getLogger(__name__)

_KINDS = [
    Transfer.Kind.PURCHASE,
    Transfer.Kind.PAYBACK,
    Transfer.Kind.PAYBACK_FAILED,
    Transfer.Kind.DISPUTE,
    Transfer.Kind.DISPUTE_WON,
    Transfer.Kind.LOSS,
]


class PaidByNobody(admin.SimpleListFilter):
    title = "paid too late"
    parameter_name = "late"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("1", "by an account that is closed or suspended")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(pk__in=TopUp.objects.paid_by_nobody()) if self.value() else rows


@admin.register(TopUp)
class TopUpDesk(desk.ReadOnly):
    list_display = ["created", "number", "user", "usd", "state", "gone_back", "paid", "payment_id"]
    list_select_related = ["user"]
    list_filter = ["state", PaidByNobody]
    search_fields = ["payment_id"]
    search_help_text = "A person's address, a payment (pi_…), a checkout session (cs_…) or an id."
    ordering = ["-created"]
    exclude = ["micros", "cents", "paid_back_cents", "failed_cents", "disputed_cents"]
    readonly_fields = ["number", "usd", "gone_back", "movements"]

    def found(self, rows: QuerySet[TopUp], words: str) -> QuerySet[TopUp]:
        if "@" in words:
            return rows.filter(user__canonical_email=canonical(words))
        if words.startswith(("pi_", "cs_")):
            return rows.filter(Q(payment_id=words) | Q(session_id=words))
        try:
            return rows.filter(pk=uuid.UUID(words))
        except ValueError:
            return rows.none()

    @admin.display(description="amount")
    def usd(self, top_up: TopUp) -> str:
        return desk.both(top_up.micros)

    @admin.display(description="gone back to the card")
    def gone_back(self, top_up: TopUp) -> str:
        said = [
            (top_up.paid_back_cents, "paid back"),
            (top_up.disputed_cents, "in dispute"),
            (top_up.failed_cents, "sent back in vain"),
        ]
        told = [f"{credits.usd(top_up.micros_of(cents))} {what}" for cents, what in said if cents]
        return ", ".join(told) or "-"

    @admin.display(description="movements")
    def movements(self, top_up: TopUp) -> SafeString:
        """Also what the house lost, because it was spent before it went back."""
        lines = (
            (f"{row.created:%Y-%m-%d %H:%M}", row.get_kind_display(), desk.both(row.amount))
            for row in _moves(top_up)
        )
        return format_html_join(mark_safe("<br>"), "{} {}: {}", lines) or mark_safe("-")


def _moves(top_up: TopUp) -> Iterable[Transfer]:
    wallets = Wallet.objects.filter(Q(user=top_up.user) | Q(name=Wallet.House.LOSSES))
    rows = Transfer.objects.filter(Q(debit__in=wallets) | Q(credit__in=wallets))
    return rows.filter(kind__in=_KINDS, memo=f"Receipt {top_up.number}").order_by("pk")


class NeedsALook(admin.SimpleListFilter):
    title = "needs a look"
    parameter_name = "look"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("open", "not handled"), ("odd", "something is odd"), ("waiting", "waits for its payment")]

    def queryset(self, request: HttpRequest, rows: QuerySet[Any]) -> QuerySet[Any]:
        match self.value():
            case "open":
                return rows.filter(handled=None).exclude(problem="")
            case "odd":
                return rows.exclude(problem="")
            case "waiting":
                return rows.filter(handled=None, problem="")
        return rows


@admin.register(StripeEvent)
class StripeEventDesk(desk.ReadOnly):
    list_display = ["received", "kind", "payment_id", "handled", "problem"]
    list_filter = [NeedsALook]
    search_fields = ["payment_id"]
    search_help_text = "An event (evt_…) or a payment (pi_…)."
    ordering = ["-received"]
    actions = ["handle_again"]

    def found(self, rows: QuerySet[StripeEvent], words: str) -> QuerySet[StripeEvent]:
        return rows.filter(Q(pk=words) | Q(payment_id=words))

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("accounts.change_stripeevent")

    @admin.action(description="Handle the chosen events again", permissions=["operate"])
    def handle_again(self, request: HttpRequest, queryset: QuerySet[StripeEvent]) -> HttpResponse:
        ids = queryset.values_list("pk", flat=True)[: desk.MOST_AT_ONCE]
        at = reverse("admin:accounts_stripeevent_handle")
        return HttpResponseRedirect(f"{at}?{urlencode({'ids': ','.join(ids)})}")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.handle_view)
        return [path("handle/", view, name="accounts_stripeevent_handle"), *super().get_urls()]

    def handle_view(self, request: HttpRequest) -> HttpResponse:
        """Asks why: it books money. Of what is handled already nothing is booked twice."""
        if not self.has_operate_permission(request):
            raise PermissionDenied

        def handle(event: StripeEvent, asked: dict[str, Any]) -> bool:
            return self._handle(request, event, asked["reason"])

        chosen = StripeEvent.objects.filter(pk__in=desk.chosen_names(request))
        rows = chosen.filter(handled=None).order_by("received")
        title = "Handle again"
        return desk.ask(self, request, rows, desk.ReasonForm, handle, title=title, done="Handled")

    def _handle(self, request: HttpRequest, event: StripeEvent, why: str) -> bool:
        try:
            stripe_events.handle(event.pk)
        except Exception:  # the row says what it was
            logger.exception("Stripe event %s could not be handled again", event.pk)
        event.refresh_from_db()
        said = "Handled again" if event.handled else "Handled again, in vain"
        self.log_change(request, event, f"{said}: {why}. {event.problem}".strip())
        return event.handled is not None
