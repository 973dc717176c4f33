"""What settings describe: lines, the bot, destinations."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

RETRY_SCHEDULE_S: tuple[float, ...] = (
    5,
    300,
    1800,
    7200,
    18000,
    36000,
    36000,
)  # Svix's, 28 h in all

MESSAGES_PER_S = 80.0  # Meta's limit for a number; 20 for one that the app uses too

MenuWhenDerived = Literal["unassigned", "always", "never"]


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
    messages_per_s: float = MESSAGES_PER_S  # that WhatsApp takes from this number


@dataclass(frozen=True, slots=True, kw_only=True)
class Bot:
    """How the bot behaves at every line; see `router.conversation.decide.Policy`."""

    menu_when_derived: MenuWhenDerived = "unassigned"
    replies_a_minute: int = 12  # automatic ones, in one conversation
    same_reply_s: float = 10.0  # within which a reply is not repeated
    same_reply_in_a_row: int = 5  # within ten minutes
    agent_hold_s: float = 12 * 3600.0  # after an agent's message: plain choices only


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
class Storage:
    """Where the files of messages are kept: in a directory, or in a bucket where one is named.

    `url` stands before a file's key in mensajes.media_url.
    """

    directory: str = "media"
    bucket: str = ""
    prefix: str = ""
    endpoint: str | None = None  # None: Amazon's own
    region: str = "us-east-1"
    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    url: str = "/media/"
    max_bytes: int = 100 * 2**20  # of one file: the most that WhatsApp lets people send
