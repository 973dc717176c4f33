"""Settings: read once, frozen, complete or not at all.

`Settings.load` takes the environment as a mapping and reports every problem in one
`ConfigError`. Structure (lines, destinations) comes from a TOML file; see
`docs/configuration.md` for its keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

from router.config.destinations import AREAS, ENTRANCES
from router.config.environment import (
    GRAPH_API_URL,
    database_url_problem,
    from_environment,
)
from router.config.media import storage
from router.config.parts import RETRY_SCHEDULE_S, Bot, Destination, Line, Storage
from router.config.structure import from_file
from router.config.values import LONGEST_ATTEMPT_S, Reader
from router.errors import ConfigError

__all__ = [
    "AREAS",
    "ENTRANCES",
    "LONGEST_ATTEMPT_S",
    "RETRY_SCHEDULE_S",
    "Bot",
    "Destination",
    "Line",
    "Settings",
    "Storage",
    "database_url_problem",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that may differ between two routers. Names as in contract 3."""

    database_url: str = field(repr=False)
    verify_token: str = field(repr=False)
    app_secrets: tuple[bytes, ...] = field(repr=False)
    shared_secret: bytes | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 3002
    reuse_port: bool = False  # other processes may listen there as well
    graph_url: str = GRAPH_API_URL
    graph_token: str | None = field(default=None, repr=False)
    storage: Storage | None = None  # of the files that come with messages
    lines: tuple[Line, ...] = (Line(name="wsp4"),)
    bot: Bot = field(default_factory=Bot)
    dialect: str = "plan"  # the words of the database: router/store/dialects
    destinations: tuple[Destination, ...] = ()
    signing_secrets: tuple[str, ...] = field(default=(), repr=False)
    admin_token: str | None = field(default=None, repr=False)
    allow_private: tuple[str, ...] = ()
    connections: int = 8  # to the database, at most
    queue: str = field(default="memory", repr=False)  # memory, spool:DIR or an address
    queue_size: int = 2000
    ack_timeout_s: float = 8.0
    drain_timeout_s: float = 20.0
    destination_timeout_s: float = 10.0
    stale_s: float = 900.0
    retention_days: int = 30
    loop: str = "uvloop"
    migrate: bool = False
    shadow: bool = False  # take, store and decide; tell nobody
    shadow_of: str | None = field(default=None, repr=False)  # a DSN, to compare with
    log_level: str = "info"
    runtime_directory: str = ""  # on tmpfs, and kept over a restart: systemd's

    def __post_init__(self) -> None:
        """Take a shadow's token away: without one replies are stored as not sent."""
        if self.shadow:
            object.__setattr__(self, "graph_token", None)

    @classmethod
    def load(cls, env: Mapping[str, str]) -> Self:
        """Build from *env* and its PSI_CONFIG, or raise one `ConfigError` with all."""
        reader = Reader(env)
        found = from_environment(reader)
        settings = cls(
            **found,
            storage=storage(reader),
            **from_file(reader, found["destination_timeout_s"]),
        )
        _check_not_ourselves(settings, reader.problems)
        if reader.problems:
            raise ConfigError("\n".join(reader.problems))
        return settings


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
