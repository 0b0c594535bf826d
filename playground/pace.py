"""When to look at a running job again: soon enough for people, seldom enough for upstreams.

Upstreams of this kind say nothing until they are done, and ask not to be asked too often. So a drive remembers how
long each model took lately and looks seldom before that; it never looks more often in all than `LOOKS_PER_S`; and an
upstream that says "too many requests" is asked half as often, until it has long stopped saying so.
"""

import random
from collections import defaultdict, deque

LOOKS_PER_S = 200.0
SLOWEST_FACTOR = 16.0
REMEMBERED = 20
# Up to this age, seconds to the next look.
_BY_AGE = ((30.0, 0.5), (180.0, 1.0), (float("inf"), 3.0))


class Pace:
    """What one drive has learnt. Times are seconds."""

    def __init__(self) -> None:
        self._took: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._factor: dict[str, float] = defaultdict(lambda: 1.0)

    def pause(self, provider: str, model: str, *, age: float, in_flight: int) -> float:
        """Seconds until the next look at a job that was sent `age` seconds ago."""
        usual = next(pause for until, pause in _BY_AGE if age < until)
        fair = max(usual, in_flight / LOOKS_PER_S) * self._factor[provider]
        return max(fair, self._not_before(model) - age) * random.uniform(0.9, 1.1)

    def _not_before(self, model: str) -> float:
        """The age before which no job of this model was ready lately, with some room: 0 while too little is known."""
        took = self._took[model]
        return 0.8 * min(took) if len(took) >= 5 else 0.0

    def done(self, provider: str, model: str, *, age: float) -> None:
        self._took[model].append(age)
        self._factor[provider] = max(1.0, self._factor[provider] * 0.98)

    def too_often(self, provider: str) -> None:
        self._factor[provider] = min(SLOWEST_FACTOR, self._factor[provider] * 2)
