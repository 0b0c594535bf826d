"""From a call to an order: which variant, at which price, and what a test key wants to happen."""

import difflib
import uuid
from collections.abc import Sequence
from typing import Any

from accounts import ledger
from playground import catalog, orders, turnstile
from playground.api import auth
from playground.api.auth import Caller
from playground.api.errors import Problem
from playground.models import Job, Upload, Variant

OUTCOMES = {
    "success": "done",
    "slow": "slow",
    "moderated": "moderated",
    "upstream_error": "fail",
    "webhook_failure": "done",
    "insufficient_credits": "",
    "rate_limit": "",
}
# Beside the header, for clients that cannot set one: words in the prompt of a test key's call.
OUTCOME_WORDS = {f"[{name.replace('_', ' ')}]": name for name in OUTCOMES}
PARAMS = {
    "variants": "model",
    "prompt": "input.prompt",
    "aspect_ratio": "input.aspect_ratio",
    "inputs": "input.input_urls",
    "seed": "input.seed",
    "count": "n",
    "output_format": "input.output_format",
}
FORMATS = {"png": "png", "jpeg": "jpeg", "jpg": "jpeg", "webp": "webp"}
_SHOWN = 64  # characters of a data: URL, in what is kept of a call


def variant_of(name: str, resolution: str, *, has_inputs: bool, param: str = "input.resolution") -> Variant:
    """The variant that a name and a resolution mean. Raises Problem."""
    on_offer = catalog.on_offer()
    wanted = resolution.strip().upper()
    found = [variant for variant in on_offer if variant.slug == name]
    if not found:
        found = _called(name, on_offer, has_inputs=has_inputs)
    if not found:
        raise Problem("model_not_found", _no_such_model(name, on_offer), param="model")
    # "": a model that decides, and makes about 1K.
    takes = ("1K", "") if wanted in ("", "1K") else (wanted,)
    fitting = [variant for variant in found if variant.resolution in takes]
    if not fitting and (wanted or len(found) > 1):
        makes = ", ".join(sorted({variant.resolution for variant in found})) or "pictures of its own size"
        raise Problem("invalid_parameter", f"{name} makes {makes}, not {resolution}.", param=param)
    return (fitting or found)[0]


def has_2k(name: str) -> bool:
    """Whether a name stands for a variant of 2K, too."""
    return any(variant.resolution == "2K" for variant in catalog.on_offer() if name in variant.aliases)


def _called(name: str, on_offer: Sequence[Variant], *, has_inputs: bool) -> list[Variant]:
    """Those of another name; one of a family that has both kinds is chosen by whether there are input pictures."""
    found = [variant for variant in on_offer if name in variant.aliases]
    kinds = {variant.kind for variant in found}
    if len(kinds) < 2:
        return found
    kind = Variant.Kind.IMAGE if has_inputs else Variant.Kind.TEXT
    return [variant for variant in found if variant.kind == kind]


def _no_such_model(name: str, on_offer: Sequence[Variant]) -> str:
    known = {called: called for variant in on_offer for called in (variant.slug, *variant.aliases)}
    near = difflib.get_close_matches(name[:200].strip().lower(), known, n=1, cutoff=0.6)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"There is no model {name[:100]!r} on offer.{hint} GET /api/v1/models lists them all."


def outcome_of(caller: Caller, prompt: str) -> str:
    """The outcome that a test key's call asks for, "" for none. Raises Problem, also where the outcome is a refusal."""
    wanted = caller.headers.get("x-test-outcome", "").strip().lower()
    if not caller.auth.is_test:
        if wanted:
            raise Problem(
                "invalid_parameter", "x-test-outcome works with test keys only.", param="x-test-outcome"
            )
        return ""
    if not wanted:
        wanted = next((name for word, name in OUTCOME_WORDS.items() if word in prompt.lower()), "")
    if wanted and wanted not in OUTCOMES:
        raise Problem(
            "invalid_parameter", f"x-test-outcome is one of {', '.join(OUTCOMES)}.", param="x-test-outcome"
        )
    if wanted == "insufficient_credits":
        raise Problem(
            "insufficient_credits", "A test key asked for this: the balance does not cover the price."
        )
    if wanted == "rate_limit":
        raise Problem("rate_limit_exceeded", "A test key asked for this: too many calls.", retry_after_s=1)
    return wanted


