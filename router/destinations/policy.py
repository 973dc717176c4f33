"""What one attempt means for the next: the table of contract 7, as a pure function.

    answer                          what follows
    2xx                             done
    410                             dead at once: whoever listened there has left for good
    400, 413, 415, 422              dead after three attempts: this body will never be taken
    everything else, or no answer   the next pause of the schedule, later where Retry-After
                                    says so; dead after the schedule's last attempt

Nothing here waits, reads a clock or draws lots: whoever calls brings what it takes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from router.model import Attempt
from router.retry import Jitter

GONE = 410
NEVER_TAKEN = frozenset({400, 413, 415, 422})
NEVER_TAKEN_ATTEMPTS = 3  # a proxy in between may have said it once, in error
RETRY_AFTER_CAP_S = 86_400.0  # a day; a destination that asks for more is asked again
# The schedule's pauses are promises to people who repair something, so a pause is spread by
# a fifth to each side. Full jitter, 0 to the whole, would let the first one vanish.
SPREAD = 0.2


@dataclass(frozen=True, slots=True)
class Done:
    """It was told."""


@dataclass(frozen=True, slots=True)
class Retry:
    """It must be told again, not before *delay_s*."""

    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Dead:
    """It will not be told. What stands before the colon of *reason* is one of few."""

    reason: str


Decision = Done | Retry | Dead


def decide(
    attempt: Attempt, attempts_made: int, schedule: Sequence[float], jitter: Jitter
) -> Decision:
    """Return what follows *attempt*, the *attempts_made*-th one (1, 2, …).

    *schedule* holds the pauses in seconds between the attempts: so many and one are made.
    """
    status = attempt.status
    if status is not None and 200 <= status < 300:  # noqa: PLR2004 -- the class 2xx
        return Done()
    said = outcome(attempt)
    if status == GONE:
        return Dead(f"gone: {said}")
    if status in NEVER_TAKEN and attempts_made >= NEVER_TAKEN_ATTEMPTS:
        return Dead(f"never taken: {said} after {attempts_made} attempts")
    if attempts_made > len(schedule):
        return Dead(f"given up: {said} after {attempts_made} attempts")
    pause_s = schedule[attempts_made - 1] * (1 - SPREAD + 2 * SPREAD * jitter())
    return Retry(max(pause_s, _asked_for(attempt)), said)


def outcome(attempt: Attempt) -> str:
    """Return in a few words, fit for a log line, what *attempt* came to."""
    if attempt.status is not None:
        return f"HTTP {attempt.status}"
    return attempt.error or "no answer"


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Read a Retry-After (RFC 9110, 10.2.3): seconds from *now*; None for garbage.

    A date in the past is 0: "at once" is an answer.
    """
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        # int() refuses thousands of digits, and ten are three centuries.
        return RETRY_AFTER_CAP_S if len(text) > 9 else _clamped(float(text))  # noqa: PLR2004
    try:
        at = parsedate_to_datetime(text)
        if at.tzinfo is None:  # "-0000": UTC, place unknown
            at = at.replace(tzinfo=UTC)
        return _clamped((at - now).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _asked_for(attempt: Attempt) -> float:
    asked = attempt.retry_after_s
    return 0.0 if asked is None or math.isnan(asked) else _clamped(asked)


def _clamped(seconds: float) -> float:
    return min(max(seconds, 0.0), RETRY_AFTER_CAP_S)
