"""The property test is itself tested: each of these bugs, planted in a copy of the ledger, must be caught by it."""

import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import pytest
from django.db import DatabaseError

from accounts import ledger
from tests.test_ledger_properties import LedgerStory, tell, tell_as_in_the_suite

pytestmark = pytest.mark.once

COPY = "planted_ledger"


@dataclass(frozen=True)
class Bug:
    """Pieces of the ledger's source, each of which occurs once, and what a bad day makes of them."""

    name: str
    pieces: tuple[tuple[str, str], ...]


def bug(name: str, *texts: str) -> Bug:
    return Bug(name, tuple(zip(texts[::2], texts[1::2], strict=True)))


BUGS = [
    bug("a cap refuses what just fits", "%(amount)s <= %(limit)s", "%(amount)s < %(limit)s"),
    bug("a cap lets one too many through", "%(amount)s <= %(limit)s", "%(amount)s <= %(limit)s + 1"),
    bug("a cap is not checked", " AND spent + reserved + %(amount)s <= %(limit)s", ""),
    bug(
        "a cap forgets what is reserved", "AND spent + reserved + %(amount)s <=", "AND spent + %(amount)s <="
    ),
    bug(
        "a cap forgets what is spent", "AND spent + reserved + %(amount)s <=", "AND reserved + %(amount)s <="
    ),
    bug("a cap of 0 is no cap", "if limit.limit is None else min", "if not limit.limit else min"),
    bug("a cap counts one item of many", "limit.each * len(promises)", "limit.each"),
    bug("a cap counts only once it is set", "for window in Cap.OF_ACCOUNT", "for _, window in caps"),
    bug("the job cap refuses what just fits", "limit.each > limit.limit:", "limit.each >= limit.limit:"),
    bug("the job cap is not checked", "    _check_jobs(limits, now)\n    counted", "    counted"),
    bug("a month begins every day", "today.replace(day=1) if window == Cap.Window.MONTH else today", "today"),
    bug("windows are in local time", "now.astimezone(UTC).date()", "timezone.localtime(now).date()"),
    bug(
        "a capture is booked in the window of now",
        "id=window_id, reserved",
        "id=CapWindow.objects.filter(subject=(was := CapWindow.objects.get(pk=window_id)).subject, window=was.window)"
        '.latest("starts").pk, reserved',
    ),
    bug("a wallet ignores what is held", "posted - held >= %(amount)s", "posted >= %(amount)s"),
    bug("a wallet refuses what just fits", "posted - held >= %(amount)s", "posted - held > %(amount)s"),
    bug("a wallet is not checked", " AND (user_id IS NULL OR posted - held >= %(amount)s)", ""),
    bug(
        "a hold shrinks to fit",
        "total = sum(promise.amount for promise in promises)",
        "wallet.refresh_from_db()\n"
        "    total = min(sum(p.amount for p in promises), max(wallet.available, 0))",
    ),
    bug("a refused hold stays", "@transaction.atomic\ndef hold(", "def hold("),
    bug(
        "a capture does not look whether the hold is open",
        "WHERE id = %(id)s AND state = 'open'",
        "WHERE id = %(id)s",
    ),
    bug("a capture forgets what was held", "ends_held = hold.amount if hold else 0", "ends_held = 0"),
    bug("a partial capture lets go of a part only", "ends_held = hold.amount if", "ends_held = amount if"),
    bug("a partial capture charges the whole", "to, held.captured, memo=", "to, held.amount, memo="),
    bug("a partial capture spends the whole cap", "if held.captured == held.amount else held.captured", ""),
    bug(
        "a capture of nothing spends no preview",
        "most = _BIGINT_MAX if held.captured == held.amount else held.captured",
        "most = held.captured",
    ),
    bug("a capture leaves the cap reserved", "reserved = reserved - %(reserved)s, spent", "spent"),
    bug(
        "a release leaves the cap reserved",
        "        _unreserve(window_id, reserved, spent=0)",
        "        pass",
    ),
    bug("a release keeps the money", "spent=0)\n    _let_go(held)", "spent=0)"),
    bug(
        "money goes the wrong way",
        "[(debit, -amount, -ends_held), (credit, amount, 0)]",
        "[(debit, amount, -ends_held), (credit, -amount, 0)]",
    ),
    bug(
        "a transfer names its sides the wrong way round",
        "debit=debit,\n        credit=credit",
        "debit=credit,\n        credit=debit",
    ),
    bug("the house does not get its side", "    wallets.add(*last)\n", ""),
    bug("the statement shows the balance of before", "is None else balance", "is None else balance + amount"),
    bug(
        "a business id can happen twice",
        "        business_id=business_id,\n        kind=kind,",
        '        business_id=f"{business_id}/{Transfer.objects.count()}",\n        kind=kind,',
    ),
    bug(
        "a replay says that it happened",
        ".exists():\n            return False\n        raise\n    return True",
        ".exists():\n            return True\n        raise\n    return True",
    ),
    bug(
        "every spelling of an address is welcomed",
        "user.canonical_email.encode()",
        "user.email.encode()",
    ),
    bug(
        "a new address is welcomed again",
        " or _welcomes(wallet).exists()",
        "",
        "_welcomes(wallet).count() > 1",
        "_welcomes(wallet).count() > 9",
    ),
    bug("welcomes have no budget", "settings.SIGNUP_BUDGET_MICROS_PER_DAY, micros", "None, micros"),
    bug("previews are not counted", "settings.PREVIEWS_PER_DAY, 1)", "settings.PREVIEWS_PER_DAY, 0)"),
    bug(
        "previews have no budget",
        "settings.PREVIEW_BUDGET_MICROS_PER_DAY, cost_each",
        "None, cost_each",
    ),
    bug(
        "suspected costs are taken from the upstream",
        "        source = wallets.house(Wallet.House.SUSPENSE)\n        return",
        "        source = wallets.house(Wallet.House.REVENUE)\n        return",
    ),
]


