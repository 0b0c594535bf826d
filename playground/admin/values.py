"""Fields of forms for what is kept as JSON or stands in a catalogue: they take what `catalogue_values` takes, and no more."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput

from playground import catalogue_values


class Json(forms.JSONField):
    """JSON that either database can keep. Python's own reader also takes NaN, and gives up on what is nested too deeply."""

    def to_python(self, value: Any) -> Any:
        try:
            return catalogue_values.plain(super().to_python(value), "this")
        except catalogue_values.Wrong as wrong:
            raise ValidationError(f"This cannot be kept: {wrong}.") from wrong
        except (RecursionError, ValueError) as error:
            raise ValidationError(self.error_messages["invalid"], code="invalid") from error

    def bound_data(self, data: Any, initial: Any) -> Any:
        """What was refused comes back as it was typed."""
        try:
            self.to_python(data)
        except ValidationError:
            return InvalidJSONInput(data)
        return super().bound_data(data, initial)


def check_words(form: forms.BaseForm, names: Iterable[str]) -> None:
    """Each is a line that can be shown, and comes back from the catalogue's file."""
    for name in names:
        try:
            catalogue_values.fit(str(form.cleaned_data.get(name, "")), "this")
        except catalogue_values.Wrong:
            form.add_error(name, "This has a character in it that cannot be shown: type it anew.")


def check_position(position: int | None) -> int | None:
    if position is not None and position > catalogue_values.MAX_POSITION:
        raise ValidationError(f"At most {catalogue_values.MAX_POSITION:,}.")
    return position


def is_names(found: Any) -> bool:
    try:
        catalogue_values.names(found, "this")
    except catalogue_values.Wrong:
        return False
    return True
