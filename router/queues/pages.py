"""The bytes of a SQLite file of items, read as they lie: no tree is followed, no log replayed.

Every page in every version that is there is looked at, and each item that was ever written to
one is taken apart. Whether its bytes are what was written, its checksum says.

Format: https://www.sqlite.org/fileformat2.html, sections 1.6, 2.1 and 4.
"""

import mmap
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PAGE = 4096

_HEAD = struct.Struct(">8I")  # magic, version, page size, round, two salts, checksum
_FRAME = struct.Struct(
    ">6I"
)  # page number, pages at a commit or 0, two salts, checksum
_LITTLE = 0x377F0682  # the magic of a log whose checksums read little-endian words
_LEAF = 0x0D
_LEAST = (PAGE - 12) * 32 // 255 - 23  # bytes in the leaf of an item that overflows
_MOST = PAGE - 35  # bytes of an item that does not overflow
_CHAINED = PAGE - 4
_WHOLE_BYTES = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8, 8: 0, 9: 0}
_TEXT = 12  # and above: text or bytes
_CONTINUES = 0x80  # of a varint's byte


class Row(NamedTuple):
    """A row of the table, in the order of its columns."""

    id: int
    tries: int
    lane: str
    size: int
    crc: int
    put_ms: int
    packed: bytes


class Frame(NamedTuple):
    """One page in the log; None where its frame is of an earlier round, or cut off."""

    number: int
    commits: bool
    page: bytes | None


def checksum(row: Row) -> int:
    """Return the CRC-32 that *row* has to carry: of all that stays as it was put."""
    head = f"{row.lane}\0{row.size}\0{row.put_ms}\0".encode("utf-8", "surrogatepass")
    return zlib.crc32(row.packed, zlib.crc32(head))


