"""One attempt, against a server that does everything wrong."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from router import __version__
from router.config import Destination
from router.destinations import signing
from router.destinations.client import WebhookClient
from router.destinations.line import ANSWER_BYTES
from router.model import Attempt, Notification
from tests.misbehaving import Misbehaving
from tests.servers import until

OLD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ROW = Notification(1, "crm", "psi_1", "lane", '{"text":"¡año!"}'.encode(), 0)


@pytest.fixture
async def server() -> AsyncIterator[Misbehaving]:
    async with Misbehaving() as server:
        yield server


@pytest.fixture
async def client() -> AsyncIterator[WebhookClient]:
    async with WebhookClient(signing_secrets=(OLD,), allow_private=("",)) as client:
        yield client


def crm(url: str, timeout_s: float = 5.0) -> Destination:
    return Destination(name="crm", url=url, timeout_s=timeout_s)


async def tell(client: WebhookClient, url: str, timeout_s: float = 5.0) -> Attempt:
    return await client.tell(crm(url, timeout_s), ROW)


async def test_a_notification_is_a_signed_post_of_the_very_bytes(
    server: Misbehaving, client: WebhookClient
) -> None:
    attempt = await tell(client, server.url("answer/200"))
    assert (attempt.status, attempt.error) == (200, None)
    assert attempt.answer == '{"ok":true}'
    (request,) = server.requests
    assert request.body == ROW.payload
    assert request.headers["webhook-id"] == "psi_1"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == f"psi-router/{__version__}"
    assert request.headers["x-psi-router"] == "1"
    assert request.headers["accept-encoding"] == "identity"
    Webhook(OLD).verify(request.body, request.headers)


async def test_while_secrets_change_either_opens_the_signature(
    server: Misbehaving,
) -> None:
    async with WebhookClient(signing_secrets=(NEW, OLD), allow_private=()) as client:
        await tell(client, server.url("answer/200"))
    (request,) = server.requests
    for secret in (OLD, NEW):
        Webhook(secret).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 32).verify(request.body, request.headers)


async def test_without_a_secret_the_other_two_headers_go_out_alone(
    server: Misbehaving,
) -> None:
    async with WebhookClient(signing_secrets=(), allow_private=()) as client:
        await tell(client, server.url("answer/200"))
    (request,) = server.requests
    assert "webhook-signature" not in request.headers
    assert {"webhook-id", "webhook-timestamp"} <= request.headers.keys()


@given(
    st.text(st.characters(codec="ascii", min_codepoint=33)), st.text(), st.integers(0)
)
def test_signatures_are_those_of_the_reference_library(
    key: str, text: str, timestamp: int
) -> None:
    at = datetime.fromtimestamp(timestamp % 4_000_000_000, UTC)
    body = text.encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    made = signing.headers(key, int(at.timestamp()), body, signing.keys([OLD, NEW]))
    wanted = [Webhook(secret).sign(key, at, body.decode()) for secret in (OLD, NEW)]
    assert made["webhook-signature"] == " ".join(wanted)


@pytest.mark.parametrize("secret", ["whsec_", "whsec_not base64!"])
def test_a_secret_that_is_none_is_an_error(secret: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 -- binascii's own or ours
        signing.keys([secret])


async def test_a_connection_is_used_again(
    server: Misbehaving, client: WebhookClient
) -> None:
    for status in (200, 503, 410):
        await tell(client, server.url(f"answer/{status}"))
    assert {request.connection for request in server.requests} == {1}


async def test_a_connection_that_was_dropped_meanwhile_costs_no_attempt(
    server: Misbehaving, client: WebhookClient
) -> None:
    told = [(await tell(client, server.url("once"))).status for _ in range(3)]
    assert told == [200, 200, 200]
    assert [request.connection for request in server.requests] == [1, 1, 2, 2, 3]
    assert {request.headers["webhook-id"] for request in server.requests} == {"psi_1"}


async def test_a_new_connection_that_is_dropped_is_a_failure(
    server: Misbehaving, client: WebhookClient
) -> None:
    await tell(client, server.url("answer/200"))
    assert (await tell(client, server.url("close"))).error
    assert [request.connection for request in server.requests] == [1, 1, 2]
    assert (await tell(client, server.url("answer/200"))).status == 200


async def test_a_connection_that_nobody_uses_is_closed(
    server: Misbehaving, client: WebhookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.destinations.dial.KEEPALIVE_S", 0.05)
    await asyncio.gather(*[tell(client, server.url("answer/200")) for _ in range(3)])
    assert server.open_connections == 3
    await until(lambda: server.open_connections == 0)
    assert (await tell(client, server.url("answer/200"))).status == 200


ANSWERS = {
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;x=y\r\nabc\r\n4\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n",
    "interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefg",
    "no reason": b"HTTP/1.1 200\r\nContent-Length:7\r\n\r\nabcdefg",
}


@pytest.mark.parametrize("form", ANSWERS)
async def test_an_answer_may_have_any_form_of_http(
    server: Misbehaving, client: WebhookClient, form: str
) -> None:
    server.answer = ANSWERS[form]
    for _ in range(2):
        attempt = await tell(client, server.url("raw"))
        assert (attempt.status, attempt.answer, attempt.error) == (200, "abcdefg", None)
    assert {request.connection for request in server.requests} == {1}


@pytest.mark.parametrize(
    "more", [b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", b"\0\0\0", b"HTTP/1."]
)
async def test_what_nobody_asked_for_answers_nobody(
    server: Misbehaving, client: WebhookClient, more: bytes
) -> None:
    server.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na" + more
    for _ in range(3):
        attempt = await tell(client, server.url("raw"))
        assert (attempt.status, attempt.answer, attempt.error) == (200, "a", None)
    assert [request.connection for request in server.requests] == [1, 2, 3]


@pytest.mark.parametrize(
    "tail", [b"1\r\nx\r\n" * 200_000, b"0\r\nx: " + b"y" * 2_000_000]
)
async def test_an_answer_in_crumbs_or_with_an_endless_trailer_holds_nobody_up(
    server: Misbehaving, client: WebhookClient, tail: bytes
) -> None:
    server.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + tail
    busy_s = time.process_time()
    attempt = await tell(client, server.url("raw"))
    assert (attempt.status, attempt.error) == (200, None)
    assert time.process_time() - busy_s < 1.0
    assert (await tell(client, server.url("answer/200"))).status == 200
    assert [request.connection for request in server.requests] == [1, 2]


async def test_what_an_interim_answer_says_is_not_said_of_the_answer(
    server: Misbehaving, client: WebhookClient
) -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\nRetry-After: 99\r\n\r\n"
    server.answer = hints + b"HTTP/1.1 503 No\r\n\r\nall of it"
    server.ends = True
    attempt = await tell(client, server.url("raw"))
    assert (attempt.status, attempt.answer, attempt.error) == (503, "all of it", None)
    assert attempt.retry_after_s is None


async def test_a_request_that_somebody_may_have_worked_on_waits_for_the_schedule(
    server: Misbehaving, client: WebhookClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.destinations.dial.STALE_S", -1.0)
    assert (await tell(client, server.url("once"))).status == 200
    assert (await tell(client, server.url("once"))).error
    assert [request.connection for request in server.requests] == [1, 1]


async def test_an_answer_to_the_end_of_the_connection_is_whole(
    server: Misbehaving, client: WebhookClient
) -> None:
    server.answer, server.ends = b"HTTP/1.0 201 OK\r\n\r\nall of it", True
    attempt = await tell(client, server.url("raw"))
    assert (attempt.status, attempt.answer, attempt.error) == (201, "all of it", None)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nContent-Length: one\r\n\r\na",
        b"HTTP/2 200\r\n\r\n",
    ],
)
async def test_what_can_be_read_in_two_ways_is_no_answer(
    server: Misbehaving, client: WebhookClient, answer: bytes
) -> None:
    server.answer = answer
    attempt = await tell(client, server.url("raw"))
    assert (attempt.status, attempt.error) == (None, "BadAnswer")


async def test_a_key_that_is_no_header_is_sent_nowhere(
    server: Misbehaving, client: WebhookClient
) -> None:
    row = replace(ROW, key="psi_1\r\nx-evil: 1")
    attempt = await client.tell(crm(server.url("answer/200")), row)
    assert (attempt.status, attempt.error) == (None, "ValueError")
    assert server.requests == []


@pytest.mark.parametrize("status", [200, 204, 400, 401, 404, 410, 413, 429, 500, 503])
async def test_a_status_is_told_as_it_is(
    server: Misbehaving, client: WebhookClient, status: int
) -> None:
    server.answer = b""
    attempt = await tell(client, server.url(f"answer/{status}"))
    assert (attempt.status, attempt.error, attempt.answer) == (status, None, None)


@pytest.mark.parametrize("behaviour", ["hang", "drip-headers"])
async def test_no_answer_in_time_is_a_timeout(
    server: Misbehaving, client: WebhookClient, behaviour: str
) -> None:
    attempt = await tell(client, server.url(behaviour), timeout_s=0.2)
    assert (attempt.status, attempt.error) == (None, "timeout")
    assert 150 <= attempt.latency_ms < 2000


async def test_an_answer_that_drips_is_cut_off(
    server: Misbehaving, client: WebhookClient
) -> None:
    attempt = await tell(client, server.url("drip"), timeout_s=0.3)
    assert (attempt.status, attempt.error) == (200, "timeout")
    assert attempt.answer
    assert set(attempt.answer) == {"."}


async def test_a_connection_reset_in_the_headers_is_no_answer(
    server: Misbehaving, client: WebhookClient
) -> None:
    attempt = await tell(client, server.url("reset/headers"))
    assert attempt.status is None
    assert attempt.error


async def test_a_connection_reset_in_the_body_keeps_the_status(
    server: Misbehaving, client: WebhookClient
) -> None:
    server.status = 500
    attempt = await tell(client, server.url("reset/body"))
    assert (attempt.status, attempt.answer) == (500, "half of")
    assert attempt.error


async def test_of_an_endless_answer_64_kb_are_read(
    server: Misbehaving, client: WebhookClient
) -> None:
    attempt = await tell(client, server.url("endless"))
    assert attempt.status == 200
    assert attempt.answer == "x" * 500
    # The rest lies in the buffers of two sockets, not in the router.
    assert server.sent_bytes < 200 * ANSWER_BYTES


async def test_a_packed_answer_is_not_unpacked(
    server: Misbehaving, client: WebhookClient
) -> None:
    attempt = await tell(client, server.url("bomb"))
    assert attempt.status == 200
    assert attempt.answer
    assert attempt.answer.startswith("\x1f")  # gzip's first byte, not what it holds
    assert "\0" not in attempt.answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(
    server: Misbehaving, client: WebhookClient, status: int
) -> None:
    async with Misbehaving() as trap:
        server.redirect_to = trap.url("answer/200")
        attempt = await tell(client, server.url(f"redirect/{status}"))
        assert (attempt.status, trap.requests) == (status, [])


@pytest.mark.parametrize("behaviour", ["long-headers", "nonsense", "close"])
async def test_what_is_no_answer_is_an_attempt_that_failed(
    server: Misbehaving, client: WebhookClient, behaviour: str
) -> None:
    attempt = await tell(client, server.url(behaviour))
    assert attempt.status is None
    assert attempt.error


async def test_retry_after_is_heard(server: Misbehaving, client: WebhookClient) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    heard = []
    for value in ("120", date, "whenever", "-3", "9999999"):
        server.headers = {"Retry-After": value}
        heard.append((await tell(client, server.url("answer/429"))).retry_after_s)
    seconds, until_date, garbage, negative, huge = heard
    assert (seconds, garbage, negative, huge) == (120, None, None, 86400)
    assert until_date is not None
    assert 95 < until_date <= 100


async def test_an_answer_is_kept_as_text_that_can_be_stored(
    server: Misbehaving, client: WebhookClient
) -> None:
    server.answer = b"\xff\x00" + "ñ".encode() * 1000
    attempt = await tell(client, server.url("answer/500"))
    assert attempt.answer == "\ufffd\ufffd" + "ñ" * 498


async def test_nobody_listening_is_an_attempt_that_failed(
    client: WebhookClient,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sleeper:
        port = sleeper.getsockname()[1]
    attempt = await tell(client, f"http://127.0.0.1:{port}/")
    assert attempt == replace(
        Attempt(error="ConnectionRefusedError ECONNREFUSED"),
        latency_ms=attempt.latency_ms,
    )


async def test_no_error_quotes_the_url_or_the_body(
    server: Misbehaving, client: WebhookClient
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sleeper:
        port = sleeper.getsockname()[1]
    urls = [
        f"http://user:s3cret@127.0.0.1:{port}/t0ken",
        "http://user:s3cret@no-such-host.invalid/t0ken",
        "http://user:s3cret@host:99999/t0ken",
        "http://user:s3cret@/t0ken",
        f"https://user:s3cret@127.0.0.1:{server.port}/t0ken",
        server.url("reset/body?t0ken").replace("//", "//user:s3cret@"),
    ]
    for url in urls:
        attempt = await tell(client, url)
        assert attempt.error, url
        for secret in ("s3cret", "t0ken", "año", "user"):
            assert secret not in attempt.error


async def test_https_never_falls_back(
    server: Misbehaving, client: WebhookClient
) -> None:
    url = server.url("answer/200").replace("http:", "https:")
    attempt = await tell(client, url, timeout_s=2)
    assert attempt.status is None
    assert attempt.error
    assert server.requests == []


async def test_being_cancelled_is_no_attempt(
    server: Misbehaving, client: WebhookClient
) -> None:
    telling = asyncio.create_task(tell(client, server.url("hang")))
    await until(lambda: server.requests)
    telling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await telling


class Names(AbstractResolver):
    """A resolver in somebody else's hand."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: int = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self.addresses
        ]

    async def close(self) -> None:
        pass


