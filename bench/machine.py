"""The machine under a measurement: which core runs what, and what it cost.

A server's process begins on its core, before it has made a thread or counted the cores.
"""

import asyncio
import contextlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version
from pathlib import Path

from bench.load import Connection
from router.store.embedded import binaries

HOST = "127.0.0.1"
SERVER_CORE, OTHER_CORE = 0, 1
START_S = 30.0
STOP_S = 60.0
READINGS = 20
TICKS = os.sysconf("SC_CLK_TCK")
ROOT = Path(__file__).parents[1]
IDLE, STEAL = slice(3, 5), 7  # of the fields of /proc/stat: idle and iowait, steal


def pin(pid: int, core: int) -> None:
    """Keep a process that has one thread yet on *core*, where there is more than one."""
    if core in os.sched_getaffinity(0) or (os.cpu_count() or 1) > core:
        os.sched_setaffinity(pid, {core})


def free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def python(*arguments: str) -> list[str]:
    """Return the command that runs a module, with this Python."""
    return [sys.executable, "-m", *arguments]


def spawn(
    core: int, command: Sequence[str], log: Path, **env: str
) -> subprocess.Popen[bytes]:
    """Start *command* on *core*, with its output in *log*."""
    here = os.sched_getaffinity(0)
    pin(0, core)  # inherited
    try:
        with log.open("wb") as out:
            return subprocess.Popen(
                command,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **env},
                cwd=log.parent,
                stdout=out,
                stderr=out,
            )
    finally:
        os.sched_setaffinity(0, here)


@contextlib.asynccontextmanager
async def server(
    core: int, port: int, command: Sequence[str], log: Path, **env: str
) -> AsyncIterator[int]:
    """Run *command* on *core* until the block ends; lend its pid."""
    process = spawn(core, command, log, **env)
    try:
        if not await listening(port, process):
            sys.exit(f"{command} does not listen:\n{tail(log)}")
        yield process.pid
    finally:
        process.terminate()
        process.wait(STOP_S)


async def listening(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until somebody takes a connection at *port*; False if nobody ever will."""
    until = time.monotonic() + START_S
    while time.monotonic() < until and process.poll() is None:
        try:
            (await Connection.open(HOST, port)).close()
        except OSError:
            await asyncio.sleep(0.05)
        else:
            return True
    return False


def tail(log: Path) -> str:
    """Return the last words of a server."""
    return log.read_text(errors="replace")[-2000:]


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def postgres_cpu_s(postmaster: int) -> float:
    """Return the CPU seconds of a server's processes, those that ended among them."""
    for _ in range(READINGS):
        # One that ends between two lines is among those that ended, at the next reading.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            return _postgres_cpu_s(postmaster)
    return _postgres_cpu_s(postmaster)


def _postgres_cpu_s(postmaster: int) -> float:
    ended = Path(f"/proc/{postmaster}/stat").read_text().rpartition(") ")[2].split()
    children = (
        Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    )
    reaped = (int(ended[13]) + int(ended[14])) / TICKS
    return cpu_s(postmaster) + reaped + sum(cpu_s(int(pid)) for pid in children)


def busy_s() -> tuple[float, float]:
    """Return the CPU seconds of the whole machine since its start, and those stolen.

    Without the idle ones; what a host takes away (steal) is in both.
    """
    line = Path("/proc/stat").read_text().partition("\n")[0]
    ticks = [int(field) for field in line.split()[1:9]]  # guests are in user already
    return (sum(ticks) - sum(ticks[IDLE])) / TICKS, ticks[STEAL] / TICKS


def peak_rss_mb(pid: int) -> float:
    """Return the most memory that a process ever held, in 1e6 bytes."""
    return _memory_mb(pid, "VmHWM:")


def rss_mb(pid: int) -> float:
    """Return the memory that a process holds, in 1e6 bytes."""
    return _memory_mb(pid, "VmRSS:")


def _memory_mb(pid: int, name: str) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition(name)[2].split()[0]) * 1024 / 1e6


def description(*packages: str) -> dict[str, str]:
    """Return what a figure is worth nothing without: the machine, and what ran on it."""
    found = {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }
    postgres = str((binaries() or Path()) / "postgres")
    for program in ([postgres, "-V"], ["node", "--version"], ["go", "version"]):
        if shutil.which(program[0]):
            said = subprocess.run(program, capture_output=True, text=True, check=True)
            found[Path(program[0]).name] = said.stdout.strip()
    return found | {package: version(package) for package in packages}


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
