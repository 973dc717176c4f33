"""Keys of fixed length for names of any length, and row ids that grow with time."""

import hashlib
import random
import time
from uuid import UUID

from asyncpg.pgproto import pgproto

KEY_BYTES = 16


def digest(name: str) -> bytes:
    """Return 16 bytes of SHA-256 over *name*; equal names only share them."""
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:KEY_BYTES]


def lock_key(name: str) -> int:
    """Return the advisory lock (a signed 64-bit number) that stands for *name*."""
    return int.from_bytes(digest(name)[:8], "big", signed=True)


def row_id() -> UUID:
    """Return a UUID version 7 (RFC 9562), later than every one before it.

    Rows of one second sort by it in the order of their arrival, and its index grows at one
    end only. asyncpg's UUID is a subclass of the standard one that costs a fifth.
    """
    global _last  # noqa: PLW0603 -- the counter that RFC 9562 6.2 asks for
    _last = max(time.time_ns() // 1_000_000 << 12, _last + 1)
    high = (_last >> 12) << 16 | 0x7000 | (_last & 0xFFF)
    low = 0x8000_0000_0000_0000 | random.getrandbits(62)
    made: UUID = pgproto.UUID(((high << 64) | low).to_bytes(16, "big"))
    return made


_last = 0
