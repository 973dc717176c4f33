"""What goes out to WhatsApp: bodies for `POST /{phone_number_id}/messages`, and their limits.

Pure: values in, a dict out that `json` or `orjson` can write. A body that the Graph API would
refuse is not built: ValueError says which limit it breaks, and quotes no text.

Lengths are counted in UTF-16 units. Meta gives the limits in "characters" and does not say
which; no usual way to count one string comes to more units than this one, so what fits here
fits. (The page about list messages allows a body of 4096 now, older ones 1024: the smaller.)

A person is addressed by the digits of a phone (`to`) or, without one, by a BSUID (`recipient`,
a member of its own: a BSUID in `to` is answered 200 and dropped). Source: Meta's page
business-scoped-user-ids, "send message requests"; chatwoot pull request 15150.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import orjson

from router.model import Choice, Reply
from router.whatsapp.members import object_of
from router.whatsapp.storable import json_text

Body = dict[str, Any]

TEXT = 4096
INTERACTIVE_BODY = 1024
HEADER = 60
FOOTER = 60
LIST_BUTTON = 20  # the label that opens the list
LIST_ROWS = 10  # of all sections together
SECTION_TITLE = 24
ROW_ID = 200
ROW_TITLE = 24
ROW_DESCRIPTION = 72
REPLY_BUTTONS = 3
BUTTON_ID = 256
BUTTON_TITLE = 20
CAPTION = 1024
CALLBACK_BYTES = 512  # of biz_opaque_callback_data

WINDOW_S = 24 * 3600.0
AD_WINDOW_S = 72 * 3600.0  # after a click on an ad that opens WhatsApp

CAPTIONED = frozenset({"image", "video", "document"})
MEDIA = CAPTIONED | {"audio", "sticker"}

_PHONE = re.compile(r"[0-9]{5,20}")
_NUMBER_ID = re.compile(r"[0-9]{1,30}")
_BSUID = re.compile(r"[A-Za-z]{2}\.(ENT\.)?[A-Za-z0-9]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Rows of a list under one title; a title is owed where there are several sections."""

    rows: Sequence[Choice]
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """One message on its way: the payload of an outbox row for the destination `whatsapp`.

    As bytes it is JSON with these members. After `until` (Unix seconds; the end of the 24 h
    window, or of the time in which an answer makes sense) it is not sent any more; None sends
    at any time (a template). `bulk` lets every direct reply pass first.
    """

    phone_number_id: str  # of ours, by which it leaves
    body: Body
    until: float | None = None
    bulk: bool = False

    def to_bytes(self) -> bytes:
        """Return the payload; the same for the same message."""
        return json_text(
            {
                "phone_number_id": self.phone_number_id,
                "until": self.until,
                "bulk": self.bulk,
                "body": self.body,
            }
        ).encode()

    @classmethod
    def from_bytes(cls, payload: bytes) -> Self:
        """Read a payload; ValueError for anything that `to_bytes` did not write."""
        said = object_of(orjson.loads(payload))
        number, body = said.get("phone_number_id"), said.get("body")
        until, bulk = said.get("until"), said.get("bulk")
        if (
            not (isinstance(number, str) and _NUMBER_ID.fullmatch(number))
            or not isinstance(body, dict)
            or not isinstance(bulk, bool)
            or not (until is None or isinstance(until, int | float))
        ):
            raise ValueError("no payload of an outgoing message")
        return cls(phone_number_id=number, body=body, until=until, bulk=bulk)

    @property
    def recipient(self) -> str:
        """Who gets it; '' for a read mark, which has no recipient."""
        return str(self.body.get("to") or self.body.get("recipient") or "")


def window_until(heard_at: float, *, from_ad: bool = False) -> float:
    """Return until when other messages than templates may go (Unix seconds).

    *heard_at* is the time of the person's last message, by WhatsApp's clock; *from_ad*, when
    that message came with a click-to-WhatsApp referral.
    """
    return heard_at + (AD_WINDOW_S if from_ad else WINDOW_S)


def size(text: str) -> int:
    """Return the length in UTF-16 units: never less than by any other way to count."""
    return len(text) + sum(character > "\uffff" for character in text)


def text(
    to: str, body: str, *, reply_to: str | None = None, callback: str = ""
) -> Body:
    """Return a text of 1 to 4096 characters; links in it get no preview."""
    _check("text", body, TEXT)
    return _message(
        to, "text", {"preview_url": False, "body": body}, reply_to, callback
    )


def interactive_list(  # noqa: PLR0913 -- the parts of a list, by name
    to: str,
    body: str,
    button: str,
    sections: Sequence[Section],
    *,
    header: str = "",
    footer: str = "",
    reply_to: str | None = None,
    callback: str = "",
) -> Body:
    """Return a list of up to 10 rows that *button* opens, under *body*."""
    _check("button", button, LIST_BUTTON)
    _check_sections(sections)
    action = {"button": button, "sections": [_section(each) for each in sections]}
    content = _interactive("list", body, action, header, footer)
    return _message(to, "interactive", content, reply_to, callback)


def buttons(  # noqa: PLR0913 -- as above
    to: str,
    body: str,
    choices: Sequence[Choice],
    *,
    header: str = "",
    footer: str = "",
    reply_to: str | None = None,
    callback: str = "",
) -> Body:
    """Return one to three reply buttons under *body*; descriptions are not shown."""
    _check_choices("buttons", choices, REPLY_BUTTONS)
    for choice in choices:
        _check("button id", choice.id, BUTTON_ID)
        _check("button title", choice.title, BUTTON_TITLE)
    shown = [
        {"type": "reply", "reply": {"id": choice.id, "title": choice.title}}
        for choice in choices
    ]
    content = _interactive("button", body, {"buttons": shown}, header, footer)
    return _message(to, "interactive", content, reply_to, callback)


