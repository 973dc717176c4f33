"""Bodies that end the process are found out, and from then on buried unread.

A bug in Python kills a worker, and `base` finds the item. One in C, or memory that runs out,
ends the process, and nobody is left to say why. So what a stage has in hand stands in a file
of shared memory, which outlives the process: fingerprints, written before the stage begins
and wiped when it has ended. That costs a hash a body and no system call. What stands there
when a process starts was in hand when the last one died.

Most of it was only near, so it is suspected and nothing more: when it comes again, as Meta
sends again what was not answered, it is tried alone. What the process dies of alone, and alone
again, is the item, by the same count as in `base`. A kill -9 looks the same from here: once in
company and once alone would convict a body that two kills happened to meet, and this does not.
See docs/decisions/0012-quarantine.md.
"""

import asyncio
import contextlib
import functools
import hashlib
import logging
import mmap
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Generic, TypeVar

from router import telemetry
from router.stages.base import Bury, Outcome, Stage

NAME = "in-hand"
TRIALS = 2  # deaths alone, and then it is the item
MOST_IN_HAND = 256  # bodies; a batch has at most 200
MOST_SUSPECTS = 1024
DIGEST = 32  # bytes of SHA-256
REASON = f"quarantined: the process died of it alone, {TRIALS} times"

_HEAD = struct.Struct("<HB")  # how many, whether on trial
_ENTRY = struct.Struct(f"<{DIGEST}sB")  # a suspect, and its deaths alone
_HAND_BYTES = _HEAD.size + MOST_IN_HAND * DIGEST
_HANDS = 3  # of normalize, and of the writers
_COUNT = struct.Struct("<H")
_TABLE = _HANDS * _HAND_BYTES
_BYTES = _TABLE + _COUNT.size + MOST_SUSPECTS * _ENTRY.size

I = TypeVar("I")  # noqa: E741 -- in
O = TypeVar("O")  # noqa: E741 -- out


class Quarantine:
    """What is in hand, and whom the last deaths made suspects of."""

    def __init__(self, directory: Path | None) -> None:
        """Keep the file in *directory*, on tmpfs; without one, do nothing at all.

        To be made once in a process, see `of_this_process`. Raises OSError where the
        directory cannot be written.
        """
        self._memory = None if directory is None else _mapped(directory / NAME)
        self.suspects: dict[bytes, int] = {}
        if self._memory is not None:
            self._look_back(self._memory)

    def watch(
        self,
        stage: Stage[I, O],
        hands: Iterable[int],
        body_of: Callable[[I], bytes],
    ) -> Stage[I, O]:
        """Return *stage* as it is run under watch; *hands* are its own, one a worker."""
        if self._memory is None:
            return stage
        own = [_Hand(self._memory, number) for number in hands]
        return _Watched(stage, self, own, body_of)

    def _look_back(self, memory: mmap.mmap) -> None:
        self.suspects = _read_table(memory)
        for hand in (_Hand(memory, number) for number in range(_HANDS)):
            held, alone = hand.held()
            for digest in held:
                deaths = self.suspects.pop(digest, 0)  # to the end, as the newest
                self.suspects[digest] = min(deaths + alone, TRIALS)
            hand.wipe()
            if held:
                telemetry.event(
                    "died_with_work_in_hand",
                    level=logging.WARNING,
                    bodies=len(held),
                    alone=alone,
                )
        # Kept are the guiltiest, and of those who were only near, the newest.
        ranked = sorted(self.suspects.items(), key=itemgetter(1))
        self.suspects = dict(ranked[-MOST_SUSPECTS:])
        _write_table(memory, self.suspects)


class _Hand:
    """Where one stage says what it has in hand."""

    def __init__(self, memory: mmap.mmap, number: int) -> None:
        self._memory, self._at = memory, number * _HAND_BYTES

    def hold(self, digests: Sequence[bytes], *, alone: bool) -> None:
        held = b"".join(digests)
        start = self._at + _HEAD.size
        self._memory[start : start + len(held)] = held
        _HEAD.pack_into(self._memory, self._at, len(digests), alone)  # last: it counts

    def wipe(self) -> None:
        _HEAD.pack_into(self._memory, self._at, 0, 0)

    def held(self) -> tuple[list[bytes], bool]:
        count, alone = _HEAD.unpack_from(self._memory, self._at)
        start = self._at + _HEAD.size
        places = range(start, start + min(count, MOST_IN_HAND) * DIGEST, DIGEST)
        return [self._memory[p : p + DIGEST] for p in places], bool(alone)


