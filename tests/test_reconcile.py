"""Our books beside the upstreams' own words: histories at random, and a sum that knows nothing of the product's."""

import json
import random
from collections import Counter, defaultdict
from datetime import UTC, date, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from accounts.models import User
from playground import images, jobs, orders, reconciliation, upstreams
from playground.ids import new_id
from playground.models import Job, Picture, Route
from tests.making import FLEX_2K, PRO, give, leased, load_catalogue, rendered, run_for

pytestmark = pytest.mark.django_db
PRICES = {PRO: 35_000, FLEX_2K: 168_000}
COSTS = {PRO: 25_001, FLEX_2K: 120_007}
MADE = ("delivered", "preview", "kept")
UNSURE = ("timed out", "lost")
ENDS = [*MADE, *UNSURE, "refused", "running"]


@pytest.fixture(autouse=True)
def _upstream(settings: Any, alice: User) -> None:
    settings.AIGENERATE_API_KEY = "k"
    settings.PREVIEWS_PER_DAY, settings.PREVIEW_BUDGET_MICROS_PER_DAY = 1000, 10**9
    upstreams.forget()
    give(alice, 100)
    load_catalogue()
    for slug, cost in COSTS.items():
        Route.objects.filter(variant__slug=slug).update(cost_micros=cost)


def history(
    user: User, end: str, *, slug: str = PRO, reported: int | None = None, days_ago: int = 0, name: str = ""
) -> Job:
    """A job that was sent and ended like that, and what the upstream says that it cost."""
    pay = "preview" if end in ("preview", "kept") else "credits"
    job = leased(run_for(user, slug, pay=pay).jobs.get())
    assert jobs.sending(job) is True
    if end == "lost":
        assert jobs.lost(job, "no answer") and jobs.expire(job)
    else:
        assert jobs.started(job, f"up-{job.pk}")
        finish(job, end)
    changes = {"submitted": timezone.now() - timedelta(days=days_ago), "reported_cost_micros": reported}
    Job.objects.filter(pk=job.pk).update(**changes, provider=name or job.provider)
    return Job.objects.get(pk=job.pk)


def finish(job: Job, end: str) -> None:
    if end in MADE:
        key, made = images.new_key(new_id()), rendered((64, 64))
        images.store(key, made)
        assert jobs.ready(job, ["https://up.example/1.jpg"]) and jobs.succeed(job, key, made)
    if end == "kept":
        assert orders.keep(Picture.objects.get(job=job))
    if end == "refused":
        assert jobs.fail(job, "upstream_failed", "it said so")
    if end == "timed out":
        assert jobs.fail(job, "timed_out")


def reconcile(capsys: Any, *words: str) -> tuple[int, str]:
    code = 0
    try:
        call_command("reconcile", *words)
    except SystemExit as end:
        code = int(end.code or 0)
    return code, capsys.readouterr().out


# --- By hand ------------------------------------------------------------------------------------------
def test_costs_that_are_as_expected_are_in_order(alice: User, capsys: Any) -> None:
    job = history(alice, "delivered")
    Job.objects.update(reported_cost_micros=job.cost_micros)
    code, said = reconcile(capsys)
    assert code == 0 and "Every cost that was reported is the one that was expected." in said


def test_a_job_that_cost_more_is_named_with_both_amounts(alice: User, capsys: Any) -> None:
    job = history(alice, "delivered", reported=100_001)
    code, said = reconcile(capsys)
    assert code == 1
    assert f"{job.pk}  {job.submitted:%Y-%m-%d}  aigenerate, succeeded" in said
    assert "reported $0.100001" in said


def test_a_refusal_that_was_charged_for_is_named(alice: User, capsys: Any) -> None:
    history(alice, "refused", reported=35_000)
    code, said = reconcile(capsys, "--json")
    [odd] = json.loads(said)["odd_jobs"]
    assert (code, odd["expected_micros"], odd["reported_micros"]) == (1, 0, 35_000)


