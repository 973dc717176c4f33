"""Fetches the files of messages: asks the Graph API where one is, and takes it from there.

The address is good for five minutes and opens only with our token, so it is asked for at each
attempt, and again where it is refused all the same. It comes from outside: the token goes to
Meta's hosts and to the Graph API's own, every redirect is looked at, and what it resolves to
has to be public (`guard`), whatever the operator's own addresses may be.
"""

import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from router import __version__
from router.destinations.graph_answer import object_in
from router.destinations.guard import Forbidden, Guard
from router.destinations.media_file import sha256_of
from router.destinations.media_policy import MediaAttempt, Outcome
from router.destinations.policy import retry_after_s
from router.destinations.storage import Incoming

CONNECT_S = 5.0
SILENCE_S = 10.0  # between two reads; the whole is the attempt's matter
ANSWER_BYTES = 64 * 1024
CHUNK_BYTES = 128 * 1024
REDIRECTS = 3
METAS = (".fbsbx.com", ".facebook.com", ".fbcdn.net", ".whatsapp.net")
REDIRECTED = frozenset({301, 302, 303, 307, 308})
# An address that has run out; Meta documents 404 alone.
RUN_OUT = frozenset({401, 403, 404, 410})
# Of the Graph API's codes, those that are about this id: no such object, or not ours.
ABOUT_THE_ID = frozenset({100})
_FAILURES = (aiohttp.ClientError, OSError, ValueError, RuntimeError)


class NotFetched(Exception):
    """A file did not come: how far it came, and what was said."""

    def __init__(
        self,
        outcome: Outcome,
        said: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Carry what an attempt keeps; *said* quotes no URL."""
        super().__init__(said)
        self.outcome, self.said = outcome, said
        self.status, self.retry_after_s = status, retry_after_s

    def attempt(self) -> MediaAttempt:
        """Return what the attempt came to."""
        return MediaAttempt(
            outcome=self.outcome,
            status=self.status,
            error=self.said,
            retry_after_s=self.retry_after_s,
            away=self.outcome is Outcome.AWAY,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Where a file is just now, and what the Graph API says of it."""

    url: URL
    mime_type: str
    sha256: str | None  # hex
    size: int | None  # bytes, as they say


class MediaClient:
    """Asks the Graph API for files, and takes them from where it points."""

    def __init__(
        self, base_url: str, token: str, *, allow_private: tuple[str, ...] = ()
    ) -> None:
        """Ask *base_url* (its last part is the version) with *token*. Opens nothing."""
        self._base, self._token = URL(base_url), token
        self._guard = Guard.of(allow_private)
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    def __repr__(self) -> str:
        """Return the host and nothing that is secret."""
        return f"<MediaClient {self._base.host}>"

    async def __aenter__(self) -> Self:
        """Open the sessions: one for the Graph API's own host, one for all others."""
        tls = ssl.create_default_context()
        own = self._guard.trusts(self._base.host or "")
        for ours in (True, False):
            self._sessions[ours] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    socket_factory=self._guard.dialler(trusted=ours and own),
                    limit=0,  # how many run at once is the stage's matter
                    ssl=tls,
                ),
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={
                    "user-agent": f"psi-router/{__version__}",
                    "accept-encoding": "identity",
                },
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=CONNECT_S,
                    sock_read=SILENCE_S,
                    ceil_threshold=math.inf,
                ),
            )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close every connection."""
        for session in self._sessions.values():
            await session.close()

    async def find(self, media_id: str) -> Found:
        """Ask where the file is. Raises NotFetched."""
        try:
            async with await self._get(self._base / media_id) as answer:
                body = await _all(answer)
                return _found(answer, body)
        except _FAILURES as exc:
            raise _broken(exc) from exc

    async def fetch(self, found: Found, into: Incoming, *, most: int) -> None:
        """Take the file, up to *most* bytes. Raises NotFetched and NotStored."""
        url = found.url
        try:
            for _ in range(REDIRECTS + 1):
                async with await self._get(url) as answer:
                    if answer.status not in REDIRECTED:
                        return await _take(answer, into, most)
                    url = url.join(URL(answer.headers.get("Location", "")))
        except _FAILURES as exc:
            raise _broken(exc) from exc
        raise NotFetched(Outcome.REFUSED, "too many redirects")

    async def _get(self, url: URL) -> aiohttp.ClientResponse:
        ours = url.origin() == self._base.origin()
        if not ours and (url.scheme != "https" or url.user or url.password):
            raise NotFetched(Outcome.REFUSED, "address not allowed")
        headers = {}
        if ours or is_metas(url):
            headers["authorization"] = f"Bearer {self._token}"
        return await self._sessions[ours].get(
            url, headers=headers, allow_redirects=False
        )


def is_metas(url: URL) -> bool:
    """Return whether *url* is at a host of Meta's, and so may be asked with our token."""
    return url.scheme == "https" and (url.host or "").endswith(METAS)