class NoAnswer(Names):
    """A resolver that is asked and never answers."""

    async def resolve(
        self, host: str, port: int = 0, family: int = socket.AF_INET
    ) -> list[ResolveResult]:
        del host, port, family
        await asyncio.Event().wait()
        return []


async def test_a_name_that_nobody_resolves_in_time_is_a_timeout(
    client: WebhookClient,
) -> None:
    client._resolver = NoAnswer()
    attempt = await tell(client, "http://crm.example/", timeout_s=0.3)
    assert (attempt.status, attempt.error) == (None, "timeout")
    assert attempt.latency_ms < 2000


async def test_a_name_server_that_hangs_is_asked_once_at_a_time(
    client: WebhookClient,
) -> None:
    asked = []

    class Counted(NoAnswer):
        async def resolve(
            self, host: str, port: int = 0, family: int = socket.AF_INET
        ) -> list[ResolveResult]:
            asked.append(host)
            return await super().resolve(host, port, family)

    client._resolver = Counted()
    url = "http://crm.example/"
    told = await asyncio.gather(*[tell(client, url, timeout_s=0.1) for _ in range(9)])
    assert {attempt.error for attempt in told} == {"timeout"}
    assert asked == ["crm.example"]


async def test_a_name_that_does_not_exist_is_an_attempt_that_failed(
    client: WebhookClient,
) -> None:
    attempt = await tell(client, "http://no-such-host.invalid/")
    assert attempt.status is None
    assert attempt.error


