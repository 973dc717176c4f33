"""Files of messages through the whole service: a process of its own, killed and started again."""

import asyncio
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from router.cli.fake_files import File, file_of, media_id
from router.cli.fake_graph import FakeGraph, fake_graph
from router.cli.standin import StandIn, local_server
from router.destinations.storage import PARTS
from router.store.database import Database, Row
from tests.devserver import ENVIRONMENT, Dev
from tests.events import body
from tests.faults.harness import HOST, Service
from tests.servers import S3, until

WHO = "5491100000001"
GRAPH_TOKEN, ADMIN, SHARED = "a-graph-token", "the-admins-own", "the-crms-own"
IMAGE = media_id("image", 123_456_789_012_345)
NAME = "el comprobante de Ana.pdf"


def a_file(media: str) -> File:
    file = file_of(media)
    assert file
    return file


def with_file(media: str = IMAGE, kind: str = "image", **more: Any) -> bytes:
    file = a_file(media)
    described = {"id": media, "mime_type": file.mime_type, **more}
    now = str(int(time.time()))  # what is older gets no menu
    message = {"from": WHO, "id": f"wamid.{media}", "timestamp": now}
    return body({**message, "type": kind, kind: described})


@asynccontextmanager
async def serving(
    database: str, directory: Path, graph: FakeGraph, more: Mapping[str, str]
) -> AsyncIterator[Service]:
    service = Service(
        directory,
        {
            "DATABASE_URL": database,
            "PSI_ADMIN_TOKEN": ADMIN,
            "WEBHOOK_SHARED_SECRET": SHARED,
            "CLOUD_API_TOKEN": GRAPH_TOKEN,
            "CLOUD_API_BASE_URL": graph.url,
            **more,
        },
    )
    service.start()
    try:
        await service.ready()
        yield service
    finally:
        service.kill()


@pytest.fixture
async def graph() -> AsyncIterator[FakeGraph]:
    async with fake_graph(FakeGraph(token=GRAPH_TOKEN)) as graph:
        yield graph


async def the_row(store: Database, media: str = IMAGE) -> Row:
    (row,) = await store.fetch(
        "select * from mensajes where whatsapp_message_id = $1", f"wamid.{media}"
    )
    return row


async def fetched(store: Database, media: str = IMAGE) -> str:
    async def has_an_address() -> bool:
        return (await the_row(store, media))["media_url"] is not None

    await until(has_an_address)
    url: str = (await the_row(store, media))["media_url"]
    return url


async def get(
    service: Service, path: str, **headers: str
) -> tuple[int, bytes, Mapping[str, str]]:
    url = f"http://{HOST}:{service.port}{path}"
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers) as answer,
    ):
        return answer.status, await answer.read(), answer.headers


async def test_an_image_is_stored_fetched_and_shown_to_who_may_see_it(
    database: str, store: Database, tmp_path: Path, graph: FakeGraph
) -> None:
    document = media_id("document", 10**14)
    async with serving(database, tmp_path, graph, {}) as service:
        await service.post(with_file())
        await service.post(with_file(document, "document", filename=NAME))
        path, other = await fetched(store), await fetched(store, document)
        bearer = {"Authorization": f"Bearer {ADMIN}"}
        status, data, headers = await get(service, path, **bearer)
        assert (status, data) == (200, a_file(IMAGE).data)
        assert headers["Content-Type"] == "image/png"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in headers["Content-Security-Policy"]
        assert headers["Content-Disposition"] == "inline"
        secret = {"X-Webhook-Secret": SHARED}
        assert (await get(service, other, **secret))[1] == a_file(document).data
        assert (await get(service, path))[0] == 401
        assert (await get(service, path, Authorization="Bearer no"))[0] == 401
        nobody = re.sub(r"[0-9a-f]{32}", "0" * 32, path)
        for wrong in (
            nobody,
            "/media/",
            f"/media/{PARTS}/x.part",
            "/media/../etc/passwd",
        ):
            assert (await get(service, wrong, **bearer))[0] == 404, wrong
        log, metrics = service.log(), (await get(service, "/metrics", **bearer))[1]
    assert path.startswith("/media/")
    assert (tmp_path / path.removeprefix("/")).exists()
    for secret_word in (GRAPH_TOKEN, IMAGE, NAME, path, "/fake/file"):
        assert secret_word not in log
    assert b'psi_attempts_total{destination="media",outcome="done"} 2.0' in metrics


async def test_a_message_is_stored_and_told_while_its_file_hangs(
    database: str, store: Database, tmp_path: Path, graph: FakeGraph
) -> None:
    graph.media.behave("hang", times=10)
    crm = StandIn()
    app = web.Application()
    app.router.add_post("/in", crm.take)
    async with local_server(app) as url:
        more = {"N8N_WEBHOOK_INGESTA_ROUTER_WSP4": f"{url}/in"}
        async with serving(database, tmp_path, graph, more) as service:
            status, _ = await service.post(with_file())
            assert status == 200
            async with asyncio.timeout(5):
                assert IMAGE in await crm.first()
                await graph.taken(1)  # the menu
            row = await the_row(store)
            assert (row["media_url"], row["media_type"]) == (None, "image/png")


