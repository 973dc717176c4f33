"""How one value is read, and what is remembered of those that cannot be."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args
from urllib.parse import urlsplit

from router.config.addresses import is_host, is_network
from router.config.parts import MenuWhenDerived

# What a dead process held is tried again within 30 s: a lease has to outlive an attempt.
LONGEST_ATTEMPT_S = 19.0
LONGEST_WINDOW_S = 60.0  # of coalescing statuses
MOST_PER_S = 1000.0  # messages that Meta takes from one number, upgraded
ATTEMPT_TIME = f"seconds > 0 and at most {LONGEST_ATTEMPT_S:.0f}"
SECRET = frozenset({"PSI_SIGNING_SECRET", "PSI_QUEUE"})  # never quoted, however wrong

T = TypeVar("T")


class Reader:
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


def url(reader: Reader, name: str, raw: str) -> str:
    try:
        parts = urlsplit(raw)
        fine = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        reader.problems.append(f"{name} is no http(s) URL")
    return raw


def seconds(reader: Reader, name: str, default: float) -> float:
    return reader.parsed(name, default, positive, "seconds > 0")


def positive(raw: str) -> float:
    value = float(raw)
    if not 0 < value < float("inf"):
        raise ValueError(raw)
    return value


def pace(raw: str) -> float:
    if not 1 <= (value := float(raw)) <= MOST_PER_S:
        raise ValueError(raw)
    return value


def attempt_time(raw: str) -> float:
    if (value := positive(raw)) > LONGEST_ATTEMPT_S:
        raise ValueError(raw)
    return value


def parts(raw: str) -> tuple[str, ...]:
    return tuple(part for piece in raw.split(",") if (part := piece.strip()))


def allowed(reader: Reader, name: str) -> tuple[str, ...]:
    """Return the hosts and networks in *name*; complain of each that is neither."""
    found = parts(reader.text(name))
    for part in found:
        if not is_network(part) and not is_host(part.strip("[]")):
            reader.problems.append(f"{name}: {part!r} is no host and no network")
    return found


def host(raw: str) -> str:
    if not is_host(raw):
        raise ValueError(raw)
    return raw


def count(raw: str) -> int:
    if (value := int(raw)) < 1:
        raise ValueError(raw)
    return value


def at_least(least: int) -> Callable[[str], int]:
    """Return a parser of whole numbers that are not below *least*."""

    def parse(raw: str) -> int:
        if (value := int(raw)) < least:
            raise ValueError(raw)
        return value

    return parse


def port(raw: str) -> int:
    if not 0 <= (value := int(raw)) <= 65535:  # noqa: PLR2004 -- what TCP has
        raise ValueError(raw)
    return value


def flag(raw: str) -> bool:
    return {"0": False, "1": True}[raw] if raw in {"0", "1"} else _refuse(raw)


def _refuse(raw: str) -> bool:
    raise ValueError(raw)


def schedule(raw: str) -> tuple[float, ...]:
    return tuple(positive(part) for part in raw.split(","))


def window(raw: str) -> float:
    if not 0 <= (value := float(raw)) <= LONGEST_WINDOW_S:
        raise ValueError(raw)
    return value


def when_derived(value: Any) -> MenuWhenDerived:
    for word in get_args(MenuWhenDerived):
        if value == word:
            return word  # type: ignore[no-any-return]
    raise ValueError(value)


def one_of(*allowed: str) -> Callable[[str], str]:
    def parse(raw: str) -> str:
        if raw.lower() not in allowed:
            raise ValueError(raw)
        return raw.lower()

    return parse


def queue(raw: str) -> str:
    """Return what PSI_QUEUE names: memory, spool:DIR, or the address of a Redis."""
    word, _, rest = raw.partition(":")
    word = word.lower()
    if word == "memory" and not rest:
        return word
    if word == "spool" and rest:
        return f"{word}:{rest}"
    parts = urlsplit(raw)
    fine = parts.hostname and parts.port != 0 if word != "unix" else parts.path
    if word not in {"redis", "rediss", "unix"} or not fine:
        raise ValueError(raw)
    return raw


def signing_secrets(raw: str) -> tuple[str, ...]:
    import base64  # noqa: PLC0415 -- only to check the form, once

    secrets = tuple(part.strip() for part in raw.split(","))
    for secret in secrets:
        if not base64.b64decode(secret.removeprefix("whsec_"), validate=True):
            raise ValueError("empty")
    return secrets
