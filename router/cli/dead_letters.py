"""`psi-router dead-letters list|show|replay`: what was buried, why, and again."""

import argparse
import asyncio
import base64
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from router.cli.databases import reachable
from router.cli.environment import environment, settings_here
from router.cli.rereading import Replay, Rereading
from router.cli.serve import reread
from router.config import Settings, database_url_problem
from router.errors import ConfigError, Transient, Unavailable
from router.store import dialect
from router.store.database import Database
from router.store.dead_letters import (
    SHORTEST_NAME,
    Letter,
    Wanted,
    letters,
)
from router.store.dialect_fit import fit

STAGES = ("normalize", "persist", "notify")
WRONG_USAGE = 2
RATE = 50.0  # letters a second
_AGO = re.compile(r"(\d+)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verbs and their options."""
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    chosen = argparse.ArgumentParser(add_help=False)
    chosen.add_argument("ids", nargs="*", type=int, metavar="ID", help="default: all")
    chosen.add_argument(
        "--since", type=since, metavar="WHEN", help="2h, 3d, or a date: came since then"
    )
    chosen.add_argument(
        "--until", type=since, metavar="WHEN", help="first came before then"
    )
    chosen.add_argument(
        "--contact", type=_name, metavar="WHO", help="phone, BSUID or username"
    )
    chosen.add_argument("--destination", metavar="NAME")
    chosen.add_argument("--stage", choices=STAGES)
    chosen.add_argument("--reason", metavar="WORDS", help="that occur in the reason")
    verbs.add_parser("list", parents=[chosen], help="one line each")
    shown = verbs.add_parser("show", help="all of some letters, a line of JSON each")
    shown.add_argument("ids", nargs="+", type=int, metavar="ID")
    again = verbs.add_parser(
        "replay", parents=[chosen], help="try again what was not replayed yet"
    )
    again.add_argument("--dry-run", action="store_true", help="only tell what would be")
    again.add_argument(
        "--rate", type=_rate, default=RATE, metavar="N", help="letters a second"
    )
    again.add_argument(
        "--deliveries",
        action="store_true",
        help="archived bodies instead, all that came since --since",
    )


def run(args: argparse.Namespace) -> int:
    """Do what the verb says; 1 where a letter is not there or cannot be replayed."""
    verbs = {"list": _list, "show": _show, "replay": _replay}
    try:
        return asyncio.run(verbs[args.verb](args))
    except Transient as exc:
        raise Unavailable(f"the database is away: {exc}") from exc


def since(word: str) -> datetime:
    """Read `90s`, `30m`, `2h`, `3d` (ago) or ISO 8601; ValueError for anything else."""
    if ago := _AGO.fullmatch(word):
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        except OverflowError:
            raise ValueError(word) from None
    at = datetime.fromisoformat(word)
    return at if at.tzinfo else at.astimezone()


def _name(word: str) -> str:
    if len(word.strip()) < SHORTEST_NAME:
        raise ValueError(word)
    return word


def _rate(word: str) -> float:
    if not 0 < (rate := float(word)) < float("inf"):
        raise ValueError(word)
    return rate


@asynccontextmanager
async def opened(dsn: str | None) -> AsyncIterator[Database]:
    """Open the database of a command; ConfigError for a DSN that is none."""
    if not dsn:
        raise ConfigError("DATABASE_URL is not set")
    if problem := database_url_problem(dsn):
        raise ConfigError(problem)
    async with reachable(dsn) as real:
        database = Database(real, size=2)
        await database.open()
        try:
            yield database
        finally:
            await database.close()


def _wanted(args: argparse.Namespace, *, fresh: bool = False) -> Wanted:
    return Wanted(
        ids=args.ids or None,
        since=args.since,
        until=args.until,
        contact=args.contact,
        destination=args.destination,
        stage=args.stage,
        reason=args.reason,
        fresh=fresh,
    )


async def _list(args: argparse.Namespace) -> int:
    async with (
        opened(environment(settings_here()).get("DATABASE_URL")) as database,
        aclosing(letters(database, _wanted(args))) as found,
    ):
        async for letter in found:
            sys.stdout.write(f"{_line(letter)}\n")
    return 0


def _line(letter: Letter) -> str:
    times = f"{letter.first_at:%Y-%m-%d %H:%M:%S} to {letter.last_at:%Y-%m-%d %H:%M:%S}"
    replayed = (
        f", replayed {letter.replayed_at:%Y-%m-%d %H:%M}" if letter.replayed_at else ""
    )
    where = f" {letter.destination}" if letter.destination else ""
    # ASCII: a reason may quote anything, and no alphabet of a terminal refuses it.
    reason = letter.reason.encode("unicode_escape").decode()
    size = f"{letter.size} bytes"
    return f"{letter.id}  {letter.stage}{where}  {times}{replayed}  {size}  {reason}"


async def _show(args: argparse.Namespace) -> int:
    missing = set(args.ids)
    async with (
        opened(environment(settings_here()).get("DATABASE_URL")) as database,
        aclosing(letters(database, Wanted(ids=args.ids), bodies=True)) as found,
    ):
        async for letter in found:
            sys.stdout.write(json.dumps(_all_of(letter)) + "\n")
            missing.discard(letter.id)
    _say_missing(missing)
    return 1 if missing else 0


def _say_missing(numbers: set[int]) -> None:
    for number in sorted(numbers):
        sys.stderr.write(f"psi-router: there is no letter {number}\n")


async def _missing(database: Database, ids: list[int]) -> set[int]:
    """Return which of *ids* no letter has, whatever else is asked of it."""
    async with aclosing(letters(database, Wanted(ids=ids))) as found:
        return set(ids) - {letter.id async for letter in found}


def _all_of(letter: Letter) -> dict[str, Any]:
    try:
        body = {"body": letter.body.decode()}
    except UnicodeDecodeError:
        body = {"body_base64": base64.b64encode(letter.body).decode()}
    return {
        "id": letter.id,
        "stage": letter.stage,
        "reason": letter.reason,
        "fingerprint": letter.fingerprint,
        "destination": letter.destination,
        "webhook-id": letter.key,
        "first_at": letter.first_at.isoformat(),
        "last_at": letter.last_at.isoformat(),
        "replayed_at": letter.replayed_at and letter.replayed_at.isoformat(),
        **body,
    }


async def _fitting(settings: Settings, database: Database) -> Settings:
    """Return *settings* with a dialect that the database takes."""
    words = await fit(database, dialect.load(settings.dialect))
    return replace(settings, dialect=words.dialect.name)


async def _replay(args: argparse.Namespace) -> int:
    settings = reread()
    if args.deliveries:
        return await _reread(args, settings)
    # Named by its number, a letter is replayed however often.
    wanted = _wanted(args, fresh=not args.ids)
    failed, verb = 0, "would replay" if args.dry_run else "replayed"
    async with opened(settings.database_url) as database:
        fitting = await _fitting(settings, database)
        replay = Replay(fitting, database, dry_run=args.dry_run)
        missing = await _missing(database, args.ids) if args.ids else set()
        _say_missing(missing)
        async with aclosing(letters(database, wanted, bodies=True)) as found:
            async for letter in found:
                why_not = await replay.one(letter)
                failed += why_not is not None
                said = (
                    f"left {letter.id}: {why_not}" if why_not else f"{verb} {letter.id}"
                )
                sys.stdout.write(f"{said}\n")
                await asyncio.sleep(0 if args.dry_run else 1 / args.rate)
    return 1 if failed or missing else 0


async def _reread(args: argparse.Namespace, settings: Settings) -> int:
    if args.since is None:
        sys.stderr.write("psi-router: --deliveries needs --since\n")
        return WRONG_USAGE
    until = args.until or datetime.now(UTC)
    async with opened(settings.database_url) as database:
        fitting = await _fitting(settings, database)
        rereading = Rereading(fitting, database, dry_run=args.dry_run)
        done = await rereading.between(args.since, until, args.rate)
    verb = "would read" if args.dry_run else "read"
    sys.stdout.write(
        f"{verb} {done.bodies} bodies again: {done.events} events, {done.new} new"
        f" messages, {done.unreadable} unreadable, {done.refused} refused\n"
    )
    return 1 if done.unreadable or done.refused else 0
