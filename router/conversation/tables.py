"""A menu's file as tables of texts: what must be there, what may be, and nothing else."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

Texts = Mapping[str, str]

TEXTS = ("button", "prompt", "leave", "back", "hint", "confirmation")
INHERITED = ("area", "wait", "name")  # an option's own, or its menu's
# What may stand in braces.
PLACES = {
    "confirmation": ("name", "option", "wait", "ticket"),
    "meant": ("code", "title"),
}

_PLACE = re.compile(r"\{([^{}]*)\}")


class Tables:
    """Reads a file's text and remembers in `problems` all that is wrong with its form."""

    def __init__(self, text: str) -> None:
        """Read *text*; what is no TOML reads as an empty file and a problem."""
        self.problems: list[str] = []
        table = self._parsed(text)
        self.texts = self._texts(
            "the file", table, TEXTS, ("meant",), beside=("menus",)
        )
        self._check_places()
        self.menus = dict(self._menus(table.get("menus")))

    def _parsed(self, text: str) -> Mapping[str, Any]:
        try:
            return tomllib.loads(text)
        except (ValueError, RecursionError) as exc:  # deep brackets
            self.problems.append(f"the file is no TOML: {exc}")
            return {}

    def _menus(self, tables: Any) -> Iterator[tuple[str, tuple[Texts, list[Texts]]]]:
        if not isinstance(tables, dict):
            self.problems.append("the file: menus is missing")
            return
        for code, table in tables.items():
            where = f"menu {code!a}"
            if not isinstance(table, dict):
                self.problems.append(f"{where}: it is no table")
                continue
            texts = self._texts(
                where, table, ("text",), (*INHERITED, "person"), ("options",)
            )
            yield code, (texts, list(self._options(where, table.get("options"))))

    def _options(self, where: str, entries: Any) -> Iterator[Texts]:
        if not isinstance(entries, list):
            self.problems.append(f"{where}: options is missing")
            return
        for number, entry in enumerate(entries, start=1):
            what = f"{where}, option {number}"
            if isinstance(entry, dict):
                yield self._texts(
                    what,
                    entry,
                    ("code", "title"),
                    ("description", "subetiqueta", *INHERITED),
                )
            else:
                self.problems.append(f"{what}: it is no table")

    def _texts(
        self,
        where: str,
        table: Mapping[str, Any],
        required: tuple[str, ...],
        optional: tuple[str, ...],
        beside: tuple[str, ...] = (),
    ) -> Texts:
        known = {*required, *optional, *beside}
        self.problems += [
            f"{where}: unknown key {k!a}" for k in sorted(table.keys() - known)
        ]
        self.problems += [
            f"{where}: {name} is missing" for name in required if name not in table
        ]
        named = [name for name in (*required, *optional) if name in table]
        return {name: self._text(where, name, table[name]) for name in named}

    def _text(self, where: str, name: str, value: Any) -> str:
        if not isinstance(value, str):
            self.problems.append(f"{where}: {name} must be a text in quotes")
            return ""
        if name not in PLACES and re.search(r"[{}]", value):
            self.problems.append(f"{where}: {name} has a brace")
        return value.strip()

    def _check_places(self) -> None:
        for name, known in PLACES.items():
            text = self.texts.get(name, "")
            self.problems += [
                f"the file: {name} has a place {place!a}; there are {', '.join(known)}"
                for place in _PLACE.findall(text)
                if place not in known
            ]
            if re.search(r"[{}]", _PLACE.sub("", text)):
                self.problems.append(f"the file: {name} has a brace too many")
        confirmation = self.texts.get("confirmation")
        if confirmation is not None and confirmation.count("{ticket}") != 1:
            self.problems.append("the file: confirmation needs {ticket} exactly once")
