"""Who has the app secret is Meta, and nobody else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import Refused
from router.whatsapp.signature import sign, verify

BODY = b'{"object":"whatsapp_business_account","entry":[]}'
SECRETS = [b"first-secret", b"second-secret"]
secrets = st.binary(min_size=1, max_size=80)


@given(st.binary(), secrets)
def test_what_a_secret_signs_it_verifies(body: bytes, secret: bytes) -> None:
    assert verify(body, [sign(body, secret)], [secret]) == 0


@given(st.binary(), st.binary(), secrets)
def test_a_signature_is_good_for_one_body(
    body: bytes, other: bytes, secret: bytes
) -> None:
    if body != other:
        with pytest.raises(Refused):
            verify(other, [sign(body, secret)], [secret])


@given(st.lists(st.text()), st.binary())
def test_any_other_header_is_refused_with_401(headers: list[str], body: bytes) -> None:
    with pytest.raises(Refused) as refused:
        verify(body, headers, SECRETS)
    assert refused.value.status == 401


def test_it_tells_which_secret_signed_and_the_first_of_two_equal_ones() -> None:
    header = sign(BODY, b"second-secret")
    assert verify(BODY, [header], SECRETS) == 1
    assert verify(BODY, [header], [*SECRETS, b"second-secret"]) == 1


def test_upper_case_hex_is_the_same_signature() -> None:
    header = "sha256=" + sign(BODY, SECRETS[0]).removeprefix("sha256=").upper()
    assert verify(BODY, [header], SECRETS) == 0


GOOD = sign(BODY, SECRETS[0])


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [GOOD, GOOD],
        [""],
        ["sha256="],
        [GOOD.replace("sha256", "sha1")],
        [GOOD.replace("sha256", "SHA256")],
        [GOOD.removeprefix("sha256=")],
        [GOOD[:-1]],
        [GOOD[:-2]],
        [GOOD + "00"],
        [GOOD + "\n"],
        [" " + GOOD],
        [GOOD[:-2] + "é0"],
        [GOOD[:-1] + "\N{ARABIC-INDIC DIGIT ONE}"],
        [GOOD[:-1] + "\udcff"],
        [f"{GOOD}, {GOOD}"],
        [sign(BODY, b"of another app")],
    ],
)
def test_a_header_that_is_not_exactly_right_is_refused(headers: list[str]) -> None:
    with pytest.raises(Refused) as refused:
        verify(BODY, headers, SECRETS)
    assert refused.value.status == 401


def test_nothing_is_signed_where_there_is_no_secret_or_an_empty_one() -> None:
    for none in ([], [b""]):
        with pytest.raises(Refused):
            verify(BODY, [sign(BODY, b"")], none)
