"""The short way past aiohttp: the same answers, and whatever is unusual goes to aiohttp."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import NamedTuple

import pytest
from aiohttp import web

from router.config import Settings
from router.health import Health
from router.model import Delivery, Door
from router.queues.base import Tally
from router.queues.memory import MemoryQueue, WhenFull
from router.shortcut import Shortcuts, parsed
from router.stages.ingress import MAX_BODY, SMALL_BYTES, Ingress
from router.whatsapp.signature import sign

SECRET = b"secret"
PATHS = frozenset({b"/webhook"})
BODY = b'{"a":1}'


def head(*more: str, path: str = "/webhook", body: bytes = BODY) -> str:
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: router.test",
        f"Content-Length: {len(body)}",
        f"X-Hub-Signature-256: {sign(body, SECRET)}",
        *more,
    )
    return "\r\n".join(lines)


def request(*more: str, path: str = "/webhook", body: bytes = BODY) -> bytes:
    return head(*more, path=path, body=body).encode("latin-1") + b"\r\n\r\n" + body


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Served:
    """A real socket with the shortcut on it, and aiohttp behind."""

    def __init__(self) -> None:
        self.health = Health()
        self.health.store_answers()
        self.inbox: MemoryQueue[Delivery] = MemoryQueue(
            "inbox", bound=2, bound_bytes=1_000_000, when_full=WhenFull.REFUSE
        )
        settings = Settings(
            database_url="",
            verify_token="token",
            app_secrets=(SECRET,),
            shared_secret=b"shared",
            ack_timeout_s=1.0,
        )
        self.ingress = Ingress(settings, self.inbox, self.health)
        self.by_aiohttp = 0
        self.peers: list[Peer] = []

        async def receive(request: web.Request) -> web.Response:
            self.by_aiohttp += 1
            return await self.ingress.receive(request)

        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_get("/webhook", self.ingress.verification)
        app.router.add_post("/webhook", receive)
        self.runner = web.AppRunner(app, access_log=None, auto_decompress=False)

    async def start(self) -> None:
        await self.runner.setup()
        assert self.runner.server is not None
        self.shortcuts = Shortcuts(self.ingress, ["/webhook"], self.runner.server)
        self.server = await asyncio.get_running_loop().create_server(
            self.shortcuts, "127.0.0.1", 0
        )
        self.port = self.server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        for peer in self.peers:
            peer.writer.transport.abort()
        self.server.close()
        await self.shortcuts.close(1.0)
        await self.runner.cleanup()

    async def connect(self) -> "Peer":
        self.peers.append(Peer(*await asyncio.open_connection("127.0.0.1", self.port)))
        return self.peers[-1]

    async def settle(self, tally: Tally = Tally(stored=1)) -> Delivery:  # noqa: B008
        (lease,) = await self.inbox.lease(1)
        lease.ack(tally)
        return lease.item


class Peer:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> Answer:
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = raw.strip().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await self.reader.readexactly(int(headers["content-length"]))
        return Answer(int(first.split()[1]), headers, body)

    async def closed(self) -> bool:
        return await self.reader.read() == b""


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    served = Served()
    await served.start()
    yield served
    await served.stop()


async def test_the_usual_request_is_answered_when_it_is_settled(served: Served) -> None:
    peer = await served.connect()
    for _ in range(3):  # one connection, kept
        peer.send(request())
        delivery = await served.settle()
        assert (delivery.body, delivery.door) == (BODY, Door.META)
        answer = await peer.answer()
        assert (answer.status, answer.body) == (
            200,
            b'{"success":true,"processed":1,"failed":0}',
        )
        assert answer.headers["content-type"] == "application/json"
        assert "connection" not in answer.headers
    assert served.by_aiohttp == 0


@pytest.mark.parametrize("size", [1, 40, 150])
async def test_a_request_in_pieces_is_the_same_one(served: Served, size: int) -> None:
    peer, data = await served.connect(), request()
    for begin in range(0, len(data), size):
        peer.send(data[begin : begin + size])
        await peer.writer.drain()
        await asyncio.sleep(0)
    assert (await served.settle()).body == BODY
    assert (await peer.answer()).status == 200


async def test_requests_in_one_piece_are_answered_one_after_the_other(
    served: Served,
) -> None:
    peer = await served.connect()
    bodies = [b'{"n":%d}' % n for n in range(3)]
    peer.send(b"".join(request(body=body) for body in bodies))
    for body in bodies:
        assert (await served.settle()).body == body
        assert (await peer.answer()).status == 200
    assert served.by_aiohttp == 2  # it bounds what it holds of such a sender


async def test_who_pipelines_and_reads_no_answer_is_held_back(served: Served) -> None:
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", served.port)) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.setblocking(False)
        wrong = request().replace(b"sha256=", b"sha999=", 1) * 200

        async def pour() -> None:
            for _ in range(1000):  # some fifty megabytes
                await loop.sock_sendall(peer, wrong)

        pouring = asyncio.create_task(pour())
        await asyncio.wait({pouring}, timeout=1.0)
        assert pouring.cancel()


def test_who_says_twice_what_becomes_of_the_connection_is_believed() -> None:
    both = head("Connection: keep-alive", "Connection: close").encode()
    found = parsed(both, PATHS)
    assert found is not None
    assert found.last


async def test_a_wrong_signature_is_401(served: Served) -> None:
    peer = await served.connect()
    peer.send(request().replace(BODY, b'{"a":2}'))
    assert (await peer.answer()).status == 401
    assert served.inbox.stats().depth == 0


async def test_what_is_not_durable_in_time_is_503_with_retry_after(
    served: Served,
) -> None:
    peer = await served.connect()
    peer.send(request())
    answer = await peer.answer()
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")


async def test_who_says_that_it_is_the_last_one_is_closed_after_its_answer(
    served: Served,
) -> None:
    peer = await served.connect()
    peer.send(request("Connection: close"))
    await served.settle()
    answer = await peer.answer()
    assert (answer.status, answer.headers["connection"]) == (200, "close")
    assert await peer.closed()
    assert served.by_aiohttp == 0


async def test_while_stopping_every_answer_is_a_connection_s_last(
    served: Served,
) -> None:
    peer = await served.connect()
    peer.send(request())
    (lease,) = await served.inbox.lease(1)
    served.health.stopping_since = 0.0
    lease.ack(Tally(stored=1))
    assert (await peer.answer()).headers["connection"] == "close"
    assert await peer.closed()


async def test_an_idle_connection_is_closed_at_the_stop_and_a_busy_one_answered(
    served: Served,
) -> None:
    idle, busy = await served.connect(), await served.connect()
    busy.send(request())
    (lease,) = await served.inbox.lease(1)
    end = asyncio.create_task(served.shortcuts.close(5.0))
    assert await idle.closed()
    lease.ack(Tally(stored=1))
    assert (await busy.answer()).status == 200
    await end


async def test_a_sender_that_leaves_costs_its_delivery_nothing(served: Served) -> None:
    peer = await served.connect()
    peer.send(request())
    (lease,) = await served.inbox.lease(1)
    peer.writer.transport.abort()
    while served.shortcuts.open:  # noqa: ASYNC110 -- a connection tells nobody
        await asyncio.sleep(0)
    lease.ack(Tally(stored=1))
    assert served.inbox.stats().unsettled == 0


async def test_everything_else_is_aiohttp_s_on_the_same_connection(
    served: Served,
) -> None:
    peer = await served.connect()
    peer.send(request())
    await served.settle()
    await peer.answer()
    peer.send(
        b"GET /webhook?hub.mode=subscribe&hub.verify_token=token&hub.challenge=42"
        b" HTTP/1.1\r\nHost: x\r\n\r\n"
    )
    assert (await peer.answer()).body == b"42"
    peer.send(request())  # and it stays there
    await served.settle()
    assert (await peer.answer()).status == 200
    assert served.by_aiohttp == 1


async def test_a_beginning_that_never_ends_is_left_to_aiohttp(served: Served) -> None:
    peer = await served.connect()
    peer.send(request()[:-2])
    while not any(c._held for c in served.shortcuts.open):  # noqa: ASYNC110
        await asyncio.sleep(0)
    for connection in tuple(served.shortcuts.open):
        connection.sweep(served.shortcuts.loop.time() + 11)
    assert not served.shortcuts.open
    peer.send(request()[-2:])
    assert (await served.settle()).body == BODY
    assert (await peer.answer()).status == 200
    assert served.by_aiohttp == 1


def test_the_usual_form() -> None:
    found = parsed(
        head("User-Agent: facebookexternalua", "Accept: */*").encode(), PATHS
    )
    assert found == (len(BODY), sign(BODY, SECRET), False)
    assert parsed(head("connection: Keep-Alive").encode(), PATHS) == found


@pytest.mark.parametrize(
    "more",
    [
        "Transfer-Encoding: chunked",
        "Content-Encoding: gzip",
        "Connection: upgrade",
        "Connection: close, te",
        "Connection: keep-alive\r\nConnection: upgrade",
        "Connection: keep-alive\r\nConnection: close\r\nConnection: te",
        "Upgrade: h2c",
        "Expect: 100-continue",
        "X-Webhook-Secret: shared",
        "X-Psi-Router: 1",
        "Content-Length: 7",
        "Host: other",
        "X-Hub-Signature-256: sha256=00",
        "Folded: one\r\n two",
        "Space before : colon",
        "Bad\x00: name",
        "Bad: \x00value",
        "Bad: \nvalue",
        "NoColon",
    ],
)
def test_whatever_is_unusual_is_not_taken(more: str) -> None:
    assert parsed(head(more).encode("latin-1"), PATHS) is None


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("POST /webhook", "POST /webhook?a=1"),
        ("POST /webhook", "POST /other"),
        ("POST", "post"),
        ("POST", "GET"),
        ("HTTP/1.1", "HTTP/1.0"),
        ("HTTP/1.1", "HTTP/2.0"),
        ("POST /webhook", "POST  /webhook"),
        ("Content-Length: 7", "Content-Length: +7"),
        ("Content-Length: 7", "Content-Length: 7, 7"),
        ("Content-Length: 7", f"Content-Length: {SMALL_BYTES + 1}"),
        ("Content-Length: 7", "Content-Length: 0007777777"),
        ("Host: router.test\r\n", ""),
        ("sha256=", "sha 256="),
    ],
)
def test_whatever_differs_is_not_taken(old: str, new: str) -> None:
    assert parsed(head().replace(old, new).encode(), PATHS) is None
