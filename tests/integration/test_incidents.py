"""What went wrong before, over real tables: each test is a promise of docs/incidents.md."""

import asyncio
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from router.config import Destination, Line, Settings
from router.conversation import replies
from router.conversation.menu import AREAS, packaged
from router.errors import Poison
from router.model import Content, Door, Event, Media, Person
from router.stages.desk import Desk
from router.store.database import Database, Row
from router.store.ledger import Ledger
from router.whatsapp.events import read
from router.whatsapp.outgoing import Outgoing
from tests.events import message, received, status
from tests.servers import until

WHO, OTHER = "5491100000001", "5491100000002"
MAIN, VENTAS, NOBODYS = "100000000000001", "100000000000002", "100000000000009"
CORPUS = Path(__file__).parents[1] / "corpus"
MENU = packaged()
WELCOME = replies.main_menu(MENU).text
ALUMNOS = replies.submenu(MENU, "2").text
LEAVES = sorted(option.code for option in MENU.options() if option.area)
# As router.config names what N8N_WEBHOOK_* says.
NAMES = {
    "Administración": "administracion",
    "Alumnos": "alumnos",
    "Comunidad": "comunidad",
    "Ventas": "ventas_1",
}
INGESTA = tuple(f"ingesta_{name}" for name in ("wsp4", *NAMES.values()))
ENVIOS = tuple(f"envios_{name}" for name in ("crm", *NAMES.values()))


def settings(*told: str, lines: tuple[Line, ...] = (), **more: Any) -> Settings:
    return Settings(
        database_url="",
        verify_token="token",
        app_secrets=(b"s",),
        graph_token="token",
        lines=lines or (Line(name="wsp4", phone_number_id=MAIN),),
        destinations=tuple(
            Destination(name=name, url=f"https://n8n.example/hook/{name}")
            for name in told
        ),
        **more,
    )


@dataclass
class School:
    """A router at the desk of PSI, and what can be read of what it did."""

    store: Database
    settings: Settings = field(default_factory=lambda: settings(*INGESTA, *ENVIOS))
    ledger: Ledger = field(init=False)
    clock: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(self.store, Desk(self.settings))
        self.clock = datetime.now(UTC) - timedelta(minutes=5)

    async def hears(self, *said: Event | str) -> None:
        """Take each in a body of its own; a text is WHO's, 3 s after the one before."""
        for one in said:
            await self.ledger.write(received(self._event(one)))

    async def hears_at_once(self, *said: Event) -> None:
        """Take them in one body."""
        await self.ledger.write(received(*said))

    def _event(self, said: Event | str) -> Event:
        if isinstance(said, Event):
            return said
        self.clock += timedelta(seconds=3)
        return typed(said, timestamp=self.clock)

    async def answers(self, who: str = WHO) -> list[str]:
        """Return what the bot ever said to somebody, in order."""
        rows = await self.store.fetch(
            "select m.mensaje from mensajes m join conversaciones c"
            " on c.id = m.conversacion_id where c.telefono = $1"
            " and m.remitente_tipo = 'system' order by m.timestamp, m.id",
            who,
        )
        return [row["mensaje"] for row in rows]

    async def heard(self, who: str = WHO) -> list[str]:
        """Return what is stored of somebody's own words, in order."""
        rows = await self.store.fetch(
            "select m.mensaje from mensajes m join conversaciones c"
            " on c.id = m.conversacion_id where c.telefono = $1"
            " and m.direccion = 'entrante' order by m.timestamp, m.id",
            who,
        )
        return [row["mensaje"] for row in rows]

    async def conversation(self, who: str = WHO) -> Row:
        """Return the only conversation of somebody."""
        (row,) = await self.store.fetch(
            "select * from conversaciones where telefono = $1", who
        )
        return row

    async def told(self, destination: str) -> list[dict[str, Any]]:
        rows = await self.store.fetch(
            "select payload from router.outbox where destination = $1 order by id",
            destination,
        )
        return [json.loads(row["payload"]) for row in rows]

    async def sent(self) -> list[Outgoing]:
        rows = await self.store.fetch(
            "select payload from router.outbox where destination = 'whatsapp'"
            " order by id"
        )
        return [Outgoing.from_bytes(row["payload"]) for row in rows]

    async def all_of(self, table: str) -> list[Row]:
        return await self.store.fetch(f"select * from {table}")  # noqa: S608 -- ours


def typed(text: str, who: str = WHO, **more: Any) -> Event:
    return message(who, text=text, **{"timestamp": datetime.now(UTC), **more})


def photo(who: str = WHO, **more: Any) -> Event:
    media = Media(type="image", id="M1", mime_type="image/jpeg")
    content = Content(text="[Imagen]", tipo="image", media=media)
    return typed("", who, kind="message.image", content=content, **more)


def of_corpus(name: str) -> list[Event]:
    """Return what a body of the corpus reports, as if it had happened now, by WHO."""
    now = datetime.now(UTC)
    events = read((CORPUS / f"{name}.json").read_bytes(), Door.META)
    return [
        replace(event, timestamp=now, phone_number_id=MAIN, person=Person(wa_id=WHO))
        for event in events
    ]


@pytest.fixture
def school(store: Database) -> School:
    return School(store)


# --- lost or unanswered


