"""Files in a bucket of S3, or of a service that speaks like it (Supabase Storage, MinIO).

A file is taken to a nameless one of this machine first, and goes up when it has been checked:
an upload cannot be taken back once its last part has arrived.
"""

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from router.config import Storage
from router.destinations.media_file import type_of
from router.destinations.storage import Incoming, NotStored, failures

CONNECT = "5s"
REQUEST = "30s"
RETRIES = 1  # more of them are the outbox's
RETRY_S = timedelta(seconds=20)
URL_S = timedelta(minutes=5)  # of a URL that opens a file to whoever has it


class Bucket:
    """Keeps files in a bucket."""

    def __init__(self, settings: Storage) -> None:
        """Reach the bucket that *settings* names. Opens nothing."""
        plain = (settings.endpoint or "").startswith("http:")
        self._store = S3Store(
            settings.bucket,
            prefix=settings.prefix or None,
            endpoint=settings.endpoint,
            region=settings.region,
            access_key_id=settings.access_key,
            secret_access_key=settings.secret_key,
            virtual_hosted_style_request=False,
            client_options={
                "allow_http": plain,
                "connect_timeout": CONNECT,
                "timeout": REQUEST,
            },
            retry_config={"max_retries": RETRIES, "retry_timeout": RETRY_S},
        )

    @asynccontextmanager
    async def incoming(self, name: str, mime_type: str) -> AsyncIterator[Incoming]:
        """Begin the file *name*, in a temporary file that has none."""
        del mime_type  # its name ends in it
        with failures():
            file = await asyncio.to_thread(tempfile.TemporaryFile)

        async def publish(incoming: Incoming) -> None:
            incoming.file.seek(0)
            await self._put(name, incoming)

        incoming = Incoming(file, publish)
        try:
            yield incoming
        finally:
            await incoming.end()

    async def _put(self, name: str, incoming: Incoming) -> None:
        # By its name, and so one of few: a page would be one at the storage's own address.
        kind = type_of(name)
        try:
            await obstore.put_async(
                self._store, name, incoming.file, attributes={"Content-Type": kind}
            )
        except (BaseError, OSError, ValueError) as exc:
            raise NotStored(f"storage: {type(exc).__name__}") from exc

    async def locate(self, name: str) -> str | None:
        """Return a URL that opens *name* for a while; it may not be there."""
        return await obstore.sign_async(self._store, "GET", name, URL_S)

    async def clean(self) -> None:
        """Nothing is left behind: a file without a name goes with its process."""
