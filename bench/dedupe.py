"""What telling duplicates apart costs: the candidates of docs/decisions/0003-dedupe.md.

Each candidate fills its own table of messages in batches of 50 from one writer, as the router
does; a tenth of the ids comes again. Printed: messages/s (median of the rounds, candidates
interleaved), WAL bytes a message, and size on disk a message.

    python -m bench.dedupe [--rows 60000] [--rounds 3]
"""

import argparse
import asyncio
import hashlib
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from router.store.embedded import EmbeddedPostgres

BATCH = 50
REPEATS = 0.1  # share of ids that come again
TABLE = """
create table {name} (id uuid primary key default gen_random_uuid(), mensaje text not null,
  wamid text, created_at timestamptz not null default now());
"""
LOOKUP = "create index on {name} using hash (wamid);"
KNOWN = "select m.wamid from unnest($1::text[]) i (id) join {name} m on m.wamid = i.id"


@dataclass
class Candidate:
    """One way to be sure that a message id is stored once."""

    name: str
    what: str
    setup: str
    write: str
    rates: list[float] = field(default_factory=list)
    wal: int = 0
    size: int = 0


CLAIM = """
with claimed as (
  insert into {name}_keys (key) select k from unnest($2::bytea[]) k order by k
  on conflict do nothing returning key),
new as (select i.id, i.key from unnest($1::text[], $2::bytea[]) i (id, key) join claimed using (key))
insert into {name} (mensaje, wamid) select 'hola', id from new"""
DIRECT = """
insert into {name} (mensaje, wamid) select 'hola', id
from unnest($1::text[], $2::bytea[]) i (id, key) order by key on conflict do nothing"""

CANDIDATES = (
    Candidate(
        "unlogged_claims",
        "look-up by hash index, unlogged key table for the moment of writing",
        TABLE + LOOKUP + "create unlogged table {name}_keys (key bytea primary key);",
        CLAIM,
    ),
    Candidate(
        "logged_keys",
        "look-up by hash index, logged key table",
        TABLE + LOOKUP + "create table {name}_keys (key bytea primary key);",
        CLAIM,
    ),
    Candidate(
        "partial_unique",
        "look-up by hash index, unique index on a digest of rows since the migration",
        TABLE
        + LOOKUP
        + "create unique index on {name} (substr(sha256(wamid::bytea), 1, 16))"
        " where created_at >= '2026-01-01+00';",
        DIRECT,
    ),
)


def ids(rng: random.Random, rows: int) -> list[str]:
    """Return *rows* message ids, a tenth of them repeats."""
    fresh = [f"wamid.HBgM{rng.getrandbits(200):050x}" for _ in range(rows)]
    return [
        rng.choice(fresh[: i + 1]) if rng.random() < REPEATS else fresh[i]
        for i in range(rows)
    ]


async def fill(
    connection: asyncpg.Connection, candidate: Candidate, rows: int, seed: int
) -> None:
    """Write one round and note its rate and its WAL."""
    known, write = (
        KNOWN.format(name=candidate.name),
        candidate.write.format(name=candidate.name),
    )
    wamids = ids(random.Random(seed), rows)
    await connection.execute("checkpoint")
    before = await connection.fetchval("select pg_current_wal_insert_lsn()")
    started = time.perf_counter()
    for at in range(0, rows, BATCH):
        batch = list(dict.fromkeys(wamids[at : at + BATCH]))
        async with connection.transaction():
            await connection.execute("set local enable_seqscan = off")
            stored = {row["wamid"] for row in await connection.fetch(known, batch)}
            batch = [wamid for wamid in batch if wamid not in stored]
            keys = [hashlib.sha256(wamid.encode()).digest()[:16] for wamid in batch]
            await connection.execute(write, batch, keys)
    candidate.rates.append(rows / (time.perf_counter() - started))
    after = await connection.fetchval("select pg_current_wal_insert_lsn()")
    candidate.wal += await connection.fetchval(
        "select $1::pg_lsn - $2::pg_lsn", after, before
    )


async def measure(rows: int, rounds: int) -> None:
    """Run all candidates, interleaved, and print the table."""
    with tempfile.TemporaryDirectory(prefix="psi-bench-") as place:
        async with EmbeddedPostgres(Path(place) / "data") as server:
            connection = await asyncpg.connect(server.dsn())
            for candidate in CANDIDATES:
                await connection.execute(candidate.setup.format(name=candidate.name))
            for seed in range(rounds):
                for candidate in CANDIDATES:
                    await fill(connection, candidate, rows, seed)
            for candidate in CANDIDATES:
                candidate.size = await connection.fetchval(
                    "select sum(pg_total_relation_size(oid)) from pg_class"
                    " where relkind = 'r' and relname like $1",
                    f"{candidate.name}%",
                )
            await connection.close()
    total = rows * rounds
    print(f"{'candidate':18}{'msg/s':>8}{'WAL B/msg':>11}{'disk B/msg':>12}  what")
    for c in CANDIDATES:
        rate = statistics.median(c.rates)
        print(
            f"{c.name:18}{rate:8.0f}{c.wal / total:11.0f}{c.size / total:12.0f}  {c.what}"
        )


def main() -> None:
    """Read the options and measure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--rows", type=int, default=60_000, help="a round (default 60000)"
    )
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    args = parser.parse_args()
    asyncio.run(measure(args.rows, args.rounds))


if __name__ == "__main__":
    main()
