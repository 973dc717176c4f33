"""Answers in JSON that are no success."""

from aiohttp import web

RETRY_AFTER_S = 5


def problem(status: int, code: str, message: str) -> web.Response:
    """Return *status* with `{"error": {"code", "message"}}`; 503 says when to come again."""
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}  # noqa: PLR2004
    error = {"code": code, "message": message}
    return web.json_response({"error": error}, status=status, headers=headers)
