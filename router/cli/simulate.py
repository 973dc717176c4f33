"""`psi-router simulate`: signed synthetic WhatsApp traffic, posted to a URL.

`--count` updates (messages and statuses) in bodies of `--batch`; `--rate` counts updates too.
Bodies that `--duplicates` posts again come on top. A slow answer delays no other: posts are
sent by the clock, as Meta does, over at most CONNECTIONS connections; with `--burst` several
leave at once, at the same rate on average.
"""

import argparse
import asyncio
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp

from router.cli.traffic import Body, Traffic
from router.errors import Unavailable
from router.whatsapp.signature import sign

URL = "http://127.0.0.1:3002/webhook"
DEMO_SECRET = "demo-app-secret"  # noqa: S105 -- what `psi-router dev` prints
CONNECTIONS = 64
CONNECT_S = 5.0
TIMEOUT_S = 30.0  # for one answer; the router gives its own after 8 s
REDRAW_S = 0.1
BAR = 30  # characters
PERCENTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0))
NO_ANSWER = 0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("--url", type=_url, default=URL, help="default %(default)s")
    add("--count", type=_positive, default=100, help="updates (default %(default)s)")
    add(
        "--rate",
        type=_rate,
        default=0.0,
        help="updates/s; 0, the default: at full speed",
    )
    add("--contacts", type=_positive, default=100, help="people (default %(default)s)")
    add(
        "--batch",
        type=_positive,
        default=1,
        help="updates a body (default %(default)s)",
    )
    add(
        "--burst",
        type=_positive,
        default=1,
        help="bodies that leave at once, with --rate (default %(default)s)",
    )
    add(
        "--statuses",
        type=_share,
        default=0.0,
        help="share of updates, 0 to 1; 0.75: three for each message, as on a busy line",
    )
    add(
        "--albums",
        type=_share,
        default=0.0,
        help="share of messages that begin an album: several images in one second",
    )
    add("--duplicates", type=_share, default=0.0, help="share of bodies posted again")
    add("--seed", type=int, help="the same seed, the same ids, people and texts")
    add("--start", type=int, help="time of the first message in seconds (default: now)")
    add("--text", help="what every message says; {id} in it is the message's id")
    add("--secret", help="default: WHATSAPP_APP_SECRET, else the secret of `dev`")


def run(args: argparse.Namespace) -> int:
    """Send it all; 0 when every answer was 2xx, 1 otherwise."""
    seed = secrets.randbelow(2**31) if args.seed is None else args.seed
    traffic = Traffic(
        seed=seed,
        start=int(time.time()) if args.start is None else args.start,
        contacts=args.contacts,
        batch=args.batch,
        statuses=args.statuses,
        albums=args.albums,
        duplicates=args.duplicates,
        text=args.text,
    )
    secret, rate = _secret(args.secret), args.rate / args.batch
    sender = Sender(args.url, secret, rate, args.burst)
    complete = False
    try:
        asyncio.run(sender.send(traffic.bodies(args.count), Progress(args.count)))
        complete = True
    except KeyboardInterrupt:
        sys.stderr.write("\nstopped\n")
    sys.stdout.write(f"{sender.tally.summary()}\nseed        {seed}\n")
    return 0 if complete and sender.tally.fine else 1


def _secret(given: str | None) -> bytes:
    # While a secret rotates there are several: the first one signs.
    known = given or os.environ.get("WHATSAPP_APP_SECRET") or DEMO_SECRET
    return known.split(",")[0].strip().encode()


