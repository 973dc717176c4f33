"""One connection to a destination: a POST goes out, an answer comes in, one at a time.

httptools, which is llhttp, reads what comes; what an answer is worth is not decided here. Of
its body ANSWER_BYTES are read at most, and a connection that would bring more is closed.
"""

import asyncio
from typing import cast

import httptools

ANSWER_BYTES = 64 * 1024  # read at most, so that a connection can be used again
HEAD_BYTES = 64 * 1024  # of status line and headers
MOST_BYTES = 8 * ANSWER_BYTES  # on the wire: chunks of one byte, trailers without end
RETRY_AFTER = b"retry-after"
SIZED = (b"content-length", b"transfer-encoding")  # without either: to the end
# 100 Continue: the answer is still to come. 101 nobody asked for; the parser refuses it.
INTERIM = range(100, 200)


class BadAnswer(OSError):
    """What came is no answer in HTTP/1.1."""


class Dropped(ConnectionResetError):
    """The other side ended the connection before the answer did."""


class Answer:
    """What is known of an answer, also when it breaks off."""

    __slots__ = ("body", "retry_after", "status")

    def __init__(self) -> None:
        """Know nothing yet."""
        self.status: int | None = None
        self.retry_after: str | None = None
        self.body = b""


class Line(asyncio.Protocol):
    """One connection, and the exchange that is under way on it."""

    __slots__ = (
        "_answer",
        "_body",
        "_done",
        "_heard",
        "_is_over",
        "_is_sized",
        "_parser",
        "_received",
        "_room",
        "_transport",
    )

    def __init__(self) -> None:
        """Wait for the connection."""
        self._transport: asyncio.Transport
        self._done: asyncio.Future[None] | None = None  # the exchange under way
        self._answer = Answer()
        self._body: list[bytes] = []
        self._received, self._room = 0, ANSWER_BYTES
        self._heard = False  # anything, since the request went out
        self._is_sized = False
        self._is_over = False
        self._parser = httptools.HttpResponseParser(self)

    @property
    def usable(self) -> bool:
        """Whether another request may be sent."""
        return not self._is_over and self._done is None

    @property
    def heard(self) -> bool:
        """Whether anything came back since the last request went out."""
        return self._heard

    async def ask(
        self, head: bytes, body: bytes, answer: Answer, until_s: float
    ) -> None:
        """Send a request and fill *answer*, which keeps what it has when this raises.

        Raises TimeoutError at *until_s* of the loop's clock, BadAnswer, or what ended the
        connection (an OSError).
        """
        if self._is_over:
            raise Dropped
        loop = asyncio.get_running_loop()
        done = self._done = loop.create_future()
        self._answer, self._body = answer, []
        self._received, self._room = 0, ANSWER_BYTES
        self._heard = self._is_sized = False
        timer = loop.call_at(until_s, self._fail, TimeoutError())
        try:
            self._transport.writelines((head, body))
            await done
        except BaseException:
            self._done = None
            self.abort()
            raise
        finally:
            timer.cancel()
            answer.body = b"".join(self._body)

    def abort(self) -> None:
        """End the connection, without waiting."""
        self._is_over = True
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if not self._is_asked():
            self.abort()
            return
        self._heard = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # Or the answer was whole, and what follows it is nonsense.
            self._fail(BadAnswer("not HTTP"))
        self._received += len(data)
        if self._answer.status is None and self._received > HEAD_BYTES:
            self._fail(BadAnswer("too long a head"))
        elif self._is_asked() and self._received > MOST_BYTES:
            self._end(None)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_over = True
        if exc is None and self._answer.status is not None and not self._is_sized:
            self._end(None)  # such a body ends with the connection
        else:
            self._end(exc if isinstance(exc, OSError) else Dropped())

    def on_message_begin(self) -> None:
        """Hear from the parser that an answer begins."""
        if not self._is_asked():
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Hear of a header."""
        if not self._is_asked():
            return
        name = name.lower()
        if name == RETRY_AFTER:
            self._answer.retry_after = value.decode("latin-1")
        elif name in SIZED:
            self._is_sized = True

    def on_headers_complete(self) -> None:
        """Hear that there are no more."""
        status = self._parser.get_status_code()
        if not self._is_asked():
            return
        if status in INTERIM:
            self._is_sized, self._answer.retry_after = False, None
        else:
            self._answer.status = status

    def on_body(self, part: bytes) -> None:
        """Hear a part of the body."""
        if not self._is_asked():
            return
        self._body.append(part[: self._room])
        self._room -= len(part)
        if self._room <= 0:  # there is more than anybody will read
            self._end(None)
            self.abort()

    def on_message_complete(self) -> None:
        """Hear that the answer is whole."""
        if self._answer.status is None:
            return  # an interim one
        if self._is_asked():
            self._end(None)
            if not self._parser.should_keep_alive():
                self.abort()

    def _is_asked(self) -> bool:
        return self._done is not None

    def _fail(self, exc: OSError) -> None:
        self._end(exc)
        self.abort()

    def _end(self, exc: OSError | None) -> None:
        done, self._done = self._done, None
        if done is None or done.done():
            return
        if exc is None:
            done.set_result(None)
        else:
            done.set_exception(exc)