@pytest.mark.parametrize(
    "said",
    [
        ("Hola!!", "2.", "22"),
        ("Buenas tardes", " la 2 ", "opción 22"),
        ("hola", "ALUMNOS", "clases y cronograma"),
        ("Hola, buen día", "Dos", "  22  "),
        ("HOLAAA", "2️⃣", "2️⃣2️⃣"),
        ("holis 😊", "el 2", "Nº 22"),
        ("hola", "alumnos.", "22. Clases y cronograma"),
    ],
)
async def test_the_menu_is_understood_as_people_type_it(
    school: School, said: tuple[str, ...]
) -> None:
    await school.hears(*said)
    answers = await school.answers()
    assert answers[:2] == [WELCOME, ALUMNOS]
    (ticket,) = await school.all_of("tickets")
    assert ticket["ticket_id"] in answers[2]
    row = await school.conversation()
    assert (row["area"], row["subetiqueta"]) == ("Alumnos", "clases")
    assert len(answers) == 3


async def test_what_it_asked_is_known_when_the_answer_comes(school: School) -> None:
    await school.hears("Hola", "2", "2")
    await School(school.store).hears("sí, por favor")
    (ticket,) = await school.all_of("tickets")
    *_, asked, confirmation = await school.answers()
    assert asked == replies.hint(MENU, "2", MENU.coded["22"]).text
    assert ticket["ticket_id"] in confirmation
    assert (await school.conversation())["subetiqueta"] == "clases"


@pytest.mark.parametrize(
    ("said", "subetiqueta"),
    [
        (("Hola", "quiero hablar con una persona"), "otra_consulta"),
        (("Hola", "1", "un humano por favor"), "otro"),
        (("Hola", "3", "asesora"), "asesora"),
    ],
)
async def test_who_asks_for_a_person_gets_a_ticket(
    school: School, said: tuple[str, ...], subetiqueta: str
) -> None:
    await school.hears(*said)
    (ticket,) = await school.all_of("tickets")
    assert ticket["ticket_id"] in (await school.answers())[-1]
    assert (await school.conversation())["subetiqueta"] == subetiqueta


async def test_an_agent_s_words_do_not_swallow_the_next_answer(school: School) -> None:
    await school.hears("Hola")
    await school.hears(typed("¡Buenas! Ya te leemos", kind="echo.text"))
    await school.hears("2")
    assert await school.answers() == [WELCOME, ALUMNOS]


async def test_who_answers_an_agent_gets_no_answer_from_the_bot(school: School) -> None:
    await school.hears("Hola")
    await school.hears(typed("Hola, soy Sol, ¿en qué te ayudo?", kind="echo.text"))
    await school.hears("hola sol", "quería saber los precios", "gracias")
    assert await school.answers() == [WELCOME]
    assert len(await school.heard()) == 4
    assert len(await school.told("ingesta_wsp4")) == 4


async def test_who_is_written_to_first_by_an_agent_gets_no_menu(school: School) -> None:
    echo = typed("Hola, te escribo por tu cuota", kind="echo.text")
    await school.hears(echo, "ah sí, decime")
    assert await school.answers() == []
    assert await school.heard() == ["ah sí, decime"]


async def test_two_people_at_once_each_get_their_own_answers(school: School) -> None:
    await school.hears_at_once(
        typed("Hola"),
        typed("Buenas", OTHER),
        typed("2"),
        typed("1", OTHER),
        typed("14", OTHER),
        typed("22"),
    )
    mine, theirs = await school.answers(), await school.answers(OTHER)
    assert mine[:2] == [WELCOME, ALUMNOS]
    assert theirs[:2] == [WELCOME, replies.submenu(MENU, "1").text]
    tickets = {row["telefono"]: row for row in await school.all_of("tickets")}
    assert tickets[WHO]["ticket_id"] in mine[2]
    assert tickets[OTHER]["ticket_id"] in theirs[2]
    assert tickets[WHO]["ticket_id"] != tickets[OTHER]["ticket_id"]
    assert (tickets[WHO]["area"], tickets[OTHER]["area"]) == (
        "Alumnos",
        "Administración",
    )
    recipients = [sent.recipient for sent in await school.sent()]
    assert sorted(recipients) == [WHO] * 3 + [OTHER] * 3


async def test_two_people_in_bodies_of_one_moment_do_not_mix(school: School) -> None:
    async def walk(who: str, *said: str) -> None:
        await school.hears(*(typed(text, who) for text in said))

    await asyncio.gather(walk(WHO, "Hola", "2", "22"), walk(OTHER, "Hola", "4", "41"))
    areas = {row["telefono"]: row["area"] for row in await school.all_of("tickets")}
    assert areas == {WHO: "Alumnos", OTHER: "Comunidad"}
    assert [len(await school.answers(who)) for who in (WHO, OTHER)] == [3, 3]


async def test_every_body_of_the_corpus_is_stored_and_spoils_none(
    school: School,
) -> None:
    stored = set[str]()
    for file in sorted(CORPUS.glob("*.json")):
        events = [
            e for e in read(file.read_bytes(), Door.META) if e.kind[:8] != "rejected"
        ]
        await school.ledger.write(received(*events))
        stored |= {e.kind for e in events if e.content and e.kind[:7] == "message"}
    rows = await school.store.fetch(
        "select metadata->>'kind' as kind, tipo, direccion, remitente_tipo, mensaje"
        " from mensajes where direccion = 'entrante'"
    )
    assert {row["kind"] for row in rows} == stored
    assert {"message.sticker", "message.order", "message.button"} <= stored
    assert {"message.interactive.list_reply", "message.unsupported"} <= stored
    assert all(row["mensaje"] for row in rows)
    assert {row["remitente_tipo"] for row in rows} == {"contact"}


@pytest.mark.parametrize("who", ["541100000003", "15550001111", "5215500000001"])
async def test_whoever_writes_from_any_country_is_answered_at_the_number_as_sent(
    school: School, who: str
) -> None:
    await school.hears(typed("Hola", who))
    assert await school.answers(who) == [WELCOME]
    assert [sent.recipient for sent in await school.sent()] == [who]