def planted(pieces: tuple[tuple[str, str], ...]) -> ModuleType:
    """A copy of the ledger with these pieces of its source changed."""
    sources = {path.name: path.read_text() for path in Path(str(ledger.__file__)).parent.glob("*.py")}
    for right, wrong in pieces:
        having = [name for name, source in sources.items() for _ in range(source.count(right))]
        assert len(having) == 1, f"the ledger has {len(having)} of {right!r}: mend this bug"
        sources[having[0]] = sources[having[0]].replace(right, wrong)
    return imported(sources)


def imported(sources: dict[str, str]) -> ModuleType:
    """The package of these files, beside the real one and under a name of its own."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        (Path(folder) / COPY).mkdir()
        for name, source in sources.items():
            (Path(folder) / COPY / name).write_text(source.replace(ledger.__name__, COPY))
        patch.syspath_prepend(folder)
        for known in [name for name in sys.modules if name.partition(".")[0] == COPY]:
            patch.delitem(sys.modules, known)
        return importlib.import_module(COPY)


def story_with(broken: ModuleType) -> type[LedgerStory]:
    return type("BrokenStory", (LedgerStory,), {"ledger": broken})


@pytest.mark.django_db
@pytest.mark.parametrize("planted_bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(planted_bug: Bug) -> None:
    story = story_with(planted(planted_bug.pieces))
    with pytest.raises((AssertionError, DatabaseError)):
        tell_as_in_the_suite(story)
        tell(story, examples=300, steps=40)  # the rarest edge is not in every process's forty stories


@pytest.mark.django_db
def test_a_copy_without_a_bug_is_not() -> None:
    """The same stories pass with the ledger itself in `tests/test_ledger_properties.py`; a few show that copying is harmless."""
    tell(story_with(planted(())), examples=8, steps=40)


def test_a_bug_that_no_longer_fits_the_source_is_reported() -> None:
    with pytest.raises(AssertionError, match="mend this bug"):
        planted((("no such line in the ledger", ""),))
