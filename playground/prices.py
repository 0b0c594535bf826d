"""Prices dated ahead, told to everybody; and one that rose while somebody was looking at the old one."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from django.utils import timezone

from accounts import credits
from playground.models import Price, Variant


def ahead(variants: Sequence[Variant], now: datetime | None = None) -> dict[int, str]:
    """For each variant with a price to come, what to say of the next one: `from 1 December: $0.03`. One query."""
    now = now or timezone.now()
    rows = Price.objects.filter(variant__in=[variant.pk for variant in variants], starts__gt=now)
    following = {
        price.variant_id: price for price in rows.order_by("-starts")
    }  # the soonest comes last, and stays
    return {pk: in_words(price, now) for pk, price in following.items()}


def next_of(prices: Iterable[Price], now: datetime) -> str:
    """The same for the prices of one variant; empty where none is to come."""
    to_come = [price for price in prices if price.starts > now]
    return in_words(min(to_come, key=lambda price: price.starts), now) if to_come else ""


def in_words(price: Price, now: datetime) -> str:
    """The day and, where it is not midnight UTC, the time; the year where it is another one."""
    at = price.starts.astimezone(UTC)
    day = f"{at.day} {at:%B}" + (f" {at.year}" if at.year != now.year else "")
    time = "" if (at.hour, at.minute) == (0, 0) else f", {at:%H:%M} UTC"
    return f"from {day}{time}: {credits.usd(price.micros)}"


def risen(variants: Sequence[Variant], seen: datetime) -> str:
    """What to say where one of them costs more now than it did when the person looked; empty where none does.

    A price that fell is simply charged. One query, and two more where a price began in between.
    """
    now = timezone.now()
    pks = [variant.pk for variant in variants]
    if seen >= now or not Price.objects.filter(variant__in=pks, starts__gt=seen, starts__lte=now).exists():
        return ""
    before, after = (_prices(pks, at) for at in (seen, now))
    said = [
        f"{variant.label} costs {credits.both(after[variant.pk])} now, not {credits.both(before[variant.pk])}."
        for variant in variants
        if before.get(variant.pk) is not None and after[variant.pk] > before[variant.pk]
    ]
    if not said:
        return ""
    return f"The price has changed since you opened this page: {' '.join(said)} Press again if you want it at this price."


def _prices(pks: Sequence[int], at: datetime) -> dict[int, int]:
    """Micro-dollars of each of them at that moment; one without a price is left out."""
    found = Variant.objects.filter(pk__in=pks).priced(at)
    return {variant.pk: variant.price_micros for variant in found if variant.price_micros is not None}
