"""One function says who owns a conversation."""

from typing import Any

import pytest

from router.conversation.owner import Owner, owner_of
from router.conversation.state import Conversation


@pytest.mark.parametrize(
    "state",
    [
        {"router_estado": "derivada"},
        {"router_estado": " Derivada "},
        {"router_estado": "derivado"},
        {"router_estado": "derivado_ventas"},
        {"estado": "derivada"},
        {"asignado_a": "agente-7"},
        {"inbox_fijo": "ventas_1"},
        {"desconectado": True},
        {"desconectado": True, "inbox_fijo": "ventas_1", "asignado_a": "agente-7"},
    ],
)
def test_whoever_was_given_it_owns_it(state: dict[str, Any]) -> None:
    assert owner_of(Conversation(**state), None) is Owner.HUMAN


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"first": True},
        {"router_estado": "2", "submenu_actual": "2"},
        {"router_estado": "menu_principal"},
        {"router_estado": "PSI Principal"},
        {"router_estado": "submenu_2"},
        {"router_estado": "esperando_respuesta"},
        {"router_estado": ""},
        {"router_estado": None, "estado": None},
        {"estado": "resuelta"},
        {"area": "Alumnos"},
        {"ultima_derivacion": "PSI-2026-000001"},
        {"asignado_a": "", "inbox_fijo": " "},
    ],
)
def test_everything_else_is_the_bot_s(state: dict[str, Any]) -> None:
    assert owner_of(Conversation(**state), None) is Owner.BOT
    assert owner_of(Conversation(**state), "") is Owner.BOT


def test_an_area_s_own_line_is_the_area_s() -> None:
    assert owner_of(Conversation(first=True), "Ventas") is Owner.HUMAN
