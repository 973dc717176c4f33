"""What a database has, against what the router needs of it: `psi-router doctor`.

What is needed is in router/store/needs.py.
"""

import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg

from router.errors import ConfigError, Unavailable
from router.store import dialect
from router.store.dialect_fit import fit
from router.store.migrate import behind
from router.store.needs import (
    Column,
    expected,
    functions,
    indexes,
    inserted,
    of_the_crm,
    rights,
    sequences,
)
from router.store.pooler import CONNECT_S, NAME, Mode, mode_of

Level = Literal["ok", "warn", "fail"]

OLDEST_VERSION = 13  # pg_current_xact_id, gen_random_uuid
SKEW_WARN_S, SKEW_FAIL_S = 2.0, 60.0
QUERY_TIMEOUT_S = 10.0
COUNT_TIMEOUT_MS = 5000
COUNT_MOST = 1000
# Another type that takes what the router writes, and what that costs. In a CRM's table only:
# the router's own are exactly as they were made.
FITTING: Mapping[tuple[str, str], Level] = {
    ("text", "character varying"): "warn",  # may be too short
    ("text", "citext"): "ok",
    ("timestamptz", "timestamp without time zone"): "warn",  # in the session's zone
}
SPELLED = {"timestamptz": "timestamp with time zone", "float8": "double precision"}
# Read as text or JSON, never given a value but null: any type will do.
OF_ANY_TYPE = frozenset(
    {
        ("contactos", "email"),
        ("contactos", "notas"),
        ("conversaciones", "asignado_a"),
        ("conversaciones", "inbox_fijo"),
    }
)

_COLUMNS = """
select a.attname as name, format_type(a.atttypid, null) as type, a.attnotnull as required,
  a.atthasdef or a.attidentity <> '' as filled, a.attgenerated <> '' as generated
from pg_attribute a
where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped"""
_INDEXES = """
select c.relname as name, i.indisvalid as valid from pg_index i
join pg_class c on c.oid = i.indexrelid
where c.relname = any($1) and (i.indrelid = any($2::regclass[]) or i.indrelid in (
  select inhrelid from pg_inherits where inhparent = any($2::regclass[])))"""
_ROOM = """
select m.most, m.most - current_setting('superuser_reserved_connections')::int
       - (select count(*) from pg_stat_activity where backend_type = 'client backend') as free
from (select current_setting('max_connections')::int as most) m"""
_RIGHTS = """
select a.t as what, a.verb from unnest($1::text[], $2::text[]) as a (t, verb)
where not has_table_privilege(to_regclass(a.t), a.verb)  -- one that is missing is said elsewhere
union all
select s, 'USAGE' from unnest($3::text[]) as s
where to_regclass(s) is not null and not has_sequence_privilege(s, 'USAGE')
union all
select f, 'EXECUTE' from unnest($4::text[]) as f
join pg_proc p on p.oid = to_regproc(f) where not has_function_privilege(p.oid, 'EXECUTE')
order by 1, 2"""
_TRIGGERS = """
select t.tgname as name, t.tgrelid::regclass::text as tab from pg_trigger t
where not t.tgisinternal and t.tgenabled <> 'D' and t.tgrelid = any($1::regclass[])
order by 2, 1"""
_POLICIES = """
select c.oid::regclass::text as tab, row_security_active(c.oid) as active from pg_class c
where c.relrowsecurity and c.oid = any($1::regclass[]) order by 1"""
_MESSAGES_TWICE = """
select count(*) from (
  select from mensajes where whatsapp_message_id <> ''
  group by whatsapp_message_id having count(*) > 1 limit $1) d"""
_OPEN_TWICE = """
select count(*) from (
  select from conversaciones where contacto_id is not null and estado::text <> $2
  group by contacto_id having count(*) > 1 limit $1) d"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report; never a secret in it."""

    level: Level
    what: str
    detail: str


async def misfits(dsn: str) -> list[str]:
    """Return what `migrate` found there and may not change: columns that do not fit."""
    async with _connected(dsn) as connection, connection.transaction(readonly=True):
        present = await _present(connection)
        found = await _columns(connection, present, complete=True)
    return [one.detail for one in found if one.level == "fail"]


