"""What the desk asks before it does something to people: how much, which, and why."""

from decimal import Decimal
from typing import Any

from django import forms

from accounts import credits, desk
from accounts.models import Cap


class GrantForm(desk.ReasonForm):
    usd = forms.DecimalField(
        label="Amount in USD", min_value=Decimal("0.000001"), max_value=10_000, decimal_places=6
    )
    field_order = ["usd", "reason", "once"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].help_text = "The person reads this on their statement."

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or self.cleaned_data
        if "usd" in asked:
            asked["micros"] = int(asked["usd"] * credits.MICROS_PER_USD)
        return asked


class CapsForm(desk.ReasonForm):
    """An empty field leaves that cap as it is."""

    day = forms.CharField(label="Stop at, USD a day", required=False)
    month = forms.CharField(label="Stop at, USD a month", required=False)
    job = forms.CharField(label="Stop at, USD a picture", required=False)
    field_order = ["day", "month", "job", "reason", "once"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["job"].help_text = "Empty: as it is. none: no cap."

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or self.cleaned_data
        asked["stops"] = stops = {}
        for window in Cap.OF_ACCOUNT:
            typed = asked.get(window, "").strip()
            try:
                if typed:
                    stops[window] = None if typed == "none" else credits.micros_of(typed)
            except ValueError as error:
                self.add_error(window, f"This must be {error}; or none.")
        if not stops and not self.errors:
            raise forms.ValidationError("Nothing would change: fill in at least one cap.")
        return asked


class RefundForm(desk.ReasonForm):
    """An empty amount is all that is left of the charge."""

    usd = forms.DecimalField(
        label="Amount in USD",
        min_value=Decimal("0.000001"),
        max_value=10_000,
        decimal_places=6,
        required=False,
        help_text="Empty: all that has not been given back yet.",
    )
    field_order = ["usd", "reason", "once"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].help_text = "The person reads this on their statement."

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or self.cleaned_data
        if asked.get("usd") is not None:
            asked["micros"] = int(asked["usd"] * credits.MICROS_PER_USD)
        return asked


class SuspendForm(desk.ReasonForm):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["reason"].help_text = "For staff: the person does not read this."


class NoteForm(desk.ReasonForm):
    reason = desk.Reason(
        label="Note", max_length=1000, widget=forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField"})
    )
