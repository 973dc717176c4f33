"""What stands in `metadata`: of a message, of a reply, and of where a conversation came from.

`psi-router explain` reads it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson

from router.conversation.decide import Decision
from router.conversation.state import Conversation as State
from router.model import Delivery
from router.store.batch import Said, Written
from router.whatsapp.storable import json_text

MS = timedelta(milliseconds=1)


def of_message(new: Written, delivery: int) -> str:
    """Return it as JSON, *delivery* being the number of the body.

    `kind`, `delivery`, `normalized_ms` (from the receipt of the body until it was read),
    `decision` of what a person wrote, and `item`: the message as received.
    """
    kind = orjson.dumps(new.event.kind).decode()
    read = _read(new.delivery)
    why = "" if new.decision is None else f'"decision":{_why(new, new.decision)},'
    item = json_text(new.event.item)
    return f'{{"kind":{kind},"delivery":{delivery},{read}{why}"item":{item}}}'


def _read(delivery: Delivery) -> str:
    at: datetime | None = delivery.normalized_at
    if at is None:
        return ""
    return f'"normalized_ms":{(at - delivery.received_at) / MS:.3f},'


def _why(new: Written, decision: Decision) -> str:
    # What the bot made of the message, and from which state to which.
    if decision.heard is None:
        return f'{{"silence":"{decision.silence}"}}'
    found = {
        "heard": decision.heard,
        "silence": decision.silence,
        "before": _state(new.before),
        "after": _state(decision.conversation),
    }
    return json_text(found)


def _state(it: State) -> dict[str, str | None]:
    return {
        "area": it.area,
        "estado": it.estado,
        "router_estado": it.router_estado,
        "submenu_actual": it.submenu_actual,
    }


def of_reply(said: Said) -> str:
    """Return it as JSON: which message is answered."""
    return orjson.dumps({"kind": "reply", "answers": said.new.wamid}).decode()


def attribution(referral: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands in conversaciones.metadata of where a person came from.

    `referral` as received, where an advertisement led here; `utm_*` of its URL, or of the
    body. Meta's names throughout.
    """
    found: dict[str, Any] = {}
    if any(not name.startswith("utm_") for name in referral):
        found["referral"] = dict(referral)
    query = parse_qsl(_query(referral.get("source_url")))
    found |= {name: value for name, value in query if name.startswith("utm_")}
    own = {name: value for name, value in referral.items() if name.startswith("utm_")}
    return found | own


def _query(url: object) -> str:
    try:
        return urlsplit(url).query if isinstance(url, str) else ""
    except ValueError:
        return ""
