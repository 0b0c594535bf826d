"""What can be ordered: variants, their dated prices, and the routes by which upstreams make them."""

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import CheckConstraint, F, Q, UniqueConstraint
from django.urls import reverse
from django.utils import timezone

from accounts import credits


class VariantQuerySet(models.QuerySet["Variant"]):
    def live(self) -> Self:
        return self.filter(is_live=True)

    def priced(self, now: datetime | None = None) -> Self:
        """Each with `price_micros` in force at `now` (None where there is none), cheapest first."""
        current = Price.objects.filter(variant=models.OuterRef("pk"), starts__lte=now or timezone.now())
        return self.annotate(
            price_micros=models.Subquery(current.order_by("-starts", "-id").values("micros")[:1])
        ).order_by(F("price_micros").asc(nulls_last=True), "position", "id")

    def search(self, words: str) -> Self:
        found = self
        for word in words.split()[:8]:
            found = found.filter(
                Q(name__icontains=word)
                | Q(slug__icontains=word)
                | Q(maker__icontains=word)
                | Q(family__icontains=word)
            )
        return found


class Variant(models.Model):
    """One row of the price table: a model at one resolution, for one kind of work."""

    class Kind(models.TextChoices):
        TEXT = "text-to-image", "text to image"
        IMAGE = "image-to-image", "image to image"

    slug = models.SlugField(max_length=160, unique=True)
    name = models.CharField(
        max_length=120, help_text="As in the price table: flux-2 pro, text-to-image, 1.0s-1K."
    )
    label = models.CharField(max_length=60, help_text="Short, for cards and tiles: FLUX.2 pro 1K.")
    maker = models.CharField(max_length=80)
    family = models.CharField(max_length=80)
    kind = models.CharField(max_length=20, choices=Kind)
    resolution = models.CharField(
        max_length=10, blank=True, help_text="1K, 2K, or empty where the model decides."
    )
    blurb = models.CharField(max_length=160, help_text="One line: what it is for.")
    parameters = models.JSONField(default=dict, help_text="What it takes; see playground/catalog.py.")
    position = models.PositiveIntegerField(default=0)
    is_live = models.BooleanField("on", default=True)
    aliases = models.JSONField(
        default=list,
        blank=True,
        help_text="Other names for it in the API; several resolutions may share one.",
    )
    routes_brought = models.JSONField(
        default=list,
        editable=False,
        help_text="Upstreams to which the catalogue file has brought a route; one deleted since stays away.",
    )

    price_micros: int | None  # set by `priced()`

    objects = VariantQuerySet.as_manager()

    class Meta:
        ordering = ["position", "id"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("variant", args=[self.slug])

    @property
    def aspect_ratios(self) -> list[str]:
        return self.parameters.get("aspect_ratios", [])

    @property
    def takes_seed(self) -> bool:
        return bool(self.parameters.get("seed"))

    @property
    def fewest_inputs(self) -> int:
        """Input pictures without which it makes nothing."""
        return self.parameters.get("input_images", {}).get("min", 0)

    @property
    def most_inputs(self) -> int:
        return self.parameters.get("input_images", {}).get("max", 0)

    @property
    def needs_input_picture(self) -> bool:
        return self.fewest_inputs > 0


class Price(models.Model):
    """In force from `starts` until the next one starts. Added, never edited: receipts point into the past."""

    variant = models.ForeignKey(Variant, models.CASCADE, related_name="prices")
    micros = models.BigIntegerField(help_text="Micro-dollars a picture; 1 credit = 7,000.")
    starts = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-starts", "-id"]
        constraints = [
            CheckConstraint(condition=Q(micros__gt=0), name="price_positive"),
            UniqueConstraint(fields=["variant", "starts"], name="price_one_per_start"),
        ]

    def __str__(self) -> str:
        return f"{credits.usd(self.micros)} for {self.variant} from {self.starts:%Y-%m-%d %H:%M} UTC"


class Route(models.Model):
    """One way to have a variant made: which provider, under which name, at which upstream cost."""

    variant = models.ForeignKey(Variant, models.CASCADE, related_name="routes")
    provider = models.CharField(max_length=40)
    upstream_model = models.CharField(max_length=200)
    fixed = models.JSONField(
        default=dict, blank=True, help_text="Parameters sent with every job on this route."
    )
    ignores = models.JSONField(
        default=list, blank=True, help_text="Parameters of the variant that get lost on this route."
    )
    cost_micros = models.BigIntegerField(default=0, help_text="Upstream cost a picture, micro-dollars.")
    position = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["position", "id"]
        constraints = [
            UniqueConstraint(fields=["variant", "provider"], name="route_once"),
            CheckConstraint(condition=Q(cost_micros__gte=0), name="route_cost_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.variant} by {self.provider}"
