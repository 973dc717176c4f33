"""What follows from a message: each promise of the menu, of ownership and of silence."""

import math
from collections.abc import Iterable
from dataclasses import FrozenInstanceError, replace
from datetime import timedelta
from typing import Any

import pytest

from router.conversation import guard, replies
from router.conversation.decide import Decision, Policy, decide
from router.conversation.menu import Menu, packaged
from router.conversation.owner import attended
from router.conversation.state import (
    MOST_PATH,
    MOST_SAME,
    MOST_SENT,
    Conversation,
    Memory,
)
from router.model import Content, Event, Person
from tests.events import message, now
from tests.test_menu import SMALL

MENU = packaged()
FIRST = Conversation(first=True)
MAIN = Conversation(memory=Memory(sent=(0.0,)))
ALUMNOS = replace(
    MAIN,
    router_estado="2",
    submenu_actual="2",
    memory=Memory(sent=(0.0,), path=("2",)),
)
DERIVED = replace(
    MAIN,
    router_estado="derivada",
    submenu_actual="22",
    subetiqueta="clases",
    area="Alumnos",
    estado="activa",
    ultima_derivacion="PSI-2026-000001",
)
POLICY = Policy()
MAIN_MENU = replies.main_menu(MENU)
LIST_REPLY = "message.interactive.list_reply"
MEDIA = [
    "image",
    "video",
    "audio",
    "voice",
    "document",
    "sticker",
    "location",
    "contacts",
    "order",
]
TAPS = [
    LIST_REPLY,
    "message.interactive.button_reply",
    "message.button",
]


def tap(choice: str | None, title: str = "[Botón]", kind: str = LIST_REPLY) -> Event:
    content = Content(text=title, tipo="text", choice=choice)
    return message(kind=kind, content=content, timestamp=None)


def media(kind: str, said: str = "") -> Event:
    content = Content(text=said or "[Imagen]", tipo="image", said=said)
    return message(kind=f"message.{kind}", content=content, timestamp=None)


def said(text: str, seconds: float | None = None) -> Event:
    at = None if seconds is None else now() + timedelta(seconds=seconds)
    return message(text=text, timestamp=at)


def after(
    event: Event | str,
    conversation: Conversation,
    *,
    seconds: float = 0,
    menu: Menu | None = MENU,
    policy: Policy = POLICY,
) -> Decision:
    if isinstance(event, str):
        event = said(event)
    return decide(conversation, event, menu, now() + timedelta(seconds=seconds), policy)


def talk(
    conversation: Conversation,
    events: Iterable[tuple[float, Event | str]],
    policy: Policy = POLICY,
) -> list[Decision]:
    """Return the decisions about events, each with its second."""
    decisions = []
    for seconds, event in events:
        if isinstance(event, str):
            event = said(event, seconds)  # noqa: PLW2901 -- a text is short for it
        decisions.append(after(event, conversation, seconds=seconds, policy=policy))
        conversation = decisions[-1].conversation
    return decisions


def place(conversation: Conversation) -> tuple[str, str | None]:
    return conversation.router_estado, conversation.submenu_actual


def forgetful(conversation: Conversation) -> Conversation:
    return replace(conversation, memory=Memory())


def is_silent(decision: Decision, why: str) -> bool:
    return (decision.replies, decision.derivation, decision.silence) == ((), None, why)


# --- the menu


def test_hola_2_22_at_once_get_their_three_answers_in_order() -> None:
    first, second, third = talk(FIRST, [(0, "Hola"), (0, "2"), (0, "22")])
    assert first.replies == (MAIN_MENU,)
    assert second.replies == (replies.submenu(MENU, "2"),)
    assert place(second.conversation) == ("2", "2")
    assert second.conversation.estado == "nueva"
    assert third.replies == ()
    derivation = third.derivation
    assert derivation is not None
    assert derivation.area == "Alumnos"
    assert derivation.code == "22"
    assert derivation.subetiqueta == "clases"
    assert derivation.motivo == "Alumnos - Clases y cronograma"
    assert derivation.wait == "1 a 2 horas"
    assert derivation.path == ("2", "22")
    assert derivation.confirmation == MENU.coded["22"].confirmation
    assert third.silence is None
    assert forgetful(third.conversation) == Conversation(
        router_estado="derivada",
        submenu_actual="22",
        subetiqueta="clases",
        area="Alumnos",
        estado="activa",
    )


@pytest.mark.parametrize("text", ["Hola", "quiero info", "2", "22", "VOLVER", "", "😊"])
def test_first_contact_gets_the_main_menu_whatever_the_words(text: str) -> None:
    decision = after(text, FIRST)
    assert decision.replies == (MAIN_MENU,)
    assert forgetful(decision.conversation) == Conversation()
    assert decision.derivation is None


@pytest.mark.parametrize("kind", MEDIA)
def test_first_contact_by_a_file_gets_the_main_menu(kind: str) -> None:
    assert after(media(kind, "2"), FIRST).replies == (MAIN_MENU,)


@pytest.mark.parametrize("kind", TAPS)
def test_a_tap_counts_at_first_contact_too(kind: str) -> None:
    assert place(after(tap("2", kind=kind), FIRST).conversation) == ("2", "2")
    derived = after(tap("22", kind=kind), FIRST)
    assert derived.derivation is not None
    assert derived.derivation.path == ("22",)
    assert not derived.conversation.first


@pytest.mark.parametrize("choice", ["menu", "volver", "99", None])
def test_a_tap_that_names_no_option_is_a_first_contact_like_any(
    choice: str | None,
) -> None:
    assert after(tap(choice), FIRST).replies == (MAIN_MENU,)


def test_first_contact_in_a_state_that_somebody_wrote_is_the_main_menu() -> None:
    odd = replace(FIRST, router_estado="2", submenu_actual="2")
    decision = after("22", odd)
    assert decision.replies == (MAIN_MENU,)
    assert place(decision.conversation) == ("principal", None)


@pytest.mark.parametrize("code", ["1", "2", "3", "4"])
def test_a_number_opens_its_list(code: str) -> None:
    decision = after(code, MAIN)
    assert decision.replies == (replies.submenu(MENU, code),)
    assert place(decision.conversation) == (code, code)
    assert decision.conversation.memory.path == (code,)
    assert decision.conversation.area == "PSI Principal"


