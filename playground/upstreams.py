"""Which upstreams are set up here, and whether a job may be sent to one of them now.

An upstream comes from the environment or from an `Upstream` row; where both say something, the row does. What all
workers know of it is its `UpstreamState`: a pause that it asked for, a circuit that opens when it fails again and
again and closes by probing, and what the day has cost. What runs there is not counted but looked up: the job table
is the truth, and the state's row is the lock under which it is read.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Protocol

from django.conf import settings
from django.core.cache import cache
from django.db import connection
from django.db.models import Q
from django.db.models.signals import post_delete, post_save
from django.utils import timezone

from playground import seals
from playground.models import Job, Upstream, UpstreamState
from playground.providers.aigenerate import AIGenerate
from playground.providers.base import Failure, Provider
from playground.providers.bfl import BFL
from playground.providers.openai import OpenAI
from playground.providers.sandbox import Sandbox

logger = logging.getLogger(__name__)

SANDBOX = "sandbox"
FAILURES_TO_OPEN = 5
# How long a circuit is open: at first, and after each probe that did not close it.
OPEN_S = (15, 60, 300, 600)
KNOWN_FOR_S = 3.0
BALANCE_KEPT_S = 900
LOST_RUN_FOR = timedelta(minutes=3)
_NO_LIMIT = 2**63 - 1

KINDS: dict[str, Any] = {
    Upstream.Kind.AIGENERATE: AIGenerate,
    Upstream.Kind.BFL: BFL,
    Upstream.Kind.OPENAI: OpenAI,
}


# --- Which are set up ---------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class Config:
    """One upstream as it is set up. `most_at_once`: jobs running there, by upstream model, "" for all together."""

    name: str
    kind: str
    base_url: str
    api_key: str = field(default="", repr=False)
    upload_url: str = ""
    inputs_by: str = ""
    result_hosts: tuple[str, ...] = ()
    most_at_once: Mapping[str, int] = field(default_factory=dict)
    limit_micros_per_day: int | None = None

    def provider(self) -> Provider:
        """The client that speaks with it."""
        more: dict[str, Any] = {"result_hosts": self.result_hosts} if self.result_hosts else {}
        if self.kind == Upstream.Kind.AIGENERATE:
            more |= {"upload_url": self.upload_url}
            more |= {"inputs_by": self.inputs_by} if self.inputs_by else {}
        return KINDS[self.kind](name=self.name, base_url=self.base_url, api_key=self.api_key, **more)


class _Known:
    """The rows, as they were a moment ago: they are asked for at every page and every job."""

    rows: list[Upstream] | None = None
    at = 0.0


def forget(**signal: Any) -> None:
    """The next look reads the rows anew."""
    _Known.rows = None


post_save.connect(forget, sender=Upstream)
post_delete.connect(forget, sender=Upstream)


def _rows() -> list[Upstream]:
    if _Known.rows is None or time.monotonic() > _Known.at + KNOWN_FOR_S:
        _Known.rows, _Known.at = list(Upstream.objects.all()), time.monotonic()
    return _Known.rows


def from_environment() -> dict[str, Config]:
    """Those whose key (or, for a server that asks for none, whose address) is in the environment."""
    known = [
        Config(
            name="aigenerate",
            kind=Upstream.Kind.AIGENERATE,
            base_url=settings.AIGENERATE_BASE_URL,
            api_key=settings.AIGENERATE_API_KEY,
        ),
        Config(
            name="kie",
            kind=Upstream.Kind.AIGENERATE,
            base_url=settings.KIE_BASE_URL,
            api_key=settings.KIE_API_KEY,
            upload_url=settings.KIE_UPLOAD_URL,
        ),
        Config(
            name="bfl", kind=Upstream.Kind.BFL, base_url=settings.BFL_BASE_URL, api_key=settings.BFL_API_KEY
        ),
        Config(
            name="openai",
            kind=Upstream.Kind.OPENAI,
            base_url=settings.OPENAI_BASE_URL,
            api_key=settings.OPENAI_API_KEY,
        ),
    ]
    return {found.name: _with_bounds(found) for found in known if found.api_key}


def known() -> dict[str, Config]:
    """Every upstream that can be asked what became of a job: those too that the operator has switched off."""
    found = from_environment()
    for row in _rows():
        beside = found.pop(row.name, None)
        if config := _from_row(row, beside):
            found[row.name] = config
    return found


def configured() -> dict[str, Config]:
    """Every upstream that may be sent jobs, by name."""
    off = {row.name for row in _rows() if not row.is_on}
    return {name: config for name, config in known().items() if name not in off}


def is_set_up() -> bool:
    """Whether there is any upstream here, one that is off or broken included. With none, the sandbox draws."""
    return bool(from_environment()) or bool(_rows())


def _from_row(row: Upstream, beside: Config | None) -> Config | None:
    """None where it cannot be asked: no address, or a key that cannot be read."""
    try:
        key = seals.unseal(row.sealed_key) if row.sealed_key else beside.api_key if beside else ""
    except seals.SealError as error:
        log_left_out(row.name, str(error))
        return None
    base_url = row.base_url or (beside.base_url if beside else _usual_address(row.kind))
    if not base_url or not (key or row.kind == Upstream.Kind.OPENAI):
        return None
    return _with_bounds(
        Config(
            name=row.name,
            kind=row.kind,
            base_url=base_url,
            api_key=key,
            upload_url=row.upload_url or (beside.upload_url if beside else ""),
            inputs_by=row.inputs_by,
            result_hosts=tuple(row.result_hosts),
            most_at_once=dict(row.at_once_by_model) | ({"": row.at_once} if row.at_once is not None else {}),
            limit_micros_per_day=row.limit_micros_per_day,
        )
    )


@lru_cache(maxsize=100)
def log_left_out(name: str, why: str) -> None:
    """Once in each process, for it is noticed at every page and every job."""
    logger.error("upstream %s is left out: %s", name, why)


def _usual_address(kind: str) -> str:
    usual = {
        Upstream.Kind.AIGENERATE: settings.AIGENERATE_BASE_URL,
        Upstream.Kind.BFL: settings.BFL_BASE_URL,
        Upstream.Kind.OPENAI: settings.OPENAI_BASE_URL,
    }
    return usual.get(Upstream.Kind(kind), "")


def _with_bounds(config: Config) -> Config:
    """With the kind's own bounds on what may run at once, where the operator set no others."""
    usual = KINDS[config.kind].most_at_once
    return Config(**{**vars(config), "most_at_once": {**usual, **config.most_at_once}})


