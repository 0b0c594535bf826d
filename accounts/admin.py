"""The operator's desk: people, and the money behind them. Balances are moved by the ledger, never typed in."""

from decimal import Decimal
from typing import Any
from urllib.parse import quote

from allauth.account.decorators import secure_admin_login
from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

from accounts import caps, credits, desk, ledger
from accounts.addresses import canonical
from accounts.models import Cap, CapWindow, Hold, Transfer, User, Wallet

admin.site.site_header = admin.site.site_title = "Flux Playground"
admin.site.index_title = "The operator's desk"
# By the site's own log-in page, which counts failed attempts.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]


class UserForm(UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"


class GrantForm(desk.ReasonForm):
    usd = forms.DecimalField(
        label="Amount in USD", min_value=Decimal("0.000001"), max_value=10_000, decimal_places=6
    )
    field_order = ["usd", "reason", "once"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].help_text = "The person reads this on their statement."

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or self.cleaned_data
        if "usd" in asked:
            asked["micros"] = int(asked["usd"] * credits.MICROS_PER_USD)
        return asked


class CapsForm(desk.ReasonForm):
    """An empty field leaves that cap as it is."""

    day = forms.CharField(label="Stop at, USD a day", required=False)
    month = forms.CharField(label="Stop at, USD a month", required=False)
    job = forms.CharField(label="Stop at, USD a picture", required=False)
    field_order = ["day", "month", "job", "reason", "once"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["job"].help_text = "Empty: as it is. none: no cap."

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or self.cleaned_data
        asked["stops"] = stops = {}
        for window in Cap.Window.values:
            typed = asked.get(window, "").strip()
            try:
                if typed:
                    stops[window] = None if typed == "none" else credits.micros_of(typed)
            except ValueError as error:
                self.add_error(window, f"This must be {error}; or none.")
        if not stops and not self.errors:
            raise forms.ValidationError("Nothing would change: fill in at least one cap.")
        return asked


@admin.register(User)
class UserDesk(desk.Desk, DjangoUserAdmin):
    """Accounts are made by signing up or by `manage.py account`, and are switched off instead of deleted."""

    form = UserForm
    list_display = ["email", "balance", "held", "is_active", "is_staff", "date_joined"]
    list_select_related = ["wallet"]
    list_filter = ["is_active", "is_staff", "awaits_welcome"]
    search_fields = ["email"]
    search_help_text = "An address, or the beginning of one."
    ordering = ["-id"]
    actions = ["grant_credit"]
    filter_horizontal = []
    fieldsets = [
        (None, {"fields": ["email", "canonical_email", "password", "is_active"]}),
        ("Money", {"fields": ["balance", "held", "caps", "awaits_welcome", "money_links"]}),
        ("Staff", {"fields": ["is_staff", "is_superuser", "groups", "user_permissions"]}),
        ("Dates", {"fields": ["date_joined", "last_login"]}),
    ]
    readonly_fields = [
        "email",
        "canonical_email",
        "balance",
        "held",
        "caps",
        "awaits_welcome",
        "money_links",
        "date_joined",
        "last_login",
    ]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Who may do what is for superusers to say."""
        powers = (
            [] if request.user.is_superuser else ["is_staff", "is_superuser", "groups", "user_permissions"]
        )
        return [*self.readonly_fields, *powers]

    def found(self, rows: QuerySet[User], words: str) -> QuerySet[User]:
        spelt = Q(email__istartswith=words)
        return rows.filter(spelt | Q(canonical_email=canonical(words)) if "@" in words else spelt)

    @admin.display(description="balance", ordering="wallet__posted")
    def balance(self, user: User) -> str:
        return desk.both(_wallet(user).posted)

    @admin.display(description="held", ordering="wallet__held")
    def held(self, user: User) -> str:
        return desk.both(_wallet(user).held)

    @admin.display(description="caps")
    def caps(self, user: User) -> SafeString:
        """Each that is set: where it stops and warns, and what is used of it."""
        shown = [_in_words(standing) for standing in caps.standings(user) if standing.is_set] or ["none"]
        lines = format_html_join(mark_safe("<br>"), "{}", ((line,) for line in shown))
        at = reverse("admin:accounts_user_caps")
        return format_html('{}<br><a href="{}?ids={}">Set caps</a>', lines, at, user.pk)

    @admin.display(description="more")
    def money_links(self, user: User) -> SafeString:
        return format_html(
            '<a href="{}?ids={}">Grant credit</a> &nbsp; <a href="{}?q={}">Transfers</a> &nbsp; <a href="{}?q={}">Holds</a>',
            reverse("admin:accounts_user_grant"),
            user.pk,
            desk.changelist_url(Transfer),
            quote(user.email),
            desk.changelist_url(Hold),
            quote(user.email),
        )

    # --- Granting credit ---
    def has_grant_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("accounts.add_transfer")

    @admin.action(description="Grant credit to the chosen users", permissions=["grant"])
    def grant_credit(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        ids = list(queryset.values_list("pk", flat=True)[: desk.MOST_AT_ONCE + 1])
        if len(ids) > desk.MOST_AT_ONCE:
            self.message_user(
                request, f"Choose at most {desk.MOST_AT_ONCE} users at once.", level=messages.ERROR
            )
            return None
        at = reverse("admin:accounts_user_grant")
        return HttpResponseRedirect(f"{at}?ids={','.join(map(str, ids))}")

    def get_urls(self) -> list[URLPattern]:
        grant = self.admin_site.admin_view(self.grant_view)
        set_caps = self.admin_site.admin_view(self.caps_view)
        return [
            path("grant/", grant, name="accounts_user_grant"),
            path("caps/", set_caps, name="accounts_user_caps"),
            *super().get_urls(),
        ]

    def grant_view(self, request: HttpRequest) -> HttpResponse:
        """Asks how much and why. Each form carries an id, so that sending it twice grants once."""
        if not self.has_grant_permission(request):
            raise PermissionDenied

        def grant(user: User, asked: dict[str, Any]) -> bool:
            business_id = f"admin:{asked['once']}:{user.pk}"
            given = ledger.grant(
                user, asked["micros"], business_id=business_id, memo=asked["reason"], actor=_staff(request)
            )
            if given:
                amount = credits.both(asked["micros"])
                self.log_change(request, user, f"Granted {amount}: {asked['reason']}")
            return given

        rows = User.objects.filter(pk__in=desk.chosen_ids(request)).order_by("pk")
        return desk.ask(self, request, rows, GrantForm, grant, title="Grant credit", done="Credit granted")

    # --- Setting caps ---
    def caps_view(self, request: HttpRequest) -> HttpResponse:
        """Asks which and why. A cap stops the next picture at once, and the ones on their way never."""
        if not request.user.has_perm("accounts.change_cap"):
            raise PermissionDenied

        def put(user: User, asked: dict[str, Any]) -> bool:
            caps.put_stops(user, asked["stops"])
            stops = (
                f"{caps.name_of(window)} {'removed' if stop is None else credits.usd(stop)}"
                for window, stop in asked["stops"].items()
            )
            self.log_change(request, user, f"Caps set, {', '.join(stops)}: {asked['reason']}")
            return True

        rows = User.objects.filter(pk__in=desk.chosen_ids(request)).order_by("pk")
        return desk.ask(self, request, rows, CapsForm, put, title="Set caps", done="Caps set")


def _in_words(standing: caps.Standing) -> str:
    says = [f"stops at {credits.usd(standing.stop)}"] if standing.stop is not None else []
    says += [f"warns at {credits.usd(standing.warn)}"] if standing.warn is not None else []
    if standing.window != Cap.Window.JOB:
        says.append(f"{credits.usd(standing.spent)} spent, {credits.usd(standing.held)} held")
    return f"{caps.name_of(standing.window)}: {', '.join(says)}"


def _staff(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def _wallet(user: User) -> Wallet:
    """Theirs, or an empty one: an account has none before money touches it."""
    return getattr(user, "wallet", None) or Wallet(user=user)


# --- The books ----------------------------------------------------------------------------------------
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


@admin.register(Transfer)
class TransferDesk(desk.ReadOnly):
    list_display = ["created", "kind", "amount_both", "debit", "credit", "memo", "actor", "business_id"]
    list_select_related = ["debit", "credit", "actor"]
    search_fields = ["business_id"]
    search_help_text = "A business id, or a person's address."
    ordering = ["-id"]

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
    list_display = ["created", "state", "amount_both", "captured_both", "wallet", "memo", "business_id"]
    list_select_related = ["wallet"]
    list_filter = ["state"]
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


@admin.register(LogEntry)
class LogEntryDesk(desk.ReadOnly):
    """Who of the staff did what."""

    list_display = ["action_time", "user", "content_type", "object_repr", "change_message"]
    list_select_related = ["user", "content_type"]
    ordering = ["-id"]
