"""What an item is called: the names of the contract, from a type and its members.

Words are looked up, never resolved: a type named `__class__` is an unknown one, and a type
that is a list is none.
"""

from collections.abc import Callable

from router.whatsapp.members import Object, object_of, text_of, word_of
from router.whatsapp.storable import text

UNKNOWN = "unrecognised"

_TYPES = """
text image video audio voice document sticker location contacts interactive button order
reaction system unsupported unknown request_welcome edit revoke
"""
# In the history of a number that was used before: Meta lists these beside the usual ones.
_OLD_TYPES = """
media_placeholder errors gif hsm keep_in_chat link_preview list pin poll_creation
poll_update product group_invite
"""
MESSAGE_TYPES = frozenset(_TYPES.split())
HISTORY_TYPES = MESSAGE_TYPES | frozenset(_OLD_TYPES.split())
STATUSES = frozenset({"sent", "delivered", "read", "played", "failed", "deleted"})
# Never answered, and no row of a conversation: what they change is another message.
CHANGES = frozenset({"reaction", "edit", "revoke"})

_INTERACTIVE = {
    "button_reply": "button_reply",
    "list_reply": "list_reply",
    "call_permission_reply": "call_permission",
    "product": "product",
}
_FLOWS = {None: "flow_reply", "flow": "flow_reply", "address_message": "address_reply"}
_SYSTEM = {
    "user_changed_number": "number_changed",
    "customer_changed_number": "number_changed",
    "user_changed_user_id": "user_id_changed",
    "customer_identity_changed": "identity_changed",
    "user_identity_changed": "identity_changed",
}


def type_of(message: Object) -> str:
    """Return a message's type as sent; '' when it is no text."""
    kind = message.get("type")
    return kind if isinstance(kind, str) else ""


def message_kind(message: Object) -> str:
    """Return `<type>` or `<type>.<subtype>` of an inbound message."""
    kind = type_of(message)
    if kind not in MESSAGE_TYPES:
        return UNKNOWN
    finer = _FINER.get(kind)
    return kind if finer is None else finer(message)


def plain_kind(message: Object) -> str:
    """Return `<type>` of an echo or of a message that another app answers."""
    kind = type_of(message)
    return kind if kind in MESSAGE_TYPES else UNKNOWN


def history_kind(message: Object) -> str:
    """Return `<type>` of an old message."""
    kind = type_of(message)
    return kind if kind in HISTORY_TYPES else UNKNOWN


def status_kind(status: Object) -> str:
    """Return `<status>`, `payment.<status>` or `unrecognised`."""
    word = status.get("status")
    if not isinstance(word, str) or not word:
        return UNKNOWN
    if status.get("type") == "payment":
        return f"payment.{text(word.lower())}"
    return word if word in STATUSES else UNKNOWN


def suffixed(name: str, word: object) -> str:
    """Return ``name.word`` in lower case; *name* alone where *word* is no text."""
    suffix = word_of(word)
    return f"{name}.{text(suffix)}" if suffix else name


def _audio(message: Object) -> str:
    return "voice" if object_of(message.get("audio")).get("voice") is True else "audio"


def _interactive(message: Object) -> str:
    reply = object_of(message.get("interactive"))
    kind = text_of(reply.get("type")) or next(
        (name for name in (*_INTERACTIVE, "nfm_reply") if name in reply), ""
    )
    if kind == "nfm_reply":
        name = text_of(object_of(reply.get("nfm_reply")).get("name"))
        return f"interactive.{_FLOWS.get(name, 'other')}"
    return f"interactive.{_INTERACTIVE.get(kind, 'other')}"


def _reaction(message: Object) -> str:
    # Meta's page leaves the emoji out of a removal; an empty one is seen as well.
    emoji = text_of(object_of(message.get("reaction")).get("emoji"))
    return "reaction" if emoji else "reaction_removed"


def _system(message: Object) -> str:
    change = object_of(message.get("system"))
    kind = text_of(change.get("type")) or ""
    if not kind and change.get("new_wa_id"):
        return "system.number_changed"
    return f"system.{_SYSTEM.get(kind, 'other')}"


_FINER: dict[str, Callable[[Object], str]] = {
    "audio": _audio,
    "interactive": _interactive,
    "reaction": _reaction,
    "system": _system,
}