def sandbox(read: Callable[[str], bytes]) -> Provider:
    """The upstream that is always there, which reads an edit's input picture by `read`."""
    return Sandbox(delay_s=settings.SANDBOX_DELAY_S, read=read)


# --- Whether a job may be sent ------------------------------------------------------------------------
class NotNow(Exception):
    """This upstream takes no job now, and may from `until` on; None: not today, for which `failure` is the word."""

    def __init__(self, detail: str, until: datetime | None, failure: Failure = Failure.LIMIT_REACHED) -> None:
        self.detail, self.until, self.failure = detail, until, failure
        super().__init__(detail)


class Sent(Protocol):
    """What is known of a job here."""

    provider: str
    upstream_model: str
    cost_micros: int
    submitted: datetime | None


# One statement decides for all workers. The day never goes back, or a clock that does would start its limit afresh. Where a circuit's time is over, one job goes through as a probe, and behind it
# the circuit is open again, for longer, until that or another job shows that the upstream is well.
_ADMIT = """
    UPDATE playground_upstreamstate
       SET spent_micros = CASE WHEN day >= %(today)s THEN spent_micros ELSE 0 END + %(cost)s,
           day = CASE WHEN day > %(today)s THEN day ELSE %(today)s END,
           open_until = CASE WHEN open_until IS NULL THEN NULL WHEN trips < 1 THEN %(open0)s
                             WHEN trips = 1 THEN %(open1)s WHEN trips = 2 THEN %(open2)s ELSE %(open3)s END,
           trips = CASE WHEN open_until IS NULL THEN trips ELSE trips + 1 END
     WHERE name = %(name)s
       AND (paused_until IS NULL OR paused_until <= %(now)s) AND (open_until IS NULL OR open_until <= %(now)s)
       AND CASE WHEN day >= %(today)s THEN spent_micros ELSE 0 END + %(cost)s <= %(limit)s
"""
_REFUND = """
    UPDATE playground_upstreamstate SET spent_micros = spent_micros - %(cost)s
     WHERE name = %(name)s AND day = %(day)s AND spent_micros >= %(cost)s
"""
_FAILED = """
    UPDATE playground_upstreamstate
       SET failures = failures + %(times)s, last_failure = %(detail)s, last_failure_at = %(now)s,
           open_until = CASE WHEN open_until IS NULL AND failures + %(times)s >= %(enough)s THEN %(until)s
                             ELSE open_until END,
           trips = CASE WHEN open_until IS NULL AND failures + %(times)s >= %(enough)s THEN 1 ELSE trips END
     WHERE name = %(name)s
"""
_WELL = """
    UPDATE playground_upstreamstate SET failures = 0, trips = 0, open_until = NULL
     WHERE name = %(name)s AND (failures > 0 OR open_until IS NOT NULL)
"""


