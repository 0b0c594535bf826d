"""Who is told when a job ends, and whether the telling worked."""

import uuid
from typing import Self

from django.db import models
from django.db.models import CheckConstraint, Q
from django.utils import timezone

from accounts.models import User
from playground.models.owned import OwnedQuerySet
from playground.models.work import Job


class WebhookEndpointQuerySet(OwnedQuerySet):
    def listening(self) -> Self:
        """Those that hear of every job."""
        return self.filter(is_on=True, removed__isnull=True).exclude(url="")


class WebhookEndpoint(models.Model):
    """An address that hears of every API job of its owner. Without a `url`: the secret that signs what `callBackUrl` gets.

    `old_secret` signs beside the new one until `old_secret_until`.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="webhook_endpoints")
    url = models.CharField(max_length=2000, blank=True, default="")
    note = models.CharField(max_length=100, blank=True, default="")
    secret = models.CharField(max_length=120)
    old_secret = models.CharField(max_length=120, blank=True, default="")
    old_secret_until = models.DateTimeField(null=True)
    is_on = models.BooleanField(default=True)
    off_because = models.CharField(max_length=200, blank=True, default="")
    failing_since = models.DateTimeField(null=True)
    mail_due = models.BooleanField(default=False, help_text="Switched off by us, and its owner was not told.")
    created = models.DateTimeField(default=timezone.now)
    removed = models.DateTimeField(null=True)

    objects = WebhookEndpointQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user"], condition=Q(url=""), name="webhook_one_secret_for_calls")
        ]
        indexes = [
            models.Index(fields=["user"], name="webhook_of_user"),
            models.Index(fields=["id"], condition=Q(mail_due=True), name="webhook_mail_due"),
        ]

    def __str__(self) -> str:
        return self.url or "callBackUrl of single calls"


class Delivery(models.Model):
    """One message to one address, written in the transaction that ends the job. `id` is its `webhook-id` in every attempt.

    `next_try` is the schedule; while it is being sent, the end of its lease. `lane`: whose it is and which host it goes
    to, so that what waits for one host keeps nobody else waiting.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        DELIVERED = "delivered"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="deliveries")
    endpoint = models.ForeignKey(WebhookEndpoint, models.CASCADE, null=True, related_name="deliveries")
    job = models.ForeignKey(Job, models.PROTECT, null=True, related_name="deliveries")
    url = models.CharField(max_length=2000)
    lane = models.CharField(max_length=120, default="")
    event = models.CharField(max_length=40)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_try = models.DateTimeField(default=timezone.now)
    lease_until = models.DateTimeField(null=True)
    created = models.DateTimeField(default=timezone.now)
    ended = models.DateTimeField(null=True)
    gave_up = models.CharField(max_length=100, blank=True, default="", help_text="Why nobody tries any more.")

    objects = OwnedQuerySet.as_manager()

    class Meta:
        constraints = [
            CheckConstraint(
                condition=Q(state="waiting", ended__isnull=True)
                | (~Q(state="waiting") & Q(ended__isnull=False)),
                name="delivery_ended_when_final",
            )
        ]
        indexes = [
            models.Index(fields=["next_try", "lane"], condition=Q(ended__isnull=True), name="delivery_open"),
            models.Index(fields=["user", "-created", "-id"], name="delivery_of_user"),
            models.Index(fields=["user", "state", "-created", "-id"], name="delivery_of_user_by_state"),
            models.Index(fields=["endpoint", "-created", "-id"], name="delivery_of_endpoint"),
            models.Index(fields=["job"], name="delivery_of_job"),
        ]

    def __str__(self) -> str:
        return f"{self.event} to {self.url} ({self.state})"


class DeliveryAttempt(models.Model):
    """One try: the status that came back (None: none did), how long it took, and the first kilobyte of the answer."""

    delivery = models.ForeignKey(Delivery, models.CASCADE, related_name="tries")
    at = models.DateTimeField(default=timezone.now)
    status = models.PositiveSmallIntegerField(null=True)
    milliseconds = models.PositiveIntegerField()
    answer = models.CharField(max_length=1024, blank=True, default="")
    problem = models.CharField(max_length=200, blank=True, default="", help_text="Why no status came back.")

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.status or self.problem}"
