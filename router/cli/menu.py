"""`psi-router menu check FILE`: prove a menu before anybody meets it."""

import argparse
import sys
from pathlib import Path

from router.conversation.check import checked
from router.conversation.menu import MenuError


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the one action."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    words = "every list reachable, no dead end, WhatsApp's limits kept"
    check = actions.add_parser("check", help=words, description=words)
    check.add_argument("file", metavar="FILE", help="a menu in TOML")


def run(args: argparse.Namespace) -> int:
    """Print what is wrong, a line each, and return 1; 2 where there is no such file."""
    try:
        menu = checked(Path(args.file).read_text(encoding="utf-8"))
    except OSError as exc:
        sys.stderr.write(f"psi-router: {args.file!a}: {exc.strerror}\n")
        return 2
    except UnicodeDecodeError as exc:
        return _complain([f"the file is no UTF-8: {exc.reason}"])
    except MenuError as exc:
        return _complain(exc.problems)
    options = sum(1 for _ in menu.options())
    sys.stdout.write(f"ok: {len(menu.pages)} menus, {options} options\n")
    return 0


def _complain(problems: list[str] | tuple[str, ...]) -> int:
    sys.stdout.writelines(f"{problem}\n" for problem in problems)
    return 1
