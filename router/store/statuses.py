"""How far a message got: the arithmetic of states that arrive in any order."""

from router.model import Status

# Never backwards; `failed` is the last word. WhatsApp's `played` is a voice message's read.
RANKS = {"sent": 1, "delivered": 2, "read": 3, "played": 3, "failed": 9}
STATES = {"played": "read"}  # as mensajes.estado_envio names it


def progress(status: Status) -> tuple[str | None, int]:
    """Return the estado_envio that *status* means for its message, and its rank.

    A payment's status says nothing of its message, nor does a word we do not know: rank 0.
    """
    word = status.status or ""
    if status.type != "message" or word not in RANKS:
        return None, 0
    return STATES.get(word, word), RANKS[word]
