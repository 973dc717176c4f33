"""The shelf on a Redis server: a stream, read by a consumer group.

Every process is a consumer of its own. What it put itself, the same script brings back to it;
what others could not take, it finds when it looks around, once a second. With every script
it also says that it lives. What is pending for a consumer that has not said so for DEAD_S, or
whose process on this machine is gone, is taken over. (XAUTOCLAIM would ask how long an item
has been on loan instead: with a database that is away that may be hours. XINFO's `idle` means
something else before Redis 7.2.)

An answer that is lost leaves it open whether an item was kept. It is refused then, comes
again, and lies there twice; whoever stores it tells the two apart. For the same reason the
client tries nothing again by itself.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import socket
import time
from collections.abc import AsyncIterator, Collection, Hashable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from router import telemetry
from router.errors import ConfigError, Transient
from router.queues.scripts import ALL, KEEP, LEAVE, LOOK, TAKE, WRITE
from router.queues.shelf import Kept, Notes, Room, Sheet

try:
    import redis.asyncio as redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError, ResponseError
except ImportError as exc:
    raise ConfigError("PSI_QUEUE=redis://… needs the extra: psi-router[redis]") from exc

STREAM: Final = "psi:inbox"
BYTES: Final = "psi:inbox:bytes"  # of all items together
ALIVE: Final = "psi:inbox:alive"  # consumer -> when it last said so, by Redis's clock
KEYS: Final = (STREAM, BYTES, ALIVE)
GROUP: Final = "router"
LEFT: Final = b"left"  # the consumer that an ending process hands its items to
CALL_S: Final = 3.0  # one call, whole; a webhook waits for at most 8
TICK_S: Final = 1.0
DEAD_S: Final = 10.0  # of silence: ten times of not looking around
MOST_PENDING: Final = (
    4096  # of one consumer: it holds a window, and what a lost answer held
)
ANY_BYTES: Final = 1 << 40

Call = tuple[str, Sequence[Any]]  # a script, and its arguments past the names


class Streams:
    """The stream, as one process sees it."""

    tick_s = TICK_S
    refuses: str | None = None

    def __init__(self, url: str) -> None:
        """Reach the server at *url*; nothing is asked yet.

        Raises `ConfigError` for an address that the client does not understand.
        """
        try:
            self._client: redis.Redis | None = client(url)  # connects when it is asked
        except (ValueError, TypeError, RedisError) as exc:
            raise ConfigError("PSI_QUEUE is no address of a Redis") from exc
        self._url = url
        self._host = f"{socket.gethostname()}/"
        self._name = f"{self._host}{os.getpid()}/{secrets.token_hex(4)}".encode()
        self._looked_at = float("-inf")
        self._known = False
        self._scripts: dict[str, str] = {}  # as the server calls them
        self.items = self.size_bytes = 0
        self.more = False

    async def open(self, held: Collection[Hashable]) -> Sequence[Kept]:
        """Connect, make the group, and take what was left, the oldest first."""
        self._client = client(self._url)
        async with _answer():
            problem, warning = await durability(self._client)
            if problem:
                raise Transient(f"redis: {problem}")
            await self._make_group(self._client)
            for script in ALL:
                self._scripts[script] = await self._client.script_load(script)
        if warning and not self._known:
            telemetry.event("redis_warning", level=logging.WARNING, problem=warning)
        self._known = True
        room = Room(MOST_PENDING, ANY_BYTES)
        found = await self._take(self._name, room)
        found += await self._take_over(room)
        self.more = True
        return [kept for kept in sorted(found, key=_place) if kept.key not in held]

    async def write(
        self, new: Sequence[Sheet], notes: Notes, room: Room
    ) -> Sequence[Kept]:
        """Write all of it in one script, then read on, and look around now and then."""
        older: list[Kept] = []
        if time.monotonic() - self._looked_at >= TICK_S:
            older = await self._take_over(room)
        left = Room(room.items - len(older), room.size_bytes - sum(map(_size, older)))
        args: list[Any] = [len(notes.done), len(notes.tried)]
        args += (value for kept in notes.done for value in (kept.key, kept.size))
        args += (value for kept, times in notes.tried for value in (kept.key, times))
        calls: list[Call] = [(KEEP, [value for sheet in new for value in sheet])]
        calls = [*(calls if new else ()), (WRITE, [*args, *left])]
        *_, (found, more, self.items, size) = await self._run(*calls)
        self.more, self.size_bytes = bool(more), int(size)
        return [*older, *(_kept(key, flat, 0) for key, flat in found)]

    async def leave(self) -> None:
        """Hand everything that is pending here to whoever looks around next."""
        await self._run((LEAVE, [LEFT, MOST_PENDING]))

    async def close(self) -> None:
        """Hang up."""
        hung_up, self._client = self._client, None
        if hung_up is not None:
            with contextlib.suppress(Transient):
                async with _answer():
                    await hung_up.aclose()

    async def _make_group(self, server: redis.Redis) -> None:
        # Asked for first: a server that is full would refuse to make what is there.
        if await server.exists(STREAM):
            groups = await server.xinfo_groups(STREAM)
            if any(group["name"] == GROUP.encode() for group in groups):
                return
        try:
            await server.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
        except ResponseError as exc:
            if not str(exc).startswith("BUSYGROUP"):
                raise
        if self._known:
            telemetry.event("redis_group_lost", level=logging.ERROR)

    async def _take_over(self, room: Room) -> list[Kept]:
        taken: list[Kept] = []
        (others,) = await self._run((LOOK, []))
        for name, silent_ms in others:
            left = room.items - len(taken), room.size_bytes - sum(map(_size, taken))
            if min(left) > 0 and self._is_dead(name, silent_ms / 1000):
                taken += await self._take(name, Room(*left))
        self._looked_at = time.monotonic()
        return taken

    def _is_dead(self, name: bytes, silent_s: float) -> bool:
        if name == LEFT or silent_s > DEAD_S:
            return True
        host, _, rest = name.decode(errors="replace").partition("/")
        pid = rest.partition("/")[0]
        return f"{host}/" == self._host and pid.isdigit() and not _runs(int(pid))

    async def _take(self, name: bytes, room: Room) -> list[Kept]:
        (found,) = await self._run((TAKE, [name, *room]))
        if found and name != self._name:
            telemetry.event("redis_taken_over", items=len(found))
        return [_kept(key, flat, tries) for key, flat, tries in found]

    async def _run(self, *calls: Call) -> list[Any]:
        """Run scripts in one round trip; return what each of them returns."""
        if self._client is None:
            raise Transient("redis: not connected")
        async with _answer():
            pipeline = self._client.pipeline(transaction=False)
            for script, args in calls:
                pipeline = pipeline.pipeline_execute_command(  # type: ignore[no-untyped-call]
                    "EVALSHA",
                    self._scripts[script],
                    len(KEYS),
                    *KEYS,
                    GROUP,
                    self._name,
                    *args,
                )
            answers: list[Any] = await pipeline.execute(raise_on_error=False)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        return answers


def client(url: str) -> redis.Redis:
    """Return a client that tries nothing again, and waits for as long as it is told."""
    return redis.Redis.from_url(
        url,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=None,
        socket_connect_timeout=CALL_S,
    )


async def ask(url: str) -> tuple[str, str]:
    """Return what `durability` says of the server at *url*; raise `Transient` without one."""
    server = client(url)
    try:
        async with _answer():
            return await durability(server)
    finally:
        await server.aclose()


async def durability(server: redis.Redis) -> tuple[str, str]:
    """Return why what *server* answers may be lost, and what cannot be told; '' for neither.

    Raises RedisError where it does not answer.
    """
    try:
        found = await server.config_get("append*", "maxmemory-policy")
    except ResponseError:  # a server of others' often hides its settings
        if not (await server.info("persistence")).get("aof_enabled"):
            return "not durable: it keeps no append-only file", ""
        return "", "whether each answer is on its disk cannot be told"
    if found.get("appendonly") != "yes":
        return "not durable: appendonly is not yes", ""
    if found.get("appendfsync") != "always":
        return "not durable: appendfsync is not always", ""
    if (found.get("maxmemory-policy") or "").startswith("allkeys"):
        return "not durable: maxmemory-policy lets it throw our stream away", ""
    return "", ""


@asynccontextmanager
async def _answer() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(CALL_S):
            yield
    except TimeoutError:
        raise Transient(f"redis: no answer in {CALL_S:.0f} s") from None
    except (RedisError, OSError) as exc:
        # Its first word may be a code; the rest may quote what was sent.
        code = str(exc).partition(" ")[0]
        name = code if code.isupper() and code.isalpha() else type(exc).__name__
        raise Transient(f"redis: {name}") from exc


def _kept(key: bytes, flat: Sequence[bytes], tries: int) -> Kept:
    fields = dict(zip(flat[::2], flat[1::2], strict=True))
    size = fields.get(b"s", b"")
    return Kept(
        key=key,
        lane=fields.get(b"l", b"").decode(errors="replace"),
        size=int(size) if size.isdigit() else 0,
        packed=fields.get(b"b", b""),
        tries=tries,
        put_at=int(key.partition(b"-")[0]) / 1000,
    )


def _place(kept: Kept) -> tuple[int, ...]:
    assert isinstance(kept.key, bytes)  # noqa: S101 -- a stream's
    return tuple(map(int, kept.key.split(b"-")))


def _size(kept: Kept) -> int:
    return kept.size


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    return True
