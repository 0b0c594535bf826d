"""Pictures of something: mountains, planets, a flower, northern lights."""

import math
import random
from collections.abc import Callable

from PIL import Image, ImageChops, ImageDraw, ImageFilter

from playground.providers.drawing.brushes import (
    Palette,
    Point,
    Size,
    ball,
    downwards,
    glow,
    mixed,
    polygon,
    radial,
    stars,
    tinted,
    wander,
)


def ridges(rng: random.Random, size: Size, palette: Palette) -> Image.Image:
    """Mountains behind mountains, in haze, under a low sun."""
    width, height = size
    image = downwards(size, [palette.at(0.5), palette.at(0.78), palette.at(1), palette.at(0.9)])
    sun, radius = (
        (width * rng.uniform(0.25, 0.75), height * rng.uniform(0.24, 0.4)),
        min(size) * rng.uniform(0.06, 0.1),
    )
    glow(image, sun, radius * 6, palette.at(1), 0.9)
    warm = palette.accent if palette.accent[0] > palette.accent[2] else palette.at(1)
    ball(image, sun, radius, [mixed(warm, palette.at(1), 0.25), warm], 0)
    layers = 7
    for layer in range(layers):
        depth = layer / (layers - 1)
        curve, crags = wander(rng, 3, 0.6), wander(rng, 7, 0.62)
        base, tall = height * (0.46 + 0.46 * depth), height * (0.05 + 0.1 * math.sin(depth * 2.6 + 0.4))
        steps = max(width // 6, 60)
        line = [
            (width * i / steps, base - tall * (0.9 * curve(i / steps) + 1.5 * abs(crags(i / steps)) - 0.3))
            for i in range(steps + 1)
        ]
        top = max(int(min(y for _, y in line)) - 2, 0)
        mask = polygon(
            (width, height - top), [(x, y - top) for x, y in [*line, (width, height), (0, height)]]
        )
        rock, haze = palette.at(0.66 - 0.66 * depth), palette.at(0.82 - 0.7 * depth)
        image.paste(downwards((width, height - top), [rock, mixed(rock, haze, 0.7), haze]), (0, top), mask)
    return image


def orbits(rng: random.Random, size: Size, palette: Palette) -> Image.Image:
    """Planets on their rings around something bright."""
    width, height = size
    unit = min(size)
    centre = (width * rng.uniform(0.4, 0.6), height * rng.uniform(0.42, 0.58))
    image = radial((width * 2, height * 2), [palette.at(0.36), palette.at(0.14), palette.at(0)])
    pen, squash, planets = ImageDraw.Draw(image), rng.uniform(0.35, 1), []
    for ring in range(9):
        reach = unit * (0.11 + 0.062 * ring * (1 + ring * 0.05))
        box = [
            (centre[0] - reach) * 2,
            (centre[1] - reach * squash) * 2,
            (centre[0] + reach) * 2,
            (centre[1] + reach * squash) * 2,
        ]
        start = rng.uniform(0, 360)
        tone = rng.choice([0.35, 0.5, 0.75])
        pen.arc(
            box, start, start + rng.choice([360, 300, 220]), fill=palette.at(tone), width=max(unit // 330, 2)
        )
        for _ in range(rng.choice([0, 1, 1, 2])):
            turn = rng.uniform(0, math.tau)
            place = (centre[0] + math.cos(turn) * reach, centre[1] + math.sin(turn) * reach * squash)
            planets.append((place, unit * rng.choice([0.008, 0.014, 0.022, 0.04, 0.058])))
    image = image.reduce(2)
    stars(rng, image, 260, palette.at(0.95))
    glow(image, centre, unit * 0.34, palette.accent, 0.75)
    ball(
        image,
        centre,
        unit * 0.075,
        [palette.at(1), palette.accent, mixed(palette.accent, palette.at(0), 0.3)],
        0.6,
    )
    for place, radius in sorted(planets, key=lambda planet: planet[0][1]):
        light = math.atan2(centre[1] - place[1], centre[0] - place[0])
        hue = palette.accent if rng.random() < 0.15 else palette.at(rng.uniform(0.4, 0.85))
        ball(image, place, radius, [mixed(hue, palette.at(1), 0.6), hue, palette.at(0.05)], light)
    return image


def petals(rng: random.Random, size: Size, palette: Palette) -> Image.Image:
    """A flower by the golden angle, from its outermost petal inwards."""
    width, height = size[0] * 2, size[1] * 2
    unit, centre = min(width, height), (width * rng.uniform(0.42, 0.58), height * rng.uniform(0.44, 0.56))
    image = radial((width, height), [palette.at(0.95), palette.at(0.8), palette.at(0.62)])
    pen, rows, twist = ImageDraw.Draw(image), rng.randrange(230, 330), rng.uniform(0, math.tau)
    plump, hue = rng.uniform(0.24, 0.4), rng.choice([0.0, 0.0, 0.1])
    for number in range(rows, 0, -1):
        share = number / rows
        turn = number * math.pi * (3 - math.sqrt(5)) + twist
        reach, long = unit * 0.43 * share**0.55, unit * (0.03 + 0.13 * share**0.9)
        tone = 0.1 + 0.72 * (1 - share) ** 0.8 + 0.05 * math.sin(number * 2.4)
        colour = mixed(palette.at(tone), palette.accent, max(hue, 1 - share * 4.5 if share < 0.22 else 0.0))
        leaf = _leaf(centre, turn, reach - long * 0.75, reach + long * 0.5, long * plump)
        pen.polygon([(x + unit * 0.004, y + unit * 0.007) for x, y in leaf], fill=palette.at(0.03))
        pen.polygon(leaf, fill=colour)
        tip = _leaf(centre, turn, reach - long * 0.6, reach + long * 0.4, long * plump * 0.3)
        pen.polygon(tip, fill=mixed(colour, palette.at(1), 0.22))
    return image.reduce(2)


def _leaf(centre: Point, turn: float, start: float, end: float, half: float) -> list[Point]:
    along, aside = (math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))
    points = []
    for i in range(24):
        angle = math.tau * i / 24
        far = (start + end) / 2 + math.cos(angle) * (end - start) / 2
        off = math.sin(angle) * half * (1 + 0.35 * math.cos(angle))
        points.append(
            (centre[0] + along[0] * far + aside[0] * off, centre[1] + along[1] * far + aside[1] * off)
        )
    return points


def aurora(rng: random.Random, size: Size, palette: Palette) -> Image.Image:
    """Curtains of light over a wood at night."""
    small = (320, max(round(320 * size[1] / size[0]), 40))
    night = mixed(palette.at(0), (4, 6, 18), 0.5)
    sky = downwards(small, [night, palette.at(0.08), palette.at(0.2)])
    for number in range(4):
        colour = [palette.at(0.7), palette.accent, palette.at(0.9), palette.at(0.55)][number]
        sky = ImageChops.screen(
            sky, tinted(_curtain(rng, small), [(0, 0, 0), mixed(colour, (0, 0, 0), 0.35), colour])
        )
    image = sky.resize(size, Image.Resampling.BICUBIC)
    stars(rng, image, 380, palette.at(1), below=0.75)
    ground = wander(rng, 4)
    for depth, tone in ((0.0, 0.1), (0.05, 0.02)):
        image.paste(
            mixed(night, palette.at(tone), 0.6), (0, 0), polygon(size, _wood(rng, size, ground, depth))
        )
    return image


def _curtain(rng: random.Random, size: Size) -> Image.Image:
    width, height = size
    light, path, pleats = Image.new("L", size), wander(rng, 4), wander(rng, 7, 0.8)
    ray = Image.linear_gradient("L").point(
        [round((v / 255) ** 2.2 * min((255 - v) / 40, 1) * 255) for v in range(256)]
    )
    low, reach = rng.uniform(0.42, 0.72), rng.uniform(0.3, 0.5)
    for x in range(width):
        foot = height * (low + 0.16 * path(x / width))
        tall = max(round(height * reach * (0.75 + 0.4 * pleats(x / width))), 4)
        strength = 0.55 + 0.4 * pleats(x / width * 1.7 + 0.3)
        column = ray.resize((1, tall), Image.Resampling.BILINEAR)
        light.paste(round(225 * min(max(strength, 0.1), 1)), (x, round(foot) - tall), column)
    return light.filter(ImageFilter.BoxBlur((1, height / 90)))


def _wood(rng: random.Random, size: Size, ground: Callable[[float], float], depth: float) -> list[Point]:
    """The outline of a row of firs. `depth`: how much lower they stand than the farthest ones."""
    width, height = size
    unit, x = min(size), -0.02 * width
    line = [(x, float(height))]
    while x < width:
        wide, tall = unit * rng.uniform(0.012, 0.026), unit * rng.uniform(0.03, 0.1)
        foot = height * (0.84 + depth + 0.03 * ground(x / width + depth * 9))
        line += _fir(x, foot, wide, tall)
        x += wide * rng.uniform(0.6, 1.5)
    return [*line, (x, float(height))]


def _fir(x: float, foot: float, wide: float, tall: float) -> list[Point]:
    tiers = 5
    left = []
    for tier in range(tiers):
        edge, level = x + wide * 0.5 * tier / tiers, foot - tall * tier / tiers
        left += [(edge, level), (edge + wide * 0.11, level - tall * 0.05)]
    right = [(2 * x + wide - edge, level) for edge, level in reversed(left)]
    return [*left, (x + wide / 2, foot - tall), *right]
