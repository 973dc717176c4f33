"""A fault test that cannot fail is worth nothing: three classic errors must turn it red."""

from pathlib import Path
from typing import Any

import pytest

from tests.faults.harness import Kills, Load, Sink, check, dice, quiet, say, service

SEED = 3
KILLS = 6


async def broken_promises(
    database: str, directory: Path, mutant: str
) -> dict[str, Any]:
    say(f"seed {SEED}")
    sink = Sink(SEED)
    async with (
        sink.running(),
        service(directory, database, sink, mutant=mutant) as router,
    ):
        load = Load(router.url, SEED)
        faults = Kills(router, load, dice(SEED))
        async with load.running():
            await load.acks(50)
            await faults.kill(KILLS, every_s=(0.1, 0.4))
        await load.settle()
        await quiet(database)
        found = await check(database, load.ledger, sink)
    say(f"{faults.report()}; broken: { {k: len(v) for k, v in found.items()} }")
    return found


async def test_the_harness_is_green_on_the_router_as_it_is(
    database: str, tmp_path: Path
) -> None:
    assert await broken_promises(database, tmp_path, "none") == {}


@pytest.mark.parametrize(
    ("mutant", "promise"),
    [
        ("ack_on_enqueue", "acked, not stored"),
        ("done_before_send", "stored, never told"),
        ("two_commits", "stored, never told"),
    ],
)
async def test_the_harness_turns_red_on(
    database: str, tmp_path: Path, mutant: str, promise: str
) -> None:
    assert promise in await broken_promises(database, tmp_path, mutant)
