"""What the members of n8n's and the CRM's bodies are called, in every spelling seen."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from router.whatsapp.members import Object, first_text, object_of, text_of, time_of

TEXT = ("mensaje", "message", "text", "body", "contenido")
IDS = ("messageId", "message_id", "whatsapp_message_id", "id")
NAMES = ("nombre", "name", "pushName", "nombre_contacto")
TYPES = ("mediaType", "media_type", "messageType", "tipo", "type")
URLS = ("mediaUrl", "media_url")
MIMES = ("mimetype", "mime_type", "mimeType")
FILENAMES = ("filename", "fileName", "file_name", "media_filename")
LINES = ("linea", "inbox", "linea_origen", "instance")
TIMES = ("timestamp", "ts", "messageTimestamp")
QUOTES = ("whatsapp_context_id", "context_id", "contextMessageId")
REACTED = ("reactionToMessageId", "reaction_to_message_id", "reactionMessageId")
EMOJIS = ("emoji", "reactionEmoji", "reaction")
OWN = ("fromMe", "from_me")
LATITUDES = ("latitude", "latitud", "lat", "degreesLatitude")
LONGITUDES = ("longitude", "longitud", "lng", "lon", "degreesLongitude")
_INNER = ("body", "text", "conversation", "caption", *TEXT)

_WORDS = {
    "text": "text texto chat conversation extendedtextmessage",
    "image": "image imagen foto imagemessage",
    "audio": "audio audiomessage",
    "voice": "voice ptt",
    "video": "video videomessage ptv ptvmessage",
    "document": "document documento documentmessage documentwithcaptionmessage file",
    "sticker": "sticker stickermessage",
    "location": "location ubicacion ubicación locationmessage livelocationmessage",
    "contacts": "contacts contact contacto vcard contactmessage contactsarraymessage",
    "reaction": "reaction reaccion reacción reactionmessage",
}
_TYPE_OF = {word: name for name, words in _WORDS.items() for word in words.split()}
_LONGEST_TIME = 40  # characters of ISO 8601


def words_in(item: Object) -> str:
    """Return the text of *item*, by the first alias that has one; '' if none has."""
    return next(filter(None, (_words(item.get(name)) for name in TEXT)), "")


def plain_words(item: Object) -> str:
    """Return the text of *item* where it is a text and no object."""
    return first_text(item, TEXT) or ""


def _words(value: Any) -> str:
    if not isinstance(value, dict):
        return text_of(value) or ""
    for name in _INNER:
        inner = value.get(name)
        # One level more: {"message": {"text": {"body": …}}}, extendedTextMessage.
        if words := first_text(inner, _INNER) if isinstance(inner, dict) else inner:
            return text_of(words) or ""
    return first_text(object_of(value.get("extendedTextMessage")), _INNER) or ""


def type_word(item: Object) -> tuple[str | None, str | None]:
    """Return (Meta's type, the word as received) of the first alias that is a known type.

    A MIME type is a word too. Without a known one the first word is returned alone.
    """
    words = list(_type_words(item))
    for word in words:
        if found := _TYPE_OF.get(word.lower()) or kind_of_mime(word):
            return found, word
    return None, words[0] if words else None


def _type_words(item: Object) -> Iterator[str]:
    for holder in (item, object_of(item.get("multimedia"))):
        for name in TYPES:
            if isinstance(word := holder.get(name), str) and word:
                yield word


def kind_of_mime(mime: str | None) -> str | None:
    """Return which type of file *mime* is; None where it is no MIME type."""
    family, slash, _ = (mime or "").partition("/")
    if not slash:
        return None
    return family if family in {"image", "audio", "video"} else "document"


def is_own(*holders: Object) -> bool:
    """Return whether one of *holders* says that the business sent it."""
    return any(
        holder.get(name) is True
        or (text_of(holder.get(name)) or "").lower() in {"true", "1"}
        for holder in holders
        for name in OWN
    )


def time_in(item: Object) -> Any:
    """Return the time of *item* as Meta's readers take it; None where there is none."""
    times = (as_time(item.get(name)) for name in TIMES)
    return next((time for time in times if time is not None), None)


def as_time(value: Any) -> Any:
    """Return seconds or milliseconds since 1970; None for what is no time.

    ISO 8601 counts with an offset or Z. Without one nobody knows which hour is meant.
    Protobuf's 64-bit numbers come as `{"low": …, "high": 0}`.
    """
    if isinstance(value, dict):
        value = value.get("low")
    if time_of(value) is not None:
        return value
    if not isinstance(value, str) or len(value) > _LONGEST_TIME:
        return None
    try:
        at = datetime.fromisoformat(value.strip())
        return at.timestamp() if at.tzinfo else None
    except (ValueError, OverflowError):
        return None


def referral_in(item: Object) -> dict[str, Any]:
    """Return where the person came from: Meta's `referral`, `utm_data`, and each `utm_*`."""
    own = {
        name: value
        for name, value in item.items()
        if name.startswith("utm_") and name != "utm_data"
    }
    found = {
        **object_of(item.get("referral")),
        **object_of(item.get("utm_data")),
        **own,
    }
    return {name: value for name, value in found.items() if value not in (None, "")}


def line_of(item: Any) -> str | None:
    """Return the name of the line that a body says it came in by; None where it says none."""
    return first_text(object_of(item), LINES)
