"""The door, with a pipeline that the test settles by hand. No database."""

import asyncio
import io
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from router.config import Settings
from router.destinations.client import HEADERS
from router.errors import Transient
from router.health import Health
from router.model import Delivery, Door
from router.queues.base import Tally
from router.queues.memory import MemoryQueue, WhenFull
from router.stages.ingress import MAX_BODY, OURS, Ingress
from router.stages.rooms import Room
from router.whatsapp.signature import sign

OLD, NEW, SHARED = b"old-secret", b"new-secret", b"shared-secret"
Client = TestClient[web.Request, web.Application]


class DoorOf:
    """An ingress on a real socket, and the queue behind it."""

    def __init__(
        self, *, shared: bytes | None = SHARED, timeout_s: float = 5.0
    ) -> None:
        self.health = Health()
        self.health.store_answers()
        self.inbox: MemoryQueue[Delivery] = MemoryQueue(
            "inbox", bound=2, bound_bytes=10_000, when_full=WhenFull.REFUSE
        )
        settings = Settings(
            database_url="",
            verify_token="token",
            app_secrets=(OLD, NEW),
            shared_secret=shared,
            ack_timeout_s=timeout_s,
        )
        self.ingress = Ingress(settings, self.inbox, self.health)
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_get("/webhook", self.ingress.verification)
        app.router.add_post("/webhook", self.ingress.receive)
        self.client: Client = TestClient(TestServer(app))

    async def post(self, body: bytes, **headers: str) -> tuple[int, str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post("/webhook", data=body, headers=named) as answer:
            return answer.status, await answer.text()

    async def signed(self, body: bytes = b"{}", secret: bytes = NEW) -> tuple[int, str]:
        return await self.post(body, X_Hub_Signature_256=sign(body, secret))

    async def settle(self, tally: Tally = Tally(stored=1)) -> Delivery:  # noqa: B008
        (lease,) = await self.inbox.lease(1)
        lease.ack(tally)
        return lease.item


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., DoorOf]]:
    made: list[DoorOf] = []

    def build(**options: object) -> DoorOf:
        made.append(DoorOf(**options))  # type: ignore[arg-type]
        return made[-1]

    yield build
    for door in made:
        await door.client.close()


@pytest.fixture
async def door(make: Callable[..., DoorOf]) -> DoorOf:
    built = make()
    await built.client.server.start_server(auto_decompress=False)  # as serve does
    await built.client.start_server()
    return built


@pytest.mark.parametrize("secret", [OLD, NEW])
async def test_200_comes_when_the_delivery_is_settled_and_not_before(
    door: DoorOf, secret: bytes
) -> None:
    request = asyncio.create_task(door.signed(b'{"a":1}', secret))
    (lease,) = await door.inbox.lease(1)
    assert not request.done()
    lease.ack(Tally(stored=2, buried=1))
    assert await request == (200, '{"success":true,"processed":2,"failed":1}')
    assert (lease.item.body, lease.item.door) == (b'{"a":1}', Door.META)


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        "sha256=" + "0" * 63,
        "sha1=" + "0" * 40,
        sign(b"{}", b"somebody else's"),
        sign(b"{ }", NEW),
        sign(b"{}", NEW).removeprefix("sha256="),
        "sha256=ñandú",
    ],
)
async def test_a_wrong_signature_is_401_and_nothing_goes_in(
    door: DoorOf, signature: str
) -> None:
    status, _ = await door.post(
        b"{}", X_Hub_Signature_256=signature, X_Webhook_Secret=SHARED.decode()
    )
    assert (status, door.inbox.stats().depth) == (401, 0)


async def test_what_went_out_from_here_is_not_taken_back(door: DoorOf) -> None:
    signed = sign(b"{}", NEW)
    status, _ = await door.post(b"{}", X_Hub_Signature_256=signed, X_Psi_Router="1")
    assert (status, door.inbox.stats().depth) == (422, 0)
    assert OURS.lower() in HEADERS


async def test_two_signatures_are_none(door: DoorOf) -> None:
    headers = [("X-Hub-Signature-256", sign(b"{}", NEW))] * 2
    async with door.client.post("/webhook", data=b"{}", headers=headers) as answer:
        assert answer.status == 401


async def test_the_shared_secret_opens_its_own_door(door: DoorOf) -> None:
    request = asyncio.create_task(door.post(b"[]", X_Webhook_Secret=SHARED.decode()))
    assert (await door.settle()).door is Door.SECRET
    assert (await request)[0] == 200


@pytest.mark.parametrize("secret", ["", "wrong", "shared-secret ñ"])
async def test_a_wrong_shared_secret_is_401(door: DoorOf, secret: str) -> None:
    assert (await door.post(b"[]", X_Webhook_Secret=secret))[0] == 401


async def test_without_a_shared_secret_that_door_is_shut(
    make: Callable[..., DoorOf],
) -> None:
    door = make(shared=None)
    await door.client.start_server()
    assert (await door.post(b"[]", X_Webhook_Secret=""))[0] == 401


async def test_a_body_that_is_too_large_is_413(door: DoorOf) -> None:
    body = io.BytesIO(b"x" * (MAX_BODY + 1))
    async with door.client.post("/webhook", data=body) as answer:
        assert answer.status == 413


