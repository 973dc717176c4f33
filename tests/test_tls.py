"""Certificates: what is not right ends the attempt, and nothing is sent."""

import asyncio
import shutil
import ssl
import subprocess
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from router.cli.fake_graph import FakeGraph, fake_graph
from router.config import Destination
from router.destinations.client import WebhookClient
from router.destinations.media import MediaClient
from router.destinations.storage import Directory
from router.model import Attempt, Notification

HOST = "127.0.0.1"
ROW = Notification(1, "crm", "psi_1", "lane", b"{}", 0)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Authority:
    """A certificate authority of the test's own."""

    directory: Path

    @property
    def certificate(self) -> Path:
        return self.directory / "ca.pem"

    def found(self) -> None:
        key = self.directory / "ca.key"
        self._openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-keyout", str(key), "-out", str(self.certificate)),
            *("-days", "2", "-subj", "/CN=authority of a test"),
        )

    def issue(self, name: str, subject: str, *dates: str) -> tuple[Path, Path]:
        """Return a certificate for *subject* and its key; *dates* as `openssl x509` has."""
        at = self.directory / name
        key, request, made = (at.with_suffix(x) for x in (".key", ".csr", ".pem"))
        extension = at.with_suffix(".ext")
        extension.write_text(f"subjectAltName={subject}\n")
        self._openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", str(key), "-out", str(request), "-subj", "/CN=crm"),
        )
        self._openssl(
            *("x509", "-req", "-in", str(request), "-CA", str(self.certificate)),
            *("-CAkey", str(self.directory / "ca.key"), "-CAcreateserial"),
            *(
                "-out",
                str(made),
                "-extfile",
                str(extension),
                *(dates or ("-days", "1")),
            ),
        )
        return made, key

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority; which client trusts it is the test's matter."""
    if not shutil.which("openssl"):
        pytest.skip("needs openssl: apt-get install openssl")
    made = Authority(tmp_path_factory.mktemp("authority"))
    made.found()
    return made


@dataclass
class Server:
    """An HTTPS server that counts what reached it in clear."""

    port: int = 0
    received: list[bytes] = field(default_factory=list)

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            self.received.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(ANSWER)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client did not like the certificate
        finally:
            writer.transport.abort()


Serve = Callable[..., AbstractAsyncContextManager[Server]]


@pytest.fixture
def serve() -> Serve:
    """How to run a server with a certificate and its key."""

    @asynccontextmanager
    async def run(
        pair: tuple[Path, Path], *, newest: ssl.TLSVersion | None = None
    ) -> AsyncIterator[Server]:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*pair)
        if newest is not None:
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = ssl.TLSVersion.TLSv1
                context.maximum_version = newest
        server = Server()
        listener = await asyncio.start_server(server.serve, HOST, 0, ssl=context)
        server.port = listener.sockets[0].getsockname()[1]
        try:
            yield server
        finally:
            listener.close()

    return run


async def tell(server: Server, host: str = HOST) -> Attempt:
    async with WebhookClient(signing_secrets=(), allow_private=()) as client:
        url = f"https://{host}:{server.port}/crm"
        return await client.tell(Destination(name="crm", url=url, timeout_s=5.0), ROW)


@pytest.fixture
def trusted(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> Authority:
    """The authority, trusted by whatever client is opened from now on."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    return authority


async def test_a_right_certificate_of_a_trusted_authority_is_taken(
    serve: Serve, trusted: Authority
) -> None:
    async with serve(trusted.issue("right", f"IP:{HOST},DNS:localhost")) as server:
        attempt = await tell(server)
        assert (attempt.status, attempt.error) == (200, None)
        assert (await tell(server, "localhost")).status == 200
        assert (await tell(server, "localhost.")).status == 200


async def test_a_redirect_to_another_host_is_followed_without_the_token(
    serve: Serve, trusted: Authority, tmp_path: Path
) -> None:
    async with (
        serve(trusted.issue("elsewhere", "DNS:localhost")) as server,
        fake_graph(FakeGraph(token="hush")) as graph,
        MediaClient(graph.url, "hush", allow_private=("127.0.0.0/8", "::1")) as client,
        Directory(tmp_path).incoming("2026/11/x.jpg", "image/jpeg") as incoming,
    ):
        where = f"https://localhost:{server.port}/x"
        graph.media.behave("redirect", location=where)
        await client.fetch(await client.find("1"), incoming, most=10)
        (heard,) = server.received
    assert incoming.size == 2
    assert b"GET /x " in heard
    assert b"hush" not in heard
    assert graph.media.bearers == ["Bearer hush"]


async def refused(server: Server, attempt: Attempt) -> bool:
    assert attempt.error
    assert HOST not in attempt.error
    return attempt.status is None and not server.received


async def test_an_authority_that_nobody_trusts_is_refused(
    serve: Serve, authority: Authority
) -> None:
    async with serve(authority.issue("unknown", f"IP:{HOST}")) as server:
        attempt = await tell(server)
        assert await refused(server, attempt)
        assert attempt.error == "SSLCertVerificationError"


async def test_a_certificate_of_another_host_is_refused(
    serve: Serve, trusted: Authority
) -> None:
    async with serve(trusted.issue("other", "DNS:other.example")) as server:
        assert await refused(server, await tell(server))
        assert await refused(server, await tell(server, "localhost"))


async def test_a_certificate_that_is_over_is_refused(
    serve: Serve, trusted: Authority
) -> None:
    pair = trusted.issue("over", f"IP:{HOST}", "-days", "-1")
    async with serve(pair) as server:
        assert await refused(server, await tell(server))


async def test_an_authority_is_no_server(serve: Serve, trusted: Authority) -> None:
    # Self-signed, though trusted: it does not name the host.
    pair = (trusted.certificate, trusted.directory / "ca.key")
    async with serve(pair) as server:
        assert await refused(server, await tell(server))


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
async def test_a_server_of_an_old_tls_is_refused(
    serve: Serve, trusted: Authority, newest: ssl.TLSVersion
) -> None:
    pair = trusted.issue("old", f"IP:{HOST}")
    async with serve(pair, newest=newest) as server:
        assert await refused(server, await tell(server))


async def test_a_redirect_from_https_to_http_is_not_followed(
    serve: Serve, trusted: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve(trusted.issue("moved", f"IP:{HOST}")) as server:
        moved = f"HTTP/1.1 308 Moved\r\nLocation: http://{HOST}:{server.port}/\r\n"
        monkeypatch.setattr(
            "tests.test_tls.ANSWER", f"{moved}Content-Length: 0\r\n\r\n".encode()
        )
        attempt = await tell(server)
        assert attempt.status == 308
        assert len(server.received) == 1