class _Watched(Generic[I, O]):
    """A stage that says what it has in hand, and buries what is known to be deadly."""

    def __init__(
        self,
        stage: Stage[I, O],
        quarantine: Quarantine,
        hands: list[_Hand],
        body_of: Callable[[I], bytes],
    ) -> None:
        self._stage, self._body_of = stage, body_of
        self._free, self._hands = hands, len(hands)
        self._turns = asyncio.Semaphore(self._hands)
        self._trial = asyncio.Lock()
        self._suspects: Mapping[bytes, int] = quarantine.suspects
        self.name = stage.name

    @property
    def limit(self) -> int:
        return self._stage.limit

    async def handle(self, batch: Sequence[I], /) -> Sequence[Outcome[O]]:
        digests = _digests(map(self._body_of, batch))
        if self._suspects.keys().isdisjoint(digests):
            return await self._handled(batch, digests, alone=False)
        outcomes: list[Outcome[O]] = []
        for suspect, items in self._apart(batch, digests):
            if suspect is None:
                found = await self._handled(items, digests, alone=False)
            elif self._suspects[suspect] >= TRIALS:
                found = [Bury(REASON)] * len(items)
            else:
                found = await self._tried(items, suspect)
            outcomes += found
        return outcomes

    def _apart(
        self, batch: Sequence[I], digests: Sequence[bytes]
    ) -> Iterator[tuple[bytes | None, list[I]]]:
        # In the order of the batch: each suspect by itself, and the others between them.
        pairs = zip(digests, batch, strict=True)
        for suspect, group in groupby(pairs, lambda pair: self._named(pair[0])):
            yield suspect, [item for _, item in group]

    def _named(self, digest: bytes) -> bytes | None:
        return digest if digest in self._suspects else None

    async def _tried(self, items: Sequence[I], suspect: bytes) -> Sequence[Outcome[O]]:
        # Alone in the whole stage: no other worker has a batch meanwhile.
        async with self._trial, contextlib.AsyncExitStack() as others:
            for _ in range(self._hands - 1):
                await others.enter_async_context(self._turns)
            return await self._handled(items, [suspect], alone=True)

    async def _handled(
        self, items: Sequence[I], digests: Sequence[bytes], *, alone: bool
    ) -> Sequence[Outcome[O]]:
        async with self._turns:
            hand = self._free.pop()
            hand.hold(list(dict.fromkeys(digests))[:MOST_IN_HAND], alone=alone)
            try:
                return await self._stage.handle(items)
            finally:
                hand.wipe()
                self._free.append(hand)


@functools.cache
def of_this_process(directory: str) -> Quarantine:
    """Return the quarantine in *directory* ('': none): one, however often it is asked for.

    A reload makes another pipeline beside the one that runs: what that one has in hand was
    no death. Where the directory cannot be written, nothing is watched.
    """
    try:
        return Quarantine(Path(directory) if directory else None)
    except OSError as exc:
        telemetry.event(
            "no_quarantine", level=logging.WARNING, reason=type(exc).__name__
        )
        return Quarantine(None)


def _digests(bodies: Iterable[bytes]) -> list[bytes]:
    # The events of one body follow each other: it is hashed once.
    found: list[bytes] = []
    last: bytes | None = None
    for body in bodies:
        same = body is last
        found.append(found[-1] if same else hashlib.sha256(body).digest())
        last = body
    return found


def _mapped(path: Path) -> mmap.mmap:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size != _BYTES:  # new, or of another version
            os.ftruncate(descriptor, 0)
            os.ftruncate(descriptor, _BYTES)
        return mmap.mmap(descriptor, _BYTES)
    finally:
        os.close(descriptor)


def _read_table(memory: mmap.mmap) -> dict[bytes, int]:
    (count,) = _COUNT.unpack_from(memory, _TABLE)
    first = _TABLE + _COUNT.size
    entries = (
        _ENTRY.unpack_from(memory, first + place * _ENTRY.size)
        for place in range(min(count, MOST_SUSPECTS))
    )
    return dict(entries)


def _write_table(memory: mmap.mmap, suspects: Mapping[bytes, int]) -> None:
    first = _TABLE + _COUNT.size
    for place, entry in enumerate(suspects.items()):
        _ENTRY.pack_into(memory, first + place * _ENTRY.size, *entry)
    _COUNT.pack_into(memory, _TABLE, len(suspects))
