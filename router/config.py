"""Settings: read once, frozen, complete or not at all.

`Settings.load` takes the environment as a mapping and reports every problem in one
`ConfigError`. Structure (lines, destinations) comes from a TOML file; see
`docs/configuration.md` for its keys.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args
from urllib.parse import urlsplit

from router.errors import ConfigError

GRAPH_API_URL = "https://graph.facebook.com/v26.0"
RETRY_SCHEDULE_S: tuple[float, ...] = (
    5,
    300,
    1800,
    7200,
    18000,
    36000,
    36000,
)  # Svix's, 28 h in all
AREAS = ("CRM", "ADMINISTRACION", "ALUMNOS", "COMUNIDAD", "VENTAS_1")
ENTRANCES = ("WSP4", "ADMINISTRACION", "ALUMNOS", "COMUNIDAD", "VENTAS_1")
EVENT_TYPES = frozenset({"message.received", "message.status", "conversation.derived"})

# What a dead process held is tried again within 30 s: a lease has to outlive an attempt.
LONGEST_ATTEMPT_S = 19.0
LONGEST_WINDOW_S = 60.0  # of coalescing statuses
ATTEMPT_TIME = f"seconds > 0 and at most {LONGEST_ATTEMPT_S:.0f}"
SECRET = frozenset({"PSI_SIGNING_SECRET"})  # never quoted, however wrong
NO_SECRETS: tuple[str, ...] = ()

MenuWhenDerived = Literal["unassigned", "always", "never"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One WhatsApp number of ours. Without an id it answers for any number.

    `menu` is the text of a menu file, PACKAGED for PSI's own, None for a silent line.
    `area` is whose own line it is: people answer there, and no bot.
    """

    PACKAGED: ClassVar[str] = "psi"

    name: str
    phone_number_id: str | None = None
    menu: str | None = PACKAGED
    as_list: bool = False  # an interactive list where one fits, else numbered text
    area: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    """How the bot behaves at every line; see `router.conversation.decide.Policy`."""

    menu_when_derived: MenuWhenDerived = "unassigned"
    replies_a_minute: int = 12  # automatic ones, in one conversation
    same_reply_s: float = 10.0  # within which a reply is not repeated


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """Who must be told, and how patiently.

    `events` names what it gets in the Standard Webhooks envelope; it is empty for the
    N8N_WEBHOOK_* destinations, which get the predecessor's flat fields.
    """

    name: str
    url: str = field(repr=False)  # may hold a password or a token
    events: frozenset[str] = frozenset()
    timeout_s: float = 10.0
    retry_schedule_s: tuple[float, ...] = RETRY_SCHEDULE_S
    concurrency: int = 8  # at most; how many it really takes is found out
    coalesce_statuses_s: float = 0.0  # within which a later status replaces an earlier


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that may differ between two routers. Names as in contract 3."""

    database_url: str = field(repr=False)
    verify_token: str = field(repr=False)
    app_secrets: tuple[bytes, ...] = field(repr=False)
    shared_secret: bytes | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 3002
    graph_url: str = GRAPH_API_URL
    graph_token: str | None = field(default=None, repr=False)
    lines: tuple[Line, ...] = (Line(name="wsp4"),)
    bot: Bot = Bot()
    dialect: str = "plan"  # the words of the database: router/store/dialects
    destinations: tuple[Destination, ...] = ()
    signing_secrets: tuple[str, ...] = field(default=(), repr=False)
    admin_token: str | None = field(default=None, repr=False)
    allow_private: tuple[str, ...] = ()
    queue: str = "memory"
    queue_size: int = 2000
    ack_timeout_s: float = 8.0
    drain_timeout_s: float = 20.0
    destination_timeout_s: float = 10.0
    stale_s: float = 900.0
    retention_days: int = 30
    loop: str = "uvloop"
    migrate: bool = False
    log_level: str = "info"

    @classmethod
    def load(cls, env: Mapping[str, str]) -> Self:
        """Build from *env* and its PSI_CONFIG, or raise one `ConfigError` with all."""
        reader = _Reader(env)
        settings = cls(**_from_environment(reader), **_from_file(reader))
        _check_not_ourselves(settings, reader.problems)
        if reader.problems:
            raise ConfigError("\n".join(reader.problems))
        return settings


class _Reader:
    """Reads one value at a time and remembers what was wrong with it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = {name: value.strip() for name, value in env.items()}
        self.problems: list[str] = []

    def text(self, name: str, default: str = "") -> str:
        return self._env.get(name) or default

    def required(self, name: str) -> str:
        if not self._env.get(name):
            self.problems.append(f"{name} is not set")
        return self._env.get(name, "")

    def parsed(self, name: str, default: T, parse: Callable[[str], T], want: str) -> T:
        raw = self._env.get(name)
        if not raw:
            return default
        try:
            return parse(raw)
        except ValueError:
            given = "wrong" if name in SECRET else repr(raw)
            self.problems.append(f"{name} is {given}, expected {want}")
            return default

    def secrets(self, name: str) -> tuple[str, ...]:
        parts = tuple(part.strip() for part in self.text(name).split(","))
        if parts != ("",) and not all(parts):
            self.problems.append(f"{name} has an empty secret between its commas")
        return tuple(part for part in parts if part)


