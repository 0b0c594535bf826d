"""Links by which others see a picture or a run."""

from typing import Self

from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from playground.models.owned import OwnedQuerySet, new_token
from playground.models.pictures import Picture
from playground.models.work import Run


class ShareLinkQuerySet(OwnedQuerySet):
    def live(self) -> Self:
        return self.filter(revoked__isnull=True, taken_down__isnull=True)


class ShareLink(models.Model):
    """Whoever has the token sees one picture or one whole run, until it is revoked or taken down."""

    token = models.CharField(max_length=40, unique=True, default=new_token, editable=False)
    user = models.ForeignKey(User, models.PROTECT, related_name="share_links")
    run = models.ForeignKey(Run, models.PROTECT, null=True, blank=True, related_name="share_links")
    picture = models.ForeignKey(Picture, models.PROTECT, null=True, blank=True, related_name="share_links")
    shows_prompt = models.BooleanField(default=False)
    created = models.DateTimeField(default=timezone.now)
    revoked = models.DateTimeField(null=True)
    taken_down = models.DateTimeField(null=True)
    takedown_reason = models.CharField(max_length=200, blank=True)

    objects = ShareLinkQuerySet.as_manager()

    class Meta:
        constraints = [
            CheckConstraint(
                condition=Q(run__isnull=True, picture__isnull=False)
                | Q(run__isnull=False, picture__isnull=True),
                name="share_one_thing",
            ),
            UniqueConstraint(
                fields=["run"], condition=Q(revoked__isnull=True), name="share_one_live_per_run"
            ),
            UniqueConstraint(
                fields=["picture"], condition=Q(revoked__isnull=True), name="share_one_live_per_picture"
            ),
        ]

    def __str__(self) -> str:
        return self.token

    def get_absolute_url(self) -> str:
        return reverse("share", args=[self.token])


class Report(models.Model):
    """What somebody who saw a shared page said is wrong with it. Open until staff dismiss it or take the link down."""

    class Reason(models.TextChoices):
        ILLEGAL = "illegal", "It is illegal"
        SEXUAL = "sexual", "It is sexual or shows nudity"
        VIOLENT = "violent", "It is violent or hateful"
        PERSON = "person", "It shows me or somebody I know"
        RIGHTS = "rights", "It breaks a copyright or a trademark"
        OTHER = "other", "Something else"

    class Outcome(models.TextChoices):
        OPEN = "open"
        DISMISSED = "dismissed"
        TAKEN_DOWN = "taken_down", "taken down"

    link = models.ForeignKey(ShareLink, models.PROTECT, related_name="reports")
    reason = models.CharField(max_length=20, choices=Reason)
    note = models.CharField(max_length=1000, blank=True, default="")
    reporter = models.CharField(
        max_length=64, help_text="A digest of who sent it, so that one person counts once."
    )
    created = models.DateTimeField(default=timezone.now)
    outcome = models.CharField(max_length=12, choices=Outcome, default=Outcome.OPEN)
    handled = models.DateTimeField(null=True)
    handled_by = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")

    class Meta:
        constraints = [UniqueConstraint(fields=["link", "reporter"], name="report_once_per_person")]
        indexes = [models.Index(fields=["-id"], condition=Q(outcome="open"), name="report_open")]

    def __str__(self) -> str:
        return f"{self.get_reason_display()} ({self.outcome})"
