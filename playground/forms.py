"""The playground's form: strict where it orders, forgiving where it only shows."""

import hashlib
import secrets
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.http import QueryDict
from django.utils.http import urlencode

from playground import catalog, orders
from playground.models import Job, Run, Upload, Variant

DEFAULT_RATIO = "1:1"
MAX_PROMPT = 20_000  # what is read at all; each variant has its own limit, which `jobs` enforces
MAX_SEED_DIGITS = 20
MOST_INPUTS = 8  # of a run; how many of them a variant takes is in the catalogue
MAX_INPUTS_READ = 20  # what is read at all
INPUT_GONE = "An input picture is not there any more. Add it again."


class VariantsField(forms.Field):
    """Slugs in, variants out: those that are on offer, cheapest first. An unknown one is an error."""

    widget = forms.SelectMultiple
    on_offer: Sequence[Variant] = ()

    def clean(self, value: Sequence[str]) -> list[Variant]:
        wanted = set(value or ())
        if unknown := wanted - {variant.slug for variant in self.on_offer}:
            raise forms.ValidationError(f"There is no variant “{min(unknown)[:160]}” here.")
        if not wanted:
            raise forms.ValidationError("Choose at least one variant.")
        return [variant for variant in self.on_offer if variant.slug in wanted]


def own_inputs(ids: Sequence[str], user: Any) -> list[Upload]:
    """The person's own uploads among these ids, in this order, each once. Others, and what is no id, are left out."""
    wanted = dict.fromkeys(_uuids(ids[:MAX_INPUTS_READ]))
    if not wanted or user is None:
        return []
    own = {upload.pk: upload for upload in Upload.objects.visible_to(user).stored().filter(pk__in=wanted)}
    return [own[pk] for pk in wanted if pk in own]


def _uuids(ids: Sequence[str]) -> Iterator[uuid.UUID]:
    for text in ids:
        with suppress(ValueError):
            yield uuid.UUID(text)


class InputsField(forms.Field):
    """Ids in, uploads out, in order. One that is not there, or not the person's, is an error."""

    widget = forms.SelectMultiple
    user: Any = None

    def clean(self, value: Sequence[str]) -> list[Upload]:
        ids = list(dict.fromkeys(value or ()))
        if len(ids) > MAX_INPUTS_READ:
            raise forms.ValidationError(f"{MOST_INPUTS} input pictures are the most.")
        found = own_inputs(ids, self.user)
        if len(found) != len(ids):
            raise forms.ValidationError(INPUT_GONE)
        return found


