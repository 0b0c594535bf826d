"""Variants, their dated prices and their routes."""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from accounts import credits, desk
from playground import upstreams
from playground.admin.dollars import Dollars, dollars, micros
from playground.models import Price, Route, Variant, VariantQuerySet

SLACK = timedelta(minutes=5)  # between opening the form and sending it


class PriceForm(forms.ModelForm):
    """A new price, in dollars, from now on or from a day to come: what has been charged for is not rewritten."""

    usd = Dollars(label="USD a picture", min_value=Decimal("0.000001"), max_value=1000)

    class Meta:
        model = Price
        fields = ["starts"]

    def clean_starts(self) -> Any:
        starts = self.cleaned_data["starts"]
        if starts < timezone.now() - SLACK:
            raise ValidationError("A price cannot begin in the past.")
        return starts

    def save(self, commit: bool = True) -> Price:
        self.instance.micros = micros(self.cleaned_data["usd"])
        return super().save(commit)


class PriceInline(admin.TabularInline):
    model = Price
    form = PriceForm
    fields = ["starts", "usd"]
    extra = 0
    verbose_name_plural = "prices (newest first; an old one stays in force until the next one starts)"

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description="USD a picture")
    def usd(self, price: Price) -> str:
        return f"{credits.usd(price.micros)} ({credits.credits(price.micros)} credits)"


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
        if not isinstance(ignores, list) or not all(isinstance(name, str) and name for name in ignores):
            raise ValidationError('Must be a list of parameters, such as ["seed"].')
        return ignores

    def save(self, commit: bool = True) -> Route:
        self.instance.cost_micros = micros(self.cleaned_data["usd"])
        return super().save(commit)


class RouteInline(admin.StackedInline):
    model = Route
    form = RouteForm
    fields = ["provider", "upstream_model", "usd", "fixed", "ignores", "position"]
    extra = 0
    verbose_name_plural = (
        "routes (the first whose upstream is set up is taken; the others when that one cannot)"
    )


@admin.register(Variant)
class VariantDesk(desk.Desk):
    """Switched off instead of deleted: receipts point here."""

    list_display = ["label", "price", "kind", "resolution", "maker", "is_live", "name"]
    list_editable = ["is_live"]
    list_filter = ["is_live", "kind"]
    search_fields = ["name"]
    search_help_text = "Words of its name, slug, maker or family."
    inlines = [PriceInline, RouteInline]
    actions = ["switch_on", "switch_off"]

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
            if Variant.objects.filter(pk=variant.pk, is_live=not is_live).update(is_live=is_live):
                self.log_change(request, variant, f"Switched {word}.")
        self.message_user(request, f"The chosen variants are {word}.")
