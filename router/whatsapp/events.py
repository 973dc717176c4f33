"""From the bytes of a body to what it reports. Never raises: what cannot be read is kept.

body -> entries -> changes -> items of the lists that the change's field has; at the door of
the secret a body may have any of the shapes of `shapes`, and several of them in it.
"""

from router.errors import Malformed
from router.model import Door, Event
from router.whatsapp.envelope import read_envelope
from router.whatsapp.keys import sha256
from router.whatsapp.reading import read_json
from router.whatsapp.shapes import read_shapes

MALFORMED = "rejected.malformed"


def read(body: bytes, door: Door) -> tuple[Event, ...]:
    """Return every event of *body*, in its order; `rejected.malformed` if it is no JSON."""
    try:
        value = read_json(body)
    except Malformed:
        return (Event(kind=MALFORMED, key=sha256(body), item=None),)
    events: list[Event] = []
    if door is Door.SECRET:
        read_shapes(value, events)
    else:
        read_envelope(value, events)
    return tuple(events)
