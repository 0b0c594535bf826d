"""Money in words: whole micro-dollars in, text out, and dollars as people type them the other way."""

import re
from decimal import Decimal

MICROS_PER_USD = 1_000_000
MICROS_PER_CREDIT = 7_000
MOST_USD = 1_000_000  # that anybody may type
# Dollars, and up to six decimals that say something. Not what `Decimal` takes besides: 1e5, 1_000, NaN.
_TYPED = re.compile(r"\$?\s*(?=\.?\d)(\d{0,20})(?:\.(\d{0,6})0*)?")


def credits(micros: int) -> str:
    """`10_000_000` -> `1,428.57`: always two decimals, rounded down in size, so that nobody is promised more."""
    hundredths = abs(micros) * 100 // MICROS_PER_CREDIT
    return f"{'-' if micros < 0 else ''}{hundredths // 100:,}.{hundredths % 100:02d}"


def usd(micros: int, *, decimals: int = 2) -> str:
    """`10_000_000` -> `$10.00`, `35_000` -> `$0.035`: exact, with no more decimals than it needs, and at least two."""
    amount = f"{Decimal(abs(micros)) / MICROS_PER_USD:,.6f}"
    whole, _, fraction = amount.partition(".")
    return f"{'-' if micros < 0 else ''}${whole}.{fraction.rstrip('0').ljust(decimals, '0')}"


def price(micros: int) -> str:
    """`35_000` -> `$0.0350`: dollars as in the price table, with at least four decimals, so that columns align."""
    return usd(micros, decimals=4)


def both(micros: int) -> str:
    """`1,428.57 credits ($10.00)`."""
    return f"{credits(micros)} credits ({usd(micros)})"


def micros_of(usd: str, *, most_usd: int = MOST_USD) -> int:
    """`$0.035` -> `35_000`: what somebody typed, exact. ValueError, in plain words, for anything else."""
    typed = _TYPED.fullmatch(usd.strip())
    whole, fraction = typed.groups(default="") if typed else ("", "")
    micros = int(whole or 0) * MICROS_PER_USD + int(fraction.ljust(6, "0"))
    if not typed or micros > most_usd * MICROS_PER_USD:
        raise ValueError(
            f"an amount in US dollars from 0 to {most_usd:,}, without commas and with at most six decimals,"
            " such as 2.50"
        )
    return micros
