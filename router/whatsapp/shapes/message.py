"""One message in any shape, in the members of Meta's: who, what, when.

What a message is decides the first of these that is there, in this order:

1. `type` is one of Meta's and names a member: Meta's own form (F4). A text beside a file
   that has no caption is its caption.
2. the type is a reaction, or something says which message is reacted to (F8)
3. `message` is one of Baileys' (F7, F9); a plain text with a media URL beside is 4
4. the type is a file's, or there is a media URL, or `multimedia` (F5, F6, F8): the text is
   the caption. Without a type the MIME type decides, else it is a document.
5. a latitude and a longitude, or the type is a location
6. the type is a contact
7. a text, by its first alias that is not empty (F3, F5, F6, F8); an empty one too
8. a type or a `message` that nobody knows: `message.unrecognised`

Where none is, it is no message.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from router.whatsapp.kinds import MESSAGE_TYPES, type_of
from router.whatsapp.members import Object, first_text, object_of, text_of
from router.whatsapp.shapes import aliases, baileys
from router.whatsapp.shapes.addresses import Who, who_of

Members = dict[str, Any]

FILES = frozenset({"image", "video", "audio", "voice", "document", "sticker"})
# Of these types the member may be missing in Meta's own form.
_BARE = frozenset({"unsupported", "unknown", "request_welcome", "system"})
_KEPT = (
    *("context", "errors", "identity", "origin", "recipient_type", "group_id"),
    *("from_user_id", "from_parent_user_id", "to_user_id", "to_parent_user_id"),
)


class Message(NamedTuple):
    """A message as Meta's readers take it, and what does not stand in it."""

    item: Members
    who: Who
    echo: bool
    name: str | None  # of the person


def message_of(item: Object) -> Message | None:
    """Return *item*, of any shape, as a message; None where it is none."""
    content = _content(item)
    if content is None:
        return None
    echo = aliases.is_own(item, object_of(item.get("key")))
    who = who_of(item, echo=echo)
    kept = {name: item[name] for name in _KEPT if name in item}
    members = kept | content | _around(item) | _named(who, echo=echo)
    # What a phone calls itself in an echo is the business, and not who it went to.
    return Message(members, who, echo, None if echo else _name(item))


def id_of(item: Object) -> str | None:
    """Return WhatsApp's id of *item*; None where it has none."""
    own = text_of(object_of(item.get("key")).get("id"))
    return own or first_text(item, aliases.IDS)


def _named(who: Who, *, echo: bool) -> Members:
    side = "to" if echo else "from"
    address = who.phone or (None if who.user_id or who.group else who.said)
    named = {side: address, f"{side}_user_id": who.user_id, "group_id": who.group}
    return {name: value for name, value in named.items() if value}


def _around(item: Object) -> Members:
    found: Members = {"id": id_of(item), "timestamp": aliases.time_in(item)}
    info = baileys.context_of(item, baileys.unwrapped(object_of(item.get("message"))))
    context = dict(object_of(item.get("context")))
    quoted = first_text(item, aliases.QUOTES) or text_of(info.get("stanzaId"))
    if quoted and not context.get("id"):
        context["id"] = quoted
    referral = baileys.advertisement_of(info) | aliases.referral_in(item)
    return found | {
        name: value
        for name, value in (("context", context), ("referral", referral))
        if value
    }


def _name(item: Object) -> str | None:
    return first_text(item, aliases.NAMES) or text_of(
        object_of(item.get("profile")).get("name")
    )


def _content(item: Object) -> Members | None:
    return next(filter(None, (read(item) for read in _READ)), None)


def _of_meta(item: Object) -> Members | None:
    kind = type_of(item)
    if kind not in MESSAGE_TYPES or kind == "text":
        return None
    body, words = item.get(kind), aliases.plain_words(item)
    if isinstance(body, list) and kind == "contacts":
        return {"type": kind, kind: body}
    if not isinstance(body, dict):
        return {"type": kind} if kind in _BARE and not words else None
    if kind not in FILES:
        return {"type": kind, kind: body}
    return {"type": kind, kind: _lent(body, caption=words, url=_url(item))}


