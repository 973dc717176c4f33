"""`psi-router migrate [--check | --grants ROLE]`: bring the database up to date."""

import argparse
import asyncio
import sys

from router.cli.environment import environment, settings_here
from router.config import database_url_problem
from router.errors import ConfigError
from router.store.migrate import behind, migrate
from router.store.needs import grants


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--check", action="store_true", help="only tell; exit 1 when behind"
    )
    either.add_argument(
        "--grants",
        metavar="ROLE",
        help="only print the GRANTs with which ROLE can serve",
    )


def run(args: argparse.Namespace) -> int:
    """Apply what is missing, or with --check say what would be."""
    if args.grants:
        sys.stdout.write(grants(args.grants))
        return 0
    dsn = environment(settings_here()).get("DATABASE_URL")
    if not dsn:
        raise ConfigError("DATABASE_URL is not set")
    if problem := database_url_problem(dsn):
        raise ConfigError(problem)
    names, misfits = asyncio.run(_work(dsn, check=args.check))
    verb = "missing" if args.check else "applied"
    sys.stdout.writelines(f"{verb} {name}\n" for name in names)
    if not names:
        sys.stdout.write("up to date\n")
    sys.stdout.writelines(f"does not fit, and stays as it is: {m}\n" for m in misfits)
    return 1 if args.check and names else 0


async def _work(dsn: str, *, check: bool) -> tuple[list[str], list[str]]:
    from router.cli.databases import reachable
    from router.store import checkup

    async with reachable(dsn) as real:
        names = await (behind(real) if check else migrate(real))
        unfit = [] if check and names else await checkup.misfits(real)
    return names, unfit
