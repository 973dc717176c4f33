"""What any Graph API must do, the fake as well as Meta's. A driver subclasses this with `open`.

It speaks HTTP with a client of its own, so that the fake is not judged by our sender.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest

from router.cli.fake_graph import FakeGraph, fake_graph
from router.cli.fake_rules import Meter

PERSON = "5491100000001"
BSUID = "AR.1000000000000001"


@dataclass(frozen=True, kw_only=True)
class Api:
    """A Graph API to talk to: its base URL, what opens it, and a person who may be told."""

    url: str
    token: str = field(repr=False)
    phone_number_id: str
    person: str = PERSON
    bsuid: str = BSUID

    async def post(
        self, body: Any, *, token: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with (
            aiohttp.ClientSession() as session,
            session.post(
                f"{self.url}/{self.phone_number_id}/messages",
                data=raw,
                headers={
                    "Authorization": f"Bearer {self.token if token is None else token}",
                    "Content-Type": "application/json",
                },
            ) as response,
        ):
            return response.status, await response.json()


def message(kind: str, content: dict[str, Any], to: str = PERSON) -> dict[str, Any]:
    return {"messaging_product": "whatsapp", "to": to, "type": kind, kind: content}


def text(body: str = "Hola", to: str = PERSON) -> dict[str, Any]:
    return message("text", {"body": body}, to)


def listing(
    rows: list[dict[str, str]], *, button: str = "Ver", body: str = "Elegí"
) -> dict[str, Any]:
    action = {"button": button, "sections": [{"rows": rows}]}
    return message(
        "interactive", {"type": "list", "body": {"text": body}, "action": action}
    )


def replies(*titles: str) -> dict[str, Any]:
    shown = [
        {"type": "reply", "reply": {"id": str(number), "title": title}}
        for number, title in enumerate(titles)
    ]
    content = {
        "type": "button",
        "body": {"text": "¿Seguimos?"},
        "action": {"buttons": shown},
    }
    return message("interactive", content)


def rows(count: int) -> list[dict[str, str]]:
    return [{"id": str(number), "title": f"Opción {number}"} for number in range(count)]


def code(answer: dict[str, Any]) -> int:
    return int(answer["error"]["code"])


REFUSED = [
    pytest.param(b"no json", 100, id="no JSON"),
    pytest.param([], 100, id="no object"),
    pytest.param({"to": PERSON, "type": "text"}, 100, id="no product"),
    pytest.param(message("text", {}), 131008, id="a text without text"),
    pytest.param(text("x" * 4097), 100, id="a long text"),
    pytest.param(text(to=BSUID), 100, id="a BSUID in to"),
    pytest.param(message("poem", {}), 131051, id="an unknown type"),
    pytest.param(listing(rows(11)), 131009, id="eleven rows"),
    pytest.param(listing([]), 131009, id="no rows"),
    pytest.param(listing([*rows(2), *rows(1)]), 131009, id="an id twice"),
    pytest.param(listing(rows(1), button="x" * 21), 131009, id="a long label"),
    pytest.param(listing(rows(1), body="x" * 1025), 131009, id="a long body"),
    pytest.param(listing([{"id": "1", "title": "x" * 25}]), 131009, id="a long title"),
    pytest.param(listing([{"id": "x" * 201, "title": "x"}]), 131009, id="a long id"),
    pytest.param(
        listing([{"id": "1", "title": "x", "description": "x" * 73}]),
        131009,
        id="a long description",
    ),
    pytest.param(replies("1", "2", "3", "4"), 131009, id="four buttons"),
    pytest.param(replies("x" * 21), 131009, id="a long button"),
]

TAKEN = [
    pytest.param(text("x" * 4096), id="the longest text"),
    pytest.param(listing(rows(10), button="x" * 20), id="ten rows"),
    pytest.param(replies("Sí", "No", "x" * 20), id="three buttons"),
    pytest.param(message("image", {"link": "https://files.example/a.png"}), id="image"),
    pytest.param(
        message("reaction", {"message_id": "wamid.A", "emoji": ""}), id="reaction"
    ),
    pytest.param(
        message("template", {"name": "aviso", "language": {"code": "es_AR"}}),
        id="template",
    ),
]


class GraphContract:
    """The promise of `POST /{phone_number_id}/messages`, as tests."""

    def open(self) -> AbstractAsyncContextManager[Api]:
        raise NotImplementedError

    async def test_a_message_is_answered_with_an_id_of_its_own(self) -> None:
        async with self.open() as api:
            status, first = await api.post(text(to=api.person))
            _, second = await api.post(text(to=api.person))
        assert status == 200
        assert first["messaging_product"] == "whatsapp"
        assert first["contacts"][0] == {"input": api.person, "wa_id": api.person}
        ids = {answer["messages"][0]["id"] for answer in (first, second)}
        assert len(ids) == 2
        assert all(each.startswith("wamid.") for each in ids)

    async def test_a_bsuid_is_a_recipient_of_another_name(self) -> None:
        async with self.open() as api:
            body = text() | {"recipient": api.bsuid}
            del body["to"]
            status, answer = await api.post(body)
        assert status == 200
        assert answer["contacts"][0]["user_id"] == api.bsuid

    async def test_of_a_phone_and_a_bsuid_the_phone_wins(self) -> None:
        async with self.open() as api:
            status, answer = await api.post(
                text(to=api.person) | {"recipient": api.bsuid}
            )
        assert (status, answer["contacts"][0]["wa_id"]) == (200, api.person)

    async def test_a_read_mark_is_no_message(self) -> None:
        async with self.open() as api:
            mark = {"messaging_product": "whatsapp", "status": "read"}
            status, answer = await api.post(mark | {"message_id": "wamid.A"})
        assert (status, answer) == (200, {"success": True})

    async def test_an_unknown_token_is_refused(self) -> None:
        async with self.open() as api:
            status, answer = await api.post(text(), token="another")
        assert (status, code(answer)) == (401, 190)

    @pytest.mark.parametrize(("body", "why"), REFUSED)
    async def test_what_breaks_a_rule_is_refused(self, body: Any, why: int) -> None:
        async with self.open() as api:
            status, answer = await api.post(body)
        assert (status, code(answer)) == (400, why)
        assert answer["error"]["message"].startswith(f"(#{why})")

    @pytest.mark.parametrize("body", TAKEN)
    async def test_what_keeps_the_rules_is_taken(self, body: dict[str, Any]) -> None:
        async with self.open() as api:
            status, answer = await api.post(body)
        assert status == 200, answer


class TestFakeGraph(GraphContract):
    def open(self) -> AbstractAsyncContextManager[Api]:
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Api]:
        async with fake_graph(FakeGraph(token="t")) as graph:
            yield Api(url=graph.url, token="t", phone_number_id="100000000000001")

    async def test_a_number_is_slowed_at_eighty_a_second(self) -> None:
        meter = Meter()
        taken = [meter.take("1", str(person), 5.0) for person in range(81)]
        assert taken == [None] * 80 + [130429]
        assert meter.take("2", "0", 5.0) is None  # another number
        assert meter.take("1", "0", 6.0) is None

    async def test_a_pair_is_slowed_after_a_burst(self) -> None:
        meter = Meter()
        taken = [meter.take("1", PERSON, second / 10) for second in range(46)]
        assert taken == [None] * 45 + [131056]
        assert meter.take("1", BSUID, 5.0) is None  # another person

    async def test_read_strictly_a_burst_is_repaid_before_the_next_message(
        self,
    ) -> None:
        meter = Meter(repay=True)
        assert [meter.take("1", PERSON, 0.1 * each) for each in range(20)] == (
            [None] * 20
        )
        assert meter.take("1", PERSON, 119.0) == 131056
        assert meter.take("1", PERSON, 120.0) is None
