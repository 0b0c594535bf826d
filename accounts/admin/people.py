"""People, and what staff can do for them. Balances are moved by the ledger, never typed in.

The page of one person, with their jobs and links, is `playground.admin.person`.
"""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.forms import UserChangeForm
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from accounts import caps, credits, desk, keys, ledger, suspension
from accounts.addresses import canonical
from accounts.admin.forms import CapsForm, GrantForm, NoteForm, SuspendForm
from accounts.models import ApiKey, User, Wallet

SEES_MONEY = "accounts.view_transfer"
GIVES_MONEY = "accounts.add_transfer"


class UserForm(UserChangeForm):
    class Meta:
        model = User
        fields = "__all__"


class UserDesk(desk.Desk, DjangoUserAdmin):
    """Accounts are made by signing up or by `manage.py account`, and are suspended instead of deleted."""

    form = UserForm
    list_display = ["email", "balance", "held", "standing", "is_staff", "date_joined"]
    list_select_related = ["wallet"]
    list_filter = ["is_active", "is_staff", "awaits_welcome"]
    search_fields = ["email"]
    search_help_text = "An address, or the beginning of one."
    ordering = ["-id"]
    actions = ["grant_credit"]
    filter_horizontal = []
    fieldsets = [("Staff rights", {"fields": ["is_staff", "is_superuser", "groups", "user_permissions"]})]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        hidden = [] if request.user.has_perm(SEES_MONEY) else ["balance", "held"]
        return [column for column in self.list_display if column not in hidden]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        """Who may do what is for superusers to say."""
        powers = ["is_staff", "is_superuser", "groups", "user_permissions"]
        return [*self.readonly_fields, *([] if request.user.is_superuser else powers)]

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:
        """Who sets other people's passwords could come in as them: for superusers."""
        if not request.user.is_superuser:
            raise PermissionDenied
        return super().user_change_password(request, id, form_url)

    def found(self, rows: QuerySet[User], words: str) -> QuerySet[User]:
        spelt = Q(email__istartswith=words)
        return rows.filter(spelt | Q(canonical_email=canonical(words)) if "@" in words else spelt)

    @admin.display(description="balance", ordering="wallet__posted")
    def balance(self, user: User) -> str:
        return desk.both(wallet_of(user).posted)

    @admin.display(description="held", ordering="wallet__held")
    def held(self, user: User) -> str:
        return desk.both(wallet_of(user).held)

    @admin.display(description="standing", ordering="is_active")
    def standing(self, user: User) -> str:
        return "closed" if user.deleted else "active" if user.is_active else "suspended"

    # --- What can be done: each asks why ---
    def has_grant_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(GIVES_MONEY)

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
        views = {
            "grant": self.grant_view,
            "caps": self.caps_view,
            "suspend": self.suspend_view,
            "lift": self.lift_view,
            "sign-out": self.sign_out_view,
            "note": self.note_view,
            "revoke-key": self.revoke_key_view,
        }
        return [
            *(
                path(
                    f"{name}/",
                    self.admin_site.admin_view(view),
                    name=f"accounts_user_{name.replace('-', '_')}",
                )
                for name, view in views.items()
            ),
            *super().get_urls(),
        ]

    def _ask(
        self,
        request: HttpRequest,
        permission: str,
        form: type[forms.Form],
        deed: Callable[[User, dict[str, Any]], bool],
        *,
        title: str,
        done: str,
    ) -> HttpResponse:
        """For the people whose ids are in the address; for one of them, it leads back to their page."""
        if not request.user.has_perm(permission):
            raise PermissionDenied
        ids = desk.chosen_ids(request)
        rows = User.objects.filter(pk__in=ids).order_by("pk")
        back = page_of(ids[0]) if len(ids) == 1 else ""
        return desk.ask(self, request, rows, form, deed, title=title, done=done, back=back)

    def grant_view(self, request: HttpRequest) -> HttpResponse:
        """Asks how much and why. Each form carries an id, so that sending it twice grants once."""

        def grant(user: User, asked: dict[str, Any]) -> bool:
            if user.deleted:  # nobody could ever spend it
                return False
            business_id = f"admin:{asked['once']}:{user.pk}"
            given = ledger.grant(
                user, asked["micros"], business_id=business_id, memo=asked["reason"], actor=staff(request)
            )
            if given:
                amount = credits.both(asked["micros"])
                self.log_change(request, user, f"Granted {amount}: {asked['reason']}")
            return given

        return self._ask(request, GIVES_MONEY, GrantForm, grant, title="Grant credit", done="Credit granted")

    def caps_view(self, request: HttpRequest) -> HttpResponse:
        """Asks which and why. A cap stops the next picture at once, and the ones on their way never."""

        def put(user: User, asked: dict[str, Any]) -> bool:
            caps.put_stops(user, asked["stops"])
            stops = (
                f"{caps.name_of(window)} {'removed' if stop is None else credits.usd(stop)}"
                for window, stop in asked["stops"].items()
            )
            self.log_change(request, user, f"Caps set, {', '.join(stops)}: {asked['reason']}")
            return True

        return self._ask(request, "accounts.change_cap", CapsForm, put, title="Set caps", done="Caps set")

    def suspend_view(self, request: HttpRequest) -> HttpResponse:
        """Keeps somebody out from this moment on."""

        def suspend(user: User, asked: dict[str, Any]) -> bool:
            check_standing(request, user)
            if not suspension.suspend(user, asked["reason"]):
                return False
            ended = self.end_what_waits(request, user)
            what = f"Suspended, {ended} waiting job{'' if ended == 1 else 's'} cancelled"
            self.log_change(request, user, f"{what}: {asked['reason']}")
            return True

        return self._ask(
            request, "accounts.change_user", SuspendForm, suspend, title="Suspend", done="Suspended"
        )

    def end_what_waits(self, request: HttpRequest, user: User) -> int:
        """What they ordered and nobody has begun to make; whoever knows of jobs says how. Returns how many."""
        return 0

    def lift_view(self, request: HttpRequest) -> HttpResponse:
        def lift(user: User, asked: dict[str, Any]) -> bool:
            check_standing(request, user)
            lifted = suspension.lift(user)
            if lifted:
                self.log_change(request, user, f"Suspension lifted: {asked['reason']}")
            return lifted

        title, done = "Lift the suspension", "Suspension lifted"
        return self._ask(request, "accounts.change_user", SuspendForm, lift, title=title, done=done)

    def sign_out_view(self, request: HttpRequest) -> HttpResponse:
        def sign_out(user: User, asked: dict[str, Any]) -> bool:
            check_standing(request, user)
            suspension.sign_out(user)
            self.log_change(request, user, f"Signed out everywhere: {asked['reason']}")
            return True

        title, done = "Sign out everywhere", "Signed out everywhere"
        return self._ask(request, "accounts.change_user", SuspendForm, sign_out, title=title, done=done)

    def note_view(self, request: HttpRequest) -> HttpResponse:
        """For staff to read, in the trail."""

        def note(user: User, asked: dict[str, Any]) -> bool:
            self.log_change(request, user, f"Note: {asked['reason']}")
            return True

        return self._ask(request, "accounts.change_user", NoteForm, note, title="Add a note", done="Noted")

    def revoke_key_view(self, request: HttpRequest) -> HttpResponse:
        """Ends one API key at once. The ids in the address are the key's. In the trail it has its number alone: its
        name is its owner's word, which the trail would keep after they are gone."""
        if not request.user.has_perm("accounts.change_apikey"):
            raise PermissionDenied

        def revoke(key: ApiKey, asked: dict[str, Any]) -> bool:
            revoked = keys.revoke(key)
            if revoked:
                self.log_change(request, key.user, f"API key {key.pk} revoked: {asked['reason']}")
            return revoked

        rows = ApiKey.objects.filter(pk__in=desk.chosen_ids(request)[:1]).select_related("user")
        back = page_of(rows[0].user_id) if rows else ""
        title, done = "Revoke API key", "API keys revoked"
        return desk.ask(self, request, rows, SuspendForm, revoke, title=title, done=done, back=back)


def check_standing(request: HttpRequest, user: User) -> None:
    """Nobody keeps themselves out, and only a superuser does it to one."""
    if user == request.user or (user.is_superuser and not request.user.is_superuser):
        raise PermissionDenied


def page_of(user_id: int | None) -> str:
    return reverse("admin:accounts_user_change", args=[user_id])


def staff(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user


def wallet_of(user: User) -> Wallet:
    """Theirs, or an empty one: an account has none before money touches it."""
    return getattr(user, "wallet", None) or Wallet(user=user)
