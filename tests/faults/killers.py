"""The router with a hole: a body that holds MARK ends the process, as a bug in C would.

python -m tests.faults.killers NAME serve
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from router.cli import main
from router.model import Door, Event, Received
from router.stages import normalize
from router.store import outbox
from router.store.ledger import Ledger, Outcome
from tests.faults.mutants import LEASE_S

MARK = b"ends the process"


def segfault() -> None:
    """Die while the body is read, by SIGSEGV."""
    stage: Any = normalize
    read = stage.read

    def deadly(body: bytes, door: Door) -> tuple[Event, ...]:
        if MARK in body:
            os.kill(os.getpid(), signal.SIGSEGV)
        found: tuple[Event, ...] = read(body, door)
        return found

    stage.read = deadly


def out_of_memory() -> None:
    """Die while the rows are written, without a word, as under the OOM killer."""
    write = Ledger.write

    async def deadly(self: Ledger, received: Sequence[Received]) -> Outcome:
        if any(MARK in item.delivery.body for item in received):
            os.kill(os.getpid(), signal.SIGKILL)
        return await write(self, received)

    Ledger.write = deadly  # type: ignore[method-assign]


KILLERS = {killer.__name__: killer for killer in (segfault, out_of_memory)}

if __name__ == "__main__":
    outbox.LEASE_S, outbox.MARGIN_S = LEASE_S, 1.0
    KILLERS[sys.argv[1]]()
    sys.exit(main(sys.argv[2:]))
