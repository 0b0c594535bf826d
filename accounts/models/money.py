"""Balances, promises and movements. Written by `accounts.ledger` and by nothing else."""

from django.db import models
from django.db.models import CheckConstraint, F, Q, UniqueConstraint
from django.utils import timezone

from accounts.models.people import User


class Wallet(models.Model):
    """A balance. People's wallets never go below zero; the house's counterparties may."""

    class House(models.TextChoices):
        REVENUE = "house:revenue", "what people paid for pictures"
        PROMO = "house:promo", "credits given on sign-up"
        PREVIEW = "house:preview", "what free previews cost upstream"
        PURCHASES = "house:purchases", "credits that people bought"
        SUSPENSE = "house:suspense", "upstream costs we suspect but cannot prove"
        GOODWILL = "house:goodwill", "credits granted by staff"
        UPSTREAM = "house:upstream", "what upstreams are owed for the two kinds above"
        LOSSES = "house:losses", "money that went back to cards for credits that were spent already"

    name = models.CharField(max_length=60, unique=True)
    user = models.OneToOneField(User, models.PROTECT, null=True, blank=True, related_name="wallet")
    posted = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            CheckConstraint(condition=Q(held__gte=0), name="wallet_held_not_negative"),
            CheckConstraint(
                condition=Q(user__isnull=True) | Q(posted__gte=F("held")),
                name="wallet_available_not_negative",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def available(self) -> int:
        """Micro-dollars that can still be spent or held."""
        return self.posted - self.held


class Hold(models.Model):
    """A promise of money: open, then captured or released, exactly once. A free preview's hold is for 0."""

    class State(models.TextChoices):
        OPEN = "open"
        CAPTURED = "captured"
        RELEASED = "released"

    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="holds")
    business_id = models.CharField(max_length=100, unique=True)
    memo = models.CharField(max_length=200)
    amount = models.BigIntegerField()
    captured = models.BigIntegerField(default=0)
    refunded = models.BigIntegerField(default=0, help_text="Given back by staff, of what was captured.")
    state = models.CharField(max_length=10, choices=State, default=State.OPEN)
    created = models.DateTimeField(default=timezone.now)
    closed = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            CheckConstraint(condition=Q(amount__gte=0), name="hold_amount_not_negative"),
            CheckConstraint(
                condition=Q(captured__gte=0) & Q(captured__lte=F("amount")),
                name="hold_captured_within_amount",
            ),
            CheckConstraint(
                condition=Q(refunded__gte=0) & Q(refunded__lte=F("captured")),
                name="hold_refunded_within_captured",
            ),
            CheckConstraint(
                condition=Q(state="captured") | Q(captured=0), name="hold_captured_only_when_captured"
            ),
            CheckConstraint(
                condition=Q(state="open", closed__isnull=True) | (~Q(state="open") & Q(closed__isnull=False)),
                name="hold_closed_once",
            ),
        ]
        indexes = [models.Index(fields=["wallet", "-id"], condition=Q(state="open"), name="hold_open")]

    def __str__(self) -> str:
        return f"{self.business_id} ({self.state})"


class Transfer(models.Model):
    """One movement of money from the debit wallet to the credit wallet. Added, never changed (a trigger refuses)."""

    class Kind(models.TextChoices):
        SIGNUP = "signup", "Welcome credits"
        GRANT = "grant", "Credits granted"
        CHARGE = "charge", "Picture"
        KEEP = "keep", "Preview kept in full size"
        PREVIEW_COST = "preview_cost", "Upstream cost of a preview"
        SUSPECTED_COST = "suspected_cost", "Suspected upstream cost"
        REFUND = "refund", "Refund"
        PURCHASE = "purchase", "Credits bought"
        PAYBACK = "payback", "Purchase paid back"
        PAYBACK_FAILED = "payback_failed", "Refund did not arrive"
        DISPUTE = "dispute", "Payment disputed"
        DISPUTE_WON = "dispute_won", "Dispute decided for us"
        LOSS = "loss", "Paid back after it was spent"

    business_id = models.CharField(max_length=100, unique=True)
    kind = models.CharField(max_length=20, choices=Kind)
    debit = models.ForeignKey(Wallet, models.PROTECT, related_name="debits")
    credit = models.ForeignKey(Wallet, models.PROTECT, related_name="credits")
    amount = models.BigIntegerField()
    user_balance = models.BigIntegerField(
        null=True, help_text="What the person's wallet had posted right after."
    )
    hold = models.ForeignKey(Hold, models.PROTECT, null=True, related_name="transfers")
    memo = models.CharField(max_length=200, blank=True)
    actor = models.ForeignKey(
        User, models.PROTECT, null=True, related_name="+", help_text="Staff who did it."
    )
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            CheckConstraint(condition=Q(amount__gt=0), name="transfer_amount_positive"),
            CheckConstraint(condition=~Q(debit=F("credit")), name="transfer_between_two_wallets"),
            UniqueConstraint(
                fields=["hold"], condition=Q(kind="charge"), name="transfer_one_charge_per_hold"
            ),
        ]
        indexes = [
            models.Index(fields=["debit", "-id"], name="transfer_debit"),
            models.Index(fields=["credit", "-id"], name="transfer_credit"),
            # Few among many: what the front page of the desk and the days of the house ask for.
            models.Index(
                fields=["created"],
                condition=Q(kind__in=["refund", "suspected_cost"]),
                name="transfer_rare",
            ),
        ]

    def __str__(self) -> str:
        return self.business_id
