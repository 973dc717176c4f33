"""How a body is read: strict UTF-8, strict JSON, and nothing lost or damaged."""

import json
import math
import re
from typing import Any

import orjson

from router.errors import Malformed

# orjson turns integers over 64 bits into floats. The shortest such has 19 digits and a
# minus, and nothing but these may stand before a number: ids in quotes do not match.
_MAY_BE_BIG = re.compile(rb"[:,\[ \n\r\t-]\d{19}")
# Looked for first, since it is found five times as fast: nineteen digits anywhere.
_DIGITS = bytes.maketrans(b"0123456789", b"0000000000")
_NINETEEN = b"0" * 19
_LONGEST_INT = 4000  # digits; int() refuses 4301


def read_json(body: bytes) -> Any:
    """Return the parsed body; raise Malformed for what is not strict JSON in UTF-8.

    Integers are exact. A number that no int or float can hold (1e400, five thousand
    digits) is returned as its text. Of a key that is there twice the last one counts.
    """
    if not (_has_big_number(body) or body[:1].isdigit()):
        try:
            return orjson.loads(body)
        except orjson.JSONDecodeError:
            pass  # it refuses some JSON that is strict: escaped lone surrogates, 1e400
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as exc:
        raise Malformed(f"no JSON: {type(exc).__name__}") from exc


def _has_big_number(body: bytes) -> bool:
    return _NINETEEN in body.translate(_DIGITS) and _MAY_BE_BIG.search(body) is not None


def _refuse(word: str) -> Any:
    raise ValueError(word)


def _float(literal: str) -> float | str:
    value = float(literal)
    return value if math.isfinite(value) else literal


def _int(literal: str) -> int | str:
    return int(literal) if len(literal) <= _LONGEST_INT else literal


_DECODER = json.JSONDecoder(
    parse_constant=_refuse, parse_float=_float, parse_int=_int, strict=True
)
