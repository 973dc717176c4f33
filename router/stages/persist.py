"""Events -> rows, and what must be told of them: one transaction a batch."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from router import telemetry
from router.config import Destination, Line
from router.destinations import payloads
from router.model import Event, Received
from router.queues.base import STORED, Tally
from router.stages.base import Emit
from router.store.keys import digest
from router.store.ledger import OutboxRow, Outcome, Written
from router.store.people import short

# The areas by which the N8N_WEBHOOK_* settings are named.
ENTRANCE = {
    "Administración": "administracion",
    "Alumnos": "alumnos",
    "Comunidad": "comunidad",
    "Ventas": "ventas_1",
}
MICROSECOND = timedelta(microseconds=1)
DONE: Emit[Any] = Emit(tally=STORED)
NOTHING: Emit[Any] = Emit(tally=Tally())  # a body that reported nothing
MOST_WARNINGS = 100  # numbers to warn of, each once
DERIVED = "derivada"  # conversaciones.router_estado: an area owns it


class Books(Protocol):
    """Where events become rows."""

    async def write(self, received: Sequence[Received]) -> Outcome:
        """Commit *received*; return the messages that are new, and who must be told."""


@dataclass(slots=True)
class Lines:
    """Our numbers by their WhatsApp id."""

    lines: Sequence[Line]
    _warned: set[str] = field(default_factory=set)

    def name_of(self, phone_number_id: str | None) -> str:
        """Return the line's name; of a number that none names, the number itself."""
        if phone_number_id is None:
            return self.lines[0].name
        for line in self.lines:
            if line.phone_number_id in {None, phone_number_id}:
                return line.name
        return short(phone_number_id)

    def notice_unknown(self, phone_number_id: str | None) -> None:
        """Count a message to a number that no line names; warn once of each number."""
        if any(line.phone_number_id in {None, phone_number_id} for line in self.lines):
            return
        if phone_number_id is None:
            return
        telemetry.UNKNOWN_LINES.inc()
        if phone_number_id not in self._warned and len(self._warned) < MOST_WARNINGS:
            self._warned.add(phone_number_id)
            telemetry.unknown_line(phone_number_id)


class Told:
    """Which destinations hear of what, and the bytes they get."""

    def __init__(self, destinations: Sequence[Destination], lines: Lines) -> None:
        """Tell of messages and statuses as *destinations* ask for it."""
        self.lines = lines
        self._by_name = {d.name: d for d in destinations}
        self._of_messages = [d for d in destinations if "message.received" in d.events]
        self._of_statuses = [d for d in destinations if "message.status" in d.events]

    def of_message(self, new: Written) -> Iterable[OutboxRow]:
        """Yield what an inbound message owes to whom."""
        if not new.event.kind.startswith("message."):
            return
        conversation = str(new.conversation.id)
        by_name = self._by_name
        area = ENTRANCE.get(new.conversation.area, "wsp4")
        if entrance := by_name.get(f"ingesta_{area}") or by_name.get("ingesta_wsp4"):
            body = payloads.ingesta(conversation, new.event, new.content)
            yield _row(entrance, new.event, conversation, body)
        if new.conversation.router_estado == DERIVED and (
            owner := by_name.get(f"envios_{area}") or by_name.get("envios_crm")
        ):
            body = payloads.proxied(
                conversation, new.conversation.area, new.event, new.content, new.at
            )
            yield _row(owner, new.event, conversation, body)
        for destination in self._of_messages:
            line = self.lines.name_of(new.event.phone_number_id)
            body = payloads.received(conversation, line, new.event, new.content, new.at)
            yield _row(destination, new.event, conversation, body)

    def of_status(self, event: Event) -> Iterable[OutboxRow]:
        """Yield what a status owes to whom."""
        for destination in self._of_statuses:
            name = event.status.message_id if event.status else None
            at = event.timestamp or datetime.now(UTC)
            lane = digest(name or event.key).hex()
            yield _row(destination, event, lane, payloads.status(event, at))


def _row(destination: Destination, event: Event, lane: str, body: bytes) -> OutboxRow:
    name = f"{destination.name}|{event.kind}|{event.key}"
    return OutboxRow(destination.name, f"psi_{digest(name).hex()}", lane, body)


@dataclass(slots=True)
class Persist:
    """Writes each batch of events once, then says so and wakes whoever tells."""

    books: Books
    lines: Lines
    wake: Callable[[set[str]], None]
    name: str = "persist"
    limit: int = 200  # past 100 a larger batch gains little and waits longer

    async def handle(self, batch: Sequence[Received], /) -> Sequence[Emit[Any]]:
        """Commit the batch; what was known before counts as stored."""
        written, told = await self.books.write(batch)
        telemetry.BATCH_SIZE.observe(len(batch))
        self.wake(told)
        for new in written:
            self.lines.notice_unknown(new.event.phone_number_id)
        if written:
            now = datetime.now(UTC)
            telemetry.messages_processed([_line(new, now) for new in written])
        telemetry.events_stored(item.event.kind for item in batch if item.event)
        return [DONE if item.event else NOTHING for item in batch]


def _line(new: Written, now: datetime) -> dict[str, Any]:
    return {
        "timestamp": now,
        "event": "message_processed",
        "conversationId": str(new.conversation.id),
        "duration": (now - new.delivery.received_at) // MICROSECOND / 1000,
        "success": True,
        "messageId": telemetry.message_digest(new.event.key),
        "kind": new.event.kind,
        "deliveryId": new.delivery.id,
    }
