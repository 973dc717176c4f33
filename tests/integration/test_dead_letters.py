"""What was buried is listed, shown and tried again, on real tables."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from router.cli import dead_letters, main, rereading
from router.config import Destination, Settings
from router.model import Delivery, Door, Event, Notification, Received
from router.stages.desk import Desk
from router.store.archive import bodies_with, strings_in, telltale
from router.store.database import Database, Row
from router.store.dead_letters import DeadLetters, Wanted, letters
from router.store.ledger import Ledger
from router.whatsapp.events import read
from tests.events import body, message, now, received, text_message

WHO = "5491100000001"
SETTINGS = Settings(
    database_url="",
    verify_token="token",
    app_secrets=(b"s",),
    destinations=(
        Destination(name="ingesta_wsp4", url="http://127.0.0.1:9/ingesta_wsp4"),
    ),
)
ROWS = "select to_jsonb(t) as row from {} t order by 1"
ENVIRONMENT = {
    "WHATSAPP_APP_SECRET": "secret",
    "WHATSAPP_VERIFY_TOKEN": "token",
    "N8N_WEBHOOK_INGESTA_ROUTER_WSP4": "http://127.0.0.1:9/ingesta_wsp4",
}


@pytest.fixture
def ledger(store: Database) -> Ledger:
    return Ledger(store, Desk(SETTINGS))


@pytest.fixture
def graveyard(store: Database) -> DeadLetters:
    return DeadLetters(store)


@pytest.fixture
def replay(store: Database) -> rereading.Replay:
    return rereading.Replay(SETTINGS, store)


async def the(store: Database, sql: str) -> Row:
    (row,) = await store.fetch(sql)
    return row


async def all_letters(store: Database, **wanted: Any) -> list[Any]:
    return [found async for found in letters(store, Wanted(**wanted), bodies=True)]


async def state(store: Database) -> list[Any]:
    """Return what a second replay may not change."""
    tables = (
        "mensajes",
        "conversaciones",
        "contactos",
        "router.outbox",
        "router.statuses",
        "router.notices",
    )
    return [
        [row["row"] for row in await store.fetch(ROWS.format(name))] for name in tables
    ]


def delivered(*messages: dict[str, Any]) -> Delivery:
    return Delivery(body=body(*messages), door=Door.META, received_at=now())


async def bury_event(graveyard: DeadLetters, event: Event, delivery: Delivery) -> None:
    await graveyard.bury("persist", Received(event, delivery), "it was a bug")


async def test_a_buried_event_is_stored_by_a_replay_of_the_body_it_came_in(
    store: Database,
    ledger: Ledger,
    graveyard: DeadLetters,
    replay: rereading.Replay,
) -> None:
    delivery = delivered(
        text_message(WHO, "wamid.taken"), text_message(WHO, "wamid.buried/+=", "Che")
    )
    taken, buried = read(delivery.body, delivery.door)
    await bury_event(graveyard, buried, delivery)
    await ledger.write([Received(taken, delivery)])
    (letter,) = await all_letters(store)
    assert await replay.one(letter) is None
    rows = await store.fetch(
        "select whatsapp_message_id as id, metadata->>'delivery' as delivery"
        " from mensajes where direccion = 'entrante' order by id"
    )
    assert {row["id"] for row in rows} == {"wamid.taken", "wamid.buried/+="}
    archived = await the(store, "select id from router.deliveries")
    assert {row["delivery"] for row in rows} == {str(archived["id"])}
    told = await store.fetch("select 1 from router.outbox")
    assert len(told) == 2
    before = await state(store)
    (letter,) = await all_letters(store)
    assert letter.replayed_at is not None
    assert await replay.one(letter) is None
    assert await state(store) == before


async def test_an_event_that_can_never_be_stored_keeps_no_other_of_its_body_back(
    store: Database, graveyard: DeadLetters, replay: rereading.Replay
) -> None:
    await store.execute(
        "alter table mensajes add constraint plain check (mensaje <> 'veneno')"
    )
    delivery = delivered(
        text_message(WHO, "wamid.bad", "veneno"), text_message(WHO, "wamid.good")
    )
    await graveyard.bury("normalize", delivery, "it was a bug")
    (letter,) = await all_letters(store)
    assert await replay.one(letter)
    rows = await store.fetch("select * from mensajes where direccion = 'entrante'")
    assert [row["whatsapp_message_id"] for row in rows] == ["wamid.good"]
    (letter,) = await all_letters(store)
    assert letter.replayed_at is None


async def test_a_buried_body_that_can_be_read_now_is_read_by_the_door_it_came_by(
    store: Database, graveyard: DeadLetters, replay: rereading.Replay
) -> None:
    raw = json.dumps({"telefono": WHO, "mensaje": "Hola", "messageId": "m1"}).encode()
    delivery = Delivery(body=raw, door=Door.SECRET, received_at=now())
    await graveyard.bury("normalize", delivery, "it was a bug")
    (letter,) = await all_letters(store)
    assert await replay.one(letter) is None
    row = await the(store, "select mensaje from mensajes where direccion = 'entrante'")
    assert row["mensaje"] == "Hola"


async def test_what_is_still_no_json_stays_and_says_so(
    store: Database, graveyard: DeadLetters, replay: rereading.Replay
) -> None:
    bad = Delivery(body=b"{'a': 1}", door=Door.META, received_at=now())
    await graveyard.bury("normalize", bad, "malformed")
    (letter,) = await all_letters(store)
    assert await replay.one(letter) == "the body is still no JSON"
    (letter,) = await all_letters(store)
    assert letter.replayed_at is None


async def test_an_event_whose_body_is_gone_cannot_be_replayed(
    store: Database, graveyard: DeadLetters, replay: rereading.Replay
) -> None:
    delivery = delivered(text_message(WHO, "wamid.1"))
    (event,) = read(delivery.body, delivery.door)
    await bury_event(graveyard, event, delivery)
    await store.execute("delete from router.deliveries")
    (letter,) = await all_letters(store)
    assert "not in the archive" in str(await replay.one(letter))


async def test_bodies_are_found_by_their_time_among_many(store: Database) -> None:
    await store.execute(
        "insert into router.deliveries (id, received_at, door, body)"
        " overriding system value"
        " select n * 700, $1::timestamptz + n * interval '10 minutes', 'meta',"
        " convert_to('body ' || n, 'UTF8') from generate_series(1, 3000) n",
        now(),
    )
    at = now() + timedelta(minutes=20_000)

    async def found(part: bytes) -> list[bytes]:
        return [body.body async for body in bodies_with(store, part, at)]

    for near in (b"body 1996", b"body 1500"):
        assert await found(near) == [near]
    for more_than_a_week_before_or_after in (b"body 900", b"body 2500"):
        assert await found(more_than_a_week_before_or_after) == []
    assert len(await found(b"body 199")) == len(range(1990, 2000))
    every = await found(b"body")
    assert len(every) == len(set(every)) == 7 * 24 * 6 + 1
    assert every[0] == b"body 1994"  # of the last hour


def test_what_is_looked_for_is_a_part_that_no_json_escapes() -> None:
    for names, part in (
        (["wamid.HBgNNTQ5MTE/mEVS+0E4RDBCMjQxRjY1/QzA="], b"0E4RDBCMjQxRjY1"),
        (["wamid.a/b"], b"wamid.a"),
        (["text", "wamid.a/b", "ñandú"], b"wamid.a"),
        (['"\\ñ'], b""),
        ([], b""),
    ):
        assert telltale(names) == part
    assert sorted(strings_in({"a": ["b", {"c": "d"}], "e": 1, "f": None})) == ["b", "d"]


@pytest.mark.parametrize("waited", [timedelta(0), timedelta(days=2)])
async def test_a_body_is_found_by_an_id_with_slashes_among_many_of_its_hour(
    store: Database,
    graveyard: DeadLetters,
    replay: rereading.Replay,
    waited: timedelta,
) -> None:
    for number in range(1, 61):
        other = delivered(text_message(WHO, f"wamid.{number}/other="))
        await store.execute(
            "insert into router.deliveries (id, received_at, door, body)"
            " overriding system value values ($1, $2, 'meta', $3)",
            number,
            other.received_at,
            other.body,
        )
    await store.execute("select setval('router.deliveries_id_seq', 100)")
    wanted = delivered(text_message(WHO, "wamid.of/it="))
    wanted.body = wanted.body.replace(b"/", b"\\/")
    wanted.received_at -= waited
    (event,) = read(wanted.body, wanted.door)
    await bury_event(graveyard, event, wanted)
    (letter,) = await all_letters(store)
    assert await replay.one(letter) is None
    row = await the(
        store,
        "select whatsapp_message_id as name from mensajes where direccion = 'entrante'",
    )
    assert row["name"] == "wamid.of/it="


async def given_up(
    store: Database, ledger: Ledger, graveyard: DeadLetters
) -> Notification:
    """Return a notification that was given up, with its letter."""
    await ledger.write(received(message(WHO)))
    row = await the(store, "select * from router.outbox")
    told = Notification(
        row["id"], row["destination"], row["key"], row["lane"], row["payload"], 7
    )
    await store.execute("update router.outbox set state = 'dead', attempts = 7")
    await graveyard.bury("notify", told, "HTTP 500")
    return told


async def test_what_was_not_confirmed_is_told_again_under_its_key(
    store: Database,
    ledger: Ledger,
    graveyard: DeadLetters,
    replay: rereading.Replay,
) -> None:
    told = await given_up(store, ledger, graveyard)
    (letter,) = await all_letters(store)
    assert await replay.one(letter) is None
    row = await the(
        store, "select *, next_attempt_at <= now() as due from router.outbox"
    )
    assert (row["id"], row["key"], row["payload"]) == (told.id, told.key, told.payload)
    assert (row["state"], row["attempts"], row["due"]) == ("pending", 0, True)
    assert (await the(store, "select replayed_at from router.dead_letters"))[0]


@pytest.mark.parametrize("now", ["done", "pending", "unknown"])
async def test_what_was_confirmed_or_is_under_way_is_not_told_again(
    store: Database,
    ledger: Ledger,
    graveyard: DeadLetters,
    replay: rereading.Replay,
    now: str,
) -> None:
    await given_up(store, ledger, graveyard)
    await store.execute("update router.outbox set state = $1", now)
    (letter,) = await all_letters(store)
    assert await replay.one(letter) == "ingesta_wsp4 need not be told again"
    row = await the(store, "select state, attempts from router.outbox")
    assert (row["state"], row["attempts"]) == (now, 7)
    assert (await the(store, "select replayed_at from router.dead_letters"))[0] is None


async def test_a_message_to_a_person_is_not_said_again(
    store: Database, graveyard: DeadLetters, replay: rereading.Replay
) -> None:
    said = Notification(1, "whatsapp", "psi_1", "lane", b"{}", 1)
    await graveyard.bury("notify", said, "131026")
    (letter,) = await all_letters(store)
    assert "not said again" in str(await replay.one(letter))


async def test_a_dry_run_changes_nothing(
    store: Database, ledger: Ledger, graveyard: DeadLetters
) -> None:
    await given_up(store, ledger, graveyard)
    delivery = delivered(text_message(WHO, "wamid.buried"))
    (event,) = read(delivery.body, delivery.door)
    await bury_event(graveyard, event, delivery)
    before = await state(store)
    dry = rereading.Replay(SETTINGS, store, dry_run=True)
    assert [await dry.one(letter) for letter in await all_letters(store)] == [
        None,
        None,
    ]
    assert await state(store) == before
    assert len(await all_letters(store, fresh=True)) == 2


async def test_letters_are_chosen_by_everything_that_is_asked(
    store: Database, ledger: Ledger, graveyard: DeadLetters
) -> None:
    await given_up(store, ledger, graveyard)
    for number in range(9):
        raw = b"{'%d" % number
        bad = Delivery(body=raw, door=Door.META, received_at=now())
        await graveyard.bury("normalize", bad, "Malformed: no JSON")
    assert [found.id for found in await all_letters(store)] == list(range(1, 11))
    (told,) = await all_letters(store, destination="ingesta_wsp4")
    assert (told.stage, told.reason) == ("notify", "HTTP 500")
    assert len(await all_letters(store, stage="normalize", reason="no json")) == 9
    assert len(await all_letters(store, ids=[2, 3, 99])) == 2
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert await all_letters(store, since=soon) == []
    assert len(await all_letters(store, until=soon)) == 10
    assert await all_letters(store, until=soon - timedelta(hours=2)) == []
    await store.execute(
        "update router.dead_letters set replayed_at = last_at where id > 1"
    )
    assert [found.id for found in await all_letters(store, fresh=True)] == [1]
    bad = Delivery(body=b"{'4", door=Door.META, received_at=now())
    await graveyard.bury("normalize", bad, "again")
    assert [found.id for found in await all_letters(store, fresh=True)] == [1, 6]


async def test_letters_of_a_person_are_found_by_any_name_that_they_have(
    store: Database, ledger: Ledger, graveyard: DeadLetters
) -> None:
    told = await given_up(store, ledger, graveyard)  # 1: of WHO's message
    lane = await the(store, "select lane from router.outbox")
    silent = Notification(2, "reports", "psi_2", lane["lane"], b"{}", 1)
    await graveyard.bury("notify", silent, "HTTP 500")  # 2: says nothing of them
    await store.execute(
        "insert into router.outbox (destination, key, lane, payload, next_attempt_at,"
        " state) values ('reports', 'psi_2', $1, '', now(), 'dead')",
        told.lane,
    )
    buried = delivered(text_message(WHO, "wamid.buried"))
    (event,) = read(buried.body, buried.door)
    await bury_event(graveyard, event, buried)  # 3
    other = delivered(text_message("5491100000002", "wamid.other"))
    (event,) = read(other.body, other.door)
    await bury_event(graveyard, event, other)  # 4: somebody else's
    for name in (WHO, "+54 9 11 0000-0001", "541100000001", "011 15 0000 0001"):
        found = await all_letters(store, contact=name)
        assert [letter.id for letter in found] == [1, 2, 3], name
    (row,) = await all_letters(store, contact="5491100000002")
    assert row.id == 4  # of whom no row is known
    assert await all_letters(store, contact="5491100000009") == []


@pytest.mark.usefixtures("settings_of_the_command")
def test_a_replay_keeps_to_its_rate(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def bury_five() -> None:
        store = Database(database)
        await store.open()
        for number in range(5):
            good = delivered(text_message(WHO, f"wamid.{number}"))
            (event,) = read(good.body, good.door)
            await bury_event(DeadLetters(store), event, good)
        await store.close()

    asyncio.run(bury_five())
    started = time.monotonic()
    assert main(["dead-letters", "replay", "--rate", "5"]) == 0
    assert time.monotonic() - started >= 1.0
    assert capsys.readouterr().out.count("replayed") == 5


@pytest.mark.parametrize(
    ("word", "ago"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("3d", 259200)],
)
def test_a_time_may_be_said_as_so_long_ago(word: str, ago: int) -> None:
    at = dead_letters.since(word)
    assert ago <= (datetime.now(UTC) - at).total_seconds() < ago + 5
    assert dead_letters.since("2026-11-20T10:00:00Z").hour == 10
    assert dead_letters.since("2026-11-20").tzinfo


@pytest.fixture
def settings_of_the_command(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**ENVIRONMENT, "DATABASE_URL": database}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("settings_of_the_command")
def test_the_command_lists_shows_and_replays(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def bury_two() -> None:
        store = Database(database)
        await store.open()
        graveyard = DeadLetters(store)
        good = delivered(text_message(WHO, "wamid.buried", "secreto"))
        (event,) = read(good.body, good.door)
        await bury_event(graveyard, event, good)
        bad = Delivery(body=b"{\xff", door=Door.META, received_at=now())
        await graveyard.bury("normalize", bad, "malformed\nñ")
        await store.close()

    asyncio.run(bury_two())
    assert main(["dead-letters", "list"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("1  persist")
    assert "it was a bug" in first
    assert "secreto" not in first
    assert second.endswith("malformed\\n\\xf1")
    assert main(["dead-letters", "show", "1", "2", "7"]) == 1
    said = capsys.readouterr()
    shown = [json.loads(line) for line in said.out.splitlines()]
    assert "secreto" in shown[0]["body"]
    assert len({letter["fingerprint"] for letter in shown}) == 2
    assert shown[0]["first_at"] == shown[0]["last_at"]
    assert shown[1]["body_base64"] == "e/8="
    assert "no letter 7" in said.err
    assert main(["dead-letters", "replay", "--dry-run", "--stage", "persist"]) == 0
    assert capsys.readouterr().out == "would replay 1\n"
    assert main(["dead-letters", "replay"]) == 1
    assert capsys.readouterr().out == "replayed 1\nleft 2: the body is still no JSON\n"
    assert main(["dead-letters", "replay", "--since", "1h", "--stage", "persist"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


@pytest.mark.usefixtures("settings_of_the_command")
def test_a_replay_of_numbers_says_which_are_not_there(
    database: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def bury_one() -> None:
        store = Database(database)
        await store.open()
        good = delivered(text_message(WHO, "wamid.buried"))
        (event,) = read(good.body, good.door)
        await bury_event(DeadLetters(store), event, good)
        await store.close()

    asyncio.run(bury_one())
    for more, done in ((["--dry-run"], "would replay 1\n"), ([], "replayed 1\n")):
        assert main(["dead-letters", "replay", "99", "1", "7", *more]) == 1
        said = capsys.readouterr()
        assert said.out == done
        assert said.err.splitlines() == [
            "psi-router: there is no letter 7",
            "psi-router: there is no letter 99",
        ]
    # One that is there and not among what else is asked is not said to be missing.
    assert main(["dead-letters", "replay", "1", "--stage", "notify"]) == 0
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_wrong_usage_settings_and_an_absent_database_have_their_statuses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (*ENVIRONMENT, "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    for wrong in (
        ["show"],
        ["list", "--since", "soon"],
        ["list", "--since", "9999999999999d"],
        ["replay", "--rate", "0"],
        ["list", "--contact", "ana"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["dead-letters", *wrong])
        assert stopped.value.code == 2
    assert main(["dead-letters", "list"]) == 78
    assert main(["dead-letters", "replay"]) == 78
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1:1/nothing")
    assert main(["dead-letters", "list"]) == 69
