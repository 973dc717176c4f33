"""The Graph client and teller, against the fake Graph API and servers that do worse."""

import asyncio
import json
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from router.cli.fake_graph import FakeGraph, fake_graph
from router.cli.fake_rules import ERRORS, Meter
from router.cli.standin import local_server
from router.config import Destination
from router.destinations import graph_errors
from router.destinations.governor import Governor
from router.destinations.graph import GraphClient, GraphTeller
from router.destinations.graph_errors import Action, action_of
from router.destinations.graph_policy import (
    GraphAttempt,
    Later,
    Outcome,
    Unknown,
    decide_graph,
)
from router.destinations.policy import Dead, Done, Retry
from router.errors import Transient
from router.model import Notification
from router.whatsapp import outgoing
from router.whatsapp.outgoing import Outgoing
from router.whatsapp.signature import sign
from tests.misbehaving import Misbehaving

TOKEN = "EAAB-very-secret"
NUMBER, PERSON = "100000000000001", "5491100000001"
TEXT = orjson.dumps(outgoing.text(PERSON, "Hola"))
SCHEDULE = (1.0, 5.0, 30.0)
SOON_S = 0.3  # what a hanging attempt may take in a test


@asynccontextmanager
async def open_to(url: str, token: str = TOKEN) -> AsyncIterator[GraphClient]:
    async with GraphClient(url, token) as client:
        yield client


@asynccontextmanager
async def pair(**how: Any) -> AsyncIterator[tuple[FakeGraph, GraphClient]]:
    async with (
        fake_graph(FakeGraph(token=TOKEN, **how)) as graph,
        GraphClient(graph.url, TOKEN) as client,
    ):
        yield graph, client


def kept_connections(client: GraphClient) -> int:
    assert client._session
    connector = client._session.connector
    assert connector
    return sum(
        proto.is_connected() for kept in connector._conns.values() for proto, _ in kept
    )


def decide(attempt: GraphAttempt, attempts_made: int = 1) -> object:
    return decide_graph(attempt, attempts_made, SCHEDULE, lambda: 0.0)


# The client: how far did a message come?


async def test_a_message_that_was_taken_has_an_id() -> None:
    async with pair() as (graph, client):
        attempt = await client.send(NUMBER, TEXT)
    assert attempt.outcome is Outcome.SENT
    assert attempt.wamid == graph.messages[0].wamid
    assert graph.messages[0].body["text"]["body"] == "Hola"
    assert decide(attempt) == Done()


async def test_a_read_mark_is_done_without_an_id() -> None:
    async with pair() as (graph, client):
        attempt = await client.send(NUMBER, orjson.dumps(outgoing.read_mark("wamid.A")))
    assert (attempt.outcome, attempt.wamid) == (Outcome.SENT, "")
    assert list(graph.read_marks) == ["wamid.A"]


async def test_an_answer_that_was_taken_is_not_kept_since_it_names_the_number() -> None:
    async with pair() as (_, client):
        attempt = await client.send(NUMBER, TEXT)
    assert attempt.answer is None
    assert PERSON not in repr(attempt)


async def test_nobody_listens_so_nothing_was_sent() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    async with open_to(f"http://127.0.0.1:{port}/v26.0") as client:
        attempt = await client.send(NUMBER, TEXT)
    assert attempt.outcome is Outcome.NOT_SENT
    assert decide(attempt) == Retry(0.5, "ClientConnectorError")


async def test_a_name_that_does_not_resolve_is_certainly_not_sent() -> None:
    async with open_to("http://graph.invalid/v26.0") as client:
        attempt = await client.send(NUMBER, TEXT)
    assert attempt.outcome is Outcome.NOT_SENT


async def test_a_connection_that_is_never_taken_is_certainly_not_sent() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        blockers = [socket.socket() for _ in range(3)]
        try:
            for blocker in blockers:  # the backlog is full: no more handshakes
                blocker.setblocking(False)
                blocker.connect_ex(full.getsockname())
            async with open_to(f"http://127.0.0.1:{full.getsockname()[1]}/") as client:
                attempt = await client.send(NUMBER, TEXT, timeout_s=SOON_S)
        finally:
            for blocker in blockers:
                blocker.close()
    assert (attempt.outcome, attempt.error) == (Outcome.NOT_SENT, "timeout")