@pytest.mark.parametrize(
    ("text", "code"),
    [("administracion", "1"), ("COMUNIDAD PSI Y EN VIVO", "4"), ("2. Alumnos", "2")],
)
def test_a_title_opens_its_list(text: str, code: str) -> None:
    assert place(after(text, MAIN).conversation) == (code, code)


def test_a_title_derives() -> None:
    derivation = after("clases y Cronograma.", ALUMNOS).derivation
    assert derivation is not None
    assert (derivation.code, derivation.path) == ("22", ("2", "22"))


@pytest.mark.parametrize("text", ["5", "cinco", "Otra consulta"])
def test_option_5_derives_at_once_to_ventas(text: str) -> None:
    decision = after(text, MAIN)
    derivation = decision.derivation
    assert derivation is not None
    assert (derivation.area, derivation.subetiqueta) == ("Ventas", "otra_consulta")
    assert derivation.motivo == "Ventas - Otra consulta"
    assert derivation.path == ("5",)
    assert decision.conversation.submenu_actual == "5"
    assert decision.conversation.area == "Ventas"


def test_inscripciones_is_ventas_too() -> None:
    _, decision = talk(MAIN, [(0, "3"), (0, "36")])
    assert decision.derivation is not None
    assert decision.derivation.motivo == "Inscripciones - Hablar con asesora"
    assert decision.conversation.area == "Ventas"


@pytest.mark.parametrize("code", sorted(code for code in MENU.coded if len(code) == 2))
@pytest.mark.parametrize("conversation", [MAIN, ALUMNOS])
def test_a_two_digit_code_works_from_any_list(
    conversation: Conversation, code: str
) -> None:
    derivation = after(code, conversation).derivation
    assert derivation is not None
    option = MENU.coded[code]
    assert derivation.code == code
    assert derivation.area == option.area
    assert derivation.subetiqueta == option.subetiqueta
    assert derivation.path == (*conversation.memory.path, code)


@pytest.mark.parametrize(
    "text", ["7", "9", "99", "20", "27", "administracion", "veintisiete", "la séptima"]
)
def test_in_a_list_another_list_s_number_is_not_understood(text: str) -> None:
    decision = after(text, ALUMNOS)
    assert decision.replies == (replies.hint(MENU, "2"),)
    assert forgetful(decision.conversation) == forgetful(ALUMNOS)
    assert decision.conversation.memory.path == ("2",)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("2", "22"),
        ("dos", "22"),
        ("la 2", "22"),
        ("2º", "22"),
        ("la segunda", "22"),
        ("2da", "22"),
        ("1", "21"),
        ("el sexto", "26"),
    ],
)
def test_a_digit_or_a_place_in_a_list_of_longer_codes_is_asked_about(
    text: str, code: str
) -> None:
    decision = after(text, ALUMNOS)
    option = MENU.coded[code]
    assert decision.replies == (replies.hint(MENU, "2", option),)
    assert f"*{code}. {option.title}*" in decision.replies[0].body
    assert forgetful(decision.conversation) == forgetful(ALUMNOS)
    assert decision.conversation.memory.path == ("2",)
    derived = after(code, decision.conversation).derivation
    assert derived
    assert derived.code == code


@pytest.mark.parametrize(
    ("text", "code"),
    [("la segunda", "2"), ("2da opción", "2"), ("primera", "1"), ("el cuarto", "4")],
)
def test_a_place_in_the_main_menu_opens_its_list(text: str, code: str) -> None:
    assert place(after(text, MAIN).conversation) == (code, code)


def test_a_place_in_the_main_menu_may_hand_over() -> None:
    derivation = after("la quinta", MAIN).derivation
    assert derivation
    assert (derivation.code, derivation.area) == ("5", "Ventas")
    assert after("la sexta", MAIN).replies == (replies.hint(MENU, None),)


def test_a_place_is_that_in_the_list_whatever_the_codes_are() -> None:
    turned = Menu.load(SMALL.replace('code = "2"', 'code = "7"'))
    assert after("la segunda", MAIN, menu=turned).derivation
    assert after("7", MAIN, menu=turned).derivation
    assert after("2", MAIN, menu=turned).replies == (replies.hint(turned, None),)


def test_a_menu_without_words_for_it_asks_nothing() -> None:
    menu = Menu.load(SMALL)
    listed = replace(MAIN, router_estado="1", submenu_actual="1")
    decision = after("2", listed, menu=menu)
    assert decision.replies == (replies.hint(menu, "1"),)
    yes = after("sí", decision.conversation, seconds=11, menu=menu)
    assert yes.replies == (replies.hint(menu, "1"),)


@pytest.mark.parametrize(
    "text", ["sí", "si", "sisi", "dale", "ok", "esa", "sí por favor", "SÍ!", "22"]
)
def test_yes_to_the_question_chooses_what_was_meant(text: str) -> None:
    asked, yes = talk(ALUMNOS, [(0, "2"), (2, text)])
    assert asked.conversation.memory.asked == "22"
    assert yes.heard == "choose 22"
    assert yes.derivation is not None
    assert (yes.derivation.code, yes.derivation.path) == ("22", ("2", "22"))
    assert yes.conversation.memory.asked == ""


@pytest.mark.parametrize("text", ["no", "No!", "nono", "no gracias"])
def test_no_to_the_question_shows_the_list_without_an_excuse(text: str) -> None:
    _, no, yes = talk(ALUMNOS, [(0, "2"), (2, text), (4, "sí")])
    assert no.replies == (replies.submenu(MENU, "2"),)
    assert place(no.conversation) == ("2", "2")
    assert no.conversation.memory.path == ("2",)
    assert yes.replies == (replies.hint(MENU, "2"),)


@pytest.mark.parametrize("text", ["sí", "ok", "dale", "no"])
@pytest.mark.parametrize("conversation", [MAIN, ALUMNOS])
def test_yes_and_no_to_nothing_are_not_understood(
    conversation: Conversation, text: str
) -> None:
    decision = after(text, conversation)
    assert decision.replies == (replies.hint(MENU, conversation.router_estado),)


