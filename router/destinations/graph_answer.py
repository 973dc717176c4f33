"""What is known of an answer of the Graph API, and what it says about the message: pure."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from router.destinations.graph_errors import Action, action_of
from router.destinations.graph_policy import GraphAttempt, Outcome

ANSWER_CHARS = 500  # kept of an answer that is no Graph error


@dataclass(slots=True)
class Answer:
    """What came of one request, filled in as it comes.

    `connected` is set when a connection is in hand: from then on the message may arrive.
    """

    connected: bool = False
    status: int | None = None
    retry_after_s: float | None = None
    body: bytearray = field(default_factory=bytearray)
    error: str | None = None  # what broke it off

    def attempt(self, latency_ms: int) -> GraphAttempt:
        """Return what it comes to; the text of an answer that was taken is not kept."""
        said = object_in(bytes(self.body))
        error = said.get("error")
        code, subcode, title = _error(error) if isinstance(error, dict) else _NO_ERROR
        action = self._action(code, subcode)
        outcome, wamid = self._outcome(said, action)
        return GraphAttempt(
            status=self.status,
            latency_ms=latency_ms,
            answer=self._kept(outcome, code, title),
            error=self._words(outcome, action),
            retry_after_s=self.retry_after_s,
            outcome=outcome,
            action=action,
            wamid=wamid,
            code=code,
            subcode=subcode,
            title=title,
        )

    def _action(self, code: int | None, subcode: int | None) -> Action:
        if self.status is None:
            return Action.UNKNOWN
        return action_of(self.status, code, subcode)

    def _outcome(self, said: dict[str, Any], action: Action) -> tuple[Outcome, str]:
        if self.status is None and not self.connected:
            return Outcome.NOT_SENT, ""
        if action is Action.UNKNOWN:
            return Outcome.UNKNOWN, ""
        if action is not Action.ACCEPTED:
            return Outcome.REJECTED, ""
        wamid = _wamid(said)
        # 200 without the word of Graph: a portal or a proxy may have said it.
        taken = wamid or said.get("success") is True
        return (Outcome.SENT if taken else Outcome.UNKNOWN), wamid

    def _words(self, outcome: Outcome, action: Action) -> str | None:
        if outcome is Outcome.SENT:
            return None  # what broke off after the wamid is nobody's loss
        if outcome is Outcome.UNKNOWN and self.status is None:
            return f"{self.error or 'no answer'} after the request was written"
        if outcome is Outcome.UNKNOWN and action is Action.ACCEPTED:
            return self.error or "an answer without a message id"
        return self.error

    def _kept(self, outcome: Outcome, code: int | None, title: str) -> str | None:
        # An answer that was taken names the person's number twice; the wamid is enough.
        if outcome is Outcome.SENT:
            return None
        if code is not None:
            return f"{code}: {title}"[:ANSWER_CHARS]
        text = bytes(self.body[: 4 * ANSWER_CHARS]).decode("utf-8", "replace")
        return text[:ANSWER_CHARS].replace("\0", "\ufffd") or None


_NO_ERROR: tuple[int | None, int | None, str] = None, None, ""


def _error(error: dict[str, Any]) -> tuple[int | None, int | None, str]:
    # Some answers have the code as text (reference: errors of groups).
    message = error.get("error_user_title") or error.get("message")
    title = message if isinstance(message, str) else ""
    return _int(error.get("code")), _int(error.get("error_subcode")), title


def _int(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:9])
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def object_in(body: bytes) -> dict[str, Any]:
    """Return the JSON object of an answer; an empty one where it is none."""
    try:
        said = orjson.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _wamid(said: dict[str, Any]) -> str:
    messages = said.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else None
    wamid = first.get("id") if isinstance(first, dict) else None
    return wamid if isinstance(wamid, str) else ""
