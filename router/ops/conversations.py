"""`GET /api/conversations/{telefono}`: what the CRM asks about a person."""

from aiohttp import web

from router.errors import Poison, Transient
from router.ops.answers import problem
from router.store.conversations import by_alias
from router.store.database import Database
from router.store.dialect import PLAN, Dialect


async def conversation(
    database: Database, alias: str, dialect: Dialect = PLAN
) -> web.Response:
    """Answer with the contact, its conversation and its last messages; 404 for nobody.

    503 while the database is away. Columns are named as in the tables, times in ISO 8601.
    """
    try:
        found = await by_alias(database, alias, dialect)
    except Transient:
        return problem(503, "unavailable", "the database is away")
    except Poison:
        found = None  # what PostgreSQL cannot hold is nobody's name
    if found is None:
        return problem(404, "not_found", "nobody is known by that name")
    return web.json_response(
        {
            "contact": found["contacto"],
            "conversation": found["conversacion"],
            "messages": found["mensajes"],
        }
    )
