"""Where items go that a person must look at."""

import hashlib

from router.model import Delivery, Notification, Received
from router.store.database import Database
from router.store.sql_files import sql
from router.whatsapp.storable import json_text, text

REASON = 500  # characters


class DeadLetters:
    """Writes down what is buried, with its bytes, before its lease ends."""

    def __init__(self, database: Database) -> None:
        """Write to *database*."""
        self._database = database

    async def bury(
        self, stage: str, item: Delivery | Received | Notification, reason: str
    ) -> None:
        """Keep *item* under a fingerprint of its bytes; once, however often it comes.

        Raises Transient while the database is away.
        """
        body, delivery = _bytes_of(item), _delivery_of(item)
        archive = delivery if delivery is not None and delivery.id is None else None
        rows = await self._database.fetch(
            sql("bury"),
            stage,
            text(reason)[:REASON],
            hashlib.sha256(stage.encode() + b"\0" + body).hexdigest(),
            body,
            archive.received_at if archive else None,
            archive.door.value if archive else None,
            archive.body if archive else None,
        )
        if archive and rows:
            archive.id = rows[0]["id"]


def _bytes_of(item: Delivery | Received | Notification) -> bytes:
    match item:
        case Delivery():
            return item.body
        case Notification():
            return item.payload
        case Received(event=event, delivery=delivery):
            return delivery.body if event is None else json_text(event.item).encode()


def _delivery_of(item: Delivery | Received | Notification) -> Delivery | None:
    match item:
        case Delivery():
            return item
        case Received(delivery=delivery):
            return delivery
        case Notification():
            return None