@pytest.mark.parametrize(
    "between", ["xyz", "MENU", "VOLVER", "1", media("image"), tap("3")], ids=str
)
def test_yes_counts_right_after_the_question_alone(between: Event | str) -> None:
    _, other, yes = talk(ALUMNOS, [(0, "2"), (2, between), (4, "sí")])
    assert other.conversation.memory.asked == ("21" if between == "1" else "")
    chosen = yes.derivation and yes.derivation.code
    assert chosen == ("21" if between == "1" else None)


def test_a_question_that_was_not_said_again_is_still_the_last_one() -> None:
    asked, again, yes = talk(ALUMNOS, [(0, "2"), (0, "2"), (2, "dale")])
    assert is_silent(again, "burst") or is_silent(again, "repeat")
    assert again.conversation is asked.conversation
    assert yes.heard == "choose 22"


def test_yes_is_no_answer_to_a_question_that_was_held_back() -> None:
    policy = Policy(replies_a_minute=1)
    turns: list[tuple[float, Event | str]] = [(0, "2"), (2, "3"), (4, "sí")]
    asked, other, yes = talk(ALUMNOS, [(61 + at, text) for at, text in turns], policy)
    assert asked.conversation.memory.asked == "22"
    assert is_silent(other, "flood")
    assert other.conversation.memory.asked == ""
    assert yes.derivation is None


def test_yes_chooses_nothing_in_a_list_that_somebody_else_moved_to() -> None:
    asked = after("2", ALUMNOS).conversation
    moved = replace(asked, router_estado="1", submenu_actual="1")
    decision = after("sí", moved, seconds=2)
    assert decision.replies == (replies.hint(MENU, "1"),)


@pytest.mark.parametrize(
    "text",
    [
        "quiero hablar con una persona",
        "persona",
        "un humano por favor",
        "asesor",
        "asesora",
        "agente",
        "hablar con una persona",
        "hablar con asesora",
        "operador",
        "quiero que me atienda alguien",
        "hablar con alguien",
    ],
)
@pytest.mark.parametrize(
    ("where", "code"),
    [("principal", "5"), ("1", "15"), ("2", "26"), ("3", "36"), ("4", "47")],
)
def test_who_asks_for_a_person_gets_one_from_any_list(
    where: str, code: str, text: str
) -> None:
    decision = after(text, replace(MAIN, router_estado=where))
    assert decision.heard == f"choose {code}"
    assert decision.derivation is not None
    assert decision.derivation.area == MENU.coded[code].area


def test_a_list_without_an_option_for_a_person_hands_over_as_the_main_one_does() -> (
    None
):
    text = SMALL.replace('text = "Hola"', 'text = "Hola"\nperson = "2"')
    listed = replace(MAIN, router_estado="1", submenu_actual="1")
    derivation = after("persona", listed, menu=Menu.load(text)).derivation
    assert derivation is not None
    assert (derivation.code, derivation.area) == ("2", "Ventas")
    menu = Menu.load(SMALL)
    assert after("persona", listed, menu=menu).replies == (replies.hint(menu, "1"),)


@pytest.mark.parametrize("text", ["02", "2 gracias", "quiero la 2", "la 2 por favor"])
def test_a_number_with_kind_words_opens_its_list(text: str) -> None:
    assert place(after(text, MAIN).conversation) == ("2", "2")


def test_an_option_that_has_the_digits_but_stands_elsewhere_is_not_asked_about() -> (
    None
):
    asking = SMALL.replace("hint = ", 'meant = "¿{code}?"\nhint = ')
    menu = Menu.load(asking.replace('code = "2"', 'code = "13"'))
    listed = replace(MAIN, router_estado="1", submenu_actual="1")
    assert after("3", listed, menu=menu).replies == (replies.hint(menu, "1"),)
    (asked,) = after("2", listed, menu=menu).replies
    assert asked.body == "¿12?"


@pytest.mark.parametrize(
    "text",
    [
        "tengo 2 hijos",
        "Av. 11",
        "2 de mayo",
        "1111",
        "22 33",
        "+54 9 11 2222-3333",
        "hola quiero info",
        "gracias",
        "no 2",
        "quiero 2 cursos",
        "soy agente de viajes y quiero info",
        "la persona que me atendió",
        "\ud83d",
    ],
)
@pytest.mark.parametrize("conversation", [MAIN, ALUMNOS])
def test_what_is_not_understood_gets_a_hint_and_changes_nothing(
    conversation: Conversation, text: str
) -> None:
    decision = after(text, conversation)
    hint = replies.hint(MENU, conversation.router_estado)
    assert decision.replies == (hint,)
    assert decision.derivation is None
    assert forgetful(decision.conversation) == forgetful(conversation)


@pytest.mark.parametrize(
    "text",
    [
        *("MENU", "menú", "0", "menu principal", "VOLVER", "Atrás", "ATRAS", "hola"),
        *("inicio", "volver al inicio", "el menu", "volver al menu", "ir al menu"),
        "volver al menu principal",
    ],
)
@pytest.mark.parametrize("conversation", [MAIN, ALUMNOS])
def test_commands_and_greetings_lead_to_the_main_menu(
    conversation: Conversation, text: str
) -> None:
    decision = after(text, conversation)
    assert decision.replies == (MAIN_MENU,)
    assert place(decision.conversation) == ("principal", None)
    assert decision.conversation.memory.path == ()
    assert decision.conversation.estado == "nueva"


def test_volver_leads_to_the_list_above() -> None:
    menu = Menu.load(
        SMALL
        + '[menus.11]\ntext = "Más"\narea = "Ventas"\nwait = "1 h"\n'
        + 'options = [{ code = "13", title = "Fin", subetiqueta = "f" }]\n'
    )
    conversation = after("1", MAIN, menu=menu).conversation
    conversation = after("11", conversation, menu=menu).conversation
    assert conversation.memory.path == ("1", "11")
    decision = after("VOLVER", conversation, menu=menu)
    assert decision.replies == (replies.submenu(menu, "1"),)
    assert place(decision.conversation) == ("1", "1")
    assert decision.conversation.memory.path == ("1",)
    derived = after("12", decision.conversation, menu=menu).derivation
    assert derived is not None
    assert (derived.path, derived.menu) == (("1", "12"), "Uno más")


