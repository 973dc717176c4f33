"""What one attempt to fetch a file means for the next: a pure function.

    outcome                               what follows
    stored                                done
    away: Meta or the storage is          the next pause of the schedule; opens the circuit
    refused: this file, this time         the next pause of the schedule; then dead
    never: too large, no file             dead at once: no attempt will make it better
    stopped: the service stops            given back as it came; this was no attempt

The schedule spans the seven days for which a media id lives (Cloud API, "Media"). It begins
gently: a number that asks for what is not there five times in an hour may be shut out.
"""

import enum
from dataclasses import dataclass

from router.destinations.graph_policy import Later
from router.destinations.policy import Dead, Done, Retry, clamped, outcome
from router.model import Fetching
from router.retry import Jitter

HOUR_S = 3600
SCHEDULE_S: tuple[float, ...] = (
    *(5, 60, 600, HOUR_S, 2 * HOUR_S, 4 * HOUR_S),
    *(6 * HOUR_S,) * 26,
)
SPREAD = 0.05  # of a pause: what failed together need not come back together


class Outcome(enum.StrEnum):
    """How far a file came."""

    STORED = "stored"
    AWAY = "away"
    REFUSED = "refused"
    NEVER = "never"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaAttempt(Fetching):
    """An attempt to fetch a file, and how far it came."""

    outcome: Outcome


MediaDecision = Done | Retry | Later | Dead


def decide_media(
    attempt: MediaAttempt,
    attempts_made: int,
    schedule: tuple[float, ...],
    jitter: Jitter,
) -> MediaDecision:
    """Return what follows *attempt*, the *attempts_made*-th one that counts (1, 2, …)."""
    match attempt.outcome:
        case Outcome.STORED:
            return Done()
        case Outcome.STOPPED:
            return Later(0.0, "stopping")
        case Outcome.NEVER:
            return Dead(attempt.error or "never")
        case Outcome.AWAY | Outcome.REFUSED:
            return _again(attempt, attempts_made, schedule, jitter)


def _again(
    attempt: MediaAttempt,
    attempts_made: int,
    schedule: tuple[float, ...],
    jitter: Jitter,
) -> Retry | Dead:
    said = attempt.error or outcome(attempt)
    if attempts_made > len(schedule):
        return Dead(f"given up: {said} after {attempts_made} attempts")
    pause_s = schedule[attempts_made - 1] * (1 - SPREAD * jitter())
    return Retry(max(pause_s, clamped(attempt.retry_after_s)), said)
