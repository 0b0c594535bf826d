"""Calls of the API that carry a key of their own, so that the same call is done once."""

from datetime import timedelta

from django.db import models
from django.db.models import UniqueConstraint
from django.utils import timezone

from accounts.models import User


class IdempotentCall(models.Model):
    """A call's key, what it asked and which jobs it made. Written in the transaction that makes them, before them."""

    KEPT = timedelta(days=7)

    user = models.ForeignKey(User, models.CASCADE, related_name="+", db_index=False)
    key = models.CharField(max_length=64, help_text="SHA-256 of the route and the key that the client made.")
    asked = models.CharField(max_length=64, help_text="SHA-256 of the body.")
    job_ids = models.JSONField(default=list)
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [UniqueConstraint(fields=["user", "key"], name="idempotentcall_once")]
        indexes = [models.Index(fields=["created"], name="idempotentcall_age")]

    def __str__(self) -> str:
        return f"{self.key[:8]} of {self.user_id}"
