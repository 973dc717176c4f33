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

        What could not be told is one letter for each destination, whatever its bytes.
        Raises Transient while the database is away.
        """
        body, delivery = _bytes_of(item), _delivery_of(item)
        archive = delivery if delivery is not None and delivery.id is None else None
        rows = await self._database.fetch(
            sql("bury"),
            stage,
            text(reason)[:REASON],
            _fingerprint(stage, item, body),
            body,
            archive.received_at if archive else None,
            archive.door.value if archive else None,
            archive.body if archive else None,
            *_address(item),
        )
        if archive and rows:
            archive.id = rows[0]["id"]


def _fingerprint(
    stage: str, item: Delivery | Received | Notification, body: bytes
) -> str:
    _, key = _address(item)
    parts = (stage, key) if key else (stage,)
    return hashlib.sha256("\0".join(parts).encode() + b"\0" + body).hexdigest()


def _address(
    item: Delivery | Received | Notification,
) -> tuple[str | None, str | None]:
    # Who was to be told, and under which webhook-id: it is another for each destination.
    if isinstance(item, Notification):
        return item.destination, item.key
    return None, None


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
