"""What was asked for and what became of it: runs, jobs and their events.

A job's state changes in `playground.jobs` and nowhere else. All money is in whole micro-dollars.
"""

from datetime import datetime
from typing import Self

from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiKey, Hold, User
from playground.ids import new_id
from playground.models.catalogue import Variant
from playground.models.owned import OwnedQuerySet, new_token


class Run(models.Model):
    """One press of the button: a prompt and the jobs it made, one per picture asked for."""

    class Pay(models.TextChoices):
        PREVIEW = "preview"
        CREDITS = "credits"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(User, models.PROTECT, related_name="runs", db_index=False)  # run_of_user
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


def _finished(name: str, *of: str, **where: bool) -> models.Index:
    """Of those that ended, a person's newest first."""
    fields = ["user", *of, "-finished", "-id"]
    return models.Index(fields=fields, condition=Q(finished__isnull=False, **where), name=name)


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
    user = models.ForeignKey(User, models.PROTECT, related_name="jobs", db_index=False)  # job_of_user
    variant = models.ForeignKey(Variant, models.PROTECT, related_name="jobs")
    ordinal = models.PositiveSmallIntegerField(
        help_text="Which of the run's pictures of this variant, from 0."
    )
    retry_of = models.OneToOneField("self", models.PROTECT, null=True, related_name="retried_by")
    params = models.JSONField(
        help_text="Prompt, aspect_ratio, resolution, width, height, seed, inputs: as they were asked for."
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
    key = models.ForeignKey(
        ApiKey, models.PROTECT, null=True, related_name="+", help_text="That ordered it; none: the pages."
    )
    is_test = models.BooleanField(default=False, help_text="Ordered with a test key: drawn here, and free.")
    asked = models.JSONField(null=True, help_text="The body of the API call, as it came.")
    callback_url = models.CharField(
        max_length=2000, blank=True, default="", help_text="Who is told of the end."
    )
    upstream_memo = models.CharField(
        max_length=500,
        blank=True,
        default="",
        help_text="What its provider needs besides the id to find it again.",
    )
    tried = models.JSONField(default=list, help_text="Upstreams that are known not to have started it.")
    reported_cost_micros = models.BigIntegerField(
        null=True, help_text="What the upstream said that it costs."
    )
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
            models.Index(
                fields=["user", "-finished", "-id"],
                condition=Q(finished__isnull=False),
                name="job_finished_of_user",
            ),
            models.Index(fields=["state", "-id"], name="job_by_state"),
            models.Index(
                fields=["provider", "state"], condition=Q(finished__isnull=True), name="job_at_upstream"
            ),
            models.Index(fields=["provider", "-id"], name="job_of_upstream"),
            models.Index(
                fields=["key", "-finished", "-id"],
                condition=Q(key__isnull=False, finished__isnull=False),
                name="job_finished_of_key",
            ),
            # What a person may filter their usage by: without these the rarest row of a million is found last.
            _finished("job_finished_of_variant", "variant"),
            _finished("job_finished_by_state", "state"),
            _finished("job_finished_of_pages", key__isnull=True),
            _finished("job_finished_tests", is_test=True),
            _finished("job_finished_previews", is_preview=True),
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
