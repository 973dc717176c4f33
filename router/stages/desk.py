"""What a message means to this school: whose line it came in by, what the bot says, who hears."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from router import telemetry
from router.config import Bot, Destination, Line, Settings
from router.conversation import check
from router.conversation.decide import Decision, Policy, decide
from router.conversation.menu import Menu, MenuError, packaged
from router.conversation.owner import Owner, owner_of
from router.conversation.priority import priority_of
from router.conversation.state import Conversation as State
from router.destinations import payloads
from router.destinations.media_file import MediaFile
from router.model import Door, Event
from router.store.aliases import PARKING, is_phone, short
from router.store.batch import Said, Written
from router.store.keys import digest
from router.store.people import BEGINNING
from router.store.rows import REPLY_KEY, OutboxRow
from router.whatsapp import outgoing

# The areas by which the N8N_WEBHOOK_* settings are named.
NAMES = {
    "Administración": "administracion",
    "Alumnos": "alumnos",
    "Comunidad": "comunidad",
    "Ventas": "ventas_1",
}
WHATSAPP = "whatsapp"  # the destination of replies
BULK = "whatsapp_bulk"  # of templates, which no reply shall wait behind
MEDIA = "media"  # the destination of files that are to be fetched
MOST_WARNINGS = 100  # numbers to warn of, each once


@dataclass(slots=True)
class Lines:
    """Our numbers by their WhatsApp id."""

    lines: Sequence[Line]
    _of_any: Line | None = field(init=False)  # what no other line names comes in by it
    _warned: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Find the line without a number."""
        numberless = (line for line in self.lines if line.phone_number_id is None)
        self._of_any = next(numberless, None)

    def find(self, phone_number_id: str | None) -> Line | None:
        """Return the line of a number; of a message that names none, the first."""
        if phone_number_id is None:
            return self.lines[0]
        named = (line for line in self.lines if line.phone_number_id == phone_number_id)
        return next(named, None) or self._of_any

    def name_of(self, phone_number_id: str | None) -> str:
        """Return the line's name; of a number that none names, the number itself."""
        line = self.find(phone_number_id)
        return line.name if line else short(phone_number_id or "")

    def notice_unknown(self, phone_number_id: str | None) -> None:
        """Count a message to a number that no line names; warn once of each number."""
        if phone_number_id is None or self.find(phone_number_id):
            return
        telemetry.UNKNOWN_LINES.inc()
        if phone_number_id not in self._warned and len(self._warned) < MOST_WARNINGS:
            self._warned.add(phone_number_id)
            telemetry.unknown_line(phone_number_id)


class Told:
    """Which destinations hear of what, and the bytes they get."""

    def __init__(self, destinations: Sequence[Destination], lines: Lines) -> None:
        """Tell of what *destinations* ask for."""
        self._lines = lines
        self._by_name = {d.name: d for d in destinations}
        self._of = {
            name: [d for d in destinations if name in d.events]
            for name in ("message.received", "message.status", "conversation.derived")
        }

    def of_message(self, new: Written) -> Iterable[OutboxRow]:
        """Yield what an inbound message owes to whom."""
        if new.decision is None or not self._by_name:
            return
        conversation = str(new.conversation.id)
        event, content, area = new.event, new.content, new.before.area
        name, phone = NAMES.get(area, "wsp4"), _phone_of(new)
        if entrance := self._first(f"ingesta_{name}", "ingesta_wsp4"):
            body = payloads.ingesta(conversation, phone, content)
            yield _row(entrance, event, conversation, body)
        line = self._lines.find(event.phone_number_id)
        held = owner_of(new.before, line.area if line else None) is Owner.HUMAN
        if held and not event.group_id and (owner := self._owner(area)):
            body = payloads.proxied(conversation, area, phone, event, content, new.at)
            yield _row(owner, event, conversation, body)
        for destination in self._of["message.received"]:
            name = self._lines.name_of(event.phone_number_id)
            body = payloads.received(conversation, name, event, content, new.at)
            yield _row(destination, event, conversation, body)
        if new.ticket:
            yield from self._of_derivation(new, conversation, new.ticket)

    def _of_derivation(
        self, new: Written, conversation: str, ticket: str
    ) -> Iterable[OutboxRow]:
        derivation = new.decision.derivation if new.decision else None
        if derivation is None:
            return
        area, subarea, event = derivation.area, derivation.subetiqueta, new.event
        if owner := self._owner(area):
            body = payloads.envio(conversation, area, subarea, _phone_of(new), ticket)
            yield _row(owner, event, conversation, body, "derivation")
        for destination in self._of["conversation.derived"]:
            at = new.delivery.received_at
            body = payloads.derived(conversation, area, subarea, event, ticket, at)
            yield _row(destination, event, conversation, body, "derivation")

    def of_status(self, event: Event) -> Iterable[OutboxRow]:
        """Yield what a status owes to whom."""
        for destination in self._of["message.status"]:
            name = event.status.message_id if event.status else None
            at = event.timestamp or datetime.now(UTC)
            lane = digest(name or event.key).hex()
            yield _row(destination, event, lane, payloads.status(event, at))

    def inbox_of(self, area: str) -> str | None:
        """Return the name of the destination that hears of an area's derivations."""
        owner = self._owner(area)
        return owner.name if owner else None

    def _owner(self, area: str) -> Destination | None:
        return self._first(f"envios_{NAMES.get(area, 'crm')}", "envios_crm")

    def _first(self, *names: str) -> Destination | None:
        return next((self._by_name[n] for n in names if n in self._by_name), None)


