"""What flows through the router. Data only: no I/O, no clock, no logging.

Nothing here is changed once it is made, but two facts of a delivery that come later. What is
made for every message is not frozen all the same: `frozen` makes the making three times as
dear, 5 us a message.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple


class Door(enum.StrEnum):
    """Who may post: Meta by its signature, n8n and the CRM by the shared secret."""

    META = "meta"
    SECRET = "secret"  # noqa: S105 -- the name of a door, not what opens it


@dataclass(slots=True, kw_only=True, eq=False)
class Delivery:
    """One webhook body, authenticated and exactly as it arrived.

    `id` is the row of `router.deliveries`. The first batch that commits something
    of this body archives it and writes the number here, for the later ones.
    `normalized_at` is written by who reads it.
    """

    body: bytes
    door: Door
    received_at: datetime
    since: float | None = None  # the same moment, monotonic, where a request waits
    normalized_at: datetime | None = None  # when it was read, for `explain`
    id: int | None = None


@dataclass(slots=True, kw_only=True)
class Person:
    """Whoever wrote, by the names WhatsApp gave; each of them may be missing."""

    wa_id: str | None = None
    bsuid: str | None = None
    parent_bsuid: str | None = None
    username: str | None = None  # without the leading @, lower case
    name: str | None = None  # profile name


@dataclass(slots=True, kw_only=True)
class Media:
    """A file that stays at WhatsApp: the id is good for 7 days, the URL for 5 minutes."""

    type: str  # image, audio, video, document, sticker
    id: str | None = None
    mime_type: str | None = None
    filename: str | None = None
    url: str | None = None


@dataclass(slots=True, kw_only=True)
class Content:
    """What a person reads of a message.

    `text` is never empty: where WhatsApp sends none it is a placeholder such as
    ``[Audio]``. `said` is what the person wrote (text or caption), else empty.
    `choice` is the id of the button or list row that was tapped.
    """

    text: str
    tipo: str  # one of the values that mensajes.tipo allows
    said: str = ""
    media: Media | None = None
    quoted_id: str | None = None
    choice: str | None = None
    referral: Mapping[str, Any] | None = None


@dataclass(slots=True, kw_only=True)
class Status:
    """What became of a message that went out."""

    message_id: str | None
    type: str  # message, payment
    status: str | None  # as Meta sent it
    participant: str | None = None  # of a group
    error: str | None = None  # the first error's title


@dataclass(slots=True, kw_only=True)
class Event:
    """One thing that a body reports.

    `kind` is a name of contract 6. `key` is what duplicates share: WhatsApp's id
    where there is one, else a digest of the item; any length. `scope` is the business
    account that the person's aliases belong to. `item` is the JSON as received, parsed.
    """

    kind: str
    key: str
    item: Any
    id: str | None = None
    sender: str | None = None  # `from` as received
    timestamp: datetime | None = None  # Meta's, UTC
    scope: str = ""
    phone_number_id: str | None = None
    group_id: str | None = None
    person: Person = field(default_factory=Person)
    content: Content | None = None
    status: Status | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Something to tap: a row of a list, or a button."""

    id: str  # what comes back
    title: str
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Something the router says to a person.

    `text` is the whole of it in words: what is stored, and what is sent where there are no
    choices. With choices it goes out as a list that `button` opens, under `body`.
    """

    text: str
    body: str = ""
    button: str = ""
    choices: tuple[Choice, ...] = ()


class Received(NamedTuple):
    """An event and the delivery that brought it: the item of the events queue.

    A body that reports nothing still is archived: then there is no event.
    """

    event: Event | None
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Notification:
    """One outbox row on loan: these bytes, to this destination."""

    id: int
    destination: str
    key: str  # the webhook-id, the same on every attempt
    lane: str
    payload: bytes
    attempts: int  # made before this one


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What one try to tell a destination came to."""

    status: int | None = None  # HTTP status; None without an answer
    latency_ms: int = 0
    answer: str | None = None  # its start
    error: str | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending(Attempt):
    """An attempt to send a WhatsApp message: what a taken one is called, why one was not."""

    wamid: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetching(Attempt):
    """An attempt to fetch a message's file: what its row says from now on, if it worked.

    `away`: what failed would have failed for any other file too.
    """

    wamid: str = ""
    url: str = ""
    mime_type: str = ""
    filename: str = ""
    away: bool = False