def submit(
    caller: Caller,
    job_ids: Sequence[uuid.UUID],
    *,
    variant: Variant,
    prompt: str,
    asked: dict[str, Any],
    aspect_ratio: str = "",
    seed: int | None = None,
    inputs: Sequence[Upload] = (),
    sources: tuple[str, ...] = (),
    callback_url: str = "",
    output_format: str = "",
    params: dict[str, str] = PARAMS,
) -> list[Job]:
    """Makes the run and a job for each id, and holds their price. `params`: what the caller calls our fields. Raises Problem."""
    if turnstile.has_waited():
        auth.check_again(caller)
    wanted = outcome_of(caller, prompt)
    noted = {"_outcome": wanted, "_format": format_of(output_format, params.get("output_format"))}
    call = orders.Call(
        key=caller.auth,
        job_ids=job_ids,
        asked=_kept(asked) | {name: value for name, value in noted.items() if value},
        callback_url=callback_url,
        sources=sources,
        outcome=OUTCOMES.get(wanted, ""),
    )
    try:
        return orders.submit_call(
            call,
            prompt=prompt.strip(),
            variant=variant,
            aspect_ratio=aspect_ratio or usual_ratio(variant),
            seed=seed,
            inputs=inputs,
        )
    except orders.NotPossible as no:
        raise _not_possible(no, params) from no
    except ledger.Refusal as no:
        raise _refused(no) from no


def format_of(name: str, param: str | None) -> str:
    """png, jpeg or webp; "" where the call leaves it open. Raises Problem."""
    if name and name.strip().lower() not in FORMATS:
        raise Problem("invalid_parameter", "An output format is png, jpeg or webp.", param=param)
    return FORMATS.get(name.strip().lower(), "")


def _kept(asked: Any) -> Any:
    """What is kept of a call and told again in each record: all but the pictures that stood in it as data: URLs, and
    the blanks around the prompt, which are not counted among its characters."""
    if isinstance(asked, dict):
        return {name: _stripped(value) if name == "prompt" else _kept(value) for name, value in asked.items()}
    if isinstance(asked, list):
        return [_kept(one) for one in asked]
    if isinstance(asked, str) and asked.startswith("data:") and len(asked) > _SHOWN:
        return f"{asked[:_SHOWN]}... ({len(asked):,} characters)"
    return asked


def _stripped(text: Any) -> Any:
    return text.strip() if isinstance(text, str) else text


def usual_ratio(variant: Variant) -> str:
    return "1:1" if "1:1" in variant.aspect_ratios or not variant.aspect_ratios else variant.aspect_ratios[0]


def _not_possible(no: orders.NotPossible, params: dict[str, str]) -> Problem:
    if no.is_ours:
        return Problem("unavailable", str(no), retry_after_s=30)
    return Problem("invalid_parameter", str(no), param=params.get(no.field))


def _refused(no: ledger.Refusal) -> Problem:
    """What the ledger said, with its numbers in micro-dollars for programs."""
    if isinstance(no, ledger.CapReached):
        details = {
            "cap": f"{'key' if no.is_of_key else 'account'}/{no.window}",
            "limit_micro_usd": no.limit,
            "used_micro_usd": no.used,
            "asked_micro_usd": no.asked,
            "resets": no.resets.isoformat() if no.resets else None,
        }
        return Problem("spend_cap_reached", str(no), details=details)
    if isinstance(no, ledger.NotEnoughCredit):
        numbers = {"needed_micro_usd": no.needed, "available_micro_usd": no.available}
        return Problem("insufficient_credits", str(no), details=numbers)
    return Problem("unavailable", str(no))
