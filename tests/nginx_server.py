"""nginx with the project's configuration, on free ports, with a throw-away authority."""

import asyncio
import os
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.load import Client, Connection
from tests.servers import until

ROOT = Path(__file__).parents[1]
NAME = "router.psivisionhub.com"
META = "client.webhooks.fbclientcerts.com"
CONF = ROOT / "nginx/psi-router.conf"

# What /etc/nginx/nginx.conf says on Debian, with the connections that operations.md asks for.
MAIN = """
worker_processes 2; worker_rlimit_nofile 16384; pid {there}/nginx.pid; daemon off;
{user}
error_log {there}/error.log;
events {{ worker_connections 8192; }}
http {{
  client_body_temp_path {there}/body; proxy_temp_path {there}/proxy;
  fastcgi_temp_path {there}/fastcgi; uwsgi_temp_path {there}/uwsgi;
  scgi_temp_path {there}/scgi; access_log {there}/other.log;
  include {there}/conf.d/*.conf;
}}
"""


class Heard(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes


class Authority:
    """A throw-away authority, and the certificates that it signs."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self._make("authority", "-x509", "-subj", "/CN=a throw-away authority")

    @property
    def certificate(self) -> Path:
        """The authority's own."""
        return self.directory / "authority.pem"

    def sign(self, name: str) -> tuple[Path, Path]:
        """Return a certificate for *name* and its key."""
        alternative = f"subjectAltName=DNS:{name}"
        signed_by = [
            "-CA",
            str(self.certificate),
            "-CAkey",
            str(self._key("authority")),
        ]
        self._make(name, "-subj", f"/CN={name}", "-addext", alternative, *signed_by)
        return self.directory / f"{name}.pem", self._key(name)

    def trusting(self, *, client: str | None = None) -> ssl.SSLContext:
        """Return a context that trusts the authority, and shows *client*'s certificate."""
        context = ssl.create_default_context(cafile=self.certificate)
        if client:
            context.load_cert_chain(*self.sign(client))
        return context

    def _key(self, name: str) -> Path:
        return self.directory / f"{name}.key"

    def _make(self, name: str, *words: str) -> None:
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        files = [
            "-keyout",
            str(self._key(name)),
            "-out",
            f"{self.directory}/{name}.pem",
        ]
        command = ["openssl", "req", "-x509", "-days", "2", *curve, *files]
        command += [word for word in words if word != "-x509"]
        subprocess.run(command, check=True, capture_output=True)


class Nginx:
    """A running nginx before a router on *upstream*, a port of 127.0.0.1."""

    def __init__(
        self, program: str, directory: Path, upstream: int, *, options: bool = False
    ) -> None:
        """Prepare it in *directory*; *options* adds those of nginx/options."""
        self._program, self.directory = program, directory
        self._upstream = upstream
        self.http, self.https = _free_port(), _free_port()
        self.authority = Authority(directory / "certificates")
        self.log = directory / "psi-router.access.log"
        self._write(options=options)

    def check(self) -> str:
        """Return what `nginx -t` says; raise CalledProcessError where it is not pleased."""
        done = subprocess.run(
            [*self._command(), "-t"], check=True, capture_output=True, text=True
        )
        return done.stderr

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Nginx"]:
        """Run it."""
        process = subprocess.Popen(self._command())
        try:
            await until(lambda: _listens(self.https))
            yield self
        finally:
            process.terminate()
            process.wait()

    async def ask(
        self,
        request: str,
        body: bytes = b"",
        *,
        door: "Door | None" = None,
        headers: Mapping[str, str] | None = None,
    ) -> Heard:
        """Send a request (`GET /health`) by *door*, on a connection of its own."""
        reader, writer = await (door or self.door()).open()
        fields = {"Host": NAME, "Connection": "close"}
        fields |= {"Content-Length": str(len(body))} if body else {}
        head = "".join(
            f"{k}: {v}\r\n" for k, v in (fields | dict(headers or {})).items()
        )
        writer.write(f"{request} HTTP/1.1\r\n{head}\r\n".encode() + body)
        try:
            return await _heard(reader)
        finally:
            writer.close()

    def door(
        self,
        *,
        context: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        come_from: str | None = None,
    ) -> "Door":
        """Return the door of port 443."""
        trusting = context or self.authority.trusting()
        return Door(self.https, host, trusting, come_from)

    def plain_door(self) -> "Door":
        """Return the door of port 80."""
        return Door(self.http)

    def _command(self) -> list[str]:
        conf = str(self.directory / "nginx.conf")
        return [self._program, "-c", conf, "-e", str(self.directory / "error.log")]

    def _write(self, *, options: bool) -> None:
        there = self.directory
        user = "user root;" if os.geteuid() == 0 else ""  # the test's files are its own
        (there / "nginx.conf").write_text(MAIN.format(there=there, user=user))
        for folder in ("conf.d", "options", "acme/.well-known/acme-challenge"):
            (there / folder).mkdir(parents=True)
        self.authority.sign(NAME)
        (there / "conf.d/psi-router.conf").write_text(self._placed(CONF.read_text()))
        if options:
            text = (ROOT / "nginx/options/meta-mtls.conf").read_text()
            (there / "options/meta-mtls.conf").write_text(self._placed(text))
            text = (ROOT / "nginx/options/reject-other-names.conf").read_text()
            (there / "conf.d/reject.conf").write_text(self._placed(text))

    def _placed(self, text: str) -> str:
        """Return a configuration with this test's ports and paths in it."""
        there = self.directory
        certificate, key = there / f"certificates/{NAME}.pem", f"{NAME}.key"
        changes = {
            f"/etc/letsencrypt/live/{NAME}/fullchain.pem": str(certificate),
            f"/etc/letsencrypt/live/{NAME}/privkey.pem": str(
                certificate.with_name(key)
            ),
            "/etc/nginx/psi-router.d/meta-ca.pem": str(self.authority.certificate),
            "/etc/nginx/psi-router.d/": f"{there}/options/",
            "/var/log/nginx/": f"{there}/",
            "/var/www/letsencrypt": f"{there}/acme",
            "127.0.0.1:3002": f"127.0.0.1:{self._upstream}",
            "listen 80;": f"listen 127.0.0.1:{self.http};",
            "listen [::]:80;": _v6(f"listen [::1]:{self.http};"),
            "listen 443 ": f"listen 127.0.0.1:{self.https} ",
            "listen [::]:443 ": _v6(f"listen [::1]:{self.https} "),
        }
        for old, new in changes.items():
            text = text.replace(old, new)
        return text


@dataclass(frozen=True, slots=True)
class Door:
    """Where to knock, and as whom."""

    port: int
    host: str = "127.0.0.1"
    context: ssl.SSLContext | None = None
    come_from: str | None = None

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect."""
        return await asyncio.open_connection(
            self.host,
            self.port,
            ssl=self.context,
            server_hostname=NAME if self.context else None,
            local_addr=(self.come_from, 0) if self.come_from else None,
        )


class TlsClient(Client):
    """The load client of the benchmarks, through TLS."""

    def __init__(self, port: int, context: ssl.SSLContext, connections: int) -> None:
        super().__init__(f"https://127.0.0.1:{port}", connections)
        self._context = context

    async def _connection(self) -> Connection:
        while self._free:
            connection = self._free.pop()
            if connection.usable:
                return connection
        loop = asyncio.get_running_loop()
        _, made = await loop.create_connection(
            Connection, self._host, self._port, ssl=self._context, server_hostname=NAME
        )
        return made


def loopbacks() -> list[str]:
    """Return the loopback addresses of this machine: IPv4, and IPv6 if there is one."""
    return ["127.0.0.1", "::1"] if _has_v6() else ["127.0.0.1"]


def _has_v6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _v6(line: str) -> str:
    return line if _has_v6() else f"# {line}"


async def _heard(reader: asyncio.StreamReader) -> Heard:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.strip().split("\r\n")
    parts = [line.partition(": ") for line in lines]
    headers = {name.lower(): value for name, _, value in parts}
    length = headers.get("content-length")
    body = await (reader.read() if length is None else reader.readexactly(int(length)))
    return Heard(int(first.split()[1]), headers, body)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
