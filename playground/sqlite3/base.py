"""Django's backend for SQLite, but that whoever waits for a turn to write asks for it every few milliseconds.

SQLite itself waits longer and longer, up to a tenth of a second, before it asks again; whoever has just come asks at
once and is first. So of 16 clients some waited for a second, and of 50 processes a few in vain for 20 seconds. Where
all ask every 2 ms, each has the same chance at each moment. A transaction asks when it begins (`IMMEDIATE`), a
statement outside of one for itself.
"""

import random
import sqlite3
import time
from typing import Any

from django.db.backends.sqlite3.base import DatabaseWrapper as SQLite
from django.db.backends.sqlite3.base import SQLiteCursorWrapper

ASK_AGAIN_S = 0.002


class DatabaseWrapper(SQLite):
    def init_connection_state(self) -> None:
        """Only to open it is waited for by SQLite itself; from here on, `Cursor` does."""
        super().init_connection_state()
        raw: Any = self.connection
        raw.execute("PRAGMA busy_timeout = 0")

    def create_cursor(self, name: str | None = None) -> "Cursor":
        raw: Any = self.connection
        cursor: Cursor = raw.cursor(factory=Cursor)
        cursor.wrapper = self
        return cursor


class Cursor(SQLiteCursorWrapper):
    wrapper: DatabaseWrapper

    def execute(self, query: str, params: Any = None) -> Any:
        """Waits for its turn as long as the settings say. Who is in a transaction has it already."""
        if self.wrapper.in_atomic_block:
            return super().execute(query, params)
        patience = float(self.wrapper.settings_dict["OPTIONS"].get("timeout", 5.0))
        deadline = time.monotonic() + patience
        while True:
            try:
                return super().execute(query, params)
            except sqlite3.OperationalError as error:
                if time.monotonic() > deadline or "locked" not in str(error):
                    raise
            time.sleep(ASK_AGAIN_S * (0.5 + random.random()))
