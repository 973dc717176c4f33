"""The service on a systemd machine: its files, its user, and which release runs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from router.cli.environment import HOME, SETTINGS, dot_env
from router.cli.release import RELEASES, SHARE, Tree
from router.config import Settings
from router.errors import ConfigError, RouterError, Unavailable

USAGE = 2
CURRENT, PREVIOUS = HOME / "current", HOME / "previous"
KEPT_RELEASES = 3  # the one that runs, the one before, and one more
COMMAND = Path("/usr/local/bin/psi-router")
SERVICE, SOCKET = "psi-router.service", "psi-router.socket"
# In share/psi-router/systemd, and where systemd looks for it.
UNITS = {
    SERVICE: f"/etc/systemd/system/{SERVICE}",
    SOCKET: f"/etc/systemd/system/{SOCKET}",
    "psi-router.sysusers": "/etc/sysusers.d/psi-router.conf",
    "psi-router.tmpfiles": "/etc/tmpfiles.d/psi-router.conf",
}
SYSTEMD_RUNS = Path("/run/systemd/system")  # sd_booted(3)


def say(text: str) -> None:
    """Tell whoever typed the command what was done."""
    sys.stdout.write(f"{text}\n")


def must_be_possible(tree: Tree) -> None:
    """Exit with 2 without root's rights; raise `Unavailable` without systemd."""
    if tree.staged:
        return
    if os.geteuid() != 0:
        sys.stderr.write("psi-router: this changes the machine: run it as root\n")
        raise SystemExit(USAGE)
    if not SYSTEMD_RUNS.is_dir():
        raise Unavailable("systemd does not run here; --prefix DIR makes a staged tree")


def running_release(tree: Tree) -> Path | None:
    """Return the release that `current` names; None before the first."""
    return _target(tree.at(CURRENT))


def release_before(tree: Tree) -> Path | None:
    """Return the release that ran before this one, if it is still there."""
    before = _target(tree.at(PREVIOUS))
    return before if before and tree.at(before).exists() else None


def _target(link: Path) -> Path | None:
    return HOME / link.readlink() if link.is_symlink() else None


def make_current(tree: Tree, release: Path, *, before: Path | None) -> None:
    """Let `current` name *release*, at once or not at all, and lay its units out.

    *before* is what `previous` names from now on; None leaves it as it is.
    """
    lay_out_units(tree, release)
    if before is not None:
        _point(tree.at(PREVIOUS), before.name)
    _point(tree.at(CURRENT), release.name)
    tree.at(COMMAND).parent.mkdir(parents=True, exist_ok=True)
    _replace_link(tree.at(COMMAND), CURRENT / "bin/psi-router")


def _point(link: Path, name: str) -> None:
    _replace_link(link, Path("releases", name))


def _replace_link(link: Path, target: Path) -> None:
    new = link.with_name(f".{link.name}.new")
    new.unlink(missing_ok=True)
    new.symlink_to(target)
    new.replace(link)


def lay_out_units(tree: Tree, release: Path) -> None:
    """Write the units of *release* where systemd looks for them."""
    for name, path in UNITS.items():
        place = tree.at(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tree.at(release) / SHARE / "systemd" / name, place)
        place.chmod(0o644)


def lay_out_settings(tree: Tree, release: Path) -> None:
    """Write a commented settings file that only root reads; never over one that exists."""
    place = tree.at(SETTINGS)
    place.parent.mkdir(parents=True, exist_ok=True)
    text = (tree.at(release) / SHARE / "systemd/env.example").read_bytes()
    try:
        made = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(made, "wb") as file:
        file.write(text)
    say(f"wrote {SETTINGS}: fill in what it asks for")


def settings_problems(tree: Tree) -> list[str]:
    """Return what keeps the service from starting with the settings file as it is."""
    try:
        Settings.load(dot_env(tree.at(SETTINGS)))
    except ConfigError as exc:
        return str(exc).splitlines()
    return []


def prepare(tree: Tree) -> None:
    """Make the user and read the units; nothing on a staged tree."""
    if tree.staged:
        return
    call("systemd-sysusers", UNITS["psi-router.sysusers"])
    call("systemd-tmpfiles", "--create", UNITS["psi-router.tmpfiles"])
    call("systemctl", "daemon-reload")


def start(*, again: bool) -> None:
    """Enable and start the service; *again*: restart it, if it runs another release."""
    call("systemctl", "enable", "--quiet", SOCKET, SERVICE)
    call("systemctl", "start", SOCKET)
    # Returns after READY=1, or with what went wrong.
    call("systemctl", "restart" if again else "start", SERVICE)


def forget_old_releases(tree: Tree) -> None:
    """Remove all but the newest few releases, and those that are in use."""
    used = {running_release(tree), release_before(tree)}
    found = sorted(
        tree.at(RELEASES).iterdir(), key=lambda path: path.stat().st_mtime, reverse=True
    )
    for place in found[KEPT_RELEASES:]:
        if RELEASES / place.name not in used:
            shutil.rmtree(place)


class Failed(RouterError):
    """A program of the machine's did not do what it was asked."""


def call(*command: str) -> None:
    """Run a program of the machine's; raise `Failed` with its last words."""
    try:
        done = subprocess.run(  # noqa: S603 -- our words
            command, check=False, capture_output=True, text=True
        )
    except FileNotFoundError as exc:
        raise Unavailable(f"there is no {command[0]} on this machine") from exc
    if done.returncode:
        words = (done.stderr or done.stdout).strip()
        raise Failed(f"{' '.join(command)} failed: {words}")
