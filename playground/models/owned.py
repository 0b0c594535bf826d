"""The one gate to people's own rows, and the tokens that open single ones to others."""

import secrets
from typing import Any, Self

from django.db import models


def new_token() -> str:
    """192 random bits for an address that must not be guessed."""
    return secrets.token_urlsafe(24)


class OwnedQuerySet(models.QuerySet[Any]):
    """The one gate to other people's rows: through here a stranger's row does not exist."""

    def visible_to(self, user: Any) -> Self:
        return self.filter(user=user) if user.is_authenticated else self.none()

    def newest_first(self, before: Any = None) -> Self:
        """A page of a keyset: ids sort by age, so the last id seen is the cursor."""
        rows = self.filter(pk__lt=before) if before else self
        return rows.order_by("-pk")
