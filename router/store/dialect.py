"""The words of a database: which the code writes, and which stand in its tables for them.

The code and its statements know the words of the plan. A profile (`dialects/*.toml`) says
what a CRM calls them; the profile `plan` says nothing, and costs nothing. In a statement a
word is marked by its group: ``/*estado*/'cerrada'``.
"""

import functools
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from typing import Any

from router.errors import ConfigError
from router.store import sql_files
from router.store.database import Fetches, Row

ANY = "*"  # in a profile: every word that is not named, in the place of the star

# Every word that the router writes, by group. Of router_estado a menu's id stands for all.
WORDS: Mapping[str, tuple[str, ...]] = {
    "area": ("PSI Principal", "Administración", "Alumnos", "Ventas", "Comunidad"),
    "estado": ("nueva", "activa", "esperando", "resuelta", "cerrada"),
    "router_estado": ("principal", "derivada", "1", "2", "3", "4"),
    "tipo": (
        "text",
        "image",
        "audio",
        "video",
        "document",
        "location",
        "contact",
        "sticker",
    ),
    "direccion": ("entrante", "saliente"),
    "remitente_tipo": ("contact", "system", "agent"),
    "estado_envio": ("pendiente", "sent", "delivered", "read", "failed", "no_enviado"),
    "ticket_estado": ("abierto", "en_progreso", "resuelto", "cerrado"),
    "prioridad": ("normal", "alta"),
    "derivacion_estado": ("enviada",),
}
# Where they stand: table, column, group.
PLACES = (
    ("conversaciones", "area", "area"),
    ("conversaciones", "estado", "estado"),
    ("conversaciones", "router_estado", "router_estado"),
    ("mensajes", "tipo", "tipo"),
    ("mensajes", "direccion", "direccion"),
    ("mensajes", "remitente_tipo", "remitente_tipo"),
    ("mensajes", "estado_envio", "estado_envio"),
    ("tickets", "area", "area"),
    ("tickets", "estado", "ticket_estado"),
    ("tickets", "prioridad", "prioridad"),
    ("derivaciones", "area", "area"),
    ("derivaciones", "status", "derivacion_estado"),
)
# The columns of router.conversation_row, message_row and status_row that hold words.
CONVERSATION = {5: "area", 6: "estado", 7: "router_estado"}
MESSAGE = {3: "tipo", 4: "direccion", 5: "remitente_tipo", 12: "estado_envio"}
STATUS = {9: "estado_envio"}

_MARKED = re.compile(r"/\*(\w+)\*/\s*'([^']*)'")

_CHECKS = """
select c.relname as tab, a.attname as col, format_type(a.atttypid, a.atttypmod) as type,
       case when k.oid is not null then pg_get_expr(k.conbin, k.conrelid) end as condition,
       k.conname as name,
       (select array_agg(e.enumlabel::text) from pg_enum e where e.enumtypid = a.atttypid)
         as labels
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_constraint k
  on k.conrelid = c.oid and k.contype = 'c' and k.conkey = array[a.attnum]
where c.oid = to_regclass($1) and a.attname = $2"""


@dataclass(frozen=True, slots=True, eq=False)
class Dialect:
    """One profile.

    `to_table` and `to_code` translate by group, and hold what differs. `inboxes` names
    which areas (in the table's words) each inbox of the CRM shows; an empty list: all.
    """

    name: str
    to_table: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    to_code: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    inboxes: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is translated."""
        return not self.to_table

    def write(self, group: str, word: Any) -> Any:
        """Return what stands in the table for the code's *word*; None for None."""
        return _translated(self.to_table.get(group), word)

    def read(self, group: str, word: Any) -> Any:
        """Return the code's word for what stands in the table; an unknown one as it is."""
        return _translated(self.to_code.get(group), word)

    def row(self, row: Sequence[Any], columns: Mapping[int, str]) -> tuple[Any, ...]:
        """Return *row* in the table's words; *columns* says which hold words of what."""
        return tuple(
            self.write(columns[n], value) if n in columns else value
            for n, value in enumerate(row)
        )

    def with_swaps(self, swaps: Mapping[str, str]) -> "Dialect":
        """Return this profile, writing other words than its own for some of `tipo`.

        Nobody reads a tipo back: what the message was stands in its metadata.
        """
        if not swaps:
            return self
        name = " ".join([self.name, *(f"tipo.{w}={o}" for w, o in swaps.items())])
        words = {**self.to_table.get("tipo", {}), **swaps}
        return replace(self, name=name, to_table={**self.to_table, "tipo": words})

    def sql(self, name: str) -> str:
        """Return the statement of `sql/<name>.sql` in the table's words."""
        text = sql_files.sql(name)
        return text if self.is_plain else _in_words_of(self, name)


