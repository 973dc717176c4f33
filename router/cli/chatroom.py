"""The page /chat of `psi-router dev`: a phone, and beside it what its words become.

Nothing takes a short cut. What a person says is signed and posted to the real webhook over
HTTP; what the phone shows is what the stand-in for the Graph API was sent; the rows are read
from the database, and the notifications are those that the stand-in for the CRM took.

    GET  /chat                   the page
    GET  /chat/people            [{phone, name}], the latest first
    POST /chat/people            invents a person; with {phone}, who has that number
    POST /chat/say               {phone, text | choice, kind, wait_s}: see `ChatRoom.say`
    GET  /chat/events?phone=…    server-sent events: `line` of the talk, `rows` of the tables
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib import resources
from itertools import takewhile
from typing import Any

import aiohttp
from aiohttp import web
from yarl import URL

from router.cli import demo
from router.cli.demo import Json, Persona, World
from router.cli.fake_rules import Message
from router.errors import Refused, Transient
from router.health import Health
from router.ops.answers import problem
from router.store.conversations import by_alias
from router.store.database import Database
from router.whatsapp.signature import sign

TICK_S = 0.5  # a status comes in by the webhook: no bell rings
PAUSE_S = 0.05  # between two looks at the tables
POST_S = 15.0  # the router answers after 8 s at the latest
LONGEST_WAIT_S = 60.0
MOST_PEOPLE = 200
LONGEST = 4096  # characters of a WhatsApp text
DIGITS = range(8, 16)  # of a phone number
SHOWN = 30  # notifications
FILES = {
    "": ("chat.html", "text/html"),
    "/chat.css": ("chat.css", "text/css"),
    "/chat.js": ("chat.js", "text/javascript"),
}
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; connect-src 'self'; img-src data:; "
    "script-src 'self'; style-src 'self'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
}
STREAM = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
}

FOLLOWED = """
select
  (select jsonb_agg(to_jsonb(t) order by t.ts_abierto desc)
   from tickets t where t.conversacion_id = $1) as tickets,
  (select jsonb_agg(to_jsonb(d) order by d.ts_derivacion desc)
   from derivaciones d where d.conversacion_id = $1) as derivations,
  (select jsonb_agg(to_jsonb(a) order by a.created_at desc)
   from audit_log a where a.conversacion_id = $1) as audit"""
OWED = """
select r.id
from mensajes m
join mensajes r on r.conversacion_id = m.conversacion_id and r.direccion = 'saliente'
where m.whatsapp_message_id = $1 and r.metadata ->> 'answers' = $1
order by r.timestamp"""


@dataclass(slots=True)
class Talk:
    """One person and what was said, in the order in which the phone shows it."""

    persona: Persona
    lines: deque[Json] = field(default_factory=lambda: deque(maxlen=demo.KEPT))
    count: int = 0  # of all lines there were: names each one in the stream

    def add(self, line: Json) -> None:
        """Put a line at the end."""
        self.count += 1
        self.lines.append({"number": self.count, **line})

    def since(self, number: int) -> Iterator[Json]:
        """Yield the lines after *number*."""
        return (line for line in list(self.lines) if line["number"] > number)


class ChatRoom:
    """Everybody who talks to the menu of one router, and what can be seen of it."""

    def __init__(
        self, world: World, webhook: URL, database: Database, health: Health
    ) -> None:
        """Post to *webhook*, and read rows from *database*."""
        self._graph, self._crm, self._bell = world.graph, world.crm, world.bell
        self._webhook, self._secret = webhook, world.graph.app_secret.encode()
        self._database, self._health = database, health
        self._talks: dict[str, Talk] = {}
        self._last_taken = ""

    async def watch(self) -> None:
        """Move what the Graph API took into the talks, until cancelled."""
        while True:
            messages = self._graph.messages
            try:
                async with asyncio.timeout(TICK_S):
                    await self._graph.taken(len(messages) + 1)
            except TimeoutError:
                pass  # a full deque grows no longer: look all the same
            self._hear(self._new(messages))

    def _new(self, messages: deque[Message]) -> list[Message]:
        unheard = takewhile(lambda m: m.wamid != self._last_taken, reversed(messages))
        return list(unheard)[::-1]

    def _hear(self, messages: list[Message]) -> None:
        for message in messages:
            if talk := self._talks.get(message.recipient):
                talk.add(demo.line_of(message))
        if messages:
            self._last_taken = messages[-1].wamid
            self._bell.ring()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request for /chat and what is below it."""
        rest = request.match_info["rest"]
        if request.method == "GET" and rest in FILES:
            return _file(*FILES[rest])
        answer = {
            ("GET", "/people"): self._list_people,
            ("POST", "/people"): self._invite_person,
            ("POST", "/say"): self._say,
            ("GET", "/events"): self._events,
        }.get((request.method, rest))
        if answer is None:
            raise web.HTTPNotFound
        try:
            return await answer(request)
        except Refused as exc:
            return problem(exc.status, "refused", str(exc))
        except Transient:
            return problem(503, "unavailable", "the database is away")

    async def _list_people(self, _: web.Request) -> web.Response:
        people = [talk.persona for talk in reversed(self._talks.values())]
        return web.json_response([{"phone": p.phone, "name": p.name} for p in people])

    async def _invite_person(self, request: web.Request) -> web.Response:
        phone = (await _json(request)).get("phone")
        talk = self._by_phone(str(phone)) if phone else await self._newcomer()
        persona = talk.persona
        return web.json_response({"phone": persona.phone, "name": persona.name})

    async def _newcomer(self) -> Talk:
        persona = demo.somebody()
        while persona.phone in self._talks or await self._rows(persona.phone):
            persona = demo.somebody()
        return self._talk_of(persona)

    async def _say(self, request: web.Request) -> web.Response:
        said = await _json(request)
        talk = self._by_phone(str(said.get("phone", "")))
        text, content = _content(said)
        wait_s = said.get("wait_s", 0)
        if not isinstance(wait_s, int | float) or not 0 <= wait_s <= LONGEST_WAIT_S:
            raise Refused("wait_s is no time in seconds", status=422)
        return await self.say(talk, text, content, float(wait_s))

    async def say(
        self, talk: Talk, text: str, content: Json, wait_s: float
    ) -> web.Response:
        """Post *content* as the person's, and answer with its id and the webhook's answer.

        With *wait_s* also with `replies`, the lines by which it was answered, and how many
        are `missing` because they were not sent in that time.
        """
        wamid = demo.new_wamid()
        talk.add({"id": wamid, "from": "person", "at": demo.now(), "text": text})
        self._bell.ring()
        status, answer = await self._post(talk.persona.hook(wamid, content))
        if status != HTTPStatus.OK:
            return problem(502, "not_taken", f"the webhook answered {status}: {answer}")
        self._bell.ring()
        owed = await self._owed(wamid) if wait_s else set()
        replies = await self._replies(talk, owed, wait_s)
        return web.json_response(
            {
                "id": wamid,
                "answer": json.loads(answer),
                "replies": replies,
                "missing": len(owed) - len(replies),
            }
        )

    async def _post(self, body: bytes) -> tuple[int, str]:
        headers = {
            "Content-Type": "application/json",
            "X-Hub-Signature-256": sign(body, self._secret),
        }
        timeout = aiohttp.ClientTimeout(total=POST_S)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(self._webhook, data=body, headers=headers) as response,
            ):
                return response.status, await response.text()
        except (aiohttp.ClientError, TimeoutError) as exc:
            return 0, type(exc).__name__

    async def _owed(self, wamid: str) -> set[str]:
        rows = await self._database.fetch(OWED, wamid)
        return {f"psi_{row['id'].hex}" for row in rows}

    async def _replies(self, talk: Talk, owed: set[str], wait_s: float) -> list[Json]:
        until = time.monotonic() + wait_s
        while True:
            found = [line for line in talk.lines if line.get("row") in owed]
            if len(found) == len(owed) or time.monotonic() >= until:
                return found
            await self._bell.wait(until - time.monotonic())

    async def _events(self, request: web.Request) -> web.StreamResponse:
        talk = self._by_phone(request.query.get("phone", ""))
        number = request.headers.get("Last-Event-ID", "0")
        heard = int(number) if number.isdecimal() else 0
        if heard > talk.count:
            heard = 0  # of the room before this one
        response = web.StreamResponse(headers=STREAM)
        await response.prepare(request)
        seen = ""
        while request.transport and not self._health.stopping:
            for line in talk.since(heard):
                heard = line["number"]
                await response.write(_event("line", json.dumps(line), heard))
            rows = await self._rows_if_any(talk.persona.phone) or seen
            if rows != seen:
                await response.write(_event("rows", rows))
                seen = rows
            await self._bell.wait(TICK_S)
            await asyncio.sleep(PAUSE_S)
        return response

    async def _rows_if_any(self, phone: str) -> str:
        try:
            return json.dumps(await self._rows(phone))
        except Transient:
            return ""  # the page keeps what it shows

    async def _rows(self, phone: str) -> Json:
        """Return what the tables and the CRM know of *phone*; {} while nothing is known."""
        found = await by_alias(self._database, phone)
        if found is None:
            return {}
        conversation = found["conversacion"] or {}
        followed = await self._followed(conversation.get("id"))
        told = [n.to_json() for n in self._crm.told if n.phone == phone]
        return {
            "contact": found["contacto"],
            "conversation": conversation,
            "messages": found["mensajes"],
            **followed,
            "notifications": told[: -SHOWN - 1 : -1],
        }

    async def _followed(self, conversation: str | None) -> Json:
        if conversation is None:
            return {}
        (row,) = await self._database.fetch(FOLLOWED, conversation)
        return {name: json.loads(row[name] or "[]") for name in row.keys()}  # noqa: SIM118 -- a Row

    def _by_phone(self, phone: str) -> Talk:
        if talk := self._talks.get(phone):
            return talk
        if not (phone.isascii() and phone.isdigit() and len(phone) in DIGITS):
            raise Refused("phone is no phone number: 8 to 15 digits", status=422)
        return self._talk_of(Persona(phone, demo.somebody().name))

    def _talk_of(self, persona: Persona) -> Talk:
        while len(self._talks) >= MOST_PEOPLE:
            self._talks.pop(next(iter(self._talks)))
        talk = self._talks[persona.phone] = Talk(persona)
        return talk


