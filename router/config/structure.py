"""Settings that are a structure: the TOML file, and the destinations that variables name."""

import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from router.config import values
from router.config.destinations import destinations
from router.config.lines import lines
from router.config.parts import Bot
from router.config.table import TEXT, Table, text
from router.config.table import written as number
from router.config.values import Reader

OF_THE_BOT: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "menu_when_derived": (values.when_derived, "unassigned, always or never"),
    "replies_a_minute": (number(values.count), "a number >= 1"),
    "same_reply_s": (number(values.positive), "seconds > 0"),
    "same_reply_in_a_row": (number(values.count), "a number >= 1"),
    "agent_hold_s": (number(values.positive), "seconds > 0"),
}
KNOWN = frozenset({"lines", "bot", "dialect", "destinations"})


def from_file(reader: Reader, timeout_s: float) -> dict[str, Any]:
    """Return what the file describes; an attempt has *timeout_s* where it says nothing."""
    file = _file(reader)
    for key in sorted(file.keys() - KNOWN):
        reader.problems.append(f"PSI_CONFIG: unknown key {key}")
    return {
        "lines": lines(reader, file.get("lines", [])),
        "bot": _bot(reader, file.get("bot", {})),
        "dialect": _dialect(reader, file),
        "destinations": destinations(reader, file.get("destinations", []), timeout_s),
    }


def _file(reader: Reader) -> dict[str, Any]:
    path = reader.text("PSI_CONFIG")
    try:
        raw = (
            Path(path).read_text(encoding="utf-8")
            if path
            else (resources.files("router") / "default.toml").read_text("utf-8")
        )
        return tomllib.loads(raw)
    except (OSError, ValueError) as exc:
        reader.problems.append(f"PSI_CONFIG {path}: {exc}")
        return {}


def _dialect(reader: Reader, file: Mapping[str, Any]) -> str:
    try:
        return text(file.get("dialect", "plan"))
    except (TypeError, ValueError):
        reader.problems.append(f"PSI_CONFIG: dialect: expected {TEXT}")
        return "plan"


def _bot(reader: Reader, found: Any) -> Bot:
    if not isinstance(found, dict):
        reader.problems.append("PSI_CONFIG: bot is no table")
        return Bot()
    table = Table(reader, "bot", found)
    table.only(OF_THE_BOT)
    default = Bot()
    return Bot(
        **{
            key: table.parsed(key, getattr(default, key), *how)
            for key, how in OF_THE_BOT.items()
        }
    )
