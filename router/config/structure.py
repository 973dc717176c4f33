"""Settings that are a structure: the TOML file, and the destinations that variables name."""

import tomllib
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from router.config import values
from router.config.parts import (
    MESSAGES_PER_S,
    RETRY_SCHEDULE_S,
    Bot,
    Destination,
    Line,
)
from router.config.values import ATTEMPT_TIME, Reader

AREAS = ("CRM", "ADMINISTRACION", "ALUMNOS", "COMUNIDAD", "VENTAS_1")
ENTRANCES = ("WSP4", "ADMINISTRACION", "ALUMNOS", "COMUNIDAD", "VENTAS_1")
EVENT_TYPES = frozenset({"message.received", "message.status", "conversation.derived"})

OF_A_LINE = frozenset(
    {"name", "phone_number_id", "menu", "menu_as", "area", "messages_per_s"}
)
OF_THE_BOT: Mapping[str, Callable[[Any], Any]] = {
    "menu_when_derived": values.when_derived,
    "replies_a_minute": lambda value: values.count(str(value)),
    "same_reply_s": lambda value: values.positive(str(value)),
    "same_reply_in_a_row": lambda value: values.count(str(value)),
    "agent_hold_s": lambda value: values.positive(str(value)),
}
# What a destination may have of its own, and how it is read from TOML.
OF_A_DESTINATION = frozenset({"name", "events", "url", "url_env"})
OWN_POLICY: Mapping[str, Callable[[Any], Any]] = {
    "timeout_s": lambda value: values.attempt_time(str(value)),
    "retry_schedule_s": lambda value: tuple(
        values.positive(str(part)) for part in value
    ),
    "concurrency": lambda value: values.count(str(value)),
    "coalesce_statuses_s": values.window,
}


def from_file(reader: Reader) -> dict[str, Any]:
    path = reader.text("PSI_CONFIG")
    try:
        raw = (
            Path(path).read_text(encoding="utf-8")
            if path
            else (resources.files("router") / "default.toml").read_text("utf-8")
        )
        table = tomllib.loads(raw)
    except (OSError, ValueError) as exc:
        reader.problems.append(f"PSI_CONFIG {path}: {exc}")
        table = {}
    known = {"lines", "bot", "dialect", "destinations"}
    reader.problems += [
        f"PSI_CONFIG: unknown key {k}" for k in sorted(table.keys() - known)
    ]
    return {
        "lines": _lines(reader, table),
        "bot": _bot(reader, table.get("bot", {})),
        "dialect": str(table.get("dialect", "plan")),
        "destinations": _destinations(reader, table),
    }


def _lines(reader: Reader, table: Mapping[str, Any]) -> tuple[Line, ...]:
    lines: list[Line] = []
    for entry in table.get("lines") or [{"name": "wsp4"}]:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            reader.problems.append("PSI_CONFIG: each of lines needs a name")
            continue
        number = entry.get("phone_number_id")
        if number is None and not lines:
            number = reader.text("CLOUD_API_PHONE_NUMBER_ID") or None
        lines.append(
            Line(
                name=entry["name"],
                phone_number_id=None if number is None else str(number),
                menu=_menu(reader, entry),
                as_list=_menu_as(reader, entry) == "list",
                area=str(entry["area"]) if entry.get("area") else None,
                messages_per_s=_pace(reader, entry),
            )
        )
        unknown = entry.keys() - OF_A_LINE
        reader.problems += [
            f"PSI_CONFIG: line {entry['name']}: unknown key {k}"
            for k in sorted(unknown)
        ]
    return tuple(lines)


def _menu(reader: Reader, entry: Mapping[str, Any]) -> str | None:
    # An area's own line has people, so no menu unless it asks for one.
    named = entry.get("menu", "" if entry.get("area") else Line.PACKAGED)
    if named in {Line.PACKAGED, "", False}:
        return named or None
    try:
        return Path(str(named)).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        reader.problems.append(f"PSI_CONFIG: line {entry['name']}: menu: {exc}")
        return None


def _menu_as(reader: Reader, entry: Mapping[str, Any]) -> str:
    form = str(entry.get("menu_as", "text"))
    if form not in {"text", "list"}:
        reader.problems.append(
            f"PSI_CONFIG: line {entry['name']}: menu_as is {form!r}, expected text or list"
        )
    return form


def _pace(reader: Reader, entry: Mapping[str, Any]) -> float:
    asked = entry.get("messages_per_s", MESSAGES_PER_S)
    try:
        return values.pace(str(asked))
    except ValueError:
        reader.problems.append(
            f"PSI_CONFIG: line {entry['name']}: messages_per_s is {asked!r},"
            " expected 1 to 1000"
        )
        return 1.0


def _bot(reader: Reader, table: Any) -> Bot:
    if not isinstance(table, dict):
        reader.problems.append("PSI_CONFIG: bot is no table")
        return Bot()
    own: dict[str, Any] = {}
    for key, value in table.items():
        try:
            own[key] = OF_THE_BOT[key](value)
        except (KeyError, TypeError, ValueError):
            reader.problems.append(f"PSI_CONFIG: bot: {key} cannot be {value!r}")
    return Bot(**own)


def _destinations(reader: Reader, table: Mapping[str, Any]) -> tuple[Destination, ...]:
    patience: dict[str, Any] = {
        "timeout_s": reader.parsed(
            "PSI_DESTINATION_TIMEOUT_S", 10.0, values.attempt_time, ATTEMPT_TIME
        ),
        "retry_schedule_s": reader.parsed(
            "PSI_RETRY_SCHEDULE_S",
            RETRY_SCHEDULE_S,
            values.schedule,
            "seconds with commas",
        ),
    }
    found = [
        Destination(
            name=f"{verb.lower()}_{area.lower()}",
            url=values.url(reader, name, reader.text(name)),
            **patience,
        )
        for verb, areas in (("INGESTA", ENTRANCES), ("ENVIOS", AREAS))
        for area in areas
        if reader.text(name := f"N8N_WEBHOOK_{verb}_ROUTER_{area}")
    ]
    for entry in table.get("destinations") or ():
        found += _from_table(reader, entry, patience)
    return tuple(found)


def _from_table(
    reader: Reader, entry: Any, patience: Mapping[str, Any]
) -> list[Destination]:
    try:
        name, events = str(entry["name"]), frozenset(entry["events"])
        url = reader.text(entry["url_env"]) if "url_env" in entry else entry["url"]
        own = {k: parse(entry[k]) for k, parse in OWN_POLICY.items() if k in entry}
    except (KeyError, TypeError, ValueError) as exc:
        reader.problems.append(f"PSI_CONFIG: a destination is incomplete: {exc!r}")
        return []
    reader.problems += [
        f"PSI_CONFIG: destination {name}: unknown key {key}"
        for key in sorted(entry.keys() - OWN_POLICY.keys() - OF_A_DESTINATION)
    ]
    reader.problems += [
        f"PSI_CONFIG: destination {name}: unknown event {event}"
        for event in sorted(events - EVENT_TYPES)
    ]
    return [
        Destination(
            name=name,
            url=values.url(reader, name, url),
            events=events,
            **{**patience, **own},
        )
    ]
