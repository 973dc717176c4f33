"""What people type, heard: only a whole message is a command, a number or a greeting."""

import enum
import re
import unicodedata
from typing import NamedTuple

LONGEST = 200  # characters; a longer message is a story, and no command
LONGEST_COMMAND = 64  # characters, with all the signs and blanks around one word
_MOST_FOLDED = 4096  # characters that are remembered: a hostile text may hold any


class Intent(enum.Enum):
    """What a whole message asks for."""

    MENU = enum.auto()
    BACK = enum.auto()
    GREETING = enum.auto()
    CODE = enum.auto()
    PLACE = enum.auto()  # the second one: of the list that is shown
    PERSON = enum.auto()  # somebody of the school, and no bot
    YES = enum.auto()
    NO = enum.auto()
    OTHER = enum.auto()


class Heard(NamedTuple):
    """A message as it is compared.

    `code` holds the digits of a number, 0 among them, or those of a place: 1 to 10.
    """

    intent: Intent
    words: str
    code: str = ""


def hear(text: str) -> Heard:
    """Return what *text*, whole, asks for. Any text will do, broken surrogates too."""
    words = _asked(plain(text))
    if number := _NUMBER.fullmatch(words):
        code = _NUMERALS.get(number[1], number[1])
        return Heard(Intent.CODE if code != "0" else Intent.MENU, words, code)
    if place := _PLACES.get(words):
        return Heard(Intent.PLACE, words, place)
    return Heard(_intent(words), words)


def _intent(words: str) -> Intent:
    if words in _START or _MENU.fullmatch(words):
        return Intent.MENU
    if words in _BACK:
        return Intent.BACK
    if _PERSON.fullmatch(words):
        return Intent.PERSON
    drawn = _REPEATED.sub(r"\1", words)
    return next(
        (intent for form, intent in _DRAWN if form.fullmatch(drawn)), Intent.OTHER
    )


def says_menu(text: str) -> bool:
    """Return whether *text*, whole, is the word MENU: as `hear` does, for less.

    Only that word: to somebody else "inicio" may be an answer.
    """
    if len(text) > LONGEST_COMMAND or (text.isascii() and "menu" not in text.lower()):
        return False
    return bool(_MENU.fullmatch(_asked(plain(text))))


def _asked(words: str) -> str:
    return _POLITE.sub("", words)


def plain(text: str) -> str:
    """Return *text* as it is compared; '' where it is too long to be compared."""
    text = text.strip()
    return fold(text) if len(text) <= LONGEST else ""


def fold(text: str) -> str:
    """Return *text* in lower case without accents, signs, emoji and what is invisible.

    A sign or an emoji parts words, as a space does. Digits of every alphabet are ASCII.
    """
    return " ".join(text.translate(_FOLDED).split())


class _Folded(dict[int, str]):
    """How each character is compared, found out when it is first met."""

    def __missing__(self, number: int) -> str:
        folded = _folded(chr(number))
        if len(self) < _MOST_FOLDED:
            self[number] = folded
        return folded


def _folded(character: str) -> str:
    if character in _DROPPED:
        return ""
    # Twice: a letter in a circle becomes a capital first.
    small = unicodedata.normalize("NFKD", character).casefold()
    return "".join(map(_part, unicodedata.normalize("NFKD", small)))


def _part(character: str) -> str:
    digit = unicodedata.digit(character, None)
    if digit is not None:
        return str(digit)
    category = unicodedata.category(character)
    if category in _INVISIBLE:
        return ""
    parts_words = category[0] in "PZ" or category in _PARTING or character == "~"
    return " " if parts_words and character not in _MEANT else character


_FOLDED = _Folded()
_POLITE = re.compile(
    r"^(?:por favor|porfa|porfavor|x favor) "
    r"|(?: (?:por favor|porfa|porfavor|porfis|x favor|please|pls"
    r"|(?:(?:muchas|mil) )?gracias|desde ya))+$"
)
# nº 2, № 2, la 2ª: as letters they would say "no 2". And fillers: letters by name, blank to
# the eye.
_DROPPED = "ºª№\u115f\u1160\u3164\uffa0"
_INVISIBLE = {"Mn", "Me", "Cf"}  # accents, a keycap's frame, joiners, directions
_PARTING = {"Cc", "Cs", "So", "Sk"}  # controls, half a pair, emoji, their colours
_MEANT = "%@&"  # "2%" is no choice

