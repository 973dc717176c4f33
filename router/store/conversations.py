"""One person's conversation, by whatever name somebody asks for it."""

from typing import Any

from router.store.aliases import short
from router.store.database import Database
from router.store.dialect import PLAN, Dialect
from router.whatsapp.phones import written_forms
from router.whatsapp.reading import read_json

LAST = 10  # messages


async def by_alias(
    database: Database, alias: str, dialect: Dialect = PLAN
) -> dict[str, Any] | None:
    """Return `contacto`, `conversacion` and `mensajes` of *alias*; None for nobody.

    An alias is a phone in any notation, a BSUID, a parent's, or a username with or without
    its @. `conversacion` is the open one, else the latest, else None; `mensajes` are its
    last ten, the newest first. Each row has its table's column names, its times in ISO 8601.
    One query. Raises Transient when the database must be waited for.
    """
    telefonos, aliases = names(alias.strip())
    rows = await database.fetch(dialect.sql("conversation"), telefonos, aliases, LAST)
    if not rows:
        return None
    return {name: _json(rows[0][name]) for name in rows[0].keys()}  # noqa: SIM118 -- a Row


def names(alias: str) -> tuple[list[str], list[str]]:
    """Return what to look *alias* up by: telefonos, and aliases as 'kind value'."""
    phones = written_forms(alias)
    username = short(alias.removeprefix("@").lower())
    named = short(alias)
    telefonos = [*phones, *(f"+{phone}" for phone in phones), named]
    aliases = [
        *(f"wa_id {phone}" for phone in phones),
        f"bsuid {named}",
        f"username {username}",
        f"parent_bsuid {named}",
    ]
    return telefonos, aliases


def _json(value: str | None) -> Any:
    return None if value is None else read_json(value.encode())
