"""What opens the API: keys that their owner has seen once and we keep only the digest of."""

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import Q, UniqueConstraint
from django.utils import timezone

from accounts.models.people import User


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(user=user) if user.is_authenticated else self.none()

    def working(self, now: datetime) -> Self:
        """Those that open the API at this moment."""
        return self.filter(Q(expires__isnull=True) | Q(expires__gt=now), revoked__isnull=True)

    def ended(self, now: datetime) -> Self:
        return self.filter(Q(expires__lte=now) | Q(revoked__isnull=False))

    def line_of(self, key: "ApiKey") -> Self:
        """It, and those that it replaced or was replaced by: they count in the same cap windows."""
        first = key.origin_id or key.pk
        return self.filter(Q(pk=first) | Q(origin=first))


class ApiKey(models.Model):
    """One key. `digest` is the SHA-256 of the whole, which has 190 random bits: nothing slower is needed.

    One that `replaces` another works beside it until that one's `expires`; the two count in the same cap windows.
    """

    user = models.ForeignKey(User, models.PROTECT, related_name="api_keys")
    name = models.CharField(max_length=60)
    start = models.CharField(max_length=20, help_text="What it begins with, to recognise it by.")
    last_four = models.CharField(max_length=4)
    digest = models.CharField(max_length=64, unique=True)
    is_test = models.BooleanField(default=False)
    created = models.DateTimeField(default=timezone.now)
    last_used = models.DateTimeField(null=True)
    expires = models.DateTimeField(null=True, blank=True)
    revoked = models.DateTimeField(null=True)
    replaces = models.OneToOneField(
        "self", models.SET_NULL, null=True, blank=True, related_name="replaced_by"
    )
    origin = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="+", help_text="The first of its line."
    )

    once = models.CharField(
        max_length=32, null=True, editable=False, help_text="The form that made it, which can make one only."
    )

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = "API key"
        indexes = [models.Index(fields=["user", "-id"], name="apikey_of_user")]
        constraints = [UniqueConstraint(fields=["user", "once"], name="apikey_once")]

    def __str__(self) -> str:
        return f"{self.name} ({self.shown})"

    def works(self, now: datetime) -> bool:
        return self.revoked is None and (self.expires is None or self.expires > now)

    @property
    def is_replaced(self) -> bool:
        return hasattr(self, "replaced_by")

    @property
    def shown(self) -> str:
        """What it is recognised by: how it begins, and how it ends."""
        return f"{self.start}…{self.last_four}"
