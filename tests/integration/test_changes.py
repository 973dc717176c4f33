"""Reactions, edits, revocations and quotes find their message; where people came from."""

import asyncio
import base64
import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from router.model import Content, Door, Event, Media
from router.store.changes import DELETED, tail
from router.store.database import Database
from router.store.ledger import Ledger
from router.whatsapp.events import read
from tests.events import SilentDesk, message, now, received

WHO = "5491123456789"


@pytest.fixture
def ledger(store: Database) -> Ledger:
    return Ledger(store, SilentDesk())


def wamid(ident: str = "3EB0C7A1D2E3F4051627", phone: str = WHO) -> str:
    """Return an id as WhatsApp makes them: the other side, a direction, its own id."""
    head = b"\x1c\x18" + bytes([len(phone)]) + phone.encode() + b"\x15\x02\x00\x11\x18"
    raw = head + bytes([len(ident)]) + ident.encode() + b"\0"
    return f"wamid.{base64.b64encode(raw).decode()}"


_numbers = itertools.count()


def change(kind: str, *, seconds: int = 0, echo: bool = False, **body: Any) -> Event:
    """An event of *kind* (reaction, edit, revoke) as Meta sends it."""
    key = f"wamid.C{next(_numbers)}"
    item: dict[str, Any] = {
        "id": key,
        "from": WHO,
        "timestamp": str(int(now().timestamp()) + seconds),
        "type": kind,
    }
    item[kind] = body
    verb = f"{kind}_removed" if kind == "reaction" and not body.get("emoji") else kind
    event = message(WHO, wamid=key, content=None, item=item)
    return replace(event, kind=f"{'echo' if echo else 'message'}.{verb}")


def reaction(target: str, emoji: str = "", *, seconds: int = 0) -> Event:
    return change("reaction", seconds=seconds, message_id=target, emoji=emoji)


def edit(target: str, words: str, *, seconds: int = 0, echo: bool = False) -> Event:
    new = {"type": "text", "text": {"body": words}}
    return change(
        "edit", seconds=seconds, echo=echo, original_message_id=target, message=new
    )


def revoke(target: str, *, seconds: int = 0, echo: bool = False) -> Event:
    return change("revoke", seconds=seconds, echo=echo, original_message_id=target)


async def say(ledger: Ledger, *events: Event) -> None:
    for event in events:
        await ledger.write(received(event))


async def shown(store: Database, key: str) -> tuple[str, dict[str, Any]]:
    (row,) = await store.fetch(
        "select mensaje, metadata from mensajes where whatsapp_message_id = $1", key
    )
    return row["mensaje"], json.loads(row["metadata"])


async def preview(store: Database) -> str:
    (row,) = await store.fetch("select ultimo_mensaje from conversaciones")
    found: str = row["ultimo_mensaje"]
    return found


async def test_a_reaction_stands_at_its_message_until_it_is_removed(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(WHO, wamid="wamid.M"), reaction("wamid.M", "👍"))
    _, metadata = await shown(store, "wamid.M")
    at = now().isoformat()
    assert metadata["reacciones"] == [{"de": WHO, "emoji": "👍", "ts": at}]
    assert metadata["kind"] == "message.text"
    await say(ledger, reaction("wamid.M", "❤️", seconds=1))
    assert [r["emoji"] for r in (await shown(store, "wamid.M"))[1]["reacciones"]] == [
        "❤️"
    ]
    await say(ledger, reaction("wamid.M", seconds=2))
    assert (await shown(store, "wamid.M"))[1]["reacciones"] == []
    (row,) = await store.fetch("select count(*) as n from router.notices")
    assert row["n"] == 3
    (row,) = await store.fetch("select count(*) as n from mensajes")
    assert row["n"] == 1


async def test_an_edit_replaces_the_text_and_keeps_the_old_one(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(WHO, wamid="wamid.M", text="uno"))
    await say(
        ledger, edit("wamid.M", "dos", seconds=5), edit("wamid.M", "tres", seconds=9)
    )
    mensaje, metadata = await shown(store, "wamid.M")
    assert mensaje == "tres"
    assert metadata["ediciones"] == [
        {"mensaje": "uno", "ts": (now() + timedelta(seconds=5)).isoformat()},
        {"mensaje": "dos", "ts": (now() + timedelta(seconds=9)).isoformat()},
    ]
    assert await preview(store) == "tres"


