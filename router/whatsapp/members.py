"""Members of received JSON, whatever type they have: nothing here raises."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

Object = Mapping[str, Any]

_NOTHING: Object = {}
_MILLISECONDS = 1_000_000_000_000  # 13 digits; as seconds it would be the year 33658
_LONGEST = 20  # digits of a time


def text_of(value: Any) -> str | None:
    """Return a text, or a number as text; None for anything else and for ''."""
    if value is None:
        return None
    if isinstance(value, str):
        return value or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return None


def word_of(value: Any) -> str | None:
    """Return a text in lower case; None for anything else and for ''."""
    return value.lower() or None if isinstance(value, str) else None


def object_of(value: Any) -> Object:
    """Return an object, or an empty one."""
    return value if isinstance(value, dict) else _NOTHING


def list_of(value: Any) -> list[Any]:
    """Return a list, or an empty one."""
    return value if isinstance(value, list) else []


def objects_of(value: Any) -> Iterator[Object]:
    """Yield the objects of a list."""
    return (member for member in list_of(value) if isinstance(member, dict))


def first_text(item: Object, names: Iterable[str]) -> str | None:
    """Return the first text among the members *names*, which are spellings of one."""
    for name in names:
        if found := text_of(item.get(name)):
            return found
    return None


def time_of(value: Any) -> datetime | None:
    """Return seconds or milliseconds since 1970 as UTC; None where that is no time.

    Digits of any alphabet count. Whether the time can be true is for the store to judge.
    """
    if isinstance(value, str):
        value = _number(value)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if value is None or value < 0:
        return None
    try:
        seconds = value / 1000 if value >= _MILLISECONDS else value
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _number(digits: str) -> int | float | None:
    if digits.isdecimal() and len(digits) <= _LONGEST:
        return int(digits)
    whole, _, part = digits.strip().partition(".")
    if len(digits) <= 2 * _LONGEST and whole.isdecimal() and (part or "0").isdecimal():
        return float(f"{whole}.{part}")
    return None
