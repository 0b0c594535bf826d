"""Django's SQLite, with a shorter wait for one's turn to write: see `base`."""
