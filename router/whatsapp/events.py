"""From the bytes of a body to what it reports. Never raises: what cannot be read is kept.

body -> envelopes -> entries -> changes -> items of the lists that the change's field has
"""

from router.errors import Malformed
from router.model import Door, Event
from router.whatsapp.envelope import envelopes_of, read_envelope
from router.whatsapp.keys import sha256
from router.whatsapp.reading import read_json

MALFORMED = "rejected.malformed"


def read(body: bytes, door: Door) -> tuple[Event, ...]:
    """Return every event of *body*, in its order; `rejected.malformed` if it is no JSON."""
    try:
        value = read_json(body)
    except Malformed:
        return (Event(kind=MALFORMED, key=sha256(body), item=None),)
    events: list[Event] = []
    for envelope in envelopes_of(value, door):
        read_envelope(envelope, events)
    return tuple(events)
