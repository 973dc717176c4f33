"""How far a message got: the arithmetic of states that arrive in any order."""

from collections.abc import Iterable

from router.model import Status

# Never backwards; `failed` is the last word. WhatsApp's `played` is a voice message's read.
RANKS = {"sent": 1, "delivered": 2, "read": 3, "played": 3, "failed": 9}
STATES = {"played": "read"}  # as mensajes.estado_envio names it

Furthest = tuple[str, str, int, str | None]  # wamid, estado_envio, rank, error


def furthest(statuses: Iterable[Status]) -> list[Furthest]:
    """Return the furthest state of each message, sorted by its id.

    A payment's status says nothing of its message, nor does a word we do not know.
    """
    best: dict[str, Furthest] = {}
    for status in statuses:
        rank = RANKS.get(status.status or "", 0)
        wamid = status.message_id
        if not (rank and wamid) or status.type != "message":
            continue
        if wamid not in best or best[wamid][2] < rank:
            word = status.status or ""
            best[wamid] = (wamid, STATES.get(word, word), rank, status.error)
    return [best[wamid] for wamid in sorted(best)]
