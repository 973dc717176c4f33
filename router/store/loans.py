"""One outbox row on loan, and the note of how the loan ended, until it is written down."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from router.model import Attempt, Notification
from router.queues.base import STORED, Tally

TEXT_CHARS = 500  # of an answer or an error


class Note(NamedTuple):
    """How a loan ended, until it is written down."""

    id: int
    token: int
    key: str
    state: str
    delay_s: float | None  # None: keep the place
    at: float  # monotonic
    attempt: Attempt | None
    counts: bool  # against the schedule


@dataclass(slots=True, eq=False)
class OutboxLease:
    """One row on loan; settling it twice is a bug and raises RuntimeError."""

    item: Notification
    token: int
    ended: Callable[["OutboxLease", Note], None]
    early: bool = False  # lent before its time
    since: float = field(default_factory=time.monotonic)
    tried: Attempt | None = None
    free: bool = False  # the attempt counts for nothing
    # The stage has ended it; that the loop ends it too says nothing new.
    _over: bool = False

    @property
    def attempt(self) -> int:
        """1 on the first loan, one more after each attempt that was made."""
        return self.item.attempts + 1

    def ack(self, tally: Tally = STORED) -> None:
        """End the loan: the destination was told."""
        del tally
        self._end("done")

    def nack(self, delay_s: float = 0.0) -> None:
        """End the loan: without a delay the row keeps its place."""
        self._end("pending", delay_s or None)

    def bury(self, reason: str) -> None:
        """End the loan: whoever buries has written *reason* down already."""
        del reason
        self._end("dead")

    def end_now(self, state: str, delay_s: float | None = None) -> None:
        """End the loan before its batch does."""
        self._end(state, delay_s or None)
        self._over = True

    def _end(self, state: str, delay_s: float | None = None) -> None:
        if self._over:
            self._over = False
            return
        kept = self.early and state == "pending" and delay_s is None
        note = Note(
            self.item.id,
            self.token,
            self.item.key,
            state,
            delay_s,
            time.monotonic(),
            self.tried,
            self.tried is not None and not (kept or self.free),
        )
        self.ended(self, note)


def note_rows(notes: Sequence[Note]) -> list[tuple[Any, ...]]:
    """Return *notes* as router.note_row."""
    now = time.monotonic()
    return [
        (note.id, note.token, note.state, note.delay_s, *_tried(note, now))
        for note in notes
    ]


def _tried(note: Note, now: float) -> tuple[Any, ...]:
    attempt, ago_s = note.attempt, now - note.at
    if attempt is None:
        return None, ago_s, False, False, None, None, None, None
    return (
        attempt.retry_after_s if note.state == "pending" else None,
        ago_s,
        True,
        note.counts,
        attempt.status,
        attempt.latency_ms,
        _start(attempt.answer),
        _start(attempt.error),
    )


def _start(text: str | None) -> str | None:
    return None if text is None else text[:TEXT_CHARS].replace("\0", "\ufffd")
