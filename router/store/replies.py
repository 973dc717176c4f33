"""The outbox of WhatsApp replies: each is sent once, or nobody knows.

A notification may be told twice, a reply may not: Graph has no key that would make it one. So
a row is marked, and the mark is on disk, before its bytes may leave; a marked row is never
lent again. What its sender left behind is of unknown outcome: its status says what became of
it. Where none came in UNSETTLED_S, it becomes a dead letter, and its row of mensajes says so
to who reads the chat: whether to say it again is for a person to decide.
"""

import logging
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from router import telemetry
from router.errors import Transient
from router.model import Notification, Sending
from router.store.database import Row
from router.store.dead_letters import DeadLetters
from router.store.loans import Note, note_rows
from router.store.outbox import OutboxQueue
from router.store.rows import REPLY_KEY
from router.store.sql_files import sql
from router.whatsapp.storable import text

KEY = REPLY_KEY
UNCONFIRMED = "sin confirmar"  # mensajes.error_mensaje of an unknown outcome
UNSETTLED = (
    "sin confirmar: puede haber llegado; mirá el chat antes de enviarlo de nuevo"
)
UNSETTLED_S = 600.0  # statuses come in seconds, or within minutes on a bad day
LOOK_S = 5.0  # between two looks for such replies
AT_ONCE = 100
REASON = f"unknown: no status in {UNSETTLED_S / 60:.0f} minutes, and never sent again"


class ReplyQueue(OutboxQueue):
    """What must still be said on WhatsApp."""

    _looked_at = -LOOK_S  # monotonic

    def end_unknown(self, notification: Notification) -> None:
        """End a row's loan: if no status settles it, a person sees it in a while."""
        if lease := self._on_loan.get(id(notification)):
            lease.end_now("unknown", UNSETTLED_S)

    async def about_to_send(self, notification: Notification) -> None:
        """Mark a row on loan as one that may have left.

        Raises Transient where that cannot be written, or the row is not ours any more: then
        nothing may leave.
        """
        lease = self._on_loan.get(id(notification))
        if lease is None or not await self._database.fetch(
            sql("replies_begin"), notification.id, lease.token
        ):
            raise Transient("the reply is not ours any more")

    async def _settle(self, notes: Sequence[Note]) -> Sequence[Row]:
        # The message's id and the end of its row: together, or a status finds no message.
        async with self._database.transaction() as tx:
            taken = await tx.fetch(sql("outbox_settle"), note_rows(notes))
            if told := [row for note in notes if (row := _told(note))]:
                await tx.fetch(sql("replies"), *map(list, zip(*told, strict=True)))
        return taken

    async def _idle(self) -> float:
        await self._mark_the_lost()
        if time.monotonic() >= self._looked_at + LOOK_S:
            self._looked_at = time.monotonic()
            await self._show_the_unsettled()
        return await super()._idle()

    async def _mark_the_lost(self) -> None:
        lost = await self._database.fetch(
            sql("replies_lost"), self.destination.name, UNSETTLED_S
        )
        if lost:
            rows = [UUID(row["key"].removeprefix(KEY)) for row in lost]
            nothing = [None] * len(rows)
            await self._database.fetch(
                sql("replies"), rows, nothing, nothing, [UNCONFIRMED] * len(rows)
            )
            telemetry.event(
                "replies_of_unknown_outcome", level=logging.WARNING, count=len(lost)
            )

    async def _show_the_unsettled(self) -> None:
        rows = await self._database.fetch(
            sql("replies_unsettled"), self.destination.name, AT_ONCE
        )
        graveyard = DeadLetters(self._database)
        for row in rows:
            await graveyard.bury("notify", self._item(row), REASON)
            telemetry.buried("notify", REASON)
        if rows:
            names = [UUID(row["key"].removeprefix(KEY)) for row in rows]
            ids = [row["id"] for row in rows]
            await self._database.fetch(
                sql("replies_shown"), ids, names, UNSETTLED, UNCONFIRMED
            )


def _told(note: Note) -> tuple[Any, ...] | None:
    # Row of mensajes, WhatsApp id, estado_envio, error.
    attempt = note.attempt
    row = UUID(note.key.removeprefix(KEY))
    match note.state:
        case "done" if isinstance(attempt, Sending):
            return row, attempt.wamid or None, "sent", None
        case "dead":
            return row, None, "failed", _why(attempt)
        case "unknown":
            return row, None, None, UNCONFIRMED
        case _:
            return None


def _why(attempt: object) -> str | None:
    if not isinstance(attempt, Sending):
        return None
    return text(attempt.title or attempt.error or "") or None
