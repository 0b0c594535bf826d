"""The operator's front page: every figure is the ledger's, for those who may see it, and none reads a whole table."""

import csv
import io
import random
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import ledger, refunds
from accounts.models import Hold, Transfer, User, Wallet
from playground import audits, images, jobs, orders, takings, tasks, upkeep
from playground.ids import new_id
from playground.models import (
    AuditRun,
    HouseClosed,
    HouseDay,
    Job,
    Picture,
    Report,
    ShareLink,
    Switch,
    UsageDay,
)
from tests.making import (
    FLEX_2K,
    KONTEXT,
    PRO,
    USD,
    clerk,
    give,
    job_for,
    leased,
    load_catalogue,
    picture_for,
    rendered,
    run_for,
)

LATE = datetime(2026, 11, 30, 21, tzinfo=UTC)


def front(client: Client, at: str = "/admin/") -> str:
    answer = client.get(at)
    assert answer.status_code == 200
    return str(answer.content.decode())


# --- What it says -------------------------------------------------------------------------------------
def test_an_empty_house_has_a_front_page(desk: Client) -> None:
    page = front(desk)
    for words in (
        "None since midnight UTC.",
        "none is open",
        "never run",
        "Nothing was made in this period.",
    ):
        assert words in page
    fragment = front(desk, "/admin/playground/auditrun/figures/")
    assert "none is open" in fragment and "<html" not in fragment


def test_jobs_failures_and_money_are_on_it_with_their_lists(alice: User, desk: Client) -> None:
    give(alice)
    picture_for(alice)
    jobs.fail(leased(job_for(alice)), "moderated")
    running = leased(job_for(alice))
    assert jobs.sending(running) and jobs.started(running, "up-1")
    Job.objects.filter(pk=running.pk).update(deadline=timezone.now() - timedelta(minutes=1))
    waiting = job_for(alice)
    page = front(desk)
    assert '?now=waiting">1</a>' in page and '?now=running">1</a>' in page and "1 job is open past" in page
    assert "?failure=moderated&amp;id__gte=" in page
    for words in ("$9.965</a>", "$0.07</a>", "2 open holds", f"/accounts/hold/{running.hold_id}/change/"):
        assert words in page, words
    for name, job in {"waiting": waiting, "running": running, "overdue": running}.items():
        listed = front(desk, f"/admin/playground/job/?now={name}")
        assert listed.count('class="action-select"') == 1 and f"/job/{job.pk}/" in listed


def test_what_needs_somebody_is_named_first(alice: User, desk: Client, settings: Any) -> None:
    settings.PREVIEW_BUDGET_MICROS_PER_DAY = 10
    give(alice)
    ledger.hold(
        ledger.house(Wallet.House.PREVIEW),
        [ledger.Promise("job:x", 10, "x")],
        ledger.preview_limits(alice, 10),
    )
    Switch.objects.create(name=jobs.DISPATCH, is_on=False, reason="Overcharged")
    link = ShareLink.objects.create(user=alice, picture=picture_for_with(alice))
    Report.objects.create(link=link, reason="other", reporter="x")
    Hold.objects.filter(state="open").update(created=timezone.now() - timedelta(hours=2))
    page = front(desk).partition('class="front-tiles"')[0]
    for words in (
        "Nothing is sent upstream: Overcharged", "No worker is alive", "A hold is open for longer",
        "today&#x27;s budget of $0.00001 is used up", "1 report of shared pages is open",
    ):  # fmt: skip
        assert words in page, words


def picture_for_with(user: User) -> Any:
    """A picture although nothing is dispatched."""
    Switch.objects.filter(name=jobs.DISPATCH).update(is_on=True)
    made = picture_for(user)
    Switch.objects.filter(name=jobs.DISPATCH).update(is_on=False)
    return made


def test_each_part_is_for_those_who_may_see_it(alice: User, bob: User) -> None:
    give(alice)
    picture_for(alice)
    page = front(clerk(bob))
    for hidden in (
        "Jobs now",
        "Today (UTC)",
        "Owed and held",
        "Budgets",
        "Audit</h2>",
        "Revenue",
        "Upstreams</a>",
    ):
        assert hidden not in page, hidden
    page = front(clerk(bob, "view_job", "view_auditrun"))
    assert "Jobs now" in page and "Audit</h2>" in page and "Run the audit" not in page and "$" not in page
    assert clerk(bob, "view_job").get("/admin/playground/auditrun/takings.csv").status_code == 403
    assert "Revenue" in front(clerk(bob, "view_transfer"))


