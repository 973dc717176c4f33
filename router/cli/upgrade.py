"""`psi-router upgrade`: another release takes over, or, where it does not start, none."""

import argparse
from pathlib import Path

from router.cli import machine, release
from router.cli.install import take_prefix
from router.cli.machine import say
from router.cli.release import RELEASES, Tree
from router.errors import RouterError, Unavailable


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    take_prefix(parser)
    parser.add_argument(
        "--rollback", action="store_true", help="go back to the release before this one"
    )


def run(args: argparse.Namespace) -> int:
    """Make a release of what runs (or take the last one), restart, and see it ready."""
    tree = Tree(args.prefix.absolute())
    machine.must_be_possible(tree)
    before = machine.running_release(tree)
    if before is None:
        raise Unavailable("nothing is installed here: psi-router install")
    earlier = machine.release_before(tree)
    after = _wanted(tree, earlier, rollback=args.rollback)
    if after == before:
        say(f"{after.name} runs already")
        return 0
    _switch(tree, after, before=before)
    try:
        if not tree.staged:
            machine.start(again=True)
    except RouterError:
        say(f"{after.name} does not start; back to {before.name}")
        _switch(tree, before, before=earlier)
        machine.start(again=True)
        raise
    machine.forget_old_releases(tree)
    say(f"{after.name} runs; back to {before.name}: psi-router upgrade --rollback")
    return 0


def _wanted(tree: Tree, earlier: Path | None, *, rollback: bool) -> Path:
    if not rollback:
        made = RELEASES / release.name()
        release.build(tree, made)
        return made
    if earlier is None:
        raise Unavailable("there is no release to go back to")
    return earlier


def _switch(tree: Tree, to: Path, *, before: Path | None) -> None:
    machine.make_current(tree, to, before=before)
    machine.prepare(tree)
