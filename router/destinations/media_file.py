"""A file to fetch: what the outbox row of the destination `media` holds, and its key. Pure.

The key is made when the message is stored, and holds 128 bits of chance. So every attempt,
in whatever process, writes the same object; no two messages share one, and nobody guesses
it. What people call their file is no part of it.
"""

import base64
import binascii
import re
import secrets
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Self

import orjson

from router.model import Event
from router.whatsapp.storable import text

# What a key ends in, so that whoever serves it knows what it is. A type that is not here may
# hold anything, and is handed out as bytes.
EXTENSIONS = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/gif": "gif",
    "audio/aac": "aac",
    "audio/amr": "amr",
    "audio/mp4": "m4a",
    "audio/mpeg": "mp3",
    "audio/ogg": "ogg",
    "video/3gpp": "3gp",
    "video/mp4": "mp4",
    "application/pdf": "pdf",
    "application/msword": "doc",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "text/plain": "txt",
}
TYPES = {extension: kind for kind, extension in EXTENSIONS.items()}
BYTES = "application/octet-stream"
NAME = r"\d{4}/\d{2}/[0-9a-f]{32}\.[a-z0-9]{2,4}"  # of an object: key and extension
_ID = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_KEY = re.compile(r"\d{4}/\d{2}/[0-9a-f]{32}", re.ASCII)
_HEX = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_SHA256_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaFile:
    """A file that is still at WhatsApp, and whose it is."""

    id: str
    wamid: str
    key: str  # of its object, without the extension
    mime_type: str | None = None
    sha256: str | None = None  # hex

    @classmethod
    def of(cls, event: Event, wamid: str, at: datetime) -> Self | None:
        """Return the file of a message that came in *at*; None where there is none to fetch."""
        media = event.content.media if event.content else None
        if media is None or not _ID.fullmatch(media.id or ""):
            return None
        return cls(
            id=media.id or "",
            wamid=wamid,
            key=f"{at:%Y/%m}/{secrets.token_hex(16)}",
            mime_type=None if media.mime_type is None else text(media.mime_type),
            sha256=sha256_of(_described(event.item).get("sha256")),
        )

    def to_bytes(self) -> bytes:
        """Return the payload of an outbox row."""
        return orjson.dumps(asdict(self))

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Read a payload; ValueError for what is none."""
        try:
            file = cls(**orjson.loads(payload))
            fine = _ID.fullmatch(file.id) and _KEY.fullmatch(file.key)
        except TypeError as exc:
            raise ValueError("no payload of a file") from exc
        if not fine:
            raise ValueError("no payload of a file")
        return file

    def name(self, mime_type: str) -> str:
        """Return the name of its object, as a file of *mime_type*."""
        return f"{self.key}.{EXTENSIONS.get(plain(mime_type), 'bin')}"


def plain(mime_type: str) -> str:
    """Return the type without its parameters: WhatsApp says ``audio/ogg; codecs=opus``."""
    return mime_type.partition(";")[0].strip().lower()


def type_of(name: str) -> str:
    """Return the MIME type of an object by the end of its name."""
    return TYPES.get(name.rpartition(".")[2], BYTES)


def sha256_of(said: object) -> str | None:
    """Return a digest in hex: webhooks have it in base64, the Graph API in hex."""
    if not isinstance(said, str):
        return None
    if _HEX.fullmatch(said):
        return said.lower()
    try:
        raw = base64.b64decode(said, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == _SHA256_BYTES else None


def _described(item: Any) -> dict[str, Any]:
    # The member of a message that is named by its type.
    kind = item.get("type") if isinstance(item, dict) else None
    found = item.get(kind) if isinstance(kind, str) else None
    return found if isinstance(found, dict) else {}
