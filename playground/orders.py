"""What people ask for: a run and its jobs, one job once more, a preview to keep. All of it or none, with its money.

What becomes of a job afterwards is `playground.jobs`.
"""

import secrets
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import ledger
from accounts.models import Hold, Transfer, User, Wallet
from playground import catalog, drives, images, jobs, tally
from playground.models import Job, JobEvent, Picture, Run, RunInput, Upload, Variant

MAX_COUNT = 4
MAX_PICTURES = 48
MAX_SEED = 2**32 - 1


class NotPossible(Exception):
    """What was asked for cannot be made. `field` names the form's field; the text is for people."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


def submit_run(
    user: User,
    *,
    prompt: str,
    variants: Sequence[Variant],
    aspect_ratio: str,
    count: int,
    seed: int | None,
    pay: str,
    nonce: str,
    inputs: Sequence[Upload] = (),
) -> Run:
    """Makes the run, its jobs and their holds, all of it or none. The same `nonce` gives the same run again.

    The variants come from `catalog`, with their prices, and `inputs` are the person's own. Raises NotPossible, or a
    ledger.Refusal.
    """
    if known := Run.objects.filter(user=user, nonce=nonce).first():
        return known
    _check_space()
    _check(prompt, variants, aspect_ratio, count, seed, inputs)
    run = Run(
        user=user,
        prompt=prompt,
        aspect_ratio=aspect_ratio,
        count=count,
        seed=seed,
        pay=Run.Pay(pay),
        nonce=nonce,
    )
    first_seed = secrets.randbelow(MAX_SEED - MAX_COUNT) if seed is None else seed
    made = [
        _new_job(run, variant, ordinal, _params(run, variant, first_seed + ordinal, inputs))
        for variant in variants
        for ordinal in range(count)
    ]
    try:
        with transaction.atomic():
            run.save(force_insert=True)
            _attach(run, inputs)
            _hold_and_queue(user, made)
    except IntegrityError:
        if known := Run.objects.filter(user=user, nonce=nonce).first():
            return known
        raise
    return run


def _check_space() -> None:
    if not images.has_space():
        full = "The house's disk is nearly full; nothing was made and nothing charged. Try again later."
        raise NotPossible(NON_FIELD_ERRORS, full)


def _attach(run: Run, inputs: Sequence[Upload]) -> None:
    """Touched first, so that whoever is about to remove one of them either sees this run or was faster."""
    own = Upload.objects.visible_to(run.user).stored().filter(pk__in=[upload.pk for upload in inputs])
    if own.update(last_used=timezone.now()) != len(inputs):
        raise NotPossible("inputs", "An input picture is not there any more. Add it again.")
    RunInput.objects.bulk_create(
        RunInput(run=run, upload=upload, position=position) for position, upload in enumerate(inputs)
    )


def _check(
    prompt: str,
    variants: Sequence[Variant],
    aspect_ratio: str,
    count: int,
    seed: int | None,
    inputs: Sequence[Upload],
) -> None:
    if not variants:
        raise NotPossible("variants", "Choose at least one variant.")
    if not 1 <= count <= MAX_COUNT:
        raise NotPossible("count", f"Choose 1 to {MAX_COUNT} pictures per variant.")
    if len(variants) * count > MAX_PICTURES:
        message = f"One run makes at most {MAX_PICTURES} pictures, and this would be {len(variants) * count}."
        raise NotPossible("variants", message)
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise NotPossible("seed", f"A seed is a whole number from 0 to {MAX_SEED}.")
    if "\x00" in prompt:
        raise NotPossible("prompt", "The prompt has a character in it that cannot be sent.")
    for variant in variants:
        _check_variant(variant, prompt, aspect_ratio, len(inputs))


def _check_variant(variant: Variant, prompt: str, aspect_ratio: str, inputs: int) -> None:
    if reason := catalog.why_not(variant, inputs=None):
        raise NotPossible("variants", f"{variant.label}: {reason}")
    if refusal := catalog.refusal_of_inputs(variant, inputs):
        raise NotPossible("inputs", f"{variant.label} {refusal}.")
    if aspect_ratio == catalog.AUTO and not inputs:
        raise NotPossible("aspect_ratio", "The shape follows the first input picture, and there is none.")
    if aspect_ratio not in variant.aspect_ratios and aspect_ratio != catalog.AUTO:
        takes = ", ".join(variant.aspect_ratios)
        raise NotPossible("aspect_ratio", f"{variant.label} does not make {aspect_ratio}. It makes {takes}.")
    bounds = variant.parameters.get("prompt", {})
    least, most = bounds.get("min", 1), bounds.get("max", 5000)
    if not least <= len(prompt.strip()) <= most:
        raise NotPossible("prompt", f"{variant.label} takes a prompt of {least} to {most:,} characters.")


def _params(run: Run, variant: Variant, seed: int, inputs: Sequence[Upload]) -> dict[str, Any]:
    """What a job asks for. Pictures of one ordinal share a seed, so that they compare."""
    ratio = run.aspect_ratio
    if ratio == catalog.AUTO:
        ratio = catalog.nearest_ratio(variant, inputs[0].width, inputs[0].height)
    width, height = catalog.size(ratio, variant.resolution)
    params: dict[str, Any] = {
        "prompt": run.prompt.strip(),
        "aspect_ratio": ratio,
        "resolution": variant.resolution,
        "width": width,
        "height": height,
    }
    if catalog.takes_seed(variant):
        params["seed"] = seed % (MAX_SEED + 1)
    if inputs:
        params["inputs"] = [str(upload.pk) for upload in inputs]
    return params


def _new_job(run: Run, variant: Variant, ordinal: int, params: dict[str, Any]) -> Job:
    """An unsaved job, with the price of this moment."""
    route = catalog.route_for(variant)
    if route is None:
        raise NotPossible("variants", f"{variant.label}: {catalog.why_not(variant, inputs=None)}")
    now = timezone.now()
    return Job(
        run=run,
        user=run.user,
        variant=variant,
        ordinal=ordinal,
        params=params,
        is_preview=run.pay == Run.Pay.PREVIEW,
        price_micros=catalog.price_of(variant),
        cost_micros=route.cost_micros,
        provider=route.provider,
        upstream_model=route.upstream_model,
        upstream_fixed=route.fixed,
        created=now,
        next_look=now,
        deadline=now + timedelta(seconds=settings.JOB_DEADLINE_S),
    )


def _hold_and_queue(user: User, made: Sequence[Job]) -> None:
    """Holds what the jobs will cost, writes them, and asks for a drive: inside the caller's transaction."""
    for job, held in _holds(user, made):
        job.hold = held
    Job.objects.bulk_create(made)
    JobEvent.objects.bulk_create(JobEvent(job=job, state=job.state) for job in made)
    drives.ensure()


