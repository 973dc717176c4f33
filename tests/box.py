"""A machine with systemd as its first process, for as long as a test needs it: sdbox.sh."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SCRIPT = Path(__file__).with_name("sdbox.sh")
PROGRAMS = ("systemctl", "unshare", "nsenter", "pgrep")
CLONE_NEWNET = 0x40000000  # sched.h
BOOT_S, COMMAND_S = 60, 90


def missing_programs() -> list[str]:
    """Return what a box needs and is not here."""
    found = [name for name in PROGRAMS if not shutil.which(name)]
    return found + ["systemd"] * (not Path("/lib/systemd/systemd").exists())


def may_be_made() -> bool:
    """Return whether this machine lets us make namespaces and mounts."""
    command = ["unshare", "--mount", "--net", "--pid", "--fork", "--cgroup"]
    command += ["mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


class Box:
    """One such machine. Its files are in memory, over those of this machine."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pid = 0

    def up(self) -> None:
        """Boot it; raise CalledProcessError with the console where it does not come up."""
        self._pid = int(self._script("up", timeout=BOOT_S).stdout)

    def down(self) -> None:
        """Shut it down; nothing of it stays."""
        self._script("down", timeout=BOOT_S)

    def run(
        self, *command: str, check: bool = True, env: Mapping[str, str] | None = None
    ) -> str:
        """Run a command in it and return what it said, on both channels.

        Raises AssertionError with that where it fails, unless told not to *check*.
        """
        words = ["env", *(f"{name}={value}" for name, value in (env or {}).items())]
        done = self._script("run", *words, *command, timeout=COMMAND_S, check=False)
        said = done.stdout + done.stderr
        assert done.returncode == 0 or not check, (
            f"{command}: {done.returncode}\n{said}"
        )
        return said

    def status(self, *command: str) -> int:
        """Run a command in it and return its exit status."""
        done = self._script("run", *command, timeout=COMMAND_S, check=False)
        return done.returncode

    def path(self, path: str) -> Path:
        """Return where its *path* is, seen from here."""
        return Path(f"/proc/{self._pid}/root{path}")

    def of(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", unit, "--value", "-p", name).strip()

    @contextmanager
    def network(self) -> Iterator[None]:
        """Make this thread's sockets, and the programs it starts, part of its network."""
        with (
            Path("/proc/self/ns/net").open() as ours,
            Path(f"/proc/{self._pid}/ns/net").open() as its,
        ):
            _enter(its.fileno())
            try:
                yield
            finally:
                _enter(ours.fileno())

    def _script(
        self, verb: str, *arguments: str, timeout: int, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        command = ["sh", str(SCRIPT), verb, str(self._directory), *arguments]
        try:
            return subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, check=check
            )
        except subprocess.CalledProcessError as exc:
            raise AssertionError(f"{verb}: {exc.stderr}") from exc


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns is of Python 3.12
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def copy(source: Path, target: Path) -> None:
    """Copy a tree as `cp -a` does: links stay links, owners and modes stay."""
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cp", "-a", str(source), os.fspath(target)], check=True)
