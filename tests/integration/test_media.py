"""Files of messages: from the id in a webhook to an address in the message's row.

The Graph API is the fake one, over HTTP; tables and directories are real.
"""

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from router.cli.fake_files import file_of, media_id
from router.cli.fake_graph import FakeGraph, fake_graph
from router.cli.fake_media import URL_S, FakeMedia
from router.config import Destination, Line, Settings, Storage
from router.destinations.media import MediaClient
from router.destinations.media_policy import SCHEDULE_S
from router.destinations.media_teller import MediaTeller
from router.destinations.storage import Directory
from router.model import Door, Event
from router.queues.base import Lease
from router.stages.base import Runner
from router.stages.desk import MEDIA, Desk
from router.stages.notify import Notify
from router.store.database import Database, Row
from router.store.dead_letters import DeadLetters, Wanted, letters, tell_again
from router.store.explain import explained
from router.store.ledger import Ledger
from router.store.media import MediaQueue
from router.whatsapp.events import read
from tests.events import body, received
from tests.servers import until

WHO = "5491100000001"
TOKEN = "a-token-nobody-may-read"
IMAGE = media_id("image", 123_456_789_012_345)
STORAGE = Storage(url="https://files.example/", max_bytes=2**20)
SETTINGS = Settings(
    database_url="",
    verify_token="token",
    app_secrets=(b"s",),
    graph_token=TOKEN,
    lines=(Line(name="wsp4"),),
    storage=STORAGE,
)


def image(media: str = IMAGE, *, kind: str = "image", **more: Any) -> dict[str, Any]:
    file = file_of(media)
    assert file
    described = {"id": media, "mime_type": file.mime_type, "sha256": file.sha256_base64}
    return {
        "from": WHO,
        "id": f"wamid.{media}",
        "timestamp": "1795000000",
        "type": kind,
        kind: {**described, **more},
    }


def events(*messages: dict[str, Any], door: Door = Door.META) -> list[Event]:
    return list(read(body(*messages), door))


@dataclass
class Bench:
    """A desk with a token, a fake Graph API, a directory, and who fetches between them."""

    store: Database
    graph: FakeGraph
    root: Path
    settings: Settings = SETTINGS
    destination: Destination = field(
        default_factory=lambda: Destination(
            name=MEDIA,
            url="http://graph.invalid",
            timeout_s=5.0,
            retry_schedule_s=SCHEDULE_S,
        )
    )

    @property
    def media(self) -> FakeMedia:
        return self.graph.media

    async def hear(self, *messages: dict[str, Any]) -> set[str]:
        ledger = Ledger(self.store, Desk(self.settings))
        return (await ledger.write(received(*events(*messages)))).told

    @asynccontextmanager
    async def fetcher(self, token: str = TOKEN) -> AsyncIterator["Fetcher"]:
        async with MediaClient(self.graph.url, token) as client:
            yield Fetcher(self, client)

    async def row(self, wamid: str = f"wamid.{IMAGE}") -> Row:
        (row,) = await self.store.fetch(
            "select * from mensajes where whatsapp_message_id = $1", wamid
        )
        return row

    async def outbox(self) -> Row:
        (row,) = await self.store.fetch(
            "select * from router.outbox where destination = $1", MEDIA
        )
        return row

    async def due(self) -> None:
        await self.store.execute("update router.outbox set next_attempt_at = now()")

    def files(self) -> list[Path]:
        return sorted(p for p in self.root.rglob("*") if p.is_file())

    def kept(self, row: Row) -> Path:
        url: str = row["media_url"]
        assert url.startswith(
            self.settings.storage.url if self.settings.storage else ""
        )
        return self.root / url.removeprefix(STORAGE.url)


