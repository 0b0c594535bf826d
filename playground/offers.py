"""Whether an account can have what it is about to ask for, and the nearest thing it can have.

A look before the click, for people: it refuses nothing. What is refused is refused by `accounts.ledger`, in the
same words.
"""

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from accounts import caps, credits, ledger
from accounts.models import Cap, User
from playground import catalog
from playground.models import Job, Run, Upload, Variant


@dataclass(frozen=True)
class Fit:
    """A smaller or differently paid choice that would be accepted, and what to call it."""

    label: str
    variants: tuple[Variant, ...]
    count: int
    pay: str


@dataclass(frozen=True)
class Bound:
    """A limit and what is used of it already."""

    limit: ledger.Limit
    used: int

    @property
    def left(self) -> int | None:
        return None if self.limit.limit is None else max(self.limit.limit - self.used, 0)


class Allowance:
    """What one account may spend at this moment: a snapshot, so that many choices can be tried without a query."""

    def __init__(self, user: User) -> None:
        self.now: datetime = timezone.now()
        account = ledger.account(user)
        self.available = account.wallet.available
        free = ledger.preview_limits(user, 0)
        self.budget, self.previews = map(Bound, free, ledger.used(free, self.now))
        own = [Bound(limit, account.used(limit, self.now)) for limit in account.limits(0)]
        self.caps = [bound for bound in own if bound.limit.limit is not None]
        self.warnings = [bound for bound in own if bound.limit.warn_at is not None]

    def refusal(self, variants: Sequence[Variant], count: int, pay: str) -> ledger.Refusal | None:
        """What the ledger would say to this run, or None."""
        asked = catalog.quote(variants, count)
        if pay == Run.Pay.PREVIEW:
            return self._past(self.previews, asked.pictures) or self._past(self.budget, asked.cost_micros)
        if asked.micros > self.available:
            return ledger.NotEnoughCredit(needed=asked.micros, available=self.available)
        dearest = max(catalog.price_of(variant) for variant in variants)
        refusals = (
            self._past(cap, dearest if cap.limit.window == Cap.Window.JOB else asked.micros)
            for cap in self.caps
        )
        return next((refusal for refusal in refusals if refusal), None)

    def warning(self, variants: Sequence[Variant], count: int, pay: str) -> str:
        """Which of the person's own warnings this run would pass, in words; nothing is refused because of it."""
        if pay == Run.Pay.PREVIEW or not self.warnings or not variants:
            return ""
        micros = catalog.quote(variants, count).micros
        dearest = max(catalog.price_of(variant) for variant in variants)
        passed = (
            _warning(bound, dearest if bound.limit.window == Cap.Window.JOB else micros)
            for bound in self.warnings
        )
        return next((said for said in passed if said), "")

    def _past(self, bound: Bound, asked: int) -> ledger.CapReached | None:
        if bound.left is None or asked <= bound.left:
            return None
        return ledger.CapReached(bound.limit, used=bound.used, asked=asked, now=self.now)

    def nearest(self, variants: Sequence[Variant], count: int, pay: str) -> list[Fit]:
        """The largest smaller run paid the same way, and the whole run paid the other way, where they fit."""
        smaller = next((fit for fit in _smaller(variants, count, pay) if self._fits(fit)), None)
        other = _paid_otherwise(variants, count, pay)
        return [fit for fit in (smaller, other) if fit and self._fits(fit)]

    def _fits(self, fit: Fit) -> bool:
        return self.refusal(fit.variants, fit.count, fit.pay) is None


def _warning(bound: Bound, asked: int) -> str:
    limit, warn_at = bound.limit, bound.limit.warn_at
    if warn_at is None or bound.used + asked <= warn_at:
        return ""
    told = f"the {credits.usd(warn_at)} that you asked to be warned at."
    if limit.window == Cap.Window.JOB:
        return f"One of these pictures costs {credits.usd(asked)}, more than {told}"
    when = caps.now_in_words(limit.window)
    return f"This makes it {credits.usd(bound.used + asked)} {when}, more than {told}"


