"""Whether a destination is down: what the outbox asks before it lends its rows."""

from typing import Protocol


class Gate(Protocol):
    """Knows whether the destination is down."""

    @property
    def probes(self) -> bool:
        """Whether the next row that is lent, alone, is to show that it is up again."""

    def lends_in_s(self) -> float:
        """Return in how many seconds rows may be lent: 0 when now."""

    def probe(self, row: int) -> None:
        """Let *row*, just lent, be the one that is tried."""

    def probe_untried(self, row: int) -> None:
        """Forget *row*: its loan ended without an attempt."""


class Open:
    """The gate of a destination that is never down."""

    probes = False

    def lends_in_s(self) -> float:
        """Return 0: always now."""
        return 0.0

    def probe(self, row: int) -> None:
        """Nobody asks."""

    def probe_untried(self, row: int) -> None:
        """Nobody asked."""