def reaction(to: str, message_id: str, emoji: str, *, callback: str = "") -> Body:
    """Return a reaction to *message_id*; an empty *emoji* takes ours back."""
    content = {"message_id": _owed("message id", message_id), "emoji": emoji}
    return _message(to, "reaction", content, None, callback)


def read_mark(message_id: str, *, typing: bool = False) -> Body:
    """Return the two blue ticks for *message_id* and all before it.

    *typing* also shows "typing…" until our next message, for 25 s at most.
    """
    mark: Body = {
        "messaging_product": "whatsapp",
        "status": "read",
        "message_id": _owed("message id", message_id),
    }
    return mark | ({"typing_indicator": {"type": "text"}} if typing else {})


def template(
    to: str,
    name: str,
    language: str,
    components: Sequence[Mapping[str, Any]] = (),
    *,
    callback: str = "",
) -> Body:
    """Return an approved template: the only message outside the 24 h window."""
    content: Body = {
        "name": _owed("template name", name),
        "language": {"code": _owed("language", language)},
    }
    if components:
        content["components"] = list(components)
    return _message(to, "template", content, None, callback)


def media(  # noqa: PLR0913 -- the parts of a file, by name
    to: str,
    kind: str,
    link: str,
    *,
    caption: str = "",
    filename: str = "",
    reply_to: str | None = None,
    callback: str = "",
) -> Body:
    """Return a file (`MEDIA`) that WhatsApp fetches from *link*."""
    if kind not in MEDIA:
        raise ValueError("no kind of media")
    if not link.startswith(("https://", "http://")):
        raise ValueError("media has no link")
    if (caption and kind not in CAPTIONED) or (filename and kind != "document"):
        raise ValueError(f"{kind} takes no caption or file name")
    _check("caption", caption, CAPTION, empty=True)
    content = {"link": link, "caption": caption, "filename": filename}
    return _message(to, kind, _without_empty(content), reply_to, callback)


def fits(reply: Reply) -> bool:
    """Return whether *reply* can go out as an interactive list."""
    try:
        interactive_list("00000", reply.body, reply.button, [_only_section(reply)])
    except ValueError:
        return False
    return True


def of_reply(
    reply: Reply,
    *,
    to: str,
    as_list: bool,
    callback: str = "",
    reply_to: str | None = None,
) -> Body:
    """Return *reply* as a list where it is wanted and fits, else as its text."""
    if as_list and fits(reply):
        section = _only_section(reply)
        return interactive_list(
            to,
            reply.body,
            reply.button,
            [section],
            reply_to=reply_to,
            callback=callback,
        )
    return text(to, reply.text, reply_to=reply_to, callback=callback)


def _only_section(reply: Reply) -> Section:
    return Section(rows=reply.choices)


def _message(
    to: str, kind: str, content: Body, reply_to: str | None, callback: str
) -> Body:
    if len(callback.encode("utf-8", "replace")) > CALLBACK_BYTES:
        raise ValueError(f"callback is over {CALLBACK_BYTES} bytes")
    message: Body = {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        **_address(to),
        "type": kind,
        kind: content,
    }
    if reply_to:
        message["context"] = {"message_id": reply_to}
    if callback:
        message["biz_opaque_callback_data"] = callback
    return message


def _address(to: str) -> Body:
    if _PHONE.fullmatch(to):
        return {"to": to}
    if _BSUID.fullmatch(to):
        return {"recipient": to}
    raise ValueError("the recipient is neither digits nor a BSUID")


def _interactive(kind: str, body: str, action: Body, header: str, footer: str) -> Body:
    _check("body", body, INTERACTIVE_BODY)
    _check("header", header, HEADER, empty=True)
    _check("footer", footer, FOOTER, empty=True)
    return _without_empty(
        {
            "type": kind,
            "header": {"type": "text", "text": header} if header else None,
            "body": {"text": body},
            "footer": {"text": footer} if footer else None,
            "action": action,
        }
    )


def _section(section: Section) -> Body:
    rows = [
        _without_empty(
            {"id": row.id, "title": row.title, "description": row.description}
        )
        for row in section.rows
    ]
    return {"title": section.title, "rows": rows} if section.title else {"rows": rows}


def _check_sections(sections: Sequence[Section]) -> None:
    rows = [row for section in sections for row in section.rows]
    _check_choices("rows", rows, LIST_ROWS)
    for section in sections:
        _check("section title", section.title, SECTION_TITLE, empty=len(sections) == 1)
        if not section.rows:
            raise ValueError("a section has no rows")
    for row in rows:
        _check("row id", row.id, ROW_ID)
        _check("row title", row.title, ROW_TITLE)
        _check("row description", row.description, ROW_DESCRIPTION, empty=True)


def _check_choices(what: str, choices: Sequence[Choice], limit: int) -> None:
    if not 1 <= len(choices) <= limit:
        raise ValueError(f"{len(choices)} {what}, allowed are 1 to {limit}")
    if len({choice.id for choice in choices}) < len(choices):
        raise ValueError(f"two {what} have the same id")


def _check(what: str, value: str, limit: int, *, empty: bool = False) -> None:
    if not empty:
        _owed(what, value)
    if size(value) > limit:
        raise ValueError(f"{what} has {size(value)} characters, allowed are {limit}")


def _owed(what: str, value: str) -> str:
    if not value.strip():
        raise ValueError(f"{what} is empty")
    return value


def _without_empty(members: Body) -> Body:
    return {name: value for name, value in members.items() if value}