@pytest.mark.parametrize("kind", TAPS)
def test_a_tap_counts_by_its_id_before_its_title(kind: str) -> None:
    decision = after(tap("2", "Administración", kind), MAIN)
    assert place(decision.conversation) == ("2", "2")
    derived = after(tap(" 14 ", "Clases y cronograma", kind), ALUMNOS)
    assert derived.derivation is not None
    assert derived.derivation.code == "14"


def test_a_tap_on_an_old_list_counts_from_anywhere() -> None:
    decision = after(tap("1"), ALUMNOS)
    assert place(decision.conversation) == ("1", "1")
    assert decision.conversation.memory.path == ("2", "1")
    assert after(tap("5"), ALUMNOS).derivation is not None


@pytest.mark.parametrize("choice", [None, "", "row-7"])
def test_a_tap_without_a_known_id_counts_by_its_title(choice: str | None) -> None:
    own = after(tap(choice, "Otra consulta"), ALUMNOS).derivation
    assert own is not None
    assert own.code == "26"
    elsewhere = after(tap(choice, "Promos y becas"), ALUMNOS).derivation
    assert elsewhere is not None
    assert elsewhere.code == "35"
    assert place(after(tap(choice, "Alumnos"), MAIN).conversation) == ("2", "2")


@pytest.mark.parametrize("name", ["menu", "volver", "MENU", " Volver "])
def test_the_rows_of_the_commands_are_commands(name: str) -> None:
    for decision in (after(tap(name), ALUMNOS), after(tap(None, name), ALUMNOS)):
        assert decision.replies == (MAIN_MENU,)
        assert place(decision.conversation) == ("principal", None)


def test_the_row_back_of_the_packaged_menu_is_heard_by_its_title_too() -> None:
    assert after(tap(None, MENU.back), ALUMNOS).replies == (MAIN_MENU,)
    assert after(MENU.back, ALUMNOS).replies == (MAIN_MENU,)


@pytest.mark.parametrize(
    ("choice", "title"),
    [
        ("99", "Turno del viernes"),
        (None, "[Botón]"),
        (None, "Hola"),
        (None, "22"),
        ("la 2", "x"),
    ],
)
def test_a_tap_that_names_nothing_is_not_understood(
    choice: str | None, title: str
) -> None:
    decision = after(tap(choice, title), ALUMNOS)
    assert decision.replies == (replies.hint(MENU, "2"),)
    assert forgetful(decision.conversation) == forgetful(ALUMNOS)


@pytest.mark.parametrize("kind", ["product", "other"])
def test_an_interactive_answer_that_names_nothing_gets_the_hint(kind: str) -> None:
    event = tap(None, "[Respuesta interactiva]", f"message.interactive.{kind}")
    assert after(event, MAIN).replies == (replies.hint(MENU, None),)


@pytest.mark.parametrize("kind", MEDIA)
def test_a_file_in_the_menu_gets_the_current_menu_once(kind: str) -> None:
    album = talk(ALUMNOS, [(n / 10, media(kind, "MENU")) for n in range(5)])
    assert album[0].replies == (replies.submenu(MENU, "2"),)
    assert forgetful(album[0].conversation) == forgetful(ALUMNOS)
    assert album[0].conversation.memory.path == ("2",)
    assert all(is_silent(decision, "repeat") for decision in album[1:])


@pytest.mark.parametrize(
    "word", ["menu_principal", "PSI Principal", "submenu_9", "", "9", None, "Ventas"]
)
def test_a_state_that_nobody_knows_is_the_main_menu(word: Any) -> None:
    odd = replace(MAIN, router_estado=word, submenu_actual="9")
    assert place(after("2", odd).conversation) == ("2", "2")
    assert after("x", odd).replies == (replies.hint(MENU, None),)
    assert after("x", odd).conversation.router_estado == word
    assert after("VOLVER", odd).replies == (MAIN_MENU,)
    assert place(after("VOLVER", odd).conversation) == ("principal", None)


def test_an_older_router_s_list_is_the_same_list() -> None:
    old = replace(MAIN, router_estado="submenu_2")
    derivation = after("Clases y cronograma", old).derivation
    assert derivation is not None
    assert derivation.path == ("2", "22")
    assert after(media("image"), old).conversation.router_estado == "submenu_2"


def test_volver_takes_one_step_off_the_path() -> None:
    deep = SMALL + (
        '[menus.11]\ntext = "Más"\narea = "Ventas"\nwait = "1 h"\n'
        'options = [{ code = "13", title = "Fin", subetiqueta = "f" }]\n'
    )
    memory = Memory(path=("2", "1", "11"))
    conversation = replace(MAIN, router_estado="11", memory=memory)
    decision = after("VOLVER", conversation, menu=Menu.load(deep))
    assert decision.conversation.memory.path == ("2", "1")
    decision = after("MENU", conversation, menu=Menu.load(deep))
    assert decision.conversation.memory.path == ()


def test_a_path_that_the_columns_contradict_is_left() -> None:
    moved = replace(ALUMNOS, router_estado="principal", submenu_actual=None)
    assert after("1", moved).conversation.memory.path == ("1",)
    lost = replace(ALUMNOS, memory=Memory())
    derivation = after("22", lost).derivation
    assert derivation is not None
    assert derivation.path == ("2", "22")


def test_the_path_is_bounded_and_a_step_on_the_spot_is_none() -> None:
    conversation = ALUMNOS
    for n in range(40):
        code = str(1 + n % 4)
        conversation = after(tap(code), conversation, seconds=60 * n).conversation
    assert conversation.memory.path == tuple("3412341234")
    assert len(conversation.memory.path) == MOST_PATH
    again = after(tap("4"), conversation, seconds=9999).conversation
    assert again.memory.path == conversation.memory.path


def test_a_menu_that_was_never_checked_never_derives_to_nobody() -> None:
    menu = Menu.load(SMALL.replace(', area = "Ventas", subetiqueta = "v"', ""))
    decision = after("2", MAIN, menu=menu)
    assert decision.derivation is None
    assert decision.replies == (replies.hint(menu, None),)


