"""Who somebody is: an address, what they chose, and whether they may come in."""

from typing import Any

from django.contrib.auth.models import AbstractUser, BaseUserManager
from django.db import models
from django.db.models import Q

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
    name = models.CharField(max_length=80, blank=True, default="")
    time_zone = models.CharField(
        max_length=40, blank=True, default="", help_text="As in Europe/Berlin. Empty: as the browser says."
    )
    muted = models.JSONField(default=list, blank=True, help_text="Kinds of mail that they switched off.")
    sign_outs = models.PositiveIntegerField(
        default=0, editable=False, help_text="One more ends every session that is open."
    )
    suspended = models.DateTimeField(null=True, editable=False)
    suspended_reason = models.CharField(max_length=200, blank=True, default="", editable=False)
    deleted = models.DateTimeField(
        null=True, editable=False, help_text="Erased at their own wish: the row stays for the books."
    )

    # Whether they may come in. Single UPDATEs say so, and no whole row that was read before them undoes it.
    STANDING = frozenset({"is_active", "sign_outs", "suspended", "suspended_reason", "deleted"})

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = []
    objects = UserManager()  # type: ignore[assignment,misc]

    class Meta:
        indexes = [models.Index(fields=["id"], condition=Q(awaits_welcome=True), name="user_awaits_welcome")]

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.canonical_email = canonical(self.email)
        fields = kwargs.get("update_fields")
        if fields is None and not self._state.adding:
            kwargs["update_fields"] = self._all_but_standing()
        elif fields is not None and "email" in fields:
            kwargs["update_fields"] = {*fields, "canonical_email"}
        super().save(*args, **kwargs)

    def _all_but_standing(self) -> set[str]:
        unknown = self.STANDING | self.get_deferred_fields()
        return {field.name for field in self._meta.concrete_fields if not field.primary_key} - unknown

    def get_session_auth_hash(self) -> str:
        """What a session must know to go on: it changes with the password, and whenever all sessions are to end."""
        known = f"{super().get_session_auth_hash()}:{self.sign_outs}" if self.sign_outs else None
        return known or super().get_session_auth_hash()

    def __str__(self) -> str:
        return self.email
