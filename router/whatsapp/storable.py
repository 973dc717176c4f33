"""Text and JSON as PostgreSQL can hold them: cleaned only here, where they are stored."""

import json
import math
import re
from typing import Any

import orjson

MAX_DEPTH = 100  # of what must be cleaned; below it a marker, and the stack is safe
MARKER = "…"
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_TOO_LONG = 10**4000  # str() refuses 4301 digits


def text(value: str) -> str:
    """Return *value* with U+FFFD for each NUL and lone surrogate."""
    if value.isascii() and "\0" not in value:  # a third of the time of the search
        return value
    return _UNSTORABLE.sub("\ufffd", value) if _UNSTORABLE.search(value) else value


def json_text(value: Any) -> str:
    """Return *value*, any parsed JSON, as JSON that jsonb takes. Raises nothing for JSON.

    Integers stay exact. What orjson does not write (lone surrogates, integers over 64
    bits, more than 254 levels) or jsonb does not take (NUL) is cleaned, and cut off
    below MAX_DEPTH: the bytes as received are in `router.deliveries`.
    """
    try:
        dumped = orjson.dumps(value)
    except (TypeError, ValueError):  # orjson's own errors are TypeErrors
        dumped = b"\\u0000"
    if b"\\u0000" not in dumped:
        return dumped.decode()
    return json.dumps(_clean(value, MAX_DEPTH), ensure_ascii=False, allow_nan=False)


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict | list | tuple):
        return _clean_members(value, depth - 1) if depth else MARKER
    if isinstance(value, float) and not math.isfinite(value):
        return None  # as orjson writes it
    if isinstance(value, int) and abs(value) >= _TOO_LONG:
        return hex(value)
    return value


def _clean_members(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return {text(str(k)): _clean(member, depth) for k, member in value.items()}
    return [_clean(member, depth) for member in value]
