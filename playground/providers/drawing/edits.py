"""An edit: the given picture, seen again in the palette's colours and framed by the style's ornament."""

import io

from PIL import Image, ImageDraw, ImageOps

from playground.providers.drawing.brushes import Palette, Size, shape, tinted

TONES = 6
OF_THE_ORIGINAL = 0.28  # enough of its own colours to know it by


def recoloured(data: bytes, size: Size, palette: Palette) -> Image.Image:
    """The middle of the given picture at that size, in few tones from the palette's dark to its light."""
    given = _opened(data, size, palette)
    step = 255 / (TONES - 1)
    grey = ImageOps.autocontrast(ImageOps.grayscale(given), cutoff=1)
    tones = grey.point([round(round(level / step) * step) for level in range(256)])
    return Image.blend(tinted(tones, palette.ramp), given, OF_THE_ORIGINAL)


def _opened(data: bytes, size: Size, palette: Palette) -> Image.Image:
    with Image.open(io.BytesIO(data), formats=["JPEG", "PNG", "WEBP"]) as image:
        image.draft("RGB", size)
        fitted = ImageOps.fit(image if image.mode in ("RGB", "RGBA") else image.convert("RGB"), size)
    if fitted.mode != "RGBA":
        return fitted
    paper = Image.new("RGB", size, palette.ramp[-1])
    paper.paste(fitted, mask=fitted)
    return paper


def framed(image: Image.Image, ornament: Image.Image, palette: Palette) -> Image.Image:
    """With the ornament all round it, and a line of the accent between the two."""
    wide, tall = image.size
    margin = round(min(image.size) * 0.07)
    line, round_by = max(margin // 10, 1), margin

    def opening(inset: int) -> Image.Image:
        box = (2 * inset, 2 * inset, 2 * (wide - inset) - 1, 2 * (tall - inset) - 1)
        return shape(image.size, lambda pen: _rounded(pen, box, 2 * round_by))

    frame = ornament.copy()
    frame.paste(palette.accent, (0, 0, wide, tall), opening(margin - line))
    frame.paste(image, mask=opening(margin))
    return frame


def _rounded(pen: ImageDraw.ImageDraw, box: tuple[int, int, int, int], radius: int) -> None:
    if box[2] > box[0] and box[3] > box[1]:
        pen.rounded_rectangle(box, radius, fill=255)
