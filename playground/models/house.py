"""The house's own rows: its drives, its switches, and the upstreams as the operator set them up."""

from django.conf import settings
from django.db import models
from django.db.models import CheckConstraint, Q, UniqueConstraint
from django.utils import timezone


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


# --- Upstreams ----------------------------------------------------------------------------------------
class Upstream(models.Model):
    """An upstream as the operator set it up here; one whose key is in the environment needs no row.

    Where both say something, this row does. `name` is what routes call it.
    """

    class Kind(models.TextChoices):
        AIGENERATE = "aigenerate", "AI Generate, kie.ai and others of that shape"
        BFL = "bfl", "Black Forest Labs"
        OPENAI = "openai", "OpenAI's image routes, hosted anywhere"

    class InputsBy(models.TextChoices):
        KIND = "", "as usual for its kind"
        UPLOAD = "upload", "sent to its upload endpoint"
        URL = "url", "fetched from a signed address of ours (needs a public BASE_URL)"

    name = models.SlugField(max_length=40, unique=True)
    kind = models.CharField(max_length=20, choices=Kind)
    base_url = models.URLField(blank=True, help_text="Empty: the usual one of its kind.")
    upload_url = models.URLField(
        blank=True, help_text="Where input pictures are sent, if that is another host."
    )
    inputs_by = models.CharField(max_length=10, choices=InputsBy, blank=True, default=InputsBy.KIND)
    sealed_key = models.TextField(blank=True, editable=False)
    key_hint = models.CharField(
        max_length=8, blank=True, editable=False, help_text="The key's last characters."
    )
    is_on = models.BooleanField("on", default=True)
    limit_micros_per_day = models.BigIntegerField(
        "dollar limit",
        null=True,
        blank=True,
        help_text="Micro-dollars a UTC day, at upstream cost; empty: none.",
    )
    at_once = models.PositiveIntegerField(
        null=True, blank=True, help_text="Most jobs running there; empty: as usual."
    )
    at_once_by_model = models.JSONField(
        default=dict, blank=True, help_text='Lower bounds for single models: {"flux-kontext-max": 6}.'
    )
    result_hosts = models.JSONField(
        default=list,
        blank=True,
        help_text='Hosts that its pictures may come from: ["example.org"]. Empty: any public one.',
    )

    class Meta:
        ordering = ["name"]
        constraints = [
            CheckConstraint(
                condition=Q(limit_micros_per_day__isnull=True) | Q(limit_micros_per_day__gte=0),
                name="upstream_limit_not_negative",
            )
        ]

    def __str__(self) -> str:
        return self.name


class UpstreamState(models.Model):
    """What all workers know of one upstream. Written by `playground.upstreams` alone, by conditional UPDATEs."""

    name = models.CharField(max_length=40, primary_key=True)
    day = models.DateField(null=True, help_text="The UTC day that `spent_micros` is of.")
    spent_micros = models.BigIntegerField(default=0, help_text="Upstream cost of what was sent on that day.")
    paused_until = models.DateTimeField(null=True, help_text="It said: not before then.")
    failures = models.PositiveIntegerField(
        default=0, help_text="In a row, since the last answer that made sense."
    )
    open_until = models.DateTimeField(
        null=True, help_text="Its circuit is open: nothing is sent before then."
    )
    trips = models.PositiveIntegerField(default=0, help_text="How often in a row its circuit has opened.")
    last_failure = models.CharField(max_length=300, blank=True)
    last_failure_at = models.DateTimeField(null=True)
    balance = models.CharField(max_length=60, blank=True, help_text="In its own words.")
    balance_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name


# --- The audit ----------------------------------------------------------------------------------------
class AuditRun(models.Model):
    """One run of the audit and what it found, whoever asked for it. `done` of `checks` are behind it.

    `seen` moves with every check: one that has not moved for long was killed.
    """

    class By(models.TextChoices):
        NIGHT = "night", "the night round"
        COMMAND = "command", "manage.py audit"
        DESK = "desk", "the desk"

    class State(models.TextChoices):
        ASKED = "asked"
        RUNNING = "running"
        ENDED = "ended"
        BROKEN = "broken", "Broken off"

    by = models.CharField(max_length=10, choices=By)
    staff = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    with_files = models.BooleanField(default=False)
    started = models.DateTimeField(default=timezone.now)
    seen = models.DateTimeField(default=timezone.now)
    ended = models.DateTimeField(null=True)
    checks = models.PositiveSmallIntegerField(default=0)
    done = models.PositiveSmallIntegerField(default=0)
    doing = models.CharField(max_length=100, blank=True, default="")
    found = models.PositiveIntegerField(default=0)
    problems = models.JSONField(default=list, help_text="The first of what it found.")

    class Meta:
        constraints = [
            UniqueConstraint(
                fields=["by"],
                condition=Q(by="desk", state__in=["asked", "running"]),
                name="auditrun_one_from_the_desk",
            ),
            CheckConstraint(
                condition=Q(state="ended", ended__isnull=False) | (~Q(state="ended") & Q(ended__isnull=True)),
                name="auditrun_ended_when_it_has",
            ),
        ]
        indexes = [models.Index(fields=["state", "-id"], name="auditrun_by_state")]

    def __str__(self) -> str:
        return f"{self.started:%Y-%m-%d %H:%M} ({self.get_by_display()})"

    @property
    def is_open(self) -> bool:
        return self.state in (self.State.ASKED, self.State.RUNNING)

    @property
    def seconds(self) -> float | None:
        return (self.ended - self.started).total_seconds() if self.ended else None