def _reaction(item: Object) -> Members | None:
    target = first_text(item, aliases.REACTED)
    kind, _ = aliases.type_word(item)
    if kind != "reaction" and not target:
        return None
    emoji = first_text(item, aliases.EMOJIS) or aliases.words_in(item)
    target = target or first_text(item, aliases.QUOTES)
    told = {"message_id": target, "emoji": emoji or None}
    kept = {name: value for name, value in told.items() if value}
    return {"type": "reaction", "reaction": kept}


def _of_baileys(item: Object) -> Members | None:
    content = baileys.content_of(object_of(item.get("message")))
    if content is None:
        return None
    kind, url = content["type"], _url(item)
    if kind == "text":
        words = content["text"].get("body") or not aliases.plain_words(item)
        return content if words and not url else None
    if kind in FILES:
        caption = first_text(item, ("mensaje", "caption"))
        filename = first_text(item, aliases.FILENAMES)
        lent = _lent(content[kind], url=url, caption=caption, filename=filename)
        return content | {kind: lent}
    return content


def _lent(body: Object, **members: str | None) -> Members:
    """Return *body* with those of *members* that it has not itself."""
    return {**body} | {n: v for n, v in members.items() if v and not body.get(n)}


def _url(item: Object) -> str | None:
    # Where Evolution stores files itself, it says so inside the message.
    own = _first((item, object_of(item.get("message"))), aliases.URLS)
    return own or first_text(object_of(item.get("multimedia")), ("url", *aliases.URLS))


def _first(holders: Iterable[Object], names: Iterable[str]) -> str | None:
    return next(filter(None, (first_text(held, names) for held in holders)), None)


def _file(item: Object) -> Members | None:
    about = object_of(item.get("multimedia"))
    holders = (item, about, object_of(about.get("metadata")))
    mime = _first(holders, aliases.MIMES)
    kind, word = aliases.type_word(item)
    url = _url(item)
    if kind not in FILES:
        kind = (aliases.kind_of_mime(mime) or "document") if url else None
    if kind is None:
        return None
    body = {
        "id": first_text(item, ("mediaId", "media_id")),
        "url": url,
        "mime_type": mime or (word if word and "/" in word else None),
        "filename": _first(holders, aliases.FILENAMES),
        "caption": aliases.words_in(item) or text_of(item.get("caption")),
        "voice": True if kind == "voice" else None,
    }
    kind = "audio" if kind == "voice" else kind
    own = dict(object_of(item.get(kind)))
    return {"type": kind, kind: {n: v for n, v in body.items() if v} | own}


def _location(item: Object) -> Members | None:
    spot = object_of(item.get("location")) or item
    latitude, longitude = (
        next((spot[n] for n in names if _is_degrees(spot.get(n))), None)
        for names in (aliases.LATITUDES, aliases.LONGITUDES)
    )
    found = latitude is not None and longitude is not None
    if not found and aliases.type_word(item)[0] != "location":
        return None
    body = {
        "latitude": latitude,
        "longitude": longitude,
        "name": (None if spot is item else text_of(spot.get("name")))
        or aliases.words_in(item),
        "address": first_text(spot, ("address", "direccion")),
    }
    return {"type": "location", "location": {n: v for n, v in body.items() if v != ""}}


def _is_degrees(value: Any) -> bool:
    return text_of(value) is not None or isinstance(value, float)


def _contact(item: Object) -> Members | None:
    if aliases.type_word(item)[0] != "contacts":
        return None
    words = aliases.words_in(item)
    card: Members = {"name": {"formatted_name": words}} if words else {}
    return {"type": "contacts", "contacts": [card]}


def _text(item: Object) -> Members | None:
    words = aliases.words_in(item)
    if words or any(isinstance(item.get(name), str) for name in aliases.TEXT):
        return {"type": "text", "text": {"body": words}}
    return None


def _unknown(item: Object) -> Members | None:
    inside = baileys.unwrapped(object_of(item.get("message")))
    found, word = aliases.type_word(item)
    kind = found or word or next(iter(inside), None)
    if kind is None and first_text(object_of(item.get("key")), ("id",)) is None:
        return None
    return {"type": kind or ""}


_READ: tuple[Callable[[Object], Members | None], ...] = (
    *(_of_meta, _reaction, _of_baileys, _file, _location, _contact, _text, _unknown),
)
