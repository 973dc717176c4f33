"""A durable inbox under faults: what was answered 200 becomes one row, late perhaps."""

from pathlib import Path

import pytest

from tests.faults.harness import (
    Kills,
    Load,
    Sink,
    check,
    dice,
    quiet,
    say,
    service,
    stored,
)

SEED = 20261125


@pytest.fixture(params=["spool", "redis"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """What PSI_QUEUE says."""
    if request.param == "spool":
        return f"spool:{tmp_path / 'spool'}"
    return str(request.getfixturevalue("redis_url"))


async def kill_under_load(
    database: str, directory: Path, queue: str, kills: int
) -> None:
    say(f"seed {SEED}")
    sink = Sink(SEED, fails=0.05)
    async with (
        sink.running(),
        service(directory, database, sink, PSI_QUEUE=queue) as router,
    ):
        load = Load(router.url, SEED)
        faults = Kills(router, load, dice(SEED))
        async with load.running():
            await load.acks()
            await faults.kill(kills, every_s=(0.1, 1.0))
            await load.acks(100)
        await load.settle()
        await stored(database, load.ledger)
        await quiet(database)
        say(faults.report())
        assert await check(database, load.ledger, sink) == {}
    assert len(faults.back_s) == kills
    assert load.ledger.sent == load.ledger.acked
    assert load.ledger.statuses


async def test_nothing_acked_is_lost_over_kills_of_the_router(
    database: str, tmp_path: Path, queue: str
) -> None:
    await kill_under_load(database, tmp_path, queue, 5)
