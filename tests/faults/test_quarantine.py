"""A body that ends the process, and comes again each time, as Meta sends it."""

import sys
from pathlib import Path

import pytest

from router.stages.quarantine import REASON, TRIALS
from tests.events import body, text_message
from tests.faults.harness import Load, Service, Sink, check, connected, quiet, say
from tests.faults.killers import KILLERS, MARK

SEED = 20261124
WHO = "5491100000001"


@pytest.mark.parametrize("how", KILLERS)
async def test_a_body_that_ends_the_process_is_buried_and_all_others_are_stored(
    database: str, tmp_path: Path, sink: Sink, how: str
) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    told = {"N8N_WEBHOOK_INGESTA_ROUTER_WSP4": sink.url}
    settings = {"DATABASE_URL": database, "RUNTIME_DIRECTORY": str(runtime), **told}
    router = Service(tmp_path, settings)
    router._command = [sys.executable, "-m", "tests.faults.killers", how, "serve"]
    deadly = body(text_message(WHO, "wamid.DEADLY", MARK.decode()))
    router.start()
    try:
        await router.ready()
        load = Load(router.url, SEED)
        deaths = 0
        async with load.running():
            while (answer := await posted(router, deadly)) is None:
                deaths += 1
                await router.exit_status(within_s=10)
                router.start()
                await router.ready()
                await load.acks(50)
            await load.acks(100)
        await load.settle()
        say(f"seed {SEED}: {deaths} deaths, {load.ledger.unknown} requests cut")
        assert answer == (200, {"success": True, "processed": 0, "failed": 1})
        assert deaths == 1 + TRIALS  # with others, alone, alone again
        assert await posted(router, deadly) == answer  # and is not even tried
        await quiet(database)
        assert await check(database, load.ledger, sink) == {}
        assert load.ledger.sent == load.ledger.acked
        await there_is_one_letter(database, deadly)
    finally:
        if router.running.poll() is None:
            router.kill()


async def posted(router: Service, data: bytes) -> object:
    """Return status and JSON of the answer; None when the connection broke instead."""
    try:
        return await router.post(data)
    except OSError:
        return None


async def there_is_one_letter(dsn: str, raw: bytes) -> None:
    async with connected(dsn) as connection:
        (letter,) = await connection.fetch("select * from router.dead_letters")
    assert (letter["stage"], letter["reason"]) == ("normalize", REASON)
    assert bytes(letter["body"]) == raw


async def test_a_stop_leaves_nobody_suspected(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    settings = {"DATABASE_URL": database, "RUNTIME_DIRECTORY": str(tmp_path)}
    router = Service(
        tmp_path, {**settings, "N8N_WEBHOOK_INGESTA_ROUTER_WSP4": sink.url}
    )
    for _ in range(2):
        router.start()
        await router.ready()
        load = Load(router.url, SEED)
        async with load.running():
            await load.acks(100)
            router.running.terminate()
            assert await router.exit_status(within_s=20) == 0
    router.start()
    try:
        await router.ready()
        assert router.lines("died_with_work_in_hand") == []
    finally:
        router.kill()