def resolve_to(client: WebhookClient, *addresses: str) -> None:
    for place in client._places.values():
        place.close()
    client._places.clear()  # with what their names resolved to
    client._routes.clear()
    client._resolver = Names(*addresses)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
    ],
)
async def test_a_name_that_resolves_inwards_is_refused_where_it_is_dialled(
    server: Misbehaving, client: WebhookClient, address: str
) -> None:
    resolve_to(client, address)
    attempt = await tell(client, server.url("answer/200", host="crm.example"))
    assert (attempt.status, attempt.error) == (None, "address not allowed")
    assert server.requests == []


async def test_a_name_that_moves_inwards_later_is_judged_anew(
    server: Misbehaving,
) -> None:
    server.headers = {"Connection": "close"}
    async with WebhookClient(
        signing_secrets=(), allow_private=("127.0.0.0/8",)
    ) as client:
        to = crm(server.url("answer/200", host="crm.example"))
        answers = []
        for address in ("127.0.0.1", "169.254.169.254", "10.0.0.1", "127.0.0.1"):
            resolve_to(client, address)
            attempt = await client.tell(to, ROW)
            answers.append(attempt.status or attempt.error)
    refused = "address not allowed"
    assert answers == [200, refused, refused, 200]


async def test_credentials_in_a_url_go_to_their_host_and_nowhere_else(
    server: Misbehaving, client: WebhookClient
) -> None:
    url = server.url("answer/500").replace("//", "//user:s3cret@")
    attempt = await tell(client, url)
    (request,) = server.requests
    assert request.headers["authorization"].startswith("Basic ")
    assert request.path == "/answer/500"
    assert "s3cret" not in repr((attempt, crm(url)))


