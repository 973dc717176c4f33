"""The spool: a file that keeps what was put, whatever becomes of its process or its bytes."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from router.errors import QueueFull, Transient
from router.queues.base import Queue
from router.queues.front import WINDOW
from router.queues.pages import PAGE
from router.queues.salvage import FILE, LOG, SET_ASIDE
from router.queues.shelf import Kept, Notes, Room, Sheet
from router.queues.spool import Spool
from router.queues.spool_file import SpoolFile
from tests import box as boxes
from tests.contract.queue_contract import QueueContract, lease
from tests.durable import Shelved, drained, filled
from tests.faults.harness import dice
from tests.servers import until

SEED = 45
ALL = Room(10_000, 1 << 40)
NOTHING, NO_ROOM = Notes(), Room(0, 0)


@pytest.fixture
async def spooled(tmp_path: Path) -> AsyncIterator[Shelved]:
    found = Shelved(lambda: Spool(tmp_path / "spool"))
    yield found
    await found.end_all()


class TestSpoolQueue(QueueContract):
    @pytest.fixture(autouse=True)
    def _in_a_directory(self, spooled: Shelved) -> None:
        self._spooled = spooled

    async def make(self, *, bound: int = 100, refuse: bool = False) -> Queue[str]:
        return await self._spooled.queue(bound=bound, refuse=refuse)


async def test_what_is_not_settled_comes_back_in_order_one_attempt_older(
    spooled: Shelved,
) -> None:
    queue = await spooled.queue()
    for item in "abcd":
        await queue.put(item)
    _, second = await lease(queue, 2)
    second.ack()
    await spooled.end(queue)
    again = await lease(await spooled.queue())
    assert [(one.item, one.attempt) for one in again] == [("a", 2), ("c", 2), ("d", 2)]


async def test_a_nack_is_counted_over_a_restart(spooled: Shelved) -> None:
    queue = await spooled.queue()
    await queue.put("a")
    for _ in range(3):
        (only,) = await lease(queue)
        only.nack()
    await spooled.end(queue)
    (again,) = await lease(await spooled.queue())
    assert again.attempt == 5


async def test_the_bytes_are_bounded_too(spooled: Shelved) -> None:
    queue = await spooled.queue(bound_bytes=10, refuse=True)
    await queue.put("a", size=6)
    with pytest.raises(QueueFull):
        await queue.put("b", size=6)


async def test_a_backlog_of_the_last_process_counts_towards_the_bound(
    spooled: Shelved,
) -> None:
    queue = await spooled.queue()
    await queue.put("a", size=7)
    await spooled.end(queue)
    again = await spooled.queue(bound=1, refuse=True)
    await until(lambda: again.stats().depth == 1)
    assert again.stats().size_bytes == 7
    with pytest.raises(QueueFull):
        await again.put("b")


async def test_a_backlog_larger_than_memory_comes_out_whole_and_in_order(
    spooled: Shelved,
) -> None:
    count = 3 * WINDOW
    queue = await spooled.queue(bound=2 * count)
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(queue.put(str(number)))
    assert queue.stats().depth == count
    assert queue.stats().unsettled == WINDOW  # no more of them are in memory
    assert await drained(queue, count) == [str(number) for number in range(count)]


async def test_who_leaves_lends_no_more_and_the_next_goes_on(spooled: Shelved) -> None:
    queue = await spooled.queue()
    for item in "abc":
        await queue.put(item)
    (first,) = await lease(queue, 1)
    await queue.leave()
    reader = asyncio.create_task(lease(queue))
    first.ack()
    with pytest.raises(Exception, match="closed"):
        await reader
    await spooled.end(queue)
    assert [one.item for one in await lease(await spooled.queue())] == ["b", "c"]


async def test_a_second_process_waits_until_the_first_has_ended(
    spooled: Shelved,
) -> None:
    first = await spooled.queue()
    await first.put("a")
    second = await spooled.queue()
    reader = asyncio.create_task(lease(second))
    await until(lambda: "spool: in use by another process" in spooled.said)
    assert not reader.done()
    await spooled.end(first)
    assert [one.item for one in await reader] == ["a"]
    assert spooled.said[-1] is None


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    file = SpoolFile(tmp_path / "spool")
    file.open(())
    assert (tmp_path / "spool").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "spool" / FILE).stat().st_mode & 0o777 == 0o600
    file.close()


# -- What is damaged


def sheet(number: int) -> Sheet:
    """Return an item that says which it is; every tenth is larger than a page."""
    text = f"<{number}>".encode() * (4000 if number % 10 == 0 else 100)
    return Sheet("", len(text), text)


def number_of(kept: Kept) -> int:
    return int(kept.packed[1 : kept.packed.index(b">")])


def killed(directory: Path, items: range, *, folded: bool) -> Path:
    """Return a copy of a spool as a kill would leave it: its log folded in, or not."""
    file = SpoolFile(directory / "original")
    file.open(())
    for number in items:
        file.write([sheet(number)], NOTHING, NO_ROOM)
    if folded:
        file.close()
    shutil.copytree(directory / "original", directory / "killed")
    file.close()
    return directory / "killed"


def recovered(directory: Path) -> list[Kept]:
    """Return what a process finds that starts on *directory*."""
    file = SpoolFile(directory)
    try:
        file.open(())
        return file.write((), NOTHING, ALL)
    except Transient:  # found while reading: it is opened anew, as the queue does
        file.close()
        file.open(())
        return file.write((), NOTHING, ALL)
    finally:
        file.close()


def whole(found: list[Kept], items: range) -> list[int]:
    """Return the numbers of what was *found*: as it was written, in order, once."""
    assert all(kept.packed == sheet(number_of(kept)).packed for kept in found)
    numbers = [number_of(kept) for kept in found]
    assert numbers == sorted(set(numbers))
    assert set(numbers) <= set(items)
    return numbers


def set_aside(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name.startswith(SET_ASIDE)]


def offsets(size: int, count: int) -> Iterator[int]:
    yield from (0, 1, 17, 99, size - 1)
    chances = dice(SEED)
    for _ in range(count):
        yield chances.randrange(size)


ITEMS = range(1, 41)
MOST_OF_A_PAGE = 9  # items: of 400 bytes each


@pytest.mark.parametrize("folded", [True, False])
def test_a_flipped_bit_takes_nothing_with_it_but_the_items_of_its_page(
    tmp_path: Path, *, folded: bool
) -> None:
    original = killed(tmp_path, ITEMS, folded=folded)
    name = FILE if folded else LOG
    data = (original / name).read_bytes()
    for offset in offsets(len(data), 60):
        broken = tmp_path / "broken"
        shutil.copytree(original, broken)
        flipped = bytearray(data)
        flipped[offset] ^= 1 << offset % 8
        (broken / name).write_bytes(flipped)
        numbers = whole(recovered(broken), ITEMS)
        assert len(ITEMS) - len(numbers) <= MOST_OF_A_PAGE, offset
        if len(numbers) < len(ITEMS):
            assert set_aside(broken), offset
        assert whole(recovered(broken), ITEMS) == numbers  # and is sound from now on
        shutil.rmtree(broken)


@pytest.mark.parametrize("folded", [True, False])
def test_of_a_file_that_was_cut_everything_before_the_cut_is_recovered(
    tmp_path: Path, *, folded: bool
) -> None:
    original = killed(tmp_path, ITEMS, folded=folded)
    name = FILE if folded else LOG
    data = (original / name).read_bytes()
    for offset in offsets(len(data), 40):
        broken = tmp_path / "broken"
        shutil.copytree(original, broken)
        (broken / name).write_bytes(data[:offset])
        numbers = whole(recovered(broken), ITEMS)
        ends = {n: data.rfind(sheet(n).packed[:400][-40:]) for n in ITEMS if n % 10}
        before = {
            n for n, end in ends.items() if -1 < end < offset // PAGE * PAGE - PAGE
        }
        assert before <= set(numbers), offset
        shutil.rmtree(broken)


def test_what_was_written_before_the_damage_is_not_needed_to_go_on(
    tmp_path: Path,
) -> None:
    directory = killed(tmp_path, ITEMS, folded=True)
    (directory / FILE).write_bytes(b"no database at all" * 1000)
    assert recovered(directory) == []
    assert len(set_aside(directory)) == 1


async def test_a_damage_that_is_met_while_running_is_repaired_while_running(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = killed(tmp_path, ITEMS, folded=True)
    file = directory / FILE
    data = bytearray(file.read_bytes())
    at = data.rindex(b"<33>")
    data[at] ^= 1
    file.write_bytes(data)
    spooled = Shelved(lambda: Spool(directory))
    queue = await spooled.queue()
    found = [one.split(">")[0] for one in await drained(queue, len(ITEMS) - 1)]
    assert set(found) == {f"<{n}" for n in ITEMS if n != 33}
    (line,) = (x for x in caplog.records if x.getMessage() == "spool_damaged")
    assert line.fields["recovered"] == len(ITEMS) - 1  # type: ignore[attr-defined]
    assert line.fields["unreadable"] == 1  # type: ignore[attr-defined]
    await queue.put("goes on")
    await spooled.end_all()


def test_a_disk_that_damages_everything_is_given_up(tmp_path: Path) -> None:
    directory = tmp_path / "spool"
    file = SpoolFile(directory)
    for _ in range(7):
        with suppress(Transient):
            file.open(())
            file.write([sheet(1)], NOTHING, NO_ROOM)
        file.close()
        (directory / FILE).write_bytes(b"spoiled")
    with pytest.raises(Transient, match="again and again"):
        file.open(())
    file.close()
    assert len(set_aside(directory)) == 5


def test_a_repair_that_was_cut_off_is_finished_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = killed(tmp_path, ITEMS, folded=True)
    file = directory / FILE
    data = bytearray(file.read_bytes())
    data[:100] = bytes(100)
    file.write_bytes(data)
    renamed = Path.rename
    calls = 0

    def dies(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == dies_at:
            raise OSError("killed")
        return renamed(self, target)

    monkeypatch.setattr(Path, "rename", dies)
    for dies_at in (1, 2, 3):
        calls = 0
        again = tmp_path / f"again-{dies_at}"
        shutil.copytree(directory, again)
        spool = SpoolFile(again)
        with pytest.raises(Transient):
            spool.open(())
        spool.close()
        calls = 100
        assert whole(recovered(again), ITEMS) == list(ITEMS)


def test_what_a_kill_leaves_is_no_damage(tmp_path: Path) -> None:
    directory = killed(tmp_path, ITEMS, folded=False)
    assert (directory / LOG).stat().st_size
    assert whole(recovered(directory), ITEMS) == list(ITEMS)
    assert not set_aside(directory)


# -- A disk that is full


@pytest.fixture
def small_disk(as_root: None, tmp_path: Path) -> Iterator[Path]:
    """A disk of half a megabyte."""
    if not boxes.may_be_made():
        pytest.skip("needs the right to make namespaces and mounts (CAP_SYS_ADMIN)")
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    subprocess.run(command, check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_a_full_disk_refuses_and_is_emptied(small_disk: Path) -> None:
    spooled = Shelved(lambda: Spool(small_disk / "spool", reserve_bytes=150_000))
    queue = await spooled.queue(bound=1000, bound_bytes=1 << 30)
    taken = await filled(queue, 3000)
    assert spooled.said[-1] == "spool: the disk is full"
    assert taken
    assert await drained(queue, len(taken)) == taken
    await until(lambda: spooled.said[-1] is None)  # what was done made room
    await queue.put("fits")
    assert await drained(queue, 1) == ["fits"]
    await spooled.end_all()


async def test_a_disk_full_of_others_is_waited_for(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert shutil.disk_usage(small_disk).free == 0
    spooled = Shelved(lambda: Spool(small_disk / "spool", reserve_bytes=0))
    queue = await spooled.queue()
    await until(lambda: str(spooled.said[-1]).startswith("spool: "))
    put = asyncio.create_task(queue.put("a"))
    filler.unlink()
    await put
    assert await drained(queue, 1) == ["a"]
    await spooled.end_all()
