"""What was taken once, taken up again: archived bodies, and letters.

Bodies go once more through the reader and the ledger as they are today.

What is stored already changes nothing, however often it is read again; what an earlier
version did not understand becomes what it is. A message that somebody deleted from the
tables comes back, which is why a time has to be named.
"""

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime

from router.config import Settings
from router.errors import Malformed, Poison
from router.model import Delivery, Door, Event, Received
from router.stages.desk import BULK, WHATSAPP, Desk
from router.store import dialect
from router.store.archive import bodies_between, bodies_with, strings_in, telltale
from router.store.database import Database
from router.store.dead_letters import Letter, mark_replayed, tell_again
from router.store.ledger import Ledger
from router.whatsapp.events import MALFORMED, read
from router.whatsapp.reading import read_json
from router.whatsapp.storable import json_text


@dataclass(slots=True)
class Reread:
    """What became of the bodies that were read again."""

    bodies: int = 0
    events: int = 0
    unreadable: int = 0  # bodies that are still no JSON
    refused: int = 0  # events that can never be stored
    new: int = 0  # messages that were not stored before


@dataclass(slots=True)
class Rereading:
    """Reads archived bodies again and writes what they report."""

    settings: Settings
    database: Database
    dry_run: bool = False
    _ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        """Decide as the service does with these settings; MenuError for a broken menu."""
        words = dialect.load(self.settings.dialect)
        self._ledger = Ledger(self.database, Desk(self.settings), words)

    async def between(self, since: datetime, until: datetime, rate: float) -> Reread:
        """Read the bodies of a time again, at most *rate* a second. Raises Transient."""
        done = Reread()
        pages = bodies_between(self.database, since, until)
        async with aclosing(pages) as found:
            async for page in found:
                await self._take(page, done)
                await asyncio.sleep(0 if self.dry_run else len(page) / rate)
        return done

    async def _take(self, page: list[Delivery], done: Reread) -> None:
        batch: list[Received] = []
        for delivery in page:
            events = read(delivery.body, delivery.door)
            done.bodies += 1
            if any(event.kind == MALFORMED for event in events):
                done.unreadable += 1
                continue
            done.events += len(events)
            batch += [Received(event, delivery) for event in events]
        if batch and not self.dry_run:
            await self._write(batch, done)

    async def _write(self, batch: list[Received], done: Reread) -> None:
        # Halved until what can never be stored stands alone, as a stage's runner does.
        try:
            done.new += len((await self._ledger.write(batch)).written)
        except Poison:
            if len(batch) == 1:
                done.refused += 1
                return
            middle = len(batch) // 2
            await self._write(batch[:middle], done)
            await self._write(batch[middle:], done)


@dataclass(slots=True)
class Replay:
    """Takes letters up again, one after the other: what is known already changes nothing."""

    settings: Settings
    database: Database
    dry_run: bool = False
    _ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        """Decide as the service does with these settings; MenuError for a broken menu."""
        words = dialect.load(self.settings.dialect)
        self._ledger = Ledger(self.database, Desk(self.settings), words)

    async def one(self, letter: Letter) -> str | None:
        """Replay *letter*, mark it, and return None; or why that cannot be."""
        if letter.stage == "notify":
            return await self._tell(letter)
        delivery = await self._delivery(letter)
        if delivery is None:
            return "the body that it came in is not in the archive"
        events = read(delivery.body, delivery.door)
        if any(event.kind == MALFORMED for event in events):
            return "the body is still no JSON"
        if self.dry_run:
            return None
        if why_not := await self._write(events, delivery):
            return why_not
        await mark_replayed(self.database, letter)
        return None

    async def _tell(self, letter: Letter) -> str | None:
        if letter.destination in {WHATSAPP, BULK}:
            return "a message to a person is not said again by itself: send a new one"
        told = await tell_again(self.database, letter, only_ask=self.dry_run)
        return None if told else f"{letter.destination} need not be told again"

    async def _delivery(self, letter: Letter) -> Delivery | None:
        part = letter.body if letter.stage == "normalize" else _part_of(letter.body)
        found = bodies_with(self.database, part, letter.first_at)
        async with aclosing(found) as archived:
            async for delivery in archived:
                if _reports(delivery, letter.body):
                    return delivery
        if (
            letter.stage == "normalize"
        ):  # the letter is the body, and Meta's the stricter door
            return Delivery(
                body=letter.body, door=Door.META, received_at=letter.first_at
            )
        return None

    async def _write(self, events: tuple[Event, ...], delivery: Delivery) -> str | None:
        batch: list[Event | None] = [*events] or [None]
        try:
            await self._ledger.write([Received(event, delivery) for event in batch])
        except Poison as exc:
            return await self._write_apart(batch, delivery) if batch[1:] else str(exc)
        return None

    async def _write_apart(
        self, events: list[Event | None], delivery: Delivery
    ) -> str | None:
        # One that can never be stored keeps none of the others back.
        why_not = None
        for event in events:
            try:
                await self._ledger.write([Received(event, delivery)])
            except Poison as exc:
                why_not = str(exc)
        return why_not


def _part_of(item: bytes) -> bytes:
    """Return bytes that the body of *item* must hold: the most telling string in it."""
    try:
        return telltale(strings_in(read_json(item)))
    except Malformed:
        return item


def _reports(delivery: Delivery, buried: bytes) -> bool:
    if delivery.body == buried:
        return True
    events = read(delivery.body, delivery.door)
    return any(json_text(event.item).encode() == buried for event in events)
