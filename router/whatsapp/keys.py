"""What duplicates share, where WhatsApp gives no id: digests and encoded tuples."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import orjson


def sha256(data: bytes) -> str:
    """Return ``sha256:`` and the hex digest."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_of(value: Any) -> str:
    """Return ``sha256:…`` of parsed JSON: the same, however it was spaced and ordered."""
    return sha256(canonical(value))


def canonical(value: Any) -> bytes:
    """Return *value* as bytes that only equal JSON shares, keys sorted. Never raises."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # lone surrogates, integers over 64 bits, more than 254 levels
        return "\n".join(_tokens(value)).encode("ascii")


def _tokens(root: Any) -> Iterator[str]:
    # A walk with a stack of its own: the depth of a body is its sender's choice. A token
    # is ASCII without a line break, and a container says how many follow: unambiguous.
    stack = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            yield f"{{{len(value)}"
            for key in sorted(value, reverse=True):
                stack += [value[key], key]
        elif isinstance(value, list | tuple):
            yield f"[{len(value)}"
            stack += reversed(value)
        else:
            yield json.dumps(value)