async def test_killed_in_the_middle_nobody_sees_a_half_and_another_one_brings_it(
    database: str, store: Database, tmp_path: Path, graph: FakeGraph
) -> None:
    data = b"0123456789abcdef" * 2**17  # 2 MiB
    graph.media.add(IMAGE, data, "image/png")
    graph.media.behave("cut")
    kept = tmp_path / "media"

    def is_half_way() -> bool:
        parts = list((kept / PARTS).glob("*.part"))
        return bool(parts) and parts[0].stat().st_size >= len(data) // 4

    def whole() -> list[Path]:
        return [p for p in kept.rglob("*.png") if p.is_file()]

    async with serving(database, tmp_path, graph, {}) as service:
        await service.post(with_file())
        await until(is_half_way)
    assert whole() == []  # killed
    assert (await the_row(store))["media_url"] is None
    await store.execute(
        "update router.outbox set lease_until = now()"
    )  # a minute later
    async with serving(database, tmp_path, graph, {}):
        path = await fetched(store)
    assert whole() == [tmp_path / path.removeprefix("/")]
    assert whole()[0].read_bytes() == data


async def test_a_stop_does_not_wait_for_a_file(
    database: str, store: Database, tmp_path: Path, graph: FakeGraph
) -> None:
    graph.media.behave("hang")
    async with serving(database, tmp_path, graph, {}) as service:
        await service.post(with_file())
        await until(lambda: graph.media.taken)
        service.running.terminate()
        assert await service.exit_status(5) == 0
        assert service.lines("drain_timed_out") == []
    (row,) = await store.fetch(
        "select attempts, lease from router.outbox where destination = 'media'"
    )
    assert (row["attempts"], row["lease"]) == (0, None)


async def test_two_services_on_one_directory_bring_each_file_once(
    database: str, store: Database, tmp_path: Path, graph: FakeGraph
) -> None:
    more = {"PSI_MEDIA": str(tmp_path / "shared")}
    ids = [media_id("image", 10**14 + 5 * n) for n in range(40)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    async with (
        serving(database, tmp_path / "one", graph, more) as one,
        serving(database, tmp_path / "two", graph, more) as two,
    ):
        posts = [
            (one, two)[n % 2].post(with_file(media)) for n, media in enumerate(ids)
        ]
        await asyncio.gather(*posts)
        paths = [await fetched(store, media) for media in ids]
    assert len(set(paths)) == len(ids)
    for media, path in zip(ids, paths, strict=True):
        place = tmp_path / "shared" / path.removeprefix("/media/")
        assert place.read_bytes() == a_file(media).data


async def test_in_a_bucket_it_is_opened_by_a_url_for_a_while(
    database: str, store: Database, tmp_path: Path, graph: FakeGraph, s3: S3
) -> None:
    more = {
        "PSI_MEDIA": "s3://files/whatsapp",
        "AWS_ENDPOINT_URL": s3.url,
        **S3.KEYS,
    }
    async with serving(database, tmp_path, graph, more) as service:
        await service.post(with_file())
        path = await fetched(store)
        status, data, headers = await get(
            service, path, Authorization=f"Bearer {ADMIN}"
        )
        assert (status, data) == (200, a_file(IMAGE).data)  # the redirect was followed
        assert headers["Content-Type"] == "image/png"
        assert (await get(service, path))[0] == 401
        log = service.log()
    assert not (tmp_path / "media").exists()
    for secret in (*S3.KEYS.values(), GRAPH_TOKEN, "X-Amz"):
        assert secret not in log


async def test_without_a_token_nothing_is_fetched_and_nothing_fails(
    database: str, store: Database, tmp_path: Path, graph: FakeGraph
) -> None:
    async with serving(database, tmp_path, graph, {"CLOUD_API_TOKEN": ""}) as service:
        assert (await service.post(with_file()))[0] == 200
        assert (await the_row(store))["media_url"] is None
        assert await store.fetch("select 1 from router.outbox") == []
        assert service.lines("worker_crashed") == []
    assert graph.media.asked == []


async def test_what_is_simulated_in_dev_ends_with_an_address(dev: Dev) -> None:
    webhook = f"{dev.url}/webhook"
    arguments = ["simulate", "--url", webhook, "--count", "60", "--seed", "7"]
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "router", *arguments],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    files = (
        "select media_url from mensajes where direccion = 'entrante'"
        " and tipo in ('image', 'audio', 'document', 'sticker', 'video')"
    )

    async def all_have_an_address() -> bool:
        rows = await dev.fetch(files)
        return bool(rows) and all(row["media_url"] for row in rows)

    await until(all_have_an_address)