async def test_a_message_by_a_number_that_no_line_names_is_stored_and_not_answered(
    school: School,
) -> None:
    await school.hears(typed("Hola", phone_number_id=NOBODYS))
    assert await school.heard() == ["Hola"]
    assert (await school.conversation())["linea_origen"] == NOBODYS
    assert (await school.answers(), await school.sent()) == ([], [])
    assert [body["message"] for body in await school.told("ingesta_wsp4")] == ["Hola"]


async def test_a_backlog_is_stored_and_told_and_sets_off_no_menus(
    school: School,
) -> None:
    old = datetime.now(UTC) - timedelta(seconds=school.settings.stale_s + 60)
    people = [f"54911000{n:05}" for n in range(10)]
    await school.hears_at_once(
        *(typed(text, who, timestamp=old) for who in people for text in ("Hola", "5"))
    )
    assert len(await school.told("ingesta_wsp4")) == 20
    assert [len(await school.heard(who)) for who in people] == [2] * 10
    assert await school.sent() == []
    assert await school.all_of("tickets") == []


# --- the bot in the wrong place


async def test_the_place_in_the_menu_is_kept_though_the_replies_are_gone(
    school: School,
) -> None:
    await school.hears("Hola", "2")
    await school.store.execute("delete from mensajes where remitente_tipo = 'system'")
    await school.hears("Clases y cronograma")
    (ticket,) = await school.all_of("tickets")
    assert ticket["area"] == "Alumnos"
    context = json.loads(ticket["metadata"])["contexto_completo"]
    assert context["opciones_seleccionadas"] == ["2", "22"]


async def test_a_restart_in_the_middle_of_the_menu_is_noticed_by_nobody(
    school: School,
) -> None:
    await school.hears("Hola", "2")
    await School(school.store).hears("Recursos y descargas")
    (ticket,) = await school.all_of("tickets")
    assert ticket["area"] == "Alumnos"
    context = json.loads(ticket["metadata"])["contexto_completo"]
    assert context["opciones_seleccionadas"] == ["2", "23"]


async def test_a_restart_does_not_reset_the_loop_guard(school: School) -> None:
    for n in range(20):
        await School(school.store).hears("2" if n % 2 else "MENU")
    assert len(await school.answers()) == 12


async def test_who_takes_over_between_menu_and_answer_is_not_talked_over(
    database: str, school: School
) -> None:
    await school.hears("Hola")
    agent = await asyncpg.connect(database)
    try:
        taking_over = agent.transaction()
        await taking_over.start()
        await agent.execute("update conversaciones set asignado_a = 'agente-1'")
        answer = asyncio.ensure_future(school.hears("22"))
        await until(lambda: _someone_waits(school.store), within_s=10)
        assert not answer.done()
        await taking_over.commit()
        await answer
    finally:
        await agent.close()
    assert await school.answers() == [WELCOME]
    assert await school.heard() == ["Hola", "22"]
    assert await school.all_of("tickets") == []
    assert (await school.conversation())["asignado_a"] == "agente-1"


async def _someone_waits(store: Database) -> bool:
    (row,) = await store.fetch("select count(*) as n from pg_locks where not granted")
    return bool(row["n"])


@pytest.mark.parametrize(
    "hold",
    [
        "asignado_a = 'agente-1'",
        "desconectado_wsp4 = true",
        "inbox_fijo = 'ventas_1'",
        "router_estado = 'derivada', area = 'Alumnos'",
        "router_estado = 'derivado', area = 'Alumnos'",
        "estado = 'derivada', area = 'Alumnos'",
    ],
)
async def test_whoever_was_given_the_conversation_is_alone_in_it(
    school: School, hold: str
) -> None:
    await school.hears("Hola")
    await school.store.execute(f"update conversaciones set {hold}")  # noqa: S608 -- ours
    before = dict(await school.conversation())
    await school.hears("2", "22", "hola", "gracias", photo())
    assert await school.answers() == [WELCOME]
    assert len(await school.heard()) == 6
    assert await school.all_of("tickets") == []
    after = dict(await school.conversation())
    theirs = ("area", "router_estado", "asignado_a", "desconectado_wsp4", "inbox_fijo")
    assert {name: after[name] for name in theirs} == {
        name: before[name] for name in theirs
    }


@pytest.mark.parametrize("is_derived", [True, False])
async def test_a_window_that_ran_out_changes_no_owner(
    school: School, *, is_derived: bool
) -> None:
    await school.hears("Hola", "2")
    if is_derived:
        await school.hears("22")
    said = await school.answers()
    await school.store.execute(
        "update conversaciones set created_at = now() - interval '9 days',"
        " ts_ultimo_mensaje = now() - interval '8 days',"
        " ventana_24h_fin = now() - interval '7 days'"
    )
    await school.hears("¿y mi consulta?")
    row = await school.conversation()
    assert row["ventana_24h_fin"] > datetime.now(UTC) + timedelta(hours=23)
    if is_derived:
        assert await school.answers() == said
        assert (row["area"], row["router_estado"]) == ("Alumnos", "derivada")
    else:
        assert await school.answers() == [*said, replies.hint(MENU, "2").text]
        assert (row["area"], row["router_estado"]) == ("PSI Principal", "2")


async def test_the_24_hours_begin_with_the_last_message_of_the_person(
    school: School,
) -> None:
    long_ago = datetime.now(UTC) - timedelta(hours=23)
    await school.hears(typed("Hola", timestamp=long_ago))
    await school.hears(typed("sigo acá"))
    ends = (await school.conversation())["ventana_24h_fin"]
    assert ends > datetime.now(UTC) + timedelta(hours=23, minutes=59)


