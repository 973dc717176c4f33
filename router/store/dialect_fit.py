"""A profile made to fit a database that is older than some of its words.

A CHECK of mensajes.tipo from before stickers would make a dead letter of each of them. What
a CHECK refuses is written as the nearest thing that it takes; the message's own kind is in
its metadata, as it always is.
"""

from dataclasses import dataclass

from router.store.database import Database, Fetches
from router.store.dialect import WORDS, Dialect, problems, refusals

TABLE, COLUMN = "mensajes", "tipo"
NEAREST = {
    "sticker": ("image", "document", "text"),
    "image": ("document", "text"),
    "audio": ("document", "text"),
    "video": ("document", "text"),
    "document": ("text",),
    "location": ("text",),
    "contact": ("text",),
}


@dataclass(frozen=True, slots=True)
class Fit:
    """A profile as this database takes it: `swapped` says what differs, `wrong` what fails."""

    dialect: Dialect
    swapped: list[str]
    wrong: list[str]


async def fit(connection: Fetches, dialect: Dialect) -> Fit:
    """Look which words of *dialect* this database refuses, and make do where that can be."""
    words = [dialect.write(COLUMN, word) for word in WORDS[COLUMN]]
    refusing = await refusals(connection, TABLE, COLUMN, words)
    refused = {word for _, some in refusing for word in some}
    swaps: dict[str, str] = {}
    for word, nearest in NEAREST.items():
        others = [dialect.write(COLUMN, other) for other in nearest]
        if dialect.write(COLUMN, word) in refused and (
            taken := [other for other in others if other not in refused]
        ):
            swaps[word] = taken[0]
    fitting = dialect.with_swaps(swaps)
    rules = ", ".join(rule for rule, _ in refusing)
    said = [
        f"{TABLE}.{COLUMN} ({rules}): {w} is written as {o}" for w, o in swaps.items()
    ]
    return Fit(fitting, said, await problems(connection, fitting))


async def look(dsn: str, dialect: Dialect) -> Fit:
    """Return the `fit` of the database at *dsn*; raise Transient while it is away."""
    database = Database(dsn, size=1)
    await database.open()
    try:
        return await fit(database, dialect)
    finally:
        await database.close()
