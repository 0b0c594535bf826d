"""How the upstreams are: what the operator wants to know before, while and after one of them is ill. Reads only.

Every question is bounded: it goes by an index, and reads at most some thousand rows however many jobs there are.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from django.db.models import Count
from django.utils import timezone

from playground import upstreams
from playground.ids import oldest_id
from playground.models import Job, Upstream, UpstreamState

LATENCY_OF = 200  # successes
LOOKED_AT = 1000  # of an upstream's newest jobs that have ended, to find those successes
MOST_FAILURES = 5000  # that are read, to count today's by reason
OLDEST = timedelta(days=1)  # a job that fails today was made at most that long before


@dataclass(frozen=True, kw_only=True)
class Health:
    """One upstream at one moment. Amounts are micro-dollars, times are UTC, latencies are seconds."""

    name: str
    now: datetime
    state: UpstreamState
    host: str = ""
    is_set_up: bool = True
    in_flight: dict[str, int] = field(default_factory=dict)
    most_at_once: int | None = None
    failures_today: list[tuple[str, int]] = field(default_factory=list)
    has_more_failures: bool = False
    latencies: list[float] = field(default_factory=list)
    limit_micros: int | None = None

    @property
    def is_sandbox(self) -> bool:
        return self.name == upstreams.SANDBOX

    @property
    def circuit(self) -> str:
        """closed; open: nothing is sent; probing: its time is over, and the next job shows whether all is well again."""
        if self.state.open_until is None:
            return "closed"
        return "open" if self.state.open_until > self.now else "probing"

    @property
    def probes(self) -> int:
        """Jobs sent since it opened, to see whether the upstream is well again."""
        return max(self.state.trips - 1, 0)

    @property
    def is_paused(self) -> bool:
        return self.state.paused_until is not None and self.state.paused_until > self.now

    @property
    def is_spent(self) -> bool:
        return self.limit_micros is not None and self.spent_micros >= self.limit_micros

    @property
    def can_be_lifted(self) -> bool:
        return self.circuit != "closed" or self.is_paused

    @property
    def can_be_asked(self) -> bool:
        return self.is_set_up and not self.is_sandbox

    @property
    def has_acts(self) -> bool:
        return self.can_be_asked or self.can_be_lifted

    @property
    def waiting(self) -> int:
        return self.in_flight.get(Job.State.QUEUED, 0)

    @property
    def running(self) -> int:
        """Jobs that are in the upstream's hands, or on their way to it or back."""
        return sum(self.in_flight.values()) - self.waiting

    @property
    def failed_today(self) -> int:
        return sum(count for _, count in self.failures_today)

    @property
    def p50(self) -> float | None:
        return percentile(self.latencies, 50)

    @property
    def p95(self) -> float | None:
        return percentile(self.latencies, 95)

    @property
    def spent_micros(self) -> int:
        return self.state.spent_micros if self.state.day == self.now.astimezone(UTC).date() else 0


def report(*, with_latencies: bool = True) -> list[Health]:
    """Every upstream that is set up here or has been, by name, the sandbox last."""
    now = timezone.now()
    configs = upstreams.configured()
    states = {state.name: state for state in UpstreamState.objects.all()}
    in_flight, (failures, has_more) = _in_flight(), _failures_today(now)
    rows = Upstream.objects.values_list("name", flat=True)
    names = sorted({*configs, *states, *rows, *in_flight} - {upstreams.SANDBOX})
    return [
        Health(
            name=name,
            now=now,
            state=states.get(name) or UpstreamState(name=name),
            host=urlsplit(configs[name].base_url).netloc if name in configs else "",
            is_set_up=name in configs or name == upstreams.SANDBOX,
            in_flight=in_flight.get(name, {}),
            most_at_once=configs[name].most_at_once.get("") if name in configs else None,
            failures_today=failures.get(name, Counter()).most_common(),
            has_more_failures=has_more,
            latencies=_latencies(name) if with_latencies else [],
            limit_micros=configs[name].limit_micros_per_day if name in configs else None,
        )
        for name in [*names, upstreams.SANDBOX]
    ]


def _in_flight() -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    counted = Job.objects.open().order_by().values_list("provider", "state").annotate(Count("pk"))
    for provider, state, count in counted:
        found[provider][state] = count
    return found


def _failures_today(now: datetime) -> tuple[dict[str, "Counter[str]"], bool]:
    """By upstream and reason, of the newest jobs that failed, and whether others were left unread, of which some may be
    today's. Ids sort by age, so that an index finds them."""
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    failed = Job.objects.filter(state=Job.State.FAILED, pk__gte=oldest_id(midnight - OLDEST)).order_by("-pk")
    read = list(failed.values_list("provider", "failure", "finished")[: MOST_FAILURES + 1])
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for provider, failure, finished in read[:MOST_FAILURES]:
        if finished and finished >= midnight:
            found[provider][failure] += 1
    return found, len(read) > MOST_FAILURES


def _latencies(name: str) -> list[float]:
    """Of the last successes, from being sent to being stored, ascending."""
    newest = Job.objects.filter(provider=name, finished__isnull=False).order_by("-pk")
    rows = newest.values_list("state", "submitted", "finished")[:LOOKED_AT]
    taken = [
        (finished - submitted).total_seconds()
        for state, submitted, finished in rows
        if state == Job.State.SUCCEEDED and submitted and finished
    ]
    return sorted(taken[:LATENCY_OF])


def percentile(ascending: Sequence[float], percent: int) -> float | None:
    """The nearest rank: the smallest value that `percent` of all are not above."""
    if not ascending:
        return None
    return ascending[max(math.ceil(len(ascending) * percent / 100), 1) - 1]