class Fetcher:
    """One process's worth of fetching."""

    def __init__(self, bench: Bench, client: MediaClient) -> None:
        self.bench = bench
        self.queue = MediaQueue(bench.store, bench.destination)
        self.teller = MediaTeller(
            client,
            Directory(bench.root),
            url=STORAGE.url,
            most=STORAGE.max_bytes,
            stop=self.queue.closing,
        )
        notify = Notify(bench.destination, self.teller, self.queue)
        bury = DeadLetters(bench.store).bury
        self.runner: Runner[Any, Any] = Runner(notify, self.queue, None, bury)

    async def once(self) -> None:
        """Make an attempt on what is due, and write down what came of it."""
        async with asyncio.timeout(20):
            await self.runner.run_once()
        await self.queue.flush()


@pytest.fixture
async def bench(store: Database, tmp_path: Path) -> AsyncIterator[Bench]:
    async with fake_graph(FakeGraph(token=TOKEN)) as graph:
        yield Bench(store, graph, tmp_path / "media")


async def test_a_file_is_fetched_checked_and_its_row_says_where_it_is(
    bench: Bench,
) -> None:
    assert await bench.hear(image()) == {MEDIA}
    before = await bench.row()
    assert (before["media_url"], before["media_type"]) == (None, "image/png")
    async with bench.fetcher() as fetcher:
        await fetcher.once()
    row, place = await bench.row(), bench.kept(await bench.row())
    file = file_of(IMAGE)
    assert file
    assert place.read_bytes() == file.data
    assert (row["media_type"], row["media_filename"]) == ("image/png", place.name)
    assert place.name.endswith(".png")
    assert stat.S_IMODE(place.stat().st_mode) == 0o640
    assert [bench.files(), (await bench.outbox())["state"]] == [[place], "done"]
    assert bench.media.bearers == [f"Bearer {TOKEN}"]


async def test_what_whatsapp_said_of_a_file_stays_and_its_name_is_no_path(
    bench: Bench,
) -> None:
    media = media_id("document", 10**14)
    name = "../../etc/passwd"
    await bench.hear(
        image(media, kind="document", filename=name, mime_type="text/html")
    )
    async with bench.fetcher() as fetcher:
        await fetcher.once()
    row = await bench.row(f"wamid.{media}")
    place = bench.kept(row)
    assert (row["media_filename"], row["media_type"]) == (name, "text/html")
    assert bench.files() == [place]
    assert place.suffix == ".bin"
    assert "passwd" not in str(place)


async def test_a_type_that_the_webhook_does_not_tell_is_the_graph_apis(
    bench: Bench,
) -> None:
    await bench.hear(image(mime_type=None))
    async with bench.fetcher() as fetcher:
        await fetcher.once()
    row = await bench.row()
    assert row["media_type"] == "image/png"
    assert row["media_url"].endswith(".png")


async def test_the_same_file_name_of_two_people_is_two_objects(bench: Bench) -> None:
    one, two = (media_id("document", 10**14 + n) for n in (0, 5))
    told = [
        image(media, kind="document", filename="comprobante.pdf")
        for media in (one, two)
    ]
    await bench.hear(*told)
    async with bench.fetcher() as fetcher:
        await fetcher.once()
        await until(lambda: len(bench.files()) == 2)
    rows = [await bench.row(f"wamid.{media}") for media in (one, two)]
    assert rows[0]["media_url"] != rows[1]["media_url"]
    for media, row in zip((one, two), rows, strict=True):
        file = file_of(media)
        assert file
        assert bench.kept(row).read_bytes() == file.data


@pytest.mark.parametrize("settings", [{"graph_token": None}, {"storage": None}])
async def test_without_a_token_or_a_storage_nothing_is_to_be_fetched(
    bench: Bench, settings: dict[str, Any]
) -> None:
    bench.settings = replace(SETTINGS, **settings)
    assert MEDIA not in await bench.hear(image())
    assert await bench.store.fetch("select 1 from router.outbox") == []


async def test_a_text_owes_nobody_a_file(bench: Bench) -> None:
    text = {"from": WHO, "id": "wamid.t", "type": "text", "text": {"body": "Hola"}}
    assert MEDIA not in await bench.hear(text)


