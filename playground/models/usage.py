"""What was made and paid, counted as it happens, so that reports need not read a million jobs."""

from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint

from accounts.models import User
from playground.models.catalogue import Variant


class UsageDay(models.Model):
    """One account's pictures of one variant by one key on one UTC day. Written by `playground.tally`; the audit compares it.

    `pictures` are those paid when they arrived, `previews` were free, `kept` are previews that were paid later.
    """

    user = models.ForeignKey(User, models.PROTECT, related_name="+", db_index=False)
    day = models.DateField()
    by_key = models.BigIntegerField(default=0, db_default=0, help_text="The API key's id; 0: the pages.")
    variant = models.ForeignKey(Variant, models.PROTECT, related_name="+", db_index=False)
    pictures = models.PositiveIntegerField(default=0)
    pictures_micros = models.BigIntegerField(default=0)
    previews = models.PositiveIntegerField(default=0)
    kept = models.PositiveIntegerField(default=0)
    kept_micros = models.BigIntegerField(default=0)
    cost_micros = models.BigIntegerField(
        default=0, db_default=0, help_text="What upstreams took for the pictures: as they said, or as listed."
    )
    preview_cost_micros = models.BigIntegerField(
        default=0, db_default=0, help_text="The same for the previews."
    )

    class Meta:
        indexes = [models.Index(fields=["day", "variant"], name="usageday_of_house")]
        constraints = [
            UniqueConstraint(fields=["user", "day", "variant", "by_key"], name="usageday_once"),
            CheckConstraint(
                condition=Q(pictures_micros__gte=0) & Q(kept_micros__gte=0), name="usageday_not_negative"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.day} {self.variant_id}"


class HouseDay(models.Model):
    """One variant on one UTC day that is over, of everybody together, so that a month need not read a million rows.

    Written once a night by `playground.takings`; the audit compares. Days that are not here yet are summed live.
    """

    day = models.DateField()
    variant = models.ForeignKey(Variant, models.PROTECT, related_name="+")
    pictures = models.PositiveIntegerField(default=0)
    pictures_micros = models.BigIntegerField(default=0)
    previews = models.PositiveIntegerField(default=0)
    kept = models.PositiveIntegerField(default=0)
    kept_micros = models.BigIntegerField(default=0)
    cost_micros = models.BigIntegerField(default=0)
    preview_cost_micros = models.BigIntegerField(default=0)
    suspected_micros = models.BigIntegerField(
        default=0, help_text="What upstreams may have taken for jobs whose outcome nobody knows."
    )
    refunded_micros = models.BigIntegerField(default=0, help_text="Given back on that day.")

    class Meta:
        constraints = [UniqueConstraint(fields=["day", "variant"], name="houseday_once")]

    def __str__(self) -> str:
        return f"{self.day} {self.variant_id}"


class HouseClosed(models.Model):
    """A UTC day whose rows in `HouseDay` are all there; it may have none."""

    day = models.DateField(primary_key=True)

    def __str__(self) -> str:
        return f"{self.day}"
