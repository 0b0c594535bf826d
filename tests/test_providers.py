"""What holds for every provider, against real servers that lie."""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from playground import net
from playground.providers import bfl, openai
from playground.providers.aigenerate import AIGenerate
from playground.providers.aigenerate import provider as aigenerate
from playground.providers.base import (
    Failure,
    Order,
    OutcomeUnknown,
    Provider,
    ProviderError,
    Rejected,
    State,
    TryLater,
)
from tests.canned import Canned, reply
from tests.fake_bfl import FakeBFL
from tests.fake_openai import FakeOpenAI
from tests.fake_server import FakeServer
from tests.fake_upstream import FakeUpstream
from tests.talking import ORDER, asked, balance, create, look, picture, summary

KEY = "sk-canary-5f2b"
# Each way to talk with an upstream: the provider, the order, the server.
JOBS = replace(ORDER, model="black-forest-labs-flux-2-pro-1k")
KONTEXT = replace(ORDER, model="flux-kontext-pro")
EDIT = replace(ORDER, inputs=(picture(),))


@dataclass(frozen=True)
class Way:
    kind: type[Any]
    order: Order
    server: type[FakeServer]
    is_looked_at: bool = True


WAYS = {
    "jobs": Way(AIGenerate, JOBS, FakeUpstream),
    "kontext": Way(AIGenerate, KONTEXT, FakeUpstream),
    "bfl": Way(bfl.BFL, ORDER, FakeBFL),
    "openai": Way(openai.OpenAI, ORDER, FakeOpenAI, is_looked_at=False),
    "openai edit": Way(openai.OpenAI, EDIT, FakeOpenAI, is_looked_at=False),
}
EVERY_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
LOOKED_AT = pytest.mark.parametrize(
    "way", [way for way in WAYS.values() if way.is_looked_at], ids=["jobs", "kontext", "bfl"]
)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[type[FakeServer], FakeServer]]:
    with FakeUpstream() as one, FakeBFL() as two, FakeOpenAI() as three:
        yield {type(server): server for server in (one, two, three)}


@pytest.fixture(autouse=True)
def little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (aigenerate, bfl, openai):
        monkeypatch.setattr(module, "CREATE_S", 0.5)
    for module in (aigenerate, bfl):
        monkeypatch.setattr(module, "LOOK_S", 0.5)


@dataclass
class Talk:
    """One way, with its server at hand."""

    way: Way
    up: FakeServer

    @property
    def provider(self) -> Provider:
        return self.way.kind(base_url=self.up.base_url, api_key=self.up.api_key)

    def create(self) -> Any:
        return create(self.provider, self.way.order)


@pytest.fixture
def talk(way: Way, servers: dict[type[FakeServer], FakeServer]) -> Talk:
    up = servers[way.server]
    up.forget()
    return Talk(way, up)


# --- Answers that do not come -------------------------------------------------------------------------
LOSSES: list[dict[str, Any]] = [
    {"kind": "reset"},
    {"kind": "reset", "started": False},
    {"kind": "silent"},
    {"kind": "truncate"},
    {"kind": "html"},
    {"kind": "empty"},
    {"kind": "garbage"},
    {"kind": "never_ending", "seconds": 0.01},
    {"kind": "slow_drip", "seconds": 0.05},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 504, "started": True},
    {"kind": "redirect"},
]
EVERY_LOSS = pytest.mark.parametrize("fault", LOSSES, ids=lambda fault: "-".join(map(str, fault.values())))


@EVERY_WAY
@EVERY_LOSS
def test_whatever_loses_the_answer_of_a_create_leaves_its_outcome_unknown(
    talk: Talk, fault: dict[str, Any]
) -> None:
    talk.up.fault(where="create", **fault)
    assert isinstance(talk.create(), OutcomeUnknown)
    assert talk.up.stats()["calls"] == {ORDER.prompt: 1}


@LOOKED_AT
@EVERY_LOSS
def test_whatever_loses_the_answer_of_a_look_has_learnt_nothing(talk: Talk, fault: dict[str, Any]) -> None:
    started = talk.create()
    talk.up.fault(where="look", **fault)
    assert isinstance(look(talk.provider, started.upstream_id, started.memo), TryLater)


@EVERY_WAY
def test_a_create_that_was_never_sent_may_be_tried_again(way: Way) -> None:
    for nowhere in ("http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1", "http://up.test:port/v1"):
        assert isinstance(create(way.kind(base_url=nowhere, api_key=KEY), way.order), TryLater)


