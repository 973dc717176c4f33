"""The events of a batch, sorted by what they become."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from router.conversation.decide import Decision
from router.conversation.state import Conversation as State
from router.model import Content, Delivery, Event, Person, Received, Reply
from router.store.aliases import Aliases, aliases_of, changed_to, kept_of
from router.store.changes import target_of
from router.store.keys import digest
from router.store.people import Conversation
from router.whatsapp.storable import text

EARLIEST = datetime(2009, 1, 1, tzinfo=UTC)  # WhatsApp's first year
AHEAD = timedelta(hours=1)  # a clock may be wrong; a message of next year is


class Message(NamedTuple):
    """A message of a batch, and under which id it is stored."""

    event: Event
    content: Content
    delivery: Delivery
    wamid: str
    aliases: Aliases  # of the person; empty in a group
    kept: Aliases  # names that find nobody, but are kept
    changed: Person | None  # the names that the person has from now on

    def new_names(self) -> tuple[Aliases, Aliases]:
        """Return the names of `changed`, and those that are only kept."""
        if self.changed is None:
            return (), ()
        scope = self.event.scope
        return aliases_of(scope, self.changed), kept_of(scope, self.changed)


@dataclass(slots=True)
class Batch:
    """What a batch holds, each thing once."""

    messages: list[Message] = field(default_factory=list)
    statuses: dict[bytes, tuple[Event, Delivery]] = field(default_factory=dict)
    notices: dict[str, tuple[Event, Delivery]] = field(default_factory=dict)
    targets: dict[str, str] = field(
        default_factory=dict
    )  # of notices: what they change
    reported: set[str] = field(default_factory=set)  # ids of what went out, or may have
    bodies: dict[int, Delivery] = field(default_factory=dict)  # to archive, by id()
    numbers: dict[int, int] = field(default_factory=dict)  # of bodies, by id()

    @classmethod
    def of(cls, received: Sequence[Received]) -> "Batch":
        """Sort *received*."""
        batch, seen = cls(), set[str]()
        for event, delivery in received:
            if delivery.id is None:
                batch.bodies[id(delivery)] = delivery
            if event is not None:
                batch._sort(event, delivery, seen)
        return batch

    def _sort(self, event: Event, delivery: Delivery, seen: set[str]) -> None:
        if event.status is not None:
            self.statuses.setdefault(digest(event.key), (event, delivery))
            if about := event.status.message_id:
                self.reported.add(text(about))
            return
        if event.content is None or not incoming(event):
            key = notice_key(event)
            self.notices.setdefault(key, (event, delivery))
            if event.content is None and (target := target_of(event)):
                self.targets[key] = target
        if event.content is not None and (wamid := text(event.key)) not in seen:
            seen.add(wamid)
            if not incoming(event):
                self.reported.add(wamid)
            self.messages.append(_message(event, event.content, delivery, wamid))

    def exclusive(self) -> list[int | str]:
        """Return what no other batch may have at the same time, leaving out what one had.

        Bodies: a large one is in several batches, and the first one archives it. Messages
        that went out, and those that statuses are of: neither batch would see the other's.
        """
        self.bodies = {key: d for key, d in self.bodies.items() if d.id is None}
        return [*self.bodies, *self.reported]

    @property
    def has_outgoing(self) -> bool:
        """Whether some message went out by other means: its states may be here already."""
        return any(not incoming(message.event) for message in self.messages)

    def number_of(self, delivery: Delivery) -> int:
        """Return the row in `router.deliveries` that *delivery* has, or will have."""
        return delivery.id or self.numbers[id(delivery)]


def _message(event: Event, content: Content, delivery: Delivery, wamid: str) -> Message:
    if event.group_id:
        return Message(event, content, delivery, wamid, (), (), None)
    scope, person = event.scope, event.person
    asked, kept = aliases_of(scope, person), kept_of(scope, person)
    return Message(event, content, delivery, wamid, asked, kept, changed_to(event))


@dataclass(slots=True)
class Written:
    """A message that is stored now and was not before, and what followed from it.

    `before` is the conversation as the message found it. `decision` is None for what went
    out by other means. `ticket` is there once an area took over.
    """

    event: Event
    content: Content
    conversation: Conversation
    delivery: Delivery
    at: datetime
    wamid: str
    before: State
    decision: Decision | None = None
    ticket: str | None = None


class Said(NamedTuple):
    """A reply: the row of mensajes that it will be, whether it can be sent or not."""

    id: UUID
    new: Written  # what it answers
    reply: Reply
    at: datetime
    sent: bool  # or it only stands there


def incoming(event: Event) -> bool:
    """Return whether a person wrote it to us."""
    return event.kind.startswith("message.")


def notice_key(event: Event) -> str:
    """Return what tells a notice apart: the same id may be a message's and an echo's."""
    return digest(f"{event.kind.partition('.')[0]}|{event.key}").hex()


def when(event: Event, delivery: Delivery) -> datetime:
    """Return Meta's time where it can be true, else the time of receipt."""
    at = event.timestamp
    if at is None or not EARLIEST <= at <= delivery.received_at + AHEAD:
        return delivery.received_at
    return at
