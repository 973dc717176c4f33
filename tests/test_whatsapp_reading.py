"""A body is strict JSON in strict UTF-8, and every digit of it survives."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import Malformed
from router.whatsapp.reading import read_json

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_values, st.sampled_from([None, 2]), st.booleans())
def test_it_reads_what_json_writes(
    value: Any,
    indent: int | None,
    escaped: bool,  # noqa: FBT001
) -> None:
    body = json.dumps(value, indent=indent, ensure_ascii=escaped)
    assert read_json(body.encode("utf-8", "surrogatepass")) == value


@given(st.integers(min_value=10**17, max_value=10**40), st.sampled_from(["", "-"]))
def test_an_integer_of_any_size_is_exact_wherever_it_stands(
    number: int, sign: str
) -> None:
    for around in ("%s", " %s ", "[%s]", "[1,%s]", '{"a":%s}', '{"a" :\n\t%s}'):
        body = around % f"{sign}{number}"
        assert read_json(body.encode()) == json.loads(body)


@given(st.binary())
def test_bytes_are_read_or_malformed(body: bytes) -> None:
    try:
        value = read_json(body)
    except Malformed:
        return
    assert value == json.loads(body.decode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        b"NaN",
        b"[Infinity]",
        b'{"a":-Infinity}',
        b'{"a":1}{"a":1}',
        b"{}\0",
        b"{}\x0c",
        b'["\n"]',
        b'["\x00"]',
        b"['a']",
        b"[1,]",
        b"[01]",
        b"[.5]",
        b"[+1]",
        b"[1] // no",
        b'["\xff"]',
        b'["\xed\xa0\xbd\xed\xb8\x80"]',
        b'["\xc0\x80"]',
        b'["\\x41"]',
        b'["\\ud83d',
        b'["\\ud83d", NaN]',
        b"[1e400, Infinity]",
        b"[123456789012345678901234567890, NaN]",
        b'[123456789012345678901234567890, "\n"]',
        b"\xef\xbb\xbf[123456789012345678901234567890]",
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'["\\ud83d",' + b"[" * 100_000 + b"]" * 100_000 + b"]",
        b"\x1f\x8b\x08\x00",
        b"a=1&b=2",
    ],
)
def test_what_is_no_strict_json_is_malformed(body: bytes) -> None:
    with pytest.raises(Malformed):
        read_json(body)


def test_a_broken_emoji_does_not_take_the_body_with_it() -> None:
    assert read_json(b'{"\\ud83d":"a\\ude00"}') == {"\ud83d": "a\ude00"}
    assert read_json(b'["\\ud83d\\ude00"]') == ["\N{GRINNING FACE}"]


def test_a_number_that_nothing_holds_is_kept_as_its_text() -> None:
    digits = "7" * 5000
    body = f"[1e400, -1e400, {digits}, -{digits}]"
    assert read_json(body.encode()) == ["1e400", "-1e400", digits, f"-{digits}"]


def test_of_a_key_that_is_there_twice_the_last_counts() -> None:
    assert read_json(b'{"a":1,"a":2}') == {"a": 2}
    assert read_json(b'{"a":1e400,"a":"\\ud83d","a":2}') == {"a": 2}


def test_six_hundred_levels_are_read() -> None:
    value = read_json(b"[" * 600 + b"]" * 600)
    for _ in range(599):
        (value,) = value
    assert value == []
