"""Outbox rows that are lent as they are written: somebody waits for them.

A claim costs the database more than the row itself did, and comes later. So a batch that is
one statement asks each destination whether a reader waits, and record.sql lends it those rows
that nothing of their lane stands before. That is safe since such a batch changes the
conversation that each of its messages' rows has for a lane: of two batches with messages of
one, the second has read what the first one wrote.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

from router.store.rows import OutboxRow


@dataclass(slots=True)
class Offer:
    """What a destination's reader would be lent at once."""

    rows: int  # at most
    token: int
    seconds: float  # on loan
    since: float  # monotonic


class Lender(Protocol):
    """The outbox of one destination."""

    def offer(self) -> Offer | None:
        """Return what a reader would be lent; None if nobody waits, or others come first."""

    def lend(self, offer: Offer, rows: Sequence[tuple[int, OutboxRow]]) -> None:
        """Lend *rows*, each with its id, which are written as *offer* says."""

    def unheard(self, offer: Offer) -> None:
        """Hear that rows may have been written as *offer* says, and nobody knows which."""


Lenders = Mapping[str, Lender]  # by the name of their destination
NOBODY: Lenders = {}


class Advance:
    """The rows of a batch that are to be lent as they are written."""

    def __init__(self, told: Sequence[OutboxRow], lenders: Lenders) -> None:
        """Ask *lenders* for offers to the rows *told* of messages."""
        self._told, self._lenders = told, lenders
        self._offers: dict[str, Offer] = {}
        self._rows: dict[str, OutboxRow] = {}  # that are lent if nothing is before them
        for name in {row.destination for row in told} & lenders.keys():
            if (offer := lenders[name].offer()) is None:
                continue
            mine = [r for r in told if r.destination == name and r.status is None]
            if len({row.key for row in mine}) < len(mine):
                continue  # nothing tells them apart
            self._offers[name] = offer
            self._rows |= {_name(row): row for row in mine[: offer.rows]}

    def arguments(self) -> tuple[list[int | None], list[float | None]]:
        """Return each row's token, and for how many seconds it is lent; none for none."""
        if not self._offers:
            return [], []
        offers = [
            self._offers[row.destination] if _name(row) in self._rows else None
            for row in self._told
        ]
        return (
            [offer.token if offer else None for offer in offers],
            [offer.seconds if offer else None for offer in offers],
        )

    def lend(self, ids: Mapping[str, int]) -> set[str]:
        """Lend the rows with *ids*, by their names; return who has others to claim."""
        if not self._offers:
            return {row.destination for row in self._told}
        for destination, offer in self._offers.items():
            rows = [
                (number, row)
                for name, number in sorted(ids.items(), key=itemgetter(1))
                if (row := self._rows[name]).destination == destination
            ]
            self._lenders[destination].lend(offer, rows)
        return {row.destination for row in self._told if _name(row) not in ids}

    def unheard(self) -> None:
        """Say that nobody knows what was written."""
        for destination, offer in self._offers.items():
            self._lenders[destination].unheard(offer)


def _name(row: OutboxRow) -> str:
    """Return what tells a row apart, as record.sql says it."""
    return f"{row.destination} {row.key}"