# --- ownership

HUMAN = [
    DERIVED,
    replace(DERIVED, asignado_a="agente-7"),
    replace(MAIN, asignado_a="agente-7"),
    replace(MAIN, inbox_fijo="ventas_1"),
    replace(MAIN, desconectado=True),
    replace(MAIN, router_estado="derivado_ventas"),
    replace(FIRST, desconectado=True),
]


@pytest.mark.parametrize("conversation", HUMAN)
@pytest.mark.parametrize(
    "event",
    [
        said("hola"),
        said("2"),
        said("22"),
        said("0"),
        said("VOLVER"),
        said("gracias"),
        said("el menu del día"),
        said("inicio"),
        said("sí"),
        said("quiero hablar con una persona"),
        tap("22"),
        tap("volver"),
        tap("99", "MENU"),
        media("image", "MENU"),
    ],
    ids=lambda event: f"{event.kind} {event.content.said or event.content.choice}",
)
@pytest.mark.parametrize("policy", ["unassigned", "always", "never"])
def test_the_bot_is_silent_while_a_human_owns_the_conversation(
    conversation: Conversation, event: Event, policy: Any
) -> None:
    decision = after(event, conversation, policy=Policy(menu_when_derived=policy))
    assert is_silent(decision, "human")
    assert decision.conversation is conversation


@pytest.mark.parametrize("text", ["MENU", "menú!", "Menu principal", "volver al menú"])
@pytest.mark.parametrize("policy", ["unassigned", "always"])
def test_menu_takes_a_derived_conversation_back_while_it_has_no_agent(
    text: str, policy: Any
) -> None:
    decision = after(text, DERIVED, policy=Policy(menu_when_derived=policy))
    assert decision.replies == (MAIN_MENU,)
    assert forgetful(decision.conversation) == Conversation(
        estado="activa", ultima_derivacion="PSI-2026-000001"
    )
    assert decision.conversation.memory.path == ()


def test_who_comes_back_is_active() -> None:
    waiting = replace(DERIVED, estado="esperando")
    assert after("MENU", waiting).conversation.estado == "activa"


@pytest.mark.parametrize("event", [tap("menu"), tap(" MENU"), tap(None, "Menú")])
def test_menu_may_be_tapped_as_well(event: Event) -> None:
    assert after(event, DERIVED).replies == (MAIN_MENU,)


@pytest.mark.parametrize("conversation", HUMAN[1:3])
def test_an_agent_keeps_the_conversation_unless_the_setting_says_always(
    conversation: Conversation,
) -> None:
    assert is_silent(after("MENU", conversation), "human")
    decision = after("MENU", conversation, policy=Policy(menu_when_derived="always"))
    assert decision.replies == (MAIN_MENU,)
    assert decision.conversation.asignado_a is None
    assert place(decision.conversation) == ("principal", None)
    again = after("2", decision.conversation, seconds=1)
    assert again.replies == (replies.submenu(MENU, "2"),)


def test_menu_never_takes_it_back_where_the_setting_says_never() -> None:
    never = Policy(menu_when_derived="never")
    assert is_silent(after("MENU", DERIVED, policy=never), "human")


@pytest.mark.parametrize("policy", ["unassigned", "always", "never"])
@pytest.mark.parametrize(
    "held", [{"desconectado": True}, {"inbox_fijo": "ventas_1"}], ids=str
)
def test_menu_never_undoes_what_the_crm_disconnected(
    held: dict[str, Any], policy: Any
) -> None:
    conversation = replace(DERIVED, **held)
    policy = Policy(menu_when_derived=policy)
    assert is_silent(after("MENU", conversation, policy=policy), "human")


@pytest.mark.parametrize("text", ["hola", "MENU"])
@pytest.mark.parametrize("conversation", [FIRST, MAIN, DERIVED])
def test_an_area_s_own_line_has_no_bot(conversation: Conversation, text: str) -> None:
    line = Policy(line_area="Ventas", menu_when_derived="always")
    decision = after(text, conversation, policy=line)
    assert is_silent(decision, "human")
    assert decision.conversation is conversation


def test_who_is_derived_again_gets_a_new_confirmation() -> None:
    _, _, decision = talk(DERIVED, [(0, "MENU"), (1, "2"), (2, "22")])
    assert decision.derivation is not None
    assert decision.derivation.path == ("2", "22")


def attended_by_an_agent(conversation: Conversation, seconds: float) -> Conversation:
    return attended(conversation, "Hola, soy Sol", now().timestamp() + seconds)


@pytest.mark.parametrize("conversation", [FIRST, MAIN, ALUMNOS])
@pytest.mark.parametrize(
    "answer",
    [
        "hola sol, una pregunta",
        "sí, dale",
        "Buenas",
        "el 22",
        "clases",
        "volver",
        "gracias",
    ],
)
def test_what_may_be_for_an_agent_who_wrote_is_left_to_the_agent(
    conversation: Conversation, answer: str
) -> None:
    before = attended_by_an_agent(conversation, -600)
    decision = after(answer, before)
    assert is_silent(decision, "human")
    assert decision.conversation is before
    assert is_silent(after(media("audio"), before), "human")


@pytest.mark.parametrize(
    ("event", "heard"),
    [("2", "choose 2"), ("22", "choose 22"), (tap("3"), "choose 3"), ("MENU", "main")],
)
def test_a_plain_choice_is_heard_though_an_agent_wrote(
    event: Event | str, heard: str
) -> None:
    decision = after(event, attended_by_an_agent(MAIN, -3))
    assert decision.heard == heard
    assert decision.replies or decision.derivation


def test_an_agent_who_wrote_has_what_was_handed_over() -> None:
    assert after("MENU", DERIVED).heard == "return"
    assert is_silent(after("MENU", attended_by_an_agent(DERIVED, -600)), "human")
    always = Policy(menu_when_derived="always")
    there = attended_by_an_agent(DERIVED, -600)
    assert after("MENU", there, policy=always).heard == "return"


