"""Two processes on one machine and one database: every promise holds as with one."""

import asyncio
import itertools
import socket
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from bench.load import Client, post
from router.conversation import replies
from router.conversation.menu import packaged
from tests.events import body, text_message
from tests.faults.harness import (
    HOST,
    SECRET,
    START_S,
    Load,
    Service,
    Sink,
    check,
    connected,
    dice,
    free_port,
    quiet,
    say,
)
from tests.servers import until

SEED = 20261124
KILLS = 4
MOST_KILLS = 20  # where answers are quick, few requests are under way
PEOPLE = [f"54911000{n:05d}" for n in range(20)]
ONE_EACH = """
select count(distinct v.id) = 1 and count(distinct c.id) = 1
from contactos c left join conversaciones v on v.contacto_id = c.id group by c.telefono"""
HANDED_OVER = """
select v.router_estado, v.submenu_actual, v.area,
       (select count(*) from tickets t where t.conversacion_id = v.id) as tickets,
       (select count(*) from derivaciones d where d.conversacion_id = v.id) as derivations,
       (select array_agg(m.mensaje order by m.created_at, m.timestamp) from mensajes m
        where m.conversacion_id = v.id and m.direccion = 'saliente') as said
from conversaciones v"""


@pytest.fixture(params=["reuse-port", "systemd"])
def door(request: pytest.FixtureRequest) -> Iterator[socket.socket | None]:
    """A listener that both are handed, or None where both open the port themselves."""
    if request.param == "reuse-port":
        yield None
        return
    with socket.create_server((HOST, 0), backlog=1024) as listener:
        yield listener


@asynccontextmanager
async def both(
    directory: Path,
    dsn: str,
    sink: Sink,
    *,
    door: socket.socket | None = None,
    port: int | None = None,
) -> AsyncIterator[tuple[Service, Service]]:
    """Run two: at *door*, at the same *port*, or at a port each."""
    settings = {"DATABASE_URL": dsn, "N8N_WEBHOOK_INGESTA_ROUTER_WSP4": sink.url}
    if port:
        settings |= {"PORT": str(port), "PSI_REUSE_PORT": "1"}
    places = [directory / "first", directory / "second"]
    for place in places:
        place.mkdir()
    first, second = (Service(place, settings, listener=door) for place in places)
    try:
        for service in (first, second):
            service.start()
        for service in (first, second):
            await accepts(service)
        yield first, second
    finally:
        for service in (first, second):
            if service.process and service.process.poll() is None:
                service.kill()


async def accepts(service: Service, times: int = 1) -> None:
    """Wait until *service* itself has begun to listen so many times, and is ready."""
    await until(lambda: len(service.lines("listening")) >= times, within_s=START_S)
    await service.ready()


def said(who: str, wamid: str, words: str) -> bytes:
    """Return a body with one message of this moment; its text is told to the sink."""
    now = {"timestamp": str(int(time.time()))}
    return body(text_message(who, wamid, words) | now)


async def posts(*bodies: tuple[Service, bytes]) -> None:
    """Post all at once; each has to be answered 200."""
    clients = {service.url: Client(service.url, len(bodies)) for service, _ in bodies}
    answers = await asyncio.gather(
        *(clients[s.url].send(post(s.url, data, SECRET)) for s, data in bodies)
    )
    for client in clients.values():
        client.close()
    assert Counter(a.status for a in answers) == {HTTPStatus.OK: len(bodies)}


async def found(dsn: str, query: str) -> list[Any]:
    async with connected(dsn) as connection:
        return [row[0] for row in await connection.fetch(query)]


