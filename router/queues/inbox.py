"""The inbox, as PSI_QUEUE says: where deliveries wait, and how they are written there."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from router.config import Settings
from router.model import Delivery, Door
from router.queues.durable import DurableQueue
from router.queues.memory import MemoryQueue, WhenFull
from router.queues.shelf import Packing, Shelf

NAME = "inbox"
MEMORY, SPOOL = "memory", "spool:"
MEMORY_BYTES = 12 * 1024 * 1024  # a little more than ingress lets in
SPOOL_BYTES = 1024 * 1024 * 1024
REDIS_BYTES = 256 * 1024 * 1024

Inbox = MemoryQueue[Delivery] | DurableQueue[Delivery]


def pack(delivery: Delivery) -> bytes:
    """Return *delivery* as bytes: its door and its time in one line, then its body."""
    return f"{delivery.door} {delivery.received_at.isoformat()}\n".encode() + (
        delivery.body
    )


def unpack(packed: bytes) -> Delivery:
    """Return what `pack` packed.

    Of other bytes, which nobody of ours was answered 200 for, a delivery that somebody
    will find among the dead letters.
    """
    head, _, body = packed.partition(b"\n")
    try:
        door, received_at = head.decode().split(" ")
        return Delivery(
            body=body,
            door=Door(door),
            received_at=datetime.fromisoformat(received_at).astimezone(UTC),
        )
    except ValueError:
        return Delivery(body=packed, door=Door.SECRET, received_at=datetime.now(UTC))


PACKING = Packing(pack, unpack)


def inbox(settings: Settings, changed: Callable[[str | None], None]) -> Inbox:
    """Make the queue that PSI_QUEUE names; *changed* hears why it cannot be used.

    Raises `ConfigError` where a package for it is missing.
    """
    where, bound = settings.queue, settings.queue_size
    if where == MEMORY:
        return MemoryQueue(
            NAME, bound=bound, bound_bytes=MEMORY_BYTES, when_full=WhenFull.REFUSE
        )
    if where.startswith(SPOOL):
        from router.queues.spool import Spool  # noqa: PLC0415 -- one of them is used

        most = SPOOL_BYTES
        shelf: Shelf = Spool(Path(where.removeprefix(SPOOL)))
    else:
        from router.queues.streams import Streams  # noqa: PLC0415 -- an extra

        shelf, most = Streams(where), REDIS_BYTES
    return DurableQueue(
        NAME,
        shelf,
        PACKING,
        bound=bound,
        bound_bytes=most,
        when_full=WhenFull.REFUSE,
        changed=changed,
    )
