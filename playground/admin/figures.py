"""What the operator sees first: how the house stands at this moment. Reads only.

Every question is bounded, by an index that knows what is open, or by the rows of one day: it costs the same with a
million jobs as with a thousand.
"""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from django.conf import settings
from django.db.models import Count, Min, Q, Sum
from django.utils import timezone

from accounts import credits, ledger
from accounts.models import Cap, Hold, StripeEvent, TopUp, User, Wallet
from playground import drives, health, images, jobs
from playground.models import AuditRun, Job, Report, Switch

LATE = timedelta(hours=1)  # a hold that is open for longer than any job may take
NIGHTLY = timedelta(hours=30)  # an audit older than this is missing
NEARLY = 90  # percent of a budget


@dataclass(frozen=True)
class Jobs:
    """Those that are open. `waiting_since`: the oldest of those that nobody has begun."""

    waiting: int
    running: int
    overdue: int
    waiting_since: datetime | None


@dataclass(frozen=True)
class Failures:
    """Of today, the most frequent first; `is_more`: there are more than were counted."""

    reasons: list[tuple[str, str, int]]
    total: int
    is_more: bool


@dataclass(frozen=True)
class Held:
    """Micro-dollars that are promised and not yet taken."""

    people: int
    house: int
    count: int
    oldest: Hold | None

    @property
    def is_late(self) -> bool:
        return self.oldest is not None and self.oldest.created < timezone.now() - LATE


