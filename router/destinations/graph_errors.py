"""What an error of the Graph API means for the message: a table, and a total function.

Meta asks to go by `code`, never by the title or the subcode ("Error codes" of the Cloud API,
developers.facebook.com/documentation/business-messaging/whatsapp/support/error-codes, as of
15 May 2026). What any Graph API may say of too many calls is in "Rate limits"
(developers.facebook.com/docs/graph-api/overview/rate-limiting). A code that is not here goes
by its HTTP status, as contract 7 has it: 429 later, another 4xx once, 5xx nobody knows.
"""

import enum
from collections.abc import Iterable, Mapping
from types import MappingProxyType

_OK, _REDIRECT, _REFUSED, _LIMITED, _FAILED = 200, 300, 400, 429, 500


class Action(enum.StrEnum):
    """What follows for the message; `router.destinations.graph_policy` carries it out."""

    ACCEPTED = "accepted"
    RETRY_LATER = (
        "rate limit"  # not taken, for being too many; no failure of the message
    )
    TRY_AGAIN = (
        "unavailable"  # not taken, by a service that says that it is out of order
    )
    PERMANENT = "refused"  # not taken, and never will be
    WINDOW_CLOSED = "window closed"  # more than 24 h after the person's last message
    NO_WHATSAPP = "not reachable"  # this recipient cannot be reached by this message
    AUTH = "not authorised"  # token or permission: somebody has to repair it
    BLOCKED = "blocked"  # the account or the number, by Meta
    UNKNOWN = "unknown"  # it may have been taken: never send it again


class Scope(enum.StrEnum):
    """How much has to slow down after a RETRY_LATER."""

    PAIR = "pair"  # this number to this recipient
    NUMBER = "number"


def _table(*groups: tuple[Action, Iterable[int]]) -> Mapping[int, Action]:
    return MappingProxyType(
        {code: action for action, codes in groups for code in codes}
    )


ACTIONS = _table(
    (
        Action.RETRY_LATER,
        (
            4,  # calls of the app
            17,  # calls of the token's user
            613,  # calls, by a limit of one endpoint
            80007,  # calls of the WhatsApp Business account
            130429,  # throughput of the number
            131048,  # too many of the number's messages were blocked or reported
            131056,  # the same recipient, too fast
            133016,  # registrations of the number
        ),
    ),
    (
        Action.TRY_AGAIN,
        (
            2,  # the API is down or overloaded
            131016,  # a service is temporarily unavailable
            131057,  # the account is in maintenance, during an upgrade of its throughput
            133004,  # the server is temporarily unavailable
        ),
    ),
    (
        Action.UNKNOWN,
        (131000,),  # "something went wrong": where, Meta does not say
    ),
    (
        Action.WINDOW_CLOSED,
        (131047,),  # re-engagement: a template would be allowed
    ),
    (
        Action.NO_WHATSAPP,
        (
            130472,  # the person is part of an experiment: no marketing
            131021,  # the recipient is the sender
            131026,  # no WhatsApp, an old one, or its terms not accepted
            131030,  # a test number, and the recipient not on its list
            131049,  # Meta chose not to deliver it
            131050,  # the person stopped marketing messages
            131062,  # this kind of message cannot go to a BSUID
        ),
    ),
    (
        Action.AUTH,
        (
            0,  # the app's user cannot be authenticated
            3,  # capability or permission
            10,  # permission denied
            102,  # session
            190,  # the token has expired
            *range(200, 300),  # a permission is missing or was removed
            131005,  # access denied
        ),
    ),
    (
        Action.BLOCKED,
        (
            368,  # policy violations
            130497,  # not allowed to write to people of that country
            131031,  # the account is locked
            131037,  # the number's display name is not approved
            131042,  # payment
            131045,  # the number's certificate
            133010,  # the number is not registered
            134011,  # terms of payments not accepted
        ),
    ),
    (
        Action.PERMANENT,
        (
            33,  # the number was deleted
            100,  # an invalid parameter
            130501,  # kind of message not supported
            131008,  # a parameter is missing
            131009,  # a parameter's value, such as a row too many
            131051,  # kind of message not supported
            131052,  # media cannot be downloaded
            131053,  # media cannot be uploaded
            131055,  # method not allowed
            131060,  # this message is unavailable
            132000,  # template: number of parameters
            132001,  # template: does not exist in that language
            132005,  # template: text too long
            132007,  # template: policy
            132012,  # template: format of a parameter
            132015,  # template: paused
            132016,  # template: disabled
            132018,  # template: a parameter
            132068,  # flow: blocked
            132069,  # flow: throttled, and the flow's own matter
            133000,  # deregistration incomplete
            133005,  # pin
            133006,  # the number must be verified
            133008,  # pin, too often
            133009,  # pin, too fast
            133015,  # deleted just now
            135000,  # something about the parameters
        ),
    ),
)
_SCOPES = {131056: Scope.PAIR}
# At least so long; Meta names no time, except that calls are counted by the hour.
_PAUSES_S = {4: 60.0, 17: 60.0, 613: 60.0, 80007: 60.0, 131048: 900.0, 133016: 3600.0}


def action_of(status: int, code: int | None, subcode: int | None = None) -> Action:
    """Return what an answer means: its HTTP *status*, and the error in its body if any.

    *subcode* decides nothing: Graph stopped sending it with v16, and a proxy may still do.
    An answer of 2xx that carries an error, or one outside 2xx to 5xx, says nothing sure.
    """
    del subcode
    if status < _OK or status > _FAILED + 99:
        return Action.UNKNOWN
    if status < _REDIRECT:
        return Action.ACCEPTED if code is None else Action.UNKNOWN
    if code is not None and code in ACTIONS:
        return ACTIONS[code]
    return _by_status(status)


def scope_of(code: int | None) -> Scope:
    """Return what has to slow down after the rate limit *code*."""
    return _SCOPES.get(code or 0, Scope.NUMBER)


def pause_s(code: int | None) -> float:
    """Return how long to wait at least after the rate limit *code*; 0: as the governor says."""
    return _PAUSES_S.get(code or 0, 0.0)


def _by_status(status: int) -> Action:
    if status >= _FAILED:
        return Action.UNKNOWN
    return Action.RETRY_LATER if status == _LIMITED else Action.PERMANENT
