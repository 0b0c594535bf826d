"""The trail of what staff did, to read and to search. Nobody edits it, and nobody empties it."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from accounts import desk, trail
from accounts.addresses import canonical
from accounts.models import User

MOST_SHOWN = 160


class Days(admin.ListFilter):
    """From one day to another, both included, in UTC: by the index on the time, however long the trail is."""

    title = "day (UTC)"
    template = "admin/days.html"
    names = ("since", "until")

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        for name in self.names:
            if name in params:
                value = params.pop(name)
                self.used_parameters[name] = value[-1] if isinstance(value, list) else value

    def expected_parameters(self) -> list[str | None]:
        return list(self.names)

    def has_output(self) -> bool:
        return True

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        since, until = (_day(str(self.used_parameters.get(name, ""))) for name in self.names)
        if since:
            queryset = queryset.filter(action_time__gte=_midnight(since))
        if until and until < date.max:
            queryset = queryset.filter(action_time__lt=_midnight(until + timedelta(days=1)))
        return queryset

    def choices(self, changelist: Any) -> Iterator[dict[str, Any]]:
        """What the template of the filter prints: shortcuts, the form's own values, and what else is asked for."""
        today = timezone.now().date()
        for words, days in (("today", 0), ("7 days", 6), ("30 days", 29)):
            since = f"{today - timedelta(days=days):%Y-%m-%d}"
            query = changelist.get_query_string({"since": since}, ["until"])
            is_chosen = self.used_parameters == {"since": since}
            yield {"display": words, "query_string": query, "selected": is_chosen}
        yield {
            "kept": [(name, value) for name, value in changelist.params.items() if name not in self.names],
            "words": changelist.query,
            "since": self.used_parameters.get("since", ""),
            "until": self.used_parameters.get("until", ""),
            "any": changelist.get_query_string({}, list(self.names)),
        }


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


@admin.register(LogEntry)
class LogEntryDesk(desk.ReadOnly):
    """Who of the staff did what, to what, and why."""

    list_display = ["action_time", "who", "object", "told"]
    list_display_links = ["action_time"]
    list_select_related = ["user", "content_type"]
    list_filter = [Days, "action_flag"]
    search_fields = ["object_id"]
    search_help_text = (
        "Somebody's address (what they did, and what was done to them), or an object's id or exact name."
    )
    ordering = ["-action_time", "-id"]
    fields = ["action_time", "user", "object", "kind", "action_flag", "what"]

    def found(self, rows: QuerySet[LogEntry], words: str) -> QuerySet[LogEntry]:
        if "@" in words:
            user = User.objects.filter(canonical_email=canonical(words)).first()
            return (
                rows.filter(pk__in=trail.newest_by_or_about(user, desk.ShallowPaginator.MOST))
                if user
                else rows.none()
            )
        return rows.filter(pk__in=trail.newest_named(words, desk.ShallowPaginator.MOST))

    @admin.display(description="who", ordering="user")
    def who(self, entry: LogEntry) -> str:
        return str(entry.user)

    @admin.display(description="kind")
    def kind(self, entry: LogEntry) -> str:
        return entry.content_type.name if entry.content_type else "-"

    @admin.display(description="to what")
    def object(self, entry: LogEntry) -> SafeString | str:
        at = entry.get_admin_url()
        kind = self.kind(entry)
        if not at:
            return f"{kind} {entry.object_repr}"
        return format_html('{} <a href="{}">{}</a>', kind, at, entry.object_repr)

    @admin.display(description="what, and why")
    def told(self, entry: LogEntry) -> str:
        """Its beginning: an import may say a page full. The whole of it is on the entry's own page."""
        return Truncator(entry.get_change_message()).chars(MOST_SHOWN)

    @admin.display(description="what, and why")
    def what(self, entry: LogEntry) -> str:
        return entry.get_change_message()