@EVERY_WAY
@pytest.mark.parametrize("fault", [{"kind": "huge", "mb": 80}, {"kind": "never_ending", "seconds": 0}])
def test_an_answer_without_end_is_left(
    talk: Talk, fault: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (aigenerate, bfl, openai):
        monkeypatch.setattr(module, "CREATE_S", 60)
    talk.up.fault(where="create", **fault)
    begun = time.monotonic()
    assert isinstance(talk.create(), OutcomeUnknown)
    assert time.monotonic() - begun < 20


@EVERY_WAY
def test_every_wrong_type_is_survived(talk: Talk) -> None:
    talk.up.fault(where="create", kind="wrong_types")
    for _ in range(8):
        got = talk.create()
        if not isinstance(got, OutcomeUnknown):  # a success without a picture, which only a look tells
            assert look(talk.provider, got.upstream_id, got.memo).failure is Failure.NO_PICTURE


@LOOKED_AT
def test_a_look_survives_every_wrong_type(talk: Talk) -> None:
    started = talk.create()
    talk.up.fault(where="look", kind="wrong_types")
    for _ in range(8):
        got = look(talk.provider, started.upstream_id, started.memo)
        assert isinstance(got, TryLater) or got.state is State.RUNNING


@EVERY_WAY
def test_deeply_nested_json_is_no_json(way: Way) -> None:
    provider = way.kind(base_url="https://up.test/v1", api_key=KEY)
    for text in ("[" * 200_000, '{"error":' * 200_000, '{"detail":' * 900 + "[]" + "}" * 900):
        assert isinstance(
            create(provider, way.order, Canned(lambda _, text=text: reply(200, text=text))),
            OutcomeUnknown | Rejected,
        )


NAMES = (
    "code msg message taskId state resultJson resultUrls failCode failMsg param progress successFlag resultImageUrl"
    " errorCode errorMessage id polling_url cost status sample details detail loc credits type object b64_json url"
)
INSIDE = ("data", "result", "response", "error")
WORDS = ["success", "fail", "Ready", "Error", "Pending", "https://a.test/a", "200", "{}", "\ud800", "x" * 300]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*WORDS, 200, 0, 1, 10**30])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES.split()), inner, max_size=3)
    ),
    max_leaves=4,
)
INNER = st.dictionaries(st.sampled_from(NAMES.split()), ANYTHING, max_size=12)
ANSWERS = st.builds(
    lambda outer, inner: outer | inner,
    INNER,
    st.dictionaries(st.sampled_from(INSIDE), INNER | st.lists(INNER, max_size=2) | ANYTHING, max_size=2),
)


@EVERY_WAY
@settings(max_examples=60, deadline=None)
@given(said=ANSWERS, status=st.sampled_from([200, 202, 400, 404, 500]))
def test_no_answer_makes_a_provider_raise_anything_else(way: Way, said: Any, status: int) -> None:
    provider = way.kind(base_url="https://up.test/v1", api_key=KEY)
    answer = Canned(lambda _: reply(status, text=json.dumps(said)))

    async def everything(http: net.Client) -> None:
        with contextlib.suppress(ProviderError):
            started = await provider.create(http, way.order)
            assert 0 < len(started.upstream_id) <= 200 and len(started.memo) <= 500
        for memo in ("jobs", "kontext", ""):
            with contextlib.suppress(TryLater):
                report = await provider.look(http, "task_1", memo)
                assert (report.state is State.SUCCEEDED) == bool(report.urls)
                assert len(report.detail) <= 300 and report.detail.isprintable()
        with contextlib.suppress(TryLater):
            assert await provider.is_ours(http, "task_1", "https://ours.test/hook") is False
            assert len(await provider.balance(http)) <= 60

    asyncio.run(everything(answer))


# --- Answers that are clear ---------------------------------------------------------------------------
@EVERY_WAY
def test_too_many_requests_are_told_apart_from_a_loss(talk: Talk) -> None:
    talk.up.fault(where="create", kind="status", status=429, retry_after="7")
    got = talk.create()
    assert isinstance(got, TryLater)
    assert got.retry_after_s == 7


@EVERY_WAY
def test_a_wrong_key_is_the_operators_trouble(talk: Talk) -> None:
    got = create(talk.way.kind(base_url=talk.up.base_url, api_key="nonsense"), talk.way.order)
    assert isinstance(got, Rejected)
    assert got.failure is Failure.UPSTREAM_UNAVAILABLE
    assert talk.up.stats()["tasks"] == []


