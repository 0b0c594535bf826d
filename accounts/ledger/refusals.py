"""How money says no, with the numbers for programs and the words for people."""

from datetime import datetime

from accounts import credits
from accounts.ledger.limits import PREVIEW_BUDGET, SIGNUP_BUDGET, Limit
from accounts.ledger.windows import window_end
from accounts.models import Cap


class Refusal(Exception):
    """Money said no. `code` is for programs, the text for people; nothing was held and nothing charged."""

    code = "refused"


class NotEnoughCredit(Refusal):
    code = "insufficient_credits"

    def __init__(self, *, needed: int, available: int) -> None:
        self.needed, self.available = needed, available
        super().__init__(
            f"This needs {credits.both(needed)}, and you have {credits.both(max(available, 0))} left."
        )


class CapReached(Refusal):
    """`used` is spent and held together, `asked` what did not fit; both in the cap's own unit."""

    code = "cap_reached"

    def __init__(self, cap: Limit, *, used: int, asked: int, now: datetime) -> None:
        self.subject, self.window, self.limit = cap.subject, cap.window, cap.limit or 0
        self.used, self.asked = used, asked
        self.resets = (
            window_end(cap.window, now) if cap.window in (Cap.Window.DAY, Cap.Window.MONTH) else None
        )
        # Whether the person themselves can change it.
        self.is_own = cap.subject.startswith(("user:", "key:")) and cap.subject.endswith("/usd")
        self.is_of_key = cap.subject.startswith("key:")
        super().__init__(_in_words(self))


def _in_words(reached: CapReached) -> str:
    if reached.subject == PREVIEW_BUDGET:
        return "The house's budget for free previews is used up for today. You can pay with credits instead."
    if reached.subject == SIGNUP_BUDGET:
        return "Today's welcome credits are all given out. Yours arrive as soon as there are new ones."
    if reached.subject.endswith("/previews"):
        left = max(reached.limit - reached.used, 0)
        return f"You have {left} of {reached.limit} free previews left today (UTC), and this needs {reached.asked}."
    limit, used = credits.usd(reached.limit), credits.usd(reached.used)
    if reached.window == Cap.Window.JOB:
        whose = "This key's" if reached.is_of_key else "Your"
        return f"{whose} cap is {limit} for one picture, and this one costs {credits.usd(reached.asked)}."
    asked = credits.usd(reached.asked)
    whose = f"This key's {reached.window}" if reached.is_of_key else f"Your {reached.window}"
    return f"{whose} cap of {limit} would be crossed: {used} is spent or held, and this needs {asked}."
