"""What a destination is told: pure functions from a stored message to bytes.

`phone`: its digits, or the BSUID of a person without one.
"""

from datetime import datetime
from typing import Any

import orjson

from router.model import Content, Event


def ingesta(conversation_id: str, phone: str, content: Content) -> bytes:
    """Return the predecessor's fields for each inbound message."""
    return _json(
        {
            "conversationId": conversation_id,
            "phone": phone,
            "message": content.said,
            "media": _media(content),
        }
    )


def proxied(  # noqa: PLR0913, PLR0917 -- what an area must know
    conversation_id: str,
    area: str,
    phone: str,
    event: Event,
    content: Content,
    at: datetime,
) -> bytes:
    """Return the predecessor's fields for a message while an area owns the conversation."""
    return _json(
        {
            "conversacion_id": conversation_id,
            "telefono": phone,
            "mensaje": content.text,
            "area": area,
            "tipo": "mensaje_proxy",
            "timestamp": at.isoformat(),
            "metadata": {
                "messageId": event.key,
                "kind": event.kind,
                "media": _media(content),
            },
        }
    )


def envio(
    conversation_id: str, area: str, subarea: str, phone: str, ticket: str
) -> bytes:
    """Return the predecessor's fields for a conversation that an area takes over."""
    return _json(
        {
            "conversationId": conversation_id,
            "phone": phone,
            "area": area,
            "subarea": subarea,
            "ticketId": ticket,
        }
    )


def derived(  # noqa: PLR0913, PLR0917 -- what an area must know
    conversation_id: str,
    area: str,
    subarea: str,
    event: Event,
    ticket: str,
    at: datetime,
) -> bytes:
    """Return the Standard Webhooks envelope of a `conversation.derived`."""
    return _envelope(
        "conversation.derived",
        at,
        {
            "conversation_id": conversation_id,
            "phone": event.person.wa_id,
            "bsuid": event.person.bsuid,
            "name": event.person.name,
            "area": area,
            "subarea": subarea,
            "ticket_id": ticket,
            "message_id": event.key,
        },
    )


def received(
    conversation_id: str, line: str, event: Event, content: Content, at: datetime
) -> bytes:
    """Return the Standard Webhooks envelope of a `message.received`."""
    return _envelope(
        "message.received",
        at,
        {
            "conversation_id": conversation_id,
            "message_id": event.key,
            "kind": event.kind,
            "line": line,
            "phone": event.person.wa_id,
            "bsuid": event.person.bsuid,
            "name": event.person.name,
            "group_id": event.group_id,
            "text": content.text,
            "media": _media(content),
            "quoted_id": content.quoted_id,
        },
    )


def status(event: Event, at: datetime) -> bytes:
    """Return the Standard Webhooks envelope of a `message.status`."""
    found = event.status
    return _envelope(
        "message.status",
        at,
        {
            "message_id": found.message_id if found else None,
            "status": found.status if found else None,
            "type": found.type if found else None,
            "participant": found.participant if found else None,
            "error": found.error if found else None,
        },
    )


def _envelope(kind: str, at: datetime, data: dict[str, Any]) -> bytes:
    return _json({"type": kind, "timestamp": at.isoformat(), "data": data})


def _media(content: Content) -> dict[str, Any] | None:
    media = content.media
    if media is None:
        return None
    return {
        "type": media.type,
        "id": media.id,
        "mime_type": media.mime_type,
        "filename": media.filename,
        "url": media.url,
    }


def _json(value: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:  # a lone surrogate somewhere in the texts
        return orjson.dumps(_clean(value))


def _clean(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case dict():
            return {key: _clean(member) for key, member in value.items()}
        case _:
            return value