async def test_menu_takes_a_derived_conversation_back_while_it_has_no_agent(
    school: School,
) -> None:
    await school.hears("Hola", "2", "22", "MENU")
    assert (await school.answers())[-1] == WELCOME
    row = await school.conversation()
    assert (row["area"], row["router_estado"], row["submenu_actual"]) == (
        "PSI Principal",
        "principal",
        None,
    )
    assert (row["estado"], row["subetiqueta"]) == ("activa", None)


async def test_menu_takes_nothing_from_an_agent(school: School) -> None:
    await school.hears("Hola", "2", "22")
    said = await school.answers()
    await school.store.execute("update conversaciones set asignado_a = 'agente-1'")
    await school.hears("MENU", "menú", "0", "VOLVER")
    assert await school.answers() == said
    row = await school.conversation()
    assert (row["area"], row["router_estado"], row["asignado_a"]) == (
        "Alumnos",
        "derivada",
        "agente-1",
    )
    proxied = await school.told("envios_alumnos")
    assert [body.get("mensaje") for body in proxied] == [
        None,
        "MENU",
        "menú",
        "0",
        "VOLVER",
    ]


async def test_no_message_moves_a_derived_conversation_to_another_area(
    store: Database,
) -> None:
    lines = (
        Line(name="wsp4", phone_number_id=MAIN),
        Line(name="ventas", phone_number_id=VENTAS, area="Ventas"),
    )
    school = School(store, settings(*ENVIOS, lines=lines))
    await school.hears("Hola", "22", "gracias", photo())
    await school.hears(typed("hola", phone_number_id=VENTAS))
    await school.hears(typed("hola", phone_number_id=NOBODYS))
    row = await school.conversation()
    assert (row["area"], row["router_estado"], row["subetiqueta"]) == (
        "Alumnos",
        "derivada",
        "clases",
    )


async def test_what_the_crm_wrote_is_there_after_the_next_message(
    school: School,
) -> None:
    await school.hears("Hola")
    await school.store.execute("alter table conversaciones add etiquetas text")
    await school.store.execute(
        "update conversaciones set desconectado_wsp4 = true, inbox_fijo = 'ventas_1',"
        " asignado_a = 'agente-1', subetiqueta = 'becas', etiquetas = 'vip',"
        " ultima_derivacion = 'PSI-2020-000007', area = 'Comunidad',"
        """ metadata = metadata || '{"nota": {"de": "Ana"}}'"""
    )
    before = dict(await school.conversation())
    await school.hears("hola de nuevo", photo())
    after = dict(await school.conversation())
    moved = {name for name in before if before[name] != after[name]}
    assert moved <= {
        "estado",
        "ultimo_mensaje",
        "ts_ultimo_mensaje",
        "ventana_24h_fin",
        "updated_at",
    }


@pytest.mark.parametrize(
    "text",
    [
        "tengo 2 hijos",
        "Av. 11",
        "2 de mayo",
        "quedo 1ro en la lista 22",
        "son 5 personas",
        "mi teléfono es 1122223333",
        "no quiero el menu",
    ],
)
async def test_a_number_inside_a_sentence_selects_nothing(
    school: School, text: str
) -> None:
    await school.hears("Hola", text)
    assert await school.answers() == [WELCOME, replies.hint(MENU, "principal").text]
    assert (await school.conversation())["router_estado"] == "principal"
    assert await school.all_of("tickets") == []


@pytest.mark.parametrize("text", ["5", "cinco", "Otra consulta", "la 5"])
async def test_option_5_derives_at_once_to_ventas(school: School, text: str) -> None:
    await school.hears("Hola", text)
    (ticket,) = await school.all_of("tickets")
    _, confirmation = await school.answers()
    assert ticket["ticket_id"] in confirmation
    row = await school.conversation()
    assert (row["area"], row["subetiqueta"], row["router_estado"]) == (
        "Ventas",
        "otra_consulta",
        "derivada",
    )
    (told,) = await school.told("envios_ventas_1")
    assert (told["area"], told["subarea"], told["ticketId"]) == (
        "Ventas",
        "otra_consulta",
        ticket["ticket_id"],
    )


async def test_every_option_leads_to_an_inbox_that_the_crm_shows(
    school: School,
) -> None:
    people = {f"54911000001{code}": code for code in LEAVES}
    await school.hears_at_once(*(typed("Hola", who) for who in people))
    await school.hears_at_once(*(typed(code, who) for who, code in people.items()))
    tickets = {row["telefono"]: row for row in await school.all_of("tickets")}
    for who, code in people.items():
        row, area = await school.conversation(who), MENU.coded[code].area
        assert row["area"] == tickets[who]["area"] == area
        assert area in AREAS
        assert (row["router_estado"], row["submenu_actual"]) == ("derivada", code)
        assert row["estado"] in {"nueva", "activa", "esperando", "resuelta"}
        welcome, confirmation = await school.answers(who)
        assert welcome == WELCOME
        assert tickets[who]["ticket_id"] in confirmation
    told = {
        body["conversationId"]
        for name in NAMES.values()
        for body in await school.told(f"envios_{name}")
    }
    assert len(told) == len(LEAVES) == 25


async def test_an_album_in_the_menu_gets_one_menu(school: School) -> None:
    await school.hears("Hola", "2")
    await school.hears_at_once(*(photo() for _ in range(3)))
    await school.hears(photo(), photo())
    assert await school.answers() == [WELCOME, ALUMNOS]  # which it just got
    assert (await school.conversation())["router_estado"] == "2"
    assert len(await school.heard()) == 7
    assert len(await school.told("ingesta_wsp4")) == 7


