"""Every body of the corpus gives the events that its index promises."""

import csv
from collections import Counter
from pathlib import Path

import pytest

from router.errors import Refused
from router.model import Door
from router.whatsapp.events import read
from router.whatsapp.signature import sign, verify

CORPUS = Path(__file__).parent / "corpus"
SECRET = b"corpus-app-secret"


def table(name: str) -> list[dict[str, str]]:
    with (CORPUS / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


INDEX = table("INDEX.tsv")
SIGNATURES = table("SIGNATURES.tsv")


def body(row: dict[str, str]) -> bytes:
    return (CORPUS / row["file"]).read_bytes()


def kinds_of(row: dict[str, str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for kind in filter(None, row["kinds"].split(",")):
        name, _, count = kind.partition("*")
        counts[name] += int(count or 1)
    return counts


def name_of(row: dict[str, str]) -> str:
    return row["file"]


@pytest.mark.parametrize("row", INDEX, ids=name_of)
def test_a_body_gives_the_kinds_of_the_index(row: dict[str, str]) -> None:
    assert Counter(event.kind for event in read(body(row), Door.META)) == kinds_of(row)


@pytest.mark.parametrize("row", INDEX, ids=name_of)
def test_a_body_gives_as_many_messages_statuses_and_others_as_the_index_counts(
    row: dict[str, str],
) -> None:
    kinds = [event.kind for event in read(body(row), Door.META)]
    messages = sum(kind.startswith("message.") for kind in kinds)
    statuses = sum(kind.startswith("status.") for kind in kinds)
    malformed = kinds.count("rejected.malformed")
    others = len(kinds) - messages - statuses - malformed
    expected = (row["inbound_messages"], row["statuses"], row["other_events"])
    assert (str(messages), str(statuses), str(others)) == expected


@pytest.mark.parametrize("row", INDEX, ids=name_of)
def test_a_body_read_again_gives_the_same_keys(row: dict[str, str]) -> None:
    again = [event.key for event in read(body(row), Door.META)]
    assert [event.key for event in read(body(row), Door.META)] == again
    assert all(again)


@pytest.mark.parametrize("row", SIGNATURES, ids=name_of)
def test_a_body_has_the_signature_of_the_list(row: dict[str, str]) -> None:
    header = row["x_hub_signature_256 (app secret: corpus-app-secret)"]
    assert sign(body(row), SECRET) == header
    assert verify(body(row), [header], [b"another", SECRET]) == 1
    with pytest.raises(Refused):
        verify(body(row) + b" ", [header], [SECRET])


def test_every_body_is_in_both_lists() -> None:
    files = {path.name for path in CORPUS.glob("*.json")}
    assert {row["file"] for row in INDEX} == files
    assert {row["file"] for row in SIGNATURES} == files
