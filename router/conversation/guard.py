"""The loop guard: on what goes out, never on what comes in."""

import hashlib
from dataclasses import replace

from router.conversation.state import MOST_SENT, Memory

MINUTE_S = 60.0
BREATH_S = (
    1.0  # Meta's times are whole seconds: two of one second differ by one at most
)


def digest_of(text: str) -> str:
    """Return what the same reply shares."""
    words = text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(words, digest_size=8).hexdigest()


def held_back(
    memory: Memory, text: str, now_s: float, *, a_minute: int, same_s: float
) -> str | None:
    """Return why *text* must not be said now: `flood`, `repeat`, or None.

    A clock that went back by less than the window changes nothing; by more, it forgets.
    """
    if len(_recent(memory, now_s)) >= min(a_minute, MOST_SENT):
        return "flood"
    again = memory.last == digest_of(text) and abs(now_s - memory.last_at) < same_s
    return "repeat" if again else None


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
    return replace(
        memory,
        sent=tuple(sent),
        last=digest_of(text),
        last_at=now_s,
        heard_at=heard_s,
    )


def _recent(memory: Memory, now_s: float) -> list[float]:
    # By distance: times ahead of a clock that was set back must not silence the bot for long.
    return [at for at in memory.sent if abs(now_s - at) < MINUTE_S]
