"""The plan's one query against its three, and which of its seven indexes earn their keep.

A database with a million messages: conversations of all sizes, as a CRM's are. What is
asked is what the plan names (a person's contact, conversation and last ten messages) and what
a CRM and the router ask beside it; first with all indexes, then without each of the plan's
seven, then without all of them. The plan of each query is kept in the JSON. What an index
costs is measured too: its size, and the time of the same inserts and updates without it.

    python -m bench.queries [--rows 1000000] [--rounds 200] [--json FILE]
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from router.store.embedded import EmbeddedPostgres
from router.store.migrate import migrate

PEOPLE_OF = 50  # messages a person, in the mean
WARM = 5
LONGEST_S = 5.0  # for one query in one state: those without an index take long
# An index whose absence costs less than both of these is not missed.
SLOWER, SLOWER_MS = 2.0, 0.2
WRITES = 2000
WRITE_ROUNDS = 9
NAMES_WIDTH = 42

# As the plan lists them.
SEVEN = {
    "idx_conversaciones_telefono": "conversaciones (telefono)",
    "idx_conversaciones_contacto_id": "conversaciones (contacto_id)",
    "idx_conversaciones_ts_ultimo_mensaje": "conversaciones (ts_ultimo_mensaje desc)",
    "idx_mensajes_conversacion_id": "mensajes (conversacion_id)",
    "idx_mensajes_timestamp": "mensajes (timestamp desc)",
    "idx_mensajes_remitente_tipo": "mensajes (remitente_tipo)",
    "idx_contactos_telefono": "contactos (telefono)",
}

NOTHING, ALL = "nothing", "the seven"
STATES = {**{name: [name] for name in SEVEN}, ALL: list(SEVEN)}

# A person wrote n messages, few wrote very many: as the square of an even spread.
FILL = """
insert into contactos (telefono, nombre)
  select '54911' || lpad(n::text, 8, '0'), 'Ana ' || n from generate_series(1, {people}) n;
insert into conversaciones (contacto_id, telefono, estado, ts_ultimo_mensaje)
  select id, telefono, case when random() < 0.7 then 'cerrada' else 'activa' end,
         now() - random() * interval '300 days' from contactos;
insert into mensajes (conversacion_id, mensaje, tipo, direccion, remitente_tipo, timestamp,
                      whatsapp_message_id)
  select v.ids[1 + floor(random() ^ 2 * {people})::int], 'mensaje ' || n, 'text',
    case when n % 2 = 0 then 'entrante' else 'saliente' end,
    (array['contact', 'system', 'contact', 'agent'])[1 + n % 4],
    now() - random() * interval '300 days', 'wamid.BENCH' || n
  from generate_series(1, {rows}) n, (select array_agg(id) as ids from conversaciones) v;
"""


WRITE = """
insert into mensajes (conversacion_id, mensaje, tipo, direccion, remitente_tipo, timestamp,
                      whatsapp_message_id)
  select ($1::uuid[])[1 + n % array_length($1::uuid[], 1)], 'hola', 'text', 'entrante',
         'contact', clock_timestamp(), 'wamid.NEW' || n from generate_series(1, $2) n"""
TOUCH = """
update conversaciones set ts_ultimo_mensaje = clock_timestamp() where id = any($1::uuid[])"""


@dataclass(frozen=True, slots=True)
class Query:
    """One question: its statements, each of which takes `$1`, or the answer of the last."""

    name: str
    what: str
    statements: tuple[str, ...]
    asks: str = (
        "telefono"  # what `$1` is: telefono, longest, conversacion, wamid, nothing
    )


CONTACT = "select * from contactos where telefono = $1"
ANY = """select * from conversaciones
where contacto_id = $1 order by ts_ultimo_mensaje desc limit 1"""
LAST = """select * from mensajes
where conversacion_id = $1 order by timestamp desc limit 10"""
JOINED = """select c.*, v.*, m.* from contactos c
left join conversaciones v on v.contacto_id = c.id
left join mensajes m on m.conversacion_id = v.id
where c.telefono = $1 order by m.timestamp desc limit 10"""
LATERAL = """select to_jsonb(c), to_jsonb(v), m.last from contactos c
left join lateral (
  select * from conversaciones where contacto_id = c.id
  order by ts_ultimo_mensaje desc limit 1) v on true
left join lateral (
  select jsonb_agg(to_jsonb(l)) as last from (
    select * from mensajes where conversacion_id = v.id
    order by timestamp desc limit 10) l) m on true