@dataclass(frozen=True)
class Budget:
    """Of a UTC day; `used` is spent and reserved together. Micro-dollars."""

    words: str
    subject: str
    used: int
    limit: int

    @property
    def percent(self) -> int:
        return min(100 * self.used // self.limit, 100) if self.limit else 100

    @property
    def is_spent(self) -> bool:
        return self.used >= self.limit

    @property
    def is_nearly(self) -> bool:
        return not self.is_spent and self.percent >= NEARLY


@dataclass(frozen=True)
class Audit:
    """The last that ended, the last that broke off since, and the one that is under way."""

    last: AuditRun | None
    broken: AuditRun | None
    now: AuditRun | None

    @property
    def is_old(self) -> bool:
        return (
            self.last is not None
            and self.last.ended is not None
            and self.last.ended < timezone.now() - NIGHTLY
        )


def midnight(now: datetime) -> datetime:
    return datetime.combine(now.astimezone(UTC).date(), time(), UTC)


# --- Jobs and upstreams -------------------------------------------------------------------------------
def open_jobs(now: datetime) -> Jobs:
    waits = Q(state=Job.State.QUEUED)
    found = Job.objects.open().aggregate(
        waiting=Count("pk", filter=waits),
        running=Count("pk", filter=~waits),
        overdue=Count("pk", filter=Q(deadline__lt=now)),
        since=Min("created", filter=waits),
    )
    return Jobs(found["waiting"], found["running"], found["overdue"], found["since"])


def failures(upstreams: list[health.Health]) -> Failures:
    counted: Counter[str] = Counter()
    for one in upstreams:
        counted.update(dict(one.failures_today))
    reasons = [
        (code, jobs.EXPLAINED.get(code, code.replace("_", " ")), count)
        for code, count in counted.most_common()
    ]
    return Failures(reasons, counted.total(), any(one.has_more_failures for one in upstreams))


# --- Money --------------------------------------------------------------------------------------------
def held() -> Held:
    """From the open holds themselves, which the audit holds against the wallets."""
    still = Hold.objects.filter(state=Hold.State.OPEN)
    found = still.aggregate(
        people=Sum("amount", filter=Q(wallet__user__isnull=False)),
        house=Sum("amount", filter=Q(wallet__user__isnull=True)),
        count=Count("pk"),
        oldest=Min("pk"),
    )
    oldest = Hold.objects.filter(pk=found["oldest"]).first() if found["oldest"] else None
    return Held(int(found["people"] or 0), int(found["house"] or 0), found["count"], oldest)


def owed_to_people() -> int:
    """All credits that people have and have not spent: what the house's few wallets are short of, for all sum to 0."""
    house = Wallet.objects.filter(name__in=Wallet.House.values).aggregate(of=Sum("posted"))["of"]
    return -int(house or 0)


def budgets(now: datetime) -> list[Budget]:
    known = [
        ("Free previews", ledger.PREVIEW_BUDGET, settings.PREVIEW_BUDGET_MICROS_PER_DAY),
        ("Welcome credits", ledger.SIGNUP_BUDGET, settings.SIGNUP_BUDGET_MICROS_PER_DAY),
    ]
    used = {subject: ledger.usage(subject, Cap.Window.DAY, now) for _, subject, _ in known}
    return [
        Budget(words, subject, used[subject].spent + used[subject].reserved, limit)
        for words, subject, limit in known
    ]


# --- The audit ----------------------------------------------------------------------------------------
def audit() -> Audit:
    runs = AuditRun.objects.order_by("-pk")
    last = runs.filter(state=AuditRun.State.ENDED).first()
    broken = runs.filter(state=AuditRun.State.BROKEN, pk__gt=last.pk if last else 0).first()
    under_way = runs.filter(state__in=[AuditRun.State.ASKED, AuditRun.State.RUNNING]).first()
    return Audit(last, broken, under_way)


# --- What somebody should look at ---------------------------------------------------------------------
@dataclass(frozen=True)
class Worry:
    """`page` is a name of the admin's, `query` what to ask it."""

    words: str
    page: str
    query: str = ""


def worries(user: User, now: datetime, upstreams: list[health.Health], open_now: Jobs) -> list[Worry]:
    """What is wrong, the gravest first, each to those who may see its page."""
    found = [
        ("playground.view_job", [*_engine(), *_of_jobs(open_now)]),
        ("playground.view_upstream", _of_upstreams(upstreams)),
        ("playground.view_auditrun", _of_audit(audit())),
        ("accounts.view_transfer", _of_money(now)),
        ("accounts.view_topup", _of_purchases()),
        ("playground.view_report", _of_reports()),
    ]
    return [worry for permission, some in found if user.has_perm(permission) for worry in some]


def _engine() -> list[Worry]:
    worries = []
    off = Switch.objects.filter(name=jobs.DISPATCH, is_on=False).first()
    if off:
        worries.append(Worry(f"Nothing is sent upstream: {off.reason}", "playground_switch_changelist"))
    if not drives.alive().exists():
        worries.append(
            Worry("No worker is alive, so nothing is being made.", "playground_drivebeat_changelist")
        )
    if not images.has_space():
        worries.append(
            Worry("The disk is nearly full: new jobs are refused.", "playground_picture_changelist")
        )
    return worries


def _of_jobs(open_now: Jobs) -> list[Worry]:
    if not open_now.overdue:
        return []
    are = "1 job is" if open_now.overdue == 1 else f"{open_now.overdue:,} jobs are"
    return [Worry(f"{are} open past the deadline.", "playground_job_changelist", "?now=overdue")]


def _of_upstreams(upstreams: list[health.Health]) -> list[Worry]:
    at = "playground_upstream_health"
    said = {
        "open": "is not asked after failures in a row",
        "probing": "is tried again after failures in a row",
    }
    of_circuits = [
        Worry(f"The upstream {one.name} {said[one.circuit]}.", at) for one in upstreams if one.circuit in said
    ]
    spent = [one for one in upstreams if one.is_spent]
    return of_circuits + [
        Worry(f"The upstream {one.name} has reached its limit for today.", at) for one in spent
    ]


def _of_audit(known: Audit) -> list[Worry]:
    at = "playground_auditrun_changelist"
    if known.last and known.last.found:
        things = "1 thing" if known.last.found == 1 else f"{known.last.found:,} things"
        return [Worry(f"The audit found {things} that do not add up.", at)]
    if known.broken:
        return [Worry("The last audit broke off before it was through.", at)]
    return [Worry("No audit has ended for more than a day.", at)] if known.is_old else []


def _of_purchases() -> list[Worry]:
    late = TopUp.objects.paid_by_nobody().count()
    if not late:
        return []
    were = "1 purchase was" if late == 1 else f"{late:,} purchases were"
    words = f"{were} paid after the account was closed or suspended: look whether to pay it back in Stripe."
    return [Worry(words, "accounts_topup_changelist", "?late=1")]


def _of_money(now: datetime) -> list[Worry]:
    late = held()
    found = []
    if late.is_late:
        found.append(
            Worry(
                "A hold is open for longer than any job takes.",
                "accounts_hold_changelist",
                "?state__exact=open",
            )
        )
    found += [
        Worry(
            f"{one.words}: today's budget of {credits.usd(one.limit)} is used up.",
            "accounts_capwindow_changelist",
            f"?q={one.subject}",
        )
        for one in budgets(now)
        if one.is_spent and one.limit
    ]
    odd = StripeEvent.objects.filter(handled__isnull=True).exclude(problem="")[:100].count()
    if odd:
        words = f"{odd} message{'' if odd == 1 else 's'} about payments could not be handled."
        found.append(Worry(words, "accounts_stripeevent_changelist"))
    return found


def _of_reports() -> list[Worry]:
    reports = Report.objects.filter(outcome=Report.Outcome.OPEN)[:1000].count()
    words = f"{reports} report{'' if reports == 1 else 's'} of shared pages {'is' if reports == 1 else 'are'} open."
    return [Worry(words, "playground_report_changelist")] if reports else []
