"""`psi-router shadow mark|compare`: a rehearsal beside the router that is to be replaced."""

import argparse
import asyncio
import sys
from datetime import datetime

from router import telemetry
from router.cli.databases import reachable
from router.cli.dead_letters import since
from router.cli.environment import environment, settings_here
from router.config import database_url_problem
from router.errors import ConfigError
from router.store import shadow

OLD = "PSI_SHADOW_OF"
LIMIT = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    verbs.add_parser("mark", help="say that DATABASE_URL is a shadow's database")
    words = f"what it stored beside what the router at {OLD} stored"
    comparing = verbs.add_parser("compare", help=words, description=words)
    comparing.add_argument(
        "--since", type=since, default="1h", metavar="WHEN", help="2h, 3d or ISO 8601"
    )
    comparing.add_argument("--limit", type=int, default=LIMIT, metavar="N")


def run(args: argparse.Namespace) -> int:
    """Do what the verb says; 1 where a comparison found a difference."""
    if args.verb == "mark":
        return asyncio.run(_mark(_dsn("DATABASE_URL")))
    old, own = _dsn(OLD), _dsn("DATABASE_URL")
    return asyncio.run(_compare(old, own, args.since, args.limit))


def _dsn(name: str) -> str:
    dsn = environment(settings_here()).get(name)
    if not dsn:
        raise ConfigError(f"{name} is not set")
    if problem := database_url_problem(dsn):
        raise ConfigError(problem.replace("DATABASE_URL", name))
    return dsn


async def _mark(dsn: str) -> int:
    async with reachable(dsn) as real:
        await shadow.mark(real)
    sys.stdout.write("marked: only a router with PSI_SHADOW=1 serves this database\n")
    return 0


async def _compare(old: str, own: str, since: datetime, limit: int) -> int:
    async with reachable(own) as real:
        found = await shadow.compare(old, real, since)
    _print(found, limit)
    return 1 if found.only_old or found.only_shadow or found.differ else 0


def _print(found: shadow.Comparison, limit: int) -> None:
    say = sys.stdout.write
    say(
        f"in both {found.both}, only in the old one {len(found.only_old)}, only in the "
        f"shadow {len(found.only_shadow)}, different {len(found.differ)}\n"
    )
    if found.without_id:
        say(f"of the old one's {found.without_id} have no WhatsApp id: not compared\n")
    for name, rows in (("old", found.only_old), ("shadow", found.only_shadow)):
        for row in rows[:limit]:
            say(f"only {name:<7} {_what(row)} mensajes.id {row['row']}\n")
    for theirs, ours, names in found.differ[:limit]:
        rows_ = f"old {theirs['row']} shadow {ours['row']}"
        say(
            f"differs      {_what(ours)} {', '.join(_how(theirs, ours, names))}: {rows_}\n"
        )


def _what(row: shadow.Row) -> str:
    return f"{telemetry.message_digest(row['id'])} {row['at']:%Y-%m-%dT%H:%M:%SZ}"


def _how(old: shadow.Row, ours: shadow.Row, names: list[str]) -> list[str]:
    # Neither a text nor a number: both can be looked up by mensajes.id.
    return [
        f"{name} {old[name]} / {ours[name]}" if name in {"tipo", "area"} else name
        for name in names
    ]
