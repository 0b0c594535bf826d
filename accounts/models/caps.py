"""Where spending stops, what each cap has seen, and who was told of it."""

from typing import Any

from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.utils import timezone

from accounts.models.keys import ApiKey
from accounts.models.money import Hold
from accounts.models.people import User


class Cap(models.Model):
    """What an account's owner or an operator set: where to warn and where to stop, each optional.

    One of the whole account, or of one API key where `key` says so. Limits of the house come from the settings.
    """

    class Window(models.TextChoices):
        DAY = "day"
        MONTH = "month"
        JOB = "job", "one job"
        TOTAL = "total", "all time"

    OF_ACCOUNT = (Window.DAY.value, Window.MONTH.value, Window.JOB.value)
    COUNTED = (
        Window.DAY.value,
        Window.MONTH.value,
        Window.TOTAL.value,
    )  # the others bound one picture by itself
    OF_KEY = (*COUNTED, Window.JOB.value)

    user = models.ForeignKey(User, models.CASCADE, related_name="caps")
    key = models.ForeignKey(ApiKey, models.CASCADE, null=True, blank=True, related_name="caps")
    window = models.CharField(max_length=10, choices=Window)
    limit = models.BigIntegerField("stop at", null=True, blank=True, help_text="Micro-dollars.")
    warn_at = models.BigIntegerField(null=True, blank=True, help_text="Micro-dollars.")

    class Meta:
        constraints = [
            UniqueConstraint(
                fields=["user", "window"], condition=Q(key__isnull=True), name="cap_one_per_window"
            ),
            UniqueConstraint(
                fields=["key", "window"], condition=Q(key__isnull=False), name="cap_one_per_window_of_key"
            ),
            CheckConstraint(condition=Q(limit__gte=0), name="cap_limit_not_negative"),
            CheckConstraint(condition=Q(warn_at__gte=0), name="cap_warn_at_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.limit} a {self.window}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        super().save(*args, **kwargs)
        if self.limit is not None:  # pages speak of caps that stop something, also of a key
            User.objects.filter(pk=self.user_id, has_caps=False).update(has_caps=True)


class CapWindow(models.Model):
    """What one cap has seen in one UTC day or month, or ever. `reserved` is held, `spent` is final; the unit is the cap's.

    `subject` names the cap: `user:7/usd`, `key:7/usd`, `user:7/previews`, `house:preview/usd`, `house:signup/usd`.
    """

    subject = models.CharField(max_length=80)
    window = models.CharField(max_length=10)
    starts = models.DateField()
    spent = models.BigIntegerField(default=0)
    reserved = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            UniqueConstraint(fields=["subject", "window", "starts"], name="capwindow_once"),
            CheckConstraint(condition=Q(spent__gte=0) & Q(reserved__gte=0), name="capwindow_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.subject} {self.window} {self.starts}"


class CapUse(models.Model):
    """What one hold took of one cap window: reserved while the hold is open, spent once it is captured.

    Five for each picture of the API, found by their hold: the unique index is the only one besides the id's.
    """

    hold = models.ForeignKey(Hold, models.PROTECT, related_name="cap_uses", db_index=False)
    window = models.ForeignKey(CapWindow, models.PROTECT, related_name="uses", db_index=False)
    reserved = models.BigIntegerField()
    spent = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            UniqueConstraint(fields=["hold", "window"], name="capuse_once"),
            CheckConstraint(condition=Q(reserved__gte=0) & Q(spent__gte=0), name="capuse_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.hold_id} in {self.window_id}"


class CapNotice(models.Model):
    """That somebody was told of a level of a cap in one window. The row is the lock: who adds it sends the mail."""

    class Level(models.TextChoices):
        HALF = "50", "50 %"
        MOST = "80", "80 %"
        WARN = "warn", "warn at"
        STOP = "100", "100 %"

    user = models.ForeignKey(User, models.CASCADE, related_name="cap_notices")
    key = models.ForeignKey(ApiKey, models.CASCADE, null=True, related_name="cap_notices")
    window = models.CharField(max_length=10)
    starts = models.DateField()
    level = models.CharField(max_length=10, choices=Level)
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            UniqueConstraint(
                fields=["user", "window", "starts", "level"],
                condition=Q(key__isnull=True),
                name="capnotice_once",
            ),
            UniqueConstraint(
                fields=["key", "window", "starts", "level"],
                condition=Q(key__isnull=False),
                name="capnotice_once_of_key",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.window} {self.starts} {self.level}"
