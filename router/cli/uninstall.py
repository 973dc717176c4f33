"""`psi-router uninstall`: the service goes; what it stored and its settings stay."""

import argparse
import shutil

from router.cli import machine
from router.cli.environment import HOME, SETTINGS
from router.cli.install import take_prefix
from router.cli.machine import COMMAND, SERVICE, SOCKET, UNITS, say
from router.cli.release import Tree

STAYS = f"{SETTINGS}, /var/lib/psi-router and the user psi-router"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    take_prefix(parser)


def run(args: argparse.Namespace) -> int:
    """Stop the service and remove its units and releases; twice is the same as once."""
    tree = Tree(args.prefix.absolute())
    machine.must_be_possible(tree)
    if not tree.staged and tree.at(UNITS[SERVICE]).exists():
        machine.call("systemctl", "disable", "--quiet", "--now", SOCKET, SERVICE)
    for path in [*UNITS.values(), str(COMMAND)]:
        tree.at(path).unlink(missing_ok=True)
    shutil.rmtree(tree.at(HOME), ignore_errors=True)
    if not tree.staged:
        machine.call("systemctl", "daemon-reload")
    say(f"removed; {STAYS} stay")
    return 0