async def test_a_chunked_body_that_is_too_large_is_413(door: DoorOf) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 1024 * 1024

    claimed = {"X-Hub-Signature-256": sign(b"", NEW)}
    async with door.client.post("/webhook", data=chunks(), headers=claimed) as answer:
        assert answer.status == 413


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "identity", "xyz"])
async def test_any_content_encoding_is_415(door: DoorOf, coding: str) -> None:
    status, _ = await door.post(b"\x1f\x8b", Content_Encoding=coding)
    assert status == 415


async def test_who_announces_large_bodies_and_sends_none_keeps_no_message_out(
    door: DoorOf,
) -> None:
    server = door.client.server
    head = (
        "POST /webhook HTTP/1.1\r\nHost: x\r\nContent-Length: 4194304\r\n"
        f"X-Hub-Signature-256: {sign(b'', NEW)}\r\n\r\n"
    ).encode()
    idle = [await asyncio.open_connection(server.host, server.port) for _ in range(5)]
    for _, writer in idle:
        writer.write(head)
        await writer.drain()
    request = asyncio.create_task(door.signed())
    await door.settle()
    assert (await request)[0] == 200
    for _, writer in idle:
        writer.close()
        await writer.wait_closed()


async def test_a_wrong_secret_is_401_while_the_database_is_away_too(
    door: DoorOf,
) -> None:
    door.health.store_fails("away", now=door.ingress.clock() - 60)
    assert (await door.post(b"{}", X_Webhook_Secret="wrong"))[0] == 401


async def test_a_packed_body_is_415_and_not_unpacked(door: DoorOf) -> None:
    status, _ = await door.post(b"\x1f\x8b", Content_Encoding="gzip")
    assert status == 415


async def test_a_full_inbox_is_503_with_retry_after(door: DoorOf) -> None:
    waiting = [asyncio.create_task(door.signed()) for _ in range(2)]
    while door.inbox.stats().depth < 2:  # noqa: ASYNC110 -- two posts on their way
        await asyncio.sleep(0)
    headers = {"X-Hub-Signature-256": sign(b"{}", NEW)}
    async with door.client.post("/webhook", data=b"{}", headers=headers) as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
    await door.settle()
    await door.settle()
    assert {status for status, _ in await asyncio.gather(*waiting)} == {200}


async def test_a_commit_that_takes_too_long_is_503(make: Callable[..., DoorOf]) -> None:
    door = make(timeout_s=0.05)
    await door.client.start_server()
    assert (await door.signed())[0] == 503
    await door.settle()  # late, and nobody is hurt
    request = asyncio.create_task(door.signed())
    await door.settle()
    assert (await request)[0] == 200


async def test_a_database_that_is_away_for_long_is_503_at_once(door: DoorOf) -> None:
    door.health.store_fails("away", now=door.ingress.clock() - 60)
    assert (await door.signed())[0] == 503
    assert door.inbox.stats().depth == 0


async def test_a_stop_answers_those_who_wait(door: DoorOf) -> None:
    request = asyncio.create_task(door.signed())
    await door.inbox.lease(1)
    door.ingress.give_up_waiting()
    assert (await request)[0] == 503


async def test_a_closed_connection_leaves_no_lease_hanging(door: DoorOf) -> None:
    request = asyncio.create_task(door.signed())
    (lease,) = await door.inbox.lease(1)
    request.cancel()
    await asyncio.wait([request])
    lease.ack()
    assert door.inbox.stats().unsettled == 0


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("hub.mode=subscribe&hub.verify_token=token&hub.challenge=1158", 200, "1158"),
        ("hub.mode=subscribe&hub.verify_token=wrong&hub.challenge=1158", 403, None),
        ("hub.mode=subscribe&hub.verify_token=&hub.challenge=1158", 403, None),
        ("hub.mode=other&hub.verify_token=token&hub.challenge=1158", 403, None),
        ("hub.mode=subscribe&hub.verify_token=token", 403, None),
        ("hub.mode=subscribe&hub.verify_token=token&hub.challenge=%3Cb%3E", 200, "<b>"),
        ("", 403, None),
    ],
)
async def test_meta_s_verification_gets_its_challenge_as_plain_text(
    door: DoorOf, query: str, status: int, text: str | None
) -> None:
    async with door.client.get(f"/webhook?{query}") as answer:
        assert answer.status == status
        assert answer.content_type == "text/plain"
        if text is not None:
            assert await answer.text() == text


async def test_room_is_lent_first_come_first_served() -> None:
    room = Room(10)
    await room.take(8)
    large = asyncio.create_task(room.take(6))
    await asyncio.sleep(0)
    small = asyncio.create_task(room.take(1))
    await asyncio.sleep(0)
    assert not small.done()  # it would fit, and the large one would starve
    room.give(8)
    await asyncio.gather(large, small)


async def test_room_that_nobody_waits_for_any_more_is_passed_on() -> None:
    room = Room(10)
    await room.take(10)
    leaving, staying = (asyncio.create_task(room.take(10)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait([leaving])
    room.give(10)
    await staying


async def test_a_transient_inbox_is_503(
    door: DoorOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise Transient("the queue's server is away")

    monkeypatch.setattr(door.inbox, "put", fails)
    assert (await door.signed())[0] == 503
