"""What the sandbox draws: ten kinds of picture, each from a palette and a seed.

The same arguments give the same picture. A megapixel takes about 0.1 s of one core, four take 0.3 s.
"""

import random

from PIL import Image, ImageDraw, ImageFont

from playground.providers.drawing.brushes import PALETTES, Size, palette_for, shape
from playground.providers.drawing.edits import framed, recoloured
from playground.providers.drawing.patterns import currents, glass, mosaic, papercut, scales, tiles
from playground.providers.drawing.scenes import aurora, orbits, petals, ridges

__all__ = ["PALETTES", "STYLES", "edit", "palette_for", "picture"]

STYLES = {
    style.__name__: style
    for style in (ridges, papercut, orbits, glass, mosaic, currents, petals, aurora, scales, tiles)
}


def picture(style: str, palette: int, seed: int, size: Size) -> Image.Image:
    """The finished picture, with the word "sandbox" in its lower left corner."""
    image = STYLES[style](random.Random(seed), size, PALETTES[palette % len(PALETTES)])
    return signed(image)


def edit(data: bytes, style: str, palette: int, seed: int, size: Size) -> Image.Image:
    """The given picture in the palette's colours, framed by what the style draws, with the word "sandbox" too."""
    colours = PALETTES[palette % len(PALETTES)]
    ornament = STYLES[style](random.Random(seed), size, colours)
    return signed(framed(recoloured(data, size, colours), ornament, colours))


def signed(image: Image.Image) -> Image.Image:
    unit = max(min(image.size) / 46, 11)
    font = ImageFont.load_default(unit)
    wide, tall = round(font.getlength("sandbox") + unit * 1.3), round(unit * 1.8)
    label = shape(
        (wide, tall), lambda pen: pen.rounded_rectangle((0, 0, wide * 2 - 1, tall * 2 - 1), tall, fill=150)
    )
    corner = (round(unit * 0.8), round(image.height - tall - unit * 0.8))
    image.paste((10, 12, 16), corner, label)
    middle = (corner[0] + wide / 2, corner[1] + tall / 2)
    ImageDraw.Draw(image).text(middle, "sandbox", font=font, fill=(255, 255, 255), anchor="mm")
    return image