def _phone_of(new: Written) -> str:
    """Return the digits of a person's phone, or the BSUID of one without a phone."""
    person = new.event.person
    if person.wa_id:
        return person.wa_id
    # WhatsApp leaves the number out once somebody has a username; we may know it.
    telefono = new.conversation.telefono.removeprefix("+")
    known = new.conversation.contacto_id and is_phone(telefono)
    return telefono if known and telefono != PARKING else person.bsuid or ""


def _row(
    destination: Destination, event: Event, lane: str, body: bytes, about: str = ""
) -> OutboxRow:
    name = f"{destination.name}|{about or event.kind}|{event.key}"
    return OutboxRow(destination.name, f"psi_{digest(name).hex()}", lane, body)


def _to_fetch(new: Written) -> Iterable[OutboxRow]:
    # What n8n and the CRM have an address of, they have put there themselves.
    media = new.content.media
    elsewhere = new.delivery.door is not Door.META and media and media.url
    if not elsewhere and (file := MediaFile.of(new.event, new.wamid, new.at)):
        name = f"{MEDIA}|{new.event.kind}|{new.event.key}"
        key = f"psi_{digest(name).hex()}"
        # A lane of its own: no file waits for another one of the same person.
        yield OutboxRow(MEDIA, key, key, file.to_bytes())


class Desk:
    """The bot at its lines, and who is told of what."""

    def __init__(self, settings: Settings) -> None:
        """Load each line's menu; raise MenuError for one that nobody should use."""
        self.lines = Lines(settings.lines)
        self._told = Told(settings.destinations, self.lines)
        self._can_send = settings.graph_token is not None
        self._fetches = self._can_send and settings.storage is not None
        self._stale_s = settings.stale_s
        self._menus = {line.name: _menu(line) for line in settings.lines}
        self._policies = {
            line.name: _policy(line, settings.bot, settings.stale_s)
            for line in settings.lines
        }

    def line_of(self, phone_number_id: str | None) -> str:
        """Return the name of the line that a message came in by."""
        return self.lines.name_of(phone_number_id)

    def beginning(self, event: Event) -> State:
        """Return the state in which a conversation begins: its line's area owns it."""
        line = self.lines.find(event.phone_number_id)
        if line is None or line.area is None:
            return BEGINNING
        return replace(BEGINNING, area=line.area)

    def decide(self, event: Event, before: State, now: datetime) -> Decision:
        """Return what follows from an inbound message in a conversation."""
        line = self.lines.find(event.phone_number_id)
        if line is None:
            return Decision(conversation=before, silence="no_line")
        menu, policy = self._menus[line.name], self._policies[line.name]
        return decide(before, event, menu, now, policy)

    def tell(self, new: Written) -> Iterable[OutboxRow]:
        """Return what a new message owes to whom, and the order to fetch its file."""
        told = self._told.of_message(new)
        if new.content.media is None or not self._fetches:
            return told
        return (*told, *_to_fetch(new))

    def tell_status(self, event: Event) -> Iterable[OutboxRow]:
        """Return what a status owes to whom."""
        return self._told.of_status(event)

    def inbox_of(self, area: str) -> str | None:
        """Return the name of the destination that hears of an area's derivations."""
        return self._told.inbox_of(area)

    def priority_of(self, event: Event, texts: Iterable[str]) -> str:
        """Return how urgent a ticket is by what the person wrote, labels left out."""
        line = self.lines.find(event.phone_number_id)
        return priority_of(texts, self._menus[line.name] if line else None)

    def send(self, said: Said) -> OutboxRow | None:
        """Return the row by which a reply goes out by the line that it answers.

        Its key names its row of mensajes. None without a token, a number or an address.
        """
        event = said.new.event
        line = self.lines.find(event.phone_number_id)
        number = event.phone_number_id or (line.phone_number_id if line else None)
        to = event.person.wa_id or event.person.bsuid
        if not (self._can_send and line and number and to):
            return None
        key = f"{REPLY_KEY}{said.id.hex}"
        try:
            body = outgoing.of_reply(
                said.reply, to=to, as_list=line.as_list, callback=key
            )
        except ValueError:
            return None  # WhatsApp would refuse it
        until = self._until(said).timestamp()
        sent = outgoing.Outgoing(phone_number_id=number, body=body, until=until)
        lane = str(said.new.conversation.id)
        return OutboxRow(WHATSAPP, key, lane, sent.to_bytes())

    def _until(self, said: Said) -> datetime:
        # A menu that comes hours late is a riddle; a ticket's number is owed.
        heard = said.new.at
        if said.new.ticket:
            return heard + timedelta(seconds=outgoing.WINDOW_S)
        return said.at + timedelta(seconds=self._stale_s)


def _menu(line: Line) -> Menu | None:
    if line.menu is None:
        return None
    if line.menu == Line.PACKAGED:
        return packaged()
    try:
        return check.checked(line.menu)
    except MenuError as exc:
        raise MenuError(f"line {line.name}: {p}" for p in exc.problems) from exc


def _policy(line: Line, bot: Bot, stale_s: float) -> Policy:
    return Policy(
        stale_s=stale_s,
        menu_when_derived=bot.menu_when_derived,
        replies_a_minute=bot.replies_a_minute,
        same_reply_s=bot.same_reply_s,
        same_reply_in_a_row=bot.same_reply_in_a_row,
        agent_hold_s=bot.agent_hold_s,
        line_area=line.area,
    )
