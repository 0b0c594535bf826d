"""Shared links, and taking them down."""

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts import desk
from accounts.models import User
from playground import reports
from playground.admin.work import of_person
from playground.models import ShareLink


class TakedownForm(desk.ReasonForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].help_text = "The owner reads this beside their picture."


@admin.register(ShareLink)
class ShareLinkDesk(desk.ReadOnly):
    list_display = ["created", "page", "user", "shows_prompt", "revoked", "taken_down", "takedown_reason"]
    list_display_links = ["created"]
    list_select_related = ["user"]
    search_fields = ["token"]
    search_help_text = "A link's address or token, or a person's address."
    ordering = ["-id"]
    actions = ["take_down", "put_back"]

    def found(self, rows: QuerySet[ShareLink], words: str) -> QuerySet[ShareLink]:
        if "@" in words:
            return of_person(rows, words)
        return rows.filter(token=words.partition("/s/")[2].split("/")[0] or words)

    @admin.display(description="page")
    def page(self, link: ShareLink) -> SafeString:
        what = "run" if link.run_id else "picture"
        return format_html('<a href="{}">{} {}</a>', link.get_absolute_url(), what, link.token[:8])

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("playground.change_sharelink")

    @admin.action(description="Take the chosen links down", permissions=["operate"])
    def take_down(self, request: HttpRequest, queryset: QuerySet[ShareLink]) -> HttpResponse:
        ids = queryset.values_list("pk", flat=True)[: desk.MOST_AT_ONCE]
        at = reverse("admin:playground_sharelink_take_down")
        return HttpResponseRedirect(f"{at}?ids={','.join(map(str, ids))}")

    @admin.action(description="Put the chosen links back", permissions=["operate"])
    def put_back(self, request: HttpRequest, queryset: QuerySet[ShareLink]) -> None:
        for link in queryset.filter(taken_down__isnull=False)[: desk.MOST_AT_ONCE]:
            reports.put_back(link, by=_staff(request))
        self.message_user(request, "The chosen links are back, as far as their owners want them.")

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.take_down_view)
        return [path("take-down/", view, name="playground_sharelink_take_down"), *super().get_urls()]

    def take_down_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_operate_permission(request):
            raise PermissionDenied

        def take_down(link: ShareLink, asked: dict[str, Any]) -> bool:
            return reports.take_down(link, by=_staff(request), reason=asked["reason"])

        rows = ShareLink.objects.filter(pk__in=desk.chosen_ids(request))
        return desk.ask(
            self, request, rows, TakedownForm, take_down, title="Take down", done="Links taken down"
        )


def _staff(request: HttpRequest) -> User:
    assert isinstance(request.user, User)
    return request.user
