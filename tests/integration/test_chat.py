"""`psi-router dev` and those who talk to it: from the keyboard to the rows, and back."""

import asyncio
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest

from router.cli.demo import line_of
from router.cli.fake_rules import Message
from router.model import Choice
from router.whatsapp import outgoing
from tests.devserver import ENVIRONMENT, Dev
from tests.faults.harness import HOST, free_port
from tests.servers import until

GOLDEN = "Hola\n2\n22\n"
TICKET = re.compile(r"PSI-\d{4}-\d{6}")
TOLD = """
select destination, convert_from(payload, 'UTF8')::jsonb as body from router.outbox
where lane = $1 order by id"""


async def chat(
    *arguments: str, typed: str = "", status: int = 0
) -> tuple[str, str, str]:
    """Run `psi-router chat`; return who talked, what was printed, and what was complained."""
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "router", "chat", *arguments],
        input=typed,
        env={**ENVIRONMENT, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    phone = re.search(r"Hablás como (\d+)", done.stderr)
    return phone[1] if phone else "", done.stdout, done.stderr


def replies(printed: str) -> list[str]:
    return printed.split("Router PSI:\n")[1:]


async def test_hola_2_22_gets_a_menu_a_submenu_and_a_ticket(dev: Dev) -> None:
    phone, printed, _ = await chat("--url", dev.url, typed=GOLDEN)
    menu, submenu, ticket = replies(printed)
    assert "1  Administración" in menu
    assert "22  Clases y cronograma" in submenu
    assert TICKET.search(ticket)
    found = await dev.conversation(phone)
    rows = found["messages"]
    assert (
        sorted(row["direccion"] for row in rows) == ["entrante"] * 3 + ["saliente"] * 3
    )
    assert {row["mensaje"] for row in rows if row["direccion"] == "entrante"} == {
        "Hola",
        "2",
        "22",
    }
    said = [row for row in rows if row["direccion"] == "saliente"]
    assert {(r["remitente_tipo"], r["remitente_nombre"]) for r in said} == {
        ("system", "Router PSI")
    }
    conversation = found["conversation"]
    assert (conversation["area"], conversation["router_estado"]) == (
        "Alumnos",
        "derivada",
    )
    assert conversation["ultima_derivacion"] in ticket


async def test_a_derivation_is_one_audit_row_and_is_told_once_beside_three_messages(
    dev: Dev,
) -> None:
    phone, _, _ = await chat("--url", dev.url, typed=GOLDEN)
    conversation = (await dev.conversation(phone))["conversation"]["id"]
    audit = await dev.fetch("select accion from audit_log where telefono = $1", phone)
    assert [row["accion"] for row in audit] == ["ticket_creado"]
    rows = await dev.fetch(TOLD, conversation)
    names = [row["destination"] for row in rows]
    assert sorted(names) == ["envios_alumnos", *["ingesta_wsp4"] * 3, *["whatsapp"] * 3]
    owed = [
        (row["destination"], orjson.loads(row["body"]))
        for row in rows
        if row["destination"] != "whatsapp"
    ]
    told: list[Any] = []
    async for seen in stream(dev, phone):
        told = seen["rows"].get("notifications", []) if "rows" in seen else []
        if len(told) == len(owed):
            break
    took = [(each["destination"], each["body"]) for each in told]
    assert sorted(took, key=repr) == sorted(owed, key=repr)
    assert [body["message"] for name, body in owed if name == "ingesta_wsp4"] == [
        "Hola",
        "2",
        "22",
    ]


async def test_a_reply_gets_its_whatsapp_id_and_its_statuses_come_back(
    dev: Dev,
) -> None:
    phone, _, _ = await chat("--url", dev.url, typed="Hola\n")

    async def was_read() -> bool:
        rows = (await dev.conversation(phone))["messages"]
        states = [r["estado_envio"] for r in rows if r["direccion"] == "saliente"]
        return states == ["read"]

    await until(was_read)
    (reply,) = (
        row
        for row in (await dev.conversation(phone))["messages"]
        if row["direccion"] == "saliente"
    )
    assert reply["whatsapp_message_id"].startswith("wamid.FAKE")


async def test_who_talks_again_is_the_same_person_whom_the_bot_leaves_to_the_area(
    dev: Dev,
) -> None:
    phone, _, _ = await chat("--url", dev.url, typed=GOLDEN)
    again, printed, _ = await chat(
        "--url", dev.url, "--as", f"+{phone}", typed="gracias\n\n"
    )
    assert again == phone
    assert printed == "(sin respuesta automática)\n\n"
    messages = (await dev.conversation(phone))["messages"]
    assert len(messages) == 7
    assert "gracias" in [row["mensaje"] for row in messages]


async def test_without_a_dev_it_ends_with_69_and_says_so() -> None:
    url = f"http://{HOST}:{free_port()}"
    _, _, complaint = await chat("--url", url, typed="Hola\n", status=69)
    assert url in complaint


@pytest.mark.parametrize(
    "wrong", [["--as", "juana"], ["--url", "ftp://x"], ["--wait", "0"]]
)
async def test_wrong_usage_ends_with_2(wrong: list[str]) -> None:
    await chat(*wrong, status=2)


BUTTONS = [Choice(id="si", title="Sí"), Choice(id="no", title="No")]
SHOWN = {
    "text": (outgoing.text("5491100000001", "Hola"), "Hola", []),
    "buttons": (
        outgoing.buttons("5491100000001", "¿Seguimos?", BUTTONS),
        "¿Seguimos?",
        ["si", "no"],
    ),
    "template": (
        outgoing.template("5491100000001", "aviso", "es_AR"),
        "[template]",
        [],
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_the_phone_shows_whatever_whatsapp_is_sent(name: str) -> None:
    body, words, rows = SHOWN[name]
    taken = Message(
        wamid="wamid.X", phone_number_id="1", recipient="5491100000001", body=body, at=0
    )
    line = line_of(taken)
    assert (line["from"], line["text"]) == ("bot", words)
    choices = line["choices"] or {"rows": []}
    assert [row["id"] for row in choices["rows"]] == rows
    assert choices.get("kind", "") == ("button_reply" if rows else "")


async def stream(dev: Dev, phone: str, last: int = 0) -> Any:
    """Yield what the page hears: {"line": …} or {"rows": …}."""
    headers = {"Last-Event-ID": str(last)} if last else {}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(f"{dev.url}/chat/events", params={"phone": phone}) as response,
    ):
        assert response.content_type == "text/event-stream"
        name = ""
        async for raw in response.content:
            word, _, value = raw.decode().rstrip().partition(": ")
            if word == "event":
                name = value
            elif word == "data":
                yield {name: orjson.loads(value)}


async def test_the_stream_tells_both_sides_in_order_and_goes_on_where_it_was_cut(
    dev: Dev,
) -> None:
    phone, _, _ = await chat("--url", dev.url, typed=GOLDEN)
    lines: list[Any] = []
    async for seen in stream(dev, phone):
        lines += [seen["line"]] if "line" in seen else []
        if len(lines) == 6:
            break
    assert [line["from"] for line in lines] == ["person", "bot"] * 3
    assert [row["id"] for row in lines[1]["choices"]["rows"]] == [
        "1",
        "2",
        "3",
        "4",
        "5",
    ]
    assert lines[1]["choices"]["kind"] == "list_reply"
    async for seen in stream(dev, phone, last=4):
        if "line" in seen:
            assert seen["line"] == lines[4]
            break


async def test_a_tap_is_the_choice_that_was_tapped(dev: Dev) -> None:
    _, person = await dev.ask("/chat/people", {})
    choice = {"id": "5", "title": "Otra consulta"}
    said = {"phone": person["phone"], "choice": choice, "kind": "list_reply"}
    status, answer = await dev.ask("/chat/say", {**said, "wait_s": 20})
    assert (status, answer["missing"]) == (200, 0)
    (row,) = await dev.fetch(
        "select mensaje, metadata ->> 'kind' as kind from mensajes "
        "where whatsapp_message_id = $1",
        answer["id"],
    )
    assert tuple(row) == ("Otra consulta", "message.interactive.list_reply")


@pytest.mark.parametrize(
    "said",
    [
        {"phone": "juana", "text": "Hola"},
        {"phone": "5491100000001", "text": "  "},
        {"phone": "5491100000001", "text": "Hola", "wait_s": 1e9},
        {"phone": "5491100000001", "choice": {"id": "1"}, "kind": "list_reply"},
        {"phone": "5491100000001", "choice": {"id": "1", "title": "x"}, "kind": "x"},
    ],
)
async def test_what_nobody_could_say_is_refused(dev: Dev, said: dict[str, Any]) -> None:
    status, answer = await dev.ask("/chat/say", said)
    assert (status, answer["error"]["code"]) == (422, "refused")


async def test_another_page_of_the_browser_cannot_speak_for_anybody(dev: Dev) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{dev.url}/chat/say", data="{}") as response,
    ):
        assert response.status == 415


async def test_an_open_page_holds_up_no_stop(
    postgres_binaries: Path, tmp_path: Path
) -> None:
    async with Dev.running(tmp_path) as dev:
        async for _ in stream(dev, "5491100000001"):
            began = time.monotonic()
            await asyncio.to_thread(dev.stop)
            assert time.monotonic() - began < 6
            break
    assert '"event":"drained","left":0' in dev.log


async def test_the_page_is_whole_without_the_internet(dev: Dev) -> None:
    async with aiohttp.ClientSession() as session:
        for path, kind in {
            "/chat": "text/html",
            "/chat/chat.css": "text/css",
            "/chat/chat.js": "text/javascript",
        }.items():
            async with session.get(dev.url + path) as response:
                text = await response.text()
                assert (response.status, response.content_type) == (200, kind)
                assert (
                    "default-src 'none'" in response.headers["Content-Security-Policy"]
                )
                assert not re.search(r"(https?:)?//[a-z]", text.replace("// ", ""))
    assert (await dev.ask("/chat/people"))[0] == 200


async def test_smoke_shows_a_message_all_the_way_and_the_menu_that_answers_it(
    postgres_binaries: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "router", "dev", "--smoke"]
    done = await asyncio.to_thread(
        subprocess.run,
        command,
        cwd=tmp_path,
        env={**ENVIRONMENT, "PATH": os.environ["PATH"], "PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = dict(re.findall(r"^([a-z ]+):\n  (\{.*\})$", done.stdout, re.MULTILINE))
    answer, row, told, reply, line = (
        orjson.loads(shown[name])
        for name in (
            "the answer",
            "its row",
            "its notification",
            "the menu that answers it",
            "its log line",
        )
    )
    assert answer == {"success": True, "processed": 1, "failed": 0}
    assert (row["mensaje"], row["direccion"]) == ("Hola", "entrante")
    assert told["phone"] == row["telefono"]
    assert line["conversationId"] == row["conversacion_id"] == reply["conversacion_id"]
    assert (reply["direccion"], reply["remitente_nombre"]) == ("saliente", "Router PSI")
    assert "*2.* Alumnos" in reply["mensaje"]
    assert "simulate --url http://" in done.stdout