PLAN = Dialect("plan")


@functools.cache
def load(name: str) -> Dialect:
    """Return the packaged profile *name*; ConfigError for an unknown or broken one.

    After the name may come words that a database takes others for: what `Fit` found,
    as in ``plan tipo.sticker=image``.
    """
    first, *swaps = name.split()
    if first not in names():
        raise ConfigError(f"dialect is {name!r}, expected one of {', '.join(names())}")
    folder = resources.files("router.store") / "dialects"
    found = parse(first, (folder / f"{first}.toml").read_text("utf-8"))
    return found.with_swaps(dict(_swap(name, swap) for swap in swaps))


def _swap(name: str, text: str) -> tuple[str, str]:
    word, equals, other = text.removeprefix("tipo.").partition("=")
    if not equals or word not in WORDS["tipo"]:
        raise ConfigError(f"dialect is {name!r}: expected tipo.WORD=OTHER after a name")
    return word, other


@functools.cache
def names() -> tuple[str, ...]:
    """Return the names of the packaged profiles."""
    folder = resources.files("router.store") / "dialects"
    files = (path.name for path in folder.iterdir())
    return tuple(sorted(f.removesuffix(".toml") for f in files if f.endswith(".toml")))


def parse(name: str, text: str) -> Dialect:
    """Return the profile that a TOML text describes; ConfigError for what it cannot mean."""
    table = tomllib.loads(text)
    inboxes, extra = table.pop("inboxes", {}), table.pop("read", {})
    _refuse_unknown(name, table)
    backwards = {group: _inverted(name, group, of) for group, of in table.items()}
    for group, words in extra.items():
        backwards[group] = {**words, **backwards.get(group, {})}
    return Dialect(name, table, backwards, inboxes)


def _refuse_unknown(name: str, table: Mapping[str, Any]) -> None:
    for group, words in table.items():
        unknown = set(words) - {*WORDS.get(group, ()), ANY}
        if group not in WORDS or unknown:
            raise ConfigError(
                f"dialect {name}: no such words: {group} {sorted(unknown)}"
            )


def _inverted(name: str, group: str, words: Mapping[str, str]) -> dict[str, str]:
    back = {table: code for code, table in words.items()}
    whole = {word: words.get(word, word) for word in WORDS[group] if ANY not in words}
    if len(back) != len(words) or len(set(whole.values())) != len(whole):
        raise ConfigError(f"dialect {name}: two words of {group} become one")
    return back


def _translated(words: Mapping[str, str] | None, word: Any) -> Any:
    if words is None or not isinstance(word, str):
        return word
    if word in words:
        return words[word]
    for pattern, other in words.items():
        if ANY in pattern:
            before, _, after = pattern.partition(ANY)
            if word.startswith(before) and word.endswith(after):
                return other.replace(ANY, word[len(before) : len(word) - len(after)])
    return word


@functools.cache
def _in_words_of(dialect: Dialect, name: str) -> str:
    def word(found: re.Match[str]) -> str:
        return f"'{dialect.write(found[1], found[2])}'"

    return _MARKED.sub(word, sql_files.sql(name))


async def problems(connection: Fetches, dialect: Dialect) -> list[str]:
    """Return which words of *dialect* this database refuses, a line for each column.

    Looks at CHECK constraints over one column, and at the labels of enumerated types.
    """
    found: list[str] = []
    for table, column, group in PLACES:
        words = [dialect.write(group, word) for word in WORDS[group]]
        for rule, refused in await refusals(connection, table, column, words):
            listed = ", ".join(refused)
            found.append(f"{table}.{column} does not take {listed} ({rule})")
    return found


async def refusals(
    connection: Fetches, table: str, column: str, words: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """Return the rules of a column that refuse some of *words*, each with which."""
    rows = await connection.fetch(_CHECKS, table, column)
    found = [
        (row["name"] or row["type"], await _refused(connection, row, words))
        for row in rows
    ]
    return [(rule, refused) for rule, refused in found if refused]


async def _refused(connection: Fetches, row: Row, words: Sequence[str]) -> list[str]:
    if row["labels"] is not None:
        return [word for word in words if word not in row["labels"]]
    if row["condition"] is None:
        return []
    # The condition is the catalogue's own text of it, the names are quoted.
    column, kind = row["col"].replace('"', '""'), row["type"]
    inner = f'select w.word::{kind} as "{column}"'
    rows = await connection.fetch(
        f"select w.word from unnest($1::text[]) as w (word)"  # noqa: S608 -- same
        f" where (select {row['condition']} from ({inner}) t) is false",
        list(words),
    )
    return [found["word"] for found in rows]
