"""The rehearsal: the old router answers, the shadow gets a copy; then the URL is switched."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from bench.load import Client, post
from router.store import shadow
from tests.events import body, text_message
from tests.faults.harness import HOST, SECRET, connected, free_port, service
from tests.nginx_server import ROOT
from tests.servers import until

OPTION = ROOT / "nginx/options/shadow-mirror.conf"
CONF = """
worker_processes 1; pid {there}/nginx.pid; daemon off; {user}
error_log {there}/error.log;
events {{}}
http {{
  client_body_temp_path {there}/body; proxy_temp_path {there}/proxy;
  fastcgi_temp_path {there}/fastcgi; uwsgi_temp_path {there}/uwsgi;
  scgi_temp_path {there}/scgi; access_log off;
  server {{
    listen 127.0.0.1:{port};
    include {there}/shadow-mirror.conf;
{location}
  }}
}}
"""


class Old:
    """The router that was there before."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heard: list[bytes] = []

    async def take(self, request: web.Request) -> web.Response:
        self.heard.append(await request.read())
        return web.Response(text="the old one's")

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Old"]:
        app = web.Application(client_max_size=2**23)
        app.router.add_post("/webhook/whatsapp", self.take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, self.port).start()
            yield self
        finally:
            await runner.cleanup()


@asynccontextmanager
async def front(nginx: str, there: Path, old: Old, router: int) -> AsyncIterator[str]:
    """Run nginx with the option as it is shipped; yield the URL that Meta knows."""
    port, text = free_port(), OPTION.read_text()
    location = "\n".join(
        line.lstrip("#") for line in text.splitlines() if line.startswith("#   ")
    ).partition("\n")[2]  # what its comment says goes into the old one's server
    (there / "shadow-mirror.conf").write_text(
        text.replace("127.0.0.1:3002", f"127.0.0.1:{router}")
    )
    (there / "nginx.conf").write_text(
        CONF.format(
            there=there,
            port=port,
            user="user root;" if os.geteuid() == 0 else "",
            location=location.replace("127.0.0.1:3001", f"127.0.0.1:{old.port}"),
        )
    )
    command = [nginx, "-c", str(there / "nginx.conf"), "-e", str(there / "error.log")]
    process = await asyncio.create_subprocess_exec(*command)
    try:

        async def listens() -> bool:
            try:
                _, writer = await asyncio.open_connection(HOST, port)
            except OSError:
                return False
            writer.close()
            return True

        await until(listens)
        yield f"http://{HOST}:{port}/webhook/whatsapp"
    finally:
        process.terminate()
        await process.wait()


async def answered(url: str, data: bytes) -> tuple[int, bytes]:
    client = Client(url, 1)
    try:
        answer = await client.send(post(url, data, SECRET))
    finally:
        client.close()
    return answer.status, answer.body


async def test_the_shadow_gets_a_copy_and_the_old_router_answers(
    nginx: str, database: str, tmp_path: Path
) -> None:
    await shadow.mark(database)
    async with (
        Old().running() as old,
        service(tmp_path, database, PSI_SHADOW="1") as router,
        front(nginx, tmp_path, old, router.port) as url,
    ):
        data = body(text_message("5491100000001", "wamid.copied"))
        assert await answered(url, data) == (200, b"the old one's")
        assert old.heard == [data]
        async with connected(database) as connection:

            async def copied() -> bool:
                query = "select body from router.deliveries"
                return [row[0] for row in await connection.fetch(query)] == [data]

            await until(copied)
        router.kill()
        assert await answered(url, data) == (200, b"the old one's")
        assert len(old.heard) == 2


async def test_what_the_old_router_stored_is_known_when_meta_sends_it_again(
    database: str, tmp_path: Path
) -> None:
    """At the switch Meta may repeat to the new URL what the old router took."""
    data = body(text_message("5491100000001", "wamid.at-the-switch"))
    async with connected(database) as connection:
        await connection.execute(
            "with v as (insert into conversaciones (telefono, estado)"
            " values ('5491100000001', 'nueva') returning id)"
            " insert into mensajes (conversacion_id, mensaje, tipo, direccion,"
            " remitente_tipo, timestamp, whatsapp_message_id) select id, 'Hola', 'text',"
            " 'entrante', 'contact', now(), 'wamid.at-the-switch' from v"
        )
        async with service(tmp_path, database) as router:
            answer = await router.post(data)
            assert answer == (200, {"success": True, "processed": 1, "failed": 0})
        counts = await connection.fetchrow(
            "select (select count(*) from mensajes), (select count(*) from router.outbox),"
            " (select count(*) from tickets)"
        )
    assert tuple(counts) == (1, 0, 0)
