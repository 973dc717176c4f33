"""Who may come in from n8n and the CRM: the bearer of the admin token, or of the shared secret."""

import hmac

from aiohttp import web

from router.config import Settings
from router.ops.admin import bears
from router.ops.answers import problem

SECRET = "X-Webhook-Secret"  # noqa: S105 -- the name of a header


def refused(request: web.Request, settings: Settings) -> web.Response | None:
    """Return the 401 for who is not known, None for who is; 404 where there are no doors."""
    token, secret = settings.admin_token, settings.shared_secret
    if token is None and secret is None:
        raise web.HTTPNotFound
    known = token is not None and bears(request, token)
    given = request.headers.getall(SECRET, ())
    if secret is not None and len(given) == 1:
        said = given[0].encode("utf-8", "surrogateescape")
        known |= hmac.compare_digest(said, secret)
    if known:
        return None
    response = problem(401, "unauthorized", f"a Bearer token or {SECRET} is needed")
    response.headers["WWW-Authenticate"] = 'Bearer realm="psi-router"'
    return response