async def test_a_revocation_leaves_a_mark_and_the_text_in_the_history(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(WHO, wamid="wamid.M", text="uno"), revoke("wamid.M"))
    mensaje, metadata = await shown(store, "wamid.M")
    assert (mensaje, await preview(store)) == (DELETED, DELETED)
    assert metadata["eliminado"] == {"de": WHO, "ts": now().isoformat()}
    assert [old["mensaje"] for old in metadata["ediciones"]] == ["uno"]


async def test_edits_and_revocations_of_echoes(store: Database, ledger: Ledger) -> None:
    echoes = [message(WHO, wamid=f"wamid.{k}", kind="echo.text", text=k) for k in "AB"]
    await say(ledger, *echoes, edit("wamid.A", "mejor", echo=True))
    await say(ledger, revoke("wamid.B", echo=True))
    assert (await shown(store, "wamid.A"))[0] == "mejor"
    assert (await shown(store, "wamid.B"))[0] == DELETED


FACTS = (
    message(WHO, wamid="wamid.M", text="uno"),
    reaction("wamid.M", "👍", seconds=1),
    edit("wamid.M", "dos", seconds=2),
    reaction("wamid.M", seconds=3),
    reaction("wamid.M", "🙏", seconds=4),
    revoke("wamid.M", seconds=5),
)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    "order",
    [(0, 1, 2, 3, 4, 5), (5, 4, 3, 2, 1, 0), (3, 1, 0, 5, 2, 4), (2, 0, 1, 3, 5, 4)],
)
async def test_changes_make_the_same_message_in_any_order_and_once(
    store: Database, ledger: Ledger, order: Sequence[int], *, together: bool
) -> None:
    events = [FACTS[n] for n in order]
    for _ in range(2):
        if together:
            await ledger.write(received(*events))
        else:
            await say(ledger, *events)
    mensaje, metadata = await shown(store, "wamid.M")
    assert mensaje == DELETED
    assert [r["emoji"] for r in metadata["reacciones"]] == ["🙏"]
    assert [old["mensaje"] for old in metadata["ediciones"]] == ["uno", "dos"]


async def test_a_change_and_its_message_at_one_moment_meet(store: Database) -> None:
    ledgers = [Ledger(store, SilentDesk()) for _ in range(2)]
    await say(ledgers[0], message(WHO))
    for n in range(10):
        key = f"wamid.R{n}"
        await asyncio.gather(
            ledgers[0].write(received(message(WHO, wamid=key))),
            ledgers[1].write(received(reaction(key, "👍"))),
        )
        assert (await shown(store, key))[1]["reacciones"][0]["emoji"] == "👍"


@pytest.mark.parametrize("first", ["message", "change"])
async def test_what_we_sent_is_found_by_the_tail_of_its_id(
    store: Database, ledger: Ledger, first: str
) -> None:
    ours, theirs = wamid(), wamid(phone="541123456789")
    assert ours != theirs
    events = [message(WHO, wamid=ours, kind="echo.text"), reaction(theirs, "👍")]
    await say(ledger, *(events if first == "message" else reversed(events)))
    assert (await shown(store, ours))[1]["reacciones"][0]["emoji"] == "👍"


def test_a_tail_is_what_all_spellings_share() -> None:
    ids = [wamid(phone=p) for p in (WHO, "541123456789", "AR.1234567890123456")]
    assert len({tail(i) for i in ids}) == 1
    assert tail(wamid("3EB0C7A1D2E3F4051628")) != tail(ids[0])
    assert [tail(i) for i in (None, "", "wamid.A", "ABGGFlA5Fpa", ids[0] + "A")] == [
        None
    ] * 5


async def test_the_database_cuts_tails_as_we_do(
    store: Database, ledger: Ledger
) -> None:
    odd = ["wamid.====", "wamid.A", "x" * 40, "wamid." + "A" * 24, "wamid." + "é" * 24]
    ids = [wamid(), wamid(phone="5411"), wamid("3A" * 16), *odd]
    await say(ledger, *(message(WHO, wamid=i, kind="echo.text") for i in ids))
    (row,) = await store.fetch(
        "select pg_get_expr(indexprs, indrelid) as cut from pg_index"
        " where indexrelid = 'idx_mensajes_whatsapp_tail'::regclass"
    )
    rows = await store.fetch(
        f"select whatsapp_message_id as id, {row['cut']} as tail from mensajes"  # noqa: S608 -- the index's own
    )
    assert {r["id"]: r["tail"] for r in rows} == {i: tail(i) for i in ids}


def quoting(target: str, key: str = "wamid.Q") -> Event:
    content = Content(text="eso", tipo="text", said="eso", quoted_id=target)
    return message(WHO, wamid=key, content=content)