async def test_a_file_is_answered_with_the_menu_that_the_person_is_in(
    store: Database,
) -> None:
    school = School(store)
    await school.hears("Hola", "MENU", "2", "VOLVER", photo(), photo())
    said = await school.answers()
    assert said.count(WELCOME) == 2  # the photos come right after one
    await school.hears("2", "??", photo(), photo())
    assert (await school.answers())[len(said) :] == [
        ALUMNOS,
        replies.hint(MENU, "2").text,
        ALUMNOS,
    ]


async def test_a_first_contact_by_an_album_gets_one_menu(school: School) -> None:
    await school.hears_at_once(*(photo() for _ in range(5)))
    assert await school.answers() == [WELCOME]
    assert len(await school.heard()) == 5


NEVER_ANSWERED = [
    "bsuid_echo",
    "field_history_chunk",
    "field_history_media_message",
    "field_message_echoes",
    "field_smb_echo_image",
    "field_smb_echo_text",
    "field_standby_message",
    "msg_edit_text",
    "msg_group_bsuid",
    "msg_group_text",
    "msg_reaction",
    "msg_request_welcome",
    "msg_revoke",
    "msg_system_number_legacy",
    "msg_system_unknown_subtype",
    "msg_type_missing",
    "msg_unknown_legacy",
    "msg_unsupported_131060",
    "msg_unsupported_typed_poll",
    "msg_interactive_nfm_flow",
    "status_delivered",
    "status_failed",
    "status_group_aggregated",
]


@pytest.mark.parametrize("name", NEVER_ANSWERED)
@pytest.mark.parametrize("is_known", [True, False])
async def test_what_is_no_message_of_a_person_is_never_answered(
    school: School, name: str, *, is_known: bool
) -> None:
    if is_known:
        await school.hears("Hola", "2")
    before = await school.sent()
    events = of_corpus(name)
    assert events
    await school.hears_at_once(*events)
    await school.hears(*events)
    assert await school.sent() == before
    answers = "select 1 as n from mensajes where remitente_tipo = 'system'"
    assert len(await school.store.fetch(answers)) == len(before)
    if is_known:
        # Perhaps under another number by now.
        its = "select router_estado from conversaciones where contacto_id is not null"
        assert [row[0] for row in await school.store.fetch(its)] == ["2"]


@pytest.mark.parametrize("shape", ["f7", "f8"])
@pytest.mark.parametrize("is_ours", [True, False])
async def test_what_our_own_phone_wrote_is_never_answered(
    school: School, shape: str, *, is_ours: bool
) -> None:
    file = CORPUS.parent / "shapes" / f"{shape}.json"
    body = json.loads(file.read_bytes())
    _set_everywhere(body, "fromMe", to=is_ours)
    now = datetime.now(UTC)
    (event,) = read(json.dumps(body).encode(), Door.SECRET)
    await school.hears(replace(event, timestamp=now))
    assert len(await school.sent()) == (0 if is_ours else 1)
    first, *_ = await school.all_of("mensajes")
    assert first["direccion"] == ("saliente" if is_ours else "entrante")


def _set_everywhere(value: Any, name: str, *, to: bool) -> None:
    if isinstance(value, dict):
        if name in value:
            value[name] = to
        for member in value.values():
            _set_everywhere(member, name, to=to)
    if isinstance(value, list):
        for member in value:
            _set_everywhere(member, name, to=to)


async def test_another_bot_gets_twelve_answers_a_minute_and_all_it_says_is_stored(
    school: School,
) -> None:
    for n in range(40):
        await school.hears("2" if n % 2 else "MENU")
    assert len(await school.answers()) == 12
    assert len(await school.heard()) == 40
    assert len(await school.sent()) == 12


async def test_two_bots_that_answer_each_other_come_to_a_halt(school: School) -> None:
    said, turns = "Hola", 0
    while turns < 100:
        turns += 1
        before = len(await school.answers())
        await school.hears(said)
        answers = await school.answers()
        if len(answers) == before:
            break
        said = "MENU" if "Alumnos* " in answers[-1] else "2"
    assert turns == 13
    assert len(await school.heard()) == 13


async def test_an_echo_chamber_ends_by_itself(school: School) -> None:
    await school.hears("Hola")
    for _ in range(5):
        await school.hears((await school.answers())[-1])
    assert await school.answers() == [WELCOME, replies.hint(MENU, "principal").text]


async def test_who_greets_in_a_list_is_led_to_the_main_menu(school: School) -> None:
    await school.hears("Hola", "2", "buenas")
    assert await school.answers() == [WELCOME, ALUMNOS, WELCOME]
    assert (await school.conversation())["router_estado"] == "principal"


# --- what the CRM shows


async def test_each_message_raises_its_conversation_whoever_owns_it(
    school: School,
) -> None:
    await school.hears(typed("Hola"))
    await school.store.execute(
        "update conversaciones set asignado_a = 'agente-1',"
        " updated_at = now() - interval '1 day',"
        " ts_ultimo_mensaje = now() - interval '1 day'"
    )
    at = datetime.now(UTC)
    await school.hears(typed("¿hay alguien? " + "a" * 600, timestamp=at))
    row = await school.conversation()
    assert row["ts_ultimo_mensaje"] == at
    assert row["updated_at"] >= at - timedelta(seconds=5)
    assert row["estado"] == "activa"
    assert row["ultimo_mensaje"] == ("¿hay alguien? " + "a" * 600)[:500]


