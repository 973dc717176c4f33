"""`psi-router install`: the service on a systemd machine. Again is the same as once."""

import argparse
from pathlib import Path

from router.cli import machine, release
from router.cli.environment import SETTINGS
from router.cli.machine import say
from router.cli.release import RELEASES, Tree


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    take_prefix(parser)


def take_prefix(parser: argparse.ArgumentParser) -> None:
    """Add --prefix."""
    parser.add_argument(
        "--prefix",
        type=Path,
        default=Path("/"),
        metavar="DIR",
        help="make a staged tree in DIR, with no user and without systemctl",
    )


def run(args: argparse.Namespace) -> int:
    """Make a release of what runs, lay out its units and settings, and start it."""
    tree = Tree(args.prefix.absolute())
    machine.must_be_possible(tree)
    made = RELEASES / release.name()
    before = machine.running_release(tree)
    release.build(tree, made)
    machine.make_current(tree, made, before=None if before == made else before)
    machine.lay_out_settings(tree, made)
    machine.prepare(tree)
    say(f"{made.name} is in {made}")
    if not tree.staged:
        _start(tree, again=before not in {None, made})
    return 0


def _start(tree: Tree, *, again: bool) -> None:
    if problems := machine.settings_problems(tree):
        say("not started yet:")
        for problem in problems:
            say(f"  {problem}")
        say(f"edit {SETTINGS}, then run `psi-router install` once more")
        return
    machine.start(again=again)
    machine.forget_old_releases(tree)
    say("it runs: systemctl status psi-router")
