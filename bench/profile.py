"""Where does the time go? py-spy on the router, under the load of bench.throughput.

One turn without the profiler, one with it: what watching costs is told. Only threads that run
are sampled. What compiled code takes counts for the Python line that called it, or, with
--native, for itself.

    python -m bench.profile --output DIR [--seconds 10] [--hertz 250] [--native] [--untold]

Writes profile.raw (folded stacks), profile.svg (the flame graph), profile.json and profile.md
(shares by module). Exit 1 if a 200 is missing.
"""

import argparse
import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from itertools import islice
from pathlib import Path

import uvloop

from bench.bed import Bed, bed
from bench.contest import Rules, introduce
from bench.contestant import Contestant, Request, losses, signed
from bench.flame import folded, graph, shares
from bench.report import Report, parser, table
from router.cli.traffic import Traffic

END_S = 30.0  # for py-spy to write what it has
SHOWN = 0.002  # of the samples, for a module to be shown
BEFORE_S = 0.5  # py-spy reads the process's symbols first


def program() -> str | None:
    """Return py-spy, of this environment or else of the machine."""
    beside = Path(sys.executable).parent / "py-spy"
    return str(beside) if beside.exists() else shutil.which("py-spy")


async def measure(options: argparse.Namespace, spy: str) -> Report:
    """Load the router twice, the second time watched."""
    raw: Path = options.output / "profile.raw"
    raw.parent.mkdir(parents=True, exist_ok=True)
    bodies = Traffic(
        seed=options.seed, start=int(time.time()), contacts=options.contacts
    ).bodies()
    async with bed() as here:
        router = await here.start(here.router(told=not options.untold))
        rules = Rules(options.seed, 0, 0.0, contacts=options.contacts)
        await introduce([router], rules)
        alone, watched = (signed(islice(bodies, options.most)) for _ in range(2))
        unwatched = await _rate(here, router, alone, options)
        async with spying(spy, router.pid, raw, options):
            rate = await _rate(here, router, watched, options)
        broken = await losses([router])
    return report(options, raw, unwatched, rate, broken)


async def _rate(
    here: Bed, router: Contestant, requests: list[Request], options: argparse.Namespace
) -> float:
    seconds, connections = options.seconds, options.connections
    return (await here.turn(router, requests, seconds, connections)).rate


@contextlib.asynccontextmanager
async def spying(
    spy: str, pid: int, raw: Path, options: argparse.Namespace
) -> AsyncIterator[None]:
    """Sample a process until the block ends; its stacks are then in *raw*."""
    command = [spy, "record", "--pid", str(pid), "--rate", str(options.hertz)]
    command += ["--format", "raw", "--function", "--output", str(raw)]
    process = _started(command + ["--native"] * options.native)
    try:
        await asyncio.sleep(BEFORE_S)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        said = await asyncio.to_thread(_last_words, process)
    if process.returncode:
        sys.exit(f"py-spy took nothing:\n{said}")


def _last_words(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=END_S)[0]
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()[0]


def _started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def report(
    options: argparse.Namespace,
    raw: Path,
    unwatched: float,
    rate: float,
    broken: list[str],
) -> Report:
    """Return the shares; the flame graph is written beside them."""
    stacks = folded(raw.read_text().splitlines())
    title = f"psi-router under full load, {stacks.total()} samples"
    (options.output / "profile.svg").write_text(graph(stacks, title))
    found = shares(stacks)
    rows = [
        (name, f"{own:.1%}", f"{below:.1%}")
        for name, own, below in found
        if own >= SHOWN
    ]
    note = (
        f"{stacks.total()} samples; {rate:.0f} messages/s while watched, "
        f"{unwatched:.0f} before. `in or below`: of it and of what it called."
    )
    return Report(
        "profile",
        f"{table(('module', 'in it', 'in or below'), rows)}\n\n{note}",
        {
            "samples": stacks.total(),
            "rate": rate,
            "unwatched_rate": unwatched,
            "modules": [
                {"name": name, "own": own, "below": below} for name, own, below in found
            ],
        },
        broken=broken,
    )


def main() -> int:
    """Read the options and measure."""
    made = parser("Where the router's time goes")
    add = made.add_argument
    add("--seconds", type=float, default=10.0, help="of load (default %(default)s)")
    add("--most", type=int, default=60_000, help="messages of it (%(default)s)")
    add("--hertz", type=int, default=250, help="samples/s (default %(default)s)")
    add("--native", action="store_true", help="frames of compiled code, too")
    add("--connections", type=int, default=50, help="default %(default)s")
    add("--contacts", type=int, default=1000, help="people (default %(default)s)")
    add("--untold", action="store_true", help="no destination")
    options = made.parse_args()
    spy = program()
    if spy is None:
        sys.stderr.write("needs py-spy: pip install py-spy\n")
        return 69
    print(f"seed {options.seed}", flush=True)
    return uvloop.run(measure(options, spy)).write(options)


if __name__ == "__main__":
    sys.exit(main())
