"""What a durable queue needs of the place where its items lie."""

from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Sheet(NamedTuple):
    """An item as it is written."""

    lane: str
    size: int  # bytes, as its writer counts them
    packed: bytes


class Kept(NamedTuple):
    """An item as it lies on the shelf."""

    key: Hashable
    lane: str
    size: int
    packed: bytes
    tries: int  # loans that ended in nothing, before this process
    put_at: float  # seconds since 1970


class Notes(NamedTuple):
    """What became of items that were lent."""

    done: Sequence[Kept] = ()
    tried: Sequence[tuple[Kept, int]] = ()  # and how often by now


class Room(NamedTuple):
    """How much may be brought back."""

    items: int
    size_bytes: int


class Shelf(Protocol):
    """Where items lie in the order in which they were put.

    `items` and `size_bytes` are of all there is, as of the last call; `more` says that the
    last room was too small for what waits, `refuses` why nothing more is taken for now. Every call raises `Transient` where the shelf
    cannot be used; then it is closed and opened anew.
    """

    items: int
    size_bytes: int
    more: bool
    refuses: str | None

    @property
    def tick_s(self) -> float | None:
        """How often it wants to be written to, if only to look around."""

    async def open(self, held: Collection[Hashable]) -> Sequence[Kept]:
        """Get ready; return what a dead process left, but for what is *held* here."""

    async def write(
        self, new: Sequence[Sheet], notes: Notes, room: Room
    ) -> Sequence[Kept]:
        """Keep *new* and forget what is done, durably; return what may be lent now."""

    async def leave(self) -> None:
        """Hand what was brought back and is not done over to the next process."""

    async def close(self) -> None:
        """Let go of it, in whatever state it is."""


class Packing(NamedTuple, Generic[T]):
    """How an item becomes bytes, and an item again. Unpacking takes any bytes."""

    pack: Callable[[T], bytes]
    unpack: Callable[[bytes], T]