async def test_a_handshake_of_tls_that_fails_is_certainly_not_sent() -> None:
    async with (
        Misbehaving() as server,
        open_to(f"https://127.0.0.1:{server.port}/") as client,
    ):
        attempt = await client.send(NUMBER, TEXT, timeout_s=SOON_S)
    assert attempt.outcome is Outcome.NOT_SENT
    assert not server.requests


class Inwards(aiohttp.abc.AbstractResolver):
    """A resolver in somebody else's hand: every name is this machine."""

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> list[aiohttp.abc.ResolveResult]:
        return [
            aiohttp.abc.ResolveResult(
                hostname=host,
                host="127.0.0.1",
                port=port,
                family=socket.AF_INET,
                proto=0,
                flags=0,
            )
        ]

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_private_address_behind_a_name_is_never_dialled() -> None:
    async with (
        Misbehaving() as server,
        open_to(f"http://graph.example:{server.port}/") as client,
    ):
        assert client._session
        assert isinstance(client._session.connector, aiohttp.TCPConnector)
        client._session.connector._resolver = Inwards()
        attempt = await client.send(NUMBER, TEXT)
    assert (attempt.outcome, attempt.error) == (Outcome.NOT_SENT, "address not allowed")
    assert not server.requests


@pytest.mark.parametrize("kind", ["hang", "close", "drip", "garbage", "error"])
async def test_an_answer_that_was_lost_leaves_the_outcome_unknown(kind: str) -> None:
    async with pair() as (graph, client):
        graph.behave(kind)
        attempt = await client.send(NUMBER, TEXT, timeout_s=SOON_S)
        assert len(graph.messages) == 1  # it was taken all the same
    assert attempt.outcome is Outcome.UNKNOWN
    assert isinstance(decide(attempt), Unknown)


async def test_a_message_that_never_arrived_counts_as_unknown_once_it_was_written() -> (
    None
):
    async with pair() as (graph, client):
        graph.behave("drop")
        attempt = await client.send(NUMBER, TEXT, timeout_s=SOON_S)
        assert not graph.messages
    assert attempt.outcome is Outcome.UNKNOWN
    assert attempt.error
    assert attempt.error.endswith("after the request was written")


async def test_a_message_is_never_sent_twice_by_the_client_itself() -> None:
    async with pair() as (graph, client):
        await client.send(NUMBER, TEXT)
        graph.behave("close")  # on the kept connection
        attempt = await client.send(NUMBER, TEXT, timeout_s=SOON_S)
        assert graph.requests == 2
    assert attempt.outcome is Outcome.UNKNOWN


async def test_a_connection_that_dies_after_the_answer_harms_nobody() -> None:
    async with pair() as (graph, client):
        graph.behave("die")
        first = await client.send(NUMBER, TEXT)
        while kept_connections(client):  # noqa: ASYNC110 -- the loop must see it die
            await asyncio.sleep(0)
        second = await client.send(NUMBER, TEXT)
    assert (first.outcome, second.outcome) == (Outcome.SENT, Outcome.SENT)
    assert len(graph.messages) == 2


async def test_a_slow_answer_is_waited_for() -> None:
    async with pair() as (graph, client):
        graph.behave("delay", seconds=0.05)
        attempt = await client.send(NUMBER, TEXT)
    assert attempt.outcome is Outcome.SENT
    assert attempt.latency_ms >= 50


async def test_a_redirect_is_not_followed_and_the_token_goes_nowhere() -> None:
    async with Misbehaving() as elsewhere, pair() as (graph, client):
        graph.behave("redirect", location=elsewhere.url("answer"))
        attempt = await client.send(NUMBER, TEXT)
        assert not elsewhere.requests
    assert (attempt.outcome, attempt.status) == (Outcome.REJECTED, 307)
    assert decide(attempt) == Dead("refused: HTTP 307")


@pytest.mark.parametrize(
    "behaviour",
    ["reset", "endless", "bomb", "nonsense", "long-headers", "drip-headers", "close"],
)
async def test_whatever_comes_back_is_an_attempt(behaviour: str) -> None:
    async with Misbehaving() as server, open_to(server.url(behaviour)) as client:
        attempt = await client.send(NUMBER, TEXT, timeout_s=SOON_S)
        assert server.sent_bytes < 20_000_000
    assert attempt.outcome is Outcome.UNKNOWN
    assert len(attempt.answer or "") <= 500


@asynccontextmanager
async def answering(
    status: int, body: Any, **headers: str
) -> AsyncIterator[GraphClient]:
    async def answer(_: web.Request) -> web.Response:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return web.Response(status=status, body=raw, headers=headers)

    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    async with local_server(app) as url, GraphClient(url, TOKEN) as client:
        yield client


