"""Which written forms of a number are one phone: Argentina, Mexico, Brazil.

These three countries have a prefix of mobiles that WhatsApp and people put in or leave out:
`54 9 11 2345 6789`, `54 11 2345 6789` and `54 11 15 2345 6789`; `52 1` and `52`;
`55 11 9 8765 4321` and `55 11 8765 4321`. A number is matched by the set of its forms, and
kept and used as it was sent: Meta's page on phone numbers says that the extra prefix may be
changed on the way, and that this is no error.
"""

import re

# Argentina has 10 national digits: 11, or an area code of 3 or 4 digits from 2 or 3 on.
# Which length it has need not be known: two places for the 15 never fit the same digits.
_ARGENTINE = re.compile(r"549?(11\d{8}|[23]\d{9})")
_ARGENTINE_15 = re.compile(
    r"54(?:(11)15(\d{8})|([23]\d{2})15(\d{7})|([23]\d{3})15(\d{6}))"
)
_MEXICAN = re.compile(r"521?([2-9]\d{9})")
# Mobiles begin with 6 to 9 behind the ninth digit; another 8 digits are a landline.
_BRAZILIAN = re.compile(r"55([1-9]{2})9?([6-9]\d{7})")
# What people put around the digits; the last is a space that does not break.
_FORMATTING = re.compile(r"[+ ()./\u00a0-]")


def equivalents(digits: str) -> frozenset[str]:
    """Return every form of the phone *digits*, itself among them.

    *digits* is a number with its country code and nothing else; of whatever else, and of
    a number of another country, the only form is itself.
    """
    return frozenset(_forms(digits)) or frozenset((digits,))


def canonical(digits: str) -> str:
    """Return the form that stands for all of `equivalents(digits)`, to look up by."""
    forms = _forms(digits)
    return forms[0] if forms else digits


def _forms(digits: str) -> tuple[str, ...]:
    # The first is canonical: the one with the prefix of mobiles, as WhatsApp has it.
    country = digits[:2]
    if country not in {"54", "52", "55"} or not (digits.isascii() and digits.isdigit()):
        return ()
    if country == "54":
        return _argentine(digits)
    if country == "52":
        mexican = _MEXICAN.fullmatch(digits)
        return (f"521{mexican[1]}", f"52{mexican[1]}") if mexican else ()
    found = _BRAZILIAN.fullmatch(digits)
    return (f"55{found[1]}9{found[2]}", f"55{found[1]}{found[2]}") if found else ()


def _argentine(digits: str) -> tuple[str, ...]:
    if plain := _ARGENTINE.fullmatch(digits):
        number = plain[1]
    elif with_15 := _ARGENTINE_15.fullmatch(digits):
        number = "".join(filter(None, with_15.groups()))
    else:
        return ()
    areas = (2,) if number.startswith("11") else (3, 4)
    written = (f"54{number[:area]}15{number[area:]}" for area in areas)
    return (f"549{number}", f"54{number}", *written)


def written_forms(phone: str) -> list[str]:
    """Return the forms in digits that *phone*, as people write it, may stand for.

    ``+54 9 11 2345-6789`` and ``011 15 2345-6789`` alike; what has no country code is
    taken for Argentine, after what it says itself. Empty for what is no phone.
    """
    digits = _FORMATTING.sub("", phone)
    if not (digits.isascii() and digits.isdigit()):
        return []
    digits = digits.removeprefix("00") if digits.startswith("00") else digits
    local = f"54{digits.removeprefix('0')}"
    forms = {digits: None} | dict.fromkeys(sorted(equivalents(digits)))
    if _argentine(local) and not phone.strip().startswith(("+", "00")):
        forms |= dict.fromkeys(_argentine(local))
    return list(forms)