async def _all(answer: aiohttp.ClientResponse) -> bytes:
    body = b""
    while chunk := await answer.content.read(ANSWER_BYTES + 1 - len(body)):
        body += chunk
        if len(body) > ANSWER_BYTES:
            raise NotFetched(Outcome.AWAY, "an answer too long", status=answer.status)
    return body


def _found(answer: aiohttp.ClientResponse, body: bytes) -> Found:
    said = object_in(body)
    if answer.status != HTTPStatus.OK:
        raise _refusal(answer, said)
    url, mime_type = said.get("url"), said.get("mime_type")
    if not isinstance(url, str):
        raise NotFetched(Outcome.AWAY, "an answer without a URL", status=answer.status)
    return Found(
        url=URL(url),
        mime_type=mime_type if isinstance(mime_type, str) else "",
        sha256=sha256_of(said.get("sha256")),
        size=_size(said.get("file_size")),
    )


def _refusal(answer: aiohttp.ClientResponse, said: Mapping[str, Any]) -> NotFetched:
    error = said.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    of_this = code in ABOUT_THE_ID if code is not None else answer.status in RUN_OUT
    words = f"HTTP {answer.status}" if code is None else f"Graph error {code!s:.9}"
    return _failed(answer, words, of_this=of_this)


def _failed(answer: aiohttp.ClientResponse, words: str, *, of_this: bool) -> NotFetched:
    return NotFetched(
        Outcome.REFUSED if of_this else Outcome.AWAY,
        words,
        status=answer.status,
        retry_after_s=retry_after_s(
            answer.headers.get("Retry-After"), datetime.now(UTC)
        ),
    )


async def _take(answer: aiohttp.ClientResponse, into: Incoming, most: int) -> None:
    if answer.status != HTTPStatus.OK:
        words = f"HTTP {answer.status} of the file"
        raise _failed(answer, words, of_this=answer.status in RUN_OUT)
    too_large(answer.content_length, most)
    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
        too_large(into.size + len(chunk), most)
        await into.write(chunk)


def too_large(size: int | None, most: int) -> None:
    """Raise NotFetched, for good, where *size* bytes are more than *most*."""
    if size is not None and size > most:
        raise NotFetched(Outcome.NEVER, f"too large: more than {most} bytes")


def _size(said: object) -> int | None:
    # A number in the documentation's table, text in its example.
    if isinstance(said, str) and said.isascii() and said.isdigit():
        return int(said[:18])
    return said if isinstance(said, int) and not isinstance(said, bool) else None


def _broken(exc: Exception) -> NotFetched:
    # Names, never str(exc): aiohttp's messages quote URLs and header lines.
    cause = getattr(exc, "os_error", exc)
    if isinstance(cause, Forbidden):
        return NotFetched(Outcome.REFUSED, str(cause))
    if isinstance(exc, ValueError) and not isinstance(exc, aiohttp.ClientError):
        return NotFetched(Outcome.REFUSED, "an address that is none")
    words = "timeout" if isinstance(exc, TimeoutError) else type(exc).__name__
    return NotFetched(Outcome.AWAY, words)