UNSURE = [
    pytest.param(200, b"", id="nothing"),
    pytest.param(200, b"<html>", id="a portal"),
    pytest.param(200, [], id="a list"),
    pytest.param(200, {"messages": []}, id="no message"),
    pytest.param(200, {"messages": [{"id": 7}]}, id="a number"),
    pytest.param(200, {"messages": {"id": "wamid.A"}}, id="no list"),
    pytest.param(200, {"error": {"code": 100}}, id="taken, and an error"),
    pytest.param(500, {"error": {"code": 131000}}, id="something went wrong"),
    pytest.param(500, {"error": "no"}, id="an error that is text"),
    pytest.param(502, b"<h1>Bad gateway</h1>", id="a gateway"),
    pytest.param(500, {"error": {"code": True}}, id="a code that is none"),
]


@pytest.mark.parametrize(("status", "body"), UNSURE)
async def test_an_answer_that_says_nothing_sure_is_unknown(
    status: int, body: Any
) -> None:
    async with answering(status, body) as client:
        attempt = await client.send(NUMBER, TEXT)
    assert attempt.outcome is Outcome.UNKNOWN
    assert isinstance(decide(attempt), Unknown)


async def test_an_error_is_kept_in_few_words() -> None:
    error = {
        "message": "(#100) Param text['body'] " + "x" * 1000,
        "code": 100,
        "error_subcode": 33,
        "error_data": {"details": f"of {PERSON}"},
    }
    async with answering(400, {"error": error}) as client:
        attempt = await client.send(NUMBER, TEXT)
    assert (attempt.code, attempt.subcode) == (100, 33)
    assert attempt.answer
    assert attempt.answer.startswith("100: (#100) Param")
    assert len(attempt.answer) == 500
    assert PERSON not in attempt.answer


async def test_a_code_may_be_text() -> None:
    async with answering(400, {"error": {"code": "131047"}}) as client:
        attempt = await client.send(NUMBER, TEXT)
    assert attempt.action is Action.WINDOW_CLOSED


async def test_retry_after_is_heard() -> None:
    async with answering(429, b"slow down", **{"Retry-After": "17"}) as client:
        attempt = await client.send(NUMBER, TEXT)
    assert attempt.retry_after_s == 17.0
    assert decide(attempt) == Later(17.0, "rate limit: HTTP 429")


async def test_a_message_leaves_by_its_number_and_not_by_another_path() -> None:
    async with pair(numbers=frozenset({NUMBER})) as (_, client):
        assert (await client.send(NUMBER, TEXT)).outcome is Outcome.SENT
        other = await client.send("2", TEXT)
        assert (other.code, other.subcode) == (100, 33)
        for number in ("", "../me", "1/2", "\u0661"):
            with pytest.raises(ValueError, match="digits"):
                await client.send(number, TEXT)


async def test_the_token_is_nowhere_but_in_the_header(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        fake_graph(FakeGraph(token="another")) as graph,
        open_to(graph.url) as client,
    ):
        attempt = await client.send(NUMBER, TEXT)
    assert attempt.action is Action.AUTH
    assert TOKEN not in repr(client) + repr(attempt)
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("url", ["", "graph.facebook.com", "ftp://x/", "http:///v26"])
def test_a_base_url_that_is_none_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"no http\(s\) URL$"):
        GraphClient(url, TOKEN)


async def test_a_client_that_is_not_open_sends_nothing() -> None:
    attempt = await GraphClient("http://127.0.0.1:1/", TOKEN).send(NUMBER, TEXT)
    assert attempt.outcome is Outcome.NOT_SENT


# The table, and what follows from it.


@pytest.mark.parametrize(
    ("code", "action"),
    [
        (130429, Action.RETRY_LATER),
        (131056, Action.RETRY_LATER),
        (4, Action.RETRY_LATER),
        (17, Action.RETRY_LATER),
        (613, Action.RETRY_LATER),
        (80007, Action.RETRY_LATER),
        (131048, Action.RETRY_LATER),
        (131047, Action.WINDOW_CLOSED),
        (131026, Action.NO_WHATSAPP),
        (131062, Action.NO_WHATSAPP),
        (190, Action.AUTH),
        (10, Action.AUTH),
        (200, Action.AUTH),
        (299, Action.AUTH),
        (368, Action.BLOCKED),
        (131031, Action.BLOCKED),
        (100, Action.PERMANENT),
        (131009, Action.PERMANENT),
        (131000, Action.UNKNOWN),
        (131016, Action.TRY_AGAIN),
    ],
)
def test_the_code_decides_whatever_the_status(code: int, action: Action) -> None:
    for status in (400, 403, 429, 500, 503):
        assert action_of(status, code) is action
        assert action_of(status, code, 2494055) is action


