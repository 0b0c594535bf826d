"""What all workers know of an upstream: its limits, its pauses, and its circuit."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import time_machine

from accounts.models import User
from playground import catalog, jobs, orders, seals, upstreams
from playground.models import Job, Upstream, UpstreamState
from tests.making import give, job_for, leased, load_catalogue

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
COST = 35_000  # of a picture by aigenerate, as the catalogue has it


@pytest.fixture(autouse=True)
def _with_a_key(settings: Any) -> None:
    settings.AIGENERATE_API_KEY = "key"


def set_up(**changes: Any) -> Upstream:
    row, _ = Upstream.objects.update_or_create(
        name="aigenerate", defaults={"kind": Upstream.Kind.AIGENERATE} | changes
    )
    return row


def job_of(user: User) -> Job:
    give(user)
    return leased(job_for(user))


def state() -> UpstreamState:
    return UpstreamState.objects.get(name="aigenerate")


def refusal(answer: bool | upstreams.NotNow) -> upstreams.NotNow:
    assert isinstance(answer, upstreams.NotNow)
    return answer


# --- Which are set up ---------------------------------------------------------------------------------
def test_a_key_in_the_environment_is_enough() -> None:
    assert upstreams.configured()["aigenerate"].api_key == "key"


def test_a_row_says_more_than_the_environment(settings: Any) -> None:
    settings.UPSTREAM_KEYS_SECRETS = ["s" * 32]
    set_up(base_url="https://other.example/v1", sealed_key=seals.seal("their key"), at_once=3)
    found = upstreams.configured()["aigenerate"]
    assert (found.base_url, found.api_key, found.most_at_once) == (
        "https://other.example/v1",
        "their key",
        {"": 3},
    )
    set_up(is_on=False)
    assert upstreams.configured() == {}


def test_an_upstream_whose_key_cannot_be_read_is_left_out(settings: Any, caplog: Any) -> None:
    settings.UPSTREAM_KEYS_SECRETS = ["s" * 32]
    set_up(sealed_key=seals.seal("their key"))
    settings.UPSTREAM_KEYS_SECRETS = ["t" * 32]
    assert upstreams.configured() == {} and "left out" in caplog.text


def test_a_server_of_ones_own_needs_no_key() -> None:
    Upstream.objects.create(name="attic", kind=Upstream.Kind.OPENAI, base_url="http://10.0.0.5:8000/v1")
    assert upstreams.configured()["attic"].api_key == ""
    assert upstreams.configured()["attic"].provider().longest_create_s <= 120


def test_a_key_is_in_no_text_about_it() -> None:
    assert "key" not in repr(upstreams.configured()["aigenerate"]).replace("api_key", "")


def test_bfl_has_its_published_bounds(settings: Any) -> None:
    settings.BFL_API_KEY = "key"
    assert upstreams.configured()["bfl"].most_at_once == {"": 24, "flux-kontext-max": 6}


# --- The dollar limit ---------------------------------------------------------------------------------
def test_a_dollar_limit_is_reached_to_the_micro_dollar(alice: User) -> None:
    set_up(limit_micros_per_day=2 * COST)
    for _ in range(2):
        assert jobs.sending(job_of(alice)) is True
    third = job_of(alice)
    assert refusal(jobs.sending(third)).until is None
    third.refresh_from_db()
    assert (third.state, state().spent_micros) == ("queued", 2 * COST)


def test_the_limit_starts_afresh_at_midnight_utc(alice: User) -> None:
    set_up(limit_micros_per_day=COST)
    with time_machine.travel(NOON, tick=False) as clock:
        assert jobs.sending(job_of(alice)) is True
        clock.move_to(datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC))
        assert refusal(jobs.sending(job_of(alice))).until is None
        clock.move_to(datetime(2026, 11, 23, tzinfo=UTC))
        assert jobs.sending(job_of(alice)) is True


def test_what_was_not_started_is_not_counted(alice: User) -> None:
    job = job_of(alice)
    assert jobs.sending(job) is True and state().spent_micros == COST
    assert jobs.not_started(job, NOON, "429") and state().spent_micros == 0
    refused = job_of(alice)
    assert jobs.sending(refused) is True
    assert jobs.fail(refused, "rejected", may_have_cost=False) and state().spent_micros == 0
    lost = job_of(alice)
    assert jobs.sending(lost) is True and jobs.lost(lost, "reset") and state().spent_micros == COST


def test_a_loser_counts_nothing(alice: User) -> None:
    job = job_of(alice)
    Job.objects.filter(pk=job.pk).update(lease_owner="somebody else")
    assert jobs.sending(job) is False
    assert not UpstreamState.objects.filter(spent_micros__gt=0).exists()


# --- Room ---------------------------------------------------------------------------------------------
def test_no_more_jobs_run_there_than_it_lets_us(alice: User) -> None:
    set_up(at_once=1)
    first, second = job_of(alice), job_for(alice)
    assert jobs.sending(first) is True
    assert jobs.claim("drive", 100) == []  # and nobody is kept busy by what has to wait
    Job.objects.filter(pk=second.pk).update(lease_owner="drive")
    second.refresh_from_db()
    assert refusal(jobs.sending(second)).until is not None
    assert jobs.started(first, "up-1") and jobs.ready(first, ["https://up.example/1.jpg"])
    assert jobs.sending(second) is True


def test_a_claim_takes_as_many_as_there_is_room_for_oldest_first(alice: User) -> None:
    set_up(at_once=2)
    give(alice)
    made = [job_for(alice).pk for _ in range(4)]
    assert sorted(job.pk for job in jobs.claim("drive", 100)) == made[:2]


def test_a_model_may_have_a_bound_of_its_own(alice: User) -> None:
    job = job_of(alice)
    set_up(at_once_by_model={job.upstream_model: 0, "another": 5})
    assert refusal(jobs.sending(job)).until is not None
    assert upstreams.room() == {("aigenerate", job.upstream_model): 0, ("aigenerate", "another"): 5}


# --- Pauses and the circuit ---------------------------------------------------------------------------
def test_a_pause_holds_for_every_job_and_is_never_made_shorter(alice: User) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        upstreams.paused("aigenerate", 30)
        upstreams.paused("aigenerate", 5)
        assert refusal(jobs.sending(job_of(alice))).until == NOON + timedelta(seconds=30)
        clock.shift(31)
        assert jobs.sending(job_of(alice)) is True


def fail_often(times: int = upstreams.FAILURES_TO_OPEN) -> None:
    for _ in range(times):
        upstreams.failed("aigenerate", "refused")


def test_failures_in_a_row_open_the_circuit(alice: User) -> None:
    with time_machine.travel(NOON, tick=False):
        fail_often(upstreams.FAILURES_TO_OPEN - 1)
        assert jobs.sending(job_of(alice)) is True
        fail_often(1)
        assert refusal(jobs.sending(job_of(alice))).until == NOON + timedelta(seconds=upstreams.OPEN_S[0])
        assert state().last_failure == "refused"


def test_an_answer_that_makes_sense_ends_the_row(alice: User) -> None:
    fail_often(upstreams.FAILURES_TO_OPEN - 1)
    job = job_of(alice)
    assert jobs.sending(job) is True and jobs.started(job, "up-1")
    fail_often(upstreams.FAILURES_TO_OPEN - 1)
    assert state().open_until is None


def test_one_job_probes_and_the_circuit_stays_open_behind_it_for_longer(alice: User) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        fail_often()
        for last, then in pairwise([*upstreams.OPEN_S, upstreams.OPEN_S[-1]]):
            clock.shift(last)
            assert jobs.sending(job_of(alice)) is True
            assert refusal(jobs.sending(job_of(alice))).until == datetime.now(UTC) + timedelta(seconds=then)


def test_a_probe_that_is_answered_closes_it(alice: User) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        fail_often()
        clock.shift(upstreams.OPEN_S[0] + 1)
        probe = job_of(alice)
        assert jobs.sending(probe) is True and jobs.started(probe, "up-1")
        assert (state().failures, state().trips, state().open_until) == (0, 0, None)
        assert jobs.sending(job_of(alice)) is True


def test_the_sandbox_is_never_held_up(alice: User, settings: Any) -> None:
    settings.AIGENERATE_API_KEY = ""
    for _ in range(9):
        upstreams.failed(upstreams.SANDBOX, "x")
    assert jobs.sending(job_of(alice)) is True


def test_a_balance_is_asked_for_by_one_and_not_all_the_time() -> None:
    assert upstreams.to_ask_for_balance() == ["aigenerate"]
    assert upstreams.to_ask_for_balance() == []
    upstreams.balance_is("aigenerate", "1,234.5 credits")
    assert state().balance == "1,234.5 credits"


def test_an_operator_who_knows_better_closes_the_circuit(alice: User) -> None:
    fail_often()
    assert upstreams.lifted("aigenerate") and not upstreams.lifted("unheard-of")
    assert jobs.sending(job_of(alice)) is True


# --- Switched off -------------------------------------------------------------------------------------
def test_nothing_is_sent_to_an_upstream_that_is_switched_off(alice: User) -> None:
    job = job_of(alice)
    set_up(is_on=False)
    not_now = refusal(jobs.sending(job))
    assert (not_now.until, not_now.failure) == (None, "upstream_unavailable")


def test_what_runs_there_is_still_looked_after(settings: Any) -> None:
    set_up(is_on=False)
    assert "aigenerate" in upstreams.known() and upstreams.configured() == {}


def test_the_sandbox_never_stands_in_for_an_upstream(alice: User) -> None:
    job = job_of(alice)
    set_up(is_on=False)
    assert catalog.next_route(job) is None and not catalog.is_sandbox()
    with pytest.raises(orders.NotPossible, match="No upstream"):
        job_for(alice)


def test_a_clock_that_goes_back_over_midnight_starts_no_limit_afresh(alice: User) -> None:
    set_up(limit_micros_per_day=COST)
    with time_machine.travel(NOON - timedelta(days=2), tick=False) as clock:
        load_catalogue()
        clock.move_to(NOON)
        assert jobs.sending(job_of(alice)) is True
        clock.move_to(NOON - timedelta(days=1))
        assert refusal(jobs.sending(job_of(alice))).until is None
        clock.move_to(NOON)
        assert refusal(jobs.sending(job_of(alice))).until is None


def test_a_lost_job_makes_room_long_before_its_deadline(alice: User) -> None:
    set_up(at_once=1)
    with time_machine.travel(NOON, tick=False) as clock:
        job = job_of(alice)
        assert jobs.sending(job) is True and jobs.lost(job, "reset")
        assert upstreams.room() == {("aigenerate", ""): 0}
        clock.shift(upstreams.LOST_RUN_FOR + timedelta(seconds=1))
        assert upstreams.room() == {("aigenerate", ""): 1}