def test_what_still_runs_is_counted_and_not_compared(alice: User, capsys: Any) -> None:
    history(alice, "running", reported=35_000)
    code, said = reconcile(capsys, "--json")
    [line] = json.loads(said)["lines"]
    assert (code, line["sent"], line["open"], line["reports"]) == (0, 1, 1, 0)


def test_nothing_sent_is_nothing_to_compare(alice: User, capsys: Any) -> None:
    run_for(alice)
    assert reconcile(capsys) == (0, "No job was sent in that time.\n")


def test_only_so_many_jobs_are_named_and_all_are_counted(
    alice: User, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconciliation, "MOST_NAMED", 2)
    for _ in range(3):
        history(alice, "refused", reported=1)
    _, said = reconcile(capsys)
    assert "3 jobs cost something else than expected, the first 2 of them:" in said


@pytest.mark.parametrize("days", ["0", "-1", "many", "99999"])
def test_a_strange_number_of_days_is_refused(days: str) -> None:
    with pytest.raises(CommandError, match="whole number of days"):
        call_command("reconcile", "--days", days)


# --- At random ----------------------------------------------------------------------------------------
Key = tuple[str, str]


class Sums:
    """The same from the history itself: what was paid, what is owed, added up without a database."""

    def __init__(self) -> None:
        self.of: dict[Key, Counter[str]] = defaultdict(Counter)
        self.odd: set[str] = set()

    def add(self, job: Job, end: str, reported: int | None, days_ago: int, cost: int, price: int) -> None:
        day: date = (timezone.now().astimezone(UTC) - timedelta(days=days_ago)).date()
        line = self.of[job.provider, day.isoformat()]
        expected = cost if end in (*MADE, *UNSURE) else 0
        line["sent"] += 1
        line["open"] += end == "running"
        line["delivered"] += end in MADE
        line["booked_micros"] += cost if end in MADE else 0
        line["suspected_micros"] += cost if end in UNSURE else 0
        line["captured_micros"] += price if end in ("delivered", "kept") else 0
        if reported is not None and end != "running":
            line["reports"] += 1
            line["reported_micros"] += reported
            line["expected_of_reported_micros"] += expected
            line["difference_micros"] += reported - expected
            if reported != expected:
                self.odd.add(str(job.pk))


@pytest.mark.parametrize("seed", [0, *[pytest.param(seed, marks=pytest.mark.once) for seed in range(1, 4)]])
def test_every_sum_is_right_whatever_happened(
    alice: User, capsys: Any, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(reconciliation, "AT_ONCE", 7)
    dice, sums = random.Random(seed), Sums()
    for _ in range(40):
        end, slug, days_ago = dice.choice(ENDS), dice.choice(list(PRICES)), dice.choice([0, 0, 1, 2, 3])
        reported = dice.choice([None, 0, COSTS[slug], dice.randrange(10**6), 10**12 + dice.randrange(9)])
        name = dice.choice(["aigenerate", "bfl", "kie"])
        job = history(alice, end, slug=slug, reported=reported, days_ago=days_ago, name=name)
        if days_ago < 3:
            sums.add(job, end, reported, days_ago, COSTS[slug], PRICES[slug])
    code, said = reconcile(capsys, "--days", "3", "--json")
    found = json.loads(said)
    assert {(line.pop("provider"), line.pop("day")): line for line in found["lines"]} == {
        key: {name: counts[name] for name in found["lines"][0]} for key, counts in sums.of.items()
    }
    assert {odd["job"] for odd in found["odd_jobs"]} == sums.odd and code == (1 if sums.odd else 0)
    for name in ("bfl", "kie"):
        only = json.loads(reconcile(capsys, "--days", "3", "--json", "--provider", name)[1])
        assert {(line["provider"], line["day"]) for line in only["lines"]} == {
            key for key in sums.of if key[0] == name
        }
