"""What the metrics cost: of a message on its way, and of a scrape.

    python -m bench.metrics

Times the very calls that the stages make, in the numbers in which a batch makes them.
"""

import argparse
import time
from collections.abc import Callable

from router import telemetry
from router.health import Health
from router.ops.metrics import metrics

BATCHES = (1, 20, 200)
SECONDS = 1.0


def of_a_batch(size: int) -> Callable[[], None]:
    """Return all that is counted while *size* messages, a body each, go through."""
    kinds = ["message.text"] * size

    def count() -> None:
        for _ in kinds:
            telemetry.REQUESTS.answered("meta", 200)
            telemetry.REQUESTS.acked(0.01)
        telemetry.stage_took("normalize", 0.001)
        telemetry.stage_took("persist", 0.005)
        telemetry.BATCH_SIZE.observe(size)
        telemetry.events_stored(kinds)

    return count


def us_each(work: Callable[[], object], seconds: float) -> float:
    """Return the microseconds of one call, over *seconds* of them."""
    calls, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        work()
        calls += 1
    return (time.perf_counter() - began) / calls * 1e6


def main() -> None:
    """Print a line for each batch size, and one for the scrape."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS)
    seconds = parser.parse_args().seconds
    for size in BATCHES:
        each = us_each(of_a_batch(size), seconds) / size
        print(f"batches of {size:>3}: {each:5.2f} us a message")
    scrape = us_each(lambda: metrics([], 0.0, Health()), seconds) / 1000
    print(f"a scrape: {scrape:.2f} ms")


if __name__ == "__main__":
    main()
