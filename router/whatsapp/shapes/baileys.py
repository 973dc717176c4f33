"""What a message of Baileys says (Evolution hands it on), in the members of Meta's.

Around a message there may be others, each under `message`: of one that disappears, that is
seen once, that has a caption, that was sent from another device.
"""

from collections.abc import Callable
from typing import Any

from router.errors import Malformed
from router.whatsapp.members import (
    Object,
    first_text,
    list_of,
    object_of,
    objects_of,
    text_of,
)
from router.whatsapp.reading import read_json

Members = dict[str, Any]

_WRAPPINGS = 8
_REVOKE = (0, "0", "REVOKE")
_EDIT = (14, "14", "MESSAGE_EDIT")
_LONGEST_PARAMS = 10_000  # characters of JSON that the answer to a button carries
# Keys and settings that devices exchange, pins, votes, sealed reactions.
_HOUSEKEEPING = frozenset(
    {
        *("protocolMessage", "senderKeyDistributionMessage", "messageContextInfo"),
        *("fastRatchetKeySenderKeyDistributionMessage", "keepInChatMessage"),
        *("pinInChatMessage", "pollUpdateMessage", "encReactionMessage"),
        "albumMessage",  # that pictures will come, each by itself
    }
)


def unwrapped(message: Object) -> Object:
    """Return the innermost message of *message*."""
    for _ in range(_WRAPPINGS):
        if any(name in message for name in READERS) or "conversation" in message:
            break
        inner = next(filter(None, map(_inside, message.values())), None)
        if inner is None:
            break
        message = inner
    return message


def _inside(value: Any) -> Object:
    return object_of(object_of(value).get("message"))


def content_of(message: Object) -> Members | None:
    """Return the type and the members of *message* as Meta names them; None if unknown."""
    message = unwrapped(message)
    for name, read in READERS.items():
        body = message.get(name)
        if isinstance(body, dict) and (found := read(body)) is not None:
            return found
    words = text_of(message.get("conversation"))
    if words is None and set(message) - {"messageContextInfo"} != {"conversation"}:
        return None
    return _text(words or "")


def is_housekeeping(message: Object) -> bool:
    """Return whether *message* is between devices, and nobody's words."""
    message = unwrapped(message)
    return bool(message) and _HOUSEKEEPING.issuperset(message)


def context_of(*holders: Object) -> Members:
    """Return the first `contextInfo` in *holders* and in their members."""
    for holder in holders:
        found = object_of(holder.get("contextInfo"))
        inner = (object_of(object_of(v).get("contextInfo")) for v in holder.values())
        if found := found or next(filter(None, inner), {}):
            return dict(found)
    return {}


def advertisement_of(context: Object) -> Members:
    """Return the advertisement that a person came by, in the members of Meta's referral."""
    shown = object_of(context.get("externalAdReply"))
    if not (shown.get("sourceId") or shown.get("ctwaClid")):
        return {}  # the preview of a link
    found = {name: shown.get(theirs) for name, theirs in _ADVERTISEMENT.items()}
    return {name: value for name, value in found.items() if value}


_ADVERTISEMENT = {
    "source_url": "sourceUrl",
    "source_id": "sourceId",
    "source_type": "sourceType",
    "headline": "title",
    "body": "body",
    "thumbnail_url": "thumbnailUrl",
    "ctwa_clid": "ctwaClid",
}


def _of(kind: str, **members: Any) -> Members:
    kept = {name: value for name, value in members.items() if value is not None}
    return {"type": kind, kind: kept}


def _text(words: str) -> Members:
    return _of("text", body=words)


def _extended(body: Object) -> Members:
    return _text(text_of(body.get("text")) or "")


def _file(kind: str) -> Callable[[Object], Members]:
    def read(body: Object) -> Members:
        # Not its URL: what lies there is sealed, and the key is Evolution's.
        return _of(
            kind,
            caption=text_of(body.get("caption")),
            mime_type=text_of(body.get("mimetype")),
            filename=first_text(body, ("fileName", "title")),
            voice=True if body.get("ptt") is True else None,
            sha256=text_of(body.get("fileSha256")),
        )

    return read


