"""The files of the fake Graph API: what Meta documents, and what it does when told to."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from router.cli.fake_files import KINDS, file_of, media_id
from router.cli.fake_graph import FakeGraph, fake_graph

TOKEN = {"Authorization": "Bearer t"}


@pytest.fixture
async def graph() -> AsyncIterator[FakeGraph]:
    async with fake_graph(FakeGraph(token="t")) as graph:
        yield graph


async def get(url: str, headers: dict[str, str] = TOKEN) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers=headers, allow_redirects=False) as answer,
    ):
        return answer.status, await answer.read()


async def found(graph: FakeGraph, media: str) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{graph.url}/{media}", headers=TOKEN) as answer,
    ):
        assert answer.status == 200
        said: dict[str, Any] = await answer.json()
        return said


@pytest.mark.parametrize("kind", KINDS)
async def test_an_id_leads_to_its_file(graph: FakeGraph, kind: str) -> None:
    media = media_id(kind, 10**14 + 3)
    file = file_of(media)
    assert file
    said = await found(graph, media)
    assert said["mime_type"] == KINDS[kind].partition(";")[0]
    assert (said["sha256"], said["file_size"]) == (file.sha256, str(len(file.data)))
    assert await get(said["url"]) == (200, file.data)


async def test_an_address_ends_after_five_minutes(graph: FakeGraph) -> None:
    now = 0.0
    graph.media.clock = lambda: now
    url = (await found(graph, "5"))["url"]
    now = 299.0
    assert (await get(url))[0] == 200
    now = 300.0
    assert (await get(url))[0] == 404
    assert (await get((await found(graph, "5"))["url"]))[0] == 200


async def test_nothing_opens_without_the_token(graph: FakeGraph) -> None:
    url = (await found(graph, "5"))["url"]
    assert (await get(url, {}))[0] == 401
    assert (await get(f"{graph.url}/5", {"Authorization": "Bearer x"}))[0] == 401


async def test_an_id_that_nobody_made_is_none(graph: FakeGraph) -> None:
    status, said = await get(f"{graph.url}/nobody")
    assert (status, b'"code": 100' in said) == (400, True)


async def test_it_is_told_by_http_what_to_do(graph: FakeGraph) -> None:
    order = f"{graph.url.rpartition('/')[0]}/fake/media/behave"
    async with aiohttp.ClientSession() as session:
        said = {"kind": "status", "at": "id", "status": 503, "seconds": 7}
        async with session.post(order, json=said) as answer:
            assert answer.status == 200
        async with session.post(order, json={"kind": "dance"}) as answer:
            assert answer.status == 400
        async with session.get(f"{graph.url}/5", headers=TOKEN) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "7")
    assert (await get(f"{graph.url}/5"))[0] == 200
