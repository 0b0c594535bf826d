"""What people reported: the open ones as a queue, by link, each ended by one press; and the list of all."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404, render
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from accounts import desk, trail
from accounts.models import User
from playground import reports
from playground.models import Report, ShareLink

CASES_A_PAGE = 20


@admin.register(Report)
class ReportDesk(desk.ReadOnly):
    """`changelist` is the queue; all reports, ended ones too, are listed under `history/`."""

    list_display = ["created", "shared", "reason", "note", "outcome", "handled", "handled_by"]
    list_display_links = ["created"]
    list_select_related = ["link", "handled_by"]
    list_filter = ["outcome"]
    search_fields = ["link"]
    search_help_text = "A link's address or token."
    ordering = ["-id"]
    exclude = ["reporter"]

    def found(self, rows: QuerySet[Report], words: str) -> QuerySet[Report]:
        return rows.filter(link__token=words.partition("/s/")[2].split("/")[0] or words)

    @admin.display(description="page")
    def shared(self, report: Report) -> SafeString:
        at = reverse("admin:playground_sharelink_change", args=[report.link_id])
        return format_html('<a href="{}">{}</a>', at, report.link.token[:8])

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("playground.change_sharelink")

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        history = wrap(super().changelist_view)
        return [
            path("history/", history, name="playground_report_history"),
            path("<int:link_id>/take-down/", wrap(self.take_down), name="playground_report_take_down"),
            path("<int:link_id>/dismiss/", wrap(self.dismiss), name="playground_report_dismiss"),
            *super().get_urls(),
        ]

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The queue: the pages with the most reports first. Four queries and the pictures', however many wait."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        found = reports.cases(CASES_A_PAGE + 1)
        context = {
            **self.admin_site.each_context(request),
            "title": "Reports",
            "opts": Report._meta,
            "cases": found[:CASES_A_PAGE],
            "has_more": len(found) > CASES_A_PAGE,
            "may_act": self.has_operate_permission(request),
        }
        return render(request, "admin/playground/report/queue.html", context)

    def take_down(self, request: HttpRequest, link_id: int) -> HttpResponse:
        """Hides the page and ends all reports of it. The owner reads the reason beside their picture."""
        reason = trail.words(request.POST.get("reason", ""))[: trail.MOST_REASON]

        def deed(link: ShareLink, by: User) -> str:
            if not reason:
                raise ValueError("Say why: the owner reads it.")
            done = reports.take_down(link, by=by, reason=reason, is_case=True)
            return "The page is taken down." if done else ""

        return self._end(request, link_id, deed)

    def dismiss(self, request: HttpRequest, link_id: int) -> HttpResponse:
        """Leaves the page as it is and ends the reports that were shown."""
        seen = request.POST.get("up_to", "")
        up_to = int(seen) if seen.isdecimal() and len(seen) < 19 else 0

        def deed(link: ShareLink, by: User) -> str:
            return "The page stays." if reports.dismiss(link, by=by, up_to=up_to) else ""

        return self._end(request, link_id, deed)

    def _end(
        self, request: HttpRequest, link_id: int, deed: Callable[[ShareLink, User], str]
    ) -> HttpResponse:
        def act(request: HttpRequest) -> HttpResponse:
            if not self.has_operate_permission(request):
                raise PermissionDenied
            assert isinstance(request.user, User)
            try:
                said = deed(get_object_or_404(ShareLink, pk=link_id), request.user)
            except ValueError as error:
                self.message_user(request, str(error), messages.ERROR)
            else:
                late = "Somebody else has ended these reports already; nothing was done."
                self.message_user(request, said or late, messages.SUCCESS if said else messages.WARNING)
            return HttpResponseRedirect(desk.changelist_url(Report))

        return require_POST(act)(request)
