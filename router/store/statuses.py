"""How far a message got: the arithmetic of states that arrive in any order."""

from collections.abc import Container, Iterable

from router.model import Status
from router.whatsapp.storable import text

# Never backwards; `failed` is the last word. WhatsApp's `played` is a voice message's read.
RANKS = {"sent": 1, "delivered": 2, "read": 3, "played": 3, "failed": 9}
States = dict[str, tuple[str, str | None]]  # estado_envio and error, by message id
STATES = {"played": "read"}  # as mensajes.estado_envio names it


def progress(status: Status) -> tuple[str | None, int]:
    """Return the estado_envio that *status* means for its message, and its rank.

    A payment's status says nothing of its message, nor does a word we do not know: rank 0.
    """
    word = status.status or ""
    if status.type != "message" or word not in RANKS:
        return None, 0
    return STATES.get(word, word), RANKS[word]


def with_reports(
    states: States, reports: Iterable[Status], wamids: Container[str]
) -> States:
    """Return *states* moved on by those *reports* that are of the messages *wamids*."""
    moved = dict(states)
    for status in reports:
        word, rank = progress(status)
        wamid = text(status.message_id or "")
        before, error = moved.get(wamid, (None, None))
        if word and wamid in wamids and rank > RANKS.get(before or "", 0):
            moved[wamid] = word, text(status.error) if status.error else error
    return moved
