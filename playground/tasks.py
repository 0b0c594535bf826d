"""The names that the queue knows. They keep for ever, carry nothing, and are safe to run twice."""

from playground import audits, deletion, engine, upkeep


def drive() -> None:
    engine.drive()


def sweep() -> None:
    upkeep.sweep()


def nightly() -> None:
    upkeep.nightly()


def audit() -> None:
    audits.run_asked()


def finish_deletions() -> None:
    deletion.finish()
