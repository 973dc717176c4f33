"""kill -9 at random moments, under load: nothing that was answered 200 is ever lost."""

from pathlib import Path

import pytest

from tests.faults.harness import Kills, Load, Sink, check, dice, quiet, say, service

SEED = 20261124


async def kill_under_load(database: str, directory: Path, kills: int) -> None:
    say(f"seed {SEED}")
    sink = Sink(SEED, fails=0.05, hangs=0.0003)
    async with sink.running(), service(directory, database, sink) as router:
        load = Load(router.url, SEED)
        faults = Kills(router, load, dice(SEED))
        async with load.running():
            await load.acks()
            await faults.kill(kills, every_s=(0.1, 1.0))
            await load.acks(100)
        await load.settle()
        await quiet(database)
        say(f"{faults.report()}; {sink.refused} notifications refused")
        assert await check(database, load.ledger, sink) == {}
    assert len(faults.back_s) == kills
    assert load.ledger.unknown, (
        "no request was cut: the kills came at the wrong moments"
    )
    assert sink.refused
    assert load.ledger.repeated
    assert load.ledger.statuses
    assert load.ledger.sent == load.ledger.acked


async def test_nothing_acked_is_lost_and_all_is_told_over_10_kills(
    database: str, tmp_path: Path
) -> None:
    await kill_under_load(database, tmp_path, 10)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_nothing_acked_is_lost_and_all_is_told_over_50_kills(
    database: str, tmp_path: Path
) -> None:
    await kill_under_load(database, tmp_path, 50)
