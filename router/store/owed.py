"""What is owed for the messages of a batch: replies, and who must be told of what."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol

from router.model import Event, Reply
from router.store.batch import Batch, Said, Written
from router.store.derivations import TICKET
from router.store.keys import row_id
from router.store.rows import OutboxRow
from router.whatsapp.storable import text


class Telling(Protocol):
    """Who knows what goes out, and to whom."""

    def tell(self, new: Written) -> Iterable[OutboxRow]:
        """Return what a new message owes to whom."""

    def tell_status(self, event: Event) -> Iterable[OutboxRow]:
        """Return what a status owes to whom."""

    def send(self, said: Said) -> OutboxRow | None:
        """Return the row by which a reply goes out; None where it cannot."""


def owed(
    batch: Batch, written: Sequence[Written], desk: Telling
) -> tuple[list[Said], list[OutboxRow]]:
    """Return the replies to *written*, and the rows of the outbox of all of *batch*."""
    said, told = _replies(written, desk)
    told += [row for new in written for row in desk.tell(new)]
    if batch.statuses:
        told += _of_statuses(batch, written, desk)
    return said, told


def _replies(
    written: Sequence[Written], desk: Telling
) -> tuple[list[Said], list[OutboxRow]]:
    said: list[Said] = []
    told: list[OutboxRow] = []
    now = datetime.now(UTC)
    for new in written:
        for reply in replies_of(new):
            # In the order in which they are said, also where a clock is coarse.
            at = now + len(said) * timedelta(microseconds=1)
            line = Said(row_id(), new, reply, at, sent=False)
            if row := desk.send(line):
                told.append(row)
                line = line._replace(sent=True)
            said.append(line)
    return said, told


def _of_statuses(
    batch: Batch, written: Sequence[Written], desk: Telling
) -> Iterable[OutboxRow]:
    # One that comes with its message waits behind it; record.sql sees the earlier ones.
    lanes = {new.wamid: str(new.conversation.id) for new in written}
    for key, (event, _) in batch.statuses.items():
        for row in desk.tell_status(event):
            lane = lanes.get(_about(event), row.lane)
            yield row._replace(status=key, lane=lane)


def _about(event: Event) -> str:
    return text((event.status.message_id if event.status else None) or "")


def replies_of(new: Written) -> Sequence[Reply]:
    """Return what is said after a message, the ticket's number filled in."""
    if new.decision is None:
        return ()
    derivation = new.decision.derivation
    if derivation is None or new.ticket is None:
        return new.decision.replies
    confirmed = derivation.confirmation.replace(TICKET, new.ticket)
    return (*new.decision.replies, Reply(text=confirmed))
