"""What one attempt means for the next: the table of contract 7, as a pure function.

    answer                          what follows
    2xx                             done
    410                             dead at once: whoever listened there has left for good
    400, 413, 415, 422              dead after three attempts: this body will never be taken
    everything else, or no answer   a random share of the schedule's next pause, later where
                                    Retry-After says so; dead after the schedule's last attempt

The last line is the destination's doing, the others are about one body (or good): only the
last line counts for `router.destinations.circuit`.

Nothing here waits, reads a clock or draws lots: whoever calls brings what it takes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from router.model import Attempt, Fetching
from router.retry import Jitter

GONE = 410
NEVER_TAKEN = frozenset({400, 413, 415, 422})
NEVER_TAKEN_ATTEMPTS = 3  # a proxy in between may have said it once, in error
RETRY_AFTER_CAP_S = 86_400.0  # a day; a destination that asks for more is asked again
TOO_MANY = 429


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
    # Full jitter: what failed together comes back spread over the whole pause. That a pause
    # may nearly vanish does no harm, since a circuit that is open burns no attempt.
    pause_s = schedule[attempts_made - 1] * (1 - jitter())
    return Retry(max(pause_s, clamped(attempt.retry_after_s)), said)


def blames_destination(attempt: Attempt) -> bool:
    """Return whether *attempt* failed for a reason that any other body would meet too.

    A destination is one URL, so a redirect, a 401 or a 404 is its own as much as a 503. Files
    have a URL each: whoever fetched one says.
    """
    if isinstance(attempt, Fetching):
        return attempt.away
    status = attempt.status
    if status is None:
        return True
    taken = 200 <= status < 300  # noqa: PLR2004 -- the class 2xx
    return not (taken or status == GONE or status in NEVER_TAKEN)


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
    if not text:
        return None
    if text.isascii() and text.isdigit():
        # int() refuses thousands of digits, and ten are three centuries.
        return RETRY_AFTER_CAP_S if len(text) > 9 else clamped(float(text))  # noqa: PLR2004
    try:
        at = parsedate_to_datetime(text)
        if at.tzinfo is None:  # "-0000": UTC, place unknown
            at = at.replace(tzinfo=UTC)
        return clamped((at - now).total_seconds())
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def clamped(seconds: float | None) -> float:
    """Return a Retry-After as it is obeyed: 0 for none, at most RETRY_AFTER_CAP_S."""
    if seconds is None or math.isnan(seconds):
        return 0.0
    return min(max(seconds, 0.0), RETRY_AFTER_CAP_S)
