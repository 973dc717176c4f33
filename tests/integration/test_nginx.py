"""What the world meets: nginx with the project's file before the real router."""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiohttp import web

from bench.load import post
from router.stages.ingress import MAX_BODY
from router.whatsapp.signature import sign
from tests.events import body, text_message
from tests.faults.harness import SECRET, SETTINGS, Service, free_port
from tests.nginx_server import META, NAME, Nginx, TlsClient, loopbacks
from tests.servers import until

URL = f"https://{NAME}/webhook"
BURST, CONNECTIONS = 1500, 300


def signed(data: bytes) -> dict[str, str]:
    return {"X-Hub-Signature-256": sign(data, SECRET)}


@asynccontextmanager
async def echo() -> AsyncIterator[int]:
    """Run a server that tells the headers it got; lend its port."""

    async def tell(request: web.Request) -> web.Response:
        return web.json_response(dict(request.headers))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", tell)
    runner, port = web.AppRunner(app, access_log=None), free_port()
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield port
    finally:
        await runner.cleanup()


@pytest.fixture
async def echoing(nginx: str, tmp_path: Path) -> AsyncIterator[Nginx]:
    """nginx before a server that tells what it got."""
    async with (
        echo() as port,
        Nginx(nginx, tmp_path / "nginx", port).running() as front,
    ):
        yield front