@EVERY_WAY
def test_moderation_at_create_has_its_own_word(talk: Talk) -> None:
    talk.up.fault(where="create", kind="moderated")
    got = talk.create()
    assert isinstance(got, Rejected)
    assert got.failure is Failure.MODERATED


@EVERY_WAY
def test_a_disguised_success_is_a_success(talk: Talk) -> None:
    talk.up.fault(where="create", kind="disguised", status=503)
    talk.up.fault(where="look", kind="disguised", status=500)
    started = talk.create()
    assert started.picture or look(talk.provider, started.upstream_id, started.memo).state is State.SUCCEEDED


@LOOKED_AT
@pytest.mark.parametrize(
    ("words", "failure"),
    [
        ("[[fail]]", Failure.UPSTREAM_FAILED),
        ("[[moderated]]", Failure.MODERATED),
        ("[[no url]]", Failure.NO_PICTURE),
        ("[[odd state]]", None),
    ],
)
def test_what_the_upstream_says_at_the_end(talk: Talk, words: str, failure: Failure | None) -> None:
    started = create(talk.provider, replace(talk.way.order, prompt=f"a fox {words}"))
    report = look(talk.provider, started.upstream_id, started.memo)
    assert report.failure is failure
    assert report.state is (State.FAILED if failure else State.RUNNING)


@LOOKED_AT
def test_an_unknown_state_is_logged_once(talk: Talk, caplog: pytest.LogCaptureFixture) -> None:
    provider = talk.way.kind(base_url=talk.up.base_url, api_key=talk.up.api_key, name=f"a {id(talk)}")
    talk.up.fault(where="look", kind="unknown_state")
    started = create(provider, talk.way.order)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert look(provider, started.upstream_id, started.memo).state is State.RUNNING
    assert caplog.text.count(f"a {id(talk)}") == 1


# --- The key ------------------------------------------------------------------------------------------
ECHOES: list[dict[str, Any]] = [
    {"code": 400, "msg": f"the key {KEY} is bad"},
    {"code": 200, "data": {"state": "fail", "failMsg": KEY, "successFlag": 3, "errorMessage": KEY}},
    {"code": 200, "data": {"state": f"odd {KEY}"}},
    {"detail": [{"loc": [KEY], "msg": KEY}]},
    {"detail": KEY, "status": "Error", "details": {KEY: KEY}},
    {"status": f"odd {KEY}"},
    {"error": {"message": KEY, "type": KEY, "code": KEY}},
]


@EVERY_WAY
def test_the_key_is_in_no_error_and_no_log(way: Way, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    provider = way.kind(base_url="https://up.test/v1", api_key=KEY)
    assert KEY not in repr(provider) + repr(getattr(provider, "_line", ""))
    for echo in ECHOES:
        for status in (200, 400, 401, 422, 429, 500):
            canned = Canned(lambda _, echo=echo, status=status: reply(status, json=echo))
            for got in (
                create(provider, way.order, canned),
                look(provider, client=canned),
                balance(provider, canned),
            ):
                assert KEY not in repr(got) + str(got) + str(summary(got))
    for error in (net.NotSent(f"while sending {KEY}"), net.NoAnswer(f"while sending {KEY}")):
        assert KEY not in repr(vars(create(provider, way.order, Canned(lambda _, error=error: error))))
    assert KEY not in caplog.text


@EVERY_WAY
def test_a_key_that_cannot_be_sent_is_refused_without_being_shown(way: Way) -> None:
    with pytest.raises(ValueError, match="spare") as refused:
        way.kind(base_url="https://up.test", api_key=KEY + "\n", name="spare")
    assert KEY not in str(refused.value)


@EVERY_WAY
def test_the_upstreams_words_are_shortened_and_harmless(way: Way) -> None:
    words = "\x1b[31m no\r\n\x00" + "x" * 9999
    said = {"code": 400, "msg": words, "detail": words, "error": {"message": words}}
    canned = Canned(lambda _: reply(400, json=said))
    got = create(way.kind(base_url="https://up.test/v1", api_key=KEY), way.order, canned)
    assert isinstance(got, Rejected)
    assert got.detail.isprintable()
    assert "no x" in got.detail
    assert len(got.detail) == 300


@EVERY_WAY
def test_the_pieces_that_the_engine_relies_on_are_there(way: Way) -> None:
    provider = way.kind(base_url="https://up.test/v1", api_key=KEY)
    assert provider.longest_create_s <= 120
    assert provider.resend_is_safe is False
    assert asked(lambda http: provider.draw("https://pictures.test/a.jpg")) is None