where c.telefono = $1"""

QUERIES = (
    Query("three queries", "contact, conversation, last 10", (CONTACT, ANY, LAST)),
    Query("one, joined", "the plan's: all rows joined, then cut", (JOINED,)),
    Query("one, lateral", "the same, each part by its index", (LATERAL,)),
    Query("three, longest", "of who wrote most", (CONTACT, ANY, LAST), "longest"),
    Query("joined, longest", "the same", (JOINED,), "longest"),
    Query("lateral, longest", "the same", (LATERAL,), "longest"),
    Query("contact", "somebody by phone", (CONTACT,)),
    Query(
        "conversation by phone",
        "the CRM's search",
        ("select * from conversaciones where telefono = $1",),
    ),
    Query(
        "inbox",
        "the 50 conversations used last",
        ("select * from conversaciones order by ts_ultimo_mensaje desc limit 50",),
        "nothing",
    ),
    Query("history", "the last 10 of a conversation", (LAST,), "conversacion"),
    Query(
        "whole history",
        "all of a conversation",
        ("select count(*) from mensajes where conversacion_id = $1",),
        "conversacion",
    ),
    Query(
        "newest messages",
        "the last 50 of everybody",
        ("select * from mensajes order by timestamp desc limit 50",),
        "nothing",
    ),
    Query(
        "of a day",
        "how many came today",
        ("select count(*) from mensajes where timestamp > now() - interval '1 day'",),
        "nothing",
    ),
    Query(
        "of the system",
        "how many did the bot write",
        ("select count(*) from mensajes where remitente_tipo = 'system'",),
        "nothing",
    ),
    Query(
        "by WhatsApp id",
        "is it stored?",
        ("select id from mensajes where whatsapp_message_id = $1",),
        "wamid",
    ),
)


@dataclass(slots=True)
class Timing:
    """How long one query took, in one state of the indexes."""

    query: str
    without: str  # "nothing", one index, or "the seven"
    p10_ms: float  # of who was not disturbed: what the verdict compares
    p50_ms: float
    p99_ms: float
    plans: list[str] = field(default_factory=list)  # of each statement


Measured = tuple[list["Timing"], list["Cost"]]


@dataclass(slots=True)
class Cost:
    """What one index costs."""

    index: str
    mb: float
    write_us: float  # a message written, with all indexes, less without this one


class Bench:
    """One database, asked again and again."""

    def __init__(self, connection: asyncpg.Connection, rounds: int) -> None:
        """Ask *rounds* times each."""
        self._connection, self._rounds = connection, rounds
        self._samples: dict[str, list[Any]] = {}

    async def fill(self, rows: int) -> None:
        """Write *rows* messages, and remember what to ask for."""
        text = FILL.format(rows=rows, people=max(1, rows // PEOPLE_OF))
        await self._connection.execute(text)
        await self._connection.execute("vacuum analyze")
        for asks, table, column in (
            ("telefono", "contactos", "telefono"),
            ("conversacion", "conversaciones", "id"),
            ("wamid", "mensajes", "whatsapp_message_id"),
        ):
            found = await self._connection.fetch(
                f"select {column} as value from {table} order by random() limit $1",
                self._rounds,
            )
            self._samples[asks] = [row["value"] for row in found]
        self._samples["longest"] = [await self._longest()] * self._rounds
        self._samples["nothing"] = [None] * self._rounds

    async def _longest(self) -> str:
        phone: str = await self._connection.fetchval(
            "select v.telefono from mensajes m join conversaciones v"
            " on v.id = m.conversacion_id group by 1 order by count(*) desc limit 1"
        )
        return phone

    async def time(self, query: Query, without: str) -> Timing:
        """Ask *query* for every sample; without an index that it needs, for a few."""
        spent: list[float] = []
        values = self._samples[query.asks]
        for value in values[:WARM]:  # what was planned and cached is not like before
            await self._ask(query, value)
        until = time.monotonic() + LONGEST_S
        for value in values:
            began = time.perf_counter()
            await self._ask(query, value)
            spent.append((time.perf_counter() - began) * 1000)
            if time.monotonic() > until:
                break
        spent.sort()
        p10, p50, p99 = (spent[len(spent) * p // 100] for p in (10, 50, 99))
        plans = await self._plans(query)
        return Timing(query.name, without, p10, p50, p99, plans)

    async def _ask(self, query: Query, value: Any) -> None:
        for statement in query.statements:
            rows = await self._connection.fetch(statement, *arguments(query, value))
            value = rows[0][0] if rows else value

    async def _plans(self, query: Query) -> list[str]:
        value, plans = self._samples[query.asks][0], []
        for statement in query.statements:
            asked = arguments(query, value)
            explained = await self._connection.fetch(
                f"explain (analyze, buffers) {statement}", *asked
            )
            plans.append("\n".join(row[0] for row in explained))
            rows = await self._connection.fetch(statement, *asked)
            value = rows[0][0] if rows else value
        return plans

    @asynccontextmanager
    async def without(self, names: Sequence[str]) -> AsyncIterator[None]:
        """Have these indexes gone for a while."""
        transaction = self._connection.transaction()
        await transaction.start()
        for name in names:
            await self._connection.execute(f"drop index {name}")
        yield
        await transaction.rollback()

    async def cost(self, label: str, names: Sequence[str]) -> Cost:
        """Measure what these indexes cost: writes with them and without, in turn."""
        whole, less = [], []
        for _ in range(WRITE_ROUNDS):
            whole.append(await self.write_us())
            async with self.without(names):
                less.append(await self.write_us())
        sizes = await self._connection.fetch(
            "select pg_relation_size(n::regclass) / 1e6 as mb from unnest($1::text[]) n",
            names,
        )
        mb = sum(float(row["mb"]) for row in sizes)
        return Cost(label, mb, min(whole) - min(less))

    async def write_us(self) -> float:
        """Return the microseconds of one message: its row, and its conversation's."""
        ids = self._samples["conversacion"]
        transaction = self._connection.transaction()
        await transaction.start()
        began = time.perf_counter()
        await self._connection.execute(WRITE, ids, WRITES)
        await self._connection.execute(TOUCH, ids)
        spent = time.perf_counter() - began
        await transaction.rollback()
        return spent / WRITES * 1e6


