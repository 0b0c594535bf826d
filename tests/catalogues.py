"""Makes catalogue files as operators have them: several makers and families, both kinds of work, and gaps."""

from itertools import product

MAKERS = {
    "Black Forest Labs": ["FLUX.2 pro", "FLUX.2 flex", "FLUX.2 max"],
    "Alpenglow": ["Gletscher 3", "Gletscher 3 Turbo", "Firn"],
    "Ōtsu Labs": ["Sumi", "Sumi Ink", "Washi"],
    "Open Canvas": ["Canvas XL", "Canvas Edit", "Canvas Draft"],
}
KINDS = ["text-to-image", "image-to-image"]
RESOLUTIONS = ["512", "1K", "2K", "4K"]
TIERS = ["", " fast", " fine"]
HEAD = """
[[models]]
maker = "{maker}"
family = "{family}"
parameters = {{ aspect_ratios = ["1:1", "4:3", "16:9", "9:16"], seed = true, prompt = {{ min = 3, max = 4000 }} }}
"""
VARIANT = """  [[models.variants]]
  name = "{family}{tier}, {kind}, {resolution}"
  label = "{family}{tier} {resolution}"
  kind = "{kind}"
  resolution = "{resolution}"
  blurb = "Number {number}: {kind}, at {resolution}."
{more}"""


def big(most: int = 288) -> str:
    """A file of that many variants (at most 288): every 12th has no price and is off, every 9th has no route."""
    parts: list[str] = []
    families = [(maker, family) for maker, named in MAKERS.items() for family in named]
    number = 0
    for maker, family in families:
        parts.append(HEAD.format(maker=maker, family=family))
        for tier, kind, resolution in product(TIERS, KINDS, RESOLUTIONS):
            number += 1
            if number > most:
                return "".join(parts)
            parts.append(
                VARIANT.format(
                    family=family,
                    tier=tier,
                    kind=kind,
                    resolution=resolution,
                    number=number,
                    more=_more(number, kind),
                )
            )
    return "".join(parts)


def _more(number: int, kind: str) -> str:
    usd = f"0.{number:04d}"
    lines = ["on = false"] if number % 12 == 0 else [f'usd = "{usd}"']
    if number % 7 == 0:
        lines.append(
            'later = [{ usd = "0.9", from = 2999-12-01 }, { usd = "1.1", from = 3000-01-01T08:00:00Z }]'
        )
    if kind == "image-to-image":
        lines.append("parameters = { input_images = { min = 1, max = 4 } }")
    if number % 9:
        lines.append(
            f'routes = [{{ provider = "aigenerate", cost_usd = "{usd}" }}, {{ provider = "gpu", model = "m{number}", fixed = {{ steps = 4, scale = 1.5 }}, cost_usd = "0", ignores = ["seed"] }}]'
        )
    return "".join(f"  {line}\n" for line in lines)
