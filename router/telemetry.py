"""What the router says about itself: log lines and metrics, configured here alone.

One JSON object a line on stdout. No text of a message, no person's name, no whole phone
number and no secret goes through here: errors are named by type and SQLSTATE, never by
the values they quote, and a WhatsApp id is hashed, since it encodes the phone number.
"""

import bisect
import collections
import functools
import hashlib
import itertools
import logging
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
from prometheus_client import REGISTRY, Counter, Gauge, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

MAX_KINDS: Final = 300  # label values of psi_events_total; the contract knows about 150
_KINDS: Final[set[str]] = set()
log: Final = logging.getLogger("router")

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 8)
EVENTS: Final = Counter(
    "psi_events_total", "Events taken: stored now, or known before", ["kind"]
)
STAGE_SECONDS: Final = Histogram(
    "psi_stage_seconds", "One batch through a stage", ["stage"], buckets=SECONDS
)
STAGE_RESTARTS: Final = Counter(
    "psi_stage_restarts_total", "Workers started again after a crash", ["stage"]
)
BATCH_SIZE: Final = Histogram(
    "psi_persist_batch_size",
    "Events in one transaction",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
)
ATTEMPTS: Final = Counter(
    "psi_attempts_total", "Tries to tell a destination", ["destination", "outcome"]
)
DEAD_LETTERS: Final = Counter("psi_dead_letters_total", "Buried", ["stage", "reason"])
QUEUE_DEPTH: Final = Gauge("psi_queue_depth", "Items waiting", ["queue"])
QUEUE_OLDEST: Final = Gauge(
    "psi_queue_oldest_seconds", "Age of the oldest unsettled item", ["queue"]
)
UNKNOWN_LINES: Final = Counter(
    "psi_unknown_line_total", "Messages to a number that no line names"
)


class _Requests(Collector):
    """What is counted for every request, at a fifth of the library's price of 3 us.

    The library's own counters take a lock each time; this one is of the loop's thread.
    """

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], int] = {}  # (door, status) -> how many
        self._acked = [0] * (len(SECONDS) + 1)
        self._acked_s = 0.0

    def answered(self, door: str, status: int) -> None:
        """Count one answer."""
        key = (door, status)
        self.answers[key] = self.answers.get(key, 0) + 1

    def acked(self, seconds: float) -> None:
        """Count one 200 that came after *seconds*."""
        self._acked[bisect.bisect_left(SECONDS, seconds)] += 1
        self._acked_s += seconds

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they stand."""
        deliveries = CounterMetricFamily(
            "psi_deliveries", "Requests to the webhook", labels=["door", "outcome"]
        )
        for (door, status), count in self.answers.items():
            deliveries.add_metric([door, str(status)], count)
        bounds = [*map(str, map(float, SECONDS)), "+Inf"]
        buckets = list(zip(bounds, itertools.accumulate(self._acked), strict=True))
        acked = HistogramMetricFamily(
            "psi_ack_seconds", "From a request's body to its 200"
        )
        acked.add_metric([], buckets, self._acked_s)
        return [deliveries, acked]


REQUESTS: Final = _Requests()
REGISTRY.register(REQUESTS)


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return orjson.dumps(line, default=str).decode()


def configure(level: str) -> None:
    """Send log lines of *level* and above to stdout as JSON, one object a line."""
    logging.raiseExceptions = False  # a full disk under the log must not stop a stage
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JsonLines())
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    for name in ("aiohttp", "asyncio"):  # they quote request lines and payloads
        logging.getLogger(name).setLevel("CRITICAL")


def event(name: str, /, *, level: int = logging.INFO, **fields: Any) -> None:
    """Write one log line called *name*."""
    log.log(level, name, extra={"fields": fields})


def message_digest(wamid: str) -> str:
    """Return what a log may say of a WhatsApp id: 16 hex digits of its SHA-256."""
    return hashlib.sha256(wamid.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def messages_processed(lines: Sequence[Mapping[str, Any]]) -> None:
    """Write one `message_processed` line for each stored inbound message.

    One write for the batch, past the logging module: 1.5 us a line instead of 12.
    """
    if not lines or not log.isEnabledFor(logging.INFO):
        return
    out = b"".join(
        orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines
    )
    try:
        sys.stdout.buffer.write(out)
        sys.stdout.buffer.flush()
    except OSError:
        pass  # the log's disk is full or its reader gone: the messages are stored


def events_stored(kinds: Iterable[str]) -> None:
    """Count events, new or known; a kind that only a sender could have thought of is `other`."""
    for kind, count in collections.Counter(kinds).items():
        _event_counter(kind).inc(count)


@functools.lru_cache(maxsize=1024)
def _event_counter(kind: str) -> Counter:
    if len(_KINDS) < MAX_KINDS:
        _KINDS.add(kind)
    return EVENTS.labels(kind if kind in _KINDS else "other")


def stage_took(stage: str, seconds: float) -> None:
    """Count one batch of *stage*."""
    _stage_histogram(stage).observe(seconds)


@functools.cache
def _stage_histogram(stage: str) -> Histogram:
    return STAGE_SECONDS.labels(stage)


_last_said: dict[tuple[str, str], float] = {}


def stage_waits(stage: str, exc: Exception) -> None:
    """Say that *stage* waits for a system to come back; once a second, not per try."""
    now, key = time.monotonic(), (stage, str(exc))
    if now - _last_said.get(key, -1.0) >= 1.0:
        _last_said[key] = now
        event("stage_waits", level=logging.WARNING, stage=stage, reason=str(exc))


def stage_buries_a_bug(stage: str, exc: Exception) -> None:
    """Say which bug an item trips, before it is buried."""
    event("stage_bug", level=logging.ERROR, stage=stage, **_where(exc))


def buried(stage: str, reason: str) -> None:
    """Count and say that an item was buried. *reason* quotes no value."""
    DEAD_LETTERS.labels(stage, reason.split(":", maxsplit=1)[0]).inc()
    event("item_buried", level=logging.ERROR, stage=stage, reason=reason)


def answer_failed(exc: Exception) -> None:
    """Say that an answer could not be written: a bug, and its sender comes again."""
    event("answer_failed", level=logging.ERROR, **_where(exc))


def worker_crashed(name: str, exc: Exception) -> None:
    """Say that a worker died and is started again."""
    STAGE_RESTARTS.labels(name).inc()
    event("worker_crashed", level=logging.ERROR, worker=name, **_where(exc))


def worker_given_up(name: str, exc: Exception) -> None:
    """Say that the process ends because a worker cannot be kept alive."""
    event("worker_given_up", level=logging.CRITICAL, worker=name, reason=str(exc))


def _where(exc: Exception) -> dict[str, str]:
    # Type and place, never str(exc): messages of errors quote the values they choke on.
    frame = traceback.extract_tb(exc.__traceback__)[-1:]
    place = f"{Path(frame[0].filename).name}:{frame[0].lineno}" if frame else "?"
    return {"error": type(exc).__name__, "at": place}


def unknown_line(phone_number_id: str) -> None:
    """Warn of a number that no line names: by its end, since anything may stand there."""
    event("unknown_line", level=logging.WARNING, ends_in=phone_number_id[-4:])
