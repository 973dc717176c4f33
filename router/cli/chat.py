"""`psi-router chat`: talk to the menu of a running `psi-router dev`, in the terminal.

One line of standard input is one message, sent as a signed webhook; the answers are printed as
they would reach the phone. Each message waits for its answers before the next one is sent.
"""

import argparse
import http.client
import json
import sys
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from yarl import URL

from router.errors import Unavailable

URL_OF_DEV = "http://127.0.0.1:3002"
WAIT_S = 10.0
MARGIN_S = 20.0  # beyond that wait: for the webhook's own answer
PROMPT = "vos> "

Json = dict[str, Any]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("--url", type=_url, default=URL(URL_OF_DEV), help=f"default {URL_OF_DEV}")
    add(
        "--as",
        dest="phone",
        type=_phone,
        metavar="PHONE",
        help="who talks, in digits (default: somebody new)",
    )
    add(
        "--wait",
        type=_seconds,
        default=WAIT_S,
        help="seconds that an answer may take (default %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Talk until the input ends; 1 when an answer did not come in time."""
    room = _Room(args.url, args.wait)
    asked = {"phone": args.phone} if args.phone else {}
    phone = room.ask("/chat/people", asked)["phone"]
    sys.stderr.write(f"Hablás como {phone}. Ctrl-D para terminar.\n")
    missing = 0
    for words in _lines():
        said = {"phone": phone, "text": words, "wait_s": args.wait}
        answer = room.ask("/chat/say", said)
        missing += answer["missing"]
        sys.stdout.write(_shown(answer))
        sys.stdout.flush()
    return 1 if missing else 0


def _lines() -> Iterator[str]:
    at_terminal = sys.stdin.isatty()
    try:
        while True:
            line = input(PROMPT) if at_terminal else next(sys.stdin)
            if line.strip():
                yield line.rstrip("\n")
    except (EOFError, StopIteration, KeyboardInterrupt):
        if at_terminal:
            sys.stdout.write("\n")


def _shown(answer: Json) -> str:
    blocks = [_reply(line) for line in answer["replies"]]
    if answer["missing"]:
        blocks.append(f"({answer['missing']} sin salir a tiempo)\n")
    return "\n".join(blocks or ["(sin respuesta automática)\n"]) + "\n"


def _reply(line: Json) -> str:
    choices = line["choices"] or {"rows": []}
    rows = [_row(row, choices["kind"]) for row in choices["rows"]]
    text = "\n".join([*str(line["text"]).splitlines(), *rows])
    return "Router PSI:\n" + "".join(f"  {x}".rstrip() + "\n" for x in text.split("\n"))


def _row(row: Json, kind: str) -> str:
    more = f" - {row['description']}" if row.get("description") else ""
    # A button's id need not be anything that can be typed; a list's row is a menu's code.
    return f"[{row['title']}]" if kind == "button_reply" else _coded(row, more)


def _coded(row: Json, more: str) -> str:
    return f"{row['id']:>6}  {row['title']}{more}"


class _Room:
    """The chat room of a `psi-router dev`."""

    def __init__(self, url: URL, wait_s: float) -> None:
        self._url = url
        self._connection = http.client.HTTPConnection(
            url.host or "", url.port, timeout=wait_s + MARGIN_S
        )

    def ask(self, path: str, body: Json) -> Json:
        """Post *body* and return the answer's JSON; Unavailable where there is none."""
        try:
            self._connection.request(
                "POST", path, json.dumps(body), {"Content-Type": "application/json"}
            )
            response = self._connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as exc:
            self._connection.close()
            raise Unavailable(f"no answer from {self._url}: {_why(exc)}") from exc
        if response.status == HTTPStatus.NOT_FOUND:
            raise Unavailable(f"what runs at {self._url} is no `psi-router dev`")
        answer: Json = json.loads(raw)
        if response.status != HTTPStatus.OK:
            raise Unavailable(str(answer["error"]["message"]))
        return answer


def _why(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or type(exc).__name__


def _url(raw: str) -> URL:
    url = URL(raw)
    if url.scheme != "http" or not url.host:
        raise argparse.ArgumentTypeError("must begin with http:// and name a host")
    return url


def _phone(raw: str) -> str:
    digits = raw.removeprefix("+")
    if not (digits.isascii() and digits.isdigit() and 8 <= len(digits) <= 15):  # noqa: PLR2004 -- E.164
        raise argparse.ArgumentTypeError("must be 8 to 15 digits")
    return digits


def _seconds(raw: str) -> float:
    if not 0 < (value := float(raw)) <= 60:  # noqa: PLR2004 -- the room waits no longer
        raise argparse.ArgumentTypeError("must be more than 0 and at most 60")
    return value