@pytest.mark.parametrize("together", [True, False])
async def test_a_quoted_message_is_named(
    store: Database, ledger: Ledger, *, together: bool
) -> None:
    events = [
        message(WHO, wamid="wamid.M"),
        quoting("wamid.M"),
        quoting("wamid.X", "wamid.Y"),
    ]
    if together:
        await ledger.write(received(*events))
    else:
        await say(ledger, *events)
    rows = await store.fetch("select * from mensajes")
    by_id = {row["whatsapp_message_id"]: row for row in rows}
    assert by_id["wamid.Q"]["mensaje_citado_id"] == by_id["wamid.M"]["id"]
    assert by_id["wamid.Q"]["whatsapp_context_id"] == "wamid.M"
    assert by_id["wamid.Y"]["mensaje_citado_id"] is None


async def test_a_quote_finds_what_we_sent_by_its_tail(
    store: Database, ledger: Ledger
) -> None:
    await say(ledger, message(WHO, wamid=wamid(), kind="echo.text"))
    await say(ledger, quoting(wamid(phone="AR.12345")))
    rows = await store.fetch("select id, mensaje_citado_id from mensajes order by id")
    assert rows[1]["mensaje_citado_id"] == rows[0]["id"]


async def test_where_a_person_came_from(store: Database, ledger: Ledger) -> None:
    referral = {
        "source_url": "https://fb.me/x?utm_source=ig&utm_campaign=a%20b&other=1",
        "source_id": "7",
        "source_type": "ad",
        "ctwa_clid": "Aff",
    }
    content = Content(text="Hola", tipo="text", said="Hola", referral=referral)
    await say(ledger, message(WHO), message(WHO, content=content))
    (row,) = await store.fetch("select * from conversaciones")
    metadata = json.loads(row["metadata"])
    assert metadata["referral"] == referral
    assert (metadata["utm_source"], metadata["utm_campaign"]) == ("ig", "a b")
    assert row["ventana_72h_fin"] == now() + timedelta(hours=72)
    await say(ledger, message(WHO, content=content, minutes=-60))
    (row,) = await store.fetch("select ventana_72h_fin from conversaciones")
    assert row["ventana_72h_fin"] == now() + timedelta(hours=72)


async def test_utm_of_a_body_opens_no_window(store: Database, ledger: Ledger) -> None:
    body = {"telefono": WHO, "mensaje": "Hola", "utm_source": "web", "linea": "ventas"}
    events = read(json.dumps(body).encode(), Door.SECRET)
    await say(ledger, *events)
    (row,) = await store.fetch("select * from conversaciones")
    assert json.loads(row["metadata"])["utm_source"] == "web"
    assert "referral" not in json.loads(row["metadata"])
    assert (row["ventana_72h_fin"], row["linea_origen"]) == (None, "ventas")


async def test_the_address_of_a_file_is_kept(store: Database, ledger: Ledger) -> None:
    media = Media(type="image", id="M1", mime_type="image/jpeg", url="https://x/i.jpg")
    content = Content(text="[Imagen]", tipo="image", media=media)
    await say(ledger, message(WHO, kind="message.image", content=content))
    (row,) = await store.fetch("select media_url from mensajes")
    assert row["media_url"] == "https://x/i.jpg"


async def test_changes_of_nobody_s_messages_wait_and_hurt_nobody(
    store: Database, ledger: Ledger
) -> None:
    await say(
        ledger, edit("wamid.X" * 900, "a\0"), revoke(""), reaction("\ud800", "\ud800")
    )
    await say(ledger, message(WHO, wamid="wamid.X" * 900))
    mensaje, _ = await shown(store, "wamid.X" * 900)
    assert mensaje == "a\ufffd"


async def test_a_text_is_changed_by_whoever_wrote_it_and_by_nobody_else(
    store: Database, ledger: Ledger
) -> None:
    mine, ours = wamid(), wamid("3EB0AAAAAAAAAAAAAAAA")
    wrote = {"id": mine, "from": WHO, "text": {"body": "mío"}}
    await say(ledger, message(WHO, wamid=mine, text="mío", item=wrote))
    await say(ledger, message(WHO, wamid=ours, text="nuestro", kind="echo.text"))
    stranger = edit(mine, "ajeno")
    stranger.item["from"] = "5491100000099"
    await say(ledger, stranger, edit(ours, "ajeno"), revoke(ours))
    assert (await shown(store, mine))[0] == "mío"
    assert (await shown(store, ours))[0] == "nuestro"
    await say(ledger, edit(mine, "mejor", seconds=5))
    assert (await shown(store, mine))[0] == "mejor"
