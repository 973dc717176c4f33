"""Whatever was received can be stored: nothing that PostgreSQL refuses is left in it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.whatsapp.storable import MARKER, MAX_DEPTH, json_text, text

anything = st.text(st.characters(exclude_categories=()))  # surrogates too
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=2**64, max_value=2**300)
    | st.floats()
    | anything,
    lambda inner: st.lists(inner) | st.dictionaries(anything, inner),
    max_leaves=30,
)
clean = st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]))
clean_values = st.recursive(
    st.none() | st.booleans() | st.integers() | clean,
    lambda inner: st.lists(inner) | st.dictionaries(clean, inner),
    max_leaves=30,
)


def refuse(word: str) -> None:
    raise AssertionError(word)


def nested(depth: int, innermost: Any) -> Any:
    value = innermost
    for level in range(depth):
        value = [value] if level % 2 else {"d": value}
    return value


def is_clean(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= c <= "\udfff" for c in value)


@given(anything)
def test_text_is_storable_and_as_long_as_before(value: str) -> None:
    stored = text(value)
    stored.encode("utf-8")
    assert is_clean(stored)
    assert len(stored) == len(value)
    assert not is_clean(value) or stored == value


@given(json_values)
def test_json_is_strict_and_its_strings_are_storable(value: Any) -> None:
    written = json_text(value)
    written.encode("utf-8")

    def pairs(members: list[tuple[str, Any]]) -> dict[str, Any]:
        assert all(is_clean(key) for key, _ in members)
        return dict(members)

    read = json.loads(written, parse_constant=refuse, object_pairs_hook=pairs)
    assert json_text(read) == json_text(json.loads(json_text(read)))
    if isinstance(value, str):
        assert read == text(value)


@given(clean_values)
def test_json_that_is_clean_comes_back_as_it_was(value: Any) -> None:
    assert json.loads(json_text(value)) == value


def test_keys_and_values_are_cleaned_at_every_level() -> None:
    value = {"a\0": [{"\ud83d": "x\0"}], "b": 2**80}
    assert json.loads(json_text(value)) == {
        "a\ufffd": [{"\ufffd": "x\ufffd"}],
        "b": 2**80,
    }


def test_a_backslash_before_u0000_is_text_and_stays() -> None:
    assert json.loads(json_text({"a": "\\u0000"})) == {"a": "\\u0000"}


@pytest.mark.parametrize("innermost", ["x", "\0", "\ud83d", 2**80])
@pytest.mark.parametrize("depth", [99, 150, 254, 600, 1000, 20_000])
def test_no_depth_is_too_deep(depth: int, innermost: Any) -> None:
    written = json_text(nested(depth, innermost))
    json.loads(written)
    assert (MARKER in written) or depth <= 254
    assert written.count("[") + written.count("{") <= max(254, MAX_DEPTH)


def test_numbers_that_json_does_not_know_are_null_and_huge_ones_text() -> None:
    assert json_text([float("nan"), "\0"]) == '[null, "\ufffd"]'
    assert json.loads(json_text([10**5000])) == [hex(10**5000)]