def test_an_agent_s_words_are_the_last_for_some_hours_and_no_longer() -> None:
    before = attended_by_an_agent(MAIN, 0)
    hold_s = POLICY.agent_hold_s
    assert is_silent(after("Hola", before, seconds=hold_s - 1), "human")
    assert after(said("Hola", hold_s), before, seconds=hold_s).heard == "main"
    # What is told late of long ago changes nothing, nor do clocks that disagree a little.
    assert attended(before, "Hola", 1.0) is before
    assert is_silent(after("Hola", attended_by_an_agent(MAIN, 5)), "human")


def test_the_bot_s_own_words_that_come_back_are_no_agent_s() -> None:
    first = after("Hola", FIRST)
    (reply,) = first.replies
    assert attended(first.conversation, reply.text, 2e9) is first.conversation


def test_who_goes_on_greeting_gets_one_menu_and_no_apology() -> None:
    burst = [(0, "hola"), (2, "como estas?"), (4, "todo bien?")]
    said_by_bot = [decision.replies for decision in talk(FIRST, burst)]
    assert said_by_bot == [(MAIN_MENU,), (), ()]


# --- silence


@pytest.mark.parametrize(
    "kind",
    [
        "message.reaction",
        "message.reaction_removed",
        "message.edit",
        "message.revoke",
        "message.system.number_changed",
        "message.system.other",
        "message.unsupported",
        "message.unknown",
        "message.unrecognised",
        "message.request_welcome",
        "message.interactive.flow_reply",
        "message.interactive.address_reply",
        "message.interactive.call_permission",
        "message.something_new",
        "echo.text",
        "status.sent",
        "standby.message.text",
        "history.message.text",
        "text",
    ],
)
@pytest.mark.parametrize("conversation", [FIRST, ALUMNOS, DERIVED])
def test_what_is_no_message_to_answer_is_never_answered(
    conversation: Conversation, kind: str
) -> None:
    content = Content(text="MENU", tipo="text", said="MENU", choice="menu")
    decision = after(message(kind=kind, content=content), conversation)
    assert is_silent(decision, "kind")
    assert decision.conversation is conversation


def test_a_message_without_content_is_never_answered() -> None:
    assert is_silent(after(message(content=None), FIRST), "kind")


def test_a_group_is_never_answered() -> None:
    assert is_silent(after(message(group_id="G1"), FIRST), "group")


def test_whoever_cannot_be_written_to_is_never_answered() -> None:
    nobody = Person(parent_bsuid="AR.1", username="ana", name="Ana")
    assert is_silent(after(message(person=nobody), FIRST), "nobody")
    for person in (Person(wa_id="5491100000001"), Person(bsuid="AR.2")):
        assert after(message(person=person), FIRST).replies == (MAIN_MENU,)


def test_without_a_menu_the_bot_is_silent() -> None:
    for conversation in (FIRST, ALUMNOS, DERIVED):
        decision = after("MENU", conversation, menu=None)
        assert is_silent(decision, "no_menu")
        assert decision.conversation is conversation


@pytest.mark.parametrize(
    ("age_s", "silence"), [(900, None), (900.5, "stale"), (10**8, "stale")]
)
def test_an_old_message_is_not_answered(age_s: float, silence: str | None) -> None:
    for text in ("hola", "22"):
        decision = after(said(text, 0), FIRST, seconds=age_s)
        assert decision.silence == silence
        assert (decision.conversation is FIRST) == bool(silence)


def test_a_message_without_a_time_or_of_the_future_is_fresh() -> None:
    for event in (said("hola"), said("hola", 10**6)):
        decision = after(event, FIRST, policy=Policy(stale_s=0.5))
        assert decision.replies == (MAIN_MENU,)


def test_how_old_is_too_old_is_a_setting() -> None:
    event = said("hola", 0)
    assert is_silent(after(event, FIRST, seconds=6, policy=Policy(stale_s=5)), "stale")
    assert after(event, FIRST, seconds=5, policy=Policy(stale_s=5)).replies


def test_after_an_outage_the_backlog_sets_off_nothing_and_is_no_first_contact() -> None:
    backlog = [after(said("hola", n), FIRST, seconds=5000) for n in range(20)]
    assert all(is_silent(decision, "stale") for decision in backlog)
    assert after("hola", backlog[-1].conversation, seconds=5000).replies == (MAIN_MENU,)


# --- the loop guard


@pytest.mark.parametrize(
    "texts",
    [
        ["Hola"] * 5,
        ["Hola", "quiero info", "de los cursos", "de verano", "gracias!"],
        ["buenas", "hola", "MENU", "me pasás precios?", "volver"],
    ],
)
def test_five_first_messages_of_one_second_get_one_menu(texts: list[str]) -> None:
    decisions = talk(FIRST, [(n / 10, text) for n, text in enumerate(texts)])
    assert [bool(decision.replies) for decision in decisions] == [True] + [False] * 4
    assert {decision.silence for decision in decisions[1:]} <= {"repeat", "burst"}


def test_a_burst_that_arrives_late_is_one_as_well() -> None:
    """Five bodies in parallel: the clock of the phone tells what was one second."""
    decisions = [after(said("Hola", 0), FIRST)]
    decisions.append(after(said("info?", 1), decisions[-1].conversation, seconds=9.9))
    assert is_silent(decisions[1], "burst")
    assert after(said("info?", 1.1), decisions[0].conversation, seconds=2).replies
    assert after(said("info?", 1), decisions[0].conversation, seconds=10).replies


def test_who_has_seen_the_menu_and_is_not_understood_is_told_so() -> None:
    _, hint = talk(FIRST, [(0, "Hola"), (2, "quiero info")])
    assert hint.replies == (replies.hint(MENU, None),)


def test_a_burst_after_the_second_answer_is_none() -> None:
    *_, hint = talk(FIRST, [(0, "Hola"), (0, "2"), (0, "quiero info")])
    assert hint.replies == (replies.hint(MENU, "2"),)


def test_without_times_the_time_of_receipt_tells_a_burst() -> None:
    first = after("Hola", FIRST)
    assert is_silent(after("info", first.conversation, seconds=1), "burst")
    assert after("info", first.conversation, seconds=2).replies


