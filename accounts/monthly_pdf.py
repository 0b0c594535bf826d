"""A month's statement as a PDF of A4 pages.

The fonts that every reader has know the letters of western Europe only. Of others with an accent the bare letter is
printed, and for the rest a question mark, so that no memo in any script can keep somebody from their statement. A name
that cannot be read so is left out beside the address. The page and the CSV have every letter.
"""

import unicodedata
from collections.abc import Iterable
from functools import partial
from importlib import import_module
from typing import Any

from accounts import credits
from accounts.monthly import Line, Month, Total

_PLAIN = str.maketrans(
    {"…": "...", "–": "-", "—": "-", "‘": "'", "’": "'", "“": '"', "”": '"', "•": "*", "−": "-", "€": "EUR"}
)
# Letters that are no letter with an accent.
_BARE = str.maketrans("ŁłĐđĦħıĸŊŋŦŧ", "LlDdHhikNnTt") | {ord("Œ"): "OE", ord("œ"): "oe"}
_GREY, _INK = (110, 116, 112), (22, 26, 24)
_WIDTHS = (30, 92, 32, 32)  # millimetres; 12 are left for margins on both sides
_ROW = 6
MOST_CHARACTERS = 80  # of a line's words, before they are measured


def latin(text: str) -> str:
    """As the fonts can print it: accents are kept where there are such letters, and what has none becomes a question
    mark."""
    composed = unicodedata.normalize("NFC", text.translate(_PLAIN).translate(_BARE))
    return "".join(_letter(letter if letter.isprintable() else " ") for letter in composed)


def _letter(letter: str) -> str:
    if letter <= "\xff":
        return letter
    parts = unicodedata.normalize("NFKD", letter)
    bare = "".join(part for part in parts if not unicodedata.combining(part))
    return bare if bare and max(bare) <= "\xff" else "?"


def known_as(name: str, address: str) -> str:
    """Who it is for, in letters that can be printed."""
    is_readable = "?" not in latin(name.replace("?", ""))
    return f"{name} {address}".strip() if is_readable else address


def render(
    made: Month, totals: Iterable[Total], lines: Iterable[Line], *, seller: str, buyer: str, is_short: bool
) -> bytes:
    """`is_short`: these are not all lines, which the document then says."""
    pdf = _paper(latin(f"Statement {made.title} for {buyer}"))
    _head(pdf, made, seller, buyer)
    _sums(pdf, made, totals)
    _lines(pdf, lines)
    if is_short:
        _text(
            pdf,
            f"Of {made.count:,} lines these are the first. All of them are in the CSV file.",
            9,
            grey=True,
        )
    return bytes(pdf.output())


def _paper(title: str) -> Any:
    """Loaded when it is needed: the library takes a second, which no command and no worker should pay."""
    fpdf = import_module("fpdf")
    pdf = fpdf.FPDF(format="A4")
    pdf.set_title(title)
    pdf.set_margins(12, 14)
    pdf.set_auto_page_break(True, 18)
    pdf.footer = partial(_foot, pdf, title)
    pdf.add_page()
    return pdf


def _foot(pdf: Any, title: str) -> None:
    """So that printed pages can be put in order again. The library writes how many there are."""
    pdf.set_y(-13)
    pdf.set_font("Helvetica", "", 8)
    pdf.set_text_color(*_GREY)
    pdf.cell(0, 5, f"{title}, page {pdf.page_no()} of {{nb}}", align="R")


def _text(pdf: Any, words: str, size: float, *, bold: bool = False, grey: bool = False) -> None:
    pdf.set_font("Helvetica", "B" if bold else "", size)
    pdf.set_text_color(*(_GREY if grey else _INK))
    pdf.multi_cell(0, size * 0.5, latin(words), new_x="LMARGIN", new_y="NEXT")


def _head(pdf: Any, made: Month, seller: str, buyer: str) -> None:
    _text(pdf, f"Statement {made.title}", 20, bold=True)
    pdf.ln(2)
    _text(pdf, f"{seller}\nfor {buyer}", 10)
    _text(pdf, "All times are UTC. Amounts are US dollars. 1 credit is $0.007.", 9, grey=True)
    pdf.ln(4)


def _sums(pdf: Any, made: Month, totals: Iterable[Total]) -> None:
    _row(pdf, ("", "", "Lines", "USD"), bold=True)
    _row(pdf, ("", "Balance before", "", credits.usd(made.opened)), bold=True)
    for total in totals:
        _row(pdf, ("", total.kind, f"{total.count:,}", credits.usd(total.change)))
    _row(pdf, ("", "Balance after", "", credits.usd(made.closed)), bold=True)
    pdf.ln(6)


def _lines(pdf: Any, lines: Iterable[Line]) -> None:
    _row(pdf, ("When", "What", "USD", "Balance"), bold=True)
    for line in lines:
        words = _fitting(pdf, f"{line.kind} {line.memo}".strip(), _WIDTHS[1] - 2)
        _row(pdf, (f"{line.at:%d %b, %H:%M}", words, credits.usd(line.change), credits.usd(line.balance)))


def _fitting(pdf: Any, words: str, width: float) -> str:
    """As much of it as is not wider than that."""
    shown = latin(words)
    if pdf.get_string_width(shown) <= width:
        return shown
    shown = shown[:MOST_CHARACTERS]
    while pdf.get_string_width(f"{shown}...") > width:
        shown = shown[:-1]
    return f"{shown}..."


def _row(pdf: Any, cells: tuple[str, str, str, str], *, bold: bool = False) -> None:
    pdf.set_font("Helvetica", "B" if bold else "", 9)
    pdf.set_text_color(*_INK)
    pdf.set_draw_color(220, 220, 214)
    for number, (width, words) in enumerate(zip(_WIDTHS, cells, strict=True)):
        is_last = number == len(cells) - 1
        place = {"new_x": "LMARGIN", "new_y": "NEXT"} if is_last else {}
        pdf.cell(width, _ROW, latin(words), border="B", align="R" if number > 1 else "L", **place)
