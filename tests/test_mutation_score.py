"""The score that `make mutants` asks for."""

import configparser
from pathlib import Path

import pytest

from tests.mutation_score import LEAST, verdict

STATS = dict.fromkeys(
    ("killed", "survived", "no_tests", "skipped", "suspicious", "timeout", "segfault"),
    0,
)


@pytest.mark.parametrize(
    ("found", "is_enough"),
    [
        ({"killed": 85, "survived": 15, "total": 100}, True),
        ({"killed": 84, "survived": 16, "total": 100}, False),
        ({"killed": 80, "timeout": 4, "segfault": 1, "total": 100}, True),
        ({"killed": 84, "no_tests": 16, "total": 100}, False),
        ({"killed": 85, "skipped": 100, "total": 200}, True),
        ({"total": 0}, False),
    ],
)
def test_too_few_killed_mutants_are_no_success(
    found: dict[str, int], *, is_enough: bool
) -> None:
    assert verdict(STATS | found)[0] is is_enough


def test_the_decision_names_the_score_that_is_asked_for() -> None:
    root = Path(__file__).parents[1]
    paper = root / "docs/decisions/0015-mutants.md"
    assert f"at least {LEAST:.0%}" in paper.read_text()


def test_every_test_of_the_conversation_is_there() -> None:
    parser = configparser.ConfigParser()
    parser.read(Path(__file__).parents[1] / "setup.cfg")
    for name in parser["mutmut"]["pytest_add_cli_args_test_selection"].split():
        assert Path(__file__).parents[1].joinpath(name).exists(), name
