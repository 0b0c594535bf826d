"""Variants, their dated prices and their routes."""

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
from playground.models import Price, Route, Variant, VariantQuerySet

SLACK = timedelta(minutes=5)  # between opening the form and sending it


class PriceForm(forms.ModelForm):
    """A new price, in dollars, from now on or from a day to come: what has been charged for is not rewritten."""

    usd = forms.DecimalField(
        label="USD a picture", min_value=Decimal("0.000001"), max_value=1000, decimal_places=6
    )

    class Meta:
        model = Price
        fields = ["starts"]

    def clean_starts(self) -> Any:
        starts = self.cleaned_data["starts"]
        if starts < timezone.now() - SLACK:
            raise ValidationError("A price cannot begin in the past.")
        return starts

    def save(self, commit: bool = True) -> Price:
        self.instance.micros = int(self.cleaned_data["usd"] * credits.MICROS_PER_USD)
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


class RouteInline(admin.StackedInline):
    model = Route
    extra = 0


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
