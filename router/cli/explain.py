"""`psi-router explain WAMID`: the whole life of one message, for who looks into a complaint."""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from typing import Any

from router.cli.dead_letters import opened
from router.cli.environment import environment, settings_here
from router.errors import Poison, Transient, Unavailable
from router.store.database import Database
from router.store.explain import explained, ids_in

PREVIEW = 40  # characters of a message's text
DOORS = {"meta": "from Meta, its signature right", "secret": "by the shared secret"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "wamid", nargs="?", metavar="WAMID", help="a message's WhatsApp id"
    )
    what.add_argument(
        "--delivery",
        type=int,
        metavar="ID",
        help="all that a body brought, by a log line",
    )


def run(args: argparse.Namespace) -> int:
    """Print what is known; 1 where nothing is."""
    try:
        return asyncio.run(_explain(args))
    except Transient as exc:
        raise Unavailable(f"the database is away: {exc}") from exc


async def _explain(args: argparse.Namespace) -> int:
    async with opened(environment(settings_here()).get("DATABASE_URL")) as database:
        wamids = [args.wamid]
        if args.delivery is not None:
            found = await ids_in(database, args.delivery)
            if found is None:
                return _nothing(f"delivery {args.delivery} is not archived")
            wamids = found
        # What brought each of many again would be a walk through the archive each.
        search = args.delivery is None
        known = [await _show(database, wamid, search=search) for wamid in wamids]
    return 0 if all(known) else 1


async def _show(database: Database, wamid: str, *, search: bool) -> bool:
    try:
        found = await explained(database, wamid, search=search)
    except (Poison, UnicodeEncodeError):
        found = None
    if found is None:
        _nothing(f"no message is known by {_plain(wamid)}")
        return False
    sys.stdout.writelines(f"{line}\n" for line in lines(found))
    return True


def _nothing(why: str) -> int:
    sys.stderr.write(f"psi-router: {why}\n")
    return 1


def lines(found: dict[str, Any]) -> Iterator[str]:
    """Yield what `router.store.explain.explained` says, for a terminal."""
    yield _plain(found["wamid"])
    if message := found["message"]:
        if found["received"]:
            yield from _received(message, found["received"])
            if found["dedupe"]:
                yield _dedupe(found["dedupe"])
            yield _stages(found["stages"])
        else:
            yield f"  timestamp  {message['timestamp']}, stored {message['created_at']}"
        yield _message(message)
        yield from _decided(found["decision"])
        yield from _conversation(found["conversation"])
    for reply in found["replies"]:
        yield from _said(reply)
    for derivation in found["derivations"]:
        yield f"  derived    to {_plain(derivation['area'])}, ticket {derivation['ticket_id']}"
    for row in found["outbox"]:
        yield from _told(row)
    for status in found["statuses"]:
        yield f"  status     {_status(status)}"
    for notice in found["notices"]:
        yield f"  notice     {_plain(notice['kind'])}, received {notice['received_at']}"
    for letter in found["dead_letters"]:
        yield f"  buried     letter {letter['id']} by {letter['stage']}: {_plain(letter['reason'])}"


def _received(message: dict[str, Any], received: dict[str, Any]) -> Iterator[str]:
    yield f"  received   {received['received_at']} in delivery {_body(received)}"
    yield f"  timestamp  {message['timestamp']}, {received['lag_s']} s before"


def _body(body: dict[str, Any]) -> str:
    return f"{body['delivery']}, {DOORS.get(body['door'], body['door'])}"


def _dedupe(found: dict[str, Any]) -> str:
    if found["looked_to"] is None:
        return "  dedupe     new; there is nothing in it by which others could be found"
    far = "" if found["looked_to"] >= found["last"] else f" up to {found['looked_to']}"
    if not found["again"]:
        return f"  dedupe     new; no other body{far} brought it"
    again = "; ".join(
        f"{each['times']} x in {_body(each)}, {each['received_at']}"
        for each in found["again"]
    )
    return f"  dedupe     new, stored once; also{far}: {again}"


def _stages(found: dict[str, float | None]) -> str:
    after = ", ".join(
        f"{name} {'unknown' if ms is None else f'+{ms} ms'}"
        for name, ms in found.items()
    )
    return f"  stages     {after}"


def _message(message: dict[str, Any]) -> str:
    state = f", {message['estado_envio']}" if message["estado_envio"] else ""
    who = f"{message['direccion']} / {message['remitente_tipo']}{state}"
    return f"  message    {message['id']}, {who}, {message['tipo']}: {_cut(message['mensaje'])}"


def _decided(why: dict[str, Any] | None) -> Iterator[str]:
    if why is None:
        return
    silent = f"says nothing: {why['silence']}" if why["silence"] else ""
    if "heard" not in why:
        yield f"  decided    the bot {silent}"
        return
    what = ", ".join(filter(None, [f"heard as {_plain(why['heard'])}", silent]))
    yield f"  decided    {what}; {_state(why['before'])} -> {_state(why['after'])}"


def _state(row: dict[str, Any]) -> str:
    at = f" in {row['submenu_actual']}" if row["submenu_actual"] else ""
    return _plain(f"{row['area']} / {row['estado']} / {row['router_estado']}{at}")


def _conversation(row: dict[str, Any]) -> Iterator[str]:
    who = ", with somebody of the area" if row["asignado_a"] else ""
    yield f"  now        conversation {row['id']}: {_state(row)}{who}"


def _said(reply: dict[str, Any]) -> Iterator[str]:
    why = f" ({_plain(reply['error_mensaje'])})" if reply["error_mensaje"] else ""
    yield f"  reply      {reply['estado_envio']}{why}: {_cut(reply['mensaje'])}"
    for status in reply["statuses"]:
        yield f"    status   {_status(status)}"


def _told(row: dict[str, Any]) -> Iterator[str]:
    state = f"{row['state']} after {row['attempts']} counted attempts"
    yield f"  to         {row['destination']}: {state}, {row['webhook_id']}"
    for each in row["tries"]:
        came = each["status"] or _plain(each["error"] or "no answer")
        yield f"    attempt  {each['at']}: {came}, {each['latency_ms']} ms"
    for letter in row["dead_letters"]:
        yield f"    buried   letter {letter['id']}: {_plain(letter['reason'])}"


def _status(status: dict[str, Any]) -> str:
    return f"{_plain(status['status'])} at {status['ts']}"


def _cut(text: str) -> str:
    return _plain(text if len(text) <= PREVIEW else f"{text[:PREVIEW]}…")


def _plain(text: Any) -> str:
    # One line, whatever it holds: no text of a message moves the cursor.
    said = "".join(c if c.isprintable() else " " for c in str(text))
    encoding = sys.stdout.encoding or "ascii"
    return said.encode(encoding, "backslashreplace").decode(encoding)
