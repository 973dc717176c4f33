"""Which numbers are one phone: by the rules of three countries, and by nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.whatsapp.phones import canonical, equivalents, written_forms


def digits(first: str, length: int) -> st.SearchStrategy[str]:
    """Numbers of *length* digits that begin with one of *first*."""
    rest = st.text("0123456789", min_size=length - 1, max_size=length - 1)
    return st.builds("{}{}".format, st.sampled_from(first), rest)


ARGENTINE = digits("23", 10) | digits("0123456789", 8).map("11{}".format)
MEXICAN = digits("23456789", 10)
AREAS = st.text("123456789", min_size=2, max_size=2)
BRAZILIAN = st.tuples(AREAS, digits("6789", 8))
ANY = (
    ARGENTINE.map("549{}".format)
    | ARGENTINE.map("54{}".format)
    | MEXICAN.map("52{}".format)
    | MEXICAN.map("521{}".format)
    | BRAZILIAN.map("55{0[0]}9{0[1]}".format)
    | BRAZILIAN.map("55{0[0]}{0[1]}".format)
    | st.sampled_from(["54", "549", "52", "521", "55"]).flatmap(
        lambda country: st.text("0123456789", max_size=13).map(country.__add__)
    )
    | st.text("0123456789", max_size=16)
    | st.text(max_size=5)
)


@pytest.mark.parametrize(
    "forms",
    [
        ("5491123456789", "541123456789", "54111523456789"),
        ("5493512345678", "543512345678", "54351152345678", "54351215345678"),
        ("5492901456789", "542901456789", "54290151456789", "54290115456789"),
        ("5215512345678", "525512345678"),
        ("5511987654321", "551187654321"),
    ],
)
def test_the_forms_of_a_number_are_one_phone(forms: tuple[str, ...]) -> None:
    expected = {frozenset(forms) | equivalents(forms[0])}
    assert {equivalents(form) for form in forms} == expected
    assert {canonical(form) for form in forms} == {forms[0]}


@pytest.mark.parametrize(
    "alone",
    [
        "",
        "54",
        "447700900123",
        "5411234567",  # too short
        "54911234567890",  # too long
        "549112345678",  # 9 is no area code, and nine digits no number
        "5490112345678",
        "54121512345678",  # no area code
        "521123456789",  # no area code begins with 1
        "52155123456789",
        "551132654321",  # a landline
        "5511932654321",  # a mobile that never had eight digits
        "5501987654321",
        "+5491123456789",
        "54911 2345678",
        "549112345678\u0669",
        "AR.1349",
    ],
)
def test_everything_else_is_only_itself(alone: str) -> None:
    assert equivalents(alone) == {alone}
    assert canonical(alone) == alone


@given(ANY)
def test_the_forms_are_a_class_of_their_own(number: str) -> None:
    forms = equivalents(number)
    assert number in forms
    assert {equivalents(form) for form in forms} == {forms}
    assert {canonical(form) for form in forms} == {canonical(number)}
    assert canonical(number) in forms


@given(ANY, ANY)
def test_being_one_phone_is_mutual_and_canonical_says_so(one: str, other: str) -> None:
    assert (one in equivalents(other)) == (other in equivalents(one))
    assert (one in equivalents(other)) == (canonical(one) == canonical(other))


@given(ARGENTINE, ARGENTINE)
def test_two_argentine_numbers_never_meet(one: str, other: str) -> None:
    meet = equivalents(f"549{one}") & equivalents(f"54{other}")
    assert bool(meet) == (one == other)


@given(BRAZILIAN, BRAZILIAN)
def test_two_brazilian_numbers_never_meet(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    meet = equivalents("55{}9{}".format(*one)) & equivalents("55{}{}".format(*other))
    assert bool(meet) == (one == other)


@given(MEXICAN, MEXICAN)
def test_two_mexican_numbers_never_meet(one: str, other: str) -> None:
    assert bool(equivalents(f"521{one}") & equivalents(f"52{other}")) == (one == other)


@given(ARGENTINE)
def test_the_15_is_found_behind_any_area_code(number: str) -> None:
    areas = [2] if number.startswith("11") else [3, 4]
    for area in areas:
        assert canonical(f"54{number[:area]}15{number[area:]}") == f"549{number}"


@pytest.mark.parametrize(
    "written",
    [
        "+54 9 11 2345-6789",
        "0054 9 (11) 2345 6789",
        "011 15 2345-6789",
        "11 2345-6789",
        "5491123456789",
    ],
)
def test_people_write_one_number_in_many_ways(written: str) -> None:
    assert "5491123456789" in written_forms(written)


@pytest.mark.parametrize("written", ["", "+", "AR.1", "@ana", "11 2345 x"])
def test_what_is_no_number_has_no_form(written: str) -> None:
    assert written_forms(written) == []


def test_a_number_with_a_country_code_is_of_that_country_only() -> None:
    assert written_forms("+1 123 456 7890") == ["11234567890"]


@given(ANY)
def test_what_is_written_in_digits_comes_first(number: str) -> None:
    forms = written_forms(number)
    if number.isascii() and number.isdigit() and not number.startswith("00"):
        assert forms[0] == number
        assert equivalents(number) <= set(forms)
