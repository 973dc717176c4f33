"""What any place for files must do: a real directory, and a bucket of a real S3 server."""

import asyncio
import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest

from router.config import Storage
from router.destinations.bucket import Bucket
from router.destinations.storage import (
    ABANDONED_S,
    PARTS,
    Directory,
    FileStore,
    NotStored,
    store_of,
)
from tests.servers import S3

BUCKET = "files"
LARGE = 11 * 2**20 + 3  # more than a part of an upload


@dataclass
class Place:
    """A file store, and one that cannot take anything."""

    store: FileStore
    broken: FileStore
    tries: int = 1

    async def content(self, name: str) -> bytes | None:
        """Return what is read where the store says that *name* is."""
        where = await self.store.locate(name)
        if where is None or isinstance(where, Path):
            return where.read_bytes() if where else None
        async with aiohttp.ClientSession() as session, session.get(where) as answer:
            return await answer.read() if answer.status == 200 else None

    async def put_again(self, name: str, data: bytes) -> None:
        """Keep *data* as the outbox would: who hears NotStored comes again."""
        for left in reversed(range(self.tries)):
            try:
                await self.put(name, data)
            except NotStored:
                if not left:
                    raise
            else:
                return

    async def put(self, name: str, *parts: bytes) -> str:
        """Keep *parts* as *name*; return their digest."""
        async with self.store.incoming(name, "image/jpeg") as incoming:
            for part in parts:
                await incoming.write(part)
            digest = await incoming.sha256()
            await incoming.keep()
        return digest


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest, s3: S3, tmp_path: Path) -> Place:
    if request.param == "directory":
        (tmp_path / "file").touch()
        root = tmp_path / "a" / "media"
        return Place(
            store_of(Storage(directory=str(root))), Directory(tmp_path / "file")
        )
    # moto's threads get into each other's way on one key, and answer 500.
    broken = Bucket(storage(s3, "nowhere"))
    return Place(store_of(storage(s3, BUCKET)), broken, tries=10)


def storage(s3: S3, bucket: str) -> Storage:
    return Storage(
        bucket=bucket,
        prefix=f"whatsapp/{secrets.token_hex(4)}",
        endpoint=s3.url,
        access_key=s3.KEYS["AWS_ACCESS_KEY_ID"],
        secret_key=s3.KEYS["AWS_SECRET_ACCESS_KEY"],
    )


def a_name() -> str:
    return f"2026/11/{secrets.token_hex(16)}.jpg"


async def test_a_file_is_all_there_once_it_is_kept(place: Place) -> None:
    name = a_name()
    await place.put(name, b"a", b"b" * 10)
    assert await place.content(name) == b"a" + b"b" * 10


async def test_a_large_file_comes_whole_and_hashed(place: Place) -> None:
    name, block = a_name(), os.urandom(LARGE // 11)
    data = block * 11
    digest = await place.put(name, *[block] * 11)
    assert digest == hashlib.sha256(data).hexdigest()
    assert await place.content(name) == data


async def test_what_is_not_kept_was_never_there(place: Place) -> None:
    name = a_name()
    for size in (1, LARGE):
        async with place.store.incoming(name, "image/jpeg") as incoming:
            await incoming.write(b"x" * size)
    assert await place.content(name) is None


async def test_who_is_cancelled_in_the_middle_leaves_nothing(place: Place) -> None:
    name, begun = a_name(), asyncio.Event()

    async def slow() -> None:
        async with place.store.incoming(name, "image/jpeg") as incoming:
            while True:
                await incoming.write(b"x" * 2**20)
                begun.set()

    task = asyncio.create_task(slow())
    await begun.wait()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert await place.content(name) is None


async def test_several_at_once_on_one_name_make_one_whole_file(place: Place) -> None:
    name, data = a_name(), os.urandom(3 * 2**20)
    await asyncio.gather(*(place.put_again(name, data) for _ in range(5)))
    assert await place.content(name) == data


async def test_a_place_that_takes_nothing_says_so_and_tells_no_secret(
    place: Place,
) -> None:
    nothing = Place(place.broken, place.broken)
    with pytest.raises(NotStored, match=r"^storage: (ENOTDIR|FileNotFoundError)$"):
        await nothing.put(a_name(), b"x")


def test_a_storage_does_not_show_its_keys() -> None:
    shown = repr(Storage(bucket="b", access_key="AKIA", secret_key="hush"))
    assert "AKIA" not in shown
    assert "hush" not in shown


# --- Of a directory


@pytest.fixture
def mask() -> Iterator[None]:
    old = os.umask(0o077)
    yield
    os.umask(old)


@pytest.mark.usefixtures("mask")
async def test_files_are_for_the_owner_and_the_group(tmp_path: Path) -> None:
    place = Place(Directory(tmp_path), Directory(tmp_path))
    name = a_name()
    await place.put(name, b"x")
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o640


async def test_nothing_but_the_file_is_left(tmp_path: Path) -> None:
    name = a_name()
    await Place(Directory(tmp_path), Directory(tmp_path)).put(name, b"x")
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / name]


async def test_what_a_dead_process_left_behind_is_swept_and_what_is_new_is_not(
    tmp_path: Path,
) -> None:
    parts = tmp_path / PARTS
    parts.mkdir()
    old, new = parts / "old.part", parts / "new.part"
    for part in (old, new):
        part.write_bytes(b"half")
    past = new.stat().st_mtime - ABANDONED_S - 60
    os.utime(old, (past, past))
    await Directory(tmp_path).clean()
    assert list(parts.iterdir()) == [new]


async def test_there_need_be_nothing_to_sweep(tmp_path: Path) -> None:
    await Directory(tmp_path / "none").clean()
    assert not (tmp_path / "none").exists()