def arguments(query: Query, value: Any) -> list[Any]:
    """Return what a statement of *query* takes."""
    return [] if query.asks == "nothing" else [value]


def verdict(name: str, timings: Sequence[Timing], cost: Cost) -> str:
    """Say from the figures whether an index earns its keep."""
    price = f"({cost.mb:.1f} MB, {cost.write_us:+.1f} us a message)"
    whole = {t.query: t for t in timings if t.without == NOTHING}
    missed = [
        (t.p10_ms / whole[t.query].p10_ms, t.query)
        for t in timings
        if t.without == name and is_missed(name, whole[t.query], t)
    ]
    if not missed:
        return f"could go: no query is slower without it {price}"
    times = ", ".join(f"{query} x {ratio:.0f}" for ratio, query in sorted(missed))
    return f"is missed by: {times} {price}"


def is_missed(name: str, whole: Timing, less: Timing) -> bool:
    """Return whether a query that used an index is much slower without it."""
    used = any(name in plan for plan in whole.plans)
    slower = less.p10_ms - whole.p10_ms > SLOWER_MS
    return used and slower and less.p10_ms > SLOWER * whole.p10_ms


async def measure(rows: int, rounds: int, directory: Path) -> Measured:
    """Fill a database in *directory* and ask it everything."""
    async with EmbeddedPostgres(directory / "pg") as server:
        await migrate(server.dsn())
        connection = await asyncpg.connect(server.dsn())
        bench = Bench(connection, rounds)
        await bench.fill(rows)
        for query in QUERIES:
            await bench.time(query, NOTHING)  # the pages are read once
        timings = [await bench.time(query, NOTHING) for query in QUERIES]
        for label, names in STATES.items():
            async with bench.without(names):
                timings += [await bench.time(query, label) for query in QUERIES]
        # Only now: rows that were taken back stay in the way of who reads the newest.
        costs = [await bench.cost(label, names) for label, names in STATES.items()]
        await connection.close()
    return timings, costs


def table(timings: Sequence[Timing], costs: Sequence[Cost]) -> str:
    """Return the figures as two tables and a sentence for each index."""
    states = [NOTHING, ALL]
    found = {(t.query, t.without): t for t in timings}
    lines = [
        f"{'p50 / p99, ms':<24}" + "".join(f"{'without ' + s:>22}" for s in states)
    ]
    for query in QUERIES:
        cells = [found[query.name, state] for state in states]
        row = "".join(f"{f'{c.p50_ms:.2f} / {c.p99_ms:.2f}':>22}" for c in cells)
        lines.append(f"{query.name:<24}{row}")
    lines.append("")
    lines += [
        f"{cost.index:<{NAMES_WIDTH}}{verdict(cost.index, timings, cost)}"
        for cost in costs
        if cost.index in SEVEN
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and keep the plans where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # the server may run as somebody else
        work = measure(args.rows, args.rounds, Path(directory))
        timings, costs = asyncio.run(work)
    sys.stdout.write(f"{args.rows} messages\n\n{table(timings, costs)}\n")
    if args.json:
        kept = {
            "rows": args.rows,
            "timings": [asdict(timing) for timing in timings],
            "costs": [asdict(cost) for cost in costs],
        }
        args.json.write_text(json.dumps(kept, indent=1))


if __name__ == "__main__":
    main()
