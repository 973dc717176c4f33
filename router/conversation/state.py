"""What the bot knows of a conversation: columns of `conversaciones`, in the plan's words."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

MAIN_AREA = "PSI Principal"
DERIVED = "derivada"
OPEN = "activa"

MOST_SENT = 100  # times that are kept
MOST_PATH = 10  # codes that are kept
MOST_SAME = 20  # times that are kept
_LONGEST = 32  # characters of a code or of a digest

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What the bot remembers of itself: `conversaciones.metadata->'bot'`.

    Times are seconds since 1970: `sent` of the automatic replies of the last minute,
    `last_at` of the last one, `heard_at` of the message that it answered, by Meta's clock,
    `agent_at` of an agent's last message. `path` holds the codes chosen since the main menu;
    `same` when the last reply was said, and nothing else in between; `asked` the code of the
    option that it asked about.
    """

    sent: tuple[float, ...] = ()
    last: str = ""  # digest of the last reply
    last_at: float = 0.0
    heard_at: float = 0.0
    path: tuple[str, ...] = ()
    agent_at: float = 0.0
    same: tuple[float, ...] = ()
    asked: str = ""

    @classmethod
    def from_json(cls, value: Any) -> Self:
        """Read what was kept; whatever is no memory is forgotten, and nothing raises."""
        kept = value if isinstance(value, dict) else {}
        return cls(
            sent=_all(kept.get("sent"), _time, MOST_SENT),
            last=_word(kept.get("last")) or "",
            last_at=_time(kept.get("last_at")) or 0.0,
            heard_at=_time(kept.get("heard_at")) or 0.0,
            path=_all(kept.get("path"), _word, MOST_PATH),
            agent_at=_time(kept.get("agent_at")) or 0.0,
            same=_all(kept.get("same"), _time, MOST_SAME),
            asked=_word(kept.get("asked")) or "",
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "sent": list(self.sent),
            "last": self.last,
            "last_at": self.last_at,
            "heard_at": self.heard_at,
            "path": list(self.path),
            **({"agent_at": self.agent_at} if self.agent_at else {}),
            "same": list(self.same),
            "asked": self.asked,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What `decide` knows. `first`: it is new, and nothing was ever said in it."""

    router_estado: str = "principal"
    submenu_actual: str | None = None
    subetiqueta: str | None = None
    area: str = MAIN_AREA
    estado: str = "nueva"
    ultima_derivacion: str | None = None
    asignado_a: str | None = None
    inbox_fijo: str | None = None
    desconectado: bool = False
    first: bool = False
    memory: Memory = field(default_factory=Memory)


def _all(value: Any, read: Callable[[Any], T | None], most: int) -> tuple[T, ...]:
    members = value[-most:] if isinstance(value, list) else ()
    return tuple(found for member in members if (found := read(member)) is not None)


def _time(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        seconds = float(value)
    except OverflowError:
        return None
    return seconds if math.isfinite(seconds) else None


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST else None
