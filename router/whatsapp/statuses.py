"""What became of outgoing messages, payments and calls."""

import json
from datetime import datetime
from typing import Any

import orjson

from router.model import Event, Person, Status
from router.whatsapp import kinds
from router.whatsapp.keys import digest_of
from router.whatsapp.members import (
    Object,
    first_text,
    objects_of,
    text_of,
    time_of,
    word_of,
)
from router.whatsapp.people import (
    ADDRESSEE,
    PARTICIPANT,
    RECIPIENT,
    SENDER,
    person_of,
)
from router.whatsapp.place import Place

_PARTICIPANT = PARTICIPANT.address + PARTICIPANT.user_id


def status(place: Place, item: Object) -> Event:
    """Read one of `value.statuses` of field `messages`."""
    at = time_of(item.get("timestamp"))
    told = Status(
        message_id=text_of(item.get("id")),
        type=text_of(item.get("type")) or "message",
        status=text_of(item.get("status")),
        participant=first_text(item, _PARTICIPANT),
        error=_error(item),
    )
    group = item.get("recipient_type") == "group" or told.participant is not None
    return place.event(
        f"status.{kinds.status_kind(item)}",
        item,
        key=_key(place.phone_number_id, told, at, item),
        at=at,
        group_id=text_of(item.get("recipient_id")) if group else None,
        person=person_of(item, PARTICIPANT if group else RECIPIENT, place),
        status=told,
    )


def standby_status(place: Place, item: Object) -> Event:
    """Read a status of a message that another app sent."""
    return place.notice(f"standby.status.{kinds.status_kind(item)}", item)


def call(place: Place, item: Object) -> Event:
    """Read one of `value.calls`: the person is the caller, or whom the business called."""
    outgoing = item.get("direction") == "BUSINESS_INITIATED"
    person = person_of(item, ADDRESSEE if outgoing else SENDER, place)
    return _of_call("call", item.get("event"), place, item, person)


def call_status(place: Place, item: Object) -> Event:
    """Read one of `value.statuses` of field `calls`."""
    person = person_of(item, RECIPIENT, place)
    return _of_call("call.status", item.get("status"), place, item, person)


def _of_call(
    prefix: str, word: Any, place: Place, item: Object, person: Person
) -> Event:
    kind = kinds.suffixed(prefix, word_of(word) or kinds.UNKNOWN)
    at = time_of(item.get("timestamp"))
    identity = [kind, text_of(item.get("id")), _seconds(at)]
    key = None if None in identity else _encoded(identity)
    return place.event(kind, item, key=key, at=at, person=person)


def _key(number: str | None, told: Status, at: datetime | None, item: Object) -> str:
    # One row for each of these six. Without an id only the same item is a repetition.
    wamid, seconds = told.message_id, _seconds(at)
    key = [number, wamid, told.type, told.status, told.participant, seconds]
    return _encoded(key if wamid else [*key, digest_of(item)])


def _seconds(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _encoded(identity: list[Any]) -> str:
    try:
        return orjson.dumps(identity).decode()
    except TypeError:  # a lone surrogate, which orjson never writes: no two meet
        return json.dumps(identity)


def _error(item: Object) -> str | None:
    for error in objects_of(item.get("errors")):
        return first_text(error, ("title", "message", "details", "code"))
    return None
