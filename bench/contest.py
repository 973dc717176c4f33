"""The session of bench/compare.py: who runs, whose turn it is, what was answered.

Between two readings of the clocks of `Contest._turn` lies one turn and nothing else.
"""

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import asyncpg

from bench.comparison import PER, ROUTER, Figures, Turn
from bench.load import Client, Run, closed_loop, post
from bench.machine import HOST, busy_s, cpu_s, peak_rss_mb, postgres_cpu_s
from bench.peers import Peer
from bench.throughput import HANDED_OVER, PENDING, SECRET, STORED
from router.cli.traffic import Body, Traffic

TARGET = f"http://{HOST}/webhook"  # in every request, so that all get the same bytes
CROWD = 3  # messages a person, before anything is measured
CROWD_BATCH = 50
LATE_S = 120.0  # for what a server stores or tells after its last answer
HANG_S = 30.0  # beyond the seconds of a turn

Request = tuple[bytes, Body]


@dataclass(slots=True)
class Contestant:
    """One server, its database, and what it answered 200 to."""

    figures: Figures
    url: str
    pid: int
    connection: asyncpg.Connection | None  # None: it stores nothing
    acked: list[str] = field(default_factory=list)

    @property
    def peer(self) -> Peer:
        """What it is."""
        return self.figures.peer

    async def settled(self, wamids: Sequence[str]) -> None:
        """Wait until *wamids* are stored, where that comes later, and all is told."""
        until = time.perf_counter() + LATE_S
        while self.connection and not await self._settled(self.connection, wamids):
            if time.perf_counter() > until:
                sys.exit(f"{self.peer.name} had work left after {LATE_S:.0f} s")
            await asyncio.sleep(0.05)

    async def _settled(
        self, connection: asyncpg.Connection, wamids: Sequence[str]
    ) -> bool:
        if self.peer.name == ROUTER:
            return not await connection.fetchval(PENDING)
        if self.peer.durable:
            return True
        stored: int = await connection.fetchval(STORED, wamids)
        return stored == len(set(wamids))

    async def missing(self) -> int:
        """Return how many messages were answered 200 and are not in the table."""
        if self.connection is None:
            return 0
        found: int = await self.connection.fetchval(STORED, self.acked)
        return len(set(self.acked)) - found


@dataclass(slots=True)
class Contest:
    """One session: the contestants, in the order of a round."""

    options: argparse.Namespace
    contestants: list[Contestant]
    postmaster: int
    sink: int  # its pid
    bodies: Iterator[Body]

    async def run(self) -> None:
        """Let everybody be known, warm up, measure."""
        await self._crowd(self.options.seed + 1)
        await self._hand_over()
        await self._crowd(self.options.seed + 2)
        await self._execute("vacuum analyze")
        requests = self._requests()
        for contestant in self.contestants:
            await self._turn(contestant, requests, self.options.seconds / 2)
        for number in range(1, self.options.rounds + 1):
            await self._round(number)
        for contestant in self.contestants:
            figures = contestant.figures
            figures.peak_rss_mb = peak_rss_mb(contestant.pid)
            figures.acked = len(contestant.acked)
            figures.missing = await contestant.missing()

    async def _crowd(self, seed: int) -> None:
        people = self.options.contacts
        traffic = Traffic(
            seed=seed, start=int(time.time()), contacts=people, batch=CROWD_BATCH
        )
        bodies = list(traffic.bodies(CROWD * people))
        requests = [(post(TARGET, body.data, SECRET), body) for body in bodies]
        for contestant in self.contestants:
            client = Client(contestant.url, 4)
            for request, body in requests:
                answer = await client.send(request)
                if answer.status != HTTPStatus.OK:
                    sys.exit(f"{contestant.peer.name} answered {answer.status}")
                contestant.acked += body.messages
            client.close()
            await contestant.settled(contestant.acked)

    async def _hand_over(self) -> None:
        # As in bench/throughput.py: most conversations belong to an area. What the router
        # remembers of them is refreshed by the second crowd.
        for contestant in self.contestants:
            if contestant.connection and contestant.peer.name == ROUTER:
                await contestant.connection.execute(HANDED_OVER)

    async def _execute(self, statement: str) -> None:
        for contestant in self.contestants:
            if contestant.connection:
                await contestant.connection.execute(statement)

    def _requests(self) -> list[Request]:
        made = [next(self.bodies) for _ in range(self.options.most)]
        return [(post(TARGET, body.data, SECRET), body) for body in made]

    async def _round(self, number: int) -> None:
        requests = self._requests()
        await self._checkpoint()
        said = []
        for contestant in self.contestants:
            turn = await self._turn(contestant, requests, self.options.seconds)
            contestant.figures.turns.append(turn)
            said.append(f"{contestant.peer.name} {turn.rate:.0f}")
        print(f"round {number}: {', '.join(said)} msg/s", flush=True)

    async def _checkpoint(self) -> None:
        # After it each pays for the first change of a page of its own: all alike.
        connections = [c.connection for c in self.contestants if c.connection]
        await connections[0].execute("checkpoint")

    async def _turn(
        self, contestant: Contestant, requests: list[Request], seconds: float
    ) -> Turn:
        before, began = self._used(contestant), time.perf_counter()
        run = await self._load(contestant, requests, seconds)
        wamids = [w for place in run.acked for w in requests[place][1].messages]
        contestant.acked += wamids
        contestant.figures.refused += run.refused
        await contestant.settled(wamids)
        took = time.perf_counter() - began
        used = [b - a for a, b in zip(before, self._used(contestant), strict=True)]
        return turn(contestant.peer, run, took, used)

    async def _load(
        self, contestant: Contestant, requests: list[Request], seconds: float
    ) -> Run:
        source = for_a_while((request for request, _ in requests), seconds)
        try:
            async with asyncio.timeout(seconds + HANG_S):
                run = await closed_loop(
                    contestant.url, source, self.options.connections
                )
        except TimeoutError:
            sys.exit(f"{contestant.peer.name} does not answer")
        if not run.acked:
            sys.exit(f"{contestant.peer.name} answered nothing with 200")
        return run

    def _used(self, contestant: Contestant) -> tuple[float, float, float, float, float]:
        # CPU seconds so far: server, PostgreSQL, all of ours, the machine's, stolen ones.
        postgres = postgres_cpu_s(self.postmaster)
        pids = [os.getpid(), self.sink, *(c.pid for c in self.contestants)]
        ours = postgres + sum(cpu_s(pid) for pid in pids)
        return cpu_s(contestant.pid), postgres, ours, *busy_s()


def turn(peer: Peer, run: Run, took_s: float, used: Sequence[float]) -> Turn:
    """Return what a run came to; *used* are differences of `Contest._used`."""
    cpu, postgres, ours, busy, stolen = used
    count, machine_s = len(run.acked), took_s * (os.cpu_count() or 1)
    return Turn(
        rate=run.rate if peer.durable else count / took_s,
        answered=run.rate,
        p50_ms=run.percentile_ms(0.5),
        p99_ms=run.percentile_ms(0.99),
        cpu_s=cpu / count * PER,
        postgres_cpu_s=postgres / count * PER,
        foreign=max(0.0, busy - stolen - ours) / machine_s,
        stolen=stolen / machine_s,
    )


def for_a_while(requests: Iterable[bytes], seconds: float) -> Iterator[bytes]:
    """Yield *requests* until so many seconds have passed."""
    until = time.perf_counter() + seconds
    for request in requests:
        if time.perf_counter() > until:
            return
        yield request