def test_every_error_that_the_reference_names_is_in_the_table() -> None:
    named = {131000, 131026, 131047, 131051, 131052, 131056, 131060, 131062, 130429}
    assert named | {190, 368, 10, 200, 4, 80007, 131048, 131031} <= set(
        graph_errors.ACTIONS
    )
    assert set(ERRORS) <= set(graph_errors.ACTIONS)


def test_every_answer_means_something() -> None:
    for status in range(1000):
        for code in (None, 0, 1, 100, 131047, 999_999, -1):
            assert action_of(status, code) in Action


@pytest.mark.parametrize(
    ("status", "action"),
    [
        (199, Action.UNKNOWN),
        (200, Action.ACCEPTED),
        (302, Action.PERMANENT),
        (400, Action.PERMANENT),
        (404, Action.PERMANENT),
        (429, Action.RETRY_LATER),
        (500, Action.UNKNOWN),
        (504, Action.UNKNOWN),
        (600, Action.UNKNOWN),
    ],
)
def test_without_a_code_the_status_decides(status: int, action: Action) -> None:
    assert action_of(status, None) is action
    if status >= 400:
        assert action_of(status, 1) is action  # a code that is not in the table


@pytest.mark.parametrize(
    ("code", "decision"),
    [
        (131047, Dead("window closed: Graph error 131047")),
        (131026, Dead("not reachable: Graph error 131026")),
        (190, Dead("not authorised: Graph error 190")),
        (368, Dead("blocked: Graph error 368")),
        (100, Dead("refused: Graph error 100")),
        (131016, Retry(0.5, "Graph error 131016")),
        (131000, Unknown("unknown: Graph error 131000")),
        (131056, Later(0.0, "rate limit: Graph error 131056")),
    ],
)
async def test_what_follows_an_error(code: int, decision: object) -> None:
    async with pair() as (graph, client):
        graph.behave("code", code=code)
        attempt = await client.send(NUMBER, TEXT)
        assert not graph.messages
    assert decide(attempt) == decision


def test_what_was_not_sent_is_tried_by_the_schedule_and_then_dead() -> None:
    attempt = GraphAttempt(outcome=Outcome.NOT_SENT, error="timeout")
    assert [decide(attempt, made) for made in (1, 2, 3, 4)] == [
        Retry(0.5, "timeout"),
        Retry(2.5, "timeout"),
        Retry(15.0, "timeout"),
        Dead("given up: timeout after 4 attempts"),
    ]


def test_a_rate_limit_never_kills_a_message() -> None:
    attempt = GraphAttempt(
        outcome=Outcome.REJECTED, action=Action.RETRY_LATER, status=429, code=130429
    )
    assert isinstance(decide(attempt, 1000), Later)


@pytest.mark.parametrize("asked", [float("nan"), -5.0, None])
def test_a_senseless_retry_after_is_none(asked: float | None) -> None:
    attempt = GraphAttempt(
        outcome=Outcome.REJECTED, action=Action.RETRY_LATER, retry_after_s=asked
    )
    assert decide(attempt) == Later(0.0, "rate limit: no answer")


def test_an_endless_retry_after_has_an_end() -> None:
    attempt = GraphAttempt(
        outcome=Outcome.REJECTED, action=Action.RETRY_LATER, retry_after_s=1e12
    )
    assert decide(attempt) == Later(86_400.0, "rate limit: no answer")


# The teller: an outbox row, the governor, and what is reported.


@dataclass
class Desk:
    """A teller with everything around it, and what it reported."""

    graph: FakeGraph
    teller: GraphTeller
    destination: Destination
    reported: list[tuple[str, str]] = field(default_factory=list)
    noted: list[str] = field(default_factory=list)
    broken: bool = False  # the store that notes what is about to go
    now: float = 1000.0

    async def tell(self, message: Outgoing | bytes, key: str = "k") -> GraphAttempt:
        payload = message if isinstance(message, bytes) else message.to_bytes()
        return await self.teller.tell(
            self.destination, Notification(1, "whatsapp", key, PERSON, payload, 0)
        )


