"""Django's backend for SQLite, but that a transaction asks for its turn to write every few milliseconds.

SQLite itself waits longer and longer, up to a tenth of a second, before it asks again; whoever has just come asks at
once and is first. So of 16 clients some waited for a second. Who asks every 2 ms has the same chance at each moment.
"""

import random
import time
from typing import Any

from django.db import OperationalError
from django.db.backends.sqlite3.base import DatabaseWrapper as SQLite

ASK_AGAIN_S = 0.002


class DatabaseWrapper(SQLite):
    def _start_transaction_under_autocommit(self) -> None:
        """Takes the turn to write, or waits for it as long as the settings say."""
        self.ensure_connection()
        patience = float(self.settings_dict["OPTIONS"].get("timeout", 5.0))
        deadline = time.monotonic() + patience
        self._ask_for(0)
        try:
            while not self._has_begun(is_last=time.monotonic() > deadline):
                time.sleep(ASK_AGAIN_S * (0.5 + random.random()))
        finally:
            self._ask_for(patience)

    def _ask_for(self, seconds: float) -> None:
        """How long SQLite itself waits. Past Django's cursor, which would count it as a query."""
        raw: Any = self.connection
        raw.execute(f"PRAGMA busy_timeout = {int(seconds * 1000)}")

    def _has_begun(self, *, is_last: bool) -> bool:
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]  # the stubs do not know it
        except OperationalError as error:
            if is_last or "locked" not in str(error):
                raise
            return False
        return True
