"""How one table of the TOML file is read, and what is remembered of its wrong values."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeVar

from router.config import values
from router.config.values import Reader

T = TypeVar("T")

TEXT = "a text that is not empty"


class Table:
    """Reads one table, key by key; *where* names it in what is said of it."""

    def __init__(self, reader: Reader, where: str, found: Mapping[str, Any]) -> None:
        self.reader, self.found = reader, found
        self._where = where

    def problem(self, words: str) -> None:
        self.reader.problems.append(f"PSI_CONFIG: {self._where}: {words}")

    def parsed(self, key: str, default: T, parse: Callable[[Any], T], want: str) -> T:
        if key not in self.found:
            return default
        try:
            return parse(self.found[key])
        except (TypeError, ValueError):
            self.problem(f"{key} is {self.found[key]!r}, expected {want}")
            return default

    def only(self, known: Collection[str]) -> None:
        for key in sorted(self.found.keys() - set(known)):
            self.problem(f"unknown key {key}")


def tables(reader: Reader, key: str, found: Any) -> list[tuple[str, Table]]:
    """Return the tables of the list *found*, which is *key* of the file, by their names."""
    if not isinstance(found, list):
        reader.problems.append(f"PSI_CONFIG: {key} is no list of tables")
        return []
    named: list[tuple[str, Table]] = []
    for entry in found:
        try:
            name = text(entry["name"])
        except (KeyError, TypeError, ValueError):
            reader.problems.append(f"PSI_CONFIG: each of {key} needs a name, {TEXT}")
            continue
        table = Table(reader, f"{key.removesuffix('s')} {name}", entry)
        if name in {other for other, _ in named}:
            table.problem("there are two of this name")
        named.append((name, table))
    return named


def text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(value)
    if not value.strip():
        raise ValueError(value)
    return value


def texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(value)
    return tuple(map(text, value))


def written(parse: Callable[[str], T]) -> Callable[[Any], T]:
    """Return a parser of TOML's numbers, of *parse*, which reads them as text."""

    def parse_number(value: Any) -> T:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(value)
        return parse(str(value))

    return parse_number


def schedule(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise TypeError(value)
    if not value:
        raise ValueError(value)
    return tuple(map(written(values.positive), value))
