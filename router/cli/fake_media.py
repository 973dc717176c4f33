"""The files of the fake Graph API: an id becomes a URL for five minutes, and that the file.

It misbehaves on command, where a file is asked for (`at="id"`) and where it is taken from
(`at="file"`).
"""

import asyncio
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from router.cli.fake_files import File, file_of

URL_S = 300.0
DRIP_S = 0.01
PLACES = frozenset({"id", "file"})
# What it may do instead of its duty.
KINDS = frozenset(
    {
        "status",  # says `status`, with `seconds` as its Retry-After
        "hang",
        "drip",  # a byte now and then
        "cut",  # the half of it, then nothing
        "wrong",  # other bytes, as many
        "more",  # bytes without end
        "redirect",  # to `location`
        "url",  # an id: to `location` instead of our own address
    }
)


@dataclass(slots=True, kw_only=True)
class Trick:
    """What to do with the next *times* requests."""

    kind: str
    times: int = 1
    seconds: float = 0.0
    status: int = 404
    location: str = ""


@dataclass(slots=True, kw_only=True)
class FakeMedia:
    """The files, and how often each was asked for.

    `files` are those it has; for another id `make` may invent one. `clock` is what URLs run
    out by.
    """

    token: str
    clock: Callable[[], float]
    files: dict[str, File] = field(default_factory=dict)
    make: Callable[[str], File | None] = file_of
    asked: list[str] = field(default_factory=list)  # ids, as URLs were asked for
    taken: list[str] = field(default_factory=list)  # ids, as files were
    bearers: list[str | None] = field(default_factory=list)  # of the takings
    _tricks: dict[str, deque[Trick]] = field(
        default_factory=lambda: {place: deque() for place in PLACES}
    )
    _urls: dict[str, tuple[str, float]] = field(default_factory=dict)
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def behave(self, kind: str, *, at: str = "file", **how: Any) -> None:
        """Misbehave with the next request *at* a place, or the next *times*; see `Trick`."""
        if kind not in KINDS or at not in PLACES:
            raise ValueError(f"no such behaviour: {kind} at {at}")
        self._tricks[at].append(Trick(kind=kind, **how))

    def add(self, media_id: str, data: bytes, mime_type: str = "image/jpeg") -> File:
        """Have a file."""
        self.files[media_id] = File(mime_type, data)
        return self.files[media_id]

    def end(self) -> None:
        """Let go of every request that hangs."""
        self._ended.set()

    def add_routes(self, app: web.Application) -> None:
        """Answer for files in the application of the Graph API."""
        app.router.add_get("/fake/file/{key}", self._file)
        app.router.add_post("/fake/media/behave", self._behave)
        app.router.add_get("/{version}/{media_id}", self._find)

    async def _find(self, request: web.Request) -> web.StreamResponse:
        media_id = request.match_info["media_id"]
        self.asked.append(media_id)
        if not self._is_known(request):
            return _error(401, 190, "The access token is not valid")
        trick = self._next("id")
        if trick and trick.kind != "url":
            return await self._instead(request, trick, b"{}")
        file = self._have(media_id)
        if file is None:
            return _error(400, 100, "Unsupported get request. No such object", 33)
        key = secrets.token_hex(8)
        self._urls[key] = media_id, self.clock() + URL_S
        url = trick.location if trick else str(request.url.origin() / "fake/file" / key)
        return web.json_response(
            {
                "messaging_product": "whatsapp",
                "url": url,
                "mime_type": file.mime_type.partition(";")[0],
                "sha256": file.sha256,
                "file_size": str(len(file.data)),
                "id": media_id,
            }
        )

    async def _file(self, request: web.Request) -> web.StreamResponse:
        media_id, until = self._urls.get(request.match_info["key"], ("", 0.0))
        self.taken.append(media_id)
        self.bearers.append(request.headers.get("Authorization"))
        if not self._is_known(request):
            return web.Response(status=401)
        file = self._have(media_id)
        if trick := self._next("file"):
            return await self._instead(request, trick, file.data if file else b"")
        if file is None or self.clock() >= until:
            return web.Response(status=404, text="URL expired")
        return web.Response(body=file.data, headers={"Content-Type": file.mime_type})

    def _is_known(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {self.token}"

    def _have(self, media_id: str) -> File | None:
        return self.files.get(media_id) or self.make(media_id)

    def _next(self, place: str) -> Trick | None:
        tricks = self._tricks[place]
        if not tricks:
            return None
        tricks[0].times -= 1
        return tricks[0] if tricks[0].times > 0 else tricks.popleft()

    async def _instead(
        self, request: web.Request, trick: Trick, data: bytes
    ) -> web.StreamResponse:
        match trick.kind:
            case "status":
                headers = (
                    {"Retry-After": f"{trick.seconds:.0f}"} if trick.seconds else {}
                )
                return web.Response(status=trick.status, headers=headers)
            case "redirect":
                headers = {"Location": trick.location}
                return web.Response(status=302, headers=headers)
            case "wrong":
                return web.Response(body=bytes(byte ^ 1 for byte in data))
            case "hang":
                await self._ended.wait()
                return web.Response()
            case _:
                return await self._stream(request, trick.kind, data)

    async def _stream(
        self, request: web.Request, kind: str, data: bytes
    ) -> web.StreamResponse:
        response = web.StreamResponse()
        if kind != "more":
            response.content_length = len(data)
        await response.prepare(request)
        match kind:
            case "cut":
                await response.write(data[: len(data) // 2])
                await self._ended.wait()
            case "more":
                while request.transport and not self._ended.is_set():
                    await response.write(data)
            case _:
                for byte in data:
                    if self._ended.is_set() or not request.transport:
                        break
                    await response.write(bytes([byte]))
                    await asyncio.sleep(DRIP_S)
        return response

    async def _behave(self, request: web.Request) -> web.Response:
        try:
            self.behave(**await request.json())
        except (TypeError, ValueError) as exc:
            return web.json_response({"error": str(exc)}, status=400)
        return web.json_response({"ok": True})


def _error(status: int, code: int, words: str, subcode: int = 0) -> web.Response:
    error = {"message": words, "type": "OAuthException", "code": code}
    if subcode:
        error["error_subcode"] = subcode
    return web.json_response({"error": error}, status=status)
