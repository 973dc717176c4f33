"""Who owns a conversation: whoever owns it answers."""

import enum
import functools

from router.conversation.state import Conversation


class Owner(enum.Enum):
    """The bot, or the people of an area."""

    BOT = enum.auto()
    HUMAN = enum.auto()


def owner_of(conversation: Conversation, line_area: str | None) -> Owner:
    """Return who answers; *line_area* is the area whose own line the message came in by."""
    human = is_derived(conversation) or is_held(conversation, line_area)
    return Owner.HUMAN if human or is_assigned(conversation) else Owner.BOT


def is_derived(conversation: Conversation) -> bool:
    """Return whether it was handed over, in this router's words or an older one's."""
    return _says_derived(conversation.router_estado) or _says_derived(
        conversation.estado
    )


@functools.lru_cache(maxsize=256)
def _says_derived(word: str | None) -> bool:
    return (word or "").strip().lower().startswith(("derivada", "derivado"))


def is_held(conversation: Conversation, line_area: str | None) -> bool:
    """Return whether it bypasses the menu for good: by the CRM's word, or by its line."""
    return (
        conversation.desconectado or _said(conversation.inbox_fijo) or _said(line_area)
    )


def is_assigned(conversation: Conversation) -> bool:
    """Return whether it has an agent."""
    return _said(conversation.asignado_a)


def _said(value: str | None) -> bool:
    return bool(value and value.strip())
