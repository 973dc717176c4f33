"""Servers that take turns: A B C ... A B C ..., each with the same requests as the others.

First everybody writes to each of them, so that contacts exist; most conversations then belong
to an area, as most do once somebody answers. Then a warm-up that does not count; then the
rounds. Between two readings of the clocks of `Bed.turn` lies one turn and nothing else.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from bench.bed import Bed
from bench.comparison import Figures
from bench.contestant import CROWDS, Contestant, Request, crowd, signed
from bench.machine import peak_rss_mb
from router.cli.traffic import Body, Traffic

HANDED_OVER = "update conversaciones set router_estado = 'derivada', area = 'Alumnos'"


@dataclass(frozen=True, slots=True)
class Rules:
    """What all contestants are asked."""

    seed: int
    rounds: int
    seconds: float  # of a turn
    most: int = 30_000  # messages of a turn
    contacts: int = 1000
    owner: str = "human"  # of the conversations: an area, or the bot, which answers


async def introduce(contestants: Sequence[Contestant], rules: Rules) -> None:
    """Let everybody be known, hand the conversations over, and tidy the tables."""
    for number, each in enumerate(CROWDS, start=1):
        requests = crowd(rules.seed + number, rules.contacts, each)
        for contestant in contestants:
            # What the router remembers of them is refreshed by the second crowd.
            if number > 1 and contestant.peer.tells and rules.owner == "human":
                await contestant.execute(HANDED_OVER)
            await contestant.crowd(requests)
    for contestant in contestants:
        await contestant.execute("vacuum analyze")


@dataclass(slots=True)
class Entry:
    """Whose turn it is, and in what discipline; `figures` gets a turn a round."""

    contestant: Contestant
    figures: Figures
    connections: int = 50
    batch: int = 1  # updates of a body

    @property
    def discipline(self) -> tuple[int, int]:
        """Who shares it is sent the same requests."""
        return self.connections, self.batch

    def label(self, *, discipline: bool) -> str:
        """Return whose turn it is, and in what discipline where there are several."""
        ways = f" ({self.connections} connections, bodies of {self.batch})"
        return self.figures.name + ways * discipline


def entry(contestant: Contestant, connections: int = 50, batch: int = 1) -> Entry:
    """Return an entry without a turn yet."""
    return Entry(contestant, Figures(contestant.peer), connections, batch)


@dataclass(slots=True)
class Contest:
    """One session: the entries, in the order of a round."""

    bed: Bed
    rules: Rules
    entries: list[Entry]
    _bodies: dict[tuple[int, int], Iterator[Body]] = field(default_factory=dict)

    async def run(self) -> list[Figures]:
        """Let everybody be known, warm up, measure; look for every message."""
        contestants = self.bed.contestants
        await introduce(contestants, self.rules)
        await self._round(self.rules.seconds / 2, max(1, self.rules.most // 5))
        for one in self.entries:
            one.figures.turns.clear()
        for number in range(1, self.rules.rounds + 1):
            await self._checkpoint()
            await self._round(self.rules.seconds, self.rules.most)
            self._say(number)
        for one in self.entries:
            await self._close(one)
        return [one.figures for one in self.entries]

    async def _round(self, seconds: float, most: int) -> None:
        requests: dict[tuple[int, int], list[Request]] = {}
        for one in self.entries:
            if one.discipline not in requests:
                requests[one.discipline] = self._requests(one, most)
            sent = requests[one.discipline]
            turn = await self.bed.turn(one.contestant, sent, seconds, one.connections)
            one.figures.turns.append(turn)

    def _requests(self, one: Entry, most: int) -> list[Request]:
        # Each discipline has ids of its own: what was stored once would be a repeat.
        if one.discipline not in self._bodies:
            traffic = Traffic(
                seed=self.rules.seed + 3 + len(self._bodies),
                start=int(time.time()),
                contacts=self.rules.contacts,
                batch=one.batch,
            )
            self._bodies[one.discipline] = traffic.bodies()
        count = max(one.connections, -(-most // one.batch))
        return signed(islice(self._bodies[one.discipline], count))

    async def _checkpoint(self) -> None:
        # After it each pays for the first change of a page of its own: all alike.
        storing = [c for c in self.bed.contestants if c.connection]
        await storing[0].execute("checkpoint")

    def _say(self, number: int) -> None:
        several = len({one.discipline for one in self.entries}) > 1
        rates = [
            f"{e.label(discipline=several)} {e.figures.turns[-1].rate:.0f}"
            for e in self.entries
        ]
        print(f"round {number}: {', '.join(rates)} msg/s", flush=True)

    async def _close(self, one: Entry) -> None:
        one.figures.peak_rss_mb = peak_rss_mb(one.contestant.pid)
        one.figures.acked = len(one.contestant.acked)
        one.figures.refused = one.contestant.refused
        one.figures.missing = await one.contestant.missing()