async def look(
    dsn: str, profile: dialect.Dialect, *, connections: int = 8
) -> list[Finding]:
    """Return what there is to say of the database at *dsn*, which is only read.

    *connections* is how many the router opens at most.

    Raises Unavailable when it is away or breaks off.
    """
    async with _connected(dsn) as connection:
        async with connection.transaction(readonly=True):
            found = [_version(connection), await _skew(connection)]
            found.append(await _room(connection, connections))
        found.append(await _pooler(dsn))
        try:
            missing, line = await _migrations(dsn)
        except asyncpg.InsufficientPrivilegeError:
            return [*found, Finding("fail", "rights", "may not read schema router")]
        found.append(line)
        async with connection.transaction(readonly=True):
            found += await _schema(connection, profile, missing=missing)
            there = await _present(connection)
        found += await _duplicates(connection, profile, there)
    return found


@asynccontextmanager
async def _connected(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    connection = None
    try:
        connection = await asyncpg.connect(
            dsn,
            timeout=CONNECT_S,
            command_timeout=QUERY_TIMEOUT_S,
            statement_cache_size=0,
            server_settings={"application_name": f"{NAME} doctor"},
        )
        yield connection
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as exc:
        # The driver's words may quote the address, and with it a password.
        raise Unavailable(f"PostgreSQL: {type(exc).__name__}") from exc
    finally:
        if connection is not None:
            connection.terminate()


def _version(connection: asyncpg.Connection) -> Finding:
    major = connection.get_server_version().major
    if major < OLDEST_VERSION:
        return Finding(
            "fail", "database", f"PostgreSQL {major}, needs {OLDEST_VERSION}"
        )
    return Finding("ok", "database", f"PostgreSQL {major}")


async def _skew(connection: asyncpg.Connection) -> Finding:
    before = time.time()
    there = (await connection.fetchval("select clock_timestamp()")).timestamp()
    return skew((before + time.time()) / 2 - there)


def skew(seconds: float) -> Finding:
    """Judge by how much this machine's clock is ahead of the server's."""
    size = abs(seconds)
    level: Level = "ok" if size <= SKEW_WARN_S else "warn"
    level = level if size <= SKEW_FAIL_S else "fail"
    return Finding(level, "clock", f"{size:.1f} s apart from the database's")


async def _room(connection: asyncpg.Connection, wanted: int) -> Finding:
    row = await connection.fetchrow(_ROOM)
    words = f"{wanted} at most, {row['free']} of the server's {row['most']} are free"
    # While settings are reloaded there are two routers.
    return Finding("ok" if row["free"] >= 2 * wanted else "warn", "connections", words)


async def _pooler(dsn: str) -> Finding:
    mode = await mode_of(dsn)
    words = mode.value
    if mode is Mode.TRANSACTION:
        words += ": nothing is prepared, each transaction says its settings"
    return Finding("ok", "pooler", words)


async def _migrations(dsn: str) -> tuple[list[str], Finding]:
    try:
        missing = await behind(dsn)
    except ConfigError as exc:
        return [], Finding("fail", "migrations", str(exc))
    if missing:
        words = f"{len(missing)} to apply, run `psi-router migrate`"
        return missing, Finding("fail", "migrations", words)
    return [], Finding("ok", "migrations", "up to date")


async def _present(connection: asyncpg.Connection) -> list[str]:
    rows = await connection.fetch(
        "select t from unnest($1::text[]) t where to_regclass(t) is not null",
        list(expected()),
    )
    return [row["t"] for row in rows]


async def _schema(
    connection: asyncpg.Connection, profile: dialect.Dialect, *, missing: list[str]
) -> list[Finding]:
    """Look at the tables that are there; what is *missing* will be made by `migrate`."""
    present = await _present(connection)
    crm = [table for table in of_the_crm() if table in present]
    found = await _columns(connection, present, complete=not missing)
    words = await fit(connection, profile)
    found += [Finding("warn", "words", line) for line in words.swapped]
    fine = f"all of {profile.name} are taken"
    found += _lines("fail", "words", words.wrong, fine)
    if not missing:
        found += await _indexes(connection)
    found += await _rights(connection)
    for row in await connection.fetch(_TRIGGERS, crm):
        found.append(Finding("warn", "trigger", f"{row['tab']}: {row['name']}"))
    for row in await connection.fetch(_POLICIES, crm):
        applies = "applies to" if row["active"] else "passes over"
        found.append(
            Finding("warn", "row security", f"{row['tab']}: {applies} this role")
        )
    return found


async def _columns(
    connection: asyncpg.Connection, present: list[str], *, complete: bool
) -> list[Finding]:
    found: list[Finding] = []
    if complete:
        absent = [table for table in expected() if table not in present]
        found += [Finding("fail", "columns", f"no table {table}") for table in absent]
    for table in present:
        rows = {r["name"]: r for r in await connection.fetch(_COLUMNS, table)}
        found += _of_a_table(table, rows, complete=complete)
    return found or [Finding("ok", "columns", f"{len(present)} tables fit")]


def _of_a_table(
    table: str, rows: Mapping[str, Any], *, complete: bool
) -> Iterator[Finding]:
    for name, column in expected()[table].items():
        if name not in rows:
            if complete:
                yield Finding("fail", "columns", f"{table}.{name} is missing")
            continue
        yield from _type(table, column, rows[name])
        if (
            rows[name]["required"]
            and not column.required
            and (table, name) in inserted()
        ):
            yield Finding("fail", "columns", f"{table}.{name} refuses null")
    for name, row in rows.items():
        given = (table, name) in inserted()
        if row["required"] and not row["filled"] and not given:
            yield Finding(
                "fail", "columns", f"{table}.{name} wants a value and has no default"
            )
        if row["generated"] and given:
            yield Finding("fail", "columns", f"{table}.{name} takes no value")


def _type(table: str, column: Column, row: Any) -> Iterator[Finding]:
    wanted = SPELLED.get(column.type, column.type)
    if row["type"] == wanted or (table, column.name) in OF_ANY_TYPE:
        return
    level = FITTING.get((column.type, row["type"]), "fail")
    if "." in table:
        level = "fail"
    if level != "ok":
        words = f"{table}.{column.name} is {row['type']}, expected {wanted}"
        yield Finding(level, "columns", words)


async def _indexes(connection: asyncpg.Connection) -> list[Finding]:
    present = await _present(connection)
    rows = await connection.fetch(_INDEXES, list(indexes()), present)
    valid = {row["name"]: row["valid"] for row in rows}
    wrong = [
        f"{name} on {table} is {'not valid' if name in valid else 'missing'}"
        for name, table in indexes().items()
        if not valid.get(name)
    ]
    return _lines("fail", "indexes", wrong, f"{len(indexes())} there and valid")


async def _rights(connection: asyncpg.Connection) -> list[Finding]:
    asked = sorted(rights())
    rows = await connection.fetch(
        _RIGHTS,
        [table for table, _ in asked],
        [verb for _, verb in asked],
        sorted(sequences()),
        sorted(functions()),
    )
    wrong = [f"no {row['verb']} on {row['what']}" for row in rows]
    return _lines("fail", "rights", wrong, "all that the router does")


async def _duplicates(
    connection: asyncpg.Connection, profile: dialect.Dialect, present: list[str]
) -> list[Finding]:
    closed = profile.write("estado", "cerrada")
    counts = (
        ("mensajes", "messages", "WhatsApp ids stored twice", _MESSAGES_TWICE, ()),
        (
            "conversaciones",
            "conversations",
            "contacts with two open",
            _OPEN_TWICE,
            (closed,),
        ),
    )
    return [
        await _count(connection, what, words, sql, args)
        for table, what, words, sql, args in counts
        if table in present
    ]


async def _count(
    connection: asyncpg.Connection, what: str, words: str, sql: str, args: Any
) -> Finding:
    try:
        async with connection.transaction(readonly=True):
            await connection.execute(
                f"set local statement_timeout = {COUNT_TIMEOUT_MS}"
            )
            count = await connection.fetchval(sql, COUNT_MOST, *args)
    except asyncpg.QueryCanceledError:
        return Finding("warn", what, f"{words}: not counted, it takes too long")
    except (asyncpg.UndefinedColumnError, asyncpg.InsufficientPrivilegeError):
        return Finding("warn", what, f"{words}: cannot be counted yet")
    many = f"{count} or more" if count == COUNT_MOST else str(count)
    return Finding("warn" if count else "ok", what, f"{words}: {many}")


def _lines(level: Level, what: str, wrong: Iterable[str], fine: str) -> list[Finding]:
    """Return a line for each thing that is wrong, or the one that says that it is fine."""
    found = [Finding(level, what, words) for words in wrong]
    return found or [Finding("ok", what, fine)]
