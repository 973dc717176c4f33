"""The command line: one module a command, imported only when it is asked for."""

import argparse
import importlib
import sys
from collections.abc import Sequence

from router import __version__
from router.errors import ConfigError, RouterError, Unavailable

USAGE, UNAVAILABLE, BAD_CONFIG = 2, 69, 78  # sysexits.h: EX_UNAVAILABLE, EX_CONFIG

COMMANDS = {
    "serve": "run the service",
    "dev": "run it on an embedded PostgreSQL; nothing leaves the machine",
    "migrate": "bring the database up to date",
    "doctor": "check settings, database, destinations and limits, a line each",
    "inspect": "show what webhook bodies report, without any server",
    "simulate": "send signed synthetic WhatsApp traffic",
    "chat": "talk to the menu in the terminal, against a running dev",
    "explain": "show the whole life of one message",
    "dead-letters": "show what was buried, and try it again",
    "menu": "prove a menu file",
    "shadow": "rehearse beside the router that is to be replaced",
    "install": "make the service of this machine",
    "upgrade": "another release of it, or with --rollback the one before",
    "uninstall": "remove it; what it stored stays",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="psi-router")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, words in COMMANDS.items():
        command = commands.add_parser(name, help=words, description=words)
        if name in arguments[:1]:
            module = importlib.import_module(f"router.cli.{name.replace('-', '_')}")
            module.configure(command)
            command.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    try:
        status: int = args.run(args)
    except ConfigError as exc:
        return _complain(exc, BAD_CONFIG)
    except Unavailable as exc:
        return _complain(exc, UNAVAILABLE)
    except RouterError as exc:
        return _complain(exc, 1)
    return status


def _complain(exc: RouterError, status: int) -> int:
    sys.stderr.write(f"psi-router: {exc}\n")
    return status