def _location(body: Object) -> Members:
    return _of(
        "location",
        latitude=body.get("degreesLatitude"),
        longitude=body.get("degreesLongitude"),
        name=first_text(body, ("name", "caption")),
        address=text_of(body.get("address")),
    )


def _card(body: Object) -> Members:
    name = text_of(body.get("displayName"))
    card: Members = {"name": {"formatted_name": name}} if name else {}
    return card | {"vcard": body.get("vcard")}


def _contact(body: Object) -> Members:
    return {"type": "contacts", "contacts": [_card(body)]}


def _contacts(body: Object) -> Members:
    cards = [_card(card) for card in objects_of(body.get("contacts"))]
    return {"type": "contacts", "contacts": cards or [_card(body)]}


def _reaction(body: Object) -> Members:
    target = text_of(object_of(body.get("key")).get("id"))
    return _of("reaction", message_id=target, emoji=text_of(body.get("text")))


def _protocol(body: Object) -> Members | None:
    target = text_of(object_of(body.get("key")).get("id"))
    edited, kind = body.get("editedMessage"), body.get("type")
    if isinstance(edited, dict) or kind in _EDIT:
        message = content_of(object_of(edited)) or {}
        return _of("edit", original_message_id=target, message=message)
    if kind in _REVOKE or (kind is None and target):
        return _of("revoke", original_message_id=target)
    return None


def _button(body: Object) -> Members:
    chosen = _chosen(body, "selectedButtonId", "selectedDisplayText")
    return _interactive("button_reply", chosen)


def _template_button(body: Object) -> Members:
    chosen = _chosen(body, "selectedId", "selectedDisplayText")
    return _of("button", payload=chosen.get("id"), text=chosen.get("title"))


def _list(body: Object) -> Members:
    row = object_of(body.get("singleSelectReply")).get("selectedRowId")
    chosen = {"id": text_of(row), "title": text_of(body.get("title"))}
    return _interactive("list_reply", chosen)


def _flow(body: Object) -> Members:
    # Buttons of the newer kind: the id is in JSON in a text.
    flow = object_of(body.get("nativeFlowResponseMessage"))
    title = text_of(object_of(body.get("body")).get("text"))
    params = text_of(flow.get("paramsJson"))
    if row := text_of(_parsed(params).get("id")):
        return _interactive("button_reply", {"id": row, "title": title})
    told = {"name": "flow", "body": title, "response_json": params}
    return _interactive("nfm_reply", told)


def _parsed(params: str | None) -> Object:
    if params is None or len(params) > _LONGEST_PARAMS:
        return {}
    try:
        return object_of(read_json(params.encode("utf-8", "replace")))
    except Malformed:
        return {}


def _chosen(body: Object, row: str, title: str) -> Members:
    return {"id": text_of(body.get(row)), "title": text_of(body.get(title))}


def _interactive(kind: str, reply: Members) -> Members:
    kept = {name: value for name, value in reply.items() if value is not None}
    return {"type": "interactive", "interactive": {"type": kind, kind: kept}}


def _poll(body: Object) -> Members:
    # No type of Meta's. What it asks is shown beside.
    words = [text_of(body.get("name")), *map(_option, list_of(body.get("options")))]
    shown = " · ".join(filter(None, words))
    return {"type": "poll_creation", "text": {"body": shown}}


def _option(option: Any) -> str | None:
    return text_of(object_of(option).get("optionName"))


READERS: dict[str, Callable[[Object], Members | None]] = {
    "extendedTextMessage": _extended,
    "imageMessage": _file("image"),
    "videoMessage": _file("video"),
    "ptvMessage": _file("video"),
    "audioMessage": _file("audio"),
    "documentMessage": _file("document"),
    "stickerMessage": _file("sticker"),
    "locationMessage": _location,
    "liveLocationMessage": _location,
    "contactMessage": _contact,
    "contactsArrayMessage": _contacts,
    "reactionMessage": _reaction,
    "protocolMessage": _protocol,
    "buttonsResponseMessage": _button,
    "templateButtonReplyMessage": _template_button,
    "listResponseMessage": _list,
    "interactiveResponseMessage": _flow,
    "pollCreationMessage": _poll,
    "pollCreationMessageV2": _poll,
    "pollCreationMessageV3": _poll,
}
