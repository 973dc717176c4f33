"""`POST /api/messages/send`: the CRM's way to WhatsApp, by the bearer or by the shared secret.

The rows of a message are committed before the answer: it leaves by the outbox `whatsapp`, and
its row of `mensajes` says what became of it. Members of a body have the spellings that the
predecessor and its CRM used.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from aiohttp import web

from router.config import Settings
from router.errors import Malformed, Poison, Refused, Transient
from router.ops.answers import problem
from router.ops.doors import refused
from router.stages.desk import BULK, WHATSAPP
from router.store import dialect
from router.store.database import Database
from router.store.keys import digest, row_id
from router.store.replies import KEY
from router.store.rows import OutboxRow
from router.store.sends import Address, Key, NotSent, Outbound, Sends
from router.whatsapp import outgoing
from router.whatsapp.members import Object, first_text, list_of, object_of
from router.whatsapp.placeholders import PLACEHOLDERS
from router.whatsapp.reading import read_json

IDEMPOTENCY_KEY = "Idempotency-Key"
LONGEST_KEY = 255
BODY_S = 10.0  # for the whole body
PENDING = "pendiente"

PHONES = ("telefono", "phone", "to")
TEXTS = ("mensaje", "message", "text", "contenido")
CONVERSATIONS = ("conversacion_id", "conversationId", "conversation_id")
AGENTS = ("agente_nombre", "agente", "agent")
QUOTES = ("reply_to", "whatsapp_context_id", "context_id")
CAPTIONS = ("caption", *TEXTS)


class Template(NamedTuple):
    """An approved template, by its name."""

    name: str
    language: str
    components: Sequence[Mapping[str, Any]]


class File(NamedTuple):
    """A file that WhatsApp fetches."""

    kind: str  # image, audio, video, document, sticker
    url: str
    filename: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody wants sent: a text, a file with `text` as its caption, or a template."""

    conversation: UUID | None
    alias: str  # of a person, where no conversation is named
    text: str
    file: File | None
    template: Template | None
    reply_to: str | None
    agent: str | None

    @classmethod
    def of(cls, value: Any) -> "Asked":
        """Read a body; NotSent `bad_request` for what says not what to send, or to whom."""
        body = object_of(value)
        alias = first_text(body, PHONES) or ""
        conversation = _conversation(body)
        if conversation is None and not alias.strip():
            raise NotSent("bad_request", "neither a phone nor a conversation is named")
        file = _file(body)
        return cls(
            conversation=conversation,
            alias=alias,
            text=first_text(body, CAPTIONS if file else TEXTS) or "",
            file=file,
            template=_template(body),
            reply_to=first_text(body, QUOTES),
            agent=first_text(body, AGENTS),
        )

    @property
    def shown(self) -> str:
        """What people read of it in the conversation."""
        if self.template:
            return f"[Plantilla: {self.template.name}]"
        if self.file and not self.text:
            named = {"document": {"filename": self.file.filename}}
            return PLACEHOLDERS[self.file.kind](named)
        return self.text

    def body(self, to: str, callback: str) -> outgoing.Body:
        """Return the body for the Graph API; ValueError for what it would refuse."""
        if template := self.template:
            return outgoing.template(to, *template, callback=callback)
        if file := self.file:
            return outgoing.media(
                to,
                *file[:2],
                caption=self.text,
                filename=file.filename,
                reply_to=self.reply_to,
                callback=callback,
            )
        return outgoing.text(to, self.text, reply_to=self.reply_to, callback=callback)


