"""What a person reads of a message: its text, or a placeholder in the words of the school."""

import unicodedata
from collections.abc import Callable

from router.model import Content, Media
from router.whatsapp.kinds import CHANGES, type_of
from router.whatsapp.members import Object, object_of, text_of
from router.whatsapp.placeholders import PLACEHOLDERS, unavailable

# mensajes.tipo allows these; every other type is a text with a readable line.
_TIPOS = {
    "image": "image",
    "video": "video",
    "audio": "audio",
    "voice": "audio",
    "document": "document",
    "sticker": "sticker",
    "location": "location",
    "contacts": "contact",
}
_FILES = frozenset({"image", "video", "audio", "voice", "document", "sticker"})
MOST_INVISIBLE = 200  # characters that are looked at one by one
EMPTY = "[Mensaje vacío]"


def content_of(message: Object) -> Content | None:
    """Return what is to be read; None of a reaction, an edit or a revocation."""
    kind = type_of(message)
    if kind in CHANGES:
        return None
    body = object_of(message.get(kind))
    said = _said(kind, body)
    has_file = kind in _FILES
    return Content(
        text=said if said and not is_blank(said) else _words(kind, message),
        tipo=_TIPOS.get(kind, "text"),
        said=said,
        media=_media(kind, body) if has_file and body else None,
        quoted_id=_quoted(message) if "context" in message else None,
        choice=None if has_file or kind == "text" else _choice(kind, body),
        referral=object_of(message.get("referral")) or None
        if "referral" in message
        else None,
    )


def _quoted(message: Object) -> str | None:
    return text_of(object_of(message["context"]).get("id"))


def is_blank(said: str) -> bool:
    """Return whether *said* shows nothing: spaces, joiners, marks of direction."""
    if said[:1].isalnum():
        return False
    if said.isascii() or len(said) > MOST_INVISIBLE:
        return said.isspace()
    return all(c.isspace() or unicodedata.category(c) == "Cf" for c in said)


def _said(kind: str, body: Object) -> str:
    if kind == "text":
        return text_of(body.get("body")) or ""
    if kind in _FILES:
        return text_of(body.get("caption")) or ""
    return ""


def _words(kind: str, message: Object) -> str:
    if kind == "text":
        return EMPTY
    words: Callable[[Object], str] = PLACEHOLDERS.get(kind, unavailable)
    return words(message)


def _media(kind: str, body: Object) -> Media:
    return Media(
        type="audio" if kind == "voice" else kind,
        id=text_of(body.get("id")),
        mime_type=text_of(body.get("mime_type")),
        filename=text_of(body.get("filename")),
        url=text_of(body.get("url")),
    )


def _choice(kind: str, body: Object) -> str | None:
    if kind == "button":
        return text_of(body.get("payload"))
    if kind != "interactive":
        return None
    reply = object_of(body.get("button_reply")) or object_of(body.get("list_reply"))
    return text_of(reply.get("id"))
