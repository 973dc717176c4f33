"""What a service and systemd say to each other: sd_notify(3), and log lines of the journal.

A protocol of datagrams and prefixes that needs no library. (A choice not taken: sdnotify has
had no release since 2017, systemd-python has to be compiled against systemd's headers.)
The environment is read by whoever calls; see `router.cli.serve`.
"""

import contextlib
import logging
import os
import socket
import time

MICROSECONDS = 1_000_000
# sd-daemon(3): <3> is an error, <6> is information. A line without a prefix is <6>.
PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)
DEBUG_PRIORITY = 7


class Notifier:
    """Tells systemd how the service is. Without an address it says nothing."""

    def __init__(self, address: str | None) -> None:
        """Speak to *address*, the value of NOTIFY_SOCKET; `@` begins an abstract one."""
        self._address = address and (
            "\0" + address[1:] if address.startswith("@") else address
        )

    def __bool__(self) -> bool:
        """Whether somebody listens."""
        return bool(self._address)

    def say(self, *lines: str) -> None:
        """Send *lines*, each NAME=value; never wait, and never fail.

        What is lost is said again with the next beat: systemd's own limits decide how
        long it may stay away.
        """
        if not self._address:
            return
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel,
        ):
            channel.setblocking(False)
            channel.sendto("\n".join(lines).encode(), self._address)

    def reloading(self) -> None:
        """Say that a reload begins; READY=1 ends it."""
        # The time is what Type=notify-reload of later systemds asks for.
        now = int(time.monotonic() * MICROSECONDS)
        self.say("RELOADING=1", f"MONOTONIC_USEC={now}")


def watchdog_s(usec: str | None, pid: str | None) -> float | None:
    """Return how often systemd wants to hear from this process: sd_watchdog_enabled(3).

    *usec* and *pid* are WATCHDOG_USEC and WATCHDOG_PID; None when nobody waits.
    """
    if not usec or not usec.isdigit() or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / MICROSECONDS or None


def is_journal(stream: str, descriptor: int) -> bool:
    """Return whether *descriptor* is what JOURNAL_STREAM (*stream*) names.

    The variable is inherited by children whose output was sent elsewhere, so it is
    compared with the file itself: systemd.exec(5).
    """
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return stream == f"{found.st_dev}:{found.st_ino}"


class JournalLines(logging.Formatter):
    """Another formatter's lines with the priority that journald takes off again."""

    def __init__(self, inner: logging.Formatter) -> None:
        """Put a priority before each of *inner*'s lines."""
        super().__init__()
        self._inner = inner

    def format(self, record: logging.LogRecord) -> str:
        """Return `<N>` and the line."""
        return f"<{priority(record.levelno)}>{self._inner.format(record)}"


def priority(level: int) -> int:
    """Return journald's number for a level of `logging`."""
    return next(
        (number for least, number in PRIORITIES if level >= least), DEBUG_PRIORITY
    )