def _from_environment(reader: _Reader) -> dict[str, Any]:
    reader.required("WHATSAPP_APP_SECRET")
    secrets = reader.secrets("WHATSAPP_APP_SECRET")
    shared = reader.text("WEBHOOK_SHARED_SECRET")
    return {
        "database_url": _database_url(reader),
        "verify_token": reader.required("WHATSAPP_VERIFY_TOKEN"),
        "app_secrets": tuple(secret.encode() for secret in secrets),
        "shared_secret": shared.encode() if shared else None,
        "host": reader.text("HOST", "127.0.0.1"),
        "port": reader.parsed("PORT", 3002, _port, "a port from 0 to 65535"),
        "graph_url": _url(
            reader,
            "CLOUD_API_BASE_URL",
            reader.text("CLOUD_API_BASE_URL", GRAPH_API_URL),
        ),
        "graph_token": reader.text("CLOUD_API_TOKEN") or None,
        "signing_secrets": reader.parsed(
            "PSI_SIGNING_SECRET",
            NO_SECRETS,
            _signing_secrets,
            "whsec_… secrets in base64",
        ),
        "admin_token": reader.text("PSI_ADMIN_TOKEN") or None,
        "allow_private": _parts(reader.text("PSI_ALLOW_PRIVATE")),
        "queue": reader.parsed("PSI_QUEUE", "memory", _one_of("memory"), "memory"),
        "queue_size": reader.parsed("PSI_QUEUE_SIZE", 2000, _count, "a number >= 1"),
        "ack_timeout_s": _seconds(reader, "PSI_ACK_TIMEOUT_S", 8.0),
        "drain_timeout_s": _seconds(reader, "PSI_DRAIN_TIMEOUT_S", 20.0),
        "destination_timeout_s": reader.parsed(
            "PSI_DESTINATION_TIMEOUT_S", 10.0, _attempt_time, ATTEMPT_TIME
        ),
        "stale_s": _seconds(reader, "PSI_STALE_S", 900.0),
        "retention_days": reader.parsed(
            "PSI_RETENTION_DAYS", 30, _count, "a number of days >= 1"
        ),
        "loop": reader.parsed(
            "PSI_LOOP", "uvloop", _one_of("uvloop", "asyncio"), "uvloop or asyncio"
        ),
        "migrate": reader.parsed("PSI_MIGRATE", False, _flag, "0 or 1"),
        "log_level": reader.parsed(
            "PSI_LOG_LEVEL",
            "info",
            _one_of("debug", "info", "warning", "error"),
            "debug, info, warning or error",
        ),
    }


def _database_url(reader: _Reader) -> str:
    raw = reader.required("DATABASE_URL")
    if raw and (problem := database_url_problem(raw)):
        reader.problems.append(problem)
    return raw


def database_url_problem(raw: str) -> str | None:
    """Return what is wrong with a DATABASE_URL, without quoting it; None if nothing is."""
    if raw.startswith("embedded:"):
        return None if raw.removeprefix("embedded:") else "DATABASE_URL names no folder"
    try:
        parts = urlsplit(raw)
        fine = parts.scheme in {"postgresql", "postgres"} and parts.port != 0
    except ValueError:
        fine = False
    return None if fine else "DATABASE_URL is no postgresql:// address"


def _from_file(reader: _Reader) -> dict[str, Any]:
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


def _lines(reader: _Reader, table: Mapping[str, Any]) -> tuple[Line, ...]:
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
            )
        )
        unknown = entry.keys() - OF_A_LINE
        reader.problems += [
            f"PSI_CONFIG: line {entry['name']}: unknown key {k}"
            for k in sorted(unknown)
        ]
    return tuple(lines)


def _menu(reader: _Reader, entry: Mapping[str, Any]) -> str | None:
    # An area's own line has people, so no menu unless it asks for one.
    named = entry.get("menu", "" if entry.get("area") else Line.PACKAGED)
    if named in {Line.PACKAGED, "", False}:
        return named or None
    try:
        return Path(str(named)).read_text(encoding="utf-8")
    except (OSError, ValueError) as exc:
        reader.problems.append(f"PSI_CONFIG: line {entry['name']}: menu: {exc}")
        return None