def test_strangers_get_none_of_it(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    for at in ("", "playground/auditrun/figures/", "playground/auditrun/takings.csv"):
        assert client.get(f"/admin/{at}").status_code == 302


def test_it_obeys_the_policy_on_scripts_and_styles(desk: Client) -> None:
    page = front(desk)
    assert "style=" not in page and "<style" not in page and "onclick" not in page
    assert "<script>" not in page and "js/desk" in page


@pytest.mark.parametrize(
    "at", ["?days=7", "?days=90", "?days=x", "?day=2026-01-01", "?day=%00", "?day=9999-12-31"]
)
def test_any_period_has_a_page(alice: User, desk: Client, at: str) -> None:
    assert "Revenue, upstream cost and margin" in front(desk, f"/admin/{at}")


def test_the_ledger_is_listed_from_a_day_on(alice: User, desk: Client) -> None:
    for days in (20, 10, 0):
        with time_machine.travel(LATE - timedelta(days=days)):
            give(alice, 1 + days)
    with time_machine.travel(LATE):
        desk.force_login(User.objects.get(email="charlie@example.org"))
        for since, found in {
            "2026-11-01": 3,
            "2026-11-20": 2,
            "2026-11-21": 1,
            "2026-12-01": 0,
            "x": 3,
        }.items():
            page = front(desk, f"/admin/accounts/transfer/?since={since}")
            assert page.count('class="action-select"') == found, since


# --- Takings ------------------------------------------------------------------------------------------
def something_happens(dice: random.Random, user: User) -> None:
    asked: dict[str, Any] = {"pay": dice.choice(["credits", "preview"])}
    variant = dice.choice([PRO, KONTEXT, FLEX_2K])
    match dice.randrange(6):
        case 0 | 1 | 2:
            [job] = run_for(user, variant, **asked).jobs.all()
            reported = dice.choice([None, dice.randrange(40_000)])
            made = _finish(job, reported)
            if made.is_locked and dice.random() < 0.5:
                orders.keep(made)
        case 3:
            [job] = run_for(user, variant, **asked).jobs.all()
            Job.objects.filter(pk=job.pk).update(cost_micros=dice.randrange(1, 30_000))
            job = leased(job)
            assert jobs.sending(job)
            jobs.fail(job, dice.choice(["timed_out", "moderated", "outcome_unknown"]))
        case _:
            paid = Hold.objects.filter(wallet__user=user, captured__gt=0).order_by("?").first()
            left = refunds.left_of(paid) if paid else 0
            if paid and left:
                name = f"refund:{paid.pk}:{dice.random()}"
                refunds.refund(paid, dice.randrange(1, left + 1), business_id=name, memo="x", actor=None)


def _finish(job: Job, reported: int | None) -> Any:
    job = leased(job)
    assert jobs.sending(job) and jobs.started(job, f"up-{job.pk}", cost_micros=reported)
    assert jobs.ready(job, ["https://up.example/1.jpg"])
    key, made = images.new_key(new_id()), rendered((64, 64))
    images.store(key, made)
    assert jobs.succeed(job, key, made)
    return Picture.objects.get(job=job)


def by_hand() -> tuple[Counter[date], Counter[date]]:
    """Revenue and upstream cost of each UTC day, from the ledger's rows and the jobs, added up plainly."""
    revenue, cost = Counter[date](), Counter[date]()
    for row in Transfer.objects.all():
        sign = {"charge": 1, "keep": 1, "refund": -1}.get(row.kind, 0)
        revenue[row.created.astimezone(UTC).date()] += sign * row.amount
        if row.kind == "suspected_cost":
            cost[row.created.astimezone(UTC).date()] += row.amount
    for job in Job.objects.filter(state="succeeded"):
        assert job.finished
        known = job.cost_micros if job.reported_cost_micros is None else job.reported_cost_micros
        cost[job.finished.astimezone(UTC).date()] += known
    return revenue, cost


@pytest.mark.django_db
@pytest.mark.parametrize("seed", [0, *[pytest.param(seed, marks=pytest.mark.once) for seed in range(1, 4)]])
def test_takings_of_random_histories_are_the_ledgers_to_the_micro_dollar(
    alice: User, bob: User, seed: int
) -> None:
    dice = random.Random(seed)
    with time_machine.travel(LATE - timedelta(days=5)):
        load_catalogue()
    with time_machine.travel(LATE - timedelta(days=4), tick=True) as clock:
        for user in (alice, bob):
            give(user, 1000)
        for _ in range(25):
            clock.shift(timedelta(hours=dice.randrange(6)))
            something_happens(dice, dice.choice([alice, bob]))
            if dice.random() < 0.1:
                upkeep.nightly()
        last = timezone.now().date()
        revenue, cost = by_hand()
        found = takings.by_day_and_variant(date(2026, 11, 1), last)
        assert upkeep.audit(with_files=False) == []
        clock.shift(timedelta(days=1, hours=2))
        takings.close_days()
        assert takings.by_day_and_variant(date(2026, 11, 1), last) == found
    assert {day for day, _ in found} >= {day for day, micros in (revenue + cost).items() if micros}
    for day in {*revenue, *cost}:
        of_day = takings.total(sums for key, sums in found.items() if key[0] == day)
        assert (of_day.revenue, of_day.cost) == (revenue[day], cost[day]), day
    assert HouseClosed.objects.exists()


def test_a_day_that_is_over_is_kept_once_and_today_is_live(alice: User) -> None:
    with time_machine.travel(LATE - timedelta(days=2)):
        give(alice)
        picture_for(alice)
    with time_machine.travel(LATE):
        picture_for(alice)
        assert (takings.close_days(), takings.close_days()) == (2, 0)
        assert [row.pictures_micros for row in HouseDay.objects.all()] == [35_000]
        assert takings.today().revenue == 35_000
        found = takings.by_day_and_variant(date(2026, 11, 28), date(2026, 11, 30))
        assert sorted(day for day, _ in found) == [date(2026, 11, 28), date(2026, 11, 30)]


def test_a_day_is_not_closed_while_a_success_may_still_be_written(alice: User) -> None:
    with time_machine.travel(LATE + timedelta(hours=2, minutes=59)):
        give(alice)
        picture_for(alice)
    with time_machine.travel(LATE + timedelta(hours=3, minutes=30)):
        assert takings.close_days() == 0
    with time_machine.travel(LATE + timedelta(hours=4, minutes=1)):
        assert takings.close_days() == 1


@pytest.mark.parametrize("change", [{"pictures_micros": 1}, {"refunded_micros": 1}, {"cost_micros": 7}, None])
def test_the_audit_names_a_day_that_was_kept_wrong(alice: User, change: dict[str, int] | None) -> None:
    with time_machine.travel(LATE - timedelta(days=2)):
        give(alice)
        picture_for(alice)
    with time_machine.travel(LATE):
        takings.close_days()
        HouseDay.objects.update(**change) if change else HouseDay.objects.all().delete()
        [found] = upkeep.audit(with_files=False)
    assert found["invariant"] == "a day of the house = its accounts'"


def test_the_file_has_the_page_to_the_micro_dollar(alice: User, desk: Client) -> None:
    give(alice)
    picture_for(alice)
    orders.keep(picture_for(alice, pay="preview"))
    held = picture_for(alice).job.hold
    refunds.refund(held, 12_345, business_id="refund:1", memo="x", actor=None)
    answer: Any = desk.get("/admin/playground/auditrun/takings.csv?days=7")
    [row] = csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode()))
    assert (row["variant"], row["pictures"], row["kept"], row["previews"]) == (PRO, "2", "1", "1")
    assert (row["revenue_micros"], row["refunded_micros"]) == (str(3 * 35_000 - 12_345), "12345")
    assert "$0.092655" in front(desk)


