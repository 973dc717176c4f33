"""Notes whether the database takes rows: one that answers may have no room for any."""

from collections.abc import Sequence

from router.errors import Transient
from router.health import Health
from router.model import Received
from router.store.ledger import Ledger, Outcome

ENOUGH = 3  # failures in a row: one of each writer is a deadlock, or a restart


class WatchedLedger:
    """A ledger whose failures `Health` hears of."""

    def __init__(self, ledger: Ledger, health: Health) -> None:
        """Write to *ledger*; tell *health* how that went."""
        self._ledger, self._health = ledger, health
        self._failures = 0

    async def write(self, received: Sequence[Received]) -> Outcome:
        """Commit *received* as `Ledger.write` does."""
        try:
            outcome = await self._ledger.write(received)
        except Transient as exc:
            self._failures += 1
            if self._failures >= ENOUGH:
                self._health.write_problem = str(exc)
            raise
        self._failures, self._health.write_problem = 0, None
        return outcome