class Sender:
    """Takes what is to be sent, once for each Idempotency-Key."""

    def __init__(
        self, settings: Settings, database: Database, wake: Callable[[], None]
    ) -> None:
        """Write to *database*, and *wake* who sends after each commit."""
        self._settings, self._wake = settings, wake
        self._sends = Sends(database, dialect.load(settings.dialect))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer 202 with the row of `mensajes`, or why not."""
        if (answer := refused(request, self._settings)) is not None:
            return answer
        try:
            message = await self._taken(request)
        except NotSent as exc:
            return problem(exc.status, exc.code, str(exc))
        except Poison:
            return problem(422, "bad_request", "this cannot be stored")
        except Refused as exc:
            return problem(exc.status, "bad_request", str(exc))
        except Transient:
            return problem(503, "unavailable", "the database is away")
        return web.json_response({"id": str(message), "state": PENDING}, status=202)

    async def _taken(self, request: web.Request) -> UUID:
        value = await _json(request)
        key = _key(request.headers.getall(IDEMPOTENCY_KEY, ()), value)
        if key and (known := await self._sends.known(key)):
            return known
        return await self.send(Asked.of(value), key)

    async def send(self, asked: Asked, key: Key | None = None) -> UUID:
        """Commit *asked*, and return its row of `mensajes`; raise NotSent with the reason."""
        if self._settings.graph_token is None:
            raise NotSent("no_token", "without CLOUD_API_TOKEN nothing can be sent")
        address = await self._sends.address(asked.conversation, asked.alias)
        if address is None or not address.to:
            raise NotSent("unknown_recipient", "nobody to write to by that name")
        said = _row(asked, address)
        leaves = await self._leaves(asked, address, said.id)
        message = await self._sends.write(said, leaves, key)
        self._wake()
        return message

    async def _leaves(self, asked: Asked, address: Address, message: UUID) -> OutboxRow:
        until = None if asked.template else _open_until(address)
        key = f"{KEY}{message.hex}"
        bulk = asked.template is not None  # a campaign is made of them
        sent = outgoing.Outgoing(
            body=_body(asked, address.to, key),
            phone_number_id=await self._number(address),
            until=until,
            bulk=bulk,
        )
        lane = str(address.conversation)
        return OutboxRow(BULK if bulk else WHATSAPP, key, lane, sent.to_bytes())

    async def _number(self, address: Address) -> str:
        lines = self._settings.lines
        named = [line for line in lines if line.name == address.line]
        for line in named or lines[:1]:
            if line.phone_number_id:
                return line.phone_number_id
        # A line for any number: the one that they write to.
        if number := await self._sends.number_of(address.conversation):
            return number
        if lines[0].phone_number_id:
            return lines[0].phone_number_id
        raise NotSent("no_number", "the conversation's line has no phone number id")


async def _json(request: web.Request) -> Any:
    if "Content-Encoding" in request.headers:
        raise Refused("bodies are taken as they are, not encoded", status=415)
    try:
        async with asyncio.timeout(BODY_S):
            return read_json(await request.read())
    except TimeoutError:
        raise Refused("the body took too long", status=408) from None
    except Malformed:
        raise NotSent("bad_request", "the body is no JSON") from None


def _key(given: Sequence[str], value: Any) -> Key | None:
    if not given:
        return None
    name = given[0].strip()
    if len(given) > 1 or not (name.isascii() and 0 < len(name) <= LONGEST_KEY):
        raise NotSent("bad_request", f"{IDEMPOTENCY_KEY} is 1 to 255 ASCII characters")
    return Key(name, digest(json.dumps(value, sort_keys=True)))


def _conversation(body: Object) -> UUID | None:
    named = first_text(body, CONVERSATIONS)
    try:
        return UUID(named) if named else None
    except ValueError:
        raise NotSent("bad_request", "the conversation's id is no UUID") from None


def _file(body: Object) -> File | None:
    media = object_of(body.get("media"))
    url = first_text(media, ("url", "link")) or first_text(body, ("media_url",))
    if url is None:
        if media:
            raise NotSent("bad_request", "media has no link")
        return None
    kind = first_text(media, ("type",)) or first_text(body, ("media_type",)) or ""
    kind = kind.partition("/")[0].lower()  # image/jpeg
    kind = "document" if kind in {"application", "text"} else kind
    if kind not in outgoing.MEDIA:
        raise NotSent("bad_request", "no kind of media")
    filename = first_text(media, ("filename",)) or first_text(body, ("media_filename",))
    return File(kind, url, filename or "" if kind == "document" else "")


def _template(body: Object) -> Template | None:
    if "template" not in body:
        return None
    told = object_of(body["template"])
    language = told.get("language")
    code = first_text(object_of(language), ("code",)) or first_text(told, ("language",))
    components = list_of(told.get("components"))
    return Template(first_text(told, ("name",)) or "", code or "", components)


def _row(asked: Asked, address: Address) -> Outbound:
    file = asked.file if asked.template is None else None
    return Outbound(
        id=row_id(),
        conversation=address.conversation,
        text=asked.shown,
        tipo=file.kind if file else "text",
        agent=asked.agent,
        quoted_id=None if asked.template else asked.reply_to,
        media_url=file.url if file else None,
        filename=(file.filename or None) if file else None,
        by_hand=asked.template is None,
    )


def _open_until(address: Address) -> float:
    until = address.until
    if until is None or until <= datetime.now(UTC):
        raise NotSent("window_closed", "outside the window only a template may go")
    return until.timestamp()


def _body(asked: Asked, to: str, callback: str) -> outgoing.Body:
    longest = outgoing.CAPTION if asked.file else outgoing.TEXT
    if not asked.template and outgoing.size(asked.text) > longest:
        raise NotSent("text_too_long", f"allowed are {longest} characters")
    try:
        return asked.body(to, callback)
    except ValueError as exc:
        raise NotSent("bad_request", str(exc)) from None