async def test_a_file_that_somebody_else_keeps_is_not_fetched_again(
    bench: Bench,
) -> None:
    desk = Desk(SETTINGS)
    raw = image(url="https://files.example/there.jpg")
    (event,) = events(raw)
    delivered = received(event)
    delivered[0].delivery.door = Door.SECRET
    told = (await Ledger(bench.store, desk).write(delivered)).told
    assert MEDIA not in told
    assert (await bench.row())["media_url"] == "https://files.example/there.jpg"


async def test_an_address_of_whatsapps_is_not_kept(bench: Bench) -> None:
    url = "https://lookaside.fbsbx.com/whatsapp_business/attachments/?mid=1&hash=x"
    await bench.hear(image(url=url))
    assert (await bench.row())["media_url"] is None


async def test_the_same_body_again_asks_for_no_second_file(bench: Bench) -> None:
    await bench.hear(image())
    first = (await bench.outbox())["payload"]
    await bench.hear(image())
    assert (await bench.outbox())["payload"] == first


async def test_an_address_that_has_run_out_is_asked_for_again(bench: Bench) -> None:
    bench.media.behave("status", status=404)
    await bench.hear(image())
    async with bench.fetcher() as fetcher:
        await fetcher.once()
    assert (len(bench.media.asked), len(bench.media.taken)) == (2, 2)
    assert bench.kept(await bench.row()).exists()
    assert (await bench.outbox())["attempts"] == 1


async def test_an_address_is_used_at_once_and_never_kept_for_later(
    bench: Bench,
) -> None:
    # Five minutes pass between two attempts: the second one asks anew.
    now = 0.0
    bench.media.clock = lambda: now
    bench.media.behave("status", status=500)
    await bench.hear(image())
    async with bench.fetcher() as fetcher:
        await fetcher.once()
        assert (await bench.row())["media_url"] is None
        now = URL_S + 1
        await bench.due()
        await fetcher.once()
    assert len(bench.media.asked) == 2
    assert bench.kept(await bench.row()).exists()


@pytest.mark.parametrize(
    ("kind", "how", "said"),
    [
        ("url", {"at": "id", "location": "https://a:b@x.test/", "times": 2}, "address not allowed"),
        ("wrong", {}, "wrong sha256"),
        ("status", {"status": 410, "times": 2}, "HTTP 410 of the file"),
        ("status", {"status": 500}, "HTTP 500 of the file"),
        ("status", {"at": "id", "status": 404}, "HTTP 404"),
        ("redirect", {"location": "http://127.0.0.1:1/x", "times": 2}, "address not allowed"),
        ("redirect", {"location": "https://10.0.0.1/x", "times": 2}, "address not allowed"),
        ("url", {"at": "id", "location": "https://169.254.169.254/", "times": 2}, "address not allowed"),
        ("url", {"at": "id", "location": "file:///etc/passwd", "times": 2}, "an address that is none"),
        ("url", {"at": "id", "location": "nonsense", "times": 2}, "an address that is none"),
        ("cut", {}, "timeout"),
        ("drip", {}, "timeout"),
        ("hang", {}, "timeout"),
        ("hang", {"at": "id"}, "timeout"),
    ],
)  # fmt: skip
async def test_what_fails_leaves_nothing_and_is_tried_again(
    bench: Bench, kind: str, how: dict[str, Any], said: str
) -> None:
    bench.destination = replace(bench.destination, timeout_s=0.5)
    bench.media.behave(kind, **how)
    await bench.hear(image())
    async with bench.fetcher() as fetcher:
        await fetcher.once()
        row = await bench.outbox()
        assert (row["state"], row["attempts"]) == ("pending", 1)
        (attempt,) = await bench.store.fetch(
            "select error, status from router.attempts"
        )
        assert attempt["error"] == said
        assert (bench.files(), (await bench.row())["media_url"]) == ([], None)
        await bench.due()
        await fetcher.once()
    assert bench.kept(await bench.row()).exists()


