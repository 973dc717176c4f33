"""After a run the scrape and the tables agree; each metric has the labels of its promise."""

from collections import Counter
from pathlib import Path

import orjson
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.faults.harness import Load, Sink, connected, quiet, service
from tests.faults.modes import TOKEN, scrape
from tests.faults.test_poison import CULPRIT, batch, messages
from tests.servers import until

SEED = 8
COUNTED_S = 15.0  # the outbox is counted every 5 s
# Contract 8: a metric and its labels, as the parser calls them.
LABELS = {
    "psi_deliveries": {"door", "outcome"},
    "psi_events": {"kind"},
    "psi_ack_seconds": {"le"},
    "psi_stage_seconds": {"stage", "le"},
    "psi_stage_restarts": {"stage"},
    "psi_queue_depth": {"queue"},
    "psi_queue_oldest_seconds": {"queue"},
    "psi_persist_batch_size": {"le"},
    "psi_outbox_pending": {"destination"},
    "psi_outbox_oldest_seconds": {"destination"},
    "psi_attempts": {"destination", "outcome"},
    "psi_breaker_state": {"destination"},
    "psi_dead_letters": {"stage", "reason"},
    "psi_loop_lag_seconds": set[str](),
}
NEVER_IN_A_RUN = {"psi_stage_restarts"}  # a worker crashed
TABLES = """
select (select count(*) from mensajes where direccion = 'entrante') as messages,
       (select count(*) from router.statuses) as statuses,
       (select count(*) from router.deliveries) as deliveries,
       (select count(*) from router.outbox where state = 'done') as told,
       (select count(*) from router.outbox where state = 'pending') as pending,
       (select count(*) from router.attempts) as attempts,
       (select count(*) from router.dead_letters) as dead_letters"""


def parsed(text: str) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text)}


def sums(family: Metric, label: str = "", suffix: str = "_total") -> Counter[str]:
    """Return the samples' values added up by *label*."""
    found: Counter[str] = Counter()
    for sample in family.samples:
        if sample.name.endswith(suffix):
            found[sample.labels.get(label, "")] += int(sample.value)
    return found


@pytest.mark.parametrize("seed", [SEED])
async def test_after_a_run_the_scrape_and_the_tables_agree(
    database: str, tmp_path: Path, seed: int
) -> None:
    sink = Sink(seed, fails=0.1)
    ugly = batch(5, seed)
    messages(ugly)[CULPRIT % 5]["text"]["body"] = "refuse me"
    async with (
        sink.running(),
        service(tmp_path, database, sink, PSI_ADMIN_TOKEN=TOKEN) as router,
        connected(database) as connection,
    ):
        await connection.execute(
            "alter table mensajes add constraint no check (mensaje <> 'refuse me')"
        )
        load = Load(router.url, seed, rate=200)
        async with load.running():
            await load.acks(300)
        await load.settle()
        assert (await router.post(orjson.dumps(ugly)))[1]["failed"] == 1
        await quiet(database)
        tables = await connection.fetchrow(TABLES)

        async def counted() -> bool:
            pending = parsed(await scrape(router))["psi_outbox_pending"]
            return {s.value for s in pending.samples} == {0.0}

        await until(counted, within_s=COUNTED_S)
        found = parsed(await scrape(router))
    events, ledger = sums(found["psi_events"], "kind"), load.ledger
    again = events["message.text"] - tables["messages"]
    assert 0 <= again <= ledger.repeated  # a repeated one is an event, and no row
    assert (
        sum(n for kind, n in events.items() if kind.startswith("status."))
        >= (tables["statuses"])
    )
    assert sums(found["psi_deliveries"], "outcome") == {"200": ledger.answers[200] + 1}
    assert tables["deliveries"] == ledger.answers[200] + 1
    outcomes = sums(found["psi_attempts"], "outcome")
    assert outcomes["done"] == tables["told"] == tables["messages"]
    assert outcomes.total() == tables["attempts"] == sink.attempts.total()
    assert outcomes["retry"] == sink.refused > 0
    assert sums(found["psi_dead_letters"], "stage") == {"persist": 1}
    assert (tables["dead_letters"], tables["pending"]) == (1, 0)
    answered = sums(found["psi_ack_seconds"], suffix="_count")[""]
    assert answered == ledger.answers[200] + 1
    batches = sums(found["psi_persist_batch_size"], suffix="_sum")[""]
    assert batches == events.total()
    for name, labels in LABELS.items():
        seen = {key for sample in found[name].samples for key in sample.labels}
        assert seen == (set() if name in NEVER_IN_A_RUN else labels), name
