"""What one attempt to send a WhatsApp message means for the next: a pure function.

    outcome                                  what follows
    sent                                     done
    rejected for being too many              later, and no failure of the message
    rejected by a service out of order       the next pause of the schedule; then dead
    rejected otherwise                       dead at once: this message will not be taken
    not sent: not a byte left for Meta       the next pause of the schedule; then dead
    unknown: it may have been taken          unknown: never sent again; a status webhook or a
                                             person settles it (Graph has no idempotency key)
    not tried: the governor says wait        later; this was no attempt

That is contract 7 of a reply: unknown is never sent again, rate limits later, another 4xx once.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from router.destinations.graph_errors import Action
from router.destinations.policy import RETRY_AFTER_CAP_S, Dead, Done, Retry
from router.model import Sending
from router.retry import Jitter


class Outcome(enum.StrEnum):
    """How far a message came."""

    SENT = "sent"
    REJECTED = "rejected"
    UNKNOWN = "unknown"
    NOT_SENT = "not sent"
    NOT_TRIED = "not tried"  # and so nothing to record


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphAttempt(Sending):
    """An `Attempt` that says how far the message came.

    `wamid` is what a message that was sent is called from now on; a read mark has none.
    `action` matters where it was rejected, by Meta or, before anything went, by us.
    """

    outcome: Outcome
    action: Action = Action.UNKNOWN
    code: int | None = None
    subcode: int | None = None


@dataclass(frozen=True, slots=True)
class Later:
    """It was not taken, for no fault of its own: again after *delay_s*, without counting."""

    delay_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It may have been taken. It is never sent again."""

    reason: str


SPREAD = 0.2
GraphDecision = Done | Retry | Later | Dead | Unknown
_REFUSALS = frozenset(Action) - {
    Action.ACCEPTED,
    Action.RETRY_LATER,
    Action.TRY_AGAIN,
    Action.UNKNOWN,
}


def decide_graph(
    attempt: GraphAttempt,
    attempts_made: int,
    schedule: Sequence[float],
    jitter: Jitter,
) -> GraphDecision:
    """Return what follows *attempt*, the *attempts_made*-th one that counts (1, 2, …).

    *schedule* holds the pauses in seconds; a reply is worth little after hours, so a short
    one. What stands before the colon of a reason is one of few.
    """
    match attempt.outcome:
        case Outcome.SENT:
            return Done()
        case Outcome.UNKNOWN:
            return Unknown(f"unknown: {said(attempt)}")
        case Outcome.NOT_TRIED:
            return Later(_later_s(attempt, jitter), said(attempt))
        case Outcome.NOT_SENT:
            return _again(attempt, attempts_made, schedule, jitter)
        case Outcome.REJECTED:
            return _after_answer(attempt, attempts_made, schedule, jitter)


def said(attempt: GraphAttempt) -> str:
    """Return in a few words, fit for a log line, what *attempt* came to."""
    if attempt.code is not None:
        return f"Graph error {attempt.code}"
    if attempt.error is not None:
        return attempt.error
    return "no answer" if attempt.status is None else f"HTTP {attempt.status}"


def _after_answer(
    attempt: GraphAttempt,
    attempts_made: int,
    schedule: Sequence[float],
    jitter: Jitter,
) -> GraphDecision:
    action = attempt.action
    if action is Action.RETRY_LATER:
        return Later(_later_s(attempt, jitter), f"{action}: {said(attempt)}")
    if action is Action.TRY_AGAIN:
        return _again(attempt, attempts_made, schedule, jitter)
    if action in _REFUSALS:
        return Dead(f"{action}: {said(attempt)}")
    return Unknown(f"unknown: {said(attempt)}")


def _again(
    attempt: GraphAttempt,
    attempts_made: int,
    schedule: Sequence[float],
    jitter: Jitter,
) -> Retry | Dead:
    if attempts_made > len(schedule):
        return Dead(f"given up: {said(attempt)} after {attempts_made} attempts")
    # From half of it on: there are few attempts, and they should not go in one second.
    pause_s = schedule[attempts_made - 1] * (0.5 + 0.5 * jitter())
    return Retry(max(pause_s, _asked_s(attempt)), said(attempt))


def _later_s(attempt: GraphAttempt, jitter: Jitter) -> float:
    # Spread upwards only: before its time it would be refused again.
    return _asked_s(attempt) * (1 + SPREAD * jitter())


def _asked_s(attempt: GraphAttempt) -> float:
    asked_s = attempt.retry_after_s or 0.0
    return min(asked_s, RETRY_AFTER_CAP_S) if asked_s > 0 else 0.0  # NaN: none
