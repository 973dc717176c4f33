"""Who owns a conversation: whoever owns it answers."""

import enum
import functools
from dataclasses import replace

from router.conversation.guard import digest_of
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


def is_attended(conversation: Conversation, now_s: float, hold_s: float) -> bool:
    """Return whether an agent wrote in the last *hold_s*: the answers are for the agent."""
    return abs(now_s - conversation.memory.agent_at) < hold_s


def attended(conversation: Conversation, text: str, at_s: float) -> Conversation:
    """Return *conversation* after *text* was said in it by other means than the bot.

    The bot's own last words, which came back, are no agent's.
    """
    memory = conversation.memory
    if memory.agent_at >= at_s or memory.last == digest_of(text):
        return conversation
    return replace(conversation, memory=replace(memory, agent_at=at_s))


def _said(value: str | None) -> bool:
    return bool(value and value.strip())
