"""Handing conversations to their areas: ticket, derivation, audit, in the message's transaction."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol
from uuid import UUID

from router.conversation.decide import Derivation
from router.model import Event
from router.store.batch import Written
from router.store.database import Fetches, Row
from router.store.dialect import PLAN, Dialect
from router.whatsapp.storable import json_text

ARGENTINA = timezone(timedelta(hours=-3))  # no summer time since 2009
CONTEXT = 10  # messages that go with a ticket
CONTEXT_CHARS = 200  # of each
TICKET = "{ticket}"


class Areas(Protocol):
    """Who knows the areas and the menu."""

    def inbox_of(self, area: str) -> str | None:
        """Return the name of the destination that hears of an area's derivations."""

    def priority_of(self, event: Event, texts: Iterable[str]) -> str:
        """Return how urgent a ticket is, by what the person wrote."""


def derived(written: Sequence[Written]) -> list[tuple[Written, Derivation]]:
    """Return the messages after which an area takes over."""
    return [
        (new, new.decision.derivation)
        for new in written
        if new.decision and new.decision.derivation
    ]


async def number_tickets(
    tx: Fetches, written: Sequence[Written], now: datetime, dialect: Dialect = PLAN
) -> set[str]:
    """Give each derivation its ticket; return the tickets that are new."""
    handed = derived(written)
    asked = list(dict.fromkeys(new.conversation.id for new, _ in handed))
    rows = await tx.fetch(dialect.sql("tickets"), asked, now.astimezone(ARGENTINA).year)
    tickets: dict[UUID, str] = {row["id"]: row["ticket_id"] for row in rows}
    for new, _ in handed:
        new.ticket = tickets[new.conversation.id]
    return {row["ticket_id"] for row in rows if row["fresh"]}


async def hand_over(
    tx: Fetches,
    written: Sequence[Written],
    fresh: set[str],
    desk: Areas,
    dialect: Dialect = PLAN,
) -> None:
    """Write the tickets, derivations and audit rows of what `number_tickets` numbered.

    After the messages themselves: what goes with a ticket is read from their table.
    """
    handed = derived(written)
    asked = list({new.conversation.id for new, _ in handed})
    context = await tx.fetch(dialect.sql("context"), asked, CONTEXT)
    left = set(fresh)
    while handed:
        # A ticket twice in a batch is opened by one statement and moved on by the next.
        first = {new.ticket: (new, it) for new, it in reversed(handed)}
        rows = [
            _row(new, it, context, desk, dialect) | {"fresh": new.ticket in left}
            for new, it in first.values()
        ]
        await tx.fetch(dialect.sql("derive"), json_text(rows))
        left.clear()
        handed = [pair for pair in handed if pair not in first.values()]


def _row(
    new: Written,
    derivation: Derivation,
    context: Sequence[Row],
    desk: Areas,
    dialect: Dialect,
) -> dict[str, Any]:
    contact = dialect.write("remitente_tipo", "contact")
    mine = [r for r in context if r["conversacion_id"] == new.conversation.id]
    return {
        "conversacion_id": str(new.conversation.id),
        "telefono": new.conversation.telefono,
        "area": dialect.write("area", derivation.area),
        "subetiqueta": derivation.subetiqueta,
        "inbox_destino": desk.inbox_of(derivation.area),
        "ticket_id": new.ticket,
        "prioridad": dialect.write(
            "prioridad",
            desk.priority_of(
                new.event,
                (row["mensaje"] for row in mine if row["remitente_tipo"] == contact),
            ),
        ),
        "metadata": _metadata(new, derivation, mine),
        "payload": {
            "ticket_id": new.ticket,
            "area": derivation.area,
            "subetiqueta": derivation.subetiqueta,
            "motivo": derivation.motivo,
            "opciones_seleccionadas": list(derivation.path),
            "whatsapp_message_id": new.wamid,
        },
        "at": new.delivery.received_at.isoformat(),
    }


def _metadata(
    new: Written, derivation: Derivation, context: Sequence[Row]
) -> dict[str, Any]:
    oldest_first = list(reversed(context))
    return {
        "nombre_contacto": new.event.person.name,
        "area_origen": new.before.area,
        "area_destino": derivation.area,
        "motivo": derivation.motivo,
        "derivado_por": "Router PSI",
        "contexto_completo": {
            "messages": [
                {
                    "texto": row["mensaje"][:CONTEXT_CHARS],
                    "direccion": row["direccion"],
                    "remitente_tipo": row["remitente_tipo"],
                    "timestamp": row["timestamp"].isoformat(),
                }
                for row in oldest_first
            ],
            "menu_recorrido": derivation.menu,
            "submenu_recorrido": derivation.option,
            "opciones_seleccionadas": list(derivation.path),
            "timestamp_inicio": oldest_first[0]["timestamp"].isoformat()
            if oldest_first
            else None,
        },
    }
