"""Public ids that sort by the time they were made."""

import secrets
import time
import uuid


def new_id() -> uuid.UUID:
    """A version 7 UUID (RFC 9562): milliseconds first, then 74 random bits. Sorts by age, cannot be guessed."""
    millis = time.time_ns() // 1_000_000
    value = (
        (millis & (1 << 48) - 1) << 80
        | 0x7 << 76
        | secrets.randbits(12) << 64
        | 0b10 << 62
        | secrets.randbits(62)
    )
    return uuid.UUID(int=value)