class RunForm(forms.Form):
    """What POST /runs/ takes. What a variant refuses (a ratio, a long prompt) is said by `orders.submit_run`."""

    prompt = forms.CharField(
        max_length=MAX_PROMPT,
        error_messages={
            "required": "Write what you want to see.",
            "null_characters_not_allowed": "The prompt has a character in it that cannot be sent.",
        },
    )
    variants = VariantsField()
    inputs = InputsField(required=False)
    aspect_ratio = forms.CharField(required=False, max_length=10)
    count = forms.IntegerField(required=False, min_value=1, max_value=orders.MAX_COUNT)
    seed = forms.IntegerField(required=False, min_value=0, max_value=orders.MAX_SEED)
    pay = forms.ChoiceField(required=False, choices=Run.Pay)
    nonce = forms.CharField(required=False, max_length=200)
    priced = forms.CharField(required=False, max_length=40)

    def __init__(self, data: QueryDict, *, on_offer: Sequence[Variant], user: Any) -> None:
        super().__init__(data)
        variants, inputs = self.fields["variants"], self.fields["inputs"]
        assert isinstance(variants, VariantsField) and isinstance(inputs, InputsField)
        variants.on_offer = on_offer
        inputs.user = user
        self.fields["count"].error_messages |= dict.fromkeys(
            ["invalid", "min_value", "max_value"], f"Choose 1 to {orders.MAX_COUNT} pictures per variant."
        )
        self.fields["seed"].error_messages |= dict.fromkeys(
            ["invalid", "min_value", "max_value"], f"A seed is a whole number from 0 to {orders.MAX_SEED}."
        )

    def clean_prompt(self) -> str:
        prompt = self.cleaned_data["prompt"].replace("\r\n", "\n")
        if not prompt.isprintable() and any("\ud800" <= character <= "\udfff" for character in prompt):
            raise forms.ValidationError("The prompt has a character in it that cannot be sent.")
        return prompt

    def clean_count(self) -> int:
        return self.cleaned_data["count"] or 1

    def clean_priced(self) -> datetime | None:
        """When the price on the page was made, as the page says it; what is none is as good as nothing."""
        with suppress(ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(float(self.cleaned_data["priced"]), UTC)
        return None

    def clean_pay(self) -> str:
        return self.cleaned_data["pay"] or Run.Pay.PREVIEW

    def clean(self) -> dict[str, Any]:
        asked = self.cleaned_data
        if not any(catalog.takes_seed(variant) for variant in asked.get("variants", [])):
            # The page hides the field then, and what nobody sees can be neither wrong nor meant.
            asked["seed"] = None
            self.errors.pop("seed", None)
        asked["aspect_ratio"] = _ratio(
            asked.get("aspect_ratio", ""), asked.get("variants", []), asked.get("inputs", [])
        )
        asked["nonce"] = _stored_nonce(asked)
        return asked


def _stored_nonce(asked: dict[str, Any]) -> str:
    """One form sent twice is one run; the same nonce with other content is another; without a nonce, always new."""
    nonce = asked.get("nonce") or secrets.token_urlsafe(24)
    slugs = [variant.slug for variant in asked.get("variants", [])]
    content = [asked.get(name) for name in ("prompt", "aspect_ratio", "count", "seed", "pay")]
    inputs = [str(upload.pk) for upload in asked.get("inputs", [])]
    return hashlib.sha256(repr((nonce, slugs, content, inputs)).encode()).hexdigest()


def new_nonce() -> str:
    return secrets.token_urlsafe(16)


def _ratio(asked: str, variants: Sequence[Variant], inputs: Sequence[Upload]) -> str:
    """What was asked for. Nothing, or the first input's shape where there is none, stands for the usual one."""
    if asked and (asked != catalog.AUTO or inputs):
        return asked
    return catalog.AUTO if inputs else common_ratio(variants)


def common_ratio(variants: Sequence[Variant]) -> str:
    """Square where all of them make it, or else the first ratio that all of them make."""
    shared = [ratio.value for ratio in catalog.ratios(variants) if not ratio.refused_by]
    return DEFAULT_RATIO if DEFAULT_RATIO in shared or not shared else shared[0]


@dataclass(frozen=True)
class Draft:
    """The form as it stands, right or wrong: what a page shows again and a quote is made for."""

    prompt: str
    chosen: list[Variant]
    aspect_ratio: str
    count: int
    seed: str
    pay: str
    inputs: list[Upload]
    lacks_input: bool = (
        False  # fewer are there than were asked for, and nobody has said yet that this is all right
    )

    @classmethod
    def read(cls, data: QueryDict, on_offer: Sequence[Variant], user: Any = None) -> "Draft":
        """A variant that refuses the input pictures stays chosen, and `input_refusal` says so."""
        wanted = set(data.getlist("variants"))
        chosen = [v for v in on_offer if v.slug in wanted and not catalog.why_not(v, inputs=None)]
        asked = data.getlist("inputs")
        inputs = own_inputs(asked, user)
        is_short = "gone" in data or len(inputs) < len(set(asked))
        count = data.get("count", "")
        return cls(
            prompt=data.get("prompt", "")[:MAX_PROMPT].encode(errors="replace").decode(),
            chosen=chosen,
            aspect_ratio=_ratio(data.get("aspect_ratio", ""), chosen, inputs),
            count=int(count) if count in _COUNTS else 1,
            seed=data.get("seed", "")[:MAX_SEED_DIGITS],
            pay=Run.Pay.CREDITS if data.get("pay") == Run.Pay.CREDITS else Run.Pay.PREVIEW,
            inputs=inputs,
            lacks_input=is_short and user is not None and user.is_authenticated,
        )

    @property
    def input_refusal(self) -> str:
        """Why chosen variants cannot have these input pictures, or not do without, in plain words; empty where all can."""
        refusals = ((v.label, catalog.refusal_of_inputs(v, len(self.inputs))) for v in self.chosen)
        said = [f"{label} {refusal}." for label, refusal in refusals if refusal]
        return " ".join(said[:3])

    @property
    def ratio_refusal(self) -> str:
        """Why a chosen variant cannot have the chosen ratio, in plain words; empty where all can."""
        if self.aspect_ratio == catalog.AUTO:
            return ""
        refusing = [v.label for v in self.chosen if self.aspect_ratio not in v.aspect_ratios]
        if not refusing:
            return ""
        verb = "does" if len(refusing) == 1 else "do"
        return f"{' and '.join(refusing[:3])} {verb} not make {self.aspect_ratio}. Choose another shape."

    @property
    def takes_seed(self) -> list[Variant]:
        return [variant for variant in self.chosen if catalog.takes_seed(variant)]

    @property
    def ignores_seed(self) -> list[Variant]:
        return [variant for variant in self.chosen if not catalog.takes_seed(variant)]

    @property
    def most_characters(self) -> int:
        """The longest prompt that every chosen variant takes."""
        bounds = [variant.parameters.get("prompt", {}).get("max", 5000) for variant in self.chosen]
        return min(bounds, default=5000)


_COUNTS = [str(count) for count in range(1, orders.MAX_COUNT + 1)]


def query_of_run(run: Run) -> str:
    """The query string that fills in the form as it was for this run."""
    slugs = Job.objects.filter(run=run).values_list("variant__slug", flat=True).order_by("pk")
    return urlencode(
        {
            "prompt": run.prompt,
            "variants": list(dict.fromkeys(slugs)),
            "aspect_ratio": run.aspect_ratio,
            "count": run.count,
            "seed": "" if run.seed is None else run.seed,
            "pay": run.pay,
            "inputs": [str(pk) for pk in run.inputs.values_list("upload_id", flat=True)],
        },
        doseq=True,
    )


def query_of_job(job: Job) -> str:
    """The query string that fills in the form for one more picture like this job's."""
    return urlencode(
        {
            "prompt": job.params["prompt"],
            "variants": job.variant.slug,
            "aspect_ratio": job.params["aspect_ratio"],
            "seed": job.params.get("seed", ""),
            "inputs": job.params.get("inputs", []),
        },
        doseq=True,
    )