@pytest.mark.timeout(240)
async def test_nothing_is_lost_and_somebody_answers_while_one_of_two_is_killed(
    database: str, tmp_path: Path, door: socket.socket | None
) -> None:
    say(f"seed {SEED}")
    sink, chance = Sink(SEED, fails=0.05), dice(SEED)
    at = {"door": door} if door else {"port": free_port()}
    async with sink.running(), both(tmp_path, database, sink, **at) as routers:
        load = Load(routers[0].url, SEED)
        async with load.running():
            await load.acks(100)
            for number in range(MOST_KILLS):
                if number >= KILLS and load.ledger.unknown:
                    break  # a kill met a request
                await asyncio.sleep(chance.uniform(0.1, 0.6))  # the random moment
                victim = routers[number % 2]
                victim.kill()
                await load.acks(30)  # by the other one
                victim.start()
                await accepts(victim, 2 + number // 2)
            await load.acks(100)
        await load.settle()
        await quiet(database)
        ledger = load.ledger
        say(f"{len(ledger.sent)} sent, {ledger.unknown} cut, {ledger.refused} refused")
        assert await check(database, ledger, sink) == {}
        assert ledger.unknown
        assert ledger.sent == ledger.acked
        for router in routers:
            assert router.lines("message_processed")
    assert set(await found(database, ONE_EACH)) == {True}


async def test_one_person_is_one_contact_and_one_conversation_whoever_took_the_body(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    async with both(tmp_path, database, sink) as routers:
        turns = itertools.cycle(routers)
        for wave in range(3):
            for start in range(0, len(PEOPLE), 10):
                await posts(
                    *(
                        (next(turns), said(who, f"wamid.{who}.{wave}.{n}", "Hola"))
                        for who in PEOPLE[start : start + 10]
                        for n in range(5)
                    )
                )
        await quiet(database)
    assert await found(database, ONE_EACH) == [True] * len(PEOPLE)
    async with connected(database) as connection:
        heard = await connection.fetch(
            "select conversacion_id, count(*) as n from mensajes"
            " where direccion = 'entrante' group by 1"
        )
    assert [row["n"] for row in heard] == [15] * len(PEOPLE)


async def test_a_body_that_both_take_at_once_is_one_row_told_under_one_id(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    async with both(tmp_path, database, sink) as routers:
        bodies = [said(who, f"wamid.{who}", f"it's {who}") for who in PEOPLE]
        for data in bodies:
            await posts(*((router, data) for router in routers * 4))
        await quiet(database)
    assert await found(database, "select count(*) from mensajes") == [
        len(bodies) + await menus(database)
    ]
    assert sink.told.keys() == {f"it's {who}" for who in PEOPLE}
    assert {len(ids) for ids in sink.told.values()} == {1}
    assert {len(hashes) for hashes in sink.bodies.values()} == {1}


async def menus(dsn: str) -> int:
    """Return how many replies there are: a menu for each person."""
    query = "select count(*) from mensajes where direccion = 'saliente'"
    (count,) = await found(dsn, query)
    assert count == len(PEOPLE)
    return int(count)


async def test_the_menu_goes_on_where_the_other_process_left_it(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    async with both(tmp_path, database, sink) as routers:
        turns = itertools.cycle(routers)
        for words in ("Hola", "2", "22"):
            await posts(
                *((next(turns), said(w, f"wamid.{w}.{words}", words)) for w in PEOPLE)
            )
            next(turns)  # whoever took "Hola" does not get to see the "2"
        await quiet(database)
    menu = packaged()
    async with connected(database) as connection:
        rows = await connection.fetch(HANDED_OVER)
    assert len(rows) == len(PEOPLE)
    for row in rows:
        assert (row["router_estado"], row["submenu_actual"]) == ("derivada", "22")
        assert (row["tickets"], row["derivations"]) == (1, 1)
        assert row["said"][:2] == [
            replies.main_menu(menu).text,
            replies.submenu(menu, "2").text,
        ]
        assert len(row["said"]) == 3


async def test_two_processes_that_hand_over_at_once_make_one_ticket(
    database: str, tmp_path: Path, sink: Sink
) -> None:
    async with both(tmp_path, database, sink) as routers:
        await posts(*((routers[0], said(w, f"wamid.{w}", "Hola")) for w in PEOPLE))
        for who in PEOPLE:
            await posts(
                *(
                    (router, said(who, f"wamid.{who}.{n}", code))
                    for n, (router, code) in enumerate(
                        zip(routers * 2, ("22", "22", "11", "31"), strict=True)
                    )
                )
            )
        await quiet(database)
    async with connected(database) as connection:
        rows = await connection.fetch(HANDED_OVER)
        numbers = await connection.fetch("select ticket_id from tickets order by 1")
    assert [(row["tickets"], row["derivations"]) for row in rows] == [(1, 1)] * len(
        PEOPLE
    )
    assert len({row["ticket_id"] for row in numbers}) == len(PEOPLE)


async def test_what_one_person_wrote_is_told_in_its_order_whoever_took_it(
    database: str, tmp_path: Path
) -> None:
    sink = Sink(SEED, fails=0.1)
    people, waves = PEOPLE[:10], 12
    async with sink.running(), both(tmp_path, database, sink) as routers:
        turns = itertools.cycle(routers)
        for wave in range(waves):
            await posts(
                *(
                    (next(turns), said(w, f"wamid.{w}.{wave}", f"{w} {wave}"))
                    for w in people
                )
            )
            next(turns)
        await quiet(database)
    assert sink.refused
    told = defaultdict(list)
    for words in sink.told:  # in the order in which they were taken
        person, _, number = words.partition(" ")
        told[person].append(int(number))
    assert told == {person: list(range(waves)) for person in people}
