"""Writing down who is new, and names that pass from one person to another."""

from collections.abc import Iterator, Sequence

from router.store.aliases import asked, forms_of
from router.store.database import Transaction
from router.store.dialect import Dialect
from router.store.directory import Directory
from router.store.failures import Raced
from router.store.identity import People, number_of
from router.store.keys import lock_key
from router.store.sql_files import sql


async def add_people(tx: Transaction, people: People) -> None:
    """Write who and what is new of *people*; raise Raced where another writer met them too."""
    for contact, telefono in people.renumbered:
        await tx.fetch(sql("renumber"), contact, telefono)
    arguments = _arguments(people)
    if arguments is None:
        return
    (row,) = await tx.fetch(sql("people"), *arguments)
    wanted = (len(people.new_contacts), len(people.new_aliases))
    if (row["contacts"], row["aliases"]) != wanted:
        raise Raced("another writer met the same person")


async def move_people(tx: Transaction, directory: Directory, dialect: Dialect) -> None:
    """Write which names passed to whom, and who turned out to be one."""
    people = directory.people
    given = {
        **people.moved,
        **{a: people.by_alias[a] for a in people.left_now},
    }
    if given:
        aliases = [(*a, c.id, people.left.get(a)) for a, c in given.items()]
        await tx.fetch(sql("realias"), *_columns(aliases, 5))
    if directory.adopted:
        pairs = [(c.id, c.contacto_id) for c in directory.adopted]
        await tx.fetch(sql("adopt"), *_columns(pairs, 2))
    for loser, survivor, open_one, telefono in people.merges:
        kept_open = open_one.id if open_one else None
        await tx.fetch(
            sql("merge"), loser.id, survivor.id, kept_open, telefono, loser.plain
        )
    involved = [(c.id, telefono) for c, telefono in people.involved.items()]
    if involved:
        await tx.fetch(dialect.sql("touch"), *_columns(sorted(involved), 2))


def _arguments(people: People) -> tuple[Sequence[object], ...] | None:
    """Return the arguments of the `people` statement; None when nothing is new."""
    if not people.is_growing:
        return None
    contacts = [(c.id, c.telefono, c.nombre) for c in people.new_contacts]
    aliases = [(*alias, contact) for alias, contact in people.new_aliases.items()]
    phones = people.new_phones()
    heard = {f"{a.kind} {a.value}" for a in people.known}
    forms = {name for alias in phones for name in asked(alias)}
    telefonos = {t for alias in phones for t in forms_of(alias.value)}
    return (
        *_columns(contacts, 3),
        *_columns(aliases, 4),
        sorted(lock_key(number_of(alias)) for alias in phones),
        list(forms - heard),
        list(telefonos - people.known_telefonos),
        list(people.names),
        list(people.names.values()),
    )


def _columns(rows: Sequence[Sequence[object]], width: int) -> Iterator[list[object]]:
    """Turn rows of *width* members into as many columns, for unnest."""
    return (
        (list(c) for c in zip(*rows, strict=True))
        if rows
        else ([] for _ in range(width))
    )
