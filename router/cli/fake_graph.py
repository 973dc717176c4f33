"""A fake Graph API: takes messages as Meta does, remembers them, and misbehaves on command.

    async with fake_graph(FakeGraph(token="t")) as graph:
        ...                                    # CLOUD_API_BASE_URL=graph.url
        graph.messages                         # what was taken, in order
        graph.behave("hang")                   # the next message gets no answer

From outside, the same by HTTP: `POST /fake/behave` with the arguments of `behave` as JSON,
`GET /fake/messages`. Files are `graph.media` (`router.cli.fake_media`). With a `webhook_url` and an `app_secret` it posts the signed statuses of
what it took back to a router.
"""

import asyncio
import json
import secrets
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from router.cli import fake_rules as rules
from router.cli.fake_media import FakeMedia
from router.cli.standin import local_server
from router.whatsapp.signature import sign

VERSION = "v26.0"
DRIP_S = 0.01
KEPT = 10_000  # messages; a bench sends more than anybody looks at
WINDOW_S = 24 * 3600.0

# What it may do instead of its duty. The first took the message all the same.
AFTER_TAKING = frozenset({"delay", "hang", "die", "close", "drip", "error", "garbage"})
INSTEAD = frozenset({"limit", "code", "redirect", "drop"})


@dataclass(slots=True, kw_only=True)
class Behaviour:
    """What to do with the next *times* messages."""

    kind: str
    times: int = 1
    seconds: float = 0.0  # delay, or the Retry-After of limit
    status: int = 0  # of error (500) and redirect (307)
    code: int = 131000  # code
    location: str = ""  # redirect


