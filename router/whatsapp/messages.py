"""Inbound messages, echoes of outgoing ones, and what other apps or the past bring."""

from router.model import Event, Person
from router.whatsapp import kinds
from router.whatsapp.content import content_of
from router.whatsapp.keys import digest_of
from router.whatsapp.members import Object, first_text, object_of, text_of
from router.whatsapp.people import ADDRESSEE, SENDER, person_of
from router.whatsapp.place import Place


def message(place: Place, item: Object) -> Event:
    """Read one of `value.messages` of field `messages`."""
    return place.event(
        f"message.{kinds.message_kind(item)}",
        item,
        key=text_of(item.get("id")) or digest_of(item),
        group_id=text_of(item.get("group_id")),
        person=sender_of(item, place),
        content=content_of(item),
    )


def echo(place: Place, item: Object) -> Event:
    """Read what the business sent by another app: the person is whom it went to."""
    group = text_of(item.get("group_id"))
    if item.get("recipient_type") == "group":
        group = group or text_of(item.get("to"))
    return place.event(
        f"echo.{kinds.plain_kind(item)}",
        item,
        key=text_of(item.get("id")) or digest_of(item),
        group_id=group,
        person=person_of(item, ADDRESSEE, place),
        content=content_of(item),
    )


def sender_of(item: Object, place: Place) -> Person:
    """Return the person that a message is from, by the names they had when they sent it."""
    if item.get("type") == "system":
        item = _before(item)
    return person_of(item, SENDER, place)


def _before(item: Object) -> Object:
    # Of a system message `from` is the old number, `from_user_id` may be the old id or the
    # new one, and only previous_* is reliable (Meta, 11 Aug 2026). `customer` is older.
    system = object_of(item.get("system"))
    return {
        "from": text_of(item.get("from")) or system.get("customer"),
        "from_user_id": first_text(system, ("previous_user_id",))
        or item.get("from_user_id"),
        "from_parent_user_id": first_text(system, ("previous_parent_user_id",))
        or item.get("from_parent_user_id"),
    }


def old_message(place: Place, item: Object) -> Event:
    """Read a message of field `history`: months old, and no news to anybody."""
    return place.notice(f"history.message.{kinds.history_kind(item)}", item)


def old_echo(place: Place, item: Object) -> Event:
    """Read an outgoing message of field `history`."""
    return place.notice(f"history.echo.{kinds.history_kind(item)}", item)


def chunk(place: Place, item: Object) -> Event:
    """Read one of `value.history`: threads of old messages, or that there will be none."""
    declined = bool(item.get("errors")) and not item.get("threads")
    return place.notice(f"history.{'declined' if declined else 'chunk'}", item)


def standby_message(place: Place, item: Object) -> Event:
    """Read a message that another app answers."""
    return place.notice(
        f"standby.message.{kinds.plain_kind(item)}", item, sender_of(item, place)
    )


def standby_echo(place: Place, item: Object) -> Event:
    """Read what another app answered."""
    return place.notice("standby.echo", item)
