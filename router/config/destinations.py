"""Who is told: the destinations that variables name, and those of the TOML file."""

from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

from router.config import table as toml
from router.config import values
from router.config.addresses import is_link_local
from router.config.parts import RETRY_SCHEDULE_S, Destination
from router.config.table import TEXT, Table, tables
from router.config.table import written as number
from router.config.values import ATTEMPT_TIME, Reader

AREAS = ("CRM", "ADMINISTRACION", "ALUMNOS", "COMUNIDAD", "VENTAS_1")
ENTRANCES = ("WSP4", "ADMINISTRACION", "ALUMNOS", "COMUNIDAD", "VENTAS_1")
# By the destination's name; one of the file may have it where the variable is not set.
VARIABLES: Mapping[str, str] = {
    f"{verb}_{area}".lower(): f"N8N_WEBHOOK_{verb}_ROUTER_{area}"
    for verb, areas in (("INGESTA", ENTRANCES), ("ENVIOS", AREAS))
    for area in areas
}
RESERVED = frozenset({"whatsapp", "whatsapp_bulk", "media"})  # the router's own
EVENT_TYPES = frozenset({"message.received", "message.status", "conversation.derived"})

OF_A_DESTINATION = frozenset({"name", "events", "url", "url_env"})
# What a destination may have of its own, how it is read from TOML, and what is expected.
OWN_POLICY: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "timeout_s": (number(values.attempt_time), ATTEMPT_TIME),
    "retry_schedule_s": (toml.schedule, "a list of seconds > 0 that is not empty"),
    "concurrency": (number(values.count), "a number >= 1"),
    "coalesce_statuses_s": (
        number(values.window),
        f"seconds from 0 to {values.LONGEST_WINDOW_S:.0f}",
    ),
}


def destinations(
    reader: Reader, found: Any, timeout_s: float
) -> tuple[Destination, ...]:
    """Return all of them; each has *timeout_s* for an attempt unless it says otherwise."""
    patience: dict[str, Any] = {
        "timeout_s": timeout_s,
        "retry_schedule_s": reader.parsed(
            "PSI_RETRY_SCHEDULE_S",
            RETRY_SCHEDULE_S,
            values.schedule,
            "seconds with commas",
        ),
    }
    named = [
        Destination(name=name, url=_url(reader, variable, url), **patience)
        for name, variable in VARIABLES.items()
        if (url := reader.text(variable))
    ]
    taken = {destination.name for destination in named}
    return (
        *named,
        *(
            _from_table(name, table, patience, taken)
            for name, table in tables(reader, "destinations", found)
        ),
    )


def _from_table(
    name: str, table: Table, patience: Mapping[str, Any], taken: Collection[str]
) -> Destination:
    if name in RESERVED:
        table.problem("the router itself has a destination of this name")
    if name in taken:
        table.problem(f"{VARIABLES[name]} is set, and gives one of this name")
    table.only(OWN_POLICY.keys() | OF_A_DESTINATION)
    own = {
        key: table.parsed(key, patience.get(key), *how)
        for key, how in OWN_POLICY.items()
        if key in table.found
    }
    return Destination(
        name=name,
        url=_address(name, table),
        events=_events(name, table),
        **{**patience, **own},
    )


def _events(name: str, table: Table) -> frozenset[str]:
    absent: tuple[str, ...] | None = None if "events" in table.found else ()
    found = table.parsed("events", absent, toml.texts, "a list of events")
    for event in sorted(set(found or ()) - EVENT_TYPES):
        table.problem(f"unknown event {event}")
    # One that stands for a variable is told of what that is, in the predecessor's fields.
    if found == () and name not in VARIABLES:
        table.problem(f"no events, expected some of {', '.join(sorted(EVENT_TYPES))}")
    return frozenset(found or ())


def _address(name: str, table: Table) -> str:
    if "url_env" in table.found:
        variable = table.parsed("url_env", "", toml.text, TEXT)
        return _url(table.reader, name, table.reader.text(variable)) if variable else ""
    url = table.found.get("url", "")
    if isinstance(url, str):
        return _url(table.reader, name, url)
    table.problem("url is no text")  # not quoted: what it holds may be a secret
    return ""


def _url(reader: Reader, name: str, raw: str) -> str:
    """Return *raw*, a URL that *name* has; complain of one that is never dialled."""
    values.url(reader, name, raw)
    try:
        host = urlsplit(raw).hostname or ""
    except ValueError:
        return raw  # reported as no URL
    if is_link_local(host):
        reader.problems.append(f"{name} is a link-local address, and none is allowed")
    return raw