def _menu_as(reader: _Reader, entry: Mapping[str, Any]) -> str:
    form = str(entry.get("menu_as", "text"))
    if form not in {"text", "list"}:
        reader.problems.append(
            f"PSI_CONFIG: line {entry['name']}: menu_as is {form!r}, expected text or list"
        )
    return form


def _bot(reader: _Reader, table: Any) -> Bot:
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


def _destinations(reader: _Reader, table: Mapping[str, Any]) -> tuple[Destination, ...]:
    patience: dict[str, Any] = {
        "timeout_s": reader.parsed(
            "PSI_DESTINATION_TIMEOUT_S", 10.0, _attempt_time, ATTEMPT_TIME
        ),
        "retry_schedule_s": reader.parsed(
            "PSI_RETRY_SCHEDULE_S", RETRY_SCHEDULE_S, _schedule, "seconds with commas"
        ),
    }
    found = [
        Destination(
            name=f"{verb.lower()}_{area.lower()}",
            url=_url(reader, name, reader.text(name)),
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
    reader: _Reader, entry: Any, patience: Mapping[str, Any]
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
            name=name, url=_url(reader, name, url), events=events, **{**patience, **own}
        )
    ]


def _url(reader: _Reader, name: str, raw: str) -> str:
    try:
        parts = urlsplit(raw)
        fine = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        reader.problems.append(f"{name} is no http(s) URL")
    return raw


def _check_not_ourselves(settings: Settings, problems: list[str]) -> None:
    # A notification that comes back in as a message would go round for ever.
    own = {(settings.host, settings.port), ("localhost", settings.port)}
    for destination in settings.destinations:
        try:
            parts = urlsplit(destination.url)
            address = (parts.hostname or "", parts.port or 0)
        except ValueError:
            continue  # reported where it was read
        if address in own:
            problems.append(f"destination {destination.name} is this router itself")


def _seconds(reader: _Reader, name: str, default: float) -> float:
    return reader.parsed(name, default, _positive, "seconds > 0")


def _positive(raw: str) -> float:
    value = float(raw)
    if not 0 < value < float("inf"):
        raise ValueError(raw)
    return value


def _attempt_time(raw: str) -> float:
    if (value := _positive(raw)) > LONGEST_ATTEMPT_S:
        raise ValueError(raw)
    return value


def _parts(raw: str) -> tuple[str, ...]:
    return tuple(part for piece in raw.split(",") if (part := piece.strip()))


def _count(raw: str) -> int:
    if (value := int(raw)) < 1:
        raise ValueError(raw)
    return value


def _port(raw: str) -> int:
    if not 0 <= (value := int(raw)) <= 65535:  # noqa: PLR2004 -- what TCP has
        raise ValueError(raw)
    return value


def _flag(raw: str) -> bool:
    return {"0": False, "1": True}[raw] if raw in {"0", "1"} else _refuse(raw)


def _refuse(raw: str) -> bool:
    raise ValueError(raw)


def _schedule(raw: str) -> tuple[float, ...]:
    return tuple(_positive(part) for part in raw.split(","))


def _window(seconds: Any) -> float:
    if not 0 <= (value := float(seconds)) <= LONGEST_WINDOW_S:
        raise ValueError(seconds)
    return value


def _when_derived(value: Any) -> MenuWhenDerived:
    for word in get_args(MenuWhenDerived):
        if value == word:
            return word  # type: ignore[no-any-return]
    raise ValueError(value)


OF_A_LINE = frozenset({"name", "phone_number_id", "menu", "menu_as", "area"})
OF_THE_BOT: Mapping[str, Callable[[Any], Any]] = {
    "menu_when_derived": _when_derived,
    "replies_a_minute": lambda value: _count(str(value)),
    "same_reply_s": lambda value: _positive(str(value)),
}
# What a destination may have of its own, and how it is read from TOML.
OF_A_DESTINATION = frozenset({"name", "events", "url", "url_env"})
OWN_POLICY: Mapping[str, Callable[[Any], Any]] = {
    "timeout_s": lambda value: _attempt_time(str(value)),
    "retry_schedule_s": lambda value: tuple(_positive(str(part)) for part in value),
    "concurrency": lambda value: _count(str(value)),
    "coalesce_statuses_s": _window,
}


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw.lower() not in allowed:
            raise ValueError(raw)
        return raw.lower()

    return parse


def _signing_secrets(raw: str) -> tuple[str, ...]:
    import base64  # noqa: PLC0415 -- only to check the form, once

    secrets = tuple(part.strip() for part in raw.split(","))
    for secret in secrets:
        base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return secrets