@pytest.mark.parametrize("lies", [True, False])
async def test_what_is_too_large_is_given_up_with_the_reason(
    bench: Bench, *, lies: bool
) -> None:
    if lies:
        bench.media.behave("more")
    else:
        bench.media.add(IMAGE, b"x" * (STORAGE.max_bytes + 1))
    await bench.hear(image(sha256=None))
    async with bench.fetcher() as fetcher:
        await fetcher.once()
    found = [letter async for letter in letters(bench.store, Wanted())]
    reason = f"too large: more than {STORAGE.max_bytes} bytes"
    assert [(it.reason, it.destination) for it in found] == [(reason, MEDIA)]
    assert ((await bench.outbox())["state"], bench.files()) == ("dead", [])
    assert (await bench.row())["media_url"] is None


async def test_after_seven_days_it_is_a_dead_letter_that_can_be_replayed(
    bench: Bench,
) -> None:
    assert 6.5 < sum(SCHEDULE_S) / 86_400 < 7
    bench.destination = replace(
        bench.destination, retry_schedule_s=(0.001,) * len(SCHEDULE_S)
    )
    bench.media.behave("status", at="id", times=len(SCHEDULE_S) + 1)
    await bench.hear(image())
    async with bench.fetcher() as fetcher:
        while (await bench.outbox())["state"] == "pending":
            await bench.due()
            await fetcher.once()
        (letter,) = [it async for it in letters(bench.store, Wanted())]
        tries = len(SCHEDULE_S) + 1
        assert letter.reason == f"given up: HTTP 404 after {tries} attempts"
        assert await tell_again(bench.store, letter, only_ask=False)
        await fetcher.once()
    assert bench.kept(await bench.row()).exists()


async def test_a_token_that_is_refused_holds_all_and_uses_nothing_up(
    bench: Bench,
) -> None:
    await bench.hear(*(image(media_id("image", 10**14 + 5 * n)) for n in range(8)))
    async with bench.fetcher(token="old") as fetcher:
        await fetcher.once()
        rows = await bench.store.fetch("select attempts, state from router.outbox")
        assert {row["state"] for row in rows} == {"pending"}
    said = await bench.store.fetch("select error from router.attempts")
    assert {row["error"] for row in said} == {"Graph error 190"}


async def test_a_stop_gives_a_slow_file_back_as_it_was(bench: Bench) -> None:
    bench.media.behave("hang")
    await bench.hear(image())
    async with bench.fetcher() as fetcher:
        working = asyncio.create_task(fetcher.once())
        await until(lambda: bench.media.taken)
        await fetcher.queue.close()
        async with asyncio.timeout(2):
            await working
    row = await bench.outbox()
    assert (row["state"], row["attempts"], row["lease"]) == ("pending", 0, None)
    assert bench.files() == []


async def test_explain_shows_what_became_of_the_file(bench: Bench) -> None:
    bench.media.behave("status", at="id", status=503)
    await bench.hear(image())
    async with bench.fetcher() as fetcher:
        await fetcher.once()
        await bench.due()
        await fetcher.once()
    life = await explained(bench.store, f"wamid.{IMAGE}")
    assert life
    (fetching,) = life["outbox"]
    assert (fetching["destination"], fetching["state"]) == (MEDIA, "done")
    assert [tried["error"] for tried in fetching["tries"]] == ["HTTP 503", None]
    assert life["message"]["media_url"].startswith(STORAGE.url)


async def test_two_processes_at_once_make_one_whole_file(bench: Bench) -> None:
    # The lease of the first runs out while it is at it; both bring it to an end.
    await bench.hear(image())
    async with bench.fetcher() as one, bench.fetcher() as two:
        (first,) = await one.queue.lease(1)
        await bench.store.execute("update router.outbox set lease_until = now()")
        (second,) = await two.queue.lease(1)
        for process, lease in ((one, first), (two, second)):
            await told(process, lease)
    file = file_of(IMAGE)
    assert file
    place = bench.kept(await bench.row())
    assert (bench.files(), place.read_bytes()) == ([place], file.data)
    row = await bench.outbox()
    assert (row["state"], row["attempts"]) == ("done", 1)


async def told(process: Fetcher, lease: Lease[Any]) -> None:
    attempt = await process.teller.tell(process.bench.destination, lease.item)
    process.queue.record(lease.item, attempt)
    lease.ack()
    await process.queue.flush()