# --- What it costs ------------------------------------------------------------------------------------
def test_no_question_walks_through_a_whole_table(alice: User, desk: Client) -> None:
    """Of the tables that grow for ever, every query of the page names an index, or the ids that it wants."""
    give(alice)
    picture_for(alice)
    front(desk)
    with CaptureQueriesContext(connection) as captured:
        front(desk)
    grown = (
        "playground_job",
        "accounts_hold",
        "accounts_transfer",
        "playground_usageday",
        "playground_picture",
    )
    for query in captured.captured_queries:
        sql = query["sql"]
        if sql.startswith("SELECT") and any(f'FROM "{table}"' in sql for table in grown):
            for line in plan_of(sql):
                assert not walks(line, grown), f"{line}: {sql}"


def plan_of(sql: str) -> list[str]:
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
            return [row[3] for row in cursor.fetchall()]
        cursor.execute("SET LOCAL enable_seqscan = off")
        cursor.execute(f"EXPLAIN {sql}")
        return [row[0] for row in cursor.fetchall()]


def walks(line: str, tables: tuple[str, ...]) -> bool:
    if connection.vendor == "sqlite":
        return line.startswith("SCAN") and "USING" not in line and any(table in line for table in tables)
    return "Seq Scan" in line and any(table in line for table in tables)