def admit(job: Sent) -> None:
    """Counts the job against its upstream's limits, inside the transaction that sends it. Raises NotNow.

    Whoever rolls that transaction back takes the count back with it; `refund` does when nothing was started.
    """
    if job.provider == SANDBOX:
        return
    config = configured().get(job.provider)
    if config is None:
        raise NotNow(f"{job.provider} is not set up any more", None, Failure.UPSTREAM_UNAVAILABLE)
    limit = (
        _NO_LIMIT if config is None or config.limit_micros_per_day is None else config.limit_micros_per_day
    )
    now = timezone.now()
    asked = {
        "name": job.provider,
        "cost": job.cost_micros,
        "limit": limit,
        "today": _stored("day", now.astimezone(UTC).date()),
        "now": _stored("open_until", now),
        **{f"open{n}": _stored("open_until", now + timedelta(seconds=s)) for n, s in enumerate(OPEN_S)},
    }
    if not _execute(_ADMIT, asked):
        UpstreamState.objects.get_or_create(name=job.provider)
        if not _execute(_ADMIT, asked):
            raise _why_not(job, limit, now)
    for model, most in config.most_at_once.items():
        if model in ("", job.upstream_model) and running(job.provider, model) >= most:
            raise NotNow(f"{most} jobs are running there, as many as it lets us", now + timedelta(seconds=1))


def _why_not(job: Sent, limit: int, now: datetime) -> NotNow:
    state = UpstreamState.objects.get(name=job.provider)
    if state.paused_until and state.paused_until > now:
        return NotNow("it asked us to wait", state.paused_until)
    if state.open_until and state.open_until > now:
        return NotNow(f"it failed {state.failures} times in a row; we wait", state.open_until)
    is_today = state.day is not None and state.day >= now.astimezone(UTC).date()
    spent = state.spent_micros if is_today else 0
    if spent + job.cost_micros > limit:
        return NotNow("its dollar limit for today (UTC) is used up", None)
    return NotNow("it is busy", now + timedelta(seconds=1))


def refund(job: Sent) -> None:
    """The upstream is known not to have started the job."""
    if job.provider != SANDBOX and job.submitted and job.cost_micros:
        day = _stored("day", job.submitted.astimezone(UTC).date())
        _execute(_REFUND, {"name": job.provider, "cost": job.cost_micros, "day": day})


def running(name: str, model: str = "") -> int:
    """Jobs that the upstream has or may have begun and not ended; of one upstream model, or of all."""
    there = Job.objects.open().filter(provider=name, state__in=[Job.State.SUBMITTING, Job.State.RUNNING])
    # Whose answer was lost may run, but not until its deadline; nobody else would get a turn there until then.
    there = there.exclude(outcome_unknown=True, submitted__lt=timezone.now() - LOST_RUN_FOR)
    return (there.filter(upstream_model=model) if model else there).count()


def room() -> dict[tuple[str, str], int]:
    """How many more jobs may be sent, by upstream and model ("" for all), where there is a bound."""
    return {
        (config.name, model): max(most - running(config.name, model), 0)
        for config in configured().values()
        for model, most in config.most_at_once.items()
    }


# --- What became of asking it -------------------------------------------------------------------------
def well(name: str) -> None:
    """It gave an answer that makes sense: its circuit closes."""
    if name != SANDBOX:
        _execute(_WELL, {"name": name})


def failed(name: str, detail: str, *, times: int = 1) -> None:
    """It could not be asked, or its answer made no sense. After some of that in a row its circuit opens."""
    if name == SANDBOX:
        return
    now = timezone.now()
    said = {
        "name": name,
        "times": times,
        "enough": FAILURES_TO_OPEN,
        "until": _stored("open_until", now + timedelta(seconds=OPEN_S[0])),
        "now": _stored("last_failure_at", now),
        "detail": detail[:300],
    }
    if not _execute(_FAILED, said):
        UpstreamState.objects.get_or_create(name=name)
        _execute(_FAILED, said)


def paused(name: str, seconds: float) -> None:
    """It asked us to wait: every worker does."""
    until = timezone.now() + timedelta(seconds=seconds)
    UpstreamState.objects.get_or_create(name=name)
    shorter = Q(paused_until__isnull=True) | Q(paused_until__lt=until)
    UpstreamState.objects.filter(shorter, name=name).update(paused_until=until)


def lifted(name: str) -> bool:
    """Somebody knows that it is well again: circuit closed, pause over. False where nothing is known of it."""
    as_new = {"open_until": None, "failures": 0, "trips": 0, "paused_until": None}
    return bool(UpstreamState.objects.filter(name=name).update(**as_new))


def balance_is(name: str, left: str) -> None:
    """What it says is left on our account there."""
    known = {"balance": left[:60], "balance_at": timezone.now()}
    UpstreamState.objects.update_or_create(name=name, defaults=known)


def to_ask_for_balance() -> list[str]:
    """Those whose turn it is. Whoever is told here is to ask; nobody else is told for a while."""
    return [name for name in configured() if cache.add(f"balance-asked:{name}", True, BALANCE_KEPT_S)]


def _execute(statement: str, values: dict[str, Any]) -> int:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.rowcount


def _stored(name: str, value: Any) -> Any:
    field: Any = UpstreamState._meta.get_field(name)
    return field.get_db_prep_save(value, connection)
