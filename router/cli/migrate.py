"""`psi-router migrate [--check]`: bring the database up to date."""

import argparse
import asyncio
import sys

from router.cli.environment import environment, settings_here
from router.config import database_url_problem
from router.errors import ConfigError
from router.store.migrate import behind, migrate


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--check", action="store_true", help="only tell; exit 1 when behind"
    )


def run(args: argparse.Namespace) -> int:
    """Apply what is missing, or with --check say what would be."""
    dsn = environment(settings_here()).get("DATABASE_URL")
    if not dsn:
        raise ConfigError("DATABASE_URL is not set")
    if problem := database_url_problem(dsn):
        raise ConfigError(problem)
    names = asyncio.run(_work(dsn, check=args.check))
    verb = "missing" if args.check else "applied"
    sys.stdout.writelines(f"{verb} {name}\n" for name in names)
    if not names:
        sys.stdout.write("up to date\n")
    return 1 if args.check and names else 0


async def _work(dsn: str, *, check: bool) -> list[str]:
    from router.cli.databases import reachable

    async with reachable(dsn) as real:
        return await (behind(real) if check else migrate(real))
