"""Downloads that take long, one at a time for each account, and never so many that nobody else is served."""

from collections.abc import Iterator

from django.conf import settings
from django.core.cache import cache

from accounts.models import User

# A process that is killed gives its turn back only then.
LONGEST_S = 1800


class Busy(Exception):
    """str() says in plain words why it is not possible now."""


def taken(user: User) -> list[str]:
    """A place, for a Turn. Raises Busy."""
    mine = f"export:of:{user.pk}"
    if not cache.add(mine, 1, LONGEST_S):
        raise Busy(
            "Your data is being downloaded already. Wait until that has ended, or try again in half an hour."
        )
    for number in range(max(settings.WEB_PROCESSES * settings.WEB_THREADS // 2, 1)):
        place = f"export:place:{number}"
        if cache.add(place, 1, LONGEST_S):
            return [mine, place]
    cache.delete(mine)
    raise Busy("Several people are downloading their data at the moment. Try again in a few minutes.")


class Turn:
    """The pieces, for a streamed answer. The turn is given back when they end, or when whoever reads them goes away,
    which may be before the first of them: a generator would not hear of that."""

    def __init__(self, taken: list[str], pieces: Iterator[bytes]) -> None:
        self.taken, self.pieces = taken, pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces

    def close(self) -> None:
        cache.delete_many(self.taken)