def _holds(user: User, made: Sequence[Job]) -> list[tuple[Job, Hold]]:
    """One hold a job: a preview's is paid by the house, the others' by the person. Equal amounts go in one call."""
    is_preview = made[0].is_preview
    wallet = ledger.house(Wallet.House.PREVIEW) if is_preview else ledger.wallet_of(user)
    total = sum(job.price_micros for job in made)
    if not is_preview and wallet.available < total:
        raise ledger.NotEnoughCredit(needed=total, available=wallet.available)
    by_amount: dict[int, list[Job]] = defaultdict(list)
    for job in made:
        by_amount[job.cost_micros if is_preview else job.price_micros].append(job)
    pairs: list[tuple[Job, Hold]] = []
    for amount, group in by_amount.items():
        limits = ledger.preview_limits(user, amount) if is_preview else ledger.account_limits(user, amount)
        promises = [ledger.Promise(f"job:{job.pk}", amount, jobs.memo(job)) for job in group]
        pairs += zip(group, ledger.hold(wallet, promises, limits), strict=True)
    return pairs


def retry(job: Job) -> Job:
    """A failed or cancelled job once more, at the price of now. A second call gives the same new job.

    Also where nothing more could be ordered by now: the credits may be held by that very job.
    """
    if known := Job.objects.filter(retry_of=job).first():
        return known
    if job.state not in (Job.State.FAILED, Job.State.CANCELLED):
        raise NotPossible("job", "Only a picture that failed or was cancelled can be tried again.")
    _check_space()
    variant = next(iter(catalog.by_slugs([job.variant.slug])), None)
    inputs = job.params.get("inputs", [])
    if variant is None or catalog.why_not(variant, inputs=len(inputs)):
        raise NotPossible("job", f"{job.variant.label} cannot be ordered at the moment.")
    if Upload.objects.stored().filter(pk__in=inputs).count() < len(inputs):
        raise NotPossible("job", jobs.EXPLAINED["input_gone"])
    again = _new_job(job.run, variant, job.ordinal, job.params)
    again.retry_of = job
    try:
        with transaction.atomic():
            _hold_and_queue(job.user, [again])
    except (IntegrityError, ledger.Refusal):  # two clicks at once: the other one has the credits
        if known := Job.objects.filter(retry_of=job).first():
            return known
        raise
    return again


def keep(picture: Picture) -> bool:
    """Unlocks a preview's original for the price that was shown. False where it is unlocked already: charged once.

    Raises a ledger.Refusal, and then nothing has changed.
    """
    job = picture.job
    with transaction.atomic():
        locked = Picture.objects.filter(pk=picture.pk, is_locked=True, deleted__isnull=True)
        at = timezone.now()
        if not locked.update(is_locked=False, kept=at):
            return False
        whose = {"user_id": picture.user_id, "variant_id": picture.variant_id}
        tally.count_kept(**whose, at=at, micros=job.price_micros)
        promise = ledger.Promise(f"keep:{picture.pk}", job.price_micros, jobs.memo(job))
        limits = ledger.account_limits(picture.user, job.price_micros)
        [held] = ledger.hold(ledger.wallet_of(picture.user), [promise], limits)
        ledger.capture(held.pk, to=ledger.house(Wallet.House.REVENUE), kind=Transfer.Kind.KEEP, at=at)
    return True