@dataclass(slots=True)
class Tally:
    """What was sent and how it was answered."""

    bodies: int = 0
    updates: int = 0
    again: int = 0
    answers: Counter[int] = field(default_factory=Counter)  # by HTTP status
    latencies_s: list[float] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def accepted(self) -> int:
        """How many were answered 2xx."""
        return sum(n for status, n in self.answers.items() if status // 100 == 2)  # noqa: PLR2004

    @property
    def fine(self) -> bool:
        """Whether all that was sent was answered 2xx."""
        return self.accepted == self.bodies

    def sent(self, body: Body) -> None:
        """Count one post."""
        self.bodies += 1
        self.again += body.again
        if not body.again:
            self.updates += len(body.messages) + len(body.statuses)

    def answered(self, status: int, latency_s: float) -> None:
        """Count one answer; NO_ANSWER where the connection broke or nothing came."""
        self.answers[status] += 1
        if status != NO_ANSWER:
            self.latencies_s.append(latency_s)

    def summary(self) -> str:
        """Return the report, one line each."""
        refused = self.bodies - self.accepted
        why = ", ".join(
            f"{n} x {status or 'no answer'}"
            for status, n in sorted(self.answers.items())
            if status // 100 != 2  # noqa: PLR2004 -- 2xx
        )
        marks = "  ".join(f"{name} {ms:.1f}" for name, ms in self.percentiles_ms())
        rate = self.bodies / self.took_s if self.took_s else 0.0
        sent = f"{self.bodies} ({self.updates} updates, {self.again} re-posts)"
        lines = {
            "sent": f"{sent} in {self.took_s:.2f} s, {rate:.0f}/s",
            "2xx": f"{self.accepted}",
            "refused": f"{refused} ({why})" if why else f"{refused}",
            "latency ms": marks or "-",
        }
        return "\n".join(f"{name:11} {value}" for name, value in lines.items())

    def percentiles_ms(self) -> list[tuple[str, float]]:
        """Return name and milliseconds; nothing without an answer."""
        ordered = sorted(self.latencies_s)
        last = len(ordered) - 1
        return [
            (name, ordered[min(last, int(part * len(ordered)))] * 1000)
            for name, part in PERCENTILES
            if ordered
        ]


class Progress:
    """A line that rewrites itself, on a terminal only."""

    def __init__(self, total: int) -> None:
        """Expect *total* updates."""
        self._total, self._drawn = total, 0.0
        self._terminal = sys.stderr.isatty()

    def show(self, tally: Tally) -> None:
        """Draw how far it is, at most every REDRAW_S."""
        now = time.monotonic()
        if self._terminal and now - self._drawn >= REDRAW_S:
            self._drawn = now
            self._draw(tally)

    def end(self, tally: Tally) -> None:
        """Draw the last state and leave the line."""
        if self._terminal:
            self._draw(tally)
            sys.stderr.write("\n")

    def _draw(self, tally: Tally) -> None:
        full = BAR * tally.updates // self._total
        bar = "#" * full + "." * (BAR - full)
        refused = sum(tally.answers.values()) - tally.accepted
        sys.stderr.write(
            f"\r[{bar}] {tally.updates}/{self._total}  2xx {tally.accepted}  refused {refused} "
        )
        sys.stderr.flush()


@dataclass(slots=True)
class Sender:
    """Posts bodies to *url*, *burst* at once; *rate* is bodies/s, 0 as fast as they are answered."""

    url: str
    secret: bytes
    rate: float = 0.0
    burst: int = 1
    tally: Tally = field(default_factory=Tally)
    _slots: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(CONNECTIONS)
    )

    async def send(self, bodies: Iterator[Body], progress: Progress) -> None:
        """Post them all and wait for every answer; `tally` has the outcome."""
        await self._reach()
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        connector = aiohttp.TCPConnector(limit=CONNECTIONS)
        started = time.perf_counter()
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
                asyncio.TaskGroup() as posts,
            ):
                await self._all(session, bodies, posts, progress)
        finally:
            self.tally.took_s = time.perf_counter() - started
            progress.end(self.tally)

    def due_s(self, number: int) -> float:
        """Return when the body of that number, from 0, leaves: seconds since the start."""
        return number // self.burst * self.burst / self.rate if self.rate else 0.0

    async def _reach(self) -> None:
        # A connection, no request: nobody counts it, and it says that somebody listens.
        parts = urlsplit(self.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_connection(parts.hostname, port)
        except OSError as exc:  # TimeoutError is one
            reason = exc.strerror or type(exc).__name__
            raise Unavailable(f"nothing listens at {self.url}: {reason}") from exc
        writer.close()

    async def _all(
        self,
        session: aiohttp.ClientSession,
        bodies: Iterator[Body],
        posts: asyncio.TaskGroup,
        progress: Progress,
    ) -> None:
        started = time.perf_counter()
        for number, body in enumerate(bodies):
            if self.rate:
                due = started + self.due_s(number)
                await asyncio.sleep(due - time.perf_counter())
            await self._slots.acquire()
            self.tally.sent(body)
            posts.create_task(self._post(session, body.data))
            progress.show(self.tally)

    async def _post(self, session: aiohttp.ClientSession, data: bytes) -> None:
        headers = {
            "Content-Type": "application/json",
            "X-Hub-Signature-256": sign(data, self.secret),
        }
        began, status = time.perf_counter(), NO_ANSWER
        try:
            async with session.post(
                self.url, data=data, headers=headers, allow_redirects=False
            ) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            status = NO_ANSWER
        finally:
            self.tally.answered(status, time.perf_counter() - began)
            self._slots.release()


def _url(raw: str) -> str:
    if not raw.startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("must begin with http:// or https://")
    return raw


def _positive(raw: str) -> int:
    if (value := int(raw)) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _rate(raw: str) -> float:
    value = float(raw)
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be 0 or more")
    return value


def _share(raw: str) -> float:
    value = float(raw)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return value
