"""Meta's rules as the fake Graph API enforces them: pure, and written on its own.

Nothing comes from `router.whatsapp.outgoing` or the governor: whoever shares the numbers of
what is under test finds nothing wrong with it. Sources: the Cloud API pages on error codes,
throughput, pair rate limits, and the message types.
"""

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, NamedTuple

TOO_FAST, TOO_FAST_FOR_ONE = 130429, 131056
INVALID, MISSING, VALUE, KIND = 100, 131008, 131009, 131051
WINDOW_CLOSED = 131047
NOT_TO_AN_ID = 131062

# code: HTTP status, title
ERRORS: dict[int, tuple[int, str]] = {
    2: (503, "Service temporarily unavailable"),
    4: (429, "Application request limit reached"),
    INVALID: (400, "Invalid parameter"),
    190: (401, "Access token has expired"),
    368: (403, "Temporarily blocked for policies violations"),
    80007: (429, "Rate limit issues"),
    TOO_FAST: (429, "Rate limit hit"),
    131000: (500, "Something went wrong"),
    131005: (403, "Access denied"),
    MISSING: (400, "Required parameter is missing"),
    VALUE: (400, "Parameter value is not valid"),
    131016: (503, "Service unavailable"),
    131026: (400, "Message undeliverable"),
    131031: (403, "Account has been locked"),
    WINDOW_CLOSED: (400, "Re-engagement message"),
    131048: (429, "Spam rate limit hit"),
    KIND: (400, "Unsupported message type"),
    TOO_FAST_FOR_ONE: (429, "(Business Account, Consumer Account) pair rate limit hit"),
    NOT_TO_AN_ID: (400, "Business-scoped user IDs are not supported for this message"),
    132001: (404, "Template name does not exist in the translation"),
}