@pytest.fixture
async def router(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """The real router."""
    service = Service(tmp_path, {"DATABASE_URL": database})
    service.start()
    try:
        await service.ready()
        yield service
    finally:
        service.kill()


@pytest.fixture
async def front(nginx: str, router: Service, tmp_path: Path) -> AsyncIterator[Nginx]:
    """nginx before the real router."""
    server = Nginx(nginx, tmp_path / "nginx", router.port)
    async with server.running():
        yield server


def test_the_file_and_its_options_are_sound(nginx: str, tmp_path: Path) -> None:
    said = Nginx(nginx, tmp_path, 3002, options=True).check()
    assert "test is successful" in said
    assert "warn" not in said


async def test_a_signed_body_goes_through_tls_unchanged(front: Nginx) -> None:
    data = body(text_message("5491100000001", "wamid.through-nginx"))
    heard = await front.ask("POST /webhook", data, headers=signed(data))
    assert (heard.status, orjson.loads(heard.body)["processed"]) == (200, 1)
    assert "max-age=" in heard.headers["strict-transport-security"]
    unsigned = await front.ask("POST /webhook", data)
    assert unsigned.status == 401
    assert "nginx/" not in unsigned.headers["server"]


async def test_a_large_batch_goes_through(front: Nginx) -> None:
    data = body(
        *(text_message("5491100000001", f"wamid.{n}", "x" * 1000) for n in range(900))
    )
    assert 1_000_000 < len(data) < MAX_BODY
    heard = await front.ask("POST /webhook", data, headers=signed(data))
    assert (heard.status, orjson.loads(heard.body)["processed"]) == (200, 900)


async def test_no_token_and_no_number_is_written_down(front: Nginx) -> None:
    token = SETTINGS["WHATSAPP_VERIFY_TOKEN"]
    query = f"hub.mode=subscribe&hub.verify_token={token}&hub.challenge=4711"
    assert (await front.ask(f"GET /webhook?{query}")).body == b"4711"
    for path in ("/api/conversations/5491100000001", "/api/messages/wamid.number"):
        await front.ask(f"GET {path}?secret=of-the-query")
    await front.ask(f"GET /webhook?{query}", door=front.plain_door())
    await until(lambda: front.log.read_text().count("\n") == 4)
    lines = [orjson.loads(line) for line in front.log.read_text().splitlines()]
    assert [line["path"] for line in lines] == [
        "/webhook",
        "/api/conversations/-",
        "/api/messages/-",
        "/webhook",
    ]
    assert lines[0]["status"] == 200
    written = "".join(path.read_text() for path in front.directory.glob("*.log"))
    for secret in (token, "5491100000001", "wamid.number", "of-the-query"):
        assert secret not in written


async def test_a_failing_router_is_not_told_with_its_query(
    nginx: str, tmp_path: Path
) -> None:
    async with Nginx(nginx, tmp_path, free_port()).running() as front:
        heard = await front.ask("GET /webhook?hub.verify_token=do-not-write-this")
        assert heard.status == 502
        await until(front.log.read_text)
        assert "do-not-write-this" not in "".join(
            path.read_text() for path in front.directory.glob("*.log")
        )


async def test_port_80_serves_the_challenge_and_sends_the_rest_to_https(
    echoing: Nginx,
) -> None:
    challenge = echoing.directory / "acme/.well-known/acme-challenge/word"
    challenge.write_text("the answer")
    heard = await echoing.ask(
        "GET /.well-known/acme-challenge/word", door=echoing.plain_door()
    )
    assert (heard.status, heard.body) == (200, b"the answer")
    heard = await echoing.ask("POST /webhook?a=b", b"{}", door=echoing.plain_door())
    assert (heard.status, heard.headers["location"]) == (308, f"{URL}?a=b")


@pytest.mark.parametrize("host", loopbacks())
async def test_http_2_is_offered_on_each_family(echoing: Nginx, host: str) -> None:
    context = echoing.authority.trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection(
        host, echoing.https, ssl=context, server_hostname=NAME
    )
    channel: ssl.SSLObject = writer.get_extra_info("ssl_object")
    assert channel.selected_alpn_protocol() == "h2"
    writer.close()
    assert (
        await echoing.ask("GET /health", door=echoing.door(host=host))
    ).status == 200


@pytest.mark.parametrize(
    "version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=str
)
async def test_modern_tls_is_taken(echoing: Nginx, version: ssl.TLSVersion) -> None:
    context = echoing.authority.trusting()
    context.minimum_version = context.maximum_version = version
    heard = await echoing.ask("GET /health", door=echoing.door(context=context))
    assert heard.status == 200


async def test_a_cipher_without_forward_secrecy_is_refused(echoing: Nginx) -> None:
    context = echoing.authority.trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES256-SHA@SECLEVEL=0")
    with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
        await echoing.door(context=context).open()


async def test_what_the_router_would_refuse_is_refused_before_it(
    echoing: Nginx,
) -> None:
    heard = await echoing.ask(
        "POST /webhook", headers={"Content-Length": "10000000000"}
    )
    assert heard.status == 413  # at once: no byte of it was sent
    heard = await echoing.ask(
        "POST /webhook", b"{}", headers={"Content-Encoding": "gzip"}
    )
    assert heard.status == 415
    assert (await echoing.ask("DELETE /webhook")).status == 405
    assert (await echoing.ask("GET /webhooks")).status == 404
    assert (await echoing.ask("GET /webhook/")).status == 404


@pytest.mark.parametrize(
    "path",
    ["/ops", "/ops/feed", "/metrics", "/api/messages/send", "/media/2026/11/a.jpg"],
)
async def test_the_inside_is_closed_to_the_world(echoing: Nginx, path: str) -> None:
    assert (await echoing.ask(f"GET {path}")).status == 200
    world = echoing.door(come_from="127.0.0.2")
    assert (await echoing.ask(f"GET {path}", door=world)).status == 403


async def test_the_router_hears_who_it_really_is(echoing: Nginx) -> None:
    heard = await echoing.ask(
        "GET /webhook",
        door=echoing.door(come_from="127.0.0.2"),
        headers={"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"},
    )
    told = orjson.loads(heard.body)
    assert told["X-Forwarded-For"] == "127.0.0.2"
    assert told["X-Forwarded-Proto"] == "https"
    assert told["Host"] == NAME
    assert told["Connection"] == "close"


async def test_a_burst_of_meta_s_is_never_refused(
    front: Nginx, router: Service
) -> None:
    client = TlsClient(front.https, front.authority.trusting(), CONNECTIONS)
    requests = [
        post(URL, body(text_message(f"54911{n:08d}", f"wamid.burst-{n}")), SECRET)
        for n in range(BURST)
    ]
    answers = await asyncio.gather(*map(client.send, requests))
    client.close()
    assert Counter(answer.status for answer in answers) == {200: BURST}


async def test_probes_are_limited_and_do_not_limit_the_webhook(echoing: Nginx) -> None:
    answers = await asyncio.gather(*(echoing.ask("GET /health") for _ in range(120)))
    assert {answer.status for answer in answers} == {200, 503}
    assert (await echoing.ask("POST /webhook", b"{}")).status == 200


@pytest.mark.parametrize(
    ("what", "sent"),
    [
        ("client_header_timeout", "POST /webhook HTTP/1.1\r\nHost: router"),
        ("client_body_timeout", "POST /webhook HTTP/1.1\r\nHost: {name}\r\n{length}{{"),
    ],
)
async def test_who_drips_is_cut_off_and_the_router_never_hears_of_it(
    nginx: str, tmp_path: Path, what: str, sent: str
) -> None:
    front = Nginx(nginx, tmp_path, free_port())
    conf = tmp_path / "conf.d/psi-router.conf"
    assert f"{what} 10s;" in conf.read_text()
    conf.write_text(conf.read_text().replace(f"{what} 10s;", f"{what} 1s;"))
    async with front.running():
        reader, writer = await asyncio.open_connection(
            "127.0.0.1",
            front.https,
            ssl=front.authority.trusting(),
            server_hostname=NAME,
        )
        length = "Content-Length: 100\r\n\r\n"
        writer.write(sent.format(name=NAME, length=length).encode())
        async with asyncio.timeout(5):
            try:
                said = await reader.read()
            except ConnectionResetError:
                said = b""
        assert not said or b" 408 " in said.splitlines()[0]
        writer.close()


async def test_with_the_option_only_meta_s_certificate_signs(
    nginx: str, tmp_path: Path
) -> None:
    async with echo() as port:
        front = Nginx(nginx, tmp_path, port, options=True)
        other = Nginx(nginx, tmp_path / "other", port).authority
        wrong = other.trusting(client=META)  # the right name, of a wrong authority
        wrong.load_verify_locations(front.authority.certificate)
        shown = {
            "nothing": (front.authority.trusting(), {403}),
            "another name": (front.authority.trusting(client="x.example"), {403}),
            "another authority": (wrong, {400, 403}),
            "Meta's": (front.authority.trusting(client=META), {200}),
        }
        async with front.running():
            for what, (context, statuses) in shown.items():
                door = front.door(context=context)
                heard = await front.ask(
                    "POST /webhook", b"{}", door=door, headers=signed(b"{}")
                )
                assert heard.status in statuses, what
            by_secret = {"X-Webhook-Secret": "secret"}
            heard = await front.ask("POST /webhook", b"{}", headers=by_secret)
            assert heard.status == 200


async def test_with_the_option_no_other_name_gets_a_handshake(
    nginx: str, tmp_path: Path
) -> None:
    front = Nginx(nginx, tmp_path, free_port(), options=True)
    async with front.running():
        context = front.authority.trusting()
        context.check_hostname = False
        with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
            await asyncio.open_connection(
                "127.0.0.1", front.https, ssl=context, server_hostname="another.example"
            )
