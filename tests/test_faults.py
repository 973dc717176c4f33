"""docs/faults.md: each fault once, in order, shown by tests that exist; long ones say so."""

import ast
from functools import cache
from typing import NamedTuple

import pytest

from tests.test_incidents import ROOT, TEST, TESTS, names_in

PROMISED = {4, 5, 6, 7, *range(10, 22), 44, 46, 47, 48}
LONG = "*long*"


class Fault(NamedTuple):
    number: int
    what: str
    tests: list[tuple[str, str]]
    rest: str  # of the last cell


def faults(text: str) -> list[Fault]:
    """Return the rows of every table whose first cell is F and a number."""
    rows = [
        line.strip("|").split("|") for line in text.splitlines() if line[:3] == "| F"
    ]
    assert all(len(row) == 3 for row in rows), "a row has three cells"
    return [
        Fault(
            int(number.strip()[1:]),
            what.strip(),
            TEST.findall(tests),
            TEST.sub("", tests).strip(" ,"),
        )
        for number, what, tests in rows
    ]


ROWS = faults((ROOT / "docs/faults.md").read_text("utf-8"))


@cache
def long_ones(file: str) -> frozenset[str]:
    """Return the tests of *file* that are marked slow, read without importing it."""
    tree = ast.parse((TESTS / file).read_text("utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)
        and any("mark.slow" in ast.unparse(mark) for mark in node.decorator_list)
    )


def test_each_fault_has_one_row_in_order_and_none_that_was_promised_is_missing() -> (
    None
):
    numbers = [row.number for row in ROWS]
    assert numbers == sorted(set(numbers))
    assert set(numbers) >= PROMISED


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"F{row.number}")
def test_every_test_that_is_named_exists(row: Fault) -> None:
    assert row.what
    assert row.tests
    assert not row.rest, "the last cell holds tests and nothing else"
    for file, name in row.tests:
        assert name in names_in(file), f"{file}::{name}"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"F{row.number}")
def test_what_is_long_says_so_and_something_of_it_is_quick(row: Fault) -> None:
    long = [name in long_ones(file) for file, name in row.tests]
    assert any(long) is (LONG in row.what)
    assert not all(long)


def test_a_row_that_lacks_a_cell_is_refused() -> None:
    with pytest.raises(AssertionError):
        faults("| F1 | killed |")
