"""Synthetic WhatsApp traffic: webhook bodies as Meta shapes them, of invented people.

Pure: the same seed and start give the same bodies in the same order. Phones follow the
pattern 54911000xxxxx, which nobody has.
"""

import base64
import json
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from router.cli.fake_files import KINDS, file_of, media_id

WABA_ID = "200000000000001"
PHONE_NUMBER_ID = "100000000000001"
OUR_NUMBER = "5491100000000"
ID_TEXT = "{id}"  # in a fixed text: the message's own id

REMEMBERED = 1000  # bodies of which one may be posted again
SENT_REMEMBERED = 1000  # of our messages that statuses are about
ALBUM = (2, 10)  # images
HIDDEN = 0.1  # share of people whose phone WhatsApp does not tell
SHARES = {  # of the types of messages, roughly as in a real inbox
    "text": 70,
    "image": 8,
    "audio": 10,
    "interactive": 4,
    "document": 3,
    "sticker": 2,
    "video": 2,
    "location": 1,
}
STATUSES = ("sent", "delivered", "read")
NAMES = (
    "Ana",
    "Bruno",
    "Carla",
    "Diego",
    "Elena",
    "Fabián",
    "Gisela",
    "Héctor",
    "Inés",
)
SURNAMES = ("Acosta", "Benítez", "Castro", "Domínguez", "Farías", "Núñez", "Ortiz")
PHRASES = (
    "Hola",
    "Buenas tardes, quería hacer una consulta",
    "¿Cuándo empiezan las clases?",
    "¿Me pasás el precio del curso?",
    "Gracias 🙂",
    "2",
    "No puedo entrar al campus virtual, me pide la contraseña otra vez",
    "Te mando el comprobante de pago",
)

Json = dict[str, Any]
StatusKey = tuple[str, str, int]  # wamid, status, seconds


@dataclass(frozen=True, slots=True)
class Body:
    """One webhook body and what it reports. `again`: it was given before."""

    data: bytes
    messages: tuple[str, ...]  # ids
    statuses: tuple[StatusKey, ...]
    again: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """An invented person; without a phone WhatsApp tells only the BSUID."""

    bsuid: str
    phone: str | None
    name: str

    def contact(self) -> Json:
        """Return the member of `contacts`."""
        contact: Json = {"profile": {"name": self.name}, "user_id": self.bsuid}
        return contact if self.phone is None else {**contact, "wa_id": self.phone}

    def sender(self) -> Json:
        """Return how a message names who sent it."""
        sender: Json = {"from_user_id": self.bsuid}
        return sender if self.phone is None else {"from": self.phone, **sender}

    def recipient(self) -> Json:
        """Return how a status names who got the message."""
        recipient: Json = {"recipient_user_id": self.bsuid}
        return (
            recipient
            if self.phone is None
            else {"recipient_id": self.phone, **recipient}
        )


@dataclass(slots=True, kw_only=True)
class Traffic:
    """Bodies without end.

    `batch` updates make a body; `statuses` is the share of them that are statuses (0.75: three
    for each message), `albums` the share of messages that begin an album, several images of one
    person in one second, and `duplicates` the share of bodies that come again some time later,
    on top. With `text` every message is that text, and `{id}` in it the message's id.
    """

    seed: int
    start: int  # seconds, of the first update; about ten a second follow
    contacts: int = 100
    batch: int = 1
    statuses: float = 0.0
    albums: float = 0.0
    duplicates: float = 0.0
    text: str | None = None

    def bodies(self, updates: int | None = None) -> Iterator[Body]:
        """Yield bodies of so many updates in all, re-posts not counted; None: no end."""
        source = _Source(self)
        given: deque[Body] = deque(maxlen=REMEMBERED)
        left = updates
        while left is None or left > 0:
            size = self.batch if left is None else min(self.batch, left)
            body = source.body(size)
            given.append(body)
            yield body
            if source.chance(self.duplicates):
                old = source.choice(given)
                yield Body(old.data, old.messages, old.statuses, again=True)
            left = None if left is None else left - size