async def test_every_row_has_what_the_crm_needs_to_show_it(school: School) -> None:
    await school.hears("Hola", "2", photo(), "22", "gracias")
    rows = await school.all_of("mensajes")
    assert len(rows) == 8
    for row in rows:
        mine = row["direccion"] == "saliente"
        assert row["direccion"] in {"entrante", "saliente"}
        assert row["remitente_tipo"] == ("system" if mine else "contact")
        assert row["remitente_nombre"] == ("Router PSI" if mine else "Ana")
        assert row["mensaje"]
        assert row["timestamp"] is not None
        assert (row["whatsapp_message_id"] is None) is mine
        assert row["estado_envio"] == ("pendiente" if mine else None)
    (contact,) = await school.all_of("contactos")
    conversation = await school.conversation()
    assert conversation["contacto_id"] == contact["id"]
    assert conversation["linea_origen"] == "wsp4"
    assert {row["conversacion_id"] for row in rows} == {conversation["id"]}


async def test_of_several_open_conversations_the_last_used_one_goes_on(
    school: School,
) -> None:
    await school.store.execute(
        "with c as (insert into contactos (telefono) values ('5491100000001')"
        " returning id) insert into conversaciones (contacto_id, telefono, estado,"
        " ts_ultimo_mensaje) select id, '5491100000001', 'activa',"
        " now() - n * interval '1 hour' from c, generate_series(1, 3) as n"
    )
    (last,) = await school.store.fetch(
        "select id from conversaciones order by ts_ultimo_mensaje desc limit 1"
    )
    before = await _versions(school)
    await school.hears("Hola", "2", "22")
    after = await _versions(school)
    assert len(after) == 3
    (used,) = (key for key in after if after[key] != before[key])
    assert used == str(last["id"])
    rows = await school.all_of("mensajes")
    assert len(rows) == 6
    assert {str(row["conversacion_id"]) for row in rows} == {used}
    assert len(await school.all_of("tickets")) == 1


async def _versions(school: School) -> dict[str, str]:
    rows = await school.store.fetch("select id, xmin::text as v from conversaciones")
    return {str(row["id"]): row["v"] for row in rows}


async def test_the_address_of_a_file_that_n8n_keeps_is_stored(school: School) -> None:
    (event,) = read((CORPUS.parent / "shapes" / "f8.json").read_bytes(), Door.SECRET)
    await school.hears(replace(event, timestamp=datetime.now(UTC)))
    rows = await school.all_of("mensajes")
    (row,) = (row for row in rows if row["direccion"] == "entrante")
    assert row["media_url"] == "https://files.example/i.jpg"


async def test_an_advertisement_is_kept_and_opens_72_hours(school: School) -> None:
    referral = {
        "source_url": "https://fb.example/ad",
        "source_id": "120200000000000000",
        "source_type": "ad",
        "ctwa_clid": "ARAk",
    }
    content = Content(text="Hola", tipo="text", said="Hola", referral=referral)
    at = datetime.now(UTC)
    await school.hears(typed("Hola", content=content, timestamp=at))
    row = await school.conversation()
    assert row["ventana_72h_fin"] == at + timedelta(hours=72)
    assert "120200000000000000" in row["metadata"]


async def test_a_quoted_message_is_found_exactly(school: School) -> None:
    await school.hears(typed("la primera", wamid="wamid.FIRST"))
    quoting = Content(text="esto", tipo="text", said="esto", quoted_id="wamid.FIRST")
    await school.hears(typed("esto", wamid="wamid.SECOND", content=quoting))
    rows = {row["whatsapp_message_id"]: row for row in await school.all_of("mensajes")}
    assert rows["wamid.SECOND"]["mensaje_citado_id"] == rows["wamid.FIRST"]["id"]


@pytest.mark.parametrize(
    ("name", "mark"),
    [("msg_reaction", "reacciones"), ("msg_edit_text", "ediciones")],
)
async def test_what_is_done_to_a_message_later_stands_in_its_row(
    school: School, name: str, mark: str
) -> None:
    (event,) = read((CORPUS / f"{name}.json").read_bytes(), Door.META)
    part = event.item.get("reaction") or event.item.get("edit")
    target = part.get("message_id") or part.get("original_message_id")
    await school.hears(typed("Hola", wamid=target), replace(event, timestamp=None))
    (row,) = (
        row
        for row in await school.all_of("mensajes")
        if row["whatsapp_message_id"] == target
    )
    assert mark in row["metadata"]


async def test_a_conversation_of_the_crm_without_a_contact_is_found_by_its_phone(
    school: School,
) -> None:
    await school.store.execute(
        "insert into conversaciones (telefono, estado, router_estado, area)"
        " values ($1, 'activa', 'derivada', 'Alumnos')",
        WHO,
    )
    await school.hears("gracias")
    row = await school.conversation()
    (contact,) = await school.all_of("contactos")
    assert row["contacto_id"] == contact["id"]
    assert await school.answers() == []


async def test_after_the_crm_closed_it_a_message_opens_a_new_one_with_the_menu(
    school: School,
) -> None:
    await school.hears("Hola", "2", "22", "gracias")
    await school.store.execute("update conversaciones set estado = 'cerrada'")
    (closed,) = (await _versions(school)).items()
    said = await school.answers()
    await school.hears("me quedó una duda", "2")
    assert (await school.answers())[len(said) :] == [WELCOME, ALUMNOS]
    assert dict([closed]).items() <= (await _versions(school)).items()
    rows = {row["estado"]: row for row in await school.all_of("conversaciones")}
    assert len(rows) == 2
    assert rows["cerrada"]["area"] == "Alumnos"
    assert (rows["activa"]["area"], rows["activa"]["router_estado"]) == (
        "PSI Principal",
        "2",
    )


