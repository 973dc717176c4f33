"""The names of a person: which find somebody, which are only kept, and what changes them."""

from typing import NamedTuple

from router.model import Event, Person
from router.store.keys import digest
from router.whatsapp import shapes
from router.whatsapp.members import Object, first_text, object_of
from router.whatsapp.phones import canonical, equivalents
from router.whatsapp.storable import text

PARKING = "sin-identificar"  # telefono of the contact that stands for the nameless
LONGEST_NAME = 500  # characters; WhatsApp's own have at most 135

PHONE, USER_ID, PARENT, USERNAME = "wa_id", "bsuid", "parent_bsuid", "username"
# A message of these kinds says that somebody has other names from now on.
NUMBER_CHANGED = "message.system.number_changed"
USER_ID_CHANGED = "message.system.user_id_changed"
CHANGES = frozenset({NUMBER_CHANGED, USER_ID_CHANGED})


class Alias(NamedTuple):
    """A name of somebody towards one business account; '' where nobody says which."""

    scope: str
    kind: str
    value: str


Aliases = tuple[Alias, ...]


def aliases_of(scope: str, person: Person) -> Aliases:
    """Return the names that find *person*, the most reliable first."""
    return _aliases(scope, (USER_ID, person.bsuid), (PHONE, person.wa_id))


def kept_of(scope: str, person: Person) -> Aliases:
    """Return the names that are kept, and not asked: they may pass to somebody else."""
    if not (person.parent_bsuid or person.username):
        return ()
    return _aliases(scope, (PARENT, person.parent_bsuid), (USERNAME, person.username))


def _aliases(scope: str, *names: tuple[str, str | None]) -> Aliases:
    scope = short(scope)
    return tuple(Alias(scope, kind, short(value)) for kind, value in names if value)


def changed_to(event: Event) -> Person | None:
    """Return the new names that a system message brings; None of any other message."""
    if event.kind not in CHANGES:
        return None
    system = object_of(shapes.meta_form(event.item).get("system"))
    return Person(
        wa_id=_phone(system),
        bsuid=first_text(system, ("user_id",)),
        parent_bsuid=first_text(system, ("parent_user_id",)),
    )


def _phone(system: Object) -> str | None:
    number = first_text(system, ("wa_id", "new_wa_id"))
    return number if number and number.isascii() and number.isdigit() else None


def short(name: str) -> str:
    """Return *name* as an index can hold it: of one that is too long, a digest."""
    if len(name) <= LONGEST_NAME:
        return text(name)
    return f"sha256:{digest(name).hex()}"


def telefono_of(person: Person) -> str:
    """Return what stands in contactos.telefono for a person met for the first time."""
    return short(person.wa_id or person.bsuid or PARKING)


def forms_of(phone: str) -> frozenset[str]:
    """Return every form in which a table may hold *phone*; the CRM writes a plus."""
    forms = equivalents(phone)
    return forms | {f"+{form}" for form in forms}


def is_phone(telefono: str) -> bool:
    """Return whether a telefono is a number, and no id and no mark."""
    digits = telefono.removeprefix("+")
    return digits.isascii() and digits.isdigit()


def same_phone(one: str, other: str) -> bool:
    """Return whether two numbers, with a plus or without, are one phone."""
    return canonical(one.removeprefix("+")) == canonical(other.removeprefix("+"))


def asked(alias: Alias) -> list[str]:
    """Return what to look *alias* up by, as 'kind value': a number in every form."""
    if alias.kind != PHONE:
        return [f"{alias.kind} {alias.value}"]
    return [f"{PHONE} {form}" for form in equivalents(alias.value)]


def telefonos_asked(aliases: Aliases) -> set[str]:
    """Return the telefonos under which a person with *aliases* may stand."""
    if not aliases:
        return {PARKING}
    found: set[str] = set()
    for alias in aliases:
        if alias.kind == PHONE:
            found |= forms_of(alias.value)
        elif alias.kind == USER_ID:
            found |= {alias.value, marked_id(alias)}
    return found


def marked_id(alias: Alias) -> str:
    """Return a telefono for a BSUID that another business account has too."""
    return short(f"{alias.value}@{alias.scope}")
