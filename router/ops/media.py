"""`GET /media/…`: a file that came with a message, for who may see messages.

A stranger made it, so it is never a page of ours: nothing in it is run, and what is neither
picture, sound nor PDF is handed down as a download.
"""

from aiohttp import web

from router.config import Settings
from router.destinations.media_file import type_of
from router.ops.doors import refused
from router.pipeline import Files

SHOWN = ("image/", "audio/", "video/", "application/pdf")
HEADERS = {
    "Cache-Control": "private, max-age=86400, immutable",
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}


async def file(
    request: web.Request, settings: Settings, files: Files | None
) -> web.StreamResponse:
    """Answer with the file, or with where it may be read for five minutes; 404 for none."""
    if (answer := refused(request, settings)) is not None:
        return answer
    name = request.match_info["name"]
    place = await files.store.locate(name) if files else None
    if place is None:
        raise web.HTTPNotFound
    if isinstance(place, str):
        return web.Response(
            status=302, headers={"Location": place, "Cache-Control": "no-store"}
        )
    kind = type_of(name)
    shown = "inline" if kind.startswith(SHOWN) else "attachment"
    headers = {**HEADERS, "Content-Type": kind, "Content-Disposition": shown}
    return web.FileResponse(place, headers=headers)