@dataclass(slots=True, kw_only=True)
class FakeGraph:
    """The fake; its attributes may be changed while it runs.

    `numbers` are the phone number ids it knows; empty: any. `last_heard` maps a recipient to
    the time of their last message: after 24 h they get templates only; None: no such check.
    `unreachable` maps a recipient to the error that comes at once, `failing` to the one that
    comes as a `failed` status; `phone_only` names templates that go to no BSUID.
    """

    token: str
    numbers: frozenset[str] = frozenset()
    meter: rules.Meter = field(default_factory=rules.Meter)
    clock: Callable[[], float] = time.monotonic
    last_heard: dict[str, float] | None = None
    unreachable: dict[str, int] = field(default_factory=dict)
    failing: dict[str, int] = field(default_factory=dict)
    phone_only: frozenset[str] = frozenset()
    webhook_url: str = ""
    app_secret: str = field(default="", repr=False)
    statuses: tuple[str, ...] = ("sent", "delivered", "read")

    media: FakeMedia = field(init=False)
    url: str = ""  # with the version: what CLOUD_API_BASE_URL holds
    messages: deque[rules.Message] = field(default_factory=lambda: deque(maxlen=KEPT))
    read_marks: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT))
    errors: Counter[int] = field(default_factory=Counter)  # by code
    requests: int = 0
    _behaviours: deque[Behaviour] = field(default_factory=deque)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _came: asyncio.Condition = field(default_factory=asyncio.Condition)
    _session: aiohttp.ClientSession | None = None
    _posting: set[asyncio.Task[None]] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Have files, by the same token and clock."""
        self.media = FakeMedia(token=self.token, clock=self.clock)

    def behave(self, kind: str, **how: Any) -> None:
        """Misbehave with the next message, or the next *times*; see `Behaviour`."""
        if kind not in AFTER_TAKING | INSTEAD:
            raise ValueError(f"no such behaviour: {kind}")
        self._behaviours.append(Behaviour(kind=kind, **how))

    async def taken(self, count: int) -> list[rules.Message]:
        """Wait until *count* messages were taken, and return all."""
        async with self._came:
            await self._came.wait_for(lambda: len(self.messages) >= count)
        return list(self.messages)

    async def posted(self) -> None:
        """Wait until every status that is due was posted."""
        while self._posting:
            await asyncio.gather(*self._posting)

    def app(self) -> web.Application:
        """Return the application, for whoever serves it; else use `fake_graph`."""
        app = web.Application()
        app.router.add_post("/{version}/{phone_number_id}/messages", self._message)
        app.router.add_post("/fake/behave", self._behave)
        app.router.add_get("/fake/messages", self._messages)
        self.media.add_routes(app)
        app.cleanup_ctx.append(self._running)
        return app

    async def _running(self, _: web.Application) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as self._session:
            yield
            await self.posted()

    async def _message(self, request: web.Request) -> web.StreamResponse:
        self.requests += 1
        raw = await request.read()
        if request.headers.get("Authorization") != f"Bearer {self.token}":
            return self._error(rules.Problem(190, "The access token is not valid"))
        behaviour = self._next_behaviour()
        if behaviour and behaviour.kind in INSTEAD:
            return await self._instead(request, behaviour)
        number = request.match_info["phone_number_id"]
        answer = await self._judge(number, raw)
        if behaviour:
            return await self._after_taking(request, behaviour, answer)
        return answer

    async def _judge(self, number: str, raw: bytes) -> web.Response:
        try:
            body = json.loads(raw)
        except ValueError:
            return self._error(rules.Problem(rules.INVALID, "The body is no JSON"))
        if problem := self._problem(number, body):
            return self._error(problem)
        if rules.is_read_mark(body):
            self.read_marks.append(body["message_id"])
            return web.json_response({"success": True})
        return await self._take(number, rules.recipient_of(body), body)

    def _problem(self, number: str, body: Any) -> rules.Problem | None:
        if self.numbers and number not in self.numbers:
            return rules.Problem(rules.INVALID, "No object with this ID", 33)
        if problem := rules.problem(body):
            return problem
        recipient = rules.recipient_of(body)
        if code := self.meter.take(number, recipient, self.clock()):
            return rules.Problem(code, "Too many messages")
        code = self._refused(recipient, body)
        return None if code is None else rules.Problem(code, "Not deliverable")

    def _refused(self, recipient: str, body: dict[str, Any]) -> int | None:
        if self.last_heard is not None and not rules.is_read_mark(body):
            heard = self.last_heard.get(recipient, -WINDOW_S)
            if body.get("type") != "template" and self.clock() >= heard + WINDOW_S:
                return rules.WINDOW_CLOSED
        template = body.get("template")
        if template and template["name"] in self.phone_only and "to" not in body:
            return rules.NOT_TO_AN_ID
        return self.unreachable.get(recipient)

    async def _take(
        self, number: str, recipient: str, body: dict[str, Any]
    ) -> web.Response:
        message = rules.Message(
            wamid=f"wamid.FAKE{secrets.token_hex(12).upper()}",
            phone_number_id=number,
            recipient=recipient,
            body=body,
            at=self.clock(),
        )
        async with self._came:
            self.messages.append(message)
            self._came.notify_all()
        if self.webhook_url:
            task = asyncio.create_task(self._post_statuses(message))
            self._posting.add(task)
            task.add_done_callback(self._posting.discard)
        known_as = {"wa_id": recipient} if "to" in body else {"user_id": recipient}
        return web.json_response(
            {
                "messaging_product": "whatsapp",
                "contacts": [{"input": recipient, **known_as}],
                "messages": [{"id": message.wamid}],
            }
        )

    def _error(self, problem: rules.Problem) -> web.Response:
        code = problem.code
        self.errors[code] += 1
        status, title = rules.ERRORS.get(code, (400, "Unknown error"))
        error = {
            "message": f"(#{code}) {title}",
            "type": "OAuthException",
            "code": code,
            "error_data": {"messaging_product": "whatsapp", "details": problem.details},
            "fbtrace_id": secrets.token_urlsafe(16),
        }
        if problem.subcode is not None:
            error["error_subcode"] = problem.subcode
        return web.json_response({"error": error}, status=status)

    def _next_behaviour(self) -> Behaviour | None:
        if not self._behaviours:
            return None
        behaviour = self._behaviours[0]
        behaviour.times -= 1
        if behaviour.times <= 0:
            self._behaviours.popleft()
        return behaviour

    async def _instead(
        self, request: web.Request, behaviour: Behaviour
    ) -> web.StreamResponse:
        if behaviour.kind == "code":
            return self._error(rules.Problem(behaviour.code, "As ordered"))
        if behaviour.kind == "redirect":
            headers = {"Location": behaviour.location or "/elsewhere"}
            return web.Response(status=behaviour.status or 307, headers=headers)
        if behaviour.kind == "limit":
            headers = {"Retry-After": f"{behaviour.seconds:.0f}"}
            return web.Response(status=429, headers=headers, text="slow down")
        return _cut(request)

    async def _after_taking(
        self, request: web.Request, behaviour: Behaviour, answer: web.Response
    ) -> web.StreamResponse:
        if behaviour.kind in {"delay", "hang"}:
            await self._pause(behaviour)
            return answer
        if behaviour.kind == "die":
            await answer.prepare(request)
            await answer.write_eof()
            return _cut(request, answer)
        if behaviour.kind == "drip":
            return await self._drip(request)
        if behaviour.kind == "close":
            return _cut(request)
        if behaviour.kind == "error":
            return web.Response(status=behaviour.status or 500, text="<h1>Sorry</h1>")
        return web.Response(text='{"messages":[{"id":')

    async def _pause(self, behaviour: Behaviour) -> None:
        until = None if behaviour.kind == "hang" else behaviour.seconds
        try:
            async with asyncio.timeout(until):
                await self._ended.wait()
        except TimeoutError:
            pass

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        while not self._ended.is_set() and request.transport:
            await response.write(b" ")
            await asyncio.sleep(DRIP_S)
        return response

    async def _post_statuses(self, message: rules.Message) -> None:
        failure = self.failing.get(message.recipient)
        for word in ("failed",) if failure else self.statuses:
            await self._post(rules.status_body(message, word, failure))

    async def _post(self, body: dict[str, Any]) -> None:
        if self._session is None:
            raise RuntimeError("the fake is not running")
        raw = json.dumps(body).encode()
        headers = {
            "Content-Type": "application/json",
            "X-Hub-Signature-256": sign(raw, self.app_secret.encode()),
        }
        try:
            async with self._session.post(
                self.webhook_url, data=raw, headers=headers
            ) as response:
                await response.read()
        except aiohttp.ClientError:
            self.errors[0] += 1  # nobody listens: Meta would try again for days

    async def _behave(self, request: web.Request) -> web.Response:
        try:
            self.behave(**await request.json())
        except (TypeError, ValueError) as exc:
            return web.json_response({"error": str(exc)}, status=400)
        return web.json_response({"ok": True})

    async def _messages(self, _: web.Request) -> web.Response:
        return web.json_response(
            [
                {"wamid": each.wamid, "to": each.recipient, "body": each.body}
                for each in self.messages
            ]
        )

    def end(self) -> None:
        """Let go of every request that hangs."""
        self._ended.set()
        self.media.end()


def _cut(
    request: web.Request, answer: web.StreamResponse | None = None
) -> web.StreamResponse:
    if request.transport:
        request.transport.abort()
    return answer or web.Response()


@asynccontextmanager
async def fake_graph(graph: FakeGraph) -> AsyncIterator[FakeGraph]:
    """Run *graph* on a free port of this machine."""
    async with local_server(graph.app()) as url:
        graph.url = f"{url}/{VERSION}"
        try:
            yield graph
        finally:
            graph.end()
