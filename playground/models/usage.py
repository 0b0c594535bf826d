"""What was made and paid, counted as it happens, so that reports need not read a million jobs."""

from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from accounts.models import User
from playground.models.catalogue import Variant


class UsageDay(models.Model):
    """One account's pictures of one variant on one UTC day. Written by `playground.tally`; the audit compares it.

    `pictures` are those paid when they arrived, `previews` were free, `kept` are previews that were paid later.
    """

    user = models.ForeignKey(User, models.PROTECT, related_name="+", db_index=False)
    day = models.DateField()
    variant = models.ForeignKey(Variant, models.PROTECT, related_name="+", db_index=False)
    pictures = models.PositiveIntegerField(default=0)
    pictures_micros = models.BigIntegerField(default=0)
    previews = models.PositiveIntegerField(default=0)
    kept = models.PositiveIntegerField(default=0)
    kept_micros = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            UniqueConstraint(fields=["user", "day", "variant"], name="usageday_once"),
            CheckConstraint(
                condition=Q(pictures_micros__gte=0) & Q(kept_micros__gte=0), name="usageday_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.day} {self.variant_id}"
