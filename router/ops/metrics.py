"""`GET /metrics`: what is counted, and how the queues stand at this moment."""

import asyncio
from collections.abc import Iterable
from typing import Any

from aiohttp import web
from prometheus_client import Gauge, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from router.health import Health
from router.ops.lag import LOOP_LAG
from router.ops.mode import show
from router.queues.base import Source
from router.telemetry import QUEUE_DEPTH, QUEUE_OLDEST

TASKS = Gauge("psi_tasks", "Tasks of the event loop")

disable_created_metrics()  # type: ignore[no-untyped-call]  # twice the series, of which nobody asks


def metrics(
    queues: Iterable[Source[Any]], lag_s: float, health: Health
) -> web.Response:
    """Return all metrics as Prometheus reads them."""
    # A destination that a reload took away has no queue any more.
    QUEUE_DEPTH.clear()
    QUEUE_OLDEST.clear()
    for queue in queues:
        stats = queue.stats()
        QUEUE_DEPTH.labels(queue.name).set(stats.depth)
        QUEUE_OLDEST.labels(queue.name).set(stats.oldest_s)
    LOOP_LAG.set(lag_s)
    TASKS.set(len(asyncio.all_tasks()))
    show(health)
    return web.Response(
        body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
    )
