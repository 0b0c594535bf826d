"""Amounts in forms: entered in US dollars, kept in whole micro-dollars."""

from decimal import Decimal
from typing import Any

from django import forms

from accounts import credits


class Dollars(forms.DecimalField):
    """To the micro-dollar. Its cleaned value is a Decimal of dollars; `micros` and `dollars` change to and fro."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"min_value": 0, "decimal_places": 6, "step_size": None} | options)

    def widget_attrs(self, widget: forms.Widget) -> dict[str, Any]:
        return super().widget_attrs(widget) | {"step": "any"}


def micros(dollars: Decimal) -> int:
    return int(dollars * credits.MICROS_PER_USD)


def dollars(micros: int) -> Decimal:
    """`35_000` -> `0.035`, without an exponent."""
    return Decimal(credits.usd(micros).replace("$", "").replace(",", ""))
