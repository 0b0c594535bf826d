"""What you make: the catalogue, runs and their jobs, pictures, and links to them.

A job's state changes in `playground.jobs` and nowhere else. All money is in whole micro-dollars.
"""

import secrets
from datetime import datetime
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import CheckConstraint, F, Q, UniqueConstraint
from django.urls import reverse
from django.utils import timezone

from accounts.models import Hold, User
from playground.ids import new_id


def new_token() -> str:
    """192 random bits for an address that must not be guessed."""
    return secrets.token_urlsafe(24)


# --- The catalogue ------------------------------------------------------------------------------------
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
    def needs_input_picture(self) -> bool:
        return self.parameters.get("input_images", {}).get("min", 0) > 0


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
        return f"{self.variant} from {self.starts:%Y-%m-%d}: {self.micros}"


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


# --- Runs and jobs ------------------------------------------------------------------------------------
class OwnedQuerySet(models.QuerySet[Any]):
    """The one gate to other people's rows: through here a stranger's row does not exist."""

    def visible_to(self, user: Any) -> Self:
        return self.filter(user=user) if user.is_authenticated else self.none()

    def newest_first(self, before: Any = None) -> Self:
        """A page of a keyset: ids sort by age, so the last id seen is the cursor."""
        rows = self.filter(pk__lt=before) if before else self
        return rows.order_by("-pk")


class Run(models.Model):
    """One press of the button: a prompt and the jobs it made, one per picture asked for."""

    class Pay(models.TextChoices):
        PREVIEW = "preview"
        CREDITS = "credits"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(User, models.PROTECT, related_name="runs")
    prompt = models.TextField()
    aspect_ratio = models.CharField(max_length=10)
    count = models.PositiveSmallIntegerField()
    seed = models.BigIntegerField(null=True)
    pay = models.CharField(max_length=10, choices=Pay)
    nonce = models.CharField(max_length=64)
    created = models.DateTimeField(default=timezone.now)

    objects = OwnedQuerySet.as_manager()

    class Meta:
        constraints = [UniqueConstraint(fields=["user", "nonce"], name="run_once_per_form")]
        indexes = [models.Index(fields=["user", "-id"], name="run_of_user")]

    def __str__(self) -> str:
        return self.prompt[:60]

    def get_absolute_url(self) -> str:
        return reverse("run", args=[self.pk])


class JobQuerySet(OwnedQuerySet):
    def open(self) -> Self:
        """Those that have not ended. `finished` says so as well as the state, and an index can be found by it."""
        return self.filter(finished__isnull=True)

    def due(self, now: datetime) -> Self:
        """Those that somebody should look at, longest waiting first. A leased one is due when its lease runs out."""
        return self.open().filter(next_look__lte=now).order_by("next_look")


