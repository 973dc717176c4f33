"""The files of invented people: the same bytes for the same media id, of the type it tells. Pure.

Whoever makes traffic and whoever plays the Graph API agree on a file by its id alone.
"""

import base64
import hashlib
import struct
import zlib
from typing import NamedTuple

KINDS = {  # of messages; an id's remainder by their number is its place here
    "image": "image/png",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/pdf",
    "sticker": "image/webp",
    "video": "video/mp4",
}
SIDE = 32  # pixels of a picture


class File(NamedTuple):
    """A file as WhatsApp has it."""

    mime_type: str
    data: bytes

    @property
    def sha256(self) -> str:
        """In hex, as the Graph API says it."""
        return hashlib.sha256(self.data).hexdigest()

    @property
    def sha256_base64(self) -> str:
        """In base64, as webhooks say it."""
        return base64.b64encode(hashlib.sha256(self.data).digest()).decode()


def media_id(kind: str, number: int) -> str:
    """Return an id near *number* whose file is of a *kind* of message."""
    count = len(KINDS)
    return str(number - number % count + list(KINDS).index(kind))


def file_of(media: str) -> File | None:
    """Return the file of a media id; None of an id that nobody made."""
    if not (media.isascii() and media.isdigit()):
        return None
    mime_type = list(KINDS.values())[int(media) % len(KINDS)]
    seed = hashlib.sha256(media.encode()).digest()
    data = _png(seed) if mime_type == "image/png" else mime_type.encode() + seed * 64
    return File(mime_type, data)


def _png(seed: bytes) -> bytes:
    # A square of one colour.
    rows = (b"\0" + seed[:3] * SIDE) * SIDE
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    parts = (b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _chunk(name: bytes, data: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(name + data))
    return struct.pack(">I", len(data)) + name + data + check