@asynccontextmanager
async def desk(governor: Governor | None = None, **how: Any) -> AsyncIterator[Desk]:
    """A desk whose fake keeps the same time, which stands still until a test moves it."""
    made: Desk
    async with pair(clock=lambda: made.now, **how) as (graph, client):

        async def note(notification: Notification) -> None:
            if made.broken:
                raise Transient
            made.noted.append(notification.key)

        teller = GraphTeller(
            client,
            Governor() if governor is None else governor,
            on_sent=lambda row, wamid: made.reported.append((row.key, wamid)),
            about_to_send=note,
            clock=lambda: made.now,
            wall=lambda: made.now,
        )
        destination = Destination(name="whatsapp", url=graph.url, timeout_s=5.0)
        made = Desk(graph, teller, destination)
        yield made


def hello(to: str = PERSON, **more: Any) -> Outgoing:
    body = outgoing.text(to, "Hola", callback="7")
    return Outgoing(phone_number_id=NUMBER, body=body, **more)


async def test_a_row_becomes_a_message_and_its_id_is_reported() -> None:
    async with desk() as at:
        attempt = await at.tell(hello(), key="row 7")
        (taken,) = at.graph.messages
    assert attempt.outcome is Outcome.SENT
    assert at.reported == [("row 7", taken.wamid)]
    assert at.noted == ["row 7"]
    assert taken.phone_number_id == NUMBER
    assert taken.body["biz_opaque_callback_data"] == "7"


async def test_a_person_without_a_phone_is_reached() -> None:
    async with desk() as at:
        await at.tell(hello("AR.1000000000000001"))
        assert at.graph.messages[0].recipient == "AR.1000000000000001"


async def test_what_may_have_been_taken_is_reported_by_nobody() -> None:
    async with desk() as at:
        at.graph.behave("close")
        attempt = await at.tell(hello())
    assert attempt.outcome is Outcome.UNKNOWN
    assert at.reported == []


async def test_a_reply_that_comes_too_late_is_not_sent() -> None:
    async with desk() as at:
        late = await at.tell(hello(until=1000.0))
        soon = await at.tell(hello(until=1000.5))
        assert at.graph.requests == 1
    assert decide(late) == Dead("window closed: too late to be sent")
    assert soon.outcome is Outcome.SENT


@pytest.mark.parametrize("payload", [b"", b"{}", b"\xff", hello().to_bytes()[:-1]])
async def test_a_payload_of_another_kind_is_dead(payload: bytes) -> None:
    async with desk() as at:
        attempt = await at.tell(payload)
        assert at.graph.requests == 0
    assert decide(attempt) == Dead("refused: no payload of a WhatsApp message")


async def test_nothing_goes_that_could_not_be_noted_before() -> None:
    async with desk() as at:
        at.broken = True
        attempt = await at.tell(hello())
        assert at.graph.requests == 0
    assert attempt.outcome is Outcome.NOT_SENT


async def test_a_pair_that_must_wait_is_not_tried() -> None:
    async with desk(Governor(pair_burst=1)) as at:
        await at.tell(hello())
        attempt = await at.tell(hello())
        other = await at.tell(hello("5491100000002"))
        assert at.graph.requests == 2
        at.now += 6
        again = await at.tell(hello())
    assert attempt.outcome is Outcome.NOT_TRIED
    assert decide(attempt) == Later(6.0, "paced")
    assert (other.outcome, again.outcome) == (Outcome.SENT, Outcome.SENT)


@pytest.mark.parametrize(("code", "hurt"), [(131056, PERSON), (130429, "anybody")])
async def test_a_complaint_slows_the_pair_or_the_number(code: int, hurt: str) -> None:
    async with desk() as at:
        at.graph.behave("code", code=code)
        refused = await at.tell(hello())
        same = await at.tell(hello())
        other = await at.tell(hello("5491100000002"))
    assert isinstance(decide(refused), Later)
    assert refused.retry_after_s
    assert same.outcome is Outcome.NOT_TRIED
    paced = other.outcome is Outcome.NOT_TRIED
    assert paced is (hurt == "anybody")


async def test_the_limits_of_an_account_wait_longer() -> None:
    async with desk() as at:
        at.graph.behave("code", code=80007)
        refused = await at.tell(hello())
    assert refused.retry_after_s == 60.0


