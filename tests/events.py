"""Events and bodies of invented people, for tests that need some."""

import itertools
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from router.conversation.decide import Decision
from router.conversation.state import Conversation as State
from router.model import Content, Delivery, Door, Event, Person, Received, Status
from router.store.batch import Said, Written
from router.store.keys import digest
from router.store.people import BEGINNING
from router.store.rows import OutboxRow

_numbers = itertools.count(1)


class _Test:
    began_at = datetime.now(UTC).replace(microsecond=0)


def begin() -> None:
    """Set `now` to the clock's time: a test begins, maybe long after its collection."""
    _Test.began_at = datetime.now(UTC).replace(microsecond=0)


def now() -> datetime:
    """Return the second in which the running test began: what it sends is not stale."""
    return _Test.began_at


def message(  # noqa: PLR0913 -- each with a default
    who: str = "5491100000001",
    *,
    wamid: str | None = None,
    text: str = "Hola",
    name: str | None = "Ana",
    bsuid: str | None = None,
    minutes: float = 0,
    **more: Any,
) -> Event:
    wamid = wamid if wamid is not None else f"wamid.T{next(_numbers)}"
    fields: dict[str, Any] = {
        "kind": "message.text",
        "key": wamid,
        "id": wamid,
        "item": {"id": wamid, "text": {"body": text}},
        "sender": who,
        "timestamp": now() + timedelta(minutes=minutes),
        "scope": "200000000000001",
        "phone_number_id": "100000000000001",
        "person": Person(wa_id=who or None, bsuid=bsuid, name=name),
        "content": Content(text=text, tipo="text", said=text),
    }
    return Event(**{**fields, **more})


def status(wamid: str, word: str, *, participant: str | None = None) -> Event:
    return Event(
        kind=f"status.{word}",
        key=f"{wamid}|{word}|{participant}",
        id=wamid,
        item={"id": wamid, "status": word},
        timestamp=now(),
        phone_number_id="100000000000001",
        status=Status(
            message_id=wamid, type="message", status=word, participant=participant
        ),
    )


def received(*events: Event | None, body: bytes = b"{}") -> list[Received]:
    delivery = Delivery(body=body, door=Door.META, received_at=now())
    return [Received(event, delivery) for event in events]


def body(
    *messages: dict[str, Any], statuses: list[dict[str, Any]] | None = None
) -> bytes:
    value: dict[str, Any] = {
        "messaging_product": "whatsapp",
        "metadata": {
            "display_phone_number": "5491100000000",
            "phone_number_id": "100000000000001",
        },
        "messages": list(messages),
    }
    if statuses:
        value["statuses"] = statuses
    change = {"field": "messages", "value": value}
    entry = {"id": "200000000000001", "changes": [change]}
    return json.dumps(
        {"object": "whatsapp_business_account", "entry": [entry]}
    ).encode()


def text_message(who: str, wamid: str, text: str = "Hola") -> dict[str, Any]:
    return {
        "from": who,
        "id": wamid,
        "timestamp": str(int(now().timestamp())),
        "type": "text",
        "text": {"body": text},
    }


class SilentDesk:
    """A desk whose bot says nothing, and where *told* hears of each message."""

    def __init__(self, *told: str, status: str | None = None) -> None:
        self._told, self._status = told, status

    def line_of(self, phone_number_id: str | None) -> str:
        return "wsp4"

    def beginning(self, event: Event) -> State:
        return BEGINNING

    def decide(self, event: Event, before: State, now: datetime) -> Decision:
        return Decision(conversation=before)

    def tell(self, new: Written) -> list[OutboxRow]:
        key, lane = digest(new.event.key).hex(), str(new.conversation.id)
        return [OutboxRow(name, key, lane, b"{}") for name in self._told]

    def tell_status(self, event: Event) -> list[OutboxRow]:
        return [OutboxRow(self._status, event.key, "", b"{}")] if self._status else []

    def send(self, said: Said) -> OutboxRow | None:
        return None

    def inbox_of(self, area: str) -> str | None:
        return None

    def priority_of(self, event: Event, texts: Iterable[str]) -> str:
        return "normal"
