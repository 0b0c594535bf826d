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
