"""The books, to look at: wallets, transfers, holds, caps. Nothing is typed in here but what is given back of a charge."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import Max, Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from accounts import credits, desk, ledger, refunds
from accounts.addresses import canonical
from accounts.admin.forms import RefundForm
from accounts.admin.people import GIVES_MONEY, page_of, staff
from accounts.models import Cap, CapWindow, Hold, Transfer, Wallet


def refund_url(ids: list[int]) -> str:
    return f"{reverse('admin:accounts_hold_refund')}?ids={','.join(map(str, ids))}"


@admin.register(Wallet)
class WalletDesk(desk.ReadOnly):
    list_display = ["name", "user", "posted_both", "held_both"]
    list_select_related = ["user"]
    search_fields = ["user"]
    search_help_text = "A wallet's name, or a person's address."
    ordering = ["-id"]

    def found(self, rows: QuerySet[Wallet], words: str) -> QuerySet[Wallet]:
        return (
            rows.filter(user__canonical_email=canonical(words)) if "@" in words else rows.filter(name=words)
        )

    @admin.display(description="posted")
    def posted_both(self, wallet: Wallet) -> str:
        return desk.both(wallet.posted)

    @admin.display(description="held")
    def held_both(self, wallet: Wallet) -> str:
        return desk.both(wallet.held)


class Since(admin.SimpleListFilter):
    """From a UTC day on. Ids rise with time, so that the first of a day is found by halving, without an index of times."""

    title = "since (UTC)"
    parameter_name = "since"
    LATE = timedelta(minutes=10)  # a transaction may take its id before it commits

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        today = timezone.now().date()
        known = (("today", 0), ("7 days ago", 6), ("30 days ago", 29))
        return [(f"{today - timedelta(days=days):%Y-%m-%d}", words) for words, days in known]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Transfer]) -> QuerySet[Transfer]:
        try:
            day = date.fromisoformat(self.value() or "")
        except ValueError:
            return queryset
        at = datetime.combine(day, time(), UTC)
        return queryset.filter(pk__gte=self._first(at - self.LATE if day > date.min else at), created__gte=at)

    def _first(self, at: datetime) -> int:
        """An id at or before which nothing was written at `at` or later, near the first that was."""
        rows = Transfer.objects.order_by("pk").values_list("pk", "created")
        low, high = 0, (Transfer.objects.aggregate(of=Max("pk"))["of"] or 0) + 1
        while low < high:
            middle = (low + high) // 2
            found = rows.filter(pk__gte=middle).first()
            if found is None or found[1] >= at:
                high = middle
            else:
                low = found[0] + 1
        return low


@admin.register(Transfer)
class TransferDesk(desk.ReadOnly):
    list_display = ["created", "kind", "amount_both", "debit", "credit", "memo", "actor", "business_id"]
    list_select_related = ["debit", "credit", "actor"]
    search_fields = ["business_id"]
    search_help_text = "A business id, or a person's address."
    list_filter = [Since, "kind"]
    ordering = ["-id"]
    actions = ["refund"]

    def has_refund_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(GIVES_MONEY)

    @admin.action(description="Refund the chosen charges", permissions=["refund"])
    def refund(self, request: HttpRequest, queryset: QuerySet[Transfer]) -> HttpResponse:
        paid = queryset.filter(kind__in=[Transfer.Kind.CHARGE, Transfer.Kind.KEEP], hold__isnull=False)
        return HttpResponseRedirect(
            refund_url(list(paid.values_list("hold", flat=True)[: desk.MOST_AT_ONCE]))
        )

    def found(self, rows: QuerySet[Transfer], words: str) -> QuerySet[Transfer]:
        if "@" not in words:
            return rows.filter(business_id=words)
        wallets = list(Wallet.objects.filter(user__canonical_email=canonical(words)))
        return rows.filter(Q(debit__in=wallets) | Q(credit__in=wallets))

    @admin.display(description="amount")
    def amount_both(self, transfer: Transfer) -> str:
        return desk.both(transfer.amount)


@admin.register(Hold)
class HoldDesk(desk.ReadOnly):
    list_display = [
        "created",
        "state",
        "amount_both",
        "captured_both",
        "refunded_both",
        "wallet",
        "memo",
        "business_id",
    ]
    list_select_related = ["wallet"]
    list_filter = ["state"]
    actions = ["refund"]
    search_fields = ["business_id"]
    search_help_text = "A business id, or a person's address."
    ordering = ["-id"]

    def found(self, rows: QuerySet[Hold], words: str) -> QuerySet[Hold]:
        if "@" not in words:
            return rows.filter(business_id__in=[words, f"job:{words}", f"keep:{words}"])
        return rows.filter(wallet__in=list(Wallet.objects.filter(user__canonical_email=canonical(words))))

    @admin.display(description="amount")
    def amount_both(self, held: Hold) -> str:
        return desk.both(held.amount)

    @admin.display(description="captured")
    def captured_both(self, held: Hold) -> str:
        return desk.both(held.captured)

    @admin.display(description="refunded")
    def refunded_both(self, held: Hold) -> str:
        return desk.both(held.refunded or None)

    # --- Refunds ---
    def has_refund_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(GIVES_MONEY)

    @admin.action(description="Refund the chosen charges", permissions=["refund"])
    def refund(self, request: HttpRequest, queryset: QuerySet[Hold]) -> HttpResponse:
        return HttpResponseRedirect(
            refund_url(list(queryset.values_list("pk", flat=True)[: desk.MOST_AT_ONCE]))
        )

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.refund_view)
        return [path("refund/", view, name="accounts_hold_refund"), *super().get_urls()]

    def refund_view(self, request: HttpRequest) -> HttpResponse:
        """Asks how much and why. Of several charges, those of which nothing is left are passed over."""
        if not self.has_refund_permission(request):
            raise PermissionDenied
        rows = (
            Hold.objects.filter(pk__in=desk.chosen_ids(request)).select_related("wallet__user").order_by("pk")
        )
        chosen = list(rows)
        one = chosen[0] if len(chosen) == 1 else None

        def refund(held: Hold, asked: dict[str, Any]) -> bool:
            try:
                return self._refund(request, held, asked)
            except ledger.Refusal:
                if one:
                    raise
                return False

        return desk.ask(
            self,
            request,
            rows,
            RefundForm,
            refund,
            title="Refund",
            done="Refunded",
            back=page_of(one.wallet.user_id) if one and one.wallet.user_id else "",
            context={"about": _about(one), "whose": one.wallet.user} if one else None,
        )

    def _refund(self, request: HttpRequest, held: Hold, asked: dict[str, Any]) -> bool:
        micros = asked.get("micros") or refunds.left_of(held)
        if not micros:
            raise refunds.NothingToRefund("Nothing is left of this charge that could be given back.")
        name, why = f"refund:{held.pk}:{asked['once']}", asked["reason"]
        given = refunds.refund(held, micros, business_id=name, memo=why, actor=staff(request))
        if given:
            what = f"Refunded {credits.both(micros)} of {held.business_id}: {why}"
            self.log_change(request, held.wallet.user, what)
        return given


def _about(held: Hold) -> str:
    taken, given, left = (
        credits.both(micros) for micros in (held.captured, held.refunded, refunds.left_of(held))
    )
    return (
        f"{held.wallet.user or held.wallet}, {held.memo}: {taken} charged, {given} given back, {left} left."
    )


@admin.register(CapWindow)
class CapWindowDesk(desk.ReadOnly):
    """Amounts are micro-dollars where the subject ends in /usd, pictures where it ends in /previews."""

    list_display = ["subject", "window", "starts", "reserved", "spent"]
    search_fields = ["subject"]
    search_help_text = "A subject, such as house:preview/usd."
    ordering = ["-id"]

    def found(self, rows: QuerySet[CapWindow], words: str) -> QuerySet[CapWindow]:
        return rows.filter(subject=words)


@admin.register(Cap)
class CapDesk(desk.ReadOnly):
    """To look at. They are set on the page of the user, with a reason."""

    list_display = ["user", "window", "limit", "warn_at"]
    list_select_related = ["user"]
    search_fields = ["user"]
    search_help_text = "A person's address."
    ordering = ["-id"]

    def found(self, rows: QuerySet[Cap], words: str) -> QuerySet[Cap]:
        return rows.filter(user__canonical_email=canonical(words))
