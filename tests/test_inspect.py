"""`psi-router inspect` shows what bodies report, and nothing in them stops it."""

import io
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from router.cli import main

CORPUS = Path(__file__).parent / "corpus"


def inspect(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> list[dict[str, Any]]:
    assert main(["inspect", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.split("\n")[:-1]]


def posted(path: Path, value: Any) -> str:
    path.write_bytes(json.dumps(value).encode())
    return str(path)


def test_each_event_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    name = str(CORPUS / "batch_mixed.json")
    lines = inspect(capsys, name)
    assert len(lines) == 6
    assert {line["file"] for line in lines} == {name}
    first = lines[0]
    assert first["kind"] == "message.text"
    assert first["id"] == first["key"]
    assert (first["from"], first["text"], first["tipo"]) == (
        "447700900123",
        "first",
        "text",
    )
    assert datetime.fromisoformat(first["timestamp"]).utcoffset() is not None
    assert lines[2]["status"] == "sent"
    assert lines[2]["from"] is None


def test_a_body_that_is_no_json_is_a_line_and_no_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (line,) = inspect(capsys, str(CORPUS / "bad_gzip.json"))
    assert (line["kind"], line["from"], line["timestamp"]) == (
        "rejected.malformed",
        None,
        None,
    )
    assert line["key"].startswith("sha256:")


def test_the_whole_corpus_is_ascii_and_one_line_an_event(
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = sorted(map(str, CORPUS.glob("*.json")))
    assert main(["inspect", *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "".join(lines).isascii()
    assert {json.loads(line)["file"] for line in lines} < set(files)


def test_hostile_members_are_printed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    hostile = {
        "id": "\ud83d\0\u2028",
        "from": 2**70,
        "type": "text",
        "text": {"body": 0},
    }
    value = {"messages": [hostile], "metadata": {"phone_number_id": 10**3999}}
    entry = {"id": 10**50, "changes": [{"field": "messages", "value": value}]}
    (line,) = inspect(capsys, posted(tmp_path / "body", {"entry": [entry]}))
    assert (line["id"], line["from"]) == ("\ud83d\0\u2028", str(2**70))


def test_the_door_decides_about_wrappings(capsys: pytest.CaptureFixture[str]) -> None:
    name = str(CORPUS / "nasty_top_level_array.json")
    assert [line["kind"] for line in inspect(capsys, name)] == ["raw.unrecognised"]
    lines = inspect(capsys, "--door", "secret", name)
    assert [line["kind"] for line in lines] == ["message.text"]


def test_a_dash_is_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    body = (CORPUS / "dup_delivery_a.json").read_bytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(body)))
    (line,) = inspect(capsys, "-")
    assert (line["file"], line["text"]) == ("-", "only once please")


def test_a_file_that_is_missing_is_named_and_the_others_are_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = str(tmp_path / "missing.json")
    there = str(CORPUS / "dup_delivery_a.json")
    assert main(["inspect", missing, str(tmp_path), there]) == 2
    printed = capsys.readouterr()
    assert json.loads(printed.out)["file"] == there
    assert "missing.json" in printed.err
    assert len(printed.err.splitlines()) == 2


def test_it_needs_no_server_and_loads_none() -> None:
    program = (
        "import sys, router.cli.inspect;"
        "print(sorted({'aiohttp', 'asyncio', 'asyncpg', 'aiojobs'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_whoever_stops_listening_is_no_failure() -> None:
    program = (
        "import sys; from router.cli import main;"
        f"sys.exit(main(['inspect', *[{str(CORPUS / 'batch_1000_statuses.json')!r}] * 3]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait() == 0