def test_the_same_reply_is_not_said_twice_in_a_row_within_seconds() -> None:
    first, second, third = talk(MAIN, [(0, "MENU"), (9.9, "MENU"), (10, "MENU")])
    assert first.replies == (MAIN_MENU,)
    assert is_silent(second, "repeat")
    assert second.conversation is first.conversation
    assert third.replies == (MAIN_MENU,)


def test_with_another_reply_in_between_it_is_new() -> None:
    decisions = talk(MAIN, [(0, "MENU"), (1, "2"), (2, "MENU"), (3, "2"), (4, "MENU")])
    assert all(len(decision.replies) == 1 for decision in decisions)


def test_the_pause_before_the_same_reply_is_a_setting() -> None:
    eager = Policy(same_reply_s=1)
    decisions = talk(MAIN, [(0, "MENU"), (0.5, "MENU"), (1, "MENU")], eager)
    assert [len(decision.replies) for decision in decisions] == [1, 0, 1]


def test_the_same_reply_is_said_five_times_in_a_row_at_most() -> None:
    """Another bot answers every eleven seconds, and is never understood."""
    decisions = talk(MAIN, [(11 * n, "Estoy de viaje") for n in range(50)])
    assert [bool(decision.replies) for decision in decisions] == [True] * 5 + [
        False
    ] * 45
    assert all(is_silent(decision, "repeat") for decision in decisions[5:])
    assert decisions[49].conversation is decisions[4].conversation


def test_after_ten_minutes_it_may_be_said_again() -> None:
    times = [0, 11, 22, 33, 44, 599, 600, 601, 610.9, 611]
    decisions = talk(MAIN, [(at, "Estoy de viaje") for at in times])
    said_at = [at for at, said_ in zip(times, decisions, strict=True) if said_.replies]
    assert said_at == [0, 11, 22, 33, 44, 600, 611]


def test_another_reply_in_between_begins_the_row_anew() -> None:
    texts = [*["xyz"] * 6, "MENU", *["xyz"] * 6]
    decisions = talk(MAIN, [(11 * n, text) for n, text in enumerate(texts)])
    counted = [*[1] * 5, 0, 1, *[1] * 5, 0]
    assert [len(decision.replies) for decision in decisions] == counted


def test_what_was_asked_for_holds_though_it_was_said_five_times() -> None:
    times = tuple(now().timestamp() - n for n in (55, 44, 33, 22, 11))
    alumnos = guard.digest_of(replies.submenu(MENU, "2").text)
    said_often = Memory(sent=times, last=alumnos, last_at=times[-1], same=times)
    decision = after("2", replace(MAIN, memory=said_often))
    assert is_silent(decision, "repeat")
    assert place(decision.conversation) == ("2", "2")


def test_a_derivation_is_confirmed_however_often_it_was() -> None:
    turns = [(11 * n, "22") for n in range(8)]
    conversation, confirmed = ALUMNOS, 0
    for seconds, text in turns:
        decision = after(text, conversation, seconds=seconds)
        confirmed += decision.derivation is not None
        # As an agent gives it back, without a word of the bot's.
        memory = decision.conversation.memory
        conversation = replace(ALUMNOS, memory=memory)
    assert confirmed == 8


def test_how_often_in_a_row_is_a_setting() -> None:
    turns: list[tuple[float, Event | str]] = [(11 * n, "xyz") for n in range(30)]
    for most, said_ in [(2, 2), (1, 1), (999, MOST_SAME)]:
        decisions = talk(MAIN, turns, Policy(same_reply_in_a_row=most))
        assert sum(len(decision.replies) for decision in decisions) == said_


def test_a_memory_of_before_counts_from_now_on() -> None:
    old = after("xyz", MAIN).conversation.memory.to_json()
    del old["same"], old["asked"]
    conversation = replace(MAIN, memory=Memory.from_json(old))
    decisions = talk(conversation, [(11 * n, "xyz") for n in range(1, 9)])
    assert [len(decision.replies) for decision in decisions] == [1] * 5 + [0] * 3


def test_at_most_twelve_replies_a_minute() -> None:
    texts = [(n, "MENU" if n % 2 else "2") for n in range(62)]
    decisions = talk(MAIN, texts)
    said_at = [n for n, decision in enumerate(decisions) if decision.replies]
    assert said_at == [*range(12), 60, 61]
    assert all(is_silent(decision, "flood") for decision in decisions[12:60])


def test_what_was_asked_for_holds_though_nothing_is_said() -> None:
    busy = replace(MAIN, memory=Memory(sent=(now().timestamp(),) * 12, path=("7",)))
    decision = after("2", busy)
    assert is_silent(decision, "flood")
    assert place(decision.conversation) == ("2", "2")
    assert decision.conversation.memory == replace(busy.memory, path=("2",))
    unclear = after("xyz", busy)
    assert is_silent(unclear, "flood")
    assert unclear.conversation is busy
    back = after("MENU", replace(DERIVED, memory=busy.memory))
    assert is_silent(back, "flood")
    assert place(back.conversation) == ("principal", None)
    assert back.conversation.area == "PSI Principal"


def test_a_derivation_is_always_confirmed_and_counts() -> None:
    busy = replace(ALUMNOS, memory=Memory(sent=(now().timestamp(),) * 12, path=("2",)))
    decision = after("22", busy)
    assert decision.derivation is not None
    assert decision.derivation.confirmation
    assert len(decision.conversation.memory.sent) == 13
    eleven = replace(ALUMNOS, memory=Memory(sent=(now().timestamp(),) * 11))
    derived = after("22", eleven).conversation
    assert is_silent(after("MENU", derived, seconds=1), "flood")


def test_how_many_a_minute_is_a_setting() -> None:
    quiet = Policy(replies_a_minute=2)
    decisions = talk(MAIN, [(0, "MENU"), (1, "2"), (2, "MENU"), (61, "2")], quiet)
    assert [len(decision.replies) for decision in decisions] == [1, 1, 0, 1]
    mute = Policy(replies_a_minute=0)
    assert is_silent(after("hola", FIRST, policy=mute), "flood")
    assert not after("hola", FIRST, policy=mute).conversation.first


