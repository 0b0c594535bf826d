"""Palettes, and what the pictures are made with: what is smooth is made small and enlarged, what has edges is drawn
twice as large and reduced. Pillow, nothing else."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageColor, ImageDraw

Colour = tuple[int, int, int]
Size = tuple[int, int]
Point = tuple[float, float]


# --- Palettes -----------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Palette:
    """Colours from dark to light, one that stands out, and the words in a prompt that ask for them."""

    words: frozenset[str]
    ramp: tuple[Colour, ...]
    accent: Colour

    def at(self, tone: float) -> Colour:
        """The colour at `tone`, 0 (darkest) to 1 (lightest)."""
        place = min(max(tone, 0.0), 1.0) * (len(self.ramp) - 1)
        step = min(int(place), len(self.ramp) - 2)
        return mixed(self.ramp[step], self.ramp[step + 1], place - step)


def mixed(one: Colour, other: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue


def rgb(code: str) -> Colour:
    red, green, blue = ImageColor.getrgb(code)[:3]
    return red, green, blue


def _palette(words: str, ramp: str, accent: str) -> Palette:
    return Palette(frozenset(words.split()), tuple(rgb(code) for code in ramp.split()), rgb(accent))


PALETTES = [
    _palette("sea ocean water blue lake river rain wave fish harbour harbor ship boat whale underwater",
             "#081c33 #0f4c75 #2f8f9d #9ad5ca #f4f1de", "#ff7b54"),
    _palette("forest green tree jungle leaf garden grass moss frog meadow park plant",
             "#0d1f16 #1e4d36 #4f8a4c #b6c867 #f5f0d6", "#e0793f"),
    _palette("night dark space star moon galaxy midnight city neon cyberpunk robot planet",
             "#0a0a1f #1f1b4d #4b3f95 #9a7fd1 #f2e9ff", "#ffd166"),
    _palette("red fire fox lava volcano rose dragon autumn tomato car heart",
             "#1f0a0a #6b1520 #c8352e #f3924c #fdeccc", "#2ec4b6"),
    _palette("desert sand gold golden yellow sun sunset sunrise dawn lion honey wheat dune",
             "#2a1420 #7a3b3f #d4734a #f2b65a #fff1cf", "#2f6f8f"),
    _palette("pink flower blossom cherry love wedding spring portrait dress",
             "#2b1029 #7d2e68 #d95d8b #f7a9b8 #fff0f0", "#3aa6a0"),
    _palette("snow ice winter white arctic polar frost glacier cloud sky",
             "#16263a #3f6485 #86b1cf #c9e2ee #fbfdff", "#e4572e"),
    _palette("black ink fog smoke grey gray stone noir monochrome pencil sketch",
             "#111214 #34373b #74787c #bfc0bd #f6f3ec", "#c8102e"),
    _palette("purple violet magic dream wizard lavender crystal fairy",
             "#170b2e #46217d #8a4fc7 #d19be8 #fbefff", "#f9c74f"),
    _palette("orange lemon fruit summer beach tropical parrot island",
             "#10312f #1f7a74 #f08a24 #ffce54 #fff8e1", "#e63462"),
    _palette("brown wood coffee chocolate vintage old leather steampunk bread cat dog horse",
             "#1c1410 #553826 #a5673f #dcae78 #f8ead3", "#3d8b8b"),
]  # fmt: skip


def palette_for(prompt: str, otherwise: int) -> int:
    """The number of the palette that most words of the prompt ask for; where none does, by the number `otherwise`."""
    words = {part.strip(".,;:!?'\"()[]") for part in prompt.lower().split()}
    words |= {word.removesuffix("s") for word in words}
    asked = [len(words & palette.words) for palette in PALETTES]
    return asked.index(max(asked)) if any(asked) else otherwise % len(PALETTES)


# --- Brushes ------------------------------------------------------------------------------------------
def tinted(gray: Image.Image, colours: Sequence[Colour]) -> Image.Image:
    """Gray levels as a gradient through the colours."""
    ramp = Palette(frozenset(), tuple(colours), colours[0])
    gray = gray.copy()
    gray.putpalette([band for level in range(256) for band in ramp.at(level / 255)])
    return gray.convert("RGB")


def downwards(size: Size, colours: Sequence[Colour]) -> Image.Image:
    column = tinted(Image.linear_gradient("L").resize((1, size[1]), Image.Resampling.BILINEAR), colours)
    return column.resize(size, Image.Resampling.NEAREST)


def radial(size: Size, colours: Sequence[Colour]) -> Image.Image:
    """From the centre outwards."""
    return tinted(Image.radial_gradient("L").resize(size, Image.Resampling.BICUBIC), colours)


def noise(rng: random.Random, size: Size, cells: int) -> Image.Image:
    """Smooth noise with `cells` hills on the shorter side."""
    unit = min(size) / cells
    grid = (max(round(size[0] / unit), 2), max(round(size[1] / unit), 2))
    return Image.frombytes("L", grid, rng.randbytes(grid[0] * grid[1])).resize(size, Image.Resampling.BICUBIC)


def hills(rng: random.Random, size: Size) -> Image.Image:
    """Noise of three sizes, stretched to the whole range."""
    coarse = Image.blend(noise(rng, size, 2), noise(rng, size, 4), 0.4)
    return stretched(Image.blend(coarse, noise(rng, size, 9), 0.14))


def stretched(gray: Image.Image) -> Image.Image:
    low, high = gray.getextrema()
    assert isinstance(low, (int, float)) and isinstance(high, (int, float))
    scale = 255 / max(high - low, 1)
    return gray.point([round((level - low) * scale) for level in range(256)])


def shape(size: Size, paint: Callable[[ImageDraw.ImageDraw], None]) -> Image.Image:
    """A mask with smooth edges. `paint` draws in white on twice the size."""
    mask = Image.new("L", (size[0] * 2, size[1] * 2))
    paint(ImageDraw.Draw(mask))
    return mask.reduce(2)


def polygon(size: Size, points: Sequence[Point]) -> Image.Image:
    return shape(size, lambda pen: pen.polygon([(x * 2, y * 2) for x, y in points], fill=255))


def glow(image: Image.Image, centre: Point, radius: float, colour: Colour, strength: float) -> None:
    side = round(radius * 2)
    light = Image.radial_gradient("L").point(
        [round(max(0.0, 1 - v / 181) ** 2 * 255 * strength) for v in range(256)]
    )
    corner = (round(centre[0] - radius), round(centre[1] - radius))
    image.paste(colour, corner, light.resize((side, side), Image.Resampling.BILINEAR))


def ball(image: Image.Image, centre: Point, radius: float, colours: Sequence[Colour], light: float) -> None:
    """A lit sphere. `light` is the direction the light comes from, in radians."""
    side = max(round(radius * 2), 4)
    big = Image.radial_gradient("L").resize((side * 2, side * 2), Image.Resampling.BILINEAR)
    left = round(side / 2 - math.cos(light) * side * 0.32)
    top = round(side / 2 - math.sin(light) * side * 0.32)
    shaded = tinted(big.crop((left, top, left + side, top + side)), colours)
    disc = shape((side, side), lambda pen: pen.ellipse((0, 0, side * 2 - 1, side * 2 - 1), fill=255))
    image.paste(shaded, (round(centre[0] - radius), round(centre[1] - radius)), disc)


def stars(rng: random.Random, image: Image.Image, count: int, colour: Colour, below: float = 1.0) -> None:
    unit, pen = min(image.size) / 1024, ImageDraw.Draw(image)
    for _ in range(count):
        x, y = rng.random() * image.width, rng.random() ** 1.3 * image.height * below
        r = unit * rng.choice([0.6, 0.6, 0.9, 1.4])
        back = image.getpixel((int(x), int(y)))
        assert isinstance(back, tuple)
        pen.ellipse(
            (x - r, y - r, x + r, y + r), fill=mixed((back[0], back[1], back[2]), colour, rng.uniform(0.3, 1))
        )


def wander(rng: random.Random, octaves: int, falloff: float = 0.5) -> Callable[[float], float]:
    """A smooth random curve over 0..1 with values about -1..1."""
    parts = [(2**k * rng.uniform(0.8, 1.2), falloff**k, rng.uniform(0, math.tau)) for k in range(octaves)]
    total = sum(share for _, share, _ in parts)
    return lambda x: (
        sum(share * math.sin(math.tau * pace * x + phase) for pace, share, phase in parts) / total
    )