async def test_a_repeated_body_touches_no_row(school: School) -> None:
    events = [typed("Hola"), typed("2"), typed("22"), status("wamid.x", "read")]
    await school.hears_at_once(*events)
    tables = ("contactos", "conversaciones", "mensajes", "tickets", "derivaciones")
    more = ("audit_log", "router.outbox", "router.statuses", "router.notices")

    async def rows() -> dict[str, list[Row]]:
        return {
            table: await school.store.fetch(
                f"select xmin::text, t.* from {table} t"  # noqa: S608 -- ours
            )
            for table in (*tables, *more)
        }

    before = await rows()
    await school.hears_at_once(*events)
    await School(school.store).hears(*events)  # after a restart
    assert await rows() == before


async def test_a_reply_leaves_by_the_line_that_the_message_came_in_by(
    store: Database,
) -> None:
    lines = (
        Line(name="wsp4", phone_number_id=MAIN),
        Line(name="campus", phone_number_id=VENTAS),
    )
    school = School(store, settings(*INGESTA, lines=lines))
    await school.hears("Hola")
    await school.hears(typed("2", phone_number_id=VENTAS))
    await school.hears(typed("Hola", OTHER, phone_number_id=VENTAS))
    await school.hears(typed("22"))
    assert [(sent.phone_number_id, sent.recipient) for sent in await school.sent()] == [
        (MAIN, WHO),
        (VENTAS, WHO),
        (VENTAS, OTHER),
        (MAIN, WHO),
    ]
    assert (await school.conversation())["linea_origen"] == "wsp4"
    assert (await school.conversation(OTHER))["linea_origen"] == "campus"


async def test_an_area_s_own_line_has_no_bot(store: Database) -> None:
    lines = (
        Line(name="wsp4", phone_number_id=MAIN),
        Line(name="ventas", phone_number_id=VENTAS, area="Ventas"),
    )
    school = School(store, settings(*INGESTA, *ENVIOS, lines=lines))
    said = ("Hola", "2", "22", "MENU")
    await school.hears(*(typed(text, phone_number_id=VENTAS) for text in said))
    assert await school.heard() == list(said)
    assert (await school.answers(), await school.sent()) == ([], [])
    assert await school.all_of("tickets") == []
    assert (await school.conversation())["linea_origen"] == "ventas"


# --- derivations


def _of_the_other_areas(area: str) -> list[str]:
    return [name for other, name in NAMES.items() if other != area]


@pytest.mark.parametrize(
    ("code", "area"),
    [
        ("11", "Administración"),
        ("21", "Alumnos"),
        ("31", "Ventas"),
        ("41", "Comunidad"),
        ("5", "Ventas"),
    ],
)
async def test_an_area_hears_of_its_derivation_and_of_each_message_after_it(
    school: School, code: str, area: str
) -> None:
    await school.hears("Hola", code, "gracias", photo())
    derived, *proxied = await school.told(f"envios_{NAMES[area]}")
    assert (derived["area"], derived["phone"]) == (area, WHO)
    assert [(b["tipo"], b["mensaje"], b["area"]) for b in proxied] == [
        ("mensaje_proxy", "gracias", area),
        ("mensaje_proxy", "[Imagen]", area),
    ]
    # INGESTA: by the area as it was before each message.
    assert [b["message"] for b in await school.told("ingesta_wsp4")] == ["Hola", code]
    entrance = await school.told(f"ingesta_{NAMES[area]}")
    assert [b["message"] for b in entrance] == ["gracias", ""]
    assert entrance[1]["media"]["type"] == "image"
    for name in _of_the_other_areas(area):
        assert await school.told(f"envios_{name}") == []
        assert await school.told(f"ingesta_{name}") == []
    assert await school.told("envios_crm") == []


@pytest.mark.parametrize(
    "hold", ["asignado_a = 'agente-1'", "desconectado_wsp4 = true", "inbox_fijo = 'x'"]
)
async def test_who_owns_it_without_a_derivation_is_told_of_each_message_too(
    school: School, hold: str
) -> None:
    await school.hears("Hola")
    update = f"update conversaciones set {hold}, area = 'Alumnos'"  # noqa: S608 -- ours
    await school.store.execute(update)
    await school.hears("¿hay alguien?")
    (told,) = await school.told("envios_alumnos")
    assert (told["tipo"], told["mensaje"]) == ("mensaje_proxy", "¿hay alguien?")


async def test_an_area_without_a_destination_falls_back(store: Database) -> None:
    school = School(store, settings("ingesta_wsp4", "envios_crm"))
    await school.hears("Hola", "41", "gracias")
    derived, proxied = await school.told("envios_crm")
    assert (derived["area"], proxied["area"]) == ("Comunidad", "Comunidad")
    heard = [body["message"] for body in await school.told("ingesta_wsp4")]
    assert heard == ["Hola", "41", "gracias"]
    (row,) = await school.all_of("derivaciones")
    assert row["inbox_destino"] == "envios_crm"


async def test_without_any_destination_a_derivation_holds_all_the_same(
    store: Database,
) -> None:
    school = School(store, settings())
    await school.hears("Hola", "41")
    (row,) = await school.all_of("derivaciones")
    assert (row["area"], row["inbox_destino"]) == ("Comunidad", None)
    assert row["ticket_id"] in (await school.answers())[-1]


