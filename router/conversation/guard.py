"""The loop guard: on what goes out, never on what comes in."""

import hashlib
from dataclasses import replace
from typing import NamedTuple

from router.conversation.state import MOST_SAME, MOST_SENT, Memory

MINUTE_S = 60.0
ROW_S = 600.0
BREATH_S = (
    1.0  # Meta's times are whole seconds: two of one second differ by one at most
)


class Limits(NamedTuple):
    """How much is said: in a minute; of one text, not within seconds, and not in a row."""

    a_minute: int
    same_s: float
    in_a_row: int  # within `ROW_S`


def digest_of(text: str) -> str:
    """Return what the same reply shares."""
    words = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(words, digest_size=8).hexdigest()


def held_back(memory: Memory, text: str, now_s: float, limits: Limits) -> str | None:
    """Return why *text* must not be said now: `flood`, `repeat`, or None.

    A clock that went back by less than the window changes nothing; by more, it forgets.
    """
    if len(_recent(memory, now_s)) >= min(limits.a_minute, MOST_SENT):
        return "flood"
    if memory.last != digest_of(text):
        return None
    soon = abs(now_s - memory.last_at) < limits.same_s
    often = len(_in_a_row(memory, now_s)) >= min(limits.in_a_row, MOST_SAME)
    return "repeat" if soon or often else None


def of_one_breath(memory: Memory, heard_s: float, now_s: float, same_s: float) -> bool:
    """Return whether a message was written in the same second as the only one answered.

    Whoever wrote it had not seen the answer: it is no wrong answer to the menu.
    """
    return (
        len(_recent(memory, now_s)) == 1
        and abs(now_s - memory.last_at) < same_s
        and abs(heard_s - memory.heard_at) <= BREATH_S
    )


def remembered(memory: Memory, text: str, heard_s: float, now_s: float) -> Memory:
    """Return *memory* with *text* as the last thing said."""
    sent = sorted((*_recent(memory, now_s), now_s))[-MOST_SENT:]
    digest = digest_of(text)
    before = _in_a_row(memory, now_s) if digest == memory.last else []
    return replace(
        memory,
        sent=tuple(sent),
        last=digest,
        last_at=now_s,
        heard_at=heard_s,
        same=tuple(sorted((*before, now_s))[-MOST_SAME:]),
    )


def _recent(memory: Memory, now_s: float) -> list[float]:
    # By distance: times ahead of a clock that was set back must not silence the bot for long.
    return [at for at in memory.sent if abs(now_s - at) < MINUTE_S]


def _in_a_row(memory: Memory, now_s: float) -> list[float]:
    return [at for at in memory.same if abs(now_s - at) < ROW_S]
