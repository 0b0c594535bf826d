"""The catalogue as a file: out with one click, in with a look at what would change before anything does."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone

from accounts import desk, trail
from accounts.models import User
from playground import catalogue_changes
from playground.catalogue_changes import Plan, Stale
from playground.catalogue_dump import dump
from playground.catalogue_file import MAX_BYTES, Entry, NotACatalogue, read
from playground.models import Variant


class FileForm(forms.Form):
    """The file itself at first; its text again, in a hidden field, when what it would change has been looked at."""

    file = forms.FileField(required=False, help_text="TOML, as the export writes it, at most one megabyte.")
    text = forms.CharField(required=False, strip=False, widget=forms.HiddenInput, max_length=MAX_BYTES)
    drops_unknown = forms.BooleanField(
        required=False,
        label="Switch off what the file does not name",
        help_text="Otherwise that stays as it is.",
    )

    def clean(self) -> dict[str, Any]:
        """`entries`: what the file holds. `text`: the file, to be sent once more."""
        asked = super().clean() or self.cleaned_data
        if self.errors:
            return asked
        sent = asked.get("file")
        if sent is None and not asked.get("text"):
            raise forms.ValidationError("Choose a file.")
        if sent is not None and sent.size > MAX_BYTES:
            raise forms.ValidationError(f"The file has {sent.size:,} bytes, and {MAX_BYTES:,} are the most.")
        data = sent.read() if sent is not None else asked["text"]
        try:
            asked["entries"] = read(data)
        except NotACatalogue as error:
            raise forms.ValidationError(error.problems) from error
        asked["text"] = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        return asked


class Pages:
    """Belongs to the desk of variants: its permissions hold here."""

    def __init__(self, desk: admin.ModelAdmin) -> None:
        self.desk = desk

    def send(self, request: HttpRequest) -> HttpResponse:
        if not self.desk.has_view_permission(request):
            raise PermissionDenied
        response = HttpResponse(dump(), content_type="application/toml; charset=utf-8")
        name = f"catalogue-{timezone.now():%Y-%m-%d-%H%M}.toml"
        response["Content-Disposition"] = f'attachment; filename="{name}"'
        response["Cache-Control"] = "no-store"
        return response

    def take(self, request: HttpRequest) -> HttpResponse:
        """Shows what a file would change, and at the second sending, with a reason, changes it."""
        if not (self.desk.has_change_permission(request) and self.desk.has_add_permission(request)):
            raise PermissionDenied
        form = FileForm(request.POST or None, request.FILES or None)
        if request.method != "POST" or not form.is_valid():
            return self._page(request, form=form, status=422 if form.is_bound else 200)
        asked = form.cleaned_data
        why = trail.words(request.POST.get("reason", ""))[: trail.MOST_REASON]
        if "apply" not in request.POST or not why:
            missing = (
                "Say why: prices are money, and the trail keeps the reason."
                if "apply" in request.POST
                else ""
            )
            plan = catalogue_changes.plan(asked["entries"], drops_unknown=asked["drops_unknown"])
            return self._page(
                request, asked=asked, plan=plan, missing=missing, status=422 if missing else 200
            )
        return self._apply(request, asked, asked["entries"], why)

    def _apply(
        self, request: HttpRequest, asked: dict[str, Any], entries: Sequence[Entry], why: str
    ) -> HttpResponse:
        assert isinstance(request.user, User)
        seen, drops = request.POST.get("seen", ""), asked["drops_unknown"]
        try:
            done = catalogue_changes.apply(entries, seen=seen, by=request.user, why=why, drops_unknown=drops)
        except Stale as stale:
            return self._page(request, asked=asked, plan=stale.plan, missing=str(stale), why=why, status=409)
        told = f"{len(done.added)} added, {len(done.changed)} changed, {len(done.off)} switched off."
        if not done.rows:
            told = "Nothing was left to change: the catalogue says what the file says."
        self.desk.message_user(request, told, messages.SUCCESS)
        return HttpResponseRedirect(desk.changelist_url(Variant))

    def _page(self, request: HttpRequest, *, status: int, **what: Any) -> HttpResponse:
        plan: Plan | None = what.get("plan")
        context = {
            **self.desk.admin_site.each_context(request),
            "title": "Import a catalogue",
            "opts": Variant._meta,
            "back": desk.changelist_url(Variant),
            "groups": _groups(plan) if plan else [],
            **what,
        }
        return render(request, "admin/playground/variant/import.html", context, status=status)


def _groups(plan: Plan) -> list[tuple[str, list[Any]]]:
    named = [("Added", plan.added), ("Changed", plan.changed), ("Switched off", plan.off)]
    return [(name, rows) for name, rows in named if rows]
