"""Credits that people buy, and what the payment company told us of it."""

import uuid
from datetime import datetime, timedelta
from typing import Self

from django.db import models
from django.db.models import CheckConstraint, F, Q
from django.utils import timezone

from accounts.models.people import User

# By then the webhook has come, or it will not.
_FIRST_LOOK = timedelta(minutes=5)


def _first_look() -> datetime:
    return timezone.now() + _FIRST_LOOK


class TopUpQuerySet(models.QuerySet["TopUp"]):
    def visible_to(self, user: User) -> Self:
        return self.filter(user=user) if user.is_authenticated else self.none()

    def open(self) -> Self:
        """Those of which we do not know yet how they end."""
        return self.filter(state__in=TopUp.OPEN)

    def paid_by_nobody(self) -> Self:
        """Paid when its account was deleted or suspended already, and not all paid back: somebody has to decide."""
        too_late = Q(paid__gte=F("user__deleted")) | Q(paid__gte=F("user__suspended"))
        gone_back = F("paid_back_cents") + F("disputed_cents")
        return self.filter(too_late, state=TopUp.State.PAID, cents__gt=gone_back)


class TopUp(models.Model):
    """One purchase. `micros` is what it adds to the balance, `cents` what the card pays, in US cents.

    `paid_back` and `disputed` are what went back to the card of it, for good or for as long as a dispute lasts;
    `failed` is what was sent back and did not arrive, ever.
    """

    class State(models.TextChoices):
        STARTED = "started"
        WAITING = "waiting", "Waiting for the bank"
        PAID = "paid"
        EXPIRED = "expired"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    user = models.ForeignKey(User, models.PROTECT, related_name="top_ups")
    micros = models.BigIntegerField()
    cents = models.PositiveIntegerField()
    state = models.CharField(max_length=10, choices=State, default=State.STARTED)
    session_id = models.CharField(
        max_length=200, null=True, unique=True, help_text="Stripe's checkout session."
    )
    payment_id = models.CharField(
        max_length=200, null=True, unique=True, help_text="Stripe's payment intent."
    )
    paid_back_cents = models.PositiveIntegerField(default=0)
    failed_cents = models.PositiveIntegerField(default=0)
    disputed_cents = models.PositiveIntegerField(default=0)
    created = models.DateTimeField(default=timezone.now)
    paid = models.DateTimeField(null=True)
    next_look = models.DateTimeField(
        default=_first_look, help_text="When to ask Stripe, in case its webhook does not come."
    )

    OPEN = (State.STARTED.value, State.WAITING.value)
    objects = TopUpQuerySet.as_manager()

    class Meta:
        verbose_name = "top-up"
        constraints = [
            CheckConstraint(condition=Q(micros__gt=0) & Q(cents__gt=0), name="topup_of_something"),
            CheckConstraint(condition=Q(paid_back_cents__lte=F("cents")), name="topup_paid_back_within_paid"),
        ]
        indexes = [
            models.Index(fields=["user", "-created"], name="topup_of_user"),
            models.Index(
                fields=["next_look"], condition=Q(state__in=["started", "waiting"]), name="topup_open"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pk} ({self.state})"

    @property
    def is_open(self) -> bool:
        return self.state in self.OPEN

    @property
    def is_paid(self) -> bool:
        return self.state == self.State.PAID

    @property
    def number(self) -> str:
        """What its receipt is known by."""
        return f"{self.created:%Y%m%d}-{self.pk.hex[:8].upper()}"

    def micros_of(self, cents: int) -> int:
        """What a part of the payment stands for; of all of it, all."""
        return self.micros * cents // self.cents


class StripeEvent(models.Model):
    """One webhook of Stripe's, so that it is handled once however often it comes.

    `problem` is what an operator should look at: why it was not handled, or what is odd about it although it was.
    One that is neither handled nor has a problem is about a payment of which we know nothing (yet).
    """

    id = models.CharField(primary_key=True, max_length=200)
    kind = models.CharField(max_length=100)
    happened = models.DateTimeField(help_text="When Stripe says that it did.")
    received = models.DateTimeField(default=timezone.now)
    payment_id = models.CharField(max_length=200, default="", help_text="The payment intent it is about.")
    payload = models.JSONField(help_text="What we need of it; no names, addresses or cards.")
    handled = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        verbose_name = "Stripe event"
        indexes = [
            models.Index(fields=["received"], condition=Q(handled__isnull=True), name="stripeevent_open"),
            models.Index(fields=["payment_id"], name="stripeevent_payment"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"