class Problem(NamedTuple):
    """Why a message is not taken."""

    code: int
    details: str
    subcode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that was taken."""

    wamid: str
    phone_number_id: str
    recipient: str
    body: dict[str, Any]
    at: float  # by the fake's clock


@dataclass(slots=True)
class Meter:
    """Counts what was taken, by Meta's limits.

    With *repay* the sentence about bursts is read strictly: what left within 6 s is one
    burst, and after it nothing passes until 6 s for each of its messages are over.
    """

    number_per_s: int = 80
    pair_interval_s: float = 6.0
    pair_burst: int = 45
    repay: bool = False
    _numbers: dict[str, deque[float]] = field(default_factory=dict)
    _tokens: dict[tuple[str, str], tuple[float, float]] = field(default_factory=dict)
    _bursts: dict[tuple[str, str], tuple[float, int]] = field(default_factory=dict)

    def take(self, number: str, recipient: str, now: float) -> int | None:
        """Count a message at *now*, or return the code of the limit it breaks."""
        second = self._numbers.setdefault(number, deque())
        while second and second[0] <= now - 1.0:
            second.popleft()
        if len(second) >= self.number_per_s:
            return TOO_FAST
        if recipient and not self._take_pair((number, recipient), now):
            return TOO_FAST_FOR_ONE
        second.append(now)
        return None

    def _take_pair(self, pair: tuple[str, str], now: float) -> bool:
        tokens, then = self._tokens.get(pair, (float(self.pair_burst), now))
        tokens = min(self.pair_burst, tokens + (now - then) / self.pair_interval_s)
        began, count = self._bursts.get(pair, (now, 0))
        if now >= began + self.pair_interval_s:
            owed = now < began + count * self.pair_interval_s - 1e-6
            if self.repay and owed:
                return False
            began, count = now, 0
        if tokens < 1.0 - 1e-6:
            return False
        self._tokens[pair] = tokens - 1.0, now
        self._bursts[pair] = began, count + 1
        return True


def problem(body: Any) -> Problem | None:
    """Return what is wrong with a message body; None if Meta would take it."""
    return next(_problems(body), None)


def recipient_of(body: dict[str, Any]) -> str:
    """Return who is meant; a phone wins over a BSUID."""
    return str(body.get("to") or body.get("recipient") or "")


def is_read_mark(body: dict[str, Any]) -> bool:
    """Return whether *body* marks a message as read and sends nothing."""
    return body.get("status") == "read"


def status_body(message: Message, word: str, code: int | None = None) -> dict[str, Any]:
    """Return the webhook body that reports *message* as *word* (failed: with *code*)."""
    by_phone = "to" in message.body
    status: dict[str, Any] = {
        "id": message.wamid,
        "status": word,
        "timestamp": str(int(time.time())),
        "recipient_id" if by_phone else "recipient_user_id": message.recipient,
    }
    if callback := message.body.get("biz_opaque_callback_data"):
        status["biz_opaque_callback_data"] = callback
    if code is not None:
        title = ERRORS.get(code, (400, "Unknown error"))[1]
        status["errors"] = [{"code": code, "title": title}]
    value = {
        "messaging_product": "whatsapp",
        "metadata": {
            "display_phone_number": "5491100000000",
            "phone_number_id": message.phone_number_id,
        },
        "statuses": [status],
    }
    change = {"field": "messages", "value": value}
    entry = {"id": "200000000000001", "changes": [change]}
    return {"object": "whatsapp_business_account", "entry": [entry]}


def _problems(body: Any) -> Iterator[Problem]:
    if not isinstance(body, dict):
        yield Problem(INVALID, "The body is no JSON object")
        return
    if body.get("messaging_product") != "whatsapp":
        yield Problem(INVALID, "Param messaging_product must be one of {WHATSAPP}")
    if is_read_mark(body):
        if not _words(body.get("message_id")):
            yield Problem(MISSING, "message_id")
        return
    yield from _addressed(body)
    yield from _of_kind(body)
    callback = body.get("biz_opaque_callback_data", "")
    if not isinstance(callback, str) or len(callback.encode()) > 512:  # noqa: PLR2004
        yield Problem(INVALID, "biz_opaque_callback_data")


def _addressed(body: dict[str, Any]) -> Iterator[Problem]:
    if body.get("recipient_type", "individual") not in {"individual", "group"}:
        yield Problem(INVALID, "recipient_type must be individual or group")
    to, recipient = body.get("to"), body.get("recipient")
    if not _words(to) and not _words(recipient):
        yield Problem(MISSING, "The parameter to is required")
    # Meta takes a BSUID in `to` and drops it. A fake had better say so.
    if _words(to) and not str(to).removeprefix("+").isdigit():
        yield Problem(INVALID, "to is no phone number")
    if _words(recipient) and not _words(to) and "." not in str(recipient):
        yield Problem(INVALID, "recipient is no user id")
    context = body.get("context")
    if context is not None and not _words(_of(context, "message_id")):
        yield Problem(INVALID, "context has no message_id")


def _of_kind(body: dict[str, Any]) -> Iterator[Problem]:
    kind = body.get("type", "text")
    if kind not in _KINDS:
        yield Problem(KIND, "type")
        return
    content = body.get(kind)
    if not isinstance(content, dict):
        yield Problem(MISSING, f"The parameter {kind} is required")
        return
    yield from _KINDS[kind](content)


def _text(content: dict[str, Any]) -> Iterator[Problem]:
    said = content.get("body")
    if not _words(said):
        yield Problem(MISSING, "The parameter text['body'] is required")
    elif _length(str(said)) > 4096:  # noqa: PLR2004 -- the rules are numbers
        yield Problem(INVALID, "text['body'] must be at most 4096 characters long")


def _media(content: dict[str, Any]) -> Iterator[Problem]:
    if not _words(content.get("link")) and not _words(content.get("id")):
        yield Problem(MISSING, "id or link")
    yield from _limit("Caption", content.get("caption", ""), 1024, least=0)


def _reaction(content: dict[str, Any]) -> Iterator[Problem]:
    if not _words(content.get("message_id")) or "emoji" not in content:
        yield Problem(MISSING, "message_id, emoji")


def _template(content: dict[str, Any]) -> Iterator[Problem]:
    language = content.get("language")
    if not _words(content.get("name")) or not _words(_of(language, "code")):
        yield Problem(MISSING, "name, language")


def _interactive(content: dict[str, Any]) -> Iterator[Problem]:
    yield from _limit("Body", _of(content.get("body"), "text"), 1024)
    for part in ("header", "footer"):
        if part in content:
            yield from _limit(part.title(), _of(content[part], "text"), 60)
    action = content.get("action")
    kinds = {"list": _list, "button": _buttons}
    check = kinds.get(str(content.get("type")))
    if check is None or not isinstance(action, dict):
        yield Problem(INVALID, "interactive['type'] or its action")
        return
    yield from check(action)


def _list(action: dict[str, Any]) -> Iterator[Problem]:
    sections = _objects(action.get("sections"))
    rows = list(chain.from_iterable(_objects(each.get("rows")) for each in sections))
    yield from _limit("Button label", action.get("button"), 20)
    yield from _count("Total row count", len(rows), 10)
    for section in sections:
        yield from _count("Rows of a section", len(_objects(section.get("rows"))), 10)
        least = 1 if len(sections) > 1 else 0
        yield from _limit("Section title", section.get("title", ""), 24, least=least)
    for row in rows:
        yield from _limit("Row id", row.get("id"), 200)
        yield from _limit("Row title", row.get("title"), 24)
        yield from _limit("Row description", row.get("description", ""), 72, least=0)
    yield from _distinct([row.get("id") for row in rows])


def _buttons(action: dict[str, Any]) -> Iterator[Problem]:
    replies = [each.get("reply") for each in _objects(action.get("buttons"))]
    yield from _count("Buttons", len(replies), 3)
    for reply in replies:
        yield from _limit("Button id", _of(reply, "id"), 256)
        yield from _limit("Button title", _of(reply, "title"), 20)
    yield from _distinct([_of(reply, "id") for reply in replies])


_KINDS = {
    "text": _text,
    "image": _media,
    "audio": _media,
    "video": _media,
    "document": _media,
    "sticker": _media,
    "reaction": _reaction,
    "template": _template,
    "interactive": _interactive,
}


def _limit(what: str, value: Any, most: int, *, least: int = 1) -> Iterator[Problem]:
    if not isinstance(value, str) or not least <= _length(value) <= most:
        yield Problem(
            VALUE, f"{what} length invalid. Min length: {least}, Max length: {most}"
        )


def _count(what: str, count: int, most: int) -> Iterator[Problem]:
    if not 1 <= count <= most:
        yield Problem(VALUE, f"{what} exceed max allowed count: {most}")


def _distinct(ids: list[Any]) -> Iterator[Problem]:
    if len(set(map(str, ids))) < len(ids):
        yield Problem(VALUE, "Duplicated id")


def _length(value: str) -> int:
    # The strictest way to count that is likely.
    return len(value.encode("utf-16-le", "surrogatepass")) // 2


def _words(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _of(value: Any, member: str) -> Any:
    return value.get(member) if isinstance(value, dict) else None


def _objects(value: Any) -> list[dict[str, Any]]:
    found = value if isinstance(value, list) else []
    return [each for each in found if isinstance(each, dict)]