async def test_being_cancelled_is_no_attempt() -> None:
    async with desk() as at:
        at.graph.behave("hang")
        task = asyncio.create_task(at.tell(hello(), key="gone"))
        await at.graph.taken(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert at.noted == ["gone"]
    assert at.reported == []


async def test_ten_times_the_tap_rate_through_the_teller_meets_no_131056() -> None:
    async with desk() as at:
        done = paced = 0
        for _ in range(600):  # ten minutes; a person taps once in five seconds
            for _ in range(2):
                attempt = await at.tell(hello())
                done += attempt.outcome is Outcome.SENT
                paced += attempt.outcome is Outcome.NOT_TRIED
            at.now += 1.0
    assert at.graph.errors == {}
    assert done + paced == 1200
    assert 130 <= done <= 145  # 45 and one in six seconds are all that Meta allows


async def test_meta_reading_its_rule_strictly_is_met_seldom_and_loses_nothing() -> None:
    async with desk(meter=Meter(repay=True)) as at:
        outcomes = []
        for _ in range(600):
            attempt = await at.tell(hello())
            outcomes.append(attempt.outcome)
            at.now += 1.0
    assert set(outcomes) == {Outcome.SENT, Outcome.REJECTED, Outcome.NOT_TRIED}
    assert outcomes.count(Outcome.REJECTED) <= 3
    assert len(at.graph.messages) == outcomes.count(Outcome.SENT) >= 90


# The fake itself, beyond its contract.


async def test_the_fake_posts_signed_statuses_with_the_callback() -> None:
    came: list[tuple[str, bytes]] = []

    async def webhook(request: web.Request) -> web.Response:
        raw = await request.read()
        came.append((request.headers["X-Hub-Signature-256"], raw))
        return web.json_response({"success": True})

    app = web.Application()
    app.router.add_post("/webhook", webhook)
    async with local_server(app) as url:
        how: dict[str, Any] = {"webhook_url": f"{url}/webhook", "app_secret": "s"}
        how["failing"] = {"5491100000002": 131026}
        async with desk(**how) as at:
            await at.tell(hello())
            await at.graph.posted()
            await at.tell(hello("5491100000002"))
            await at.graph.posted()
    assert [signature for signature, _ in came] == [sign(raw, b"s") for _, raw in came]
    values = [json.loads(raw)["entry"][0]["changes"][0]["value"] for _, raw in came]
    statuses = [value["statuses"][0] for value in values]
    assert [each["status"] for each in statuses] == [
        "sent",
        "delivered",
        "read",
        "failed",
    ]
    assert {each["biz_opaque_callback_data"] for each in statuses} == {"7"}
    assert statuses[0]["recipient_id"] == PERSON
    assert statuses[0]["id"] == at.reported[0][1]
    assert statuses[3]["errors"][0]["code"] == 131026


async def test_the_fake_knows_the_window_the_unreachable_and_phones_only() -> None:
    bsuid = "AR.1000000000000001"
    async with pair(
        last_heard={PERSON: 0.0, bsuid: 50_000.0},
        clock=lambda: 86_400.0,
        unreachable={"5491100000002": 131026},
        phone_only=frozenset({"codigo"}),
    ) as (_, client):
        bodies = [
            outgoing.text(PERSON, "tarde"),
            outgoing.template(PERSON, "aviso", "es_AR"),
            outgoing.text(bsuid, "a tiempo"),
            outgoing.template("5491100000002", "aviso", "es_AR"),
            outgoing.template(bsuid, "codigo", "es_AR"),
        ]
        codes = [
            (await client.send(NUMBER, orjson.dumps(body))).code for body in bodies
        ]
    assert codes == [131047, None, None, 131026, 131062]


async def test_the_fake_takes_commands_by_http() -> None:
    async with pair() as (graph, client), aiohttp.ClientSession() as session:
        root = graph.url.removesuffix("/v26.0")
        order = {"kind": "limit", "times": 2, "seconds": 3}
        async with session.post(f"{root}/fake/behave", json=order) as response:
            assert response.status == 200
        for wrong in ({"kind": "sing"}, {"kind": "hang", "loud": True}, {}):
            async with session.post(f"{root}/fake/behave", json=wrong) as response:
                assert response.status == 400
        answers = [await client.send(NUMBER, TEXT) for _ in range(3)]
        assert [each.status for each in answers] == [429, 429, 200]
        assert answers[0].retry_after_s == 3.0
        async with session.get(f"{root}/fake/messages") as response:
            (kept,) = await response.json()
    assert kept["wamid"] == answers[2].wamid
    assert kept["body"]["text"]["body"] == "Hola"
