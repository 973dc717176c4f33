"""`GET /api/messages/{wamid}`: the whole life of one message."""

from aiohttp import web

from router.errors import Poison, Transient
from router.ops.answers import problem
from router.store.database import Database
from router.store.explain import explained


async def message(database: Database, wamid: str) -> web.Response:
    """Answer with what is known of *wamid*; 404 for one never heard of, 503 without a database."""
    try:
        found = await explained(database, wamid)
    except Transient:
        return problem(503, "unavailable", "the database is away")
    except (Poison, UnicodeEncodeError):
        found = None  # what PostgreSQL cannot hold is no message's name
    if found is None:
        return problem(404, "not_found", "no message is known by that id")
    return web.json_response(found)