def _content(said: Mapping[str, Any]) -> tuple[str, Json]:
    choice, kind = said.get("choice"), said.get("kind")
    if choice is None:
        text = said.get("text")
        if not isinstance(text, str) or not text.strip() or len(text) > LONGEST:
            raise Refused("text is empty or too long", status=422)
        return text, demo.typed(text)
    if kind not in {"list_reply", "button_reply"} or not isinstance(choice, dict):
        raise Refused("kind is neither list_reply nor button_reply", status=422)
    if not all(isinstance(choice.get(name), str) for name in ("id", "title")):
        raise Refused("choice has no id or no title", status=422)
    return choice["title"], demo.tapped(kind, choice)


async def _json(request: web.Request) -> Json:
    # Of this type only: another page of the same browser may not send it.
    if request.content_type != "application/json":
        raise Refused("expected application/json", status=415)
    try:
        said = json.loads(await request.read())
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Refused("expected a JSON object", status=422)
    return said


def _file(name: str, kind: str) -> web.Response:
    text = (resources.files("router.cli") / "static" / name).read_text("utf-8")
    return web.Response(text=text, content_type=kind, headers=HEADERS)


def _event(name: str, data: str, number: int | None = None) -> bytes:
    known = "" if number is None else f"id: {number}\n"
    return f"event: {name}\n{known}data: {data}\n\n".encode()
