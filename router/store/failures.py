"""What an error of the driver means for whoever called: wait, or bury."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from router.errors import Poison, RouterError, Transient

# SQLSTATE classes (PostgreSQL, appendix A) that say "these values will never do":
# data exception, integrity constraint, WITH CHECK OPTION, program limit exceeded.
_POISON_CLASSES = frozenset({"22", "23", "44", "54"})
_RAISED_BY_A_TRIGGER = "P0001"
# Somebody else wrote at the same moment; a second look finds what they wrote.
RACES = frozenset({"23503", "23505"})
# record.sql divides by zero when another writer has one of its messages: the one way for a
# statement to take itself back.
_CLAIM_LOST = "22012"


class Raced(Poison):
    """Another writer was first: look again; if it happens again, the item is at fault."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn what asyncpg and the network raise into Transient or Poison, cause kept."""
    try:
        yield
    except asyncpg.PostgresError as exc:
        raise _meaning(exc) from exc
    except (asyncpg.InterfaceError, asyncpg.InternalClientError) as exc:
        raise Transient(
            f"the connection to PostgreSQL broke: {type(exc).__name__}"
        ) from exc
    except (OSError, EOFError) as exc:  # TimeoutError is an OSError
        raise Transient(f"PostgreSQL does not answer: {type(exc).__name__}") from exc


def _meaning(exc: asyncpg.PostgresError) -> RouterError:
    # The server's message and DETAIL quote values, so only names are passed on.
    state = exc.sqlstate or "?"
    name = getattr(exc, "constraint_name", None)
    words = f"{type(exc).__name__} {state}" + (f" {name}" if name else "")
    if state in RACES or state == _CLAIM_LOST:
        return Raced(words)
    if state[:2] in _POISON_CLASSES or state == _RAISED_BY_A_TRIGGER:
        return Poison(words)
    return Transient(words)
