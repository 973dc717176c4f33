"""What reactions, edits and revocations make of a message, in whatever order they come.

Every one is kept as a notice, with the id of its message. A message is computed from all
notices of it, in the order of their own times, so nothing depends on the order of arrival
and nothing is done twice.
"""

import binascii
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from router.model import Event
from router.store.database import Row, Transaction
from router.store.dialect import PLAN, Dialect
from router.store.keys import digest
from router.store.sql_files import sql
from router.whatsapp import shapes
from router.whatsapp.content import content_of
from router.whatsapp.members import Object, object_of, text_of, time_of
from router.whatsapp.phones import canonical
from router.whatsapp.storable import json_text, text

DELETED = "[Mensaje eliminado]"
# The member that holds the id of the message, by the last word of the kind.
_MEMBERS = {
    "reaction": ("reaction", "message_id"),
    "reaction_removed": ("reaction", "message_id"),
    "edit": ("edit", "original_message_id"),
    "revoke": ("revoke", "original_message_id"),
}
_WAMID = re.compile(r"wamid\.[A-Za-z0-9+/]{22,}={0,2}")
_TAIL_CHARS = 24  # of base64
_TAIL_BYTES = 16


class Notice(NamedTuple):
    """One change, as it was reported. `place` tells those of one second apart."""

    verb: str  # reaction, reaction_removed, edit, revoke
    at: datetime
    place: int
    who: frozenset[str]  # the names of whoever did it
    said: str = ""  # the emoji, or the new text


@dataclass(frozen=True, slots=True)
class Shown:
    """A message as a person sees it, and its history.

    Of `ediciones` each has the text that was replaced, and when.
    """

    mensaje: str
    reacciones: tuple[dict[str, Any], ...] = ()
    ediciones: tuple[dict[str, Any], ...] = ()
    eliminado: dict[str, Any] | None = None


def target_of(event: Event) -> str | None:
    """Return the id of the message that *event* changes; None of what changes none."""
    verb = event.kind.rpartition(".")[2]
    if verb not in _MEMBERS or not event.kind.startswith(("message.", "echo.")):
        return None
    member, name = _MEMBERS[verb]
    target = text_of(object_of(shapes.meta_form(event.item).get(member)).get(name))
    return text(target) if target else None


def tail(wamid: str | None) -> str | None:
    """Return what all spellings of a WhatsApp id share: its last 16 bytes, in hex.

    Before them it holds the number or id of the other side, which changes. None of what is
    no such id. As in migrations/0010_tail_index.sql.
    """
    if (
        wamid is None
        or len(wamid) % 4 != len("wamid.") % 4
        or not _WAMID.fullmatch(wamid)
    ):
        return None
    end = binascii.a2b_base64(wamid[-_TAIL_CHARS:])
    return end[-_TAIL_BYTES:].hex()


def folded(original: str, notices: Iterable[Notice]) -> Shown:
    """Return what *notices* make of a message whose text was *original*."""
    mensaje, reactions = original, dict[frozenset[str], dict[str, Any]]()
    editions: list[dict[str, Any]] = []
    deleted: dict[str, Any] | None = None
    for notice in sorted(notices, key=_order):
        at = notice.at.isoformat()
        if notice.verb in {"reaction", "reaction_removed"}:
            for who in [who for who in reactions if who & notice.who]:
                del reactions[who]
            if notice.said:
                reactions[notice.who] = {"emoji": notice.said, "ts": at} | _by(notice)
            continue
        if notice.verb == "revoke":
            deleted = {"ts": at} | _by(notice)
        said = DELETED if notice.verb == "revoke" else notice.said
        if said and mensaje not in {said, DELETED}:
            editions.append({"mensaje": mensaje, "ts": at})
            mensaje = said
    return Shown(mensaje, tuple(reactions.values()), tuple(editions), deleted)


def _order(notice: Notice) -> tuple[datetime, bool, int]:
    return notice.at, notice.verb == "revoke", notice.place


def _by(notice: Notice) -> dict[str, str]:
    return {"de": min(notice.who, default="")}