def test_a_limit_over_what_is_kept_is_that_much() -> None:
    full = replace(MAIN, memory=Memory(sent=(now().timestamp(),) * MOST_SENT))
    assert is_silent(after("2", full, policy=Policy(replies_a_minute=999)), "flood")
    derived = after("22", full).conversation
    assert len(derived.memory.sent) == MOST_SENT


@pytest.mark.parametrize("jump_s", [-1, -59, -61, -86400, 86400])
def test_a_clock_that_jumps_silences_nobody_for_long(jump_s: float) -> None:
    said_before = talk(MAIN, [(n / 10, "MENU" if n % 2 else "2") for n in range(12)])
    conversation = said_before[-1].conversation
    turns = [(jump_s + 2 + n, "MENU" if n % 2 else "2") for n in range(0, 130, 11)]
    later = talk(conversation, turns)
    assert later[-1].replies
    assert later[-1].conversation.memory.sent == tuple(
        sorted(later[-1].conversation.memory.sent)
    )


def test_a_clock_set_back_a_little_keeps_the_guard() -> None:
    first = after("MENU", MAIN, seconds=5)
    assert is_silent(after("MENU", first.conversation, seconds=0), "repeat")
    busy = talk(MAIN, [(n / 10, "MENU" if n % 2 else "2") for n in range(12)])
    assert is_silent(after("2", busy[-1].conversation, seconds=-30), "flood")
    derived = after("22", busy[-1].conversation, seconds=-30).conversation
    assert derived.memory.sent == tuple(sorted(derived.memory.sent))
    assert derived.memory.sent[0] == now().timestamp() - 30


# --- what is remembered


def test_the_settings_are_the_promised_ones() -> None:
    assert Policy() == Policy(
        stale_s=900,
        menu_when_derived="unassigned",
        replies_a_minute=12,
        same_reply_s=10,
        same_reply_in_a_row=5,
        line_area=None,
    )


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (MAIN, "area"),
        (MAIN.memory, "last"),
        (POLICY, "stale_s"),
        (after("22", MAIN).derivation, "area"),
        (MENU.coded["22"], "area"),
        (MENU.main, "text"),
        (MENU, "hint"),
    ],
)
def test_what_is_decided_upon_is_frozen(value: Any, name: str) -> None:
    with pytest.raises(FrozenInstanceError):
        setattr(value, name, "x")
    with pytest.raises(TypeError, match="positional"):
        type(value)("x")


def test_a_decision_is_frozen() -> None:
    decision: Any = after("hola", MAIN)
    with pytest.raises(AttributeError):
        decision.silence = "x"


def test_memory_survives_being_kept() -> None:
    *_, decision = talk(FIRST, [(0.123456, "Hola"), (1.5, "2"), (2, "22")])
    memory = decision.conversation.memory
    assert Memory.from_json(memory.to_json()) == memory
    assert memory.sent == tuple(now().timestamp() + s for s in (0.123456, 1.5, 2))
    assert memory.last_at == memory.heard_at == now().timestamp() + 2
    assert memory.path == ("2", "22")
    assert memory.last == guard.digest_of(MENU.coded["22"].confirmation)


def test_memory_holds_only_the_last_minute() -> None:
    *_, decision = talk(MAIN, [(0, "2"), (30, "MENU"), (60, "2"), (90, "MENU")])
    assert decision.conversation.memory.sent == tuple(
        now().timestamp() + s for s in (60, 90)
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "x",
        7,
        {},
        {"sent": None, "last": None, "last_at": None, "heard_at": None, "path": None},
        {"sent": "12", "last": 7, "last_at": "7", "heard_at": [], "path": "22"},
        {"sent": {"a": 1}, "last": [], "last_at": True, "path": {"a": "b"}},
        {"sent": [math.nan, math.inf, -math.inf, True, "1", None, 10**400]},
        {"last_at": 10**400, "heard_at": math.nan, "path": [1, None, "", "x" * 33]},
        {"last": "x" * 33},
        {"same": "12", "asked": 7},
        {"same": [math.nan, True, None], "asked": "x" * 33},
    ],
)
def test_whatever_is_no_memory_is_forgotten(value: Any) -> None:
    assert Memory.from_json(value) == Memory()


def test_what_is_good_of_a_memory_is_kept() -> None:
    value = {
        "sent": [1, "x", 2.5],
        "last": "d" * 32,
        "last_at": 3,
        "heard_at": 4,
        "path": ["2", 7, "22"],
        "more": 1,
    }
    kept = Memory(
        sent=(1.0, 2.5), last="d" * 32, last_at=3.0, heard_at=4.0, path=("2", "22")
    )
    assert Memory.from_json(value) == kept
    newer = value | {"same": [1, "x", 2], "asked": "22"}
    assert Memory.from_json(newer) == replace(kept, same=(1.0, 2.0), asked="22")


def test_of_a_memory_that_is_too_long_the_newest_is_kept() -> None:
    many = list(range(500))
    value = {"sent": many, "path": [str(n) for n in range(50)], "same": many}
    memory = Memory.from_json(value)
    assert memory.same == tuple(map(float, range(500 - MOST_SAME, 500)))
    assert memory.sent == tuple(map(float, range(400, 500)))
    assert memory.path == tuple(str(n) for n in range(40, 50))


def test_a_digest_takes_any_text() -> None:
    assert len(guard.digest_of("\ud83d")) == 16
    assert guard.digest_of("a") != guard.digest_of("b")


@pytest.mark.parametrize(
    ("where", "said_", "heard"),
    [
        (FIRST, "Hola", "main"),
        (MAIN, "2", "choose 2"),
        (ALUMNOS, "22", "choose 22"),
        (ALUMNOS, "volver", "back"),
        (ALUMNOS, "menú", "main"),
        (MAIN, "xyzzy", "unclear"),
        (DERIVED, "22", None),
    ],
)
def test_a_decision_says_what_was_heard(
    where: Conversation, said_: str, heard: str | None
) -> None:
    assert after(said_, where).heard == heard


def test_who_comes_back_from_a_person_is_heard_as_that() -> None:
    policy = Policy(menu_when_derived="always")
    assert after("menú", DERIVED, policy=policy).heard == "return"