_MENU = re.compile(
    r"(?:quiero )?(?:(?:ver )?(?:el )?|(?:ir|volver|regresar) al )menu(?: principal)?"
)
_START = {"inicio", "ir al inicio", "volver al inicio"}
_BACK = {"volver", "atras", "volver atras"}
_UNITS = ("uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve")
_TENS = ("treinta", "cuarenta", "cincuenta", "sesenta", "setenta", "ochenta", "noventa")
_NUMERALS = dict(
    zip(
        (
            *_UNITS,
            "diez",
            "once",
            "doce",
            "trece",
            "catorce",
            "quince",
            *(f"dieci{unit}" for unit in _UNITS[5:]),
            "veinte",
            *(f"veinti{unit}" for unit in _UNITS),
            *(
                words
                for ten in _TENS
                for words in (ten, *(f"{ten} y {unit}" for unit in _UNITS))
            ),
        ),
        map(str, range(1, 100)),
        strict=True,
    )
)
_NUMBER = re.compile(
    r"(?:(?:quiero|elijo) (?=la |opcion))?"  # "quiero 2" may be two of something
    r"(?:(?:la|el) )?(?:opcion ?)?(?:(?:nro|numero|num|n) ?)?"
    rf"(?:0(?=[1-9]$))?(0|[1-9][0-9]?|{'|'.join(_NUMERALS)})"
)
# By place: feminine, as an option is. Alone, "primero" and "segundo" begin a story.
_ORDINALS = (
    ("primera", "1ra", "1era"),
    ("segunda", "2da"),
    ("tercera", "3ra", "3era"),
    ("cuarta", "4ta"),
    ("quinta", "5ta"),
    ("sexta", "6ta"),
    ("septima", "setima", "7ma"),
    ("octava", "8va"),
    ("novena", "9na"),
    ("decima", "10ma"),
)
_PLACES = {
    said: str(place)
    for place, ordinals in enumerate(_ORDINALS, start=1)
    for ordinal in ordinals
    for said in (
        ordinal,
        f"la {ordinal}",
        f"{ordinal} opcion",
        f"la {ordinal} opcion",
        f"opcion {ordinal}",
        f"el {ordinal[:-1]}o",
    )
}
_OPENING = "hola|ola|holis?|buenas(?: tardes| noches)?|buen dia|buenos dias|hi|helo|hey"
_ASKING = "que tal|como (?:estas?|estan|andas?|andan|va|les? va)|todo bien"
_EVERYBODY = "a todos|chicas|chicos|gente|equipo"
# Over words whose repeated letters are one: holaaa, hellooo.
_GREETING = re.compile(
    f"(?:{_OPENING}|{_ASKING})(?: (?:{_OPENING}|{_ASKING}|{_EVERYBODY}))*"
)
_REPEATED = re.compile(r"([a-z])\1+")
# Whole messages only: "la persona que me atendió" and "soy agente de viajes" are stories, and
# a ticket is not taken back.
_SOMEBODY = (
    "(?:persona(?: real| humana| de verdad)?|(?:ser )?human[oa]|asesora?|agente"
    "|operadora?|representante)"
)
_ANYBODY = (
    f"(?:(?:una?|algun|alguna|otra|otro|el|la) )?{_SOMEBODY}|alguien(?: del equipo)?"
)
_WANTING = (
    "quiero|quisiera|queria|necesito|prefiero|deseo|me gustaria|puedo|podria|se puede"
    "|como puedo|como hago para"
)
_TALKING = "(?:hablar|charlar|chatear|comunicarme|contactarme)"
_PASSING = "(?:me pasas|pasame|me comunicas|comunicame|me contactas|contactame)"
_ATTENDING = (
    "que me (?:atienda|ayude|conteste|responda)|(?:me )?(?:puede|podria) atender(?:me)?"
)
_PERSON = re.compile(
    f"(?:(?:{_OPENING}) )*(?:"
    f"(?:(?:quiero|quisiera|necesito|prefiero) )?(?:una? )?{_SOMEBODY}"
    f"|(?:(?:{_WANTING}) )?{_TALKING} con (?:{_ANYBODY})"
    f"|{_PASSING} con (?:{_ANYBODY})"
    f"|(?:(?:quiero|quisiera|necesito|prefiero) )?(?:{_ATTENDING}) (?:{_ANYBODY})"
    "|(?:quiero |necesito )?atencion humana)"
)
_YES_WORD = "(?:si)+|sip|dale|oka?|okey|okay|esa(?: misma)?|eso|claro|exacto|corecto"
_YES = re.compile(rf"(?:{_YES_WORD})(?: (?:{_YES_WORD}))*")
_NO = re.compile(r"(?:no ?)*(?:no|nop)(?: esa(?: no)?)?")
# Over words whose repeated letters are one.
_DRAWN = ((_GREETING, Intent.GREETING), (_YES, Intent.YES), (_NO, Intent.NO))
