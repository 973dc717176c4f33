"""The environment, with a `.env` file beneath it."""

import os
import sys
from pathlib import Path

from router.errors import ConfigError

HOME = Path("/opt/psi-router")  # where `install` puts releases
SETTINGS = Path("/etc/psi-router/env")


def settings_here() -> Path:
    """Return where a command finds settings: .env here, else the service's own.

    The latter only for the installed command: one from a checkout has nothing to do with
    what this machine serves.
    """
    here = Path(".env")
    installed = Path(sys.prefix).is_relative_to(HOME)
    return SETTINGS if installed and not here.exists() else here


def environment(path: Path = Path(".env")) -> dict[str, str]:
    """Return the process's environment; *path* fills in what is not set there."""
    return {**dot_env(path), **os.environ}


def dot_env(path: Path) -> dict[str, str]:
    """Read NAME=value lines; `#` comments, `export` and quotes are allowed."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ConfigError(f"cannot read {path}: {exc}") from exc
    found = {}
    for number, raw in enumerate(lines, 1):
        line = raw.strip().removeprefix("export ").strip()
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not separator or not name.strip().isidentifier():
            raise ConfigError(f"{path}, line {number}: expected NAME=value")
        found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    for quote in "\"'":
        if len(value) > 1 and value[0] == value[-1] == quote:
            return value[1:-1]
    return value.split(" #", maxsplit=1)[0].rstrip()


def take_listen_fds() -> int:
    """Return how many sockets systemd hands over (sd_listen_fds(3)); ask only once."""
    pid = os.environ.pop("LISTEN_PID", "")
    count = os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    return int(count) if pid == str(os.getpid()) and count.isdigit() else 0
