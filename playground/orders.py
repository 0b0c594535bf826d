"""What people ask for: a run and its jobs, one job once more, a preview to keep. All of it or none, with its money.

What becomes of a job afterwards is `playground.jobs`.
"""

import secrets
import uuid
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.core.exceptions import NON_FIELD_ERRORS
from django.db import IntegrityError, transaction
from django.utils import timezone

from accounts import ledger, rows
from accounts.models import ApiKey, Hold, Transfer, User, Wallet
from playground import catalog, drives, images, jobs, prices, tally, upstreams
from playground.ids import new_id
from playground.models import Job, JobEvent, Picture, Route, Run, RunInput, Upload, Variant

MAX_COUNT = 4
MAX_COUNT_OF_CALL = 10  # of the API's, as OpenAI's clients ask for
MAX_PICTURES = 48
MAX_SEED = 2**32 - 1
LOOKED_WITHIN_S = 1.0  # at the drives


class NotPossible(Exception):
    """What was asked for cannot be made. `field` names the form's field; the text is for people.

    `is_ours`: the trouble is the house's, and may be over later.
    """

    def __init__(self, field: str, message: str, *, is_ours: bool = False) -> None:
        self.field = field
        self.is_ours = is_ours
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Call:
    """How the API was asked for a run. `asked` is the body as it came, `job_ids` has one for each picture.

    `sources`: addresses of input pictures that are not here yet; the engine fetches them before it sends the job.
    `outcome`: how a test key wants the sandbox to end, in the sandbox's words.
    """

    key: ApiKey
    asked: dict[str, Any]
    job_ids: Sequence[uuid.UUID] = field(default_factory=lambda: [new_id()])
    callback_url: str = ""
    sources: tuple[str, ...] = ()
    outcome: str = ""


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
    priced: datetime | None = None,
) -> Run:
    """Makes the run, its jobs and their holds, all of it or none. The same `nonce` gives the same run again.

    `priced`: when the person was shown the price; where it has risen since, they are asked again.

    The variants come from `catalog`, with their prices, and `inputs` are the person's own. Raises NotPossible, or a
    ledger.Refusal.
    """
    if known := Run.objects.filter(user=user, nonce=nonce).first():
        return known
    if priced and pay == Run.Pay.CREDITS and (dearer := prices.risen(variants, priced)):
        raise NotPossible("variants", dearer)
    run = Run(
        user=user,
        prompt=prompt,
        aspect_ratio=aspect_ratio,
        count=count,
        seed=seed,
        pay=Run.Pay(pay),
        nonce=nonce,
    )
    made = _jobs_of(run, variants, inputs)
    try:
        with transaction.atomic():
            _write(run, made, inputs)
    except IntegrityError:
        if known := Run.objects.filter(user=user, nonce=nonce).first():
            return known
        raise
    return run


def submit_call(
    call: Call,
    *,
    prompt: str,
    variant: Variant,
    aspect_ratio: str,
    seed: int | None,
    inputs: Sequence[Upload] = (),
) -> list[Job]:
    """What a call of the API makes, paid with credits, inside the caller's transaction. Raises as `submit_run` does."""
    run = Run(
        user=call.key.user,
        prompt=prompt,
        aspect_ratio=aspect_ratio,
        count=len(call.job_ids),
        seed=seed,
        pay=Run.Pay.CREDITS,
        nonce=uuid.uuid4().hex,
    )
    made = _jobs_of(run, [variant], inputs, call)
    _attach(run, inputs)
    _hold_and_queue(run.user, made, call.key, run)
    return made


def _jobs_of(
    run: Run, variants: Sequence[Variant], inputs: Sequence[Upload], call: Call | None = None
) -> list[Job]:
    """The unsaved jobs of a run that can be made."""
    _check_space()
    _check(run, variants, len(inputs) + len(call.sources if call else ()))
    _check_count(run.count, MAX_COUNT_OF_CALL if call else MAX_COUNT)
    first_seed = secrets.randbelow(MAX_SEED - MAX_COUNT_OF_CALL) if run.seed is None else run.seed
    return [
        _new_job(run, variant, ordinal, _params(run, variant, first_seed + ordinal, inputs, call), call)
        for variant in variants
        for ordinal in range(run.count)
    ]


