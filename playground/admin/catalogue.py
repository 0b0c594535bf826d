"""Variants, their dated prices and their routes."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from accounts import credits, desk, trail
from playground import catalogue_values, upstreams
from playground.admin import catalogue_import
from playground.admin.dollars import Dollars, dollars, micros
from playground.admin.values import Json, check_position, check_words, is_names
from playground.models import Price, Route, Variant, VariantQuerySet

SLACK = timedelta(minutes=5)  # between opening the form and sending it
SAY_WHY = "Say why, in the field “Reason” at the top: this is about money, and the trail keeps it."
FIRST = "Nothing was saved: the same was saved a moment ago. Look at what is here now."


class Reasoned(forms.BaseInlineFormSet):
    """Rows about money: none comes, changes or goes without a reason on the form above them."""

    def clean(self) -> None:
        super().clean()
        if any(form.has_changed() for form in self.forms) and not trail.words(self.data.get("reason", "")):
            raise ValidationError(SAY_WHY)


class PriceForm(forms.ModelForm):
    """A new price, in dollars, from now on or from a day to come: what has been charged for is not rewritten."""

    usd = Dollars(label="USD a picture", min_value=Decimal("0.000001"), max_value=1000)

    class Meta:
        model = Price
        fields = ["starts"]

    def clean_starts(self) -> Any:
        starts = self.cleaned_data["starts"]
        now = timezone.now()
        if starts < now - SLACK:
            raise ValidationError("A price cannot begin in the past.")
        return max(starts, now)

    def save(self, commit: bool = True) -> Price:
        self.instance.micros = micros(self.cleaned_data["usd"])
        return super().save(commit)


class PriceInline(admin.TabularInline):
    model = Price
    form = PriceForm
    formset = Reasoned
    fields = ["starts", "usd", "standing"]
    readonly_fields = ["standing"]
    extra = 0
    verbose_name_plural = "prices (newest first; an old one stays in force until the next one starts)"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="USD a picture")
    def usd(self, price: Price) -> str:
        return f"{credits.usd(price.micros)} ({credits.credits(price.micros)} credits)"

    @admin.display(description="standing")
    def standing(self, price: Price) -> SafeString | str:
        """One that has not begun can be cancelled; one that has is history."""
        if not price.pk or price.starts <= timezone.now():
            return "has begun" if price.pk else "-"
        at = reverse("admin:playground_variant_cancel_price")
        return format_html('ahead &nbsp; <a href="{}?ids={}">Cancel it</a>', at, price.pk)


class RouteForm(forms.ModelForm):
    """One way to have it made. Jobs that are ordered already keep the route and the cost that they have."""

    usd = Dollars(
        label="USD a picture",
        max_value=1000,
        help_text="What it costs us there. Limits and reports count with it.",
    )

    class Meta:
        model = Route
        fields = ["provider", "upstream_model", "fixed", "ignores", "position"]
        widgets = {name: forms.Textarea(attrs={"rows": 2}) for name in ("fixed", "ignores")}
        field_classes = {"fixed": Json, "ignores": Json}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields[
            "provider"
        ].help_text = "The upstream's name: aigenerate, kie, bfl, openai, or one of yours."
        self.fields["position"].help_text = "The smallest is tried first."
        if self.instance.pk:
            self.initial["usd"] = dollars(self.instance.cost_micros)

    def clean_provider(self) -> str:
        name = self.cleaned_data["provider"]
        if name == upstreams.SANDBOX:
            raise ValidationError("The sandbox needs no route: it draws while no upstream is set up.")
        if not re.fullmatch(r"[-\w]+", name, re.ASCII):
            raise ValidationError("An upstream's name has letters, digits, hyphens and underscores.")
        return name

    def clean_fixed(self) -> dict[str, Any]:
        fixed = self.cleaned_data["fixed"] or {}
        if not isinstance(fixed, dict):
            raise ValidationError('Must be parameters and their values, such as {"resolution": "1K"}.')
        return fixed

    def clean_ignores(self) -> list[str]:
        ignores = self.cleaned_data["ignores"] or []
        if not is_names(ignores):
            raise ValidationError('Must be a list of parameters, such as ["seed"].')
        return ignores

    def clean_position(self) -> int | None:
        return check_position(self.cleaned_data["position"])

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or self.cleaned_data
        check_words(self, ["upstream_model"])
        return asked

    def save(self, commit: bool = True) -> Route:
        self.instance.cost_micros = micros(self.cleaned_data["usd"])
        return super().save(commit)


class RouteInline(admin.StackedInline):
    model = Route
    form = RouteForm
    formset = Reasoned
    fields = ["provider", "upstream_model", "usd", "fixed", "ignores", "position"]
    extra = 0
    verbose_name_plural = (
        "routes (the first whose upstream is set up is taken; the others when that one cannot)"
    )


FIELDS = [
    "slug", "name", "label", "maker", "family", "kind", "resolution", "blurb", "parameters", "aliases", "position",
    "is_live",
]  # fmt: skip
WORDS = ["name", "label", "maker", "family", "resolution", "blurb"]


class VariantForm(forms.ModelForm):
    reason = desk.Reason(
        required=False,
        widget=forms.TextInput(attrs={"size": 80}),
        help_text="For the trail of what staff did. A price or a route is not changed without one.",
    )

    class Meta:
        model = Variant
        fields = FIELDS
        field_classes = {"parameters": Json, "aliases": Json}

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or self.cleaned_data
        check_words(self, WORDS)
        return asked

    def clean_position(self) -> int | None:
        return check_position(self.cleaned_data["position"])

    def clean_aliases(self) -> list[str]:
        names = self.cleaned_data["aliases"] or []
        if not is_names(names):
            raise ValidationError('Must be a list of names, such as ["flux-2/pro-text-to-image"].')
        return names

    def clean_parameters(self) -> dict[str, Any]:
        found = self.cleaned_data["parameters"] or {}
        if not isinstance(found, dict):
            raise ValidationError('Must be a table such as {"seed": true}.')
        try:
            return catalogue_values.parameters(found)
        except ValueError as error:
            raise ValidationError(f"{str(error).removeprefix('parameters: ')}.") from error


@admin.register(Variant)
class VariantDesk(desk.Desk):
    """Switched off instead of deleted: receipts point here."""

    form = VariantForm
    fields = ["reason", *FIELDS]
    change_list_template = "admin/playground/variant/change_list.html"

    list_display = ["label", "price", "kind", "resolution", "maker", "is_live", "name"]
    list_editable = ["is_live"]
    list_filter = ["is_live", "kind"]
    search_fields = ["name"]
    search_help_text = "Words of its name, slug, maker or family."
    inlines = [PriceInline, RouteInline]
    actions = ["switch_on", "switch_off"]

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        try:
            return super().changeform_view(request, *args, **kwargs)
        except IntegrityError:  # by a form that was sent twice, or a colleague's at the same moment
            self.message_user(request, FIRST, messages.WARNING)
            return HttpResponseRedirect(request.get_full_path())

    def get_queryset(self, request: HttpRequest) -> VariantQuerySet:
        return Variant.objects.priced()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["slug"] if obj else []

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def found(self, rows: QuerySet[Variant], words: str) -> QuerySet[Variant]:
        assert isinstance(rows, VariantQuerySet)
        return rows.search(words)

    @admin.display(description="price now", ordering="price_micros")
    def price(self, variant: Variant) -> str:
        return desk.both(variant.price_micros)

    @admin.action(description="Switch the chosen variants on", permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[Variant]) -> None:
        self._switch(request, queryset, is_live=True)

    @admin.action(description="Switch the chosen variants off", permissions=["change"])
    def switch_off(self, request: HttpRequest, queryset: QuerySet[Variant]) -> None:
        self._switch(request, queryset, is_live=False)

    def _switch(self, request: HttpRequest, chosen: QuerySet[Variant], *, is_live: bool) -> None:
        word = "on" if is_live else "off"
        for variant in chosen.exclude(is_live=is_live):
            with transaction.atomic():
                if Variant.objects.filter(pk=variant.pk, is_live=not is_live).update(is_live=is_live):
                    self.log_change(request, variant, f"Switched {word}.")
        self.message_user(request, f"The chosen variants are {word}.")

    # --- Files, and prices that are not to be ---
    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        pages = catalogue_import.Pages(self)
        return [
            path("export/", wrap(pages.send), name="playground_variant_export"),
            path("import/", wrap(pages.take), name="playground_variant_import"),
            path("cancel-price/", wrap(self.cancel_price), name="playground_variant_cancel_price"),
            *super().get_urls(),
        ]

    def cancel_price(self, request: HttpRequest) -> HttpResponse:
        """Takes back a price that has not begun. One that has stays: people were charged by it."""
        if not self.has_change_permission(request):
            raise PermissionDenied
        ahead = Price.objects.filter(pk__in=desk.chosen_ids(request), starts__gt=timezone.now())
        if not ahead:
            self.message_user(request, "That price has begun, or was cancelled before.", messages.ERROR)
            return HttpResponseRedirect(desk.changelist_url(Variant))

        def cancel(price: Price, asked: dict[str, Any]) -> bool:
            if not Price.objects.filter(pk=price.pk, starts__gt=timezone.now()).delete()[0]:
                return False
            self.log_change(request, price.variant, f"Price cancelled, {price}: {asked['reason']}")
            return True

        rows = ahead.select_related("variant")
        title = "Cancel price ahead"
        return desk.ask(self, request, rows, desk.ReasonForm, cancel, title=title, done="Prices cancelled")
