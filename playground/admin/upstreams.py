"""Upstreams as the operator sets them up. Their keys go in and never come out again."""

import re
from typing import Any
from urllib.parse import urlsplit

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.decorators import method_decorator
from django.views.decorators.debug import sensitive_post_parameters

from accounts import credits, desk, trail
from accounts.admin.people import staff
from playground import seals, upstreams
from playground.admin import health
from playground.admin.dollars import Dollars, dollars, micros
from playground.admin.values import Json
from playground.models import Job, Upstream

SHOWN_OF_KEY = 4
LONG_KEY = 16  # of a shorter one, four characters would be too much to show
HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")


class UpstreamForm(forms.ModelForm):
    """`key` is for writing only: an empty field keeps the key that is stored."""

    key = forms.CharField(
        required=False,
        max_length=500,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "size": 60}),
    )
    remove_key = forms.BooleanField(label="Remove the stored key", required=False)
    usd_per_day = Dollars(
        label="Dollar limit",
        required=False,
        max_value=1_000_000,
        help_text="US dollars a UTC day, at upstream cost. Empty: no limit; 0: nothing is sent.",
    )
    reason = desk.Reason(
        required=False,
        widget=forms.TextInput(attrs={"size": 60}),
        help_text="For the trail of what staff did. The dollar limit is not changed without one.",
    )

    class Meta:
        model = Upstream
        fields = [
            "name", "kind", "base_url", "upload_url", "inputs_by", "is_on", "at_once", "at_once_by_model",
            "result_hosts",
        ]  # fmt: skip
        labels = {
            "base_url": "Base address",
            "upload_url": "Upload address",
            "inputs_by": "Input pictures are",
            "at_once": "Jobs at once",
            "at_once_by_model": "Jobs at once, by model",
        }
        widgets = {name: forms.Textarea(attrs={"rows": 3}) for name in ("at_once_by_model", "result_hosts")}
        field_classes = {
            "base_url": forms.CharField,
            "upload_url": forms.CharField,
            "at_once_by_model": Json,
            "result_hosts": Json,
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["key"].help_text = _about_key(self.instance)
        if self.instance.limit_micros_per_day is not None:
            self.initial["usd_per_day"] = dollars(self.instance.limit_micros_per_day)

    def _get_validation_exclusions(self) -> set[str]:
        """The model's own idea of an address leaves out http://gpu:8000, which is a good one in one's own network."""
        return super()._get_validation_exclusions() | {"base_url", "upload_url"}  # type: ignore[misc]

    def clean_name(self) -> str:
        name = self.cleaned_data["name"]
        if name == upstreams.SANDBOX:
            raise ValidationError("The sandbox is built in. Choose another name.")
        return name

    def clean_base_url(self) -> str:
        return _address(self.cleaned_data["base_url"])

    def clean_upload_url(self) -> str:
        return _address(self.cleaned_data["upload_url"])

    def clean_at_once(self) -> int | None:
        at_once = self.cleaned_data["at_once"]
        if at_once == 0:
            raise ValidationError("Must be at least 1. To send nothing, switch the upstream off.")
        return at_once

    def clean_at_once_by_model(self) -> dict[str, int]:
        bounds = self.cleaned_data["at_once_by_model"] or {}
        if not isinstance(bounds, dict) or not all(name and _is_count(most) for name, most in bounds.items()):
            raise ValidationError('Must be model names and whole numbers, such as {"flux-kontext-max": 6}.')
        return bounds

    def clean_result_hosts(self) -> list[str]:
        hosts = self.cleaned_data["result_hosts"] or []
        if not isinstance(hosts, list) or not all(_is_host(host) for host in hosts):
            raise ValidationError('Must be a list of host names without https://, such as ["example.org"].')
        return [host.lower() for host in hosts]

    def clean_key(self) -> str:
        key = self.cleaned_data["key"]
        if key and not (key.isascii() and key.isprintable() and " " not in key):
            raise ValidationError("It has characters that no key has: copy it again.")
        if key and not seals.is_possible():
            raise ValidationError(
                "A key cannot be stored safely yet: set UPSTREAM_KEYS_SECRET in the environment (at least 32"
                " characters, kept apart from the database), restart, and enter the key again."
            )
        return key

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or self.cleaned_data
        if asked.get("key") and asked.get("remove_key"):
            raise ValidationError({"remove_key": "Either enter a new key or remove the stored one."})
        if "usd_per_day" in self.changed_data and not asked.get("reason"):
            raise ValidationError({"reason": "Say why the dollar limit changes: it is about money."})
        return asked

    def save(self, commit: bool = True) -> Upstream:
        row, limit = self.instance, self.cleaned_data["usd_per_day"]
        row.limit_micros_per_day = None if limit is None else micros(limit)
        if key := self.cleaned_data["key"]:
            row.sealed_key, row.key_hint = seals.seal(key), _hint(key)
        elif self.cleaned_data["remove_key"]:
            row.sealed_key = row.key_hint = ""
        return super().save(commit)


def _about_key(row: Upstream) -> str:
    if not row.sealed_key:
        return "None is stored here. It is sealed when you save, and never shown again."
    ending = f", ends in \N{HORIZONTAL ELLIPSIS}{row.key_hint}" if row.key_hint else ""
    return f"One is stored{ending}. Leave this empty to keep it."


def _hint(key: str) -> str:
    return key[-SHOWN_OF_KEY:] if len(key) >= LONG_KEY else ""


def _address(url: str) -> str:
    """Without the slash at its end. The message never repeats it: somebody may have put a key into it."""
    try:
        parts = urlsplit(url)
        is_good = bool(parts.scheme in ("http", "https") and parts.hostname and parts.port != 0)
    except ValueError:
        is_good = False
    if url and (not is_good or re.search(r"\s", url) or len(url) > 200):
        raise ValidationError("Must begin with http:// or https://, such as https://api.example.org/v1.")
    if url and (parts.username or parts.password or parts.query or parts.fragment):
        raise ValidationError(
            "Must be an address alone, without a password, ? or #. The key has its own field."
        )
    return url.rstrip("/")


def _is_count(most: Any) -> bool:
    return isinstance(most, int) and not isinstance(most, bool) and 0 < most < 100_000


def _is_host(host: Any) -> bool:
    return isinstance(host, str) and bool(HOST.fullmatch(host.lower()))


@admin.register(Upstream)
class UpstreamDesk(desk.Desk):
    """One whose key is in the environment needs no row; where both say something, the row does."""

    form = UpstreamForm
    list_display = ["name", "kind", "address", "has_key", "limit", "is_on"]
    fieldsets = [
        (None, {"fields": ["reason", "name", "kind", "is_on"]}),
        ("Key", {"fields": ["key", "remove_key"]}),
        ("Where", {"fields": ["base_url", "upload_url", "inputs_by", "result_hosts"]}),
        ("How much", {"fields": ["usd_per_day", "at_once", "at_once_by_model"]}),
    ]
    change_list_template = "admin/playground/upstream/change_list.html"

    def get_readonly_fields(self, request: HttpRequest, obj: Upstream | None = None) -> list[str]:
        """Routes and jobs know it by its name."""
        return ["name"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Upstream | None = None) -> bool:
        """Not while jobs are there: nobody could look after them."""
        is_free = obj is None or not Job.objects.open().filter(provider=obj.name).exists()
        return is_free and super().has_delete_permission(request, obj)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Without the deletion of many at once, which asks nobody's permission for one."""
        return {
            name: action for name, action in super().get_actions(request).items() if name != "delete_selected"
        }

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Asks why: with the row goes its dollar limit, while a key in the environment goes on spending."""
        row = self.get_object(request, unquote(object_id))
        if not self.has_delete_permission(request, row):
            raise PermissionDenied

        def delete(row: Upstream, asked: dict[str, Any]) -> bool:
            limit = f", with a limit of {self.limit(row)} a day"
            trail.log(staff(request), row, f"Deleted{limit}: {asked['reason']}", trail.DELETION)
            return bool(Upstream.objects.filter(pk=row.pk).delete()[0])

        rows = Upstream.objects.filter(pk=row.pk) if row else Upstream.objects.none()
        title, done = "Delete upstream", "Upstreams deleted"
        return desk.ask(self, request, rows, desk.ReasonForm, delete, title=title, done=done)

    @method_decorator(sensitive_post_parameters("key"))
    def changeform_view(self, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().changeform_view(*args, **kwargs)

    def save_model(self, request: HttpRequest, obj: Upstream, form: Any, change: bool) -> None:
        super().save_model(request, obj, form, change)
        if obj.is_on and obj.name not in upstreams.configured():
            what = (
                "It cannot be asked yet: it needs a key (and, where its kind has no usual one, an address)."
            )
            self.message_user(request, what, messages.WARNING)

    @admin.display(description="address")
    def address(self, row: Upstream) -> str:
        return row.base_url or "the usual one"

    @admin.display(description="key")
    def has_key(self, row: Upstream) -> str:
        if not row.sealed_key:
            return "not stored here"
        return f"\N{HORIZONTAL ELLIPSIS}{row.key_hint}" if row.key_hint else "stored"

    @admin.display(description="dollar limit a day")
    def limit(self, row: Upstream) -> str:
        return "none" if row.limit_micros_per_day is None else credits.usd(row.limit_micros_per_day)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        pages = health.Pages(self)
        return [
            path("health/", wrap(pages.show), name="playground_upstream_health"),
            path("health/<slug:name>/ask/", wrap(pages.ask), name="playground_upstream_ask"),
            path("health/<slug:name>/lift/", wrap(pages.lift), name="playground_upstream_lift"),
            *super().get_urls(),
        ]