class Job(models.Model):
    """One picture to be made. This table is the truth; the queue only says "look"."""

    class State(models.TextChoices):
        QUEUED = "queued"
        SUBMITTING = "submitting"
        RUNNING = "running"
        FETCHING = "fetching"
        SUCCEEDED = "succeeded"
        FAILED = "failed"
        CANCELLED = "cancelled"

    FINAL = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
    OPEN = (State.QUEUED, State.SUBMITTING, State.RUNNING, State.FETCHING)

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    run = models.ForeignKey(Run, models.PROTECT, related_name="jobs")
    user = models.ForeignKey(User, models.PROTECT, related_name="jobs")
    variant = models.ForeignKey(Variant, models.PROTECT, related_name="jobs")
    ordinal = models.PositiveSmallIntegerField(
        help_text="Which of the run's pictures of this variant, from 0."
    )
    retry_of = models.OneToOneField("self", models.PROTECT, null=True, related_name="retried_by")
    params = models.JSONField(
        help_text="Prompt, aspect_ratio, resolution, width, height, seed: as they were asked for."
    )
    is_preview = models.BooleanField()
    price_micros = models.BigIntegerField(help_text="List price when it was submitted.")
    cost_micros = models.BigIntegerField(help_text="Upstream cost when it was submitted.")
    hold = models.OneToOneField(Hold, models.PROTECT, related_name="+")

    state = models.CharField(max_length=12, choices=State, default=State.QUEUED)
    provider = models.CharField(max_length=40)
    upstream_model = models.CharField(max_length=200)
    upstream_fixed = models.JSONField(default=dict)
    upstream_id = models.CharField(max_length=200, null=True)
    callback_token = models.CharField(max_length=40, unique=True, default=new_token)
    claimed_id = models.CharField(
        max_length=200,
        blank=True,
        help_text="What a callback said the upstream's id is; believed once the upstream confirms.",
    )
    result_urls = models.JSONField(default=list)
    progress = models.PositiveSmallIntegerField(null=True, help_text="Percent, where the upstream says.")

    next_look = models.DateTimeField(default=timezone.now)
    deadline = models.DateTimeField()
    lease_owner = models.CharField(max_length=60, blank=True, default="")
    lease_until = models.DateTimeField(null=True)
    submit_attempts = models.PositiveSmallIntegerField(default=0)
    fetch_attempts = models.PositiveSmallIntegerField(default=0)
    outcome_unknown = models.BooleanField(default=False, help_text="A create was sent and its answer lost.")

    failure = models.CharField(max_length=40, blank=True, help_text="A key of playground.jobs.EXPLAINED.")
    failure_detail = models.CharField(
        max_length=300, blank=True, help_text="The upstream's own words, shortened."
    )
    created = models.DateTimeField(default=timezone.now)
    submitted = models.DateTimeField(null=True)
    finished = models.DateTimeField(null=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["id"]
        constraints = [
            UniqueConstraint(fields=["provider", "upstream_id"], name="job_upstream_once"),
            CheckConstraint(condition=Q(price_micros__gt=0), name="job_price_known"),
            CheckConstraint(
                condition=Q(state__in=["succeeded", "failed", "cancelled"], finished__isnull=False)
                | Q(state__in=["queued", "submitting", "running", "fetching"], finished__isnull=True),
                name="job_finished_when_final",
            ),
        ]
        indexes = [
            models.Index(fields=["next_look"], condition=Q(finished__isnull=True), name="job_open"),
            models.Index(fields=["user", "-id"], name="job_of_user"),
            models.Index(fields=["state", "-id"], name="job_by_state"),
        ]

    def __str__(self) -> str:
        return f"{self.pk} ({self.state})"

    @property
    def is_final(self) -> bool:
        return self.state in self.FINAL

    @property
    def shown_state(self) -> str:
        """The state in the five words that customers see."""
        return (
            "running"
            if self.state in (self.State.SUBMITTING, self.State.RUNNING, self.State.FETCHING)
            else self.state
        )

    @property
    def seconds(self) -> float | None:
        """From the click to the end."""
        return (self.finished - self.created).total_seconds() if self.finished else None


class JobEvent(models.Model):
    """What happened to a job, in order. Added, never edited."""

    job = models.ForeignKey(Job, models.PROTECT, related_name="events")
    at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=12, help_text="The state it led to.")
    note = models.CharField(max_length=300, blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.state} {self.note}"


# --- Pictures and links to them -----------------------------------------------------------------------
class PictureQuerySet(OwnedQuerySet):
    def kept(self) -> Self:
        """Those that their owner has not deleted."""
        return self.filter(deleted__isnull=True)

    def shareable(self) -> Self:
        """Those that the operator has not taken down, neither by themselves nor with their run."""
        alone = ShareLink.objects.filter(picture=models.OuterRef("pk"), taken_down__isnull=False)
        with_run = ShareLink.objects.filter(run=models.OuterRef("job__run"), taken_down__isnull=False)
        return self.filter(~models.Exists(alone), ~models.Exists(with_run))


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
        ]

    def __str__(self) -> str:
        return str(self.pk)

    def get_absolute_url(self) -> str:
        return reverse("picture", args=[self.pk])


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


# --- The engine's own rows ----------------------------------------------------------------------------
class DriveBeat(models.Model):
    """A drive that is alive says so every second. The watchdog and `submit_run` read it."""

    owner = models.CharField(max_length=60, primary_key=True)
    host = models.CharField(max_length=120, default="")
    started = models.DateTimeField(default=timezone.now)
    at = models.DateTimeField(default=timezone.now)
    in_flight = models.PositiveIntegerField(default=0)
    is_ending = models.BooleanField(
        default=False, help_text="It finishes its last calls; another may take over."
    )
    stop_asked = models.BooleanField(
        default=False, help_text="The watchdog wants to stop: end soon, without a successor."
    )

    def __str__(self) -> str:
        return self.owner


class Switch(models.Model):
    """An operator's switch. `dispatch` off: nothing new is sent upstream; what runs is finished."""

    name = models.CharField(max_length=40, primary_key=True)
    is_on = models.BooleanField(default=True)
    reason = models.CharField(max_length=200, blank=True)
    changed = models.DateTimeField(auto_now=True)
    changed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")

    class Meta:
        verbose_name_plural = "switches"

    def __str__(self) -> str:
        return f"{self.name}: {'on' if self.is_on else 'off'}"
