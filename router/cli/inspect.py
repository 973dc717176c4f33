"""`psi-router inspect FILE…`: what webhook bodies report, without any server."""

import argparse
import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from router.model import Door, Event
from router.whatsapp.events import read


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--door",
        choices=[door.value for door in Door],
        default=Door.META.value,
        help="who posted: Meta, or somebody with the shared secret (default: meta)",
    )
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="a body as it was posted; - is stdin"
    )


def run(args: argparse.Namespace) -> int:
    """Print one line of JSON for each event; 2 where a file cannot be read."""
    status = 0
    try:
        for name in args.files:
            try:
                body = _body(name)
            except OSError as exc:
                sys.stderr.write(f"psi-router: {name!a}: {exc.strerror}\n")
                status = 2
                continue
            _print(name, read(body, Door(args.door)))
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _body(name: str) -> bytes:
    return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()


def _print(name: str, events: Iterable[Event]) -> None:
    # ASCII: no alphabet of a terminal refuses it, and no text of a message breaks a line.
    sys.stdout.writelines(
        json.dumps({"file": name, **_line(event)}) + "\n" for event in events
    )


def _line(event: Event) -> dict[str, Any]:
    person = event.person
    line = {
        "kind": event.kind,
        "id": event.id,
        "key": event.key,
        "from": event.sender,
        "timestamp": event.timestamp and event.timestamp.isoformat(),
        "scope": event.scope,
        "phone_number_id": event.phone_number_id,
        "group_id": event.group_id,
        "wa_id": person.wa_id,
        "user_id": person.bsuid,
        "parent_user_id": person.parent_bsuid,
        "username": person.username,
        "name": person.name,
    }
    return line | _content(event) | _status(event)


def _content(event: Event) -> dict[str, Any]:
    content = event.content
    if content is None:
        return {}
    media = content.media
    return {
        "tipo": content.tipo,
        "text": content.text,
        "said": content.said,
        "choice": content.choice,
        "quoted_id": content.quoted_id,
        "media": media
        and {
            "type": media.type,
            "id": media.id,
            "mime_type": media.mime_type,
            "filename": media.filename,
            "url": media.url,
        },
    }


def _status(event: Event) -> dict[str, Any]:
    status = event.status
    if status is None:
        return {}
    return {
        "status": status.status,
        "type": status.type,
        "participant": status.participant,
        "error": status.error,
    }
