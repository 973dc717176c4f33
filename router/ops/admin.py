"""Who may look inside: the bearer of PSI_ADMIN_TOKEN.

Without a token set there is nothing to look at: 404, as for any path that does not exist.
"""

import functools
import hmac
from collections.abc import Awaitable, Callable

from aiohttp import web

from router.ops.answers import problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def admins_only(token: str | None, handler: Handler) -> Handler:
    """Return *handler* behind *token*: 404 where none is set, 401 for whoever lacks it."""

    @functools.wraps(handler)
    async def guarded(request: web.Request) -> web.StreamResponse:
        if token is None:
            raise web.HTTPNotFound
        if not bears(request, token):
            response = problem(401, "unauthorized", "a Bearer token is needed")
            response.headers["WWW-Authenticate"] = 'Bearer realm="psi-router"'
            return response
        return await handler(request)

    return guarded


def bears(request: web.Request, token: str) -> bool:
    """Return whether *request* brings *token*, in a time that tells nothing about it."""
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return hmac.compare_digest(_bytes(given.strip()), _bytes(token)) and (
        scheme.lower() == "bearer"
    )


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")  # as aiohttp reads headers
