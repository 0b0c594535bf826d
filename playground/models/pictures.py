"""Pictures out and pictures in: what was made, and what people gave to be changed."""

from typing import Self

from django.apps import apps
from django.db import models
from django.db.models import Exists, OuterRef, Q, UniqueConstraint
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone

from accounts.models import User
from playground.ids import new_id
from playground.models.catalogue import Variant
from playground.models.owned import OwnedQuerySet
from playground.models.work import Job, Run


class PictureQuerySet(OwnedQuerySet):
    def kept(self) -> Self:
        """Those that their owner has not deleted."""
        return self.filter(deleted__isnull=True)

    def shareable(self) -> Self:
        """Those that the operator has not taken down, neither by themselves nor with their run."""
        links = apps.get_model("playground", "ShareLink").objects.filter(taken_down__isnull=False)
        alone, with_run = links.filter(picture=OuterRef("pk")), links.filter(run=OuterRef("job__run"))
        return self.filter(~Exists(alone), ~Exists(with_run))


class Picture(models.Model):
    """An output. `key` is its folder under MEDIA_ROOT: the untouched original and two renditions."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    job = models.OneToOneField(Job, models.PROTECT, related_name="picture")
    user = models.ForeignKey(User, models.PROTECT, related_name="pictures")
    variant = models.ForeignKey(Variant, models.PROTECT, related_name="pictures")
    key = models.CharField(max_length=100)
    format = models.CharField(max_length=10, help_text="jpeg, png or webp.")
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    size = models.PositiveBigIntegerField(help_text="Bytes of the original.")
    sha256 = models.CharField(max_length=64)
    thumb_width = models.PositiveIntegerField()
    thumb_height = models.PositiveIntegerField()
    is_locked = models.BooleanField(
        help_text="A preview: its owner sees 768 px until it is kept for credits."
    )
    kept = models.DateTimeField(null=True, help_text="When a preview was kept in full size.")
    deleted = models.DateTimeField(null=True)
    created = models.DateTimeField(default=timezone.now)

    objects = PictureQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["user", "-id"], condition=Q(deleted__isnull=True), name="picture_of_user"),
            models.Index(
                fields=["user", "variant", "-id"],
                condition=Q(deleted__isnull=True),
                name="picture_of_variant",
            ),
            models.Index(fields=["deleted"], condition=Q(deleted__isnull=False), name="picture_deleted"),
            models.Index(
                fields=["user", "-kept", "-id"], condition=Q(kept__isnull=False), name="picture_kept_of_user"
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)

    def get_absolute_url(self) -> str:
        return reverse("picture", args=[self.pk])


class UploadQuerySet(OwnedQuerySet):
    def unused(self) -> Self:
        """Those that no run was made from."""
        return self.filter(~Exists(RunInput.objects.filter(upload=OuterRef("pk"))))

    def with_uses(self) -> Self:
        """Each with `runs`, how many were made from it, and `is_busy`, whether one of them is being made now."""
        uses = RunInput.objects.filter(upload=OuterRef("pk")).order_by().values("upload")
        counted = uses.annotate(runs=models.Count("run", distinct=True)).values("runs")
        being_made = Job.objects.open().filter(run__inputs__upload=OuterRef("pk"))
        return self.annotate(runs=Coalesce(models.Subquery(counted), 0), is_busy=Exists(being_made))

    def stored(self) -> Self:
        """Those whose files their owner has not removed."""
        return self.exclude(key="")


class Upload(models.Model):
    """An input picture of one account, as we encoded it: no metadata, upright, in a folder like a picture's.

    `content_sha256` is that of the file as it came, so that the same file sent twice is one upload.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(User, models.PROTECT, related_name="uploads")
    picture = models.ForeignKey(
        Picture,
        models.PROTECT,
        null=True,
        related_name="uploads",
        help_text="Where it was picked from the gallery.",
    )
    is_preview = models.BooleanField(
        default=False,
        help_text="Made from a preview that was not kept: 768 px, shown no larger than a thumbnail.",
    )
    content_sha256 = models.CharField(max_length=64)
    key = models.CharField(max_length=100)
    format = models.CharField(max_length=10, help_text="jpeg, png or webp.")
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    size = models.PositiveBigIntegerField(help_text="Bytes.")
    sha256 = models.CharField(max_length=64, help_text="Of what we stored.")
    thumb_width = models.PositiveIntegerField()
    thumb_height = models.PositiveIntegerField()
    created = models.DateTimeField(default=timezone.now)
    last_used = models.DateTimeField(default=timezone.now, help_text="Unused ones go three days after this.")

    runs: int  # set by `with_uses()`
    is_busy: bool

    objects = UploadQuerySet.as_manager()

    class Meta:
        constraints = [UniqueConstraint(fields=["user", "content_sha256"], name="upload_once_per_account")]
        indexes = [
            models.Index(fields=["user", "-id"], name="upload_of_user"),
            models.Index(fields=["last_used"], name="upload_by_use"),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class RunInput(models.Model):
    """The `position`th input picture of a run, from 0. Protected: a run shows what it was made from."""

    run = models.ForeignKey(Run, models.PROTECT, related_name="inputs")
    upload = models.ForeignKey(Upload, models.PROTECT, related_name="used_in")
    position = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["position"]
        constraints = [UniqueConstraint(fields=["run", "position"], name="run_input_once")]

    def __str__(self) -> str:
        return f"{self.run_id}: {self.position}"
