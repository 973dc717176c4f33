"""Text and JSON as PostgreSQL can hold them: cleaned only here, where they are stored."""

import json
import math
import re
from typing import Any

import orjson

MAX_DEPTH = 100  # below it, a marker: PostgreSQL and most readers stop somewhere above
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def text(value: str) -> str:
    """Return *value* with U+FFFD for each NUL and lone surrogate."""
    return _UNSTORABLE.sub("\ufffd", value) if _UNSTORABLE.search(value) else value


def json_text(value: Any) -> str:
    """Return *value* as JSON that jsonb takes."""
    try:
        dumped = orjson.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return json.dumps(_clean(value, MAX_DEPTH), ensure_ascii=False)
    if b"\\u0000" in dumped:
        return json.dumps(_clean(value, MAX_DEPTH), ensure_ascii=False)
    return dumped.decode()


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict | list) and depth == 0:
        return "…"
    if isinstance(value, dict):
        return {text(str(k)): _clean(v, depth - 1) for k, v in value.items()}
    if isinstance(value, list):
        return [_clean(member, depth - 1) for member in value]
    return value
