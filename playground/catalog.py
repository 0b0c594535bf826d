"""What can be ordered, from whom, at which price and in which sizes.

A variant's `parameters`: `aspect_ratios` (list of "16:9"), `seed` (bool), `prompt` ({min, max} characters) and
`input_images` ({min, max}, absent: none). Forms and checks are built from these.
"""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from playground import upstreams
from playground.models import Job, Route, Variant

AUTO = "auto"  # the aspect ratio of the first input picture, or the nearest that a variant makes
_PIXELS = {"2K": 2048 * 2048}
_PIXELS_OTHERWISE = 1024 * 1024
_SIZE_STEP = 16
FRESH_S = 1.0
_on_offer: list[tuple[float, list[Variant]]] = [(-FRESH_S, [])]


def is_sandbox() -> bool:
    """Whether no upstream is set up here, so that everything is drawn by the sandbox."""
    return not upstreams.is_set_up()


def live() -> list[Variant]:
    """Every variant that is switched on, cheapest first, with `price_micros` and its routes: two queries in all."""
    return list(Variant.objects.live().priced().prefetch_related("routes"))


def on_offer() -> list[Variant]:
    """What `live` gives, at most a second old: for calls that come by the hundred. Not to be changed by whoever reads it."""
    now, (at, known) = time.monotonic(), _on_offer[0]
    if now - at > FRESH_S:
        known = live()
        _on_offer[0] = (now, known)
    return known


def forget() -> None:
    """Reads what is on offer anew, for tests."""
    _on_offer[0] = (-FRESH_S, [])


def by_slugs(slugs: Iterable[str]) -> list[Variant]:
    """The live ones among these slugs, cheapest first, as `live` gives them."""
    return list(Variant.objects.live().filter(slug__in=list(slugs)).priced().prefetch_related("routes"))


def routes_for(variant: Variant) -> list[Route]:
    """Those whose upstream is set up, best first; the sandbox where none is; empty: it can't be made here."""
    if is_sandbox():
        return [Route(variant=variant, provider=upstreams.SANDBOX, upstream_model=variant.slug)]
    known = upstreams.configured()
    return [route for route in variant.routes.all() if route.provider in known]


def route_for(variant: Variant) -> Route | None:
    """The one that a job would take first."""
    return next(iter(routes_for(variant)), None)


def next_route(job: Job) -> Route | None:
    """Where a job can go that its upstream has not started, and that it has not been to."""
    if job.is_test:
        return None
    been = {*job.tried, job.provider}
    return next((route for route in routes_for(job.variant) if route.provider not in been), None)


def why_not(variant: Variant, *, inputs: int | None = 0) -> str:
    """Why this variant cannot be ordered right now, in plain words; empty where it can.

    `inputs`: how many input pictures are chosen; None asks only whether it can be had at all.
    """
    if inputs is not None and (refusal := refusal_of_inputs(variant, inputs)):
        return f"{refusal[0].upper()}{refusal[1:]}."
    if variant.price_micros is None:
        return "Has no price yet, so it cannot be ordered."
    if route_for(variant) is None:
        return "No upstream that offers it is set up here."
    return ""


def refusal_of_inputs(variant: Variant, inputs: int) -> str:
    """What is wrong with that many input pictures, as the end of a sentence about the variant; empty where nothing is."""
    if inputs < variant.fewest_inputs:
        fewest = variant.fewest_inputs
        return "needs an input picture" if fewest == 1 else f"needs {fewest} input pictures"
    if inputs > variant.most_inputs:
        most = variant.most_inputs
        if most == 0:
            return "takes no input picture"
        return f"takes only {most} input picture{'s' if most > 1 else ''}"
    return ""


def takes_seed(variant: Variant) -> bool:
    """Whether a seed reaches the model on the route that a job would take now."""
    route = route_for(variant)
    return variant.takes_seed and route is not None and "seed" not in route.ignores


# --- Sizes --------------------------------------------------------------------------------------------
def size(aspect_ratio: str, resolution: str) -> tuple[int, int]:
    """Width and height in pixels: as many as the resolution has, in steps of 16, never more.

    >>> size("1:1", "1K"), size("16:9", "2K")
    ((1024, 1024), (2720, 1536))
    """
    across, down = (int(part) for part in aspect_ratio.split(":"))
    pixels = _PIXELS.get(resolution, _PIXELS_OTHERWISE)
    return _step(math.sqrt(pixels * across / down)), _step(math.sqrt(pixels * down / across))


def _step(pixels: float) -> int:
    return int(pixels + 1e-6) // _SIZE_STEP * _SIZE_STEP


def nearest_ratio(variant: Variant, width: int, height: int) -> str:
    """The ratio that this variant makes and that is nearest to the shape of a picture."""
    return min(variant.aspect_ratios, key=lambda ratio: abs(math.log(_across(ratio) * height / width)))


def _across(ratio: str) -> float:
    across, down = (int(part) for part in ratio.split(":"))
    return across / down


@dataclass(frozen=True)
class Ratio:
    """An aspect ratio as the form offers it. `refused_by`: labels of chosen variants that do not take it."""

    value: str
    refused_by: tuple[str, ...]

    @property
    def across(self) -> int:
        return int(self.value.split(":")[0])

    @property
    def down(self) -> int:
        return int(self.value.split(":")[1])


def ratios(variants: Sequence[Variant]) -> list[Ratio]:
    """Every ratio that one of the variants takes, widest variety first come, with who refuses it."""
    known = dict.fromkeys(ratio for variant in variants for ratio in variant.aspect_ratios)
    return [
        Ratio(ratio, tuple(variant.label for variant in variants if ratio not in variant.aspect_ratios))
        for ratio in known
    ]


# --- Prices -------------------------------------------------------------------------------------------
def least_price() -> int:
    """Micro-dollars of the cheapest picture on offer; 1 where nothing is. One query."""
    cheapest = Variant.objects.live().priced().first()
    return 1 if cheapest is None or cheapest.price_micros is None else cheapest.price_micros


@dataclass(frozen=True)
class Quote:
    """What a run would be: `micros` is the list price of all its pictures, `cost_micros` what upstreams take."""

    pictures: int
    micros: int
    cost_micros: int


def price_of(variant: Variant) -> int:
    """Micro-dollars a picture. An unknown price is refused (ValueError), never free."""
    if variant.price_micros is None:
        raise ValueError(f"{variant} has no price.")
    return variant.price_micros


def quote(variants: Sequence[Variant], count: int) -> Quote:
    """The exact price of `count` pictures of each variant; every one must have a price and a route."""
    routes = [route_for(variant) for variant in variants]
    return Quote(
        pictures=len(variants) * count,
        micros=sum(price_of(variant) for variant in variants) * count,
        cost_micros=sum(route.cost_micros for route in routes if route) * count,
    )
