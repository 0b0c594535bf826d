"""What the pages of the operator's desk (Django's admin) have in common: fast with a million rows, and nothing by accident."""

import hashlib
import secrets
from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import ERROR_FLAG
from django.core.paginator import Paginator
from django.db import transaction
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import cached_property

from accounts import credits, ledger, trail
from accounts.models import Deed

MOST_AT_ONCE = 200
NUL = "\x00"  # PostgreSQL breaks on it
NOT_ALL = (
    " With the rest there was nothing to do, or this very form was sent before: a new one does it again."
)


class OrMore(int):
    """A count that stopped there, and says so wherever it is printed."""

    def __str__(self) -> str:
        return f"{int(self):,} or more"


class ShallowPaginator(Paginator):
    """Counts no further than anybody pages. What is deeper is found by searching."""

    MOST = 2000

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        found: int = rows[: self.MOST].count()
        return found if found < self.MOST else OrMore(found)


class Desk(admin.ModelAdmin):
    """A list that costs the same however many rows there are."""

    paginator = ShallowPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    list_per_page = 50
    list_max_show_all = 0

    def found(self, rows: QuerySet[Any], words: str) -> QuerySet[Any]:
        """The rows that somebody who types this means, by an index. The default finds nothing."""
        return rows.none()

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        words = search_term.strip().replace(NUL, "")
        return (self.found(queryset, words) if words else queryset), False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """What no database keeps is asked of none: as with any other mangled question, the list comes unfiltered."""
        if any(NUL in value for values in request.GET.lists() for value in (values[0], *values[1])):
            return HttpResponseRedirect(f"{request.path}?{ERROR_FLAG}=1")
        return super().changelist_view(request, extra_context)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        return None if NUL in object_id else super().get_object(request, object_id, from_field)

    def construct_change_message(  # type: ignore[override]
        self, request: HttpRequest, form: Any, formsets: Any, add: bool = False
    ) -> str:
        """What the trail keeps of a form: old and new values, not the names of fields alone."""
        return trail.told(form, formsets or [], added=add)


class ReadOnly(Desk):
    """To look at. Not even a superuser adds, changes or deletes here."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class Reason(forms.CharField):
    """Why. One of characters that nobody can see is none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"max_length": trail.MOST_REASON, **options})

    def clean(self, value: Any) -> str:
        return super().clean(value if trail.words(str(value or "")) else "")


class ReasonForm(forms.Form):
    """Asks why. `once` makes a form that is sent twice one deed."""

    reason = Reason(widget=forms.TextInput(attrs={"class": "vTextField"}))
    once = forms.CharField(max_length=64, widget=forms.HiddenInput, initial=lambda: secrets.token_hex(16))


def ask(
    desk: admin.ModelAdmin,
    request: HttpRequest,
    rows: QuerySet[Any],
    form_class: type[forms.Form],
    deed: Callable[[Any, dict[str, Any]], bool],
    *,
    title: str,
    done: str,
    back: str = "",
    context: dict[str, Any] | None = None,
) -> HttpResponse:
    """The page between choosing rows and doing something to them. `deed` returns whether it changed anything.

    Where money says no, the form says why.
    """
    chosen = list(rows[:MOST_AT_ONCE])
    form = form_class(request.POST or None)
    back = back or changelist_url(desk.model)
    if request.method == "POST" and form.is_valid() and chosen:
        try:
            changed = sum(_whole(deed, row, title, form.cleaned_data) for row in chosen)
        except ledger.Refusal as no:
            form.add_error(None, str(no))
        else:
            level, why = (messages.SUCCESS, "") if changed == len(chosen) else (messages.WARNING, NOT_ALL)
            desk.message_user(request, f"{done}: {changed} of {len(chosen)}.{why}", level=level)
            return HttpResponseRedirect(back)
    asked = {
        **desk.admin_site.each_context(request),
        "title": title,
        "form": form,
        "rows": chosen,
        "opts": desk.model._meta,
        "back": back,
        "list": changelist_url(desk.model),
        **(context or {}),
    }
    return render(request, "admin/ask.html", asked)


def _whole(deed: Callable[[Any, dict[str, Any]], bool], row: Any, title: str, asked: dict[str, Any]) -> bool:
    """The deed and its entry in the trail, or neither."""
    with transaction.atomic():
        return _is_first(row, title, asked.get("once", "")) and deed(row, asked)


def _is_first(row: Any, title: str, once: str) -> bool:
    name = f"{title}:{row._meta.label_lower}:{row.pk}:{once}"
    return Deed.objects.get_or_create(name=hashlib.sha256(name.encode()).hexdigest())[1]


def changelist_url(model: type[Model]) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def chosen_ids(request: HttpRequest) -> list[int]:
    """The `ids` of an address that an action made."""
    return [int(part) for part in chosen_names(request) if part.isdecimal() and len(part) < 19]


def chosen_names(request: HttpRequest) -> list[str]:
    """As `chosen_ids`, where ids are texts."""
    return request.GET.get("ids", "").replace(NUL, "").split(",")[:MOST_AT_ONCE]


def both(micros: int | None) -> str:
    """An amount in a column, on one line."""
    return "-" if micros is None else credits.both(micros).replace(" ", "\N{NO-BREAK SPACE}")
