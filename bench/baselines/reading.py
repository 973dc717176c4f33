"""What the baselines in Python share: whether a body is signed, and what it holds.

As anybody would write it for the bodies of an ordinary day: no odd shapes, no statuses.
"""

import hashlib
import hmac
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

SIGNATURE = "X-Hub-Signature-256"
FILES = ("image", "audio", "video", "document", "sticker", "location")


class Message(NamedTuple):
    """One row of mensajes; in the order of message.sql's parameters."""

    telefono: str  # without a phone, the BSUID
    name: str | None
    wamid: str
    text: str
    tipo: str
    seconds: float  # Meta's time
    item: str  # the JSON as received


def settings() -> tuple[int, str, bytes]:
    """Return port, DSN and app secret, by the router's own names."""
    env = os.environ
    return (
        int(env["PORT"]),
        env["DATABASE_URL"],
        env["WHATSAPP_APP_SECRET"].encode(),
    )


def signed(body: bytes, header: str | None, secret: bytes) -> bool:
    """Return whether *header* is Meta's signature of *body*."""
    right = "sha256=" + hmac.digest(secret, body, hashlib.sha256).hex()
    return hmac.compare_digest(right.encode(), (header or "").encode())


def read(body: bytes) -> list[Message]:
    """Return the messages of a body, in its order; raises ValueError if it is no JSON."""
    return [
        message
        for entry in orjson.loads(body)["entry"]
        for change in entry["changes"]
        for message in _messages(change["value"])
    ]


def _messages(value: dict[str, Any]) -> Iterator[Message]:
    names = {
        who: contact.get("profile", {}).get("name")
        for contact in value.get("contacts", ())
        for who in (contact.get("wa_id"), contact.get("user_id"))
    }
    for item in value.get("messages", ()):
        telefono = item.get("from") or item["from_user_id"]
        kind = item["type"]
        yield Message(
            telefono,
            names.get(telefono),
            item["id"],
            _text(kind, item.get(kind, {})),
            kind if kind in FILES else "text",
            float(item["timestamp"]),
            orjson.dumps(item).decode(),
        )


def _text(kind: str, content: dict[str, Any]) -> str:
    chosen = content.get(content.get("type", ""), {})
    return (
        content.get("body")
        or content.get("caption")
        or chosen.get("title")
        or f"[{kind}]"
    )