def _write(run: Run, made: Sequence[Job], inputs: Sequence[Upload]) -> None:
    rows.insert(run)  # first, where the same form waits that was sent twice
    _attach(run, inputs)
    _hold_and_queue(run.user, made)


def _check_space() -> None:
    if not images.has_space():
        full = "The house's disk is nearly full; nothing was made and nothing charged. Try again later."
        raise NotPossible(NON_FIELD_ERRORS, full, is_ours=True)


def _attach(run: Run, inputs: Sequence[Upload]) -> None:
    """Touched first, so that whoever is about to remove one of them either sees this run or was faster."""
    if not inputs:
        return
    own = Upload.objects.visible_to(run.user).stored().filter(pk__in=[upload.pk for upload in inputs])
    if own.update(last_used=timezone.now()) != len(inputs):
        raise NotPossible("inputs", "An input picture is not there any more. Add it again.")
    RunInput.objects.bulk_create(
        RunInput(run=run, upload=upload, position=position) for position, upload in enumerate(inputs)
    )


def _check(run: Run, variants: Sequence[Variant], inputs: int) -> None:
    prompt, count, seed = run.prompt, run.count, run.seed
    if not variants:
        raise NotPossible("variants", "Choose at least one variant.")
    if len(variants) * count > MAX_PICTURES:
        message = f"One run makes at most {MAX_PICTURES} pictures, and this would be {len(variants) * count}."
        raise NotPossible("variants", message)
    if seed is not None and not 0 <= seed <= MAX_SEED:
        raise NotPossible("seed", f"A seed is a whole number from 0 to {MAX_SEED}.")
    if "\x00" in prompt:
        raise NotPossible("prompt", "The prompt has a character in it that cannot be sent.")
    for variant in variants:
        _check_variant(variant, prompt, run.aspect_ratio, inputs)


def _check_count(count: int, most: int) -> None:
    if not 1 <= count <= most:
        raise NotPossible("count", f"Choose 1 to {most} pictures per variant.")


def _check_variant(variant: Variant, prompt: str, aspect_ratio: str, inputs: int) -> None:
    if reason := catalog.why_not(variant, inputs=None):
        raise NotPossible("variants", f"{variant.label}: {reason}", is_ours=True)
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


def _params(
    run: Run, variant: Variant, seed: int, inputs: Sequence[Upload], call: Call | None
) -> dict[str, Any]:
    """What a job asks for. Pictures of one ordinal share a seed, so that they compare."""
    params: dict[str, Any] = {"prompt": run.prompt.strip(), "resolution": variant.resolution}
    if call and call.sources:
        params["sources"] = list(call.sources)
    if run.aspect_ratio == catalog.AUTO and "sources" in params:
        params |= shape(variant, catalog.AUTO, ())  # square, until the first input is here
        params["follows_input"] = True
    else:
        params |= shape(variant, run.aspect_ratio, inputs)
    if catalog.takes_seed(variant):
        params["seed"] = seed % (MAX_SEED + 1)
    if inputs:
        params["inputs"] = [str(upload.pk) for upload in inputs]
    return params


def shape(variant: Variant, ratio: str, inputs: Sequence[Upload]) -> dict[str, Any]:
    """The aspect ratio and pixels of a job: of its first input where the ratio is to follow that."""
    if ratio == catalog.AUTO:
        size = (inputs[0].width, inputs[0].height) if inputs else (1, 1)
        ratio = catalog.nearest_ratio(variant, *size)
    width, height = catalog.size(ratio, variant.resolution)
    return {"aspect_ratio": ratio, "width": width, "height": height}


