"""Pictures of nothing: paper, glass, triangles, streams, fans, tiles."""

import math
import random
import struct
from collections.abc import Sequence

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from playground.providers.drawing.brushes import (
    Colour,
    Palette,
    Point,
    Size,
    ball,
    downwards,
    hills,
    mixed,
    noise,
    shape,
    tinted,
)


def papercut(rng: random.Random, size: Size, palette: Palette) -> Image.Image:
    """Sheets of paper with holes, each throwing its shadow on the one below."""
    sheets, drop = 8, max(min(size) // 50, 2)
    field = _terrain(rng, (size[0] + 2 * drop, size[1] + 2 * drop))
    tones, light, steep = Image.new("L", size, 255), Image.new("L", size, 255), 12.0 * min(size)
    for sheet in range(1, sheets):
        level = 0.84 - 1.5 * (sheet - 1) / (sheets - 2)
        paper = _below(field, level, steep)
        blurred = (
            paper.reduce(4).filter(ImageFilter.GaussianBlur(drop / 7)).point([v // 2 for v in range(256)])
        )
        light.paste(40, (0, 0), blurred.resize(paper.size, Image.Resampling.BILINEAR).crop((0, 0, *size)))
        paper = paper.crop((drop, drop, size[0] + drop, size[1] + drop))
        light.paste(255, (0, 0), paper)
        tones.paste(round(255 - 225 * sheet / (sheets - 1)), (0, 0), paper)
    return ImageChops.multiply(tinted(tones, palette.ramp), Image.merge("RGB", [light] * 3))


def _below(field: Image.Image, level: float, steep: float) -> Image.Image:
    """A mask of where the field is lower than `level`; the steeper, the sharper its edge."""
    return field.point(lambda value: value * -steep + level * steep).convert("L")


def _terrain(rng: random.Random, size: Size) -> Image.Image:
    """Heights of about -1 to 1 in floating point, because contours of 256 levels would be jagged."""
    waves = [
        (rng.gauss(0, 1), rng.gauss(0, 1), rng.uniform(0, math.tau), scale) for scale in (4, 4, 5, 6, 9, 14)
    ]
    grid, unit = 40, 40 * min(size)
    step_x, step_y = size[0] / unit, size[1] / unit
    values = [
        sum(math.sin(a * k * x * step_x + b * k * y * step_y + shift) / k**0.8 for a, b, shift, k in waves)
        for y in range(grid)
        for x in range(grid)
    ]
    most = max(max(values), -min(values))
    heights = struct.pack(f"{len(values)}f", *[value / most for value in values])
    return Image.frombytes("F", (grid, grid), heights).resize(size, Image.Resampling.BICUBIC)


def glass(rng: random.Random, size: Size, palette: Palette) -> Image.Image:
    """Sheets of frosted glass over soft lights."""
    unit = min(size)
    image = tinted(
        hills(rng, (96, 96)).resize(size, Image.Resampling.BICUBIC),
        [palette.at(0.08), palette.at(0.45), palette.at(0.8)],
    )
    for _ in range(4):
        spot = (size[0] * rng.random(), size[1] * rng.random())
        colour = rng.choice([palette.accent, palette.at(1), palette.at(0.1)])
        ball(
            image,
            spot,
            unit * rng.uniform(0.07, 0.17),
            [mixed(colour, palette.at(1), 0.5), colour],
            rng.uniform(3.4, 5.8),
        )
    start = rng.uniform(0, math.tau)
    for index in range(5):
        across, down = unit * rng.uniform(0.28, 0.48), unit * rng.uniform(0.28, 0.48)
        down = across if index % 2 else down
        turn = start + index * 2.4
        left = size[0] * (0.5 + 0.27 * math.cos(turn)) - across / 2
        top = size[1] * (0.5 + 0.27 * math.sin(turn)) - down / 2
        _sheet(
            image,
            (round(left), round(top), round(left + across), round(top + down)),
            round_by=0.5 if index % 2 else 0.16,
        )
    return image


def _sheet(image: Image.Image, box: tuple[int, int, int, int], round_by: float) -> None:
    size = (box[2] - box[0], box[3] - box[1])
    radius, line = min(size) * 2 * round_by, max(min(size) // 90, 2)
    edge = (0, 0, size[0] * 2 - 1, size[1] * 2 - 1)
    mask = shape(size, lambda pen: pen.rounded_rectangle(edge, radius, fill=255))
    rim = shape(size, lambda pen: pen.rounded_rectangle(edge, radius, outline=255, width=line))
    soft = image.crop(box).reduce(6).filter(ImageFilter.GaussianBlur(min(size) / 150))
    soft = soft.resize(size, Image.Resampling.BICUBIC)
    down = Image.linear_gradient("L")
    sheen = ImageChops.invert(Image.blend(down, down.rotate(90), 0.5)).resize(size, Image.Resampling.BILINEAR)
    soft.paste((255, 255, 255), (0, 0), sheen.point([14 + v // 3 for v in range(256)]))
    _shadow(image, mask, (box[0], box[1]), min(size) // 9)
    image.paste(soft, (box[0], box[1]), mask)
    light = ImageChops.multiply(rim, sheen.point([30 + v * 7 // 8 for v in range(256)]))
    image.paste((255, 255, 255), (box[0], box[1]), light)


def _shadow(image: Image.Image, mask: Image.Image, corner: tuple[int, int], spread: int) -> None:
    dark = Image.new("L", (mask.width + spread * 4, mask.height + spread * 4))
    dark.paste(mask.point([v // 3 for v in range(256)]), (spread * 2, spread * 2))
    dark = (
        dark.reduce(8)
        .filter(ImageFilter.GaussianBlur(spread / 16))
        .resize(dark.size, Image.Resampling.BILINEAR)
    )
    image.paste((0, 0, 0), (corner[0] - spread * 2, corner[1] - spread * 2 + spread // 2), dark)


def mosaic(rng: random.Random, size: Size, palette: Palette) -> Image.Image:
    """A relief of triangles under one light."""
    width, height = size[0] * 2, size[1] * 2
    cells = 13
    unit = min(width, height) / cells
    columns, rows = math.ceil(width / unit) + 3, math.ceil(height / unit) + 3
    ground = hills(rng, (columns, rows))
    level = ground.load()
    assert level is not None

    def corner(column: int, row: int) -> tuple[float, float, float]:
        dice = random.Random(column * 7919 + row * 104729 + lean)
        x, y = (column - 1 + dice.uniform(-0.38, 0.38)) * unit, (row - 1 + dice.uniform(-0.38, 0.38)) * unit
        value = level[column, row]
        assert isinstance(value, (int, float))
        return x, y, value + dice.uniform(-24, 24)

    lean = rng.randrange(10**6)
    corners = [[corner(column, row) for row in range(rows)] for column in range(columns)]
    image = Image.new("RGB", (width, height), palette.at(0.4))
    pen = ImageDraw.Draw(image)
    for column in range(columns - 1):
        for row in range(rows - 1):
            a, b = corners[column][row], corners[column + 1][row]
            c, d = corners[column][row + 1], corners[column + 1][row + 1]
            for three in ((a, b, c), (b, d, c)) if (column + row) % 2 else ((a, b, d), (a, d, c)):
                pen.polygon([(x, y) for x, y, _ in three], fill=_facet(three, palette, height))
    return image.reduce(2)


def _facet(three: Sequence[tuple[float, float, float]], palette: Palette, height: int) -> Colour:
    (_, ya, za), (_, yb, zb), (_, yc, zc) = three
    slope = ((zb - za) + (zc - za) * 0.6) / 255
    tone = (za + zb + zc) / 765 * 0.75 + 0.3 * (1 - (ya + yb + yc) / (3 * height)) + slope * 0.55 - 0.05
    colour = palette.at(tone)
    return mixed(colour, palette.accent, 0.85) if (za + zb + zc) / 3 > 238 else colour


def currents(rng: random.Random, size: Size, palette: Palette) -> Image.Image:
    """Ribbons that follow one stream."""
    width, height = size[0] * 2, size[1] * 2
    unit, grid = min(width, height), 64
    field = noise(rng, (grid, grid), 3).load()
    assert field is not None
    image = downwards((width, height), [palette.at(0.02), palette.at(0.16)])
    pen, lean = ImageDraw.Draw(image), rng.uniform(0, math.tau)
    ribbons = 420
    for number in range(ribbons):
        x, y, stride = rng.uniform(-0.1, 1.1) * width, rng.uniform(-0.1, 1.1) * height, unit * 0.014
        line = [(x, y)]
        for _ in range(rng.randrange(12, 46)):
            value = field[
                min(max(int(x / width * grid), 0), grid - 1), min(max(int(y / height * grid), 0), grid - 1)
            ]
            assert isinstance(value, (int, float))
            turn = lean + value / 255 * 3.6
            x, y = x + math.cos(turn) * stride, y + math.sin(turn) * stride
            line.append((x, y))
        age = number / ribbons
        colour = palette.accent if rng.random() < 0.06 else palette.at(rng.uniform(0.15, 0.45) + 0.55 * age)
        _ribbon(
            pen, line, unit * rng.choice([0.003, 0.005, 0.009, 0.016, 0.024]) * (1.3 - age), colour, palette
        )
    return image.reduce(2)


def _ribbon(
    pen: ImageDraw.ImageDraw, line: list[Point], wide: float, colour: Colour, palette: Palette
) -> None:
    for extra, fill in ((wide * 0.35 + 3, palette.at(0)), (0.0, colour)):
        r = (wide + extra) / 2
        pen.line(line, fill=fill, width=max(round(r * 2), 1))
        for x, y in line if r > 4 else (line[0], line[-1]):
            pen.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def scales(rng: random.Random, size: Size, palette: Palette) -> Image.Image:
    """Rows of overlapping fans, as on old printed cloth."""
    width, height = size[0] * 2, size[1] * 2
    radius = min(width, height) / rng.choice([8, 9, 10])
    image = Image.new("RGB", (width, height), palette.at(0.1))
    pen, tide = ImageDraw.Draw(image), hills(rng, (48, 48)).load()
    assert tide is not None
    rings = rng.choice([4, 5])
    rows = math.ceil(height / (radius / 2)) + 3
    for row in range(rows):
        for column in range(-1, math.ceil(width / (radius * 2)) + 2):
            x, y = column * radius * 2 + (row % 2) * radius, row * radius / 2
            value = tide[min(max(int(x / width * 47), 0), 47), min(int(y / height * 47), 47)]
            assert isinstance(value, (int, float))
            fancy = rng.random() < 0.045
            for ring in range(rings):
                r = radius * (1 - ring / rings)
                tone = 0.05 + 0.55 * value / 255 + (0.34 if ring % 2 else 0.0) + 0.04 * ring
                colour = palette.at(1 if ring == 0 else tone)
                colour = palette.accent if fancy and ring % 2 else colour
                pen.ellipse((x - r, y - r, x + r, y + r), fill=colour)
                inner = r - radius * 0.022
                if ring == 0:
                    pen.ellipse((x - inner, y - inner, x + inner, y + inner), fill=palette.at(tone))
    return image.reduce(2)


def tiles(rng: random.Random, size: Size, palette: Palette) -> Image.Image:
    """A wall of cut discs and squares, each in two or three colours."""
    width, height = size[0] * 2, size[1] * 2
    unit = min(width, height) / rng.choice([5, 6, 7])
    columns, rows = math.ceil(width / unit), math.ceil(height / unit)
    across, down = width / columns, height / rows
    image = Image.new("RGB", (width, height))
    pen = ImageDraw.Draw(image)
    inks = [
        palette.at(0.02),
        palette.at(0.27),
        palette.at(0.5),
        palette.at(0.76),
        palette.at(1),
        palette.accent,
    ]
    for column in range(columns):
        for row in range(rows):
            box = (
                round(column * across),
                round(row * down),
                round((column + 1) * across),
                round((row + 1) * down),
            )
            _tile(rng, pen, box, rng.sample(inks, 3))
    return image.reduce(2)


def _tile(
    rng: random.Random, pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], inks: list[Colour]
) -> None:
    left, top, right, bottom = box
    across, down = right - left, bottom - top
    pen.rectangle((left, top, right - 1, bottom - 1), fill=inks[0])
    kind, quarter = rng.randrange(6), rng.randrange(4)
    x, y = (left, right)[quarter % 2], (top, bottom)[quarter // 2]
    start = (0, 90, 270, 180)[quarter]
    if kind <= 1:
        for share, ink in ((1.0, inks[1]), (0.62, inks[2]), (0.28, inks[0]))[: 3 if kind else 2]:
            around = (x - across * share, y - down * share, x + across * share, y + down * share)
            pen.pieslice(around, start, start + 90, fill=ink)
    elif kind == 2:
        for share, ink in ((0.42, inks[1]), (0.22, inks[2])):
            middle = ((left + right) / 2, (top + bottom) / 2)
            pen.ellipse(
                (
                    middle[0] - across * share,
                    middle[1] - down * share,
                    middle[0] + across * share,
                    middle[1] + down * share,
                ),
                fill=ink,
            )
    elif kind == 3:
        pen.polygon(
            [(left, top), (right - 1, top), (left, bottom - 1)][:: 1 if quarter % 2 else -1], fill=inks[1]
        )
        pen.polygon(
            [(right - 1, bottom - 1), (right - 1, top + down / 2), (left + across / 2, bottom - 1)],
            fill=inks[2],
        )
    elif kind == 4:
        for stripe in range(0, 6, 2):
            pen.rectangle(
                (left, top + down * stripe / 6, right - 1, top + down * (stripe + 1) / 6), fill=inks[1]
            )
    else:
        pen.pieslice((left, top - down / 2, right - 1, top + down / 2), 0, 180, fill=inks[1])
        pen.pieslice((left, top + down / 2, right - 1, bottom + down / 2), 180, 360, fill=inks[2])