async def test_several_inward_addresses_are_refused_too(
    server: Misbehaving, client: WebhookClient
) -> None:
    resolve_to(client, "127.0.0.1", "10.0.0.1", "::1")
    attempt = await tell(client, server.url("answer/200", host="crm.example"))
    assert (attempt.status, attempt.error) == (None, "address not allowed")


async def test_an_allowed_host_or_network_may_be_inside(server: Misbehaving) -> None:
    for allowed in ("crm.example", "127.0.0.0/8"):
        async with WebhookClient(
            signing_secrets=(), allow_private=(allowed,)
        ) as client:
            resolve_to(client, "127.0.0.1")
            attempt = await tell(client, server.url("answer/200", host="crm.example"))
            assert attempt.status == 200


async def test_a_literal_is_asked_of_no_name_server(
    server: Misbehaving, client: WebhookClient
) -> None:
    client._resolver = NoAnswer()
    assert (await tell(client, server.url("answer/200"))).status == 200


async def test_localhost_and_literals_are_the_operators_word(
    server: Misbehaving, client: WebhookClient
) -> None:
    for host in ("localhost", "127.0.0.1"):
        assert (await tell(client, server.url("answer/200", host=host))).status == 200


@pytest.mark.parametrize("host", ["169.254.169.254", "[fe80::1]"])
async def test_a_literal_link_local_address_is_refused(
    client: WebhookClient, host: str
) -> None:
    attempt = await tell(client, f"http://{host}/latest/meta-data")
    assert (attempt.status, attempt.error) == (None, "address not allowed")


@pytest.mark.parametrize("host", ["2130706433", "127.1", "0x7f000001", "0177.0.0.1"])
async def test_numbers_that_libc_reads_as_an_address_are_no_literal(
    server: Misbehaving, client: WebhookClient, host: str
) -> None:
    attempt = await tell(client, server.url("answer/200", host=host))
    assert attempt.status is None
    assert attempt.error
    assert server.requests == []