def _new_job(
    run: Run, variant: Variant, ordinal: int, params: dict[str, Any], call: Call | None = None
) -> Job:
    """An unsaved job, with the price of this moment."""
    is_test = call is not None and call.key.is_test
    route = _test_route(variant, call) if call and is_test else catalog.route_for(variant)
    if route is None:
        why = catalog.why_not(variant, inputs=None)
        raise NotPossible("variants", f"{variant.label}: {why}", is_ours=True)
    now = timezone.now()
    return Job(
        pk=call.job_ids[ordinal] if call else new_id(),
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
        key=call.key if call else None,
        is_test=is_test,
        asked=call.asked if call else None,
        callback_url=call.callback_url if call else "",
    )


def _test_route(variant: Variant, call: Call) -> Route:
    """A test key's jobs are drawn here, whatever upstreams there are, and cost nobody anything."""
    fixed = {"ending": call.outcome} if call.outcome else {}
    return Route(variant=variant, provider=upstreams.SANDBOX, upstream_model=variant.slug, fixed=fixed)


def _hold_and_queue(
    user: User, made: Sequence[Job], key: ApiKey | None = None, run: Run | None = None
) -> None:
    """Holds what the jobs will cost, writes them, and asks for a drive: inside the caller's transaction.

    `run`: theirs, where it is not written yet.
    """
    for job, held in _holds(user, made, key):
        job.hold = held
    written = [made, [JobEvent(job=job, state=job.state) for job in made]]
    rows.together([rows.inserting(of_one) for of_one in ([[run], *written] if run else written)])
    drives.ensure(looked_within_s=LOOKED_WITHIN_S)


def _holds(user: User, made: Sequence[Job], key: ApiKey | None) -> list[tuple[Job, Hold]]:
    """One hold a job: a preview's is paid by the house, the others' by the person. Equal amounts go in one call.

    What a test key ordered is for nothing.
    """
    if made[0].is_test:
        promises = [ledger.Promise(f"job:{job.pk}", 0, jobs.memo(job)) for job in made]
        return list(zip(made, ledger.hold_inside(ledger.wallet_of(user), promises), strict=True))
    limits: Callable[[int], list[ledger.Limit]]
    windows: Mapping[ledger.Begun, ledger.Seen] = {}
    if made[0].is_preview:
        wallet, limits = ledger.house(Wallet.House.PREVIEW), partial(ledger.preview_limits, user)
    else:
        account, total = ledger.account(user, key), sum(job.price_micros for job in made)
        wallet, limits, windows = account.wallet, account.limits, account.windows
        if wallet.available < total:
            raise ledger.NotEnoughCredit(needed=total, available=wallet.available)
    by_amount: dict[int, list[Job]] = defaultdict(list)
    for job in made:
        by_amount[job.cost_micros if job.is_preview else job.price_micros].append(job)
    pairs: list[tuple[Job, Hold]] = []
    for amount, group in by_amount.items():
        promises = [ledger.Promise(f"job:{job.pk}", amount, jobs.memo(job)) for job in group]
        pairs += zip(group, ledger.hold_inside(wallet, promises, limits(amount), windows), strict=True)
    return pairs


def retry(job: Job) -> Job:
    """A failed or cancelled job once more, at the price of now. A second call gives the same new job.

    Also where nothing more could be ordered by now: the credits may be held by that very job.
    """
    if known := Job.objects.filter(retry_of=job).first():
        return known
    if job.is_test:
        raise NotPossible("job", "What a test key made is asked for again through the API.")
    if job.state not in (Job.State.FAILED, Job.State.CANCELLED):
        raise NotPossible("job", "Only a picture that failed or was cancelled can be tried again.")
    _check_space()
    variant = next(iter(catalog.by_slugs([job.variant.slug])), None)
    inputs, sources = job.params.get("inputs", []), job.params.get("sources", [])
    if variant is None or catalog.why_not(variant, inputs=len(inputs) + len(sources)):
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