class Pages:
    """All pages of a file and its log, in all versions."""

    def __init__(self, file: Path, log: bytes) -> None:
        """Read *file*, which may be missing; a page in *log* is newer."""
        self._file = _mapped(file)
        self._newer: dict[int, bytes] = {}
        self._frames = [frame.page for frame in frames(log) if frame.page]
        for frame in frames(log):
            if frame.page:
                self._newer[frame.number] = frame.page

    def rows(self) -> Iterator[Row | None]:
        """Yield every item that is found; None for one whose bytes are not what they were."""
        for page in self._versions():
            if len(page) == PAGE and page[0] == _LEAF:
                yield from self._rows(page)

    def _versions(self) -> Iterator[bytes]:
        for at in range(0, len(self._file), PAGE):
            yield self._file[at : at + PAGE]
        yield from self._frames

    def _page(self, number: int) -> bytes:
        at = (number - 1) * PAGE
        page = self._newer.get(number) or self._file[at : at + PAGE]
        if number < 1 or len(page) != PAGE:
            raise ValueError("no such page")
        return page

    def _rows(self, page: bytes) -> Iterator[Row | None]:
        (count,) = struct.unpack_from(">H", page, 3)
        places = page[8 : 8 + 2 * min(count, PAGE // 8)]
        for (at,) in struct.iter_unpack(">H", places):
            try:
                row = self._row(page, at)
            except (IndexError, ValueError, struct.error):
                yield None
            else:
                yield row if row.crc == checksum(row) else None

    def _row(self, page: bytes, at: int) -> Row:
        size, at = _varint(page, at)
        number, at = _varint(page, at)
        record = self._record(page, at, size)
        end, at = _varint(record, 0)
        kinds = []
        while at < end:
            kind, at = _varint(record, at)
            kinds.append(kind)
        _, *numbers_and_lane, packed = _values(kinds, record, end)
        tries, lane, length, crc, put_ms = numbers_and_lane
        return Row(
            number,
            _whole(tries),
            _raw(lane).decode("utf-8", "surrogatepass"),
            _whole(length),
            _whole(crc),
            _whole(put_ms),
            _raw(packed),
        )

    def _record(self, page: bytes, at: int, size: int) -> bytes:
        if size <= _MOST:
            return page[at : at + size]
        here = _LEAST + (size - _LEAST) % _CHAINED
        here = here if here <= _MOST else _LEAST
        parts, left = [page[at : at + here]], size - here
        (number,) = struct.unpack_from(">I", page, at + here)
        while left > 0:
            chained = self._page(number)
            (number,) = struct.unpack_from(">I", chained)
            parts.append(chained[4 : 4 + min(left, _CHAINED)])
            left -= _CHAINED
        return b"".join(parts)


def frames(log: bytes) -> Iterator[Frame]:
    """Yield what *log* holds, whether or not SQLite would still read that far.

    Frames of an earlier round, which lie behind, have other salts.
    """
    first = log[_HEAD.size : _HEAD.size + _FRAME.size]
    if len(first) < _FRAME.size:
        return
    salts = log[16:24] if _head_is_sound(log) else first[8:16]
    for at in range(_HEAD.size, len(log) - _FRAME.size + 1, _FRAME.size + PAGE):
        number, pages, *_ = _FRAME.unpack_from(log, at)
        page = log[at + _FRAME.size : at + _FRAME.size + PAGE]
        ours = log[at + 8 : at + 16] == salts and len(page) == PAGE
        yield Frame(number, ours and pages > 0, page if ours else None)


def is_sound(log: bytes) -> bool:
    """Return whether SQLite reads *log* up to its last commit: it stops at a wrong byte.

    What lies behind the last commit was on its way when the process ended.
    """
    commits = [n for n, frame in enumerate(frames(log), 1) if frame.commits]
    return not commits or commits[-1] <= _readable(log)


def _readable(log: bytes) -> int:
    """Return how many frames carry the right checksum, each over all before it too."""
    if not _head_is_sound(log):
        return 0
    total, count = _sum(log, log[:24]), 0
    for at in range(_HEAD.size, len(log) - _FRAME.size - PAGE + 1, _FRAME.size + PAGE):
        page = log[at + _FRAME.size : at + _FRAME.size + PAGE]
        total = _sum(log, page, _sum(log, log[at : at + 8], total))
        if log[at + 8 : at + 16] != log[16:24] or _two(log, at + 16) != total:
            break
        count += 1
    return count


def _head_is_sound(log: bytes) -> bool:
    return len(log) >= _HEAD.size and _sum(log, log[:24]) == _two(log, 24)


def _two(log: bytes, at: int) -> tuple[int, int]:
    one, two = struct.unpack_from(">2I", log, at)
    return one, two


def _sum(log: bytes, data: bytes, start: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    order = "<" if int.from_bytes(log[:4], "big") == _LITTLE else ">"
    one, two = start
    for x, y in struct.iter_unpack(f"{order}2I", data):
        one = (one + x + two) & 0xFFFFFFFF
        two = (two + y + one) & 0xFFFFFFFF
    return one, two


def _values(kinds: Iterable[int], record: bytes, at: int) -> Iterator[int | bytes]:
    for kind in kinds:
        size = (kind - _TEXT) // 2 if kind >= _TEXT else _WHOLE_BYTES.get(kind, 0)
        piece = record[at : at + size]
        at += size
        if kind >= _TEXT:
            yield piece
        else:
            constant = kind - 8 if kind in {8, 9} else 0
            yield int.from_bytes(piece, "big", signed=True) if piece else constant


def _whole(value: int | bytes) -> int:
    if isinstance(value, bytes):
        raise ValueError("a number was expected")  # noqa: TRY004 -- the file's fault
    return value


def _raw(value: int | bytes) -> bytes:
    if isinstance(value, int):
        raise ValueError("bytes were expected")  # noqa: TRY004 -- the file's fault
    return value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for _ in range(8):
        byte = data[at]
        at += 1
        value = value << 7 | byte & 0x7F
        if byte < _CONTINUES:
            return value, at
    return value << 8 | data[at], at + 1


def _mapped(file: Path) -> mmap.mmap | bytes:
    if not file.exists() or not file.stat().st_size:
        return b""
    with file.open("rb") as opened:
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
