"""Events -> rows, and what must be told of them: one transaction a batch."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from router import telemetry
from router.model import Received
from router.queues.base import STORED, Tally
from router.stages.base import Emit
from router.store.batch import Written, incoming
from router.store.ledger import Outcome

DONE: Emit[Any] = Emit(tally=STORED)
NOTHING: Emit[Any] = Emit(tally=Tally())  # a body that reported nothing


class Books(Protocol):
    """Where events become rows."""

    async def write(self, received: Sequence[Received]) -> Outcome:
        """Commit *received*; return the messages that are new, and who must be told."""


@dataclass(slots=True)
class Persist:
    """Writes each batch of events once, then says so and wakes whoever tells."""

    books: Books
    notice: Callable[[str | None], None]  # a message to this number of ours
    wake: Callable[[set[str]], None]
    name: str = "persist"
    limit: int = 200  # past 100 a larger batch gains little and waits longer

    async def handle(self, batch: Sequence[Received], /) -> Sequence[Emit[Any]]:
        """Commit the batch; what was known before counts as stored."""
        written, told = await self.books.write(batch)
        telemetry.BATCH_SIZE.observe(len(batch))
        self.wake(told)
        for new in written:
            self.notice(new.event.phone_number_id)
        if inbound := [new for new in written if incoming(new.event)]:
            now, clock = datetime.now(UTC), time.monotonic()
            telemetry.messages_processed([_line(new, now, clock) for new in inbound])
        telemetry.events_stored(item.event.kind for item in batch if item.event)
        return [DONE if item.event else NOTHING for item in batch]


def _line(new: Written, now: datetime, clock: float) -> dict[str, Any]:
    since = new.delivery.since
    return {
        "timestamp": now,
        "event": "message_processed",
        "conversationId": str(new.conversation.id),
        # Not by the time of day, which somebody may set.
        "duration": 0.0 if since is None else round((clock - since) * 1000, 3),
        "success": True,
        "messageId": telemetry.message_digest(new.event.key),
        "kind": new.event.kind,
        "deliveryId": new.delivery.id,
    }
