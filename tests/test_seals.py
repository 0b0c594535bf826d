from typing import Any

import pytest

from playground import environment as env
from playground import seals

OLD, NEW = "o" * 32, "n" * 32


def test_what_is_sealed_can_be_read_again_and_nobody_can_see_what_it_is(settings: Any) -> None:
    settings.UPSTREAM_KEYS_SECRETS = [OLD]
    sealed = seals.seal("sk-alice")
    assert "alice" not in sealed and sealed != seals.seal("sk-alice")
    assert seals.unseal(sealed) == "sk-alice"


def test_a_new_secret_is_put_before_the_old_one_which_still_opens(settings: Any) -> None:
    settings.UPSTREAM_KEYS_SECRETS = [OLD]
    sealed = seals.seal("sk-alice")
    settings.UPSTREAM_KEYS_SECRETS = [NEW, OLD]
    assert seals.unseal(sealed) == "sk-alice"
    again = seals.seal("sk-alice")
    settings.UPSTREAM_KEYS_SECRETS = [NEW]
    assert seals.unseal(again) == "sk-alice"
    with pytest.raises(seals.WrongSecret, match="another UPSTREAM_KEYS_SECRET"):
        seals.unseal(sealed)


@pytest.mark.parametrize("broken", ["", "sk-alice", "gAAAA", "é", "gAAAAA" + "A" * 100])
def test_what_was_never_sealed_is_not_read(settings: Any, broken: str) -> None:
    settings.UPSTREAM_KEYS_SECRETS = [OLD]
    with pytest.raises(seals.WrongSecret):
        seals.unseal(broken)


def test_without_a_secret_nothing_is_sealed(settings: Any) -> None:
    settings.UPSTREAM_KEYS_SECRETS = []
    assert not seals.is_possible()
    for deed in (seals.seal, seals.unseal):
        with pytest.raises(seals.NoSecret, match="UPSTREAM_KEYS_SECRET is not set"):
            deed("sk-alice")


@pytest.mark.parametrize(
    ("value", "usable", "is_wrong"),
    [
        ("", [], False),
        (OLD, [OLD], False),
        (f"{NEW}, {OLD}", [NEW, OLD], False),
        (f"{NEW},short", [NEW], True),
    ],
)
def test_a_secret_must_be_long(
    monkeypatch: pytest.MonkeyPatch, value: str, usable: list[str], is_wrong: bool
) -> None:
    monkeypatch.setattr(env, "problems", [])
    monkeypatch.setenv("UPSTREAM_KEYS_SECRET", value)
    assert env.passphrases("UPSTREAM_KEYS_SECRET") == usable
    assert bool(env.problems) == is_wrong and "short" not in str(env.problems).replace("too short", "")
