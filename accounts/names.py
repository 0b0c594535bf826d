"""What people call things: shown in lists, mails and receipts, so it must not disturb the words around it."""

import unicodedata

from django.core.exceptions import ValidationError

_LINES = {
    "Cc",
    "Cs",
    "Zl",
    "Zp",
}  # control characters, halves of characters, and breaks of lines and paragraphs
_TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}  # the direction of what follows


def check(name: str) -> None:
    """Letters of any script, marks and emoji are fine, also those joined by an invisible joiner."""
    for letter in name:
        if unicodedata.category(letter) in _LINES or unicodedata.bidirectional(letter) in _TURNS:
            raise ValidationError(
                f"This has an invisible character (U+{ord(letter):04X}) that would disturb the text around it."
                " Type it anew without that."
            )
