"""Who you are and what you may spend. Rows about money are written by `accounts.ledger` and by nothing else.

Every amount is a whole number of micro-dollars: $1 = 1,000,000, 1 credit = 7,000.
"""

from typing import Any

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models
from django.db.models import CheckConstraint, F, Q, UniqueConstraint
from django.utils import timezone

from accounts.addresses import canonical


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=email.strip(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(canonical_email=canonical(username or ""))


class User(AbstractUser):
    """Logs in by e-mail. `canonical_email` is what makes a person one person: see `accounts.addresses`."""

    username = None  # type: ignore[assignment]
    first_name = None  # type: ignore[assignment]
    last_name = None  # type: ignore[assignment]
    email = models.EmailField("e-mail address", unique=True)
    canonical_email = models.CharField(max_length=254, unique=True, editable=False)
    awaits_welcome = models.BooleanField(
        default=False,
        help_text="The welcome credits are due, but the daily budget was used up: the sweep tries again.",
    )
    has_caps = models.BooleanField(
        default=False, editable=False, help_text="So that pages of people without caps need not ask."
    )

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = []
    objects = UserManager()  # type: ignore[assignment,misc]

    class Meta:
        indexes = [models.Index(fields=["id"], condition=Q(awaits_welcome=True), name="user_awaits_welcome")]

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.canonical_email = canonical(self.email)
        fields = kwargs.get("update_fields")
        if fields is not None and "email" in fields:
            kwargs["update_fields"] = {*fields, "canonical_email"}
        super().save(*args, **kwargs)

    def __str__(self) -> str:
        return self.email


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
        ]

    def __str__(self) -> str:
        return self.business_id


class Cap(models.Model):
    """What an account's owner or an operator set: where to warn and where to stop, each optional.

    Limits of the house come from the settings.
    """

    class Window(models.TextChoices):
        DAY = "day"
        MONTH = "month"
        JOB = "job", "one job"

    user = models.ForeignKey(User, models.CASCADE, related_name="caps")
    window = models.CharField(max_length=10, choices=Window)
    limit = models.BigIntegerField("stop at", null=True, blank=True, help_text="Micro-dollars.")
    warn_at = models.BigIntegerField(null=True, blank=True, help_text="Micro-dollars.")

    class Meta:
        constraints = [
            UniqueConstraint(fields=["user", "window"], name="cap_one_per_window"),
            CheckConstraint(condition=Q(limit__gte=0), name="cap_limit_not_negative"),
            CheckConstraint(condition=Q(warn_at__gte=0), name="cap_warn_at_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.user}: {self.limit} a {self.window}"

    def save(self, *args: Any, **kwargs: Any) -> None:
        super().save(*args, **kwargs)
        User.objects.filter(pk=self.user_id, has_caps=False).update(has_caps=True)


class CapWindow(models.Model):
    """What one cap has seen in one UTC day or month. `reserved` is held, `spent` is final; the unit is the cap's.

    `subject` names the cap: `user:7/usd`, `user:7/previews`, `house:preview/usd`, `house:signup/usd`.
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
    """What one hold took of one cap window: reserved while the hold is open, spent once it is captured."""

    hold = models.ForeignKey(Hold, models.PROTECT, related_name="cap_uses")
    window = models.ForeignKey(CapWindow, models.PROTECT, related_name="uses")
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
    window = models.CharField(max_length=10)
    starts = models.DateField()
    level = models.CharField(max_length=10, choices=Level)
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            UniqueConstraint(fields=["user", "window", "starts", "level"], name="capnotice_once"),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.window} {self.starts} {self.level}"