@pytest.mark.parametrize("is_one_body", [True, False])
async def test_a_double_tap_makes_one_ticket(
    school: School, *, is_one_body: bool
) -> None:
    await school.hears("Hola", "2")
    taps = [typed("22"), typed("22"), typed("23")]
    if is_one_body:
        await school.hears_at_once(*taps)
    else:
        await asyncio.gather(*(school.hears(tap) for tap in taps))
    assert len(await school.all_of("tickets")) == 1
    assert len(await school.all_of("derivaciones")) == 1
    assert len(await school.answers()) == 3


async def test_two_routers_at_once_open_one_ticket(school: School) -> None:
    await school.hears("Hola")
    taps = [typed("22"), typed("22")]
    other = School(school.store)
    await asyncio.gather(*(one.hears(tap) for one in (school, other) for tap in taps))
    assert len(await school.all_of("tickets")) == 1
    assert len(await school.all_of("derivaciones")) == 1
    assert len(await school.heard()) == 3
    assert len(await school.told("envios_alumnos")) == 2  # the second tap is a message


async def test_each_way_back_to_an_area_uses_the_open_ticket(school: School) -> None:
    for code in ("22", "15", "41"):
        await school.hears("Hola" if code == "22" else "MENU", code)
    (ticket,) = await school.all_of("tickets")
    rows = await school.all_of("derivaciones")
    assert [row["ticket_id"] for row in rows] == [ticket["ticket_id"]] * 3
    assert ticket["area"] == "Comunidad"
    # It says why it is asked now, and beside it what was asked before.
    says = json.loads(ticket["metadata"])
    asked = [json.loads(row["payload"])["motivo"] for row in rows]
    assert (says["area_destino"], says["motivo"]) == ("Comunidad", asked[-1])
    assert says["contexto_completo"]["opciones_seleccionadas"][-1] == "41"
    before = [one["motivo"] for one in says["derivaciones_previas"]]
    assert before == asked[:-1]


async def test_a_ticket_that_is_resolved_is_followed_by_a_new_one(
    school: School,
) -> None:
    await school.hears("Hola", "22")
    await school.store.execute("update tickets set estado = 'resuelto'")
    await school.hears("MENU", "22")
    rows = await school.store.fetch("select * from tickets order by ticket_id")
    assert [row["estado"] for row in rows] == ["resuelto", "abierto"]
    year = rows[0]["ticket_id"][4:8]
    assert [row["ticket_id"] for row in rows] == [
        f"PSI-{year}-000001",
        f"PSI-{year}-000002",
    ]


@pytest.mark.parametrize("table", ["tickets", "derivaciones", "audit_log"])
async def test_a_derivation_that_cannot_be_written_leaves_nothing_behind(
    school: School, table: str
) -> None:
    await school.hears("Hola")
    refuse = f"alter table {table} add constraint no check (telefono <> '{WHO}')"
    await school.store.execute(refuse)
    answer = typed("22")
    with pytest.raises(Poison):
        await school.hears(answer)
    assert (await school.conversation())["router_estado"] == "principal"
    assert await school.heard() == ["Hola"]
    assert await school.told("envios_alumnos") == []
    for name in ("tickets", "derivaciones", "audit_log"):
        assert await school.all_of(name) == []
    await school.store.execute(f"alter table {table} drop constraint no")
    await school.hears(answer)
    (ticket,) = await school.all_of("tickets")
    assert ticket["ticket_id"].endswith("-000001")
    assert ticket["ticket_id"] in (await school.answers())[-1]


async def test_no_table_that_the_crm_reads_holds_a_destination_s_address(
    school: School,
) -> None:
    await school.hears("Hola", "22", "gracias", "MENU", "5")
    for table in ("derivaciones", "tickets", "audit_log", "conversaciones", "mensajes"):
        for row in await school.all_of(table):
            assert "n8n.example" not in str(dict(row))
    inboxes = {row["inbox_destino"] for row in await school.all_of("derivaciones")}
    assert inboxes == {"envios_alumnos", "envios_ventas_1"}


@pytest.fixture
def two_lines(store: Database) -> School:
    lines = (
        Line(name="wsp4", phone_number_id=MAIN),
        Line(name="ventas", phone_number_id=VENTAS, area="Ventas"),
    )
    return School(store, settings(*INGESTA, *ENVIOS, lines=lines))


# 20 and 46: who writes to an area's own line is shown in that area's inbox, which is told.


async def test_a_conversation_that_begins_at_an_area_s_line_is_that_area_s(
    two_lines: School,
) -> None:
    await two_lines.hears(typed("Hola", phone_number_id=VENTAS))
    assert (await two_lines.conversation())["area"] == "Ventas"


async def test_an_area_is_told_of_each_message_at_its_own_line(
    two_lines: School,
) -> None:
    await two_lines.hears(typed("Hola", phone_number_id=VENTAS))
    (told,) = await two_lines.told("envios_ventas_1")
    assert (told["tipo"], told["mensaje"]) == ("mensaje_proxy", "Hola")


# 24: first contact is: nothing was ever said, whatever this process remembers.


async def test_whose_first_messages_came_too_late_is_greeted_with_the_menu(
    school: School,
) -> None:
    old = datetime.now(UTC) - timedelta(hours=2)
    await school.hears(typed("Hola", timestamp=old), typed("¿?", timestamp=old))
    await School(school.store).hears("quiero info de los cursos")
    assert await school.answers() == [WELCOME]


# 27: `desconectado_*`.


async def test_any_flag_by_which_the_crm_disconnects_silences_the_bot(
    school: School,
) -> None:
    await school.hears("Hola")
    await school.store.execute(
        "alter table conversaciones add desconectado_ventas_api boolean"
    )
    await school.store.execute(
        "update conversaciones set desconectado_ventas_api = true"
    )
    await school.hears("2")
    assert await school.answers() == [WELCOME]
