"""The model itself: what a message and a batch cost, and a closed loop in SimPy that costs so.

One loop of the router and one core of everybody else; what waits when a writer is free is the
batch, up to its share of what is unsettled. `fitted` finds the costs that explain what was measured.
"""

import math
import statistics
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import simpy

MOST = 200  # messages in a batch: router/stages/persist.py
FEW = 8  # whatever the share: router/queues/memory.py
WRITERS = 2  # router/pipeline.py
TRIED = 1000  # messages, to see whether a wait explains a point
FACTORS = tuple(1.15**step for step in range(-12, 7))
LEAST_WAIT_S = 50e-6

Steps = Generator[simpy.Event, Any, None]


class Point(NamedTuple):
    """What one closed loop came to; seconds, for each message."""

    connections: int
    rate: float
    p50_ms: float
    batch: float  # messages in a transaction, on average
    router_s: float
    postgres_s: float
    load_s: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What the model knows, in seconds."""

    message: float  # of the router's loop, each
    batch: float
    row: float  # of PostgreSQL, each message
    commit: float
    wait: float  # of a batch, on nobody's CPU
    load: float  # of the load, each message


def fitted(points: Sequence[Point]) -> Costs:
    """Return the costs that explain *points* best; the first has one connection.

    CPU for a message is a line over 1 / batch. With one connection nobody waits for anybody,
    so what is left of its time is about the wait; of waits near it the one is taken with
    which the model's rates are nearest to all that were measured.
    """
    inverse = [1 / point.batch for point in points]
    batch, message = _line(inverse, [point.router_s for point in points])
    commit, row = _line(inverse, [point.postgres_s for point in points])
    load = statistics.fmean(point.load_s for point in points)
    alone = points[0]
    spent = alone.router_s + alone.postgres_s + alone.load_s
    wait = max(1 / alone.rate - spent, LEAST_WAIT_S)
    tried = [
        Costs(message, batch, row, commit, wait * factor, load) for factor in FACTORS
    ]
    return min(tried, key=lambda costs: _distance(costs, points))


def _distance(costs: Costs, points: Sequence[Point]) -> float:
    return sum(
        math.log(Model(costs, point.connections).run(TRIED)[0] / point.rate) ** 2
        for point in points
    )


def _line(xs: Sequence[float], ys: Sequence[float]) -> tuple[float, float]:
    slope, start = statistics.linear_regression(xs, ys)
    # A cost is none below nothing; then the other one explains it alone.
    if slope < 0:
        return 0.0, statistics.fmean(ys)
    if start < 0:
        return statistics.fmean(ys) / statistics.fmean(xs), 0.0
    return slope, start


class Model:
    """A closed loop through the router. `others` is the core that it does not have."""

    def __init__(self, costs: Costs, connections: int) -> None:
        self.env = simpy.Environment()
        self._costs = costs
        self._loop = simpy.Resource(self.env)
        self._others = simpy.Resource(self.env)
        self._inbox = simpy.Store(self.env)
        self._connections, self._unsettled = connections, 0
        self.latencies_s: list[float] = []
        self.batches: list[int] = []

    def run(self, messages: int) -> tuple[float, float, float]:
        """Return the rate, the median latency (ms) and the mean batch of so many messages."""
        for _ in range(WRITERS):
            self.env.process(self._writer())
        for _ in range(self._connections):
            self.env.process(self._client())
        while len(self.latencies_s) < messages:
            self.env.step()
        return (
            messages / self.env.now,
            statistics.median(self.latencies_s) * 1000,
            statistics.fmean(self.batches),
        )

    def _client(self) -> Steps:
        while True:
            yield from self._hold(self._others, self._costs.load)
            began = self.env.now
            yield from self._hold(self._loop, self._costs.message)
            stored = self.env.event()
            self._unsettled += 1
            yield self._inbox.put(stored)
            yield stored
            self._unsettled -= 1
            self.latencies_s.append(self.env.now - began)

    def _writer(self) -> Steps:
        # Whatever has arrived is the batch, up to a share: router/queues/memory.py.
        while True:
            batch = [(yield self._inbox.get())]
            share = min(MOST, max(FEW, math.ceil(self._unsettled / WRITERS)))
            while self._inbox.items and len(batch) < share:
                batch.append((yield self._inbox.get()))
            self.batches.append(len(batch))
            yield from self._hold(self._loop, self._costs.batch)
            yield self.env.timeout(self._costs.wait)
            cost = self._costs.commit + self._costs.row * len(batch)
            yield from self._hold(self._others, cost)
            for stored in batch:
                stored.succeed()

    def _hold(self, resource: simpy.Resource, seconds: float) -> Steps:
        with resource.request() as turn:
            yield turn
            yield self.env.timeout(seconds)
