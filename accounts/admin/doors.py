"""By what people come in: proven addresses, second factors, open sessions. Their secrets are nobody's to see."""

from typing import Any

from allauth.account import admin as address_admin
from allauth.account.models import EmailAddress
from allauth.mfa import admin as factor_admin
from allauth.mfa.base.internal.flows import delete_dangling_recovery_codes
from allauth.mfa.models import Authenticator
from allauth.usersessions import admin as session_admin
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin
from django.contrib.auth.models import Group
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse

from accounts import desk
from accounts.addresses import canonical
from accounts.models import User

__all__ = ["address_admin", "factor_admin", "session_admin"]

# allauth's own pages (registered by the imports above) would let staff verify an address without a trace, or read the
# secret of a second factor and the key of a session.
admin.site.unregister([EmailAddress, Authenticator, UserSession, Group])


def _of_person(rows: QuerySet[Any], words: str) -> QuerySet[Any]:
    return rows.filter(user__canonical_email=canonical(words)) if "@" in words else rows.none()


class OfPeople(desk.ReadOnly):
    list_select_related = ["user"]
    search_fields = ["user"]
    search_help_text = "A person's address."
    ordering = ["-id"]

    def found(self, rows: QuerySet[Any], words: str) -> QuerySet[Any]:
        return _of_person(rows, words)

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("accounts.change_user")


@admin.register(EmailAddress)
class EmailAddressDesk(OfPeople):
    list_display = ["email", "user", "primary", "verified"]


@admin.register(UserSession)
class UserSessionDesk(OfPeople):
    list_display = ["user", "created_at", "last_seen_at", "ip", "user_agent"]
    fields = ["user", "created_at", "last_seen_at", "ip", "user_agent"]


@admin.register(Authenticator)
class AuthenticatorDesk(OfPeople):
    """Of somebody who has lost theirs, and has shown who they are, it can be removed: with a reason, into the trail."""

    list_display = ["user", "type", "created_at", "last_used_at"]
    fields = ["user", "type", "created_at", "last_used_at"]
    actions = ["remove"]

    def has_operate_permission(self, request: HttpRequest) -> bool:
        """Who opens other people's doors could come in as them: for superusers."""
        return request.user.is_active and request.user.is_superuser

    @admin.action(description="Remove the chosen second factors", permissions=["operate"])
    def remove(self, request: HttpRequest, queryset: QuerySet[Authenticator]) -> HttpResponse:
        ids = queryset.values_list("pk", flat=True)[: desk.MOST_AT_ONCE]
        return HttpResponseRedirect(f"{reverse('admin:mfa_remove')}?ids={','.join(map(str, ids))}")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.remove_view)
        return [path("remove/", view, name="mfa_remove"), *super().get_urls()]

    def remove_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_operate_permission(request):
            raise PermissionDenied

        def remove(factor: Authenticator, asked: dict[str, Any]) -> bool:
            if not Authenticator.objects.filter(pk=factor.pk).delete()[0]:
                return False
            delete_dangling_recovery_codes(factor.user)
            self.log_change(request, factor.user, f"Second factor ({factor.type}) removed: {asked['reason']}")
            return True

        rows = Authenticator.objects.filter(pk__in=desk.chosen_ids(request)).select_related("user")
        title = "Remove second factor"
        return desk.ask(
            self, request, rows, desk.ReasonForm, remove, title=title, done="Second factors removed"
        )


@admin.register(Group)
class GroupDesk(desk.Desk, GroupAdmin):
    """What its members may do: for superusers to say, as for single people."""

    search_fields = ["name"]

    def found(self, rows: QuerySet[Group], words: str) -> QuerySet[Group]:
        return rows.filter(name__icontains=words)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return _is_superuser(request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return _is_superuser(request)


def _is_superuser(request: HttpRequest) -> bool:
    return isinstance(request.user, User) and request.user.is_active and request.user.is_superuser