class _Source:
    """Makes one body after the other out of a seeded stream of chances."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._random = random.Random(traffic.seed)  # noqa: S311 -- a test's dice
        self._people = [self._person(number) for number in range(traffic.contacts)]
        self._sent: deque[tuple[str, Profile]] = deque(maxlen=SENT_REMEMBERED)
        self._count = 0
        self._album: list[Profile] = []  # whose image comes next, once for each
        self.choice: Callable[[Any], Any] = self._random.choice

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def body(self, size: int) -> Body:
        people: dict[str, Profile] = {}
        messages: list[Json] = []
        statuses: list[Json] = []
        for _ in range(size):
            if self.chance(self._traffic.statuses):
                statuses.append(self._status())
            else:
                person, message = self._said()
                people[person.bsuid] = person
                messages.append(message)
        contacts = [person.contact() for person in people.values()]
        changes = []
        if messages:
            changes.append(_change(contacts=contacts, messages=messages))
        if statuses:
            changes.append(_change(statuses=statuses))
        return Body(
            _envelope(changes),
            tuple(message["id"] for message in messages),
            tuple((s["id"], s["status"], int(s["timestamp"])) for s in statuses),
        )

    def _person(self, number: int) -> Profile:
        phone = None if self.chance(HIDDEN) else f"54911000{number:05d}"
        name = f"{self._random.choice(NAMES)} {self._random.choice(SURNAMES)}"
        return Profile(f"AR.{7_000_000_000_000_000 + number}", phone, name)

    def _wamid(self, person: Profile) -> str:
        # What Meta's ids look like inside: the phone (or a stand-in) and 20 hex digits.
        who = (person.phone or person.bsuid[-13:]).encode()
        unique = f"{self._random.getrandbits(80):020X}".encode()
        inside = b"\x1c\x18" + bytes([len(who)]) + who + b"\x15\x02\x00\x12\x18\x14"
        return "wamid." + base64.b64encode(inside + unique + b"\x00").decode()

    def _seconds(self) -> int:
        self._count += 1
        return self._traffic.start + self._count // 10

    def _said(self) -> tuple[Profile, Json]:
        if self._album:
            person = self._album.pop()
            self._count -= 1  # in the same second as the image before
            return person, self._message(person, "image")
        person = self.choice(self._people)
        if self._traffic.text is not None:
            return person, self._message(person, "text")
        if self._traffic.albums and self.chance(self._traffic.albums):
            self._album = [person] * (self._random.randint(*ALBUM) - 1)
            return person, self._message(person, "image")
        return person, self._message(person, self._kind())

    def _message(self, person: Profile, kind: str) -> Json:
        wamid = self._wamid(person)
        message: Json = {
            **person.sender(),
            "id": wamid,
            "timestamp": str(self._seconds()),
            "type": kind,
            kind: self._content(kind, wamid),
        }
        if self.chance(0.1) and self._sent:
            message["context"] = {"from": OUR_NUMBER, "id": self._sent[-1][0]}
        return message

    def _kind(self) -> str:
        (kind,) = self._random.choices(list(SHARES), list(SHARES.values()))
        return kind

    def _content(self, kind: str, wamid: str) -> Json:
        match kind:
            case "text":
                text = self._traffic.text
                words = self._random.choice(PHRASES) if text is None else text
                return {"body": words.replace(ID_TEXT, wamid)}
            case "interactive":
                choice = {
                    "id": self._random.choice("12345"),
                    "title": "Cursos",
                    "description": "",
                }
                return {"type": "list_reply", "list_reply": choice}
            case "location":
                return {"latitude": -34.6, "longitude": -58.4, "name": "Plaza"}
            case _:
                return self._file(kind)

    def _file(self, kind: str) -> Json:
        number = media_id(kind, self._random.randrange(10**14, 10**15))
        there = file_of(number)
        file: Json = {
            "mime_type": KINDS[kind],
            "sha256": there.sha256_base64 if there else "",
            "id": number,
            "url": "https://lookaside.example/whatsapp_business/attachments/?mid="
            + number,
        }
        if kind == "audio":
            file["voice"] = True
        if kind == "document":
            file["filename"] = "comprobante.pdf"
        if kind in {"image", "video", "document"} and self.chance(0.5):
            file["caption"] = self._random.choice(PHRASES)
        return file

    def _status(self) -> Json:
        if not self._sent or self.chance(0.4):
            person = self._random.choice(self._people)
            self._sent.append((self._wamid(person), person))
        wamid, person = self.choice(self._sent)
        return {
            "id": wamid,
            "status": self._random.choice(STATUSES),
            "timestamp": str(self._seconds()),
            **person.recipient(),
            "conversation": {"id": wamid[-32:], "origin": {"type": "service"}},
            "pricing": {
                "billable": False,
                "pricing_model": "PMP",
                "category": "service",
            },
        }


def _change(**members: Any) -> Json:
    value = {
        "messaging_product": "whatsapp",
        "metadata": {
            "display_phone_number": OUR_NUMBER,
            "phone_number_id": PHONE_NUMBER_ID,
        },
        **members,
    }
    return {"value": value, "field": "messages"}


def _envelope(changes: list[Json]) -> bytes:
    entry = {"id": WABA_ID, "changes": changes}
    body = {"object": "whatsapp_business_account", "entry": [entry]}
    return json.dumps(body, separators=(",", ":")).encode()
