"""Deliveries -> events: bytes in, one item for each thing that a body reports."""

from collections.abc import Sequence
from datetime import UTC, datetime

from router.model import Delivery, Event, Received
from router.stages.base import Bury, Emit, Passed
from router.whatsapp.events import read

MALFORMED = "rejected.malformed"


class Normalize:
    """Reads each body by itself: one bad body spoils no other."""

    name = "normalize"
    limit = 64  # bodies; a batch is handled without a pause of the loop

    async def handle(
        self, batch: Sequence[Delivery], /
    ) -> Sequence[Emit[Received] | Bury]:
        """Return what each delivery reports."""
        now = datetime.now(UTC)
        return [_read(delivery, now) for delivery in batch]


def _read(delivery: Delivery, now: datetime) -> Emit[Received] | Bury:
    delivery.normalized_at = now
    events = read(delivery.body, delivery.door)
    if any(event.kind == MALFORMED for event in events):
        return Bury("malformed: the body is not the JSON that Meta sends")
    if not events:
        return Emit((Passed(Received(None, delivery)),))
    share = len(delivery.body) // len(events)
    return Emit([Passed(Received(e, delivery), lane_of(e), share) for e in events])


def lane_of(event: Event) -> str:
    """Return what stays in order: a group, a person, or the message that a status is of."""
    person = event.person
    name = event.group_id or person.bsuid or person.wa_id
    if event.status is not None:
        name = event.status.message_id
    return f"{event.scope}|{name}" if name else ""
