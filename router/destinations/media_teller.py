"""One attempt to fetch a file: find it, take it, check it, keep it."""

import asyncio
import time
from dataclasses import replace
from typing import Protocol

from router.config import Destination
from router.destinations.media import Found, NotFetched, too_large
from router.destinations.media_file import BYTES, MediaFile
from router.destinations.media_policy import MediaAttempt, Outcome
from router.destinations.storage import FileStore, Incoming, NotStored
from router.model import Notification


class Finder(Protocol):
    """Knows where files are, and takes them from there."""

    async def find(self, media_id: str) -> Found:
        """Return where a file is. Raises NotFetched."""

    async def fetch(self, found: Found, into: Incoming, *, most: int) -> None:
        """Take the file, up to *most* bytes. Raises NotFetched and NotStored."""


class MediaTeller:
    """Fetches what the outbox rows of the destination `media` ask for (`MediaFile`)."""

    def __init__(
        self,
        finder: Finder,
        store: FileStore,
        *,
        url: str,
        most: int,
        stop: asyncio.Event,
    ) -> None:
        """Keep files of up to *most* bytes in *store*; *url* stands before their names.

        Once *stop* is set, what is under way is given up: it may take longer than a stop.
        """
        self._finder, self._store = finder, store
        self._url, self._most, self._stop = url, most, stop

    async def tell(
        self, destination: Destination, notification: Notification
    ) -> MediaAttempt:
        """Make one attempt; every failure but being cancelled is a `MediaAttempt` too."""
        started = time.perf_counter()
        work = asyncio.ensure_future(self._attempt(notification, destination.timeout_s))
        stop = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            stop.cancel()
            await asyncio.wait({work, stop})
        if work.cancelled():
            return MediaAttempt(outcome=Outcome.STOPPED)
        ms = round((time.perf_counter() - started) * 1000)
        return replace(work.result(), latency_ms=ms)

    async def _attempt(
        self, notification: Notification, seconds: float
    ) -> MediaAttempt:
        try:
            file = MediaFile.from_bytes(notification.payload)
        except ValueError:
            return MediaAttempt(outcome=Outcome.NEVER, error="no file: no such payload")
        try:
            async with asyncio.timeout(seconds):
                return await self._fetched(file)
        except NotFetched as exc:
            return exc.attempt()
        except NotStored as exc:
            return MediaAttempt(outcome=Outcome.AWAY, error=str(exc), away=True)
        except TimeoutError:
            return MediaAttempt(outcome=Outcome.AWAY, error="timeout", away=True)

    async def _fetched(self, file: MediaFile) -> MediaAttempt:
        found = await self._finder.find(file.id)
        too_large(found.size, self._most)
        mime_type = file.mime_type or found.mime_type or BYTES
        name = file.name(mime_type)
        async with self._store.incoming(name, mime_type) as incoming:
            await self._take(file, found, incoming)
            await _check(file, found, incoming)
            await incoming.keep()
        return MediaAttempt(
            outcome=Outcome.STORED,
            wamid=file.wamid,
            url=f"{self._url}{name}",
            mime_type=mime_type,
            filename=name.rpartition("/")[2],
        )

    async def _take(self, file: MediaFile, found: Found, incoming: Incoming) -> None:
        try:
            await self._finder.fetch(found, incoming, most=self._most)
        except NotFetched as exc:
            if exc.outcome is not Outcome.REFUSED or incoming.size:
                raise
            # Its address may have run out on the way. Once, since nobody's has twice.
            fresh = await self._finder.find(file.id)
            await self._finder.fetch(fresh, incoming, most=self._most)


async def _check(file: MediaFile, found: Found, incoming: Incoming) -> None:
    wanted = file.sha256 or found.sha256
    if wanted is not None and await incoming.sha256() != wanted:
        raise NotFetched(Outcome.REFUSED, "wrong sha256")
