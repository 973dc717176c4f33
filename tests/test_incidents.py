"""docs/incidents.md: every incident once, and each promise shown by tests that exist."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
TABLE = ROOT / "docs/incidents.md"
STATEMENTS = ROOT / "router/store/sql"
INCIDENTS = range(1, 73)

OUT_OF_SCOPE = re.compile(r"out of scope: \w+ .+")
TEST = re.compile(r"`([\w/]+\.py)::(test_\w+)`")
CHANGE = re.compile(r"(?<!do )(?<!key )(?<!for )\b(?:update [\w.]+|delete from [\w.]+)")


class Incident(NamedTuple):
    number: int
    what: str
    promise: str
    tests: list[tuple[str, str]]
    rest: str  # of the last cell


def incidents(text: str) -> list[Incident]:
    """Return the rows of every table in *text* whose first cell is a number."""
    lines = [line for line in text.splitlines() if re.match(r"\| *\d+ *\|", line)]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert all(len(row) == 4 for row in cells), "a row has four cells"
    return [
        Incident(
            int(number),
            what,
            promise,
            TEST.findall(tests),
            TEST.sub("", tests).strip(" ,"),
        )
        for number, what, promise, tests in cells
    ]


ROWS = incidents(TABLE.read_text("utf-8"))


@cache
def names_in(file: str) -> frozenset[str]:
    """Return the names of the tests that *file* defines, read without importing it."""
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    names = [node.name for node in ast.walk(tree) if isinstance(node, functions)]
    return frozenset(name for name in names if name.startswith("test_"))


def test_each_of_the_72_incidents_has_one_row_in_order() -> None:
    assert [row.number for row in ROWS] == list(INCIDENTS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_every_incident_has_a_test_or_a_reason(row: Incident) -> None:
    assert row.what
    assert row.promise
    assert not row.rest, "the last cell holds tests and nothing else"
    assert bool(row.tests) is not bool(OUT_OF_SCOPE.match(row.promise))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.number))
def test_every_test_that_is_named_exists(row: Incident) -> None:
    for file, name in row.tests:
        assert (TESTS / file).is_file(), file
        assert name in names_in(file), f"{file}::{name}"


def test_a_row_that_lacks_a_cell_is_refused() -> None:
    with pytest.raises(AssertionError):
        incidents("| 1 | lost | kept |")


def test_no_statement_of_ours_changes_rows_without_saying_which() -> None:
    changes = 0
    for file in STATEMENTS.glob("*.sql"):
        text = re.sub(r"--.*", "", file.read_text("utf-8"))
        for change in CHANGE.finditer(text):
            changes += 1
            assert re.search(r"\bwhere\b", _rest_of(text[change.start() :])), (
                f"{file.name}: {change[0]}"
            )
    assert changes >= 10


def _rest_of(text: str) -> str:
    """Return a statement up to its end, without what stands in its parentheses."""
    depth, kept = 0, []
    for character in text:
        if character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
        elif depth == 0:
            kept.append(character)
        if depth < 0 or (depth == 0 and character == ";"):
            break
    return "".join(kept)


@pytest.mark.parametrize(
    ("statement", "is_bounded"),
    [
        ("update a set b = 1 where c = 2", True),
        ("update a set b = (select c from d where e)", False),
        ("update a set b = 1), x as (select 1 where true", False),
        ("update a set b = 1; select 1 where true", False),
    ],
)
def test_only_a_condition_of_the_statement_itself_counts(
    statement: str, *, is_bounded: bool
) -> None:
    assert bool(re.search(r"\bwhere\b", _rest_of(statement))) is is_bounded
