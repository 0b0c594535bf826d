"""What is erased cannot be read from the database's file either, with whichever SQLite a Python was built."""

import sqlite3
from pathlib import Path

from django.conf import settings

CANARY = "xylophone"


def test_erased_words_are_gone_from_the_file_of_the_database(tmp_path: Path) -> None:
    at = tmp_path / "db.sqlite3"
    database = sqlite3.connect(at)
    database.execute("PRAGMA secure_delete=OFF")  # as most builds have it
    database.executescript(settings.SQLITE_PRAGMAS)
    database.execute("CREATE TABLE run (id INTEGER PRIMARY KEY, prompt TEXT)")
    database.executemany("INSERT INTO run (prompt) VALUES (?)", [(f"{CANARY} {n}" * 50,) for n in range(200)])
    database.commit()
    assert CANARY.encode() in at.read_bytes() + at.with_name("db.sqlite3-wal").read_bytes()
    database.execute("UPDATE run SET prompt = ''")
    database.commit()
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert CANARY.encode() not in at.read_bytes()
