"""The form that buys credits."""

import uuid

from django import forms

from accounts import topups


class BuyForm(forms.Form):
    """`once` makes a form that is sent twice one purchase, as long as the amount is the same."""

    cents = forms.TypedChoiceField(
        coerce=int,
        error_messages={
            "required": "Choose an amount.",
            "invalid_choice": "Choose one of the amounts below.",
        },
    )
    once = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.fields["cents"].choices = [(cents, str(cents)) for cents in topups.offered()]  # type: ignore[attr-defined]
