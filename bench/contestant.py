"""A server under measurement: its ledger of what it answered 200 to, and its turns."""

import asyncio
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

import asyncpg

from bench.load import HANG_S, Client, Run, closed_loop, post
from bench.machine import HOST
from bench.peers import Peer
from router.cli.traffic import Body, Traffic

SECRET = b"app-secret-of-the-bench"
TARGET = f"http://{HOST}/webhook"  # in every request, so that all get the same bytes
PER = 10_000  # messages that CPU seconds are given for
LATE_S = 300.0  # for what a server stores or tells after its last answer
CROWD_BATCH = 50
CROWDS = (3, 8)  # messages a person; three people in ten thousand are not in the second
PENDING = "select exists (select from router.outbox where state = 'pending')"
STORED = """
select count(distinct whatsapp_message_id) from mensajes
where whatsapp_message_id = any($1::text[])"""

Request = tuple[bytes, Body]


@dataclass(frozen=True, slots=True)
class Turn:
    """What one server did in one turn."""

    rate: float  # messages answered 200 and, where it stores at all, stored, per second
    answered: float  # messages answered 200 per second
    p50_ms: float
    p99_ms: float
    cpu_s: float  # of the server, per 10,000 messages
    postgres_cpu_s: float  # per 10,000
    foreign: float  # share of the machine's CPU that nobody of ours used
    stolen: float  # share that the host took


@dataclass(slots=True)
class Contestant:
    """One server, its database, and what it answered 200 to."""

    peer: Peer
    url: str
    pid: int
    dsn: str
    connection: asyncpg.Connection | None  # None: it stores nothing
    acked: list[str] = field(default_factory=list)
    refused: int = 0

    def note(self, run: Run, requests: Sequence[Request]) -> list[str]:
        """Enter what *run* came to in the ledger; return what was answered 200."""
        wamids = [w for place in run.acked for w in requests[place][1].messages]
        self.acked += wamids
        self.refused += run.refused
        return wamids

    async def crowd(self, requests: Sequence[Request]) -> None:
        """Send *requests* one by one until the last is stored; exit at the first refusal."""
        client = Client(self.url, 1)
        for request, body in requests:
            answer = await client.send(request)
            if answer.status != HTTPStatus.OK:
                sys.exit(f"{self.peer.name} answered {answer.status}")
            self.acked += body.messages
        client.close()
        await self.settled(self.acked)

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
        if self.peer.tells:
            return not await connection.fetchval(PENDING)
        if self.peer.durable:
            return True
        stored: int = await connection.fetchval(STORED, wamids)
        return stored == len(set(wamids))

    async def execute(self, statement: str) -> None:
        """Run *statement* in its database, if it has one."""
        if self.connection:
            await self.connection.execute(statement)

    async def missing(self) -> int:
        """Return how many messages were answered 200 and are not in the table."""
        if self.connection is None:
            return 0
        found: int = await self.connection.fetchval(STORED, self.acked)
        return len(set(self.acked)) - found


async def losses(contestants: Iterable[Contestant]) -> list[str]:
    """Return, in words, who answered 200 to what is not in its table."""
    found = [(one, await one.missing()) for one in contestants]
    return [
        loss(one.peer.name, missing, len(one.acked))
        for one, missing in found
        if missing
    ]


def loss(name: str, missing: int, acked: int) -> str:
    """Return in words what was lost."""
    return f"{name}: {missing} of {acked} messages answered 200 are not in the table"


def signed(bodies: Iterable[Body]) -> list[Request]:
    """Return the requests that carry *bodies*: made before the load needs its core."""
    return [(post(TARGET, body.data, SECRET), body) for body in bodies]


def crowd(seed: int, people: int, each: int) -> list[Request]:
    """Return requests in which everybody has written, so that contacts exist."""
    traffic = Traffic(
        seed=seed, start=int(time.time()), contacts=people, batch=CROWD_BATCH
    )
    return signed(traffic.bodies(each * people))


async def full_load(
    contestant: Contestant,
    requests: Sequence[Request],
    seconds: float,
    connections: int,
) -> Run:
    """Send for so many seconds; exit where no answer comes, or no 200."""
    source = for_a_while((request for request, _ in requests), seconds)
    name = contestant.peer.name
    try:
        async with asyncio.timeout(seconds + HANG_S):
            run = await closed_loop(contestant.url, source, connections)
    except TimeoutError:
        sys.exit(f"{name} does not answer")
    if not run.acked:
        sys.exit(f"{name} answered nothing with 200")
    return run


def turn(
    peer: Peer, run: Run, messages: int, took_s: float, used: Sequence[float]
) -> Turn:
    """Return what a run came to; *used* are differences of `Bed._used`."""
    cpu, postgres, ours, busy, stolen = used
    machine_s = took_s * (os.cpu_count() or 1)
    answered = messages / run.took_s
    return Turn(
        rate=answered if peer.durable else messages / took_s,
        answered=answered,
        p50_ms=run.percentile_ms(0.5),
        p99_ms=run.percentile_ms(0.99),
        cpu_s=cpu / messages * PER,
        postgres_cpu_s=postgres / messages * PER,
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
