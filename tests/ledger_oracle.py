"""What the ledger must say, in plain Python: written from the rules of the house, knowing nothing of `accounts.ledger`.

It keeps two lists, of what moved and of what was promised, and adds them up anew for every question. Slow and plain
on purpose: there is no running total here that could be wrong in the same way as the ledger's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

Window = tuple[str, str, date]  # subject, "day" or "month", its first UTC day


class Refused(Exception):
    """`args` are the kind of refusal and its numbers."""


@dataclass(frozen=True)
class Rule:
    """A cap: no more than `limit` (None: counted only) in a `window`, of which each item takes `each`."""

    subject: str
    window: str
    limit: int | None
    each: int


@dataclass(frozen=True)
class Moved:
    business_id: str
    source: str
    target: str
    amount: int


@dataclass
class Promised:
    owner: str
    amount: int
    takes: dict[Window, int]
    state: str = "open"
    captured: int = 0

    def reserved(self, window: Window) -> int:
        return self.takes.get(window, 0) if self.state == "open" else 0

    def spent(self, window: Window) -> int:
        """All that it took, or, where less than the whole was charged, no more than was charged."""
        taken = self.takes.get(window, 0)
        if self.state != "captured":
            return 0
        return taken if self.captured == self.amount else min(taken, self.captured)


class Oracle:
    def __init__(
        self, *, gift: int, gifts_a_day: int, previews_a_day: int, preview_cost_a_day: int, now: datetime
    ):
        self.gift, self.gifts_a_day = gift, gifts_a_day
        self.previews_a_day, self.preview_cost_a_day = previews_a_day, preview_cost_a_day
        self.now = now
        self.moves: list[Moved] = []
        self.promises: dict[str, Promised] = {}
        self.caps: dict[tuple[str, str], int] = {}
        self.welcomed: set[str] = set()

    # --- Questions ------------------------------------------------------------------------------------
    def balance(self, wallet: str) -> int:
        came = sum(move.amount for move in self.moves if move.target == wallet)
        return came - sum(move.amount for move in self.moves if move.source == wallet)

    def held(self, wallet: str) -> int:
        return sum(p.amount for p in self.promises.values() if p.owner == wallet and p.state == "open")

    def available(self, wallet: str) -> int:
        return self.balance(wallet) - self.held(wallet)

    def statement(self, wallet: str) -> list[int]:
        """The balance after each line."""
        balances = [0]
        for move in self.moves:
            if wallet in (move.source, move.target):
                balances.append(balances[-1] + (move.amount if move.target == wallet else -move.amount))
        return balances[1:]

    def window(self, subject: str, kind: str) -> Window:
        today = self.now.astimezone(UTC).date()
        return subject, kind, today if kind == "day" else date(today.year, today.month, 1)

    def seen(self, window: Window) -> tuple[int, int]:
        """What is spent and what is reserved in it."""
        promises = self.promises.values()
        return sum(p.spent(window) for p in promises), sum(p.reserved(window) for p in promises)

    def windows(self) -> dict[Window, tuple[int, int]]:
        taken = {window for promise in self.promises.values() for window in promise.takes}
        return {window: self.seen(window) for window in taken if any(self.seen(window))}

    def with_state(self, *states: str) -> list[str]:
        return [name for name, promise in self.promises.items() if promise.state in states]

    # --- What happens ---------------------------------------------------------------------------------
    def grant(self, business_id: str, wallet: str, amount: int, source: str = "house:goodwill") -> bool:
        if any(move.business_id == business_id for move in self.moves):
            return False
        self.moves.append(Moved(business_id, source, wallet, amount))
        return True

    def welcome(self, wallet: str, address: str) -> bool:
        """Once a person: neither the address nor the account has been welcomed before."""
        if {wallet, address} & self.welcomed:
            return False
        rule = Rule("house:signup/usd", "day", self.gifts_a_day, self.gift)
        name = f"welcome {address}"
        self.hold("house:promo", {name: self.gift}, [rule])
        self.capture(name, to=wallet)
        self.welcomed |= {wallet, address}
        return True

    def account_rules(self, wallet: str, each: int) -> list[Rule]:
        return [
            Rule(f"{wallet}/usd", window, self.caps.get((wallet, window)), each)
            for window in ("job", "day", "month")
        ]

    def preview_rules(self, wallet: str, cost: int) -> list[Rule]:
        return [
            Rule("house:preview/usd", "day", self.preview_cost_a_day, cost),
            Rule(f"{wallet}/previews", "day", self.previews_a_day, 1),
        ]

    def hold(self, wallet: str, items: Mapping[str, int], rules: Sequence[Rule]) -> None:
        """All of the items or none."""
        for rule in rules:
            if rule.window == "job" and rule.limit is not None and rule.each > rule.limit:
                raise Refused("cap", rule.subject, "job", rule.limit, 0, rule.each)
        if set(items) & set(self.promises):
            raise Refused("happened")
        counted = sorted((r for r in rules if r.window != "job"), key=lambda r: (r.subject, r.window))
        for rule in counted:
            used, asked = sum(self.seen(self.window(rule.subject, rule.window))), rule.each * len(items)
            if rule.limit is not None and used + asked > rule.limit:
                raise Refused("cap", rule.subject, rule.window, rule.limit, used, asked)
        total = sum(items.values())
        if wallet.startswith("user:") and total > self.available(wallet):
            raise Refused("credit", total, self.available(wallet))
        takes = {self.window(rule.subject, rule.window): rule.each for rule in counted}
        for name, amount in items.items():
            self.promises[name] = Promised(wallet, amount, dict(takes))

    def capture(self, name: str, *, to: str, amount: int | None = None) -> bool:
        promise = self.promises[name]
        if promise.state != "open":
            return False
        taken = promise.amount if amount is None else amount
        if not 0 <= taken <= promise.amount:
            raise Refused("happened")
        promise.state, promise.captured = "captured", taken
        if taken:
            self.moves.append(Moved(name, promise.owner, to, taken))
        return True

    def release(self, name: str) -> bool:
        was_open = self.promises[name].state == "open"
        if was_open:
            self.promises[name].state = "released"
        return was_open

    # --- The clock ------------------------------------------------------------------------------------
    def next_midnight(self) -> datetime:
        today = self.now.astimezone(UTC).date()
        return datetime(today.year, today.month, today.day, tzinfo=UTC) + timedelta(days=1)

    def next_month(self) -> datetime:
        first = self.next_midnight()
        while first.day != 1:
            first += timedelta(days=1)
        return first
