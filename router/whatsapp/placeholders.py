"""The readable line for a message that is no text: in Spanish, and never empty."""

from collections.abc import Callable
from typing import Any

from router.whatsapp.members import (
    Object,
    first_text,
    list_of,
    object_of,
    objects_of,
    text_of,
)


def unavailable(message: Object) -> str:
    """Return why a message cannot be shown, or the text that an unknown type has beside."""
    for error in objects_of(message.get("errors")):
        if words := first_text(error, ("title", "message", "details")):
            return f"[Mensaje no disponible: {words}]"
    beside = _shown(object_of(message.get("text")), "body")
    return beside or "[Mensaje no disponible]"


def _shown(item: Object, *names: str) -> str | None:
    # A title that is blank is none: the line must say something.
    for name in names:
        if (found := text_of(item.get(name))) and not found.isspace():
            return found
    return None


def _fixed(words: str) -> Callable[[Object], str]:
    def say(_message: Object) -> str:
        return words

    return say


def _document(message: Object) -> str:
    name = _shown(object_of(message.get("document")), "filename")
    return f"[Documento: {name}]" if name else "[Documento]"


def _location(message: Object) -> str:
    body = object_of(message.get("location"))
    named = ", ".join(filter(None, (_shown(body, "name"), _shown(body, "address"))))
    latitude, longitude = (
        _degrees(body.get("latitude")),
        _degrees(body.get("longitude")),
    )
    # 0 is a place in the Gulf of Guinea, not a missing one.
    spot = f"{latitude}, {longitude}" if latitude and longitude else ""
    words = " · ".join(filter(None, (named, spot)))
    return f"[Ubicación: {words}]" if words else "[Ubicación]"


def _degrees(value: Any) -> str | None:
    return str(value) if isinstance(value, float) else text_of(value)


def _contacts(message: Object) -> str:
    names = ", ".join(filter(None, map(_card, objects_of(message.get("contacts")))))
    return f"[Contacto: {names}]" if names else "[Contacto]"


def _card(card: Object) -> str | None:
    # The answer to a request for contact information has no name.
    name = object_of(card.get("name"))
    parts = filter(None, (_shown(name, "first_name"), _shown(name, "last_name")))
    called = (
        _shown(name, "formatted_name")
        or " ".join(parts)
        or _shown(object_of(card.get("org")), "company")
    )
    if called:
        return called
    for phone in objects_of(card.get("phones")):
        if number := _shown(phone, "phone", "wa_id"):
            return number
    return None


def _order(message: Object) -> str:
    body = object_of(message.get("order"))
    count = len(list_of(body.get("product_items")))
    head = f"[Pedido: {count} producto{'' if count == 1 else 's'}]"
    note = _shown(body, "text")
    return f"{head} {note}" if note else head


def _button(message: Object) -> str:
    return _shown(object_of(message.get("button")), "text", "payload") or "[Botón]"


def _interactive(message: Object) -> str:
    body = object_of(message.get("interactive"))
    for member in ("button_reply", "list_reply"):
        if words := _shown(object_of(body.get(member)), "title", "id"):
            return words
    if flow := object_of(body.get("nfm_reply")):
        return _shown(flow, "body") or "[Formulario enviado]"
    answer = object_of(body.get("call_permission_reply")).get("response")
    if isinstance(answer, str):
        return _PERMISSIONS.get(answer, "[Permiso de llamada]")
    return "[Respuesta interactiva]"


_PERMISSIONS = {
    "accept": "[Permiso de llamada aceptado]",
    "reject": "[Permiso de llamada rechazado]",
}


def _system(message: Object) -> str:
    return _shown(object_of(message.get("system")), "body") or "[Aviso de WhatsApp]"


PLACEHOLDERS: dict[str, Callable[[Object], str]] = {
    "image": _fixed("[Imagen]"),
    "video": _fixed("[Video]"),
    "audio": _fixed("[Audio]"),
    "voice": _fixed("[Audio]"),
    "sticker": _fixed("[Sticker]"),
    "request_welcome": _fixed("[Abrió el chat]"),
    "document": _document,
    "location": _location,
    "contacts": _contacts,
    "order": _order,
    "button": _button,
    "interactive": _interactive,
    "system": _system,
}