def _notice(row: Row) -> Notice:
    item = shapes.meta_form(orjson.loads(row["payload"]))
    verb = row["kind"].rpartition(".")[2]
    body = object_of(item.get(_MEMBERS[verb][0]))
    return Notice(
        verb=verb,
        at=time_of(item.get("timestamp")) or row["received_at"],
        place=row["id"],
        who=_who(item),
        said=_said(verb, body),
    )


def _who(item: Object) -> frozenset[str]:
    phone, user_id = text_of(item.get("from")), text_of(item.get("from_user_id"))
    return frozenset(filter(None, (phone and canonical(phone), user_id)))


def _said(verb: str, body: Object) -> str:
    if verb == "edit":
        content = content_of(object_of(body.get("message")))
        return text(content.text) if content else ""
    return text(text_of(body.get("emoji")) or "") if verb == "reaction" else ""


async def apply(
    tx: Transaction, wamids: Sequence[str], dialect: Dialect = PLAN
) -> None:
    """Bring the messages *wamids* up to date with all that is known of them.

    One that is not here is claimed, so that whoever writes it now, or next, looks again.
    """
    ids = await _find(tx, wamids, dialect)
    if missing := [wamid for wamid in wamids if wamid not in ids]:
        await tx.fetch(sql("claim"), sorted(map(digest, missing)))
        ids |= await _find(tx, missing, dialect)
    rows = await tx.fetch(sql("changed"), sorted(set(ids.values())))
    names = {*wamids, *(row["whatsapp_message_id"] or "" for row in rows)}
    tails = {t for name in names if (t := tail(name))}
    notices = await tx.fetch(sql("changes"), sorted(names), sorted(tails))
    updates = [
        u for row in rows if (u := _update(row, _of(row, ids, notices, dialect)))
    ]
    if updates:
        await tx.fetch(sql("change"), *(list(c) for c in zip(*updates, strict=True)))


async def _find(
    tx: Transaction, wamids: Sequence[str], dialect: Dialect
) -> dict[str, UUID]:
    found = await tx.fetch(
        dialect.sql("targets"), list(wamids), [tail(w) for w in wamids]
    )
    return {row["target"]: row["id"] for row in found if row["id"]}


def _of(
    row: Row, ids: dict[str, UUID], notices: Sequence[Row], dialect: Dialect
) -> list[Notice]:
    own, alike = row["whatsapp_message_id"], tail(row["whatsapp_message_id"])
    inbound = dialect.read("direccion", row["direccion"]) == "entrante"
    wrote = _who(shapes.meta_form(orjson.loads(row["item"] or b"{}")))
    return [
        read
        for notice in notices
        if (
            notice["target"] == own
            or (ids.get(notice["target"]) == row["id"])
            or (alike and notice["target_tail"] == alike)
        )
        and _may(read := _notice(notice), notice["kind"], wrote, inbound=inbound)
    ]


def _may(notice: Notice, kind: str, wrote: frozenset[str], *, inbound: bool) -> bool:
    # Anybody may react; a text is changed by whoever wrote it.
    if notice.verb not in {"edit", "revoke"}:
        return True
    if inbound is not kind.startswith("message."):
        return False
    return not inbound or not (wrote and notice.who) or bool(wrote & notice.who)


def _update(row: Row, notices: Sequence[Notice]) -> tuple[UUID, str, str] | None:
    had = {name: orjson.loads(row[name] or b"null") for name in _HISTORY}
    history = had["ediciones"] or []
    original = history[0]["mensaje"] if history else row["mensaje"]
    shown = folded(original, notices)
    now = {
        "reacciones": list(shown.reacciones),
        "ediciones": list(shown.ediciones),
        "eliminado": shown.eliminado,
    }
    new = {
        name: value
        for name, value in now.items()
        if (value or had[name]) and value != had[name]
    }
    if not new and shown.mensaje == row["mensaje"]:
        return None
    return row["id"], shown.mensaje, json_text(new)


_HISTORY = ("reacciones", "ediciones", "eliminado")
