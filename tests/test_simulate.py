"""Synthetic traffic: shaped like WhatsApp's, the same for the same seed, and counted."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import groupby

import orjson
import pytest
from aiohttp import web

from router.cli import main
from router.cli.simulate import CONNECTIONS, Sender
from router.cli.traffic import ALBUM, REMEMBERED, Body, Traffic
from router.model import Door
from router.whatsapp.events import read
from router.whatsapp.signature import sign

START = 1_795_000_000
NOBODY = "http://127.0.0.1:9/webhook"  # the discard port: nothing listens there


@dataclass
class StandIn:
    """A stand-in for the router: keeps what came, answers as it is told."""

    url: str = ""
    bodies: list[bytes] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)
    refuse_every: int = 0
    wait_for: int = 0  # answer only once so many requests are in
    inside: int = 0
    most: int = 0
    full: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, request: web.Request) -> web.Response:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.bodies.append(await request.read())
        self.signatures.append(request.headers["X-Hub-Signature-256"])
        if self.inside >= self.wait_for:
            self.full.set()
        await self.full.wait()
        self.inside -= 1
        refused = self.refuse_every and len(self.bodies) % self.refuse_every == 0
        return web.Response(status=503 if refused else 200)


@pytest.fixture
async def door() -> AsyncIterator[StandIn]:
    door = StandIn()
    app = web.Application()
    app.router.add_post("/webhook", door.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    door.url = f"http://127.0.0.1:{runner.addresses[0][1]}/webhook"
    yield door
    await runner.cleanup()


async def simulate(*arguments: str) -> int:
    """Run the command; it has an event loop of its own."""
    return await asyncio.to_thread(main, ["simulate", *arguments])


def bodies(count: int, **options: float | str) -> list[Body]:
    return list(Traffic(seed=1, start=START, **options).bodies(count))  # type: ignore[arg-type]


# --- the traffic


def test_the_same_seed_gives_the_same_bodies_and_another_seed_others() -> None:
    def made(seed: int) -> list[Body]:
        traffic = Traffic(seed=seed, start=START, statuses=0.3, duplicates=0.2, batch=3)
        return list(traffic.bodies(100))

    assert made(1) == made(1)
    assert not {body.data for body in made(1)} & {body.data for body in made(2)}


def test_every_body_is_read_as_the_updates_that_it_says_it_has() -> None:
    for body in bodies(2000, statuses=0.3, batch=7):
        events = read(body.data, Door.META)
        statuses = [event for event in events if event.kind.startswith("status.")]
        messages = [event for event in events if event.kind.startswith("message.")]
        assert len(messages) + len(statuses) == len(events)
        assert tuple(event.id for event in messages) == body.messages
        assert len(statuses) == len(body.statuses)


def test_all_kinds_come_and_none_is_unknown() -> None:
    kinds = Counter(
        event.kind
        for body in bodies(3000, statuses=0.2)
        for event in read(body.data, Door.META)
    )
    assert not [kind for kind in kinds if "unrecognised" in kind or "malformed" in kind]
    assert {"message.text", "message.image", "message.document"} <= kinds.keys()
    assert {"status.sent", "status.delivered", "status.read"} <= kinds.keys()


def test_ids_are_never_the_same_and_phones_are_invented() -> None:
    made = bodies(5000, contacts=50)
    ids = [wamid for body in made for wamid in body.messages]
    assert len(set(ids)) == len(ids) == 5000
    phones = set(re.findall(rb'"from":"(\d+)"', b"".join(body.data for body in made)))
    assert all(re.fullmatch(rb"54911000\d{5}", phone) for phone in phones)
    assert 30 < len(phones) < 50, "some people show no phone"


def test_updates_are_counted_and_repeats_come_on_top() -> None:
    made = bodies(1003, batch=10, duplicates=0.25)
    fresh = [body for body in made if not body.again]
    again = [body for body in made if body.again]
    assert sum(len(body.messages) for body in fresh) == 1003
    assert len(fresh) == 101
    assert {body.data for body in again} <= {body.data for body in fresh}
    assert 10 < len(again) < 45


def test_what_comes_again_has_come_not_long_ago() -> None:
    made = bodies(5000, duplicates=0.5)
    last = {body.data: place for place, body in enumerate(made) if not body.again}
    ages = [place - last[body.data] for place, body in enumerate(made) if body.again]
    assert 0 < min(ages) <= max(ages) <= 2 * REMEMBERED


def test_a_text_may_carry_the_message_s_id() -> None:
    (body,) = bodies(1, text="hola {id}")
    (event,) = read(body.data, Door.META)
    assert event.content
    assert event.content.said == f"hola {body.messages[0]}"


def test_an_album_is_several_images_of_one_person_in_one_second() -> None:
    sent = [
        event
        for body in bodies(3000, albums=0.1, contacts=50_000, batch=3)
        for event in read(body.data, Door.META)
    ]
    runs = [
        list(run) for _, run in groupby(sent, lambda e: (e.kind, e.person, e.timestamp))
    ]
    albums = [run for run in runs if run[0].kind == "message.image" and len(run) > 1]
    assert 100 < len(albums) < 300
    assert max(map(len, albums)) == ALBUM[1]
    assert len({event.id for event in sent}) == 3000


def test_three_statuses_come_for_each_message() -> None:
    made = bodies(4000, statuses=0.75, batch=10)
    messages = sum(len(body.messages) for body in made)
    assert 2.7 < sum(len(body.statuses) for body in made) / messages < 3.3


def test_many_people_are_many() -> None:
    made = bodies(2000, contacts=200_000, batch=100)
    people = set(
        re.findall(rb'"from_user_id":"([^"]+)"', b"".join(b.data for b in made))
    )
    assert len(people) > 1900


# --- the command


async def test_all_answered_2xx_is_0_and_the_report_says_so(
    door: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await simulate("--url", door.url, "--count", "30", "--seed", "5") == 0
    out, err = capsys.readouterr()
    assert len(door.bodies) == 30
    assert re.search(r"^sent +30 \(30 updates, 0 re-posts\)", out, re.MULTILINE)
    assert re.search(r"^2xx +30$", out, re.MULTILINE)
    assert re.search(r"^refused +0$", out, re.MULTILINE)
    assert re.search(r"^latency ms +p50 .* p95 .* p99 .* max ", out, re.MULTILINE)
    assert re.search(r"^seed +5$", out, re.MULTILINE)
    assert err == "", "a progress bar is for a terminal"


async def test_refusals_are_counted_and_make_it_1(
    door: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    door.refuse_every = 3
    assert await simulate("--url", door.url, "--count", "30") == 1
    assert re.search(
        r"^refused +10 \(10 x 503\)$", capsys.readouterr().out, re.MULTILINE
    )


async def test_nothing_listens_is_69(capsys: pytest.CaptureFixture[str]) -> None:
    assert await simulate("--url", NOBODY) == 69
    assert f"nothing listens at {NOBODY}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        ["--url", "ftp://127.0.0.1/"],
        ["--count", "0"],
        ["--rate", "-1"],
        ["--duplicates", "1.5"],
        ["--albums", "-0.1"],
        ["--burst", "0"],
        ["--statuses", "nan"],
    ],
)
def test_wrong_usage_is_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["simulate", *wrong])
    assert ended.value.code == 2
    assert wrong[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "option", "used"),
    [
        (None, None, b"demo-app-secret"),
        ("of-the-environment", None, b"of-the-environment"),
        ("new, old", None, b"new"),
        ("of-the-environment", "given", b"given"),
    ],
)
async def test_the_secret_is_the_given_one_then_the_environment_s_then_the_demo_s(
    door: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    environment: str | None,
    option: str | None,
    used: bytes,
) -> None:
    if environment:
        monkeypatch.setenv("WHATSAPP_APP_SECRET", environment)
    secret = ("--secret", option) if option else ()
    assert await simulate("--url", door.url, "--count", "1", *secret) == 0
    assert door.signatures == [sign(door.bodies[0], used)]


async def test_repeats_are_the_same_bytes(door: StandIn) -> None:
    options = (
        "--count",
        "100",
        "--duplicates",
        "0.3",
        "--statuses",
        "0.2",
        "--batch",
        "2",
    )
    assert await simulate("--url", door.url, *options, "--seed", "1") == 0
    assert len(set(door.bodies)) == 50 < len(door.bodies)


async def test_the_rate_counts_updates_and_a_slow_answer_delays_no_other(
    door: StandIn,
) -> None:
    door.wait_for = 10  # ten bodies of two updates: answered when the last is there
    clock = asyncio.get_running_loop().time
    began = clock()
    options = ("--count", "20", "--batch", "2", "--rate", "100")
    assert await simulate("--url", door.url, *options) == 0
    assert clock() - began >= 0.18


def test_a_burst_leaves_at_once_and_the_rate_is_kept() -> None:
    sender = Sender("http://x.invalid/", b"secret", rate=25.0, burst=5)
    assert [sender.due_s(n) for n in range(11)] == [0.0] * 5 + [0.2] * 5 + [0.4]
    assert Sender("http://x.invalid/", b"secret", burst=5).due_s(7) == 0.0


async def test_the_second_burst_waits_for_its_time(door: StandIn) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    options = ("--count", "10", "--rate", "25", "--burst", "5", "--albums", "0.5")
    assert await simulate("--url", door.url, *options) == 0
    assert clock() - began >= 0.2
    assert len(door.bodies) == 10


async def test_connections_are_bounded(door: StandIn) -> None:
    door.wait_for = CONNECTIONS
    assert await simulate("--url", door.url, "--count", str(3 * CONNECTIONS)) == 0
    assert door.most == CONNECTIONS


def test_a_message_of_a_body_has_its_person_among_the_contacts() -> None:
    for body in bodies(200, batch=5):
        value = orjson.loads(body.data)["entry"][0]["changes"][0]["value"]
        known = {contact["user_id"] for contact in value["contacts"]}
        assert known == {message["from_user_id"] for message in value["messages"]}