@dataclass(frozen=True)
class Retry:
    """Whether a job can be had once more: what the button says, or why there is none."""

    button: str = ""
    why_not: str = ""


def retries(ended: Sequence[Job]) -> dict[uuid.UUID, Retry]:
    """For each job that has ended: the deed and what it costs today, or why it cannot be. Three queries."""
    slugs = {job.variant.slug for job in ended}
    on_offer = {variant.pk: variant for variant in catalog.by_slugs(slugs)} if slugs else {}
    wanted = {pk for job in ended for pk in job.params.get("inputs", [])}
    stored = Upload.objects.stored().filter(pk__in=wanted).values_list("pk", flat=True) if wanted else ()
    there = {str(pk) for pk in stored}
    return {job.pk: _retry(job, on_offer.get(job.variant_id), there) for job in ended}


def _retry(job: Job, variant: Variant | None, there: set[str]) -> Retry:
    if job.is_test:
        return Retry(why_not="It was made with a test key.")
    inputs, sources = job.params.get("inputs", []), job.params.get("sources", [])
    if not there.issuperset(inputs):
        return Retry(why_not="Its input picture has been removed.")
    if variant is None or catalog.why_not(variant, inputs=len(inputs) + len(sources)):
        return Retry(why_not=f"{job.variant.label} cannot be ordered at the moment.")
    deed = "Try again" if job.state == Job.State.FAILED else "Make it after all"
    price = "free preview" if job.is_preview else f"{credits.credits(catalog.price_of(variant))} credits"
    return Retry(button=f"{deed}: {price}")


def taking(
    inputs: int, chosen: Sequence[Variant], on_offer: Sequence[Variant], count: int, pay: str
) -> list[Fit]:
    """The same run by variants that take that many input pictures: each that does not gives way to its like."""
    able = [variant for variant in on_offer if not catalog.why_not(variant, inputs=inputs)]
    kept = [variant for variant in chosen if variant in able]
    refusing = [variant for variant in chosen if variant not in able]
    likes = [like for like in (_like(variant, able) for variant in refusing) if like and like not in kept]
    added = list(dict.fromkeys(likes)) or ([] if kept else able[:1])
    if added:
        label = f"Use {_names(added)} instead"
    elif kept:
        label = f"Leave out {_names(refusing)}"
    else:
        return []
    return [Fit(label, tuple(variant for variant in able if variant in kept or variant in added), count, pay)]


def _like(variant: Variant, able: Sequence[Variant]) -> Variant | None:
    """The same model at the same resolution, for the other kind of work."""
    kin = (variant.maker, variant.family, variant.resolution)
    return next((other for other in able if (other.maker, other.family, other.resolution) == kin), None)


def _names(variants: Sequence[Variant]) -> str:
    return (
        " and ".join(variant.label for variant in variants)
        if len(variants) <= 2
        else f"{len(variants)} others"
    )


def _smaller(variants: Sequence[Variant], count: int, pay: str) -> Iterator[Fit]:
    """Fewer pictures of each first, for the comparison is the point; then without the dearest variants."""
    for fewer in range(count - 1, 0, -1):
        yield Fit(f"Make only {fewer} of each", tuple(variants), fewer, pay)
    for kept in range(len(variants) - 1, 0, -1):
        for fewer in range(count, 0, -1):
            names = " and ".join(variant.label for variant in variants[:kept])
            what = names if kept <= 2 else f"the {kept} cheapest variants"
            times = f", {fewer} of each" if fewer > 1 else ""
            yield Fit(f"Make only {what}{times}", tuple(variants[:kept]), fewer, pay)


def _paid_otherwise(variants: Sequence[Variant], count: int, pay: str) -> Fit:
    if pay == Run.Pay.CREDITS:
        return Fit("Make free previews instead", tuple(variants), count, Run.Pay.PREVIEW)
    price = credits.both(catalog.quote(variants, count).micros)
    return Fit(f"Pay {price} instead", tuple(variants), count, Run.Pay.CREDITS)