def test_the_number_of_questions_does_not_grow(
    alice: User, desk: Client, django_assert_max_num_queries: Any
) -> None:
    give(alice, 10)
    for slug in (PRO, KONTEXT, FLEX_2K):
        run_for(alice, slug, count=4)
        _finish(run_for(alice, slug).jobs.get(), None)
    front(desk)
    with django_assert_max_num_queries(40):
        front(desk, "/admin/playground/auditrun/figures/")


# --- The audit ----------------------------------------------------------------------------------------
def test_the_audit_is_asked_for_runs_in_the_queue_and_is_shown(charlie: User, desk: Client) -> None:
    page = desk.post("/admin/playground/auditrun/ask/", follow=True).content.decode()
    assert "The audit has begun" in page and "waits for a worker" in page and "Run the audit now" not in page
    assert LogEntry.objects.get().user == charlie
    tasks.audit()
    run = AuditRun.objects.get()
    assert (run.state, run.found, run.staff, run.with_files) == ("ended", 0, charlie, False)
    assert run.done == run.checks > 10
    assert "all adds up" in front(desk)


def test_two_clicks_are_one_audit(desk: Client) -> None:
    for _ in range(2):
        desk.post("/admin/playground/auditrun/ask/")
    assert AuditRun.objects.count() == 1
    assert audits.run_asked() == 1
    assert audits.run_asked() == 0


def test_what_it_found_is_named_on_the_page(alice: User, desk: Client) -> None:
    give(alice)
    wallet = ledger.wallet_of(alice)
    type(wallet).objects.filter(pk=wallet.pk).update(posted=11 * USD)
    audits.run(AuditRun.By.NIGHT, with_files=False)
    page = front(desk)
    assert "does not add up" in page and "The audit found" in page and f"user:{alice.pk}" in page


def test_one_that_was_killed_is_said_to_have_broken_off(charlie: User, desk: Client) -> None:
    audits.ask(charlie)
    AuditRun.objects.update(seen=timezone.now() - timedelta(minutes=11), state="running")
    assert audits.ask(charlie)
    assert sorted(AuditRun.objects.values_list("state", flat=True)) == ["asked", "broken"]
    assert "broke off before it was through" in front(desk)


def test_a_check_that_fails_is_no_audit(monkeypatch: pytest.MonkeyPatch, alice: User) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("the disk")

    monkeypatch.setattr(audits, "_stuck", broken)
    with pytest.raises(RuntimeError):
        audits.run(AuditRun.By.NIGHT, with_files=False)
    assert AuditRun.objects.get().state == "broken"


def test_staff_without_the_permission_cannot_ask(bob: User) -> None:
    client = clerk(bob, "view_auditrun")
    assert client.post("/admin/playground/auditrun/ask/").status_code == 403
    assert clerk(bob, "add_auditrun").get("/admin/playground/auditrun/ask/").status_code == 405
    assert not AuditRun.objects.exists()


def test_usage_of_accounts_has_what_upstreams_took(alice: User) -> None:
    give(alice)
    _finish(job_for(alice), 21_000)
    _finish(job_for(alice, pay="preview"), 22_000)
    [day] = UsageDay.objects.filter(user=alice)
    assert (day.cost_micros, day.preview_cost_micros) == (21_000, 22_000)
