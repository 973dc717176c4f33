"""What the router needs of a database, read from where it is written.

Tables, columns and indexes from the migrations; who inserts, updates and deletes what from
those and the statements.
"""

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from router.store.migrate import migrations

BOOKKEEPING = "router.migrations"  # made by whoever migrates, read by everybody

_COMMENT = re.compile(r"--[^\n]*")
_TABLE = re.compile(
    r"create (?:unlogged )?table (?:if not exists )?([\w.]+) \((.*?)\n\)", re.DOTALL
)
_PARTITION = re.compile(r"create table ([\w.]+) partition of|attach partition ([\w.]+)")
_ALTER = re.compile(r"alter table ([\w.]+)((?:\s+(?:add|drop) column [^;]+)+);")
_ADDED = re.compile(r"(add|drop) column (?:if (?:not )?exists )?(\w+)(.*)", re.DOTALL)
_INDEX = re.compile(
    r"create (?:unique )?index (?:concurrently )?(?:if not exists )?(\w+)\s+on ([\w.]+)"
)
_INSERT = re.compile(r"insert into ([\w.]+)(?: as \w+)? \(([^)]*)\)")
_VERBS = re.compile(r"\b(insert into|update|delete from) ([\w.]+)")
_UPSERT = re.compile(r"insert into ([\w.]+)(?:(?!insert into).)*?do update", re.DOTALL)
_TOP_LEVEL_COMMA = re.compile(r",\s*\n|,(?![^(]*\))")
_FUNCTION = re.compile(r"create (?:or replace )?function (router\.\w+)\(")
_DRAWN = re.compile(r"nextval\('([\w.]+)'\)")
_NO_COLUMN = frozenset({"primary", "unique", "check", "constraint", "foreign", "like"})


@dataclass(frozen=True, slots=True)
class Column:
    """What the migrations say of a column: its type as written there."""

    name: str
    type: str
    required: bool


@functools.cache
def expected() -> Mapping[str, Mapping[str, Column]]:
    """Return the columns of every table that the migrations make, by table and name."""
    tables: dict[str, dict[str, Column]] = {}
    for text in _scripts():
        for table, inside in _TABLE.findall(text):
            found = filter(None, map(_column, _TOP_LEVEL_COMMA.split(inside)))
            tables.setdefault(table, {}).update((c.name, c) for c in found)
        for table, clauses in _ALTER.findall(text):
            _alter(tables.setdefault(table, {}), clauses)
    return tables


def _alter(columns: dict[str, Column], clauses: str) -> None:
    for clause in _TOP_LEVEL_COMMA.split(clauses):
        if (found := _ADDED.search(clause)) is None:
            continue
        verb, name, rest = found.groups()
        if verb == "drop":
            columns.pop(name, None)
        elif name not in columns and (column := _column(name + rest)):
            columns[name] = column


def _column(text: str) -> Column | None:
    words = text.split()
    if len(words) == 1 or not words or not words[0].isidentifier():
        return None  # a value of a list, or nothing
    if words[0] in _NO_COLUMN:
        return None
    rest = " ".join(words[2:])
    return Column(words[0], words[1], "not null" in rest or "primary key" in rest)


@functools.cache
def indexes() -> Mapping[str, str]:
    """Return the table of every index that the migrations make, by the index's name."""
    return dict(found for text in _scripts() for found in _INDEX.findall(text))


@functools.cache
def inserted() -> frozenset[tuple[str, str]]:
    """Return (table, column) of all that the router's statements give a value to."""
    return frozenset(
        (table, column.strip())
        for text in (*_scripts(), *_queries())
        for table, columns in _INSERT.findall(text)
        for column in columns.split(",")
    )


@functools.cache
def rights() -> frozenset[tuple[str, str]]:
    """Return (table, SELECT, INSERT, UPDATE or DELETE) of all that the router does."""
    texts = (*_scripts(), *_queries())
    done = {
        (t, verb.split()[0].upper()) for s in texts for verb, t in _VERBS.findall(s)
    }
    done |= {(table, "UPDATE") for text in texts for table in _UPSERT.findall(text)}
    ours = expected().keys() | set(_partitions())
    done |= {(table, "SELECT") for table in ours}
    return frozenset(right for right in done if right[0] in ours)


def _partitions() -> Iterator[str]:
    for text in _scripts():
        for made, attached in _PARTITION.findall(text):
            yield made or attached


def _scripts() -> Iterator[str]:
    return (_COMMENT.sub("", migration.text) for migration in migrations())


def _queries() -> Iterator[str]:
    for path in (resources.files("router.store") / "sql").iterdir():
        if path.name.endswith(".sql"):
            yield _COMMENT.sub("", path.read_text("utf-8"))


def of_the_crm() -> list[str]:
    """Return the names of the tables that are the CRM's."""
    return [table for table in expected() if "." not in table]


@functools.cache
def functions() -> frozenset[str]:
    """Return the names of the router's own functions."""
    return frozenset(name for text in _scripts() for name in _FUNCTION.findall(text))


@functools.cache
def sequences() -> frozenset[str]:
    """Return the sequences that the router draws from by name."""
    return frozenset(name for text in _queries() for name in _DRAWN.findall(text))


def grants(role: str) -> str:
    """Return the GRANTs that *role* needs to serve, as a script: nothing else, no DDL."""
    name = '"' + role.replace('"', '""') + '"'
    verbs: dict[str, list[str]] = {BOOKKEEPING: ["SELECT"]}
    for table, verb in sorted(rights()):
        verbs.setdefault(table, []).append(verb)
    lines = ["-- What a role needs to serve. As the tables' owner, after each migrate."]
    lines += [f"grant usage on schema public, router to {name};"]
    lines += [
        f"grant {', '.join(verbs[t]).lower()} on {t} to {name};" for t in sorted(verbs)
    ]
    lines += [f"grant usage on sequence {s} to {name};" for s in sorted(sequences())]
    lines += [f"grant execute on function {f} to {name};" for f in sorted(functions())]
    return "\n".join(lines) + "\n"
