"""The forms of API keys: a new one, a change of one, and how long a rotated one goes on."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone

from accounts import credits, keys, names
from accounts.forms import UsdField, check_warning, seen
from accounts.keys import Amounts
from accounts.models import ApiKey, Cap

LONGEST_DAYS = 3660
_CAPS = {
    Cap.Window.MONTH: "A month",
    Cap.Window.DAY: "A day",
    Cap.Window.TOTAL: "In all",
    Cap.Window.JOB: "A picture",
}


@dataclass(frozen=True)
class Row:
    """One cap as the form asks for it. A picture has no warning: a program reads none before it orders."""

    title: str
    stop: forms.BoundField
    warn: forms.BoundField | None

    @property
    def is_empty(self) -> bool:
        fields = [self.stop, *([self.warn] if self.warn else [])]
        return not any(field.value() or field.errors for field in fields)


class KeyForm(forms.Form):
    """A key's name, caps and end. It ends with a UTC day, so that a date means the same to everybody.

    `seen` is what its caps were when the page was shown.
    """

    name = forms.CharField(max_length=60, validators=[names.check])
    month = UsdField(label="Stop at, USD")
    warn_month = UsdField(label="Warn at, USD")
    day = UsdField(label="Stop at, USD")
    warn_day = UsdField(label="Warn at, USD")
    total = UsdField(label="Stop at, USD")
    warn_total = UsdField(label="Warn at, USD")
    job = UsdField(label="Stop at, USD")
    lasts = forms.ChoiceField(
        label="Expires",
        choices=[("never", "Never"), ("30", "In 30 days"), ("90", "In 90 days"), ("date", "On a date")],
        widget=forms.RadioSelect,
        initial="never",
    )
    until = forms.DateField(
        label="Last day", required=False, widget=forms.DateInput(format="%Y-%m-%d", attrs={"type": "date"})
    )

    seen = forms.CharField(required=False, widget=forms.HiddenInput)

    def is_behind(self, stops: Amounts, warns: Amounts) -> bool:
        """Whether the caps are neither what was shown nor what is asked for."""
        now = _seen(stops, warns)
        return self.cleaned_data["seen"] not in ("", now) and _seen(self.stops, self.warns) != now

    def clean(self) -> dict[str, Any]:
        asked = super().clean() or self.cleaned_data
        for window in Cap.COUNTED:
            check_warning(self, f"warn_{window}", window)
        if asked.get("lasts") == "date" and "until" in asked:
            try:
                _check_day(asked["until"])
            except ValidationError as error:
                self.add_error("until", error)
        return asked

    @property
    def stops(self) -> dict[str, int | None]:
        return {window: self.cleaned_data[window] for window in Cap.OF_KEY}

    @property
    def warns(self) -> dict[str, int | None]:
        return {window: self.cleaned_data[f"warn_{window}"] for window in Cap.COUNTED}

    @property
    def expires(self) -> datetime | None:
        lasts = self.cleaned_data["lasts"]
        if lasts == "never":
            return None
        last = self.cleaned_data["until"] if lasts == "date" else _today() + timedelta(days=int(lasts))
        return datetime(last.year, last.month, last.day, tzinfo=UTC) + timedelta(days=1)

    @property
    def month_cap(self) -> Row:
        return self._row(Cap.Window.MONTH)

    @property
    def other_caps(self) -> list[Row]:
        return [self._row(window) for window in _CAPS if window != Cap.Window.MONTH]

    @property
    def has_other_caps(self) -> bool:
        return not all(row.is_empty for row in self.other_caps)

    def _row(self, window: Cap.Window) -> Row:
        return Row(_CAPS[window], self[window], self[f"warn_{window}"] if window in Cap.COUNTED else None)


class NewKeyForm(KeyForm):
    """`once` makes one key of however many clicks."""

    kind = forms.ChoiceField(
        choices=[("live", "Live"), ("test", "Test")], widget=forms.RadioSelect, initial="live"
    )
    once = forms.CharField(max_length=32, widget=forms.HiddenInput)

    @classmethod
    def blank(cls, once: str) -> "NewKeyForm":
        return cls(initial={"month": _typed(keys.SUGGESTED_MONTH_MICROS), "once": once})

    @property
    def is_test(self) -> bool:
        return self.cleaned_data["kind"] == "test"


def of_key(key: ApiKey, stops: Amounts, warns: Amounts) -> KeyForm:
    """The form as the key is now."""
    caps = {window: _typed(stop) for window, stop in stops.items() if stop is not None}
    caps |= {f"warn_{window}": _typed(warn) for window, warn in warns.items() if warn is not None}
    ends = {"lasts": "date", "until": last_day(key.expires)} if key.expires else {"lasts": "never"}
    return KeyForm(initial={"name": key.name, **caps, **ends, "seen": _seen(stops, warns)})


def _seen(stops: Amounts, warns: Amounts) -> str:
    return seen([*map(stops.get, Cap.OF_KEY), *map(warns.get, Cap.COUNTED)])


class RotateForm(forms.Form):
    overlap = forms.TypedChoiceField(
        choices=[(0, "At once"), (1, "In 1 hour"), (24, "In 24 hours"), (168, "In 7 days")],
        coerce=int,
        widget=forms.RadioSelect,
        initial=24,
        label="The old key stops",
    )


def last_day(expires: datetime) -> date:
    """The last UTC day on which it works."""
    return (expires.astimezone(UTC) - timedelta(microseconds=1)).date()


def _check_day(last: date | None) -> None:
    if last is None:
        raise ValidationError("Choose the last day on which it works.")
    if not _today() <= last <= _today() + timedelta(days=LONGEST_DAYS):
        raise ValidationError("Choose a day from today on, within ten years.")


def _today() -> date:
    return timezone.now().astimezone(UTC).date()


def _typed(micros: int) -> str:
    return credits.usd(micros).lstrip("$").replace(",", "")
